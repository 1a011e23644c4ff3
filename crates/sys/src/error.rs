//! The error of this crate: which call failed, on what, and why.

use std::fmt::Display;
use std::io;

/// A refused or failed kernel operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{call} {subject}")]
    Call {
        /// The system call, as its man page spells it.
        call: &'static str,
        /// What it was called on: a path, an interface, a process id.
        subject: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What was found is not what the caller asked for (a file where a directory must be, a wrong device number).
    #[error("{subject} is not {expected}")]
    Unexpected {
        /// What was looked at.
        subject: String,
        /// What it should have been.
        expected: &'static str,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The kernel's error number, where a system call failed.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Call { source, .. } => rustix::io::Errno::from_io_error(source),
            Self::Unexpected { .. } => None,
        }
    }
}

/// Names the call and its subject when a result is turned into this crate's [`Error`].
pub trait Context<T> {
    /// Wraps the failure of `call` on `subject`.
    fn context(self, call: &'static str, subject: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, call: &'static str, subject: impl Display) -> Result<T> {
        self.map_err(|error| Error::Call { call, subject: subject.to_string(), source: error.into() })
    }
}
