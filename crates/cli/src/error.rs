//! Why a command failed, and with which code it exits.

use std::io;

use crate::resolve::Invalid;
use crate::template::TemplateError;

/// What every command answers.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refused or could not be reached.
    #[error(transparent)]
    Client(#[from] coracle_client::Error),
    /// An argument means nothing.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// `--format` is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file, the terminal or a stream of this process failed.
    #[error("cannot {attempt}")]
    Io {
        /// What was attempted on what.
        attempt: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The engine reported a failure within a stream.
    #[error("{0}")]
    Progress(String),
    /// The client's configuration or its contexts are not what they should be; the text says where.
    #[error("{0}")]
    Configuration(String),
    /// Credentials cannot be read or kept; the text says where.
    #[error("{0}")]
    Credentials(String),
    /// A manifest is missing, or is none that can be used; the text says which.
    #[error("{0}")]
    Manifest(String),
    /// Starting the engine failed.
    #[error(transparent)]
    EngineStart(#[from] crate::engine_start::StartError),
    /// `run` and the like: the container could not be started, with Docker's exit code for the reason.
    #[error("{source}")]
    NotStarted {
        /// 125, 126 or 127.
        code: u8,
        /// The command whose help says more, if one does.
        help: Option<&'static str>,
        /// What the engine said.
        source: Box<Error>,
    },
    /// Somebody ended the command, which has taken away what it had made.
    #[error("interrupted by SIG{signal}")]
    Interrupted {
        /// The signal, without `SIG`.
        signal: &'static str,
        /// Its number.
        number: u8,
    },
    /// Some of several things failed; each was reported already.
    #[error("some failed")]
    Reported,
}

impl Error {
    /// An IO failure of this process.
    pub(crate) fn io(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::Io { attempt, source }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotStarted { code, .. } => *code,
            Self::Interrupted { number, .. } => 128 + number,
            _ => 1,
        }
    }

    /// Whether the reader of our output went away, which is nothing to talk about.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::BrokenPipe,
            Self::NotStarted { source, .. } => source.is_broken_pipe(),
            _ => false,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.hint(),
            Self::NotStarted { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Docker's exit code for a container that did not start: 127 not found, 126 not executable, 125 everything else.
pub(crate) fn start_failure(error: coracle_client::Error) -> Error {
    let text = error.to_string();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let code =
        if has(&["executable file not found", "no such file or directory", "system cannot find the file"]) {
            127
        } else if has(&["permission denied", "not a directory", "is a directory", "exec format error"]) {
            126
        } else {
            125
        };
    Error::NotStarted { code, help: None, source: Box::new(error.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_dockers_reading_of_the_message() {
        let code = |message: &str| {
            start_failure(coracle_client::Error::Daemon { status: 500, message: message.into() }).code()
        };
        assert_eq!(code("exec: \"nope\": executable file not found in $PATH: unknown"), 127);
        assert_eq!(code("exec: \"/etc\": permission denied: unknown"), 126);
        assert_eq!(code("port is already allocated"), 125);
    }
}
