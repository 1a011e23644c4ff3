//! Every bound on what a daemon may make this client hold in memory.

/// Largest JSON response, in bytes; a list of 100,000 containers is about 100 MB.
pub(crate) const RESPONSE: usize = 256 << 20;

/// Largest body of a failure, in bytes.
pub(crate) const FAILURE: usize = 1 << 20;

/// Longest line of a JSON stream, in bytes.
pub(crate) const LINE: usize = 16 << 20;

/// Largest piece of output handed on at once, in bytes; longer frames come in several.
pub(crate) const CHUNK: usize = 64 << 10;
