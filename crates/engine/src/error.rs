//! Why the engine refused or failed. The kinds are what callers can do something about; the daemon maps them to status
//! codes in one place.

use std::error::Error as StdError;

/// A refusal or a failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("No such {kind}: {name}")]
    NotFound {
        /// What was looked for: `container`, `image`, `volume`, `exec instance`.
        kind: &'static str,
        /// By what name.
        name: String,
    },
    /// A prefix of an id that several things share.
    #[error("Multiple IDs found with provided prefix: {prefix}")]
    Ambiguous {
        /// The prefix.
        prefix: String,
    },
    /// Something is missing, mostly in a registry that does not have it or does not give it; the text says what to do.
    #[error("{0}")]
    Missing(String),
    /// A registry does not know these credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// It contradicts what is there: a taken name, a container that runs.
    #[error("{0}")]
    Conflict(String),
    /// It belongs to the engine, or to others.
    #[error("{0}")]
    Forbidden(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It is so already.
    #[error("{0}")]
    NotModified(String),
    /// Docker knows it, this engine does not do it; the text says why and what to do.
    #[error("{0}")]
    Unsupported(String),
    /// The container's program could not be started.
    #[error("failed to start the container: {text}")]
    Start {
        /// What the container's exit code is now: 127 for a missing program, 126 for one that cannot be run, 128.
        code: i32,
        /// Why.
        text: String,
        /// What another OCI runtime was asked for, whose own words the text is.
        verb: Option<String>,
    },
    /// A path that a container does not have.
    #[error("Could not find the file {path} in container {container}")]
    NoFile {
        /// The path.
        path: String,
        /// The container, as it was called.
        container: String,
    },
    /// It cannot be written.
    #[error("{0}")]
    ReadOnly(String),
    /// Another part failed; the text says at what.
    #[error("{action}")]
    Failed {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// The result of the engine's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A missing container.
    pub fn no_container(name: &str) -> Self {
        Self::NotFound { kind: "container", name: name.to_owned() }
    }

    /// The text with all its causes.
    pub fn chain(&self) -> String {
        coracle_spec::full_text(self)
    }
}

/// Says what was attempted when a result of another crate is turned into this crate's [`Error`].
pub(crate) trait Attempt<T> {
    /// Wraps the failure.
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Failed { action: action(), source: Box::new(source) })
    }
}

/// Runs blocking work off the async workers.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.attempt(|| "run blocking work".to_owned())
}
