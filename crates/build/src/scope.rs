//! Which variables an instruction sees: the environment of the image, then the arguments of the build.

use crate::error::{Error, Result};
use crate::expand::{expand, expand_document};
use crate::instruction::ArgDeclaration;
use crate::limits;
use coracle_spec::Platform;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Arguments that need no declaration, and are no reason to run a step again.
const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

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

    /// Arguments that commands get although nothing declares them.
    pub(crate) fn predefined(&self) -> impl Iterator<Item = (&str, &str)> {
        let given = self.arguments.iter().filter(|(name, _)| PREDEFINED.contains(&name.as_str()));
        given.map(|(name, value)| (name.as_str(), value.as_str()))
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

    /// Declares an argument: what the client gives, or else the default, or else the value of the scope around.
    pub(crate) fn declare(
        &mut self,
        declared: &ArgDeclaration,
        env: &[String],
        arguments: &mut Arguments,
        around: &Arguments,
        given: &BTreeMap<String, String>,
    ) -> Result<()> {
        let value = match (given.get(&declared.name), &declared.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.resolve(default, env, arguments)?),
            (None, None) => {
                let inherited = around.get(&declared.name).cloned().flatten();
                inherited.or_else(|| arguments.get(&declared.name).cloned().flatten())
            }
        };
        arguments.insert(declared.name.clone(), value);
        Ok(())
    }
}

/// A variable of an environment, or else of the build. `looks` says how many may still be looked at, and nothing once
/// they were too many.
fn lookup(name: &str, env: &[String], arguments: &Arguments, looks: &Cell<Option<usize>>) -> Option<String> {
    looks.set(looks.get().and_then(|left| left.checked_sub(env.len())));
    looks.get()?;
    variable(env, name).or_else(|| arguments.get(name).cloned().flatten())
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
