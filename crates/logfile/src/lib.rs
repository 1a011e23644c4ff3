//! The container's log on disk: one JSON document a line, as Docker's `json-file` driver writes it, so that every
//! collector that knows those files reads these.
//!
//! ```text
//! <name>        the current file, only ever appended to
//! <name>.1      the one before, and so on: the highest number is the oldest
//! ```
//!
//! [`Writer`] is used by shims and rotates; [`Reader`] is used by the engine, follows across rotations, and finds
//! the last lines and points in time without reading what lies before them.
#![forbid(unsafe_code)]

mod entry;
mod files;
mod limits;
mod read;
mod search;
mod write;

pub use entry::{Entry, Stream};
pub use limits::ATTRIBUTES;
pub use read::{Place, Reader, Selection, Tail};
pub use write::{Limits, Writer};

use std::io;
use std::path::{Path, PathBuf};

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, written, read or renamed.
    #[error("log {path}: {action}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

fn failed(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::File { path: path.to_owned(), action, source }
}
