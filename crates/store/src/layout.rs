//! The store's directories below the data root:
//!
//! ```text
//! oci-layout index.json         so that other tools read the blobs
//! blobs/sha256/<hex>            verified content, 0600; sha512 likewise
//! layers/sha256/<hex>/fs        an unpacked layer, named by the digest of its tar
//! layers/sha256/<hex>/layer.json
//! containers/<id>/{upper,work}  what a container wrote, beside its own record
//! partial/<algorithm>-<hex>     what came of a blob before its stream broke
//! tmp/                          what is being made; emptied when the store opens
//! trash/                        what is being deleted
//! lock                          held by the one engine that uses this root
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use coracle_spec::{ContainerId, Digest};
use coracle_sys::atomic;
use coracle_sys::error::Context;
use rustix::fs::{FlockOperation, Mode};

use crate::error::{Error, Result};

/// Directories through which an unprivileged, mapped root may have to pass.
pub(crate) const PASSABLE: Mode = Mode::from_raw_mode(0o710);
/// Directories that only the engine uses.
pub(crate) const PRIVATE: Mode = Mode::from_raw_mode(0o700);
/// Files that only the engine uses.
pub(crate) const FILE: Mode = Mode::from_raw_mode(0o600);

/// Where a blob lies in an OCI layout, this store's or an archived one.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The paths of a store.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes what is missing below `root` and takes the lock, which lasts as long as the file is open.
    pub(crate) fn open(root: &Path) -> Result<(Self, File)> {
        let layout = Self { root: root.to_owned() };
        atomic::create_dir(root, PASSABLE)?;
        let lock = layout.lock()?;
        for (directory, mode) in [
            ("blobs", PRIVATE),
            ("blobs/sha256", PRIVATE),
            ("blobs/sha512", PRIVATE),
            ("layers", PASSABLE),
            ("layers/sha256", PASSABLE),
            ("layers/sha512", PASSABLE),
            ("containers", PASSABLE),
            ("partial", PRIVATE),
            ("tmp", PRIVATE),
            ("trash", PRIVATE),
        ] {
            atomic::create_dir(root.join(directory), mode)?;
        }
        for (name, content) in [
            ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", r#"{"schemaVersion":2,"manifests":[]}"#),
        ] {
            if !root.join(name).exists() {
                atomic::write_durable(root.join(name), content.as_bytes(), FILE)?;
            }
        }
        atomic::sync_dir(root)?;
        layout.discard_unfinished()?;
        Ok((layout, lock))
    }

    fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE | rustix::fs::OFlags::CLOEXEC;
        let lock = File::from(rustix::fs::open(&path, flags, FILE).context("open", path.display())?);
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path }),
            Err(errno) => Err(errno).context("flock", path.display()).map_err(Error::from),
        }
    }

    /// Moves what an earlier engine did not finish into the trash, which takes no time.
    fn discard_unfinished(&self) -> Result<()> {
        let tmp = self.root.join("tmp");
        for entry in std::fs::read_dir(&tmp).context("readdir", tmp.display())? {
            atomic::discard(entry.context("readdir", tmp.display())?.path(), self.trash())?;
        }
        Ok(())
    }

    /// Moves `path` into the trash; `false` when nothing was there.
    pub(crate) fn discard(&self, path: &Path) -> Result<bool> {
        Ok(atomic::discard(path, self.trash())?.is_some())
    }

    /// A name in `tmp` that nothing has.
    pub(crate) fn temporary(&self) -> Result<PathBuf> {
        Ok(self.root.join("tmp").join(atomic::random_name()?))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(blob_name(digest))
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.algorithm().name()).join(diff_id.hex())
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.root.join("containers").join(id.as_str())
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}
