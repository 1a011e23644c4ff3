//! Image content on disk: blobs by digest, unpacked layers, and what containers wrote on top of them.
//!
//! Nothing here speaks to a network or keeps an index: which image has which layers, and which names it has, is the
//! engine's `meta.db`. What is here can be verified against its own name at any time. All calls block.
//!
//! - [`Store::import`] makes a layer of a tar stream; [`Store::load`] and [`Store::save`] handle `docker save` archives.
//! - [`Store::prepare`] gives a container its directories; [`Store::commit`] makes a layer of what it wrote.
//! - [`Store::keep`] makes one of files where they are, [`Store::keep_content`] of files while they are read, and
//!   [`Store::squash`] one of several.
//! - [`Tree`] is what `docker cp` sees of a container: paths are packed from it and archives unpacked into it. A build takes
//!   files of one under other names.
//! - [`Store::bound_snapshot`] holds what a container writes to a size, where the file system has quotas.
//! - [`Store::check`] proves everything against its name; [`Store::quarantine`] sets aside what is damaged.
//! - Removal renames into the trash; [`Store::empty_trash`] deletes, in the background.
#![forbid(unsafe_code)]

mod archive;
mod arrivals;
mod blob;
mod check;
mod compress;
mod compression;
mod copy;
mod error;
mod export;
mod fingerprint;
mod import;
mod layer;
mod layout;
mod lease;
pub mod limits;
mod load;
mod outside;
mod pack;
mod partial;
mod quota;
mod save;
mod scratch;
mod select;
mod since;
mod snapshot;
mod squash;
mod vacancy;
mod walk;

pub use blob::{Blob, BlobWriter};
pub use check::{Condition, Subject};
pub use compression::Compression;
pub use copy::{Found, Protection, Tree};
pub use error::{Error, Result};
pub use import::Expected;
pub use layer::apply::{Copying, Replace};
pub use layer::{Layer, LayerBlob};
pub use load::{Loaded, LoadedArtifact, LoadedImage, LoadedOrigin, Progress};
pub use pack::Altered;
pub use partial::Partial;
pub use save::{Saved, SavedImage, SavedVariant};
pub use scratch::Scratch;
pub use select::{Chosen, Filter, Taken, Workspace, pack_directories, pack_texts, size_of};
pub use since::LeftOut;
pub use snapshot::{Change, ChangeKind, Snapshot};
pub use vacancy::{Content, Vacancy};

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;

use coracle_spec::Digest;
use coracle_sys::error::Context;

use layout::Layout;

/// The store below one data root. One process has it at a time.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    /// Whether a layer hides everything below it, of those that were asked for: it never changes, and each start asks.
    opaque: Mutex<HashMap<Digest, bool>>,
    /// Held by the one import that brings what came so far to the disk.
    flushing: Mutex<()>,
    arrivals: arrivals::Arrivals,
    /// Where the file system has quotas.
    projects: Option<quota::Projects>,
    /// Held as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store below `root`, making it where there is none. What an earlier engine left unfinished goes into
    /// the trash.
    ///
    /// # Errors
    /// [`Error::Locked`] while another engine has it, and the kernel's.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let (layout, lock) = Layout::open(root.as_ref())?;
        Ok(Self {
            layout,
            opaque: Mutex::default(),
            flushing: Mutex::default(),
            arrivals: arrivals::Arrivals::default(),
            projects: quota::Projects::of(root.as_ref())?,
            _lock: lock,
        })
    }

    /// Deletes what is in the trash, which may take long; returns how many things were deleted. Safe beside everything
    /// else.
    ///
    /// # Errors
    /// The first failure, after everything that can be deleted is.
    pub fn empty_trash(&self) -> Result<usize> {
        let path = self.layout.trash();
        let trash = File::open(&path).context("open", path.display())?;
        let names = coracle_sys::tree::names(trash.as_fd())?;
        let mut failure = None;
        let mut count = 0;
        for name in names {
            match remove(&trash, &name) {
                Ok(()) => count += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(count), |error| Err(error.into()))
    }
}

fn remove(trash: &File, name: &CString) -> coracle_sys::Result<()> {
    coracle_sys::tree::remove(trash.as_fd(), name)
}
