//! Why instructions are refused, in Docker's words.

use crate::limits;

/// Why instructions are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no instruction, or one that does not only change a configuration.
    #[error("{instruction} is not a valid change command")]
    NotAChange {
        /// Its name as written.
        instruction: String,
    },
    /// Something that it needs is missing, or more is there than it takes.
    #[error("{instruction} requires {what}")]
    Arguments {
        /// Its name.
        instruction: &'static str,
        /// `exactly one argument`, `at least one argument`.
        what: &'static str,
    },
    /// A name that cannot be empty is.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// The instruction.
        instruction: &'static str,
    },
    /// Names and values are not written as such.
    #[error("Syntax error - can't find = in {word:?}. Must be of the form: name=value")]
    NoValue {
        /// The word at fault.
        word: String,
    },
    /// An option that the instruction does not have.
    #[error("unknown flag: --{flag}{}", hint(*.meant))]
    UnknownFlag {
        /// Its name.
        flag: String,
        /// Which one was probably meant.
        meant: Option<&'static str>,
    },
    /// An option that is wrong.
    #[error("{reason}: {text}")]
    Value {
        /// What is wrong.
        reason: &'static str,
        /// With what.
        text: String,
    },
    /// Quotes, variables or lists that do not end, or anything else about the form.
    #[error("{0}")]
    Syntax(String),
    /// Where in a text something is wrong.
    #[error("dockerfile parse error on line {line}: {source}")]
    At {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1 in characters.
        column: usize,
        /// What is wrong there.
        source: Box<Error>,
    },
    /// No instruction is called so.
    #[error("unknown instruction: {name}{}", hint(*.meant))]
    Unknown {
        /// What it is called.
        name: String,
        /// Which one was probably meant.
        meant: Option<&'static str>,
    },
    /// No stage is called as the one that is to be built.
    #[error("target stage {name:?} could not be found")]
    NoStage {
        /// What it is called.
        name: String,
    },
    /// Something is longer than accepted.
    #[error("{what} is larger than the {limit} allowed")]
    TooLarge {
        /// What it is, with its unit.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn syntax(text: impl Into<String>) -> Self {
        Self::Syntax(text.into())
    }

    /// The same error with its place.
    pub(crate) fn at(self, line: usize, column: usize) -> Self {
        match self {
            placed @ Self::At { .. } => placed,
            source => Self::At { line, column, source: Box::new(source) },
        }
    }

    /// An option that is not among those that there are.
    pub(crate) fn unknown_flag(flag: &str, known: &[&'static str]) -> Self {
        Self::UnknownFlag { flag: flag.chars().take(200).collect(), meant: nearest(flag, known) }
    }

    /// What to look for in the text to find the place at fault.
    pub(crate) fn culprit(&self) -> Option<String> {
        match self {
            Self::UnknownFlag { flag, .. } => Some(format!("--{flag}")),
            Self::NoValue { word: text } | Self::Value { text, .. } => Some(text.clone()),
            _ => None,
        }
    }

    pub(crate) fn value(reason: &'static str, text: &str) -> Self {
        Self::Value { reason, text: text.chars().take(200).collect() }
    }

    pub(crate) fn no_stage(name: &str) -> Self {
        Self::NoStage { name: name.chars().take(200).collect() }
    }

    pub(crate) fn too_long() -> Self {
        Self::TooLarge { what: "text of the instructions, in bytes,", limit: limits::TEXT }
    }
}

/// The name that `text` differs from by no more than two letters, and by no more than half of it.
pub(crate) fn nearest(text: &str, known: &[&'static str]) -> Option<&'static str> {
    nearest_of(text, known.iter().copied())
}

/// The same among names of any origin.
pub(crate) fn nearest_of<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (distance(text, known), known));
    near.filter(|(distance, known)| *distance <= 2 && 2 * distance <= known.len())
        .min()
        .map(|(_, known)| known)
}

/// How many letters have to be put in, left out or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, known) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(letter != known);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

fn hint(meant: Option<&str>) -> String {
    meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default()
}
