//! The error of this crate.

use std::io;
use std::path::PathBuf;

/// Why a container could not be made, changed or reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] coracle_sys::Error),
    /// The container's names cannot be answered or withdrawn.
    #[error(transparent)]
    Names(#[from] coracle_names::Error),
    /// The configuration asks for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The program of the container, or of an exec, is not there.
    #[error("exec: \"{program}\": {reason}")]
    NotFound {
        /// As the configuration names it.
        program: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The program is there and cannot be run.
    #[error("exec: \"{program}\": {reason}")]
    NotExecutable {
        /// As the configuration names it.
        program: String,
        /// What stands in the way.
        reason: String,
    },
    /// Another OCI runtime cannot be called.
    #[error("cannot run the runtime {}", path.display())]
    NoRuntime {
        /// Its program.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another OCI runtime could not do what it was asked for.
    #[error("{text}")]
    Foreign {
        /// What it was asked for: `create`, `start`, `exec` or `delete`.
        verb: String,
        /// Why, in its own words.
        text: String,
    },
    /// A step inside the container failed before the program was started.
    #[error("{0}")]
    Child(String),
    /// A file of a cgroup could not be written or read.
    #[error("cgroup {path}: {value:?} is refused")]
    Cgroup {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A frame of the shim protocol could not be sent or received.
    #[error("shim protocol: {action}")]
    Protocol {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A frame was not received whole.
    #[error("shim protocol: a frame is longer than allowed, or there was no room for its descriptors")]
    Truncated {
        /// What of its bytes was received.
        beginning: Vec<u8>,
    },
    /// A frame makes no sense.
    #[error("shim protocol: {0}")]
    Malformed(String),
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The text with all its causes, as a person or a log reads it.
    pub fn chain(&self) -> String {
        coracle_spec::full_text(self)
    }
}
