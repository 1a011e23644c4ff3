//! Every bound of this crate.

/// Longest piece of output in one entry, in bytes; longer lines become several entries, as Docker's do.
pub(crate) const PIECE: usize = 16 * 1024;
/// Most that every line can be marked with, in bytes.
pub const ATTRIBUTES: usize = 16 * 1024;
/// Longest line of a log file that is read, in bytes: a piece whose every byte is escaped, its marks, and its frame.
pub(crate) const LINE: usize = 6 * PIECE + ATTRIBUTES + 256;
/// Size of the blocks in which a file is searched backwards, in bytes.
pub(crate) const BLOCK: usize = 64 * 1024;
/// Most rotated files that are looked for.
pub(crate) const FILES: u32 = 1000;
/// Most lines that are put together before they are written, in bytes.
pub(crate) const BATCH: usize = 256 * 1024;
/// How often the files are listed anew while they are being rotated.
pub(crate) const LISTINGS: usize = 100;
