//! Tar archives as data: reading every dialect that images come in, and writing one that is byte-stable.
//!
//! Nothing here touches the file system. Reading refuses what two readers could understand differently, since a scanner
//! and an engine must see the same tree (CVE-2025-62518). The `tar` crate supplies the layout of header blocks only.

pub(crate) mod name;
mod number;
mod pax;
mod reader;
mod sparse;
pub(crate) mod writer;

pub(crate) use reader::{Reader, is_header};
pub(crate) use sparse::Segment;

/// Bytes of a block: headers are one, content is padded to a multiple.
pub(crate) const BLOCK: usize = 512;

/// One file, directory or link of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name as it stands in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Extended attributes, each name once.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file of `size` bytes, of which only `segments` are in the archive if it is sparse.
    File {
        size: u64,
        segments: Option<Vec<Segment>>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    Fifo,
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
}

/// A point in time since 1970, nanoseconds counting upwards also before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}
