//! Why a request failed, and what a person can do about it.

use std::io;

use crate::endpoint::Endpoint;
use crate::tls;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text names no endpoint this client can use.
    #[error("cannot use {text:?} as the address of an engine: {reason}")]
    Endpoint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody listens there, or the connection was refused.
    #[error("cannot connect to the engine at {endpoint}")]
    Connect {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What the kernel said.
        source: io::Error,
    },
    /// A certificate, a key or a list of authorities is of no use.
    #[error("cannot use {name} for TLS: {reason}")]
    Certificate {
        /// Which file it is.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon refused or failed; the text is its own.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP status.
        status: u16,
        /// The daemon's sentence.
        message: String,
    },
    /// The daemon speaks only versions this client does not.
    #[error("the engine's newest API version is {newest}, and this client needs {needed} or newer")]
    TooOld {
        /// What the daemon offers.
        newest: coracle_api::ApiVersion,
        /// What would do.
        needed: coracle_api::ApiVersion,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("cannot {attempt}")]
    Http {
        /// What was attempted.
        attempt: String,
        /// What HTTP said.
        source: hyper::Error,
    },
    /// A request that cannot be written as HTTP.
    #[error("cannot {attempt}")]
    Request {
        /// What was attempted.
        attempt: String,
        /// What is wrong with it.
        source: hyper::http::Error,
    },
    /// The daemon's answer is not the JSON that belongs to the request.
    #[error("cannot understand the engine's answer to {attempt}")]
    Answer {
        /// What was attempted.
        attempt: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The daemon's answer is larger than any honest one.
    #[error("the engine's answer to {attempt} exceeds {limit} bytes")]
    TooLarge {
        /// What was attempted.
        attempt: String,
        /// The bound.
        limit: usize,
    },
    /// The daemon answered, and did not give up the connection.
    #[error("the engine answered {status} instead of giving up the connection to {attempt}")]
    NotUpgraded {
        /// What was attempted.
        attempt: String,
        /// HTTP status.
        status: u16,
    },
    /// A stream broke.
    #[error("cannot {attempt}")]
    Stream {
        /// What was attempted.
        attempt: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// The daemon's status, when it answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Daemon { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon says that the thing does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether what the request supposed is not so.
    #[must_use]
    pub fn is_precondition_failed(&self) -> bool {
        self.status() == Some(412)
    }

    /// Whether nobody listens at the endpoint, so that starting an engine would help.
    #[must_use]
    pub fn is_not_running(&self) -> bool {
        matches!(self, Self::Connect { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
    }

    /// What to do about it, when there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect { source, .. } if tls::hint(source).is_some() => tls::hint(source).map(Into::into),
            Self::Http { source, .. } if tls::hint(source).is_some() => tls::hint(source).map(Into::into),
            Self::Http { source, .. } if source.is_parse() => {
                Some("if the engine there speaks TLS, give --tlsverify".into())
            }
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run the command as root, or as a member of the group that owns the socket".into())
            }
            Self::Connect { endpoint: Endpoint::Unix(path), .. } if self.is_not_running() => {
                Some(if path.as_os_str() == crate::DEFAULT_SOCKET {
                    "start the engine with `coracle daemon`".into()
                } else {
                    format!(
                        "start an engine that listens there, or unset DOCKER_HOST and CORACLE_HOST to use {}",
                        crate::DEFAULT_SOCKET
                    )
                })
            }
            Self::Connect { endpoint: Endpoint::Ssh { .. }, .. } => {
                Some("install the OpenSSH client, which ssh:// addresses are reached with".into())
            }
            Self::Connect { endpoint: Endpoint::Tcp { .. }, .. } => {
                Some("check that the engine runs there, listens on TCP and is not behind a firewall".into())
            }
            _ => None,
        }
    }
}
