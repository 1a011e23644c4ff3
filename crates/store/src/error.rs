//! Why the store refused or failed.

use std::io;
use std::path::PathBuf;

use coracle_spec::Digest;
use rustix::io::Errno;

use crate::limits;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process uses the same data root.
    #[error("{path} is used by another engine")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file system of the data root holds nobody to a size, or not this directory.
    #[error("the file system of the data root has no quotas of projects, or the directory is not in one")]
    NoQuotas,
    /// All numbers of projects are taken.
    #[error("all numbers of quotas are taken")]
    NoProject,
    /// A blob is not there.
    #[error("blob {digest} is not in the store")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// A layer is not there.
    #[error("layer {diff_id} is not in the store")]
    LayerMissing {
        /// Digest of the uncompressed layer.
        diff_id: Digest,
    },
    /// A path leads nowhere in a tree.
    #[error("{path}: not found")]
    NotThere {
        /// The path, as it was given.
        path: String,
    },
    /// Content is not what its name says.
    #[error("{what} does not match its digest: expected {expected}, computed {computed}")]
    DigestMismatch {
        /// `blob` or `layer`.
        what: &'static str,
        /// The digest that was asked for.
        expected: Box<Digest>,
        /// The digest of what came.
        computed: Box<Digest>,
    },
    /// An archive is malformed, or holds what must not be unpacked.
    #[error("archive entry {entry:?}: {reason}")]
    Archive {
        /// The entry, shortened and without control characters; empty where it is the archive itself.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something is larger than a reader accepts.
    #[error("{what} is larger than the {limit} allowed")]
    TooLarge {
        /// What it is, with its unit.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// An entry of an archive could not be made.
    #[error("cannot unpack archive entry {entry:?}")]
    Unpack {
        /// The entry, shortened and without control characters.
        entry: String,
        /// The kernel's answer.
        source: coracle_sys::Error,
    },
    /// A stream failed, ended early or could not be decompressed.
    #[error("cannot read {what}")]
    Stream {
        /// What was read.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A document of an image is invalid.
    #[error("cannot use {what}")]
    Document {
        /// Which document.
        what: String,
        /// Why.
        source: coracle_spec::Error,
    },
    /// A `docker load` archive contradicts itself.
    #[error("invalid image archive: {reason}: {subject:?}")]
    ImageArchive {
        /// What is wrong.
        reason: &'static str,
        /// Where.
        subject: String,
    },
    /// An archive holds no image for a platform that was asked for.
    #[error("requested platform ({platform}) not found in the image archive")]
    PlatformMissing {
        /// The platform.
        platform: coracle_spec::Platform,
    },
    /// A `docker load` archive was saved without what another image has, and that image is not here.
    #[error(
        "the archive was saved since {images} and leaves out layer {diff_id}, which is not here: load or pull {images} first"
    )]
    LayerLeftOut {
        /// Digest of the uncompressed layer.
        diff_id: Digest,
        /// The images, shortened and without control characters.
        images: String,
    },
    /// A record of the store cannot be read.
    #[error("cannot read record {path}: {reason}")]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record of the store is of a newer version.
    #[error("record {path} was written by a newer engine: use that one")]
    NewerRecord {
        /// The record.
        path: PathBuf,
    },
    /// The output could not be written.
    #[error("cannot write {what}")]
    Write {
        /// What was written.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused an operation on the store's own files.
    #[error(transparent)]
    Kernel(#[from] coracle_sys::Error),
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn archive(entry: &[u8], reason: &'static str) -> Self {
        Self::Archive { entry: shown(entry), reason }
    }

    /// Whether the fault lies in what was handed in, not in this machine: 4xx rather than 5xx.
    pub fn is_input(&self) -> bool {
        match self {
            Self::DigestMismatch { .. }
            | Self::Archive { .. }
            | Self::TooLarge { .. }
            | Self::Document { .. }
            | Self::ImageArchive { .. }
            | Self::PlatformMissing { .. }
            | Self::NotThere { .. }
            | Self::LayerLeftOut { .. }
            | Self::Stream { .. } => true,
            Self::Unpack { source, .. } => source.errno().is_some_and(is_refusal),
            Self::Locked { .. }
            | Self::NoQuotas
            | Self::NoProject
            | Self::BlobMissing { .. }
            | Self::LayerMissing { .. }
            | Self::Record { .. }
            | Self::NewerRecord { .. }
            | Self::Write { .. }
            | Self::Kernel(_) => false,
        }
    }
}

/// Whether the kernel means that an entry cannot exist, rather than that something is missing on this machine.
fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::LOOP
            | Errno::NOTDIR
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::TOOBIG
            | Errno::RANGE
            | Errno::MLINK
    )
}

/// A foreign name as it may stand in a message: shortened, control characters escaped (log injection).
pub(crate) fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(limits::SHOWN)];
    String::from_utf8_lossy(cut).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
