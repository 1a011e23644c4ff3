//! What can go wrong between this machine and a registry.

use coracle_spec::Digest;
use std::io;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a registry cannot be used as configured, or did not give what was asked for.
///
/// `host` is always the host that was asked, with its port. What a registry said is shortened and free of control
/// characters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry of the list of insecure registries is none.
    #[error("insecure registry {entry} is not valid: {reason}")]
    Insecure {
        /// As it was configured.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A mirror is no address.
    #[error("invalid mirror {entry:?}: {reason}")]
    Mirror {
        /// As it was configured.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A proxy is no address.
    #[error("invalid proxy for {scheme} requests: {reason}")]
    Proxy {
        /// What the proxy is for: `http` or `https`.
        scheme: &'static str,
        /// What is wrong with it. Never shows the address, which may hold a password.
        reason: &'static str,
    },
    /// A text is not the address of a registry.
    #[error("invalid registry {text:?}: {reason}")]
    Address {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A certificate or key of the certificates' directory cannot be used.
    #[error("cannot use certificate {path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates' directory cannot be read.
    #[error("cannot read certificates in {path}")]
    Certificates {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No HTTP client can be made for a host.
    #[error("cannot prepare requests to {host}")]
    Setup {
        /// The host.
        host: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host does not answer, or its answer breaks off.
    #[error("{method} {url}")]
    Transport {
        /// The request's method.
        method: String,
        /// The request's address, without query.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The host is too slow.
    #[error("{host} took too long: {what}")]
    Timeout {
        /// The host.
        host: String,
        /// What was waited for.
        what: &'static str,
    },
    /// The host breaks the rules of HTTP or of the distribution specification.
    #[error("{host} gave an answer that is not valid: {reason}")]
    Protocol {
        /// The host.
        host: String,
        /// Which rule.
        reason: String,
    },
    /// The host wants us to go where nothing of it may send us.
    #[error("{host} sends to {target}, which is refused: {reason}")]
    Redirect {
        /// The host that says so.
        host: String,
        /// Where to, without query.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// The host knows no such manifest or repository.
    #[error("manifest unknown: {host} has no {repository}{pick}{said}")]
    ManifestUnknown {
        /// The host.
        host: String,
        /// The repository.
        repository: String,
        /// `:tag` or `@digest`.
        pick: String,
        /// What it said about it, after a colon, or nothing.
        said: String,
    },
    /// The host does not have a blob.
    #[error("blob unknown: {host} has no {digest} in {repository}{said}")]
    BlobUnknown {
        /// The host.
        host: String,
        /// The repository.
        repository: String,
        /// The blob.
        digest: Box<Digest>,
        /// What it said about it, after a colon, or nothing.
        said: String,
    },
    /// Credentials cannot be sent as they are.
    #[error("cannot send the credentials: {reason}")]
    Credentials {
        /// What is wrong with them.
        reason: &'static str,
    },
    /// Credentials are missing or wrong.
    #[error("unauthorized: {host} wants other credentials{said}")]
    Unauthorized {
        /// The host.
        host: String,
        /// What it said about it, after a colon, or nothing.
        said: String,
    },
    /// The credentials do not permit this.
    #[error("denied: {host} does not permit this{said}")]
    Denied {
        /// The host.
        host: String,
        /// What it said about it, after a colon, or nothing.
        said: String,
    },
    /// The host wants fewer requests, for longer than we wait.
    #[error("toomanyrequests: {host} accepts no more requests for now{said}")]
    TooManyRequests {
        /// The host.
        host: String,
        /// What it said about it, after a colon, or nothing.
        said: String,
    },
    /// Any other status that is no success.
    #[error("{host} answered {method} {path} with status {status}{said}")]
    Status {
        /// The host.
        host: String,
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// The status.
        status: u16,
        /// What it said about it, after a colon, or nothing.
        said: String,
    },
    /// The manifest has the form that Docker used until 2015.
    #[error(
        "{image} on {host} is in the obsolete format image manifest schema 1, which is not supported: push it again \
         with a current builder"
    )]
    Schema1 {
        /// The host.
        host: String,
        /// The image.
        image: String,
    },
    /// A document is not what its media type says, too large, or no JSON.
    #[error("{host} gave no usable manifest")]
    Document {
        /// The host.
        host: String,
        /// What is wrong with it.
        source: coracle_spec::Error,
    },
    /// Content does not have the digest it was asked for by, or that the host says it has.
    #[error("{host} gave content that does not match its digest: expected {expected}, computed {computed}")]
    DigestMismatch {
        /// The host.
        host: String,
        /// The digest it should have.
        expected: Box<Digest>,
        /// The digest it has.
        computed: Box<Digest>,
    },
    /// Content is longer or shorter than its descriptor says.
    #[error("{host} gave {digest} with a wrong size: expected {expected} bytes, got {got}")]
    SizeMismatch {
        /// The host.
        host: String,
        /// The content.
        digest: Digest,
        /// The descriptor's size, in bytes.
        expected: u64,
        /// What came, in bytes; where more came, how much was read before giving up.
        got: u64,
    },
    /// An answer is larger than a reader accepts.
    #[error("{host} gave {what} larger than the {limit} bytes allowed")]
    TooLarge {
        /// The host.
        host: String,
        /// What it was.
        what: &'static str,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The content to be uploaded cannot be read, or is not as long as announced.
    #[error("cannot read {digest} for its upload")]
    Content {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
}
