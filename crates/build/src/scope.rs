//! Which variables an instruction sees: the arguments of the build, then the environment of the image. What is set last
//! counts, so a variable of the environment takes an argument of its name away.

use crate::error::{Error, Result};
use crate::expand::{expand, expand_document};
use crate::instruction::ArgDeclaration;
use crate::limits;
use coracle_spec::Platform;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Arguments that need no declaration, and are no reason to run a step again.
const PREDEFINED: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Arguments by name; `None` for one that is declared and has no value.
pub type Arguments = BTreeMap<String, Option<String>>;

/// What a build is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The stage that is the result, by name or number; the last one if absent.
    pub target: Option<String>,
    /// Arguments that the client gives.
    pub arguments: BTreeMap<String, String>,
    /// What the result runs on.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// What the client puts in the place of images and stages, by [`crate::context_name`].
    pub contexts: BTreeSet<String>,
}

impl Wanted {
    /// Arguments of the global scope before anything is declared.
    pub(crate) fn platform_arguments(&self) -> Arguments {
        let mut arguments = Arguments::new();
        for (prefix, platform) in [("TARGET", &self.platform), ("BUILD", &self.build_platform)] {
            for (name, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", platform.variant.clone()),
            ] {
                arguments.insert(format!("{prefix}{name}"), Some(value));
            }
        }
        arguments
    }

    /// Arguments that commands get although nothing declares them: in large and in small letters, however they are given.
    pub(crate) fn predefined(&self) -> BTreeMap<String, &str> {
        let mut found = BTreeMap::new();
        for (name, value) in &self.arguments {
            let small = name.to_ascii_lowercase();
            if PREDEFINED.contains(&small.as_str()) {
                found.entry(name.to_ascii_uppercase()).or_insert(value.as_str());
                found.entry(small).or_insert(value.as_str());
            }
        }
        found
    }
}

/// Resolves words, up to a bound for all of them together.
pub(crate) struct Resolver {
    escape: char,
    /// Bytes that values may still have.
    left: usize,
    /// Variables that may still be looked at.
    looks_left: usize,
}

impl Resolver {
    pub(crate) fn new(escape: char) -> Self {
        Self { escape, left: limits::VALUES, looks_left: limits::LOOKS }
    }

    pub(crate) fn escape(&self) -> char {
        self.escape
    }

    /// What a word stands for.
    pub(crate) fn resolve(&mut self, word: &str, env: &[String], arguments: &Arguments) -> Result<String> {
        let looks = Cell::new(Some(self.looks_left));
        let value = expand(word, self.escape, &|name| lookup(name, env, arguments, &looks))?;
        self.count(value, looks.get())
    }

    /// What a here-document stands for.
    pub(crate) fn resolve_document(
        &mut self,
        text: &str,
        env: &[String],
        arguments: &Arguments,
    ) -> Result<String> {
        let looks = Cell::new(Some(self.looks_left));
        let value = expand_document(text, self.escape, &|name| lookup(name, env, arguments, &looks))?;
        self.count(value, looks.get())
    }

    fn count(&mut self, value: String, looks: Option<usize>) -> Result<String> {
        let too_large = Error::TooLarge { what: "sum of all values, in bytes,", limit: limits::VALUES };
        self.left = self.left.checked_sub(value.len()).ok_or(too_large)?;
        let too_many = Error::TooLarge { what: "work of finding variables", limit: limits::LOOKS };
        self.looks_left = looks.ok_or(too_many)?;
        Ok(value)
    }

    /// Declares an argument: what the client gives, or else the default, or else the value of the scope around. Returns the
    /// default, resolved.
    pub(crate) fn declare(
        &mut self,
        declared: &ArgDeclaration,
        env: &[String],
        arguments: &mut Arguments,
        around: &Arguments,
        given: &BTreeMap<String, String>,
    ) -> Result<Option<String>> {
        let default =
            declared.default.as_ref().map(|default| self.resolve(default, env, arguments)).transpose()?;
        let value = match (given.get(&declared.name), &default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(default.clone()),
            (None, None) => {
                let inherited = around.get(&declared.name).cloned().flatten();
                inherited.or_else(|| arguments.get(&declared.name).cloned().flatten())
            }
        };
        arguments.insert(declared.name.clone(), value);
        Ok(default)
    }
}

/// An argument of the build, or else a variable of an environment. `looks` says how many may still be looked at, and nothing once
/// they were too many.
fn lookup(name: &str, env: &[String], arguments: &Arguments, looks: &Cell<Option<usize>>) -> Option<String> {
    looks.set(looks.get().and_then(|left| left.checked_sub(env.len())));
    looks.get()?;
    arguments.get(name).cloned().flatten().or_else(|| variable(env, name))
}

/// A variable of an environment.
pub(crate) fn variable(env: &[String], name: &str) -> Option<String> {
    let mut entries = env.iter().rev().filter_map(|entry| entry.split_once('='));
    entries.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// The names of an environment's variables.
pub(crate) fn variable_names(env: &[String]) -> BTreeSet<String> {
    env.iter().filter_map(|entry| entry.split_once('=')).map(|(name, _)| name.to_owned()).collect()
}
