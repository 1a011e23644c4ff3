//! The store's directories below the data root:
//!
//! ```text
//! oci-layout index.json         so that other tools read the blobs
//! blobs/sha256/<hex>            verified content, 0600; sha512 likewise
//! layers/sha256/<hex>/fs        an unpacked layer, named by the digest of its tar
//! layers/sha256/<hex>/layer.json
//! containers/<id>/{upper,work}  what a container wrote, beside its own record
//! partial/<algorithm>-<hex>     what came of a blob before its stream broke
//! leases/<algorithm>-<hex>      what a pull of this manifest is bringing
//! tmp/                          what is being made; emptied when the store opens
//! tmp/<random>.<algorithm>-<hex>  a blob that is being made, and what it is to become
//! trash/                        what is being deleted
//! quarantine/<kind>-<algorithm>-<hex>-<random>
//!                               a blob or a layer that a check found damaged, kept for whoever wants to know why; the
//!                               engine never deletes it
//! lock                          held by the one engine that uses this root
//! ```

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_spec::{ContainerId, Digest};
use coracle_sys::atomic;
use coracle_sys::error::Context;
use rustix::fs::{FlockOperation, Mode};

use crate::error::{Error, Result};
use crate::limits;

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

/// A digest as one component of a path.
fn flat_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

/// The digest that a component of a path stands for.
pub(crate) fn from_flat_name(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

/// What an unfinished blob was to become.
fn expected_of(path: &Path) -> Option<Digest> {
    from_flat_name(path.extension()?.to_str()?)
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
            ("leases", PRIVATE),
            ("tmp", PRIVATE),
            ("trash", PRIVATE),
            ("quarantine", PRIVATE),
        ] {
            atomic::create_dir(root.join(directory), mode)?;
        }
        // Layers are made in the one, what containers write in the other.
        for trees in ["tmp", "containers"] {
            let path = root.join(trees);
            coracle_sys::tree::scatter(File::open(&path).context("open", path.display())?.as_fd())?;
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
        atomic::sweep(layout.leases())?;
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

    /// Moves what an earlier engine did not finish into the trash, which takes no time. Of a blob whose digest is known,
    /// what came is kept: the engine may have been killed during a pull.
    fn discard_unfinished(&self) -> Result<()> {
        let tmp = self.root.join("tmp");
        for entry in std::fs::read_dir(&tmp).context("readdir", tmp.display())? {
            let path = entry.context("readdir", tmp.display())?.path();
            let kept = match expected_of(&path) {
                Some(digest) => self.keep_partial(&path, &digest)?,
                None => false,
            };
            if !kept {
                atomic::discard(path, self.trash())?;
            }
        }
        Ok(())
    }

    /// Keeps the beginning of a blob for a later attempt, if it is worth that and longer than what is kept already.
    pub(crate) fn keep_partial(&self, path: &Path, digest: &Digest) -> Result<bool> {
        let partial = self.partial(digest);
        let size = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
        let worth = size(path) >= limits::PARTIAL.max(size(&partial) + 1);
        if worth {
            std::fs::rename(path, &partial).context("rename", partial.display())?;
        }
        Ok(worth)
    }

    /// Moves `path` into the trash; `false` when nothing was there.
    pub(crate) fn discard(&self, path: &Path) -> Result<bool> {
        Ok(atomic::discard(path, self.trash())?.is_some())
    }

    /// Moves `path` into the quarantine, durably; `false` when nothing was there.
    pub(crate) fn set_aside(&self, path: &Path, kind: &str, digest: &Digest) -> Result<bool> {
        if !path.try_exists().context("stat", path.display())? {
            return Ok(false);
        }
        let name = format!("{kind}-{}-{}", flat_name(digest), atomic::random_name()?);
        atomic::publish_durable(path, self.root.join("quarantine").join(name))?;
        atomic::sync_parent(path)?;
        Ok(true)
    }

    /// A name in `tmp` that nothing has.
    pub(crate) fn temporary(&self) -> Result<PathBuf> {
        Ok(self.root.join("tmp").join(atomic::random_name()?))
    }

    /// The same for a blob, of which it may be known what it is to become.
    pub(crate) fn temporary_blob(&self, expected: Option<&Digest>) -> Result<PathBuf> {
        let mut path = self.temporary()?.into_os_string();
        if let Some(digest) = expected {
            path.push(format!(".{}", flat_name(digest)));
        }
        Ok(path.into())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(blob_name(digest))
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.algorithm().name()).join(diff_id.hex())
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(flat_name(digest))
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn lease(&self, digest: &Digest) -> PathBuf {
        self.leases().join(flat_name(digest))
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
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
