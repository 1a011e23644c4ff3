//! The bounds of this crate, each with what it protects against. Image content is foreign: every read of it is bounded.

/// Largest uncompressed layer, in bytes, and largest single file in one.
pub const LAYER: u64 = 1 << 40;

/// Bytes that a compressed layer may always unpack to, before [`RATIO`] counts.
pub const RATIO_FREE: u64 = 1 << 30;

/// Bytes that each further compressed byte may unpack to. Deflate cannot exceed 1032, so no gzip layer is ever refused
/// for it; zstd, xz and bzip2 bombs reach tens of thousands.
pub const RATIO: u64 = 1100;

/// Largest zstd window, as a power of two: 128 MiB, what `zstd --long=27` writes.
pub const ZSTD_WINDOW_LOG: u32 = 27;

/// Memory of the xz decoder, in bytes; `xz -9` needs 65 MiB.
pub const XZ_MEMORY: u64 = 128 << 20;

/// Headers in one archive. A bomb of empty files costs an inode each.
pub const ENTRIES: u64 = 4_000_000;

/// Longest path in an archive, in bytes (`PATH_MAX`): what is longer could not be opened in a container either.
pub const PATH: usize = 4096;

/// Longest name of a file, in bytes (`NAME_MAX`).
pub const NAME: usize = 255;

/// Largest extended header (PAX) of one entry, in bytes.
pub const PAX: u64 = 1 << 20;

/// Records in one extended header.
pub const PAX_RECORDS: usize = 16_384;

/// Data segments of one sparse file.
pub const SPARSE_SEGMENTS: usize = 1 << 18;

/// Depth of a directory tree that is packed, exported or compared. Each level holds a descriptor.
pub const DEPTH: usize = 2048;

/// Files in a `docker load` archive.
pub const ARCHIVE_FILES: usize = 100_000;

/// One JSON document in a `docker load` archive, in bytes (CVE-2023-25153).
pub const ARCHIVE_DOCUMENT: u64 = 8 << 20;

/// Bytes of a JSON document in a `docker load` archive above which it does not stay in memory where there is no room.
pub const ARCHIVE_SMALL: u64 = 256 << 10;

/// All JSON documents of a `docker load` archive that are in memory together, in bytes.
pub const ARCHIVE_DOCUMENTS: u64 = 64 << 20;

/// Symbolic links followed from one name to another within a `docker load` archive.
pub const ARCHIVE_LINKS: usize = 8;

/// Indexes inside each other in a `docker load` archive.
pub const ARCHIVE_INDEXES: usize = 3;

/// Largest file of zeros in a `docker load` archive that is taken for an archive that holds nothing, in bytes: writers fill up their last
/// record, which may have 64 KiB.
pub const EMPTY_ARCHIVE: u64 = 64 << 10;
/// Bytes of a compressed file in a `docker load` archive that are looked at to know whether it holds an archive: what the
/// largest block of Zstandard takes, and some more.
pub const ARCHIVE_PEEK: u64 = 160 << 10;

/// Images that a `docker load` archive lists, and manifests of one index in it that are looked at.
pub const ARCHIVE_IMAGES: usize = 10_000;

/// One of the store's own records, in bytes.
pub const RECORD: u64 = 64 << 10;

/// A lease, in bytes: room for the digests of [`coracle_spec::limits::LAYERS`] layers.
pub const LEASE: usize = 256 << 10;

/// Bytes of a foreign name that an error message repeats.
pub const SHOWN: usize = 200;

/// Bytes below which an interrupted blob is not worth resuming.
pub const PARTIAL: u64 = 64 << 10;

/// Bytes handed from thread to thread at once, and how many such chunks may wait.
pub const CHUNK: usize = 256 << 10;
/// See [`CHUNK`].
pub const CHUNKS: usize = 8;

/// Bytes of a layer after which what came so far begins to go to the disk, while more comes.
pub const FLUSH: u64 = 32 << 20;
