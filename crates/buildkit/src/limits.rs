//! Every bound on what a client sends, in one place.

use std::time::Duration;

/// Largest message, in bytes; what BuildKit itself takes.
pub const MESSAGE: usize = 16 << 20;
/// How long a build waits for the session that it names.
pub const SESSION_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two questions whether a session's client is there still.
pub const SESSION_PULSE: Duration = Duration::from_secs(10);
/// How long a client may take to answer that question.
pub const SESSION_SILENCE: Duration = Duration::from_secs(60);
/// Most services' methods that a session may offer.
pub const METHODS: usize = 256;
/// Longest id of a session, in bytes.
pub const SESSION_ID: usize = 128;

/// Most files that a directory of a client may have.
pub const ENTRIES: u32 = 8 << 20;
/// Most room that the list of files not yet archived may take, in bytes.
pub const LISTED: u64 = 512 << 20;
/// Longest path or link of a file, in bytes.
pub const PATH: usize = 4096;
/// Most extended attributes of a file, in bytes, names included.
pub const ATTRIBUTES: usize = 256 << 10;
/// Files that have more than this are asked for one at a time and archived as they come, in bytes.
pub const SMALL: u64 = 256 << 10;
/// Most of small files that was asked for and is not archived yet, in bytes.
pub const WINDOW: u64 = 4 << 20;
/// Most small files that were asked for and have not come.
pub const ASKED: usize = 64;
/// Longest reason that a client gives for its failure, in bytes.
pub const REASON: usize = 16 << 10;
/// Most parts of an archive that wait for their reader.
pub const PARTS: usize = 16;

/// Largest piece of an output that is sent at once, in bytes.
pub const PIECE: usize = 256 << 10;
/// Bytes that wait in each direction of a connection within a call.
pub const TUNNEL: usize = 256 << 10;
/// Largest message that such a connection is sent in, in bytes: what clients read at once.
pub const TUNNEL_PIECE: usize = 32 << 10;
/// Largest secret, in bytes; BuildKit's own bound.
pub const SECRET: usize = 500 << 10;

/// Most output of a build that is kept for those who have not read it, in bytes.
pub const OUTPUT: usize = 16 << 20;
/// Most events of a build that one message tells.
pub const BATCH: usize = 1024;
/// Longest definition of a build, in operations.
pub const OPERATIONS: usize = 4096;

/// Longest piece of a blob that a client gives at once, in bytes.
pub const CONTENT: usize = 16 << 20;
