//! A whole Dockerfile: its stages, and what each of them does.

use crate::error::{Error, Result};
use crate::instruction::{self, ArgDeclaration, From, Instruction};
use crate::lex;
use crate::statement::{self, Directives, Lines, Statement};

/// A Dockerfile, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Dockerfile {
    /// What it says of itself.
    pub directives: Directives,
    /// What is declared in front of the first stage, for the `FROM` lines.
    pub arguments: Vec<ArgDeclaration>,
    /// Its stages; at least one.
    pub stages: Vec<Stage>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it begins with.
    pub from: From,
    /// The `FROM` line, as written.
    pub text: String,
    /// Where that line stands.
    pub lines: Lines,
    /// What is done then.
    pub steps: Vec<Step>,
}

/// An instruction of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// As written, continued lines joined.
    pub text: String,
    /// Where it stands.
    pub lines: Lines,
    /// What it is.
    pub instruction: Instruction,
}

impl Dockerfile {
    /// Reads a Dockerfile.
    ///
    /// # Errors
    /// [`Error::At`] with the place of the first instruction that is refused, and [`Error::TooLarge`].
    pub fn parse(text: &str) -> Result<Self> {
        let directives = statement::directives(text)?;
        if let Some(syntax) = &directives.syntax {
            refuse_other_language(syntax)?;
        }
        let statements = statement::statements(text, directives.escape)?;
        let mut file = Self { directives, arguments: Vec::new(), stages: Vec::new() };
        for statement in &statements {
            let at = |error: Error| {
                let (line, column) = place(text, statement.lines, error.culprit().as_deref());
                error.at(line, column)
            };
            file.add(statement).map_err(at)?;
        }
        if file.stages.is_empty() {
            let reason =
                if statements.is_empty() { "the Dockerfile is empty" } else { "no build stage in it" };
            return Err(Error::syntax(reason).at(1, 1));
        }
        Ok(file)
    }

    fn add(&mut self, statement: &Statement) -> Result<()> {
        let escape = self.directives.escape;
        let line = lex::split(&statement.text, escape);
        let (text, lines) = (statement.text.trim().to_owned(), statement.lines);
        if line.name.eq_ignore_ascii_case("FROM") {
            let from = instruction::from(&line, escape)?;
            self.stages.push(Stage { from, text, lines, steps: Vec::new() });
            return Ok(());
        }
        let instruction = instruction::parse(&line, &statement.heredocs, escape)?;
        match (self.stages.last_mut(), instruction) {
            (Some(stage), instruction) => stage.steps.push(Step { text, lines, instruction }),
            (None, Instruction::Arg(declared)) => self.arguments.extend(declared),
            (None, _) => return Err(Error::syntax("no build stage in current context")),
        }
        Ok(())
    }

    /// The stage with this name; the case of letters does not count.
    pub fn stage(&self, name: &str) -> Option<usize> {
        let is_called =
            |stage: &Stage| stage.from.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        self.stages.iter().position(is_called)
    }
}

/// The language is built in: no program of an image's is run to read a file (CVE-2024-23653).
fn refuse_other_language(syntax: &str) -> Result<()> {
    let name = syntax.split(['@', ':']).next().unwrap_or_default().trim_start_matches("docker.io/");
    if ["docker/dockerfile", "docker/dockerfile-upstream"].contains(&name) {
        return Ok(());
    }
    let text = format!("{syntax} is no language that is built in here; only docker/dockerfile is");
    Err(Error::syntax(text).at(1, 1))
}

/// Where on these lines something stands, or else where they begin; line and column, both counted from 1.
fn place(text: &str, lines: Lines, culprit: Option<&str>) -> (usize, usize) {
    let all = text.trim_start_matches('\u{feff}').lines().enumerate();
    let own = all.skip(lines.first - 1).take(lines.last + 1 - lines.first);
    let characters = |before: &str| before.chars().count() + 1;
    for (at, line) in own {
        if let Some(found) =
            culprit.filter(|culprit| !culprit.is_empty()).and_then(|culprit| line.find(culprit))
        {
            return (at + 1, characters(&line[..found]));
        }
    }
    let first = text.lines().nth(lines.first - 1).unwrap_or_default();
    (lines.first, characters(&first[..first.len() - first.trim_start().len()]))
}

#[cfg(test)]
#[path = "dockerfile/tests.rs"]
mod tests;
