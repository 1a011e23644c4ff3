//! Why names could not be published or answered.

use std::io;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why names could not be published or answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name that can be looked up.
    #[error("{text:?} is not a host name")]
    Name {
        /// The text.
        text: String,
    },
    /// Not an identifier of an endpoint.
    #[error("{text:?} is not the identifier of an endpoint")]
    Endpoint {
        /// The text.
        text: String,
    },
    /// More names than [`crate::limits::NAMES_PER_ENDPOINT`].
    #[error("an endpoint cannot have {count} names, the limit is {limit}")]
    TooManyNames {
        /// How many were given.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// No address, or several of IPv4.
    #[error("endpoint {endpoint} needs an address, and further ones of IPv6")]
    Addresses {
        /// The identifier.
        endpoint: String,
    },
    /// The table on disk cannot be read or changed.
    #[error("cannot {attempt} in the table of names {table}")]
    Table {
        /// What was attempted.
        attempt: &'static str,
        /// The table's directory.
        table: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The resolver's own descriptors fail.
    #[error("cannot {attempt} of the resolver")]
    Service {
        /// What was attempted.
        attempt: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// A failure of the resolver's own descriptors.
    pub(crate) fn service(attempt: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |errno| Self::Service { attempt, source: errno.into() }
    }
}
