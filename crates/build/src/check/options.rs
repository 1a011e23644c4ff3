//! `# check=skip=RULE,…;error=true;experimental=RULE,…`.

use super::Rule;
use crate::error::{Error, Result};
use crate::statement::Directives;

/// Which checks are done, and whether they are errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    skipped: Names,
    experimental: Names,
    /// Whether a warning ends the build.
    pub is_error: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Names {
    #[default]
    None,
    All,
    Some(Vec<Rule>),
}

impl Names {
    fn parse(text: &str) -> Self {
        if text.split(',').any(|name| name.trim() == "all") {
            return Self::All;
        }
        // As Docker: a rule that this version does not know is skipped as it is.
        Self::Some(text.split(',').filter_map(|name| Rule::named(name.trim())).collect())
    }

    fn have(&self, rule: Rule) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(rules) => rules.contains(&rule),
        }
    }
}

impl CheckOptions {
    /// Reads what a Dockerfile says.
    ///
    /// # Errors
    /// [`Error::At`] for options that there are not.
    pub fn of(directives: &Directives) -> Result<Self> {
        directives.check.as_deref().map_or_else(|| Ok(Self::default()), Self::parse)
    }

    /// Reads the options of a directive, or those that a client gives instead.
    ///
    /// # Errors
    /// As [`CheckOptions::of`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').map_or((part, ""), |(name, value)| (name.trim(), value.trim()));
            match (name, value) {
                ("skip", names) => options.skipped = Names::parse(names),
                ("experimental", names) => options.experimental = Names::parse(names),
                ("error", "true" | "1") => options.is_error = true,
                ("error", "false" | "0") => options.is_error = false,
                _ => return Err(Error::value("invalid check option", part).at(1, 1)),
            }
        }
        Ok(options)
    }

    pub(super) fn covers(&self, rule: Rule) -> bool {
        !self.skipped.have(rule) && (!rule.is_experimental() || self.experimental.have(rule))
    }
}
