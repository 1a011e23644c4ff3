//! Why the exchange with a client failed.

use std::io;

/// Why the exchange with a client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session that a build names was never opened, or is closed.
    #[error("no active session for {id}")]
    SessionMissing {
        /// The session.
        id: String,
    },
    /// Two clients open the same session.
    #[error("session {id} is open already")]
    SessionExists {
        /// The session.
        id: String,
    },
    /// The headers that open a session cannot be used.
    #[error("cannot open a session: {what}")]
    Offer {
        /// What is wrong with them.
        what: &'static str,
    },
    /// The connection does not become one of HTTP/2.
    #[error("cannot begin HTTP/2 with the client")]
    Handshake {
        /// Why.
        source: hyper::Error,
    },
    /// A client does not offer a service.
    #[error("the client does not offer {method}")]
    NotOffered {
        /// Path of the method.
        method: &'static str,
    },
    /// A client answers with a failure, or is gone.
    #[error("the client failed at {method}")]
    Call {
        /// Path of the method.
        method: &'static str,
        /// What it answered.
        source: Box<tonic::Status>,
    },
    /// A client says why it cannot send its files.
    #[error("the client cannot send its files: {reason}")]
    Refused {
        /// Its words, clipped.
        reason: String,
    },
    /// A client's files do not come as the protocol says.
    #[error("the client's files do not come as the protocol says: {violation}")]
    Protocol {
        /// What is wrong.
        violation: Violation,
    },
    /// An archive that is to be sent cannot be read.
    #[error("cannot read the archive of the result")]
    Archive {
        /// Why.
        source: io::Error,
    },
    /// A secret is larger than any may be.
    #[error("secret {id} has {size} bytes, the most is {}", crate::limits::SECRET)]
    SecretSize {
        /// Its name.
        id: String,
        /// Its size, in bytes.
        size: usize,
    },
}

/// How a client's files break the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A name that leads elsewhere or that no file has.
    #[error("invalid path {path:?}")]
    Path {
        /// The name.
        path: String,
    },
    /// A file that comes before one that should precede it, or twice.
    #[error("path {path:?} comes after {previous:?}")]
    Order {
        /// The file.
        path: String,
        /// The one before it.
        previous: String,
    },
    /// More files than anybody may send.
    #[error("more than {} files", crate::limits::ENTRIES)]
    Entries,
    /// The list of files takes too much room.
    #[error("the list of files takes more than {} bytes", crate::limits::LISTED)]
    Listed,
    /// A file's attributes take too much room.
    #[error("attributes of {path:?} have more than {} bytes", crate::limits::ATTRIBUTES)]
    Attributes {
        /// The file.
        path: String,
    },
    /// A file has a size below nothing.
    #[error("{path:?} has a negative size")]
    Size {
        /// The file.
        path: String,
    },
    /// A file has more or less than was announced.
    #[error("{path:?} changed while it was read: {announced} bytes were announced, {came} came")]
    Changed {
        /// The file.
        path: String,
        /// What was announced, in bytes.
        announced: u64,
        /// What came so far, in bytes.
        came: u64,
    },
    /// Content of a file that nobody asked for.
    #[error("content of file {id}, which was not asked for")]
    Unasked {
        /// Its number.
        id: u32,
    },
    /// A file after the end of the list.
    #[error("a file after the end of the list")]
    Late,
    /// A packet that no sender sends at that time.
    #[error("unexpected packet of type {kind}")]
    Unexpected {
        /// Its type.
        kind: i32,
    },
    /// The stream is over before everything has come.
    #[error("the stream ended early")]
    Ended,
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Protocol { violation }
    }
}

/// What most functions here answer.
pub type Result<T> = std::result::Result<T, Error>;
