//! The bounds of this crate, all in one place.

use std::time::Duration;

/// Longest name, in bytes of text (RFC 1035, 2.3.4).
pub const NAME: usize = 253;

/// Longest part between two dots of a name, in bytes (RFC 1035, 2.3.4).
pub const LABEL: usize = 63;

/// Longest identifier of an endpoint, in bytes: it is the name of a file.
pub const ENDPOINT: usize = 128;

/// Names of one endpoint.
pub const NAMES_PER_ENDPOINT: usize = 256;

/// Largest record of an endpoint, in bytes: an address and all names.
pub const RECORD: u64 = 128 << 10;

/// Addresses returned for one name.
pub const ADDRESSES_PER_NAME: usize = 256;

/// How often publishing is tried again when the last entry of a name is withdrawn at the same moment.
pub const PUBLISH_TRIES: usize = 64;

/// Largest answer to a datagram, in bytes (RFC 1035, 4.2.1); further addresses are left out.
pub const DATAGRAM_ANSWER: usize = 512;

/// Largest message, in bytes: its length has 16 bits on a stream.
pub const MESSAGE: usize = 65_535;

/// Largest question of a client, in bytes.
pub const QUESTION: usize = 4096;

/// Datagrams handled before other descriptors have their turn.
pub const DATAGRAMS_PER_TURN: usize = 64;

/// Questions being forwarded at once; more are refused, not queued.
pub const FORWARDED: usize = 256;

/// Clients connected by TCP at once; more are closed.
pub const STREAMS: usize = 32;

/// Largest resolv.conf that is read, in bytes.
pub const RESOLV_CONF: u64 = 64 << 10;

/// Servers that are asked, in the order of the file.
pub const SERVERS: usize = 8;

/// How often a question is sent before it is given up: each server in turn.
pub const ATTEMPTS: usize = 4;

/// How long a server may take. All attempts together take little longer than a client waits, 5 seconds.
pub const SERVER_PATIENCE: Duration = Duration::from_millis(1500);

/// How long a client may be silent on a stream.
pub const STREAM_PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer of ours may be kept, in seconds: containers come and go.
pub const TIME_TO_LIVE: u32 = 5;
