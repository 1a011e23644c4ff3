//! Blobs whose stream broke: what came is kept and read again in front of the rest, so that a pull resumes.
//!
//! ```no_run
//! # use std::io::Read;
//! # fn demo(store: &coracle_store::Store, digest: coracle_spec::Digest) -> coracle_store::Result<()> {
//! # let fetch_from = |_offset: u64| std::io::empty();
//! let expected = coracle_store::Expected { blob: Some(digest), diff_id: None };
//! let layer = match store.partial(&digest)? {
//!     Some(partial) => store.import(partial.content.chain(fetch_from(partial.size)), &expected)?,
//!     None => store.import(fetch_from(0), &expected)?,
//! };
//! # drop(layer);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is trusted for having been stored: the whole is verified as if it had come at once. It stays until the blob is
//! whole, until a later attempt has brought more, or until it turns out to be wrong.

use std::fs::File;

use coracle_spec::Digest;
use coracle_sys::error::Context;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::{Store, layout};

/// The beginning of a blob.
#[derive(Debug)]
pub struct Partial {
    /// Its bytes.
    pub content: File,
    /// How many there are: where the rest begins.
    pub size: u64,
}

impl Store {
    /// What an interrupted import left of a blob.
    ///
    /// # Errors
    /// The kernel's.
    pub fn partial(&self, digest: &Digest) -> Result<Option<Partial>> {
        let path = self.layout.partial(digest);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let content = match rustix::fs::open(&path, flags, rustix::fs::Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno).context("open", path.display()).map_err(Error::from),
        };
        let size = content.metadata().context("fstat", path.display())?.len();
        Ok(Some(Partial { content, size }))
    }

    /// Discards what [`Store::partial`] would give; `false` when there is nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn discard_partial(&self, digest: &Digest) -> Result<bool> {
        self.layout.discard(&self.layout.partial(digest))
    }

    /// What [`Store::partial`] could give.
    ///
    /// # Errors
    /// The kernel's.
    pub fn partials(&self) -> Result<Vec<Digest>> {
        let directory = self.layout.partials();
        let mut digests = Vec::new();
        for entry in std::fs::read_dir(&directory).context("readdir", directory.display())? {
            let name = entry.context("readdir", directory.display())?.file_name();
            digests.extend(name.to_str().and_then(layout::from_flat_name));
        }
        Ok(digests)
    }
}
