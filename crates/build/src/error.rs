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
    #[error("unknown flag: --{flag}")]
    UnknownFlag {
        /// Its name.
        flag: String,
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

    pub(crate) fn value(reason: &'static str, text: &str) -> Self {
        Self::Value { reason, text: text.chars().take(200).collect() }
    }

    pub(crate) fn too_long() -> Self {
        Self::TooLarge { what: "text of the instructions, in bytes,", limit: limits::TEXT }
    }
}

fn hint(meant: Option<&str>) -> String {
    meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default()
}
