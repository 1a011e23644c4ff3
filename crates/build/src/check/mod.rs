//! Build checks: what in a Dockerfile works and is still a mistake, or will be one. The rules, their names and words are
//! those of Docker's build checks. Pure.
//!
//! ```text
//! rule.rs  names and addresses    form.rs  how lines are written    stages.rs  what stages are and do
//! variables.rs  what is used and not there    options.rs  # check=…
//! ```

mod form;
mod options;
mod rule;
mod stages;
mod variables;

pub use options::CheckOptions;
pub use rule::Rule;
pub use stages::names_secret;

use crate::dockerfile::Dockerfile;
use crate::error::Result;
use crate::ignore::Ignored;
use crate::lex::{self, Line};
use crate::scope::Wanted;
use crate::statement::{self, Lines, Statement};

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which one.
    pub rule: Rule,
    /// What is wrong.
    pub text: String,
    /// Where.
    pub lines: Lines,
}

/// What is known besides the text.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// What the build is asked for.
    pub wanted: &'a Wanted,
    /// What is left out of the context.
    pub ignored: Option<&'a Ignored>,
    /// The environment of the image that a stage (by its number) begins with; `None` where it is not known, and nothing is
    /// said then of variables that may be in it.
    pub environment: &'a dyn Fn(usize) -> Option<Vec<String>>,
}

/// Checks a Dockerfile; `text` is what `file` was made of. Warnings come in the order of lines.
///
/// # Errors
/// [`crate::Error::At`] for a `# check=` that says something else, and what resolving variables refuses.
pub fn check(text: &str, file: &Dockerfile, around: &Surroundings<'_>) -> Result<Vec<Warning>> {
    let options = CheckOptions::of(&file.directives)?;
    let statements = statement::statements(text, file.directives.escape)?;
    let mut found = Found(Vec::new());
    form::check(text, file, &statements, &mut found);
    stages::check(file, &statements, around, &mut found)?;
    variables::check(file, around, &mut found)?;
    let mut warnings = found.0;
    warnings.retain(|warning| options.covers(warning.rule));
    warnings.sort_by_key(|warning| (warning.lines.first, warning.rule));
    warnings.dedup();
    Ok(warnings)
}

/// Warnings so far.
struct Found(Vec<Warning>);

impl Found {
    fn add(&mut self, rule: Rule, lines: Lines, text: impl Into<String>) {
        self.0.push(Warning { rule, text: text.into(), lines });
    }
}

/// A statement taken apart.
fn split<'a>(file: &Dockerfile, statement: &'a Statement) -> Line<'a> {
    lex::split(&statement.text, file.directives.escape)
}

#[cfg(test)]
mod tests;
