//! The bounds of this crate, each with what it protects against: a registry may say anything, as slowly as it likes.

use std::time::Duration;

/// Redirects that one request follows, as browsers and Docker have it.
pub(crate) const REDIRECTS: usize = 10;

/// Header fields of an answer; a field's text is bounded by the HTTP library (about 400 KiB for all).
pub(crate) const HEADERS: usize = 100;

/// Largest body of a failure that is read for its message, in bytes.
pub(crate) const FAILURE: usize = 64 << 10;

/// Time for reading the body of a failure. Without it, the status has to do.
pub(crate) const FAILURE_TIME: Duration = Duration::from_secs(5);

/// Characters of a registry's message that an error repeats.
pub(crate) const MESSAGE: usize = 512;

/// Errors of one failure that are repeated.
pub(crate) const ERRORS: usize = 4;

/// Largest answer of a token server, in bytes.
pub(crate) const TOKEN_ANSWER: usize = 1 << 20;

/// Longest token, in bytes. It is sent in a header, and servers accept 8 to 64 KiB of those.
pub(crate) const TOKEN: usize = 64 << 10;

/// Tokens that are remembered.
pub(crate) const TOKENS: usize = 1024;

/// How long a token counts that does not say so, and the least that one counts (token specification).
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// The longest that a token counts, whatever it says.
pub(crate) const TOKEN_LIFE_MOST: Duration = Duration::from_secs(24 * 3600);

/// Longest `WWW-Authenticate` field that is read, in bytes.
pub(crate) const CHALLENGE: usize = 8 << 10;

/// Challenges of one answer, and parameters of one challenge.
pub(crate) const CHALLENGES: usize = 16;

/// Hosts whose connections are kept.
pub(crate) const HOSTS: usize = 256;

/// Connections to one host that are kept when idle.
pub(crate) const IDLE_CONNECTIONS: usize = 16;

/// How long an idle connection is kept.
pub(crate) const IDLE_CONNECTION_TIME: Duration = Duration::from_secs(60);

/// How long it counts whether an insecure host speaks TLS.
pub(crate) const SCHEME_TIME: Duration = Duration::from_secs(60);

/// Tags of one repository, and the largest page of them, in bytes.
pub(crate) const TAGS: usize = 100_000;
/// See [`TAGS`].
pub(crate) const TAG_PAGE: usize = 4 << 20;

/// Largest answer of a search, in bytes.
pub(crate) const SEARCH: usize = 4 << 20;

/// Largest file of certificates or keys, in bytes.
pub(crate) const CERTIFICATE: u64 = 1 << 20;

/// Files in a host's directory of certificates.
pub(crate) const CERTIFICATES: usize = 64;

/// The longest pause that `Retry-After` can make us take; who asks for more gets an error instead.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The first pause between tries; it doubles.
pub(crate) const BACK_OFF: Duration = Duration::from_millis(500);

/// The longest pause that doubling makes.
pub(crate) const BACK_OFF_MOST: Duration = Duration::from_secs(30);

/// Tries of a host to which no connection can be made: a wrong name should not take long to be told.
pub(crate) const CONNECT_TRIES: u32 = 2;

/// Tries of one blob in all, however much each of them brought.
pub(crate) const BLOB_TRIES: u32 = 100;

/// Bytes that a try of a blob must bring to count as progress. Less is as good as nothing, or a host could cut the
/// connection after each byte.
pub(crate) const PROGRESS: u64 = 64 << 10;

/// Bytes that must come in each idle period (a minute) of a blob or file: one byte now and then is no transfer. A host that
/// gives less is cut off and asked again, [`BLOB_TRIES`] times at most; one that gives just enough keeps a pull for a day and a
/// half per gigabyte.
pub(crate) const IDLE_BYTES: u64 = 512 << 10;

/// Upload sessions that failed mounts left and that one repository keeps for its next uploads.
pub(crate) const SESSIONS: usize = 64;

/// How long the end of an answer of unknown length is waited for once the blob is complete.
pub(crate) const TAIL_TIME: Duration = Duration::from_secs(2);
