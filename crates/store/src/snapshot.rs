//! What a container has of its own on top of an image's layers, and how it differs from them.

mod changes;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use coracle_spec::{ContainerId, Digest};
use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use coracle_sys::{atomic, mount};
use rustix::fs::{Gid, Mode, Uid};

pub use changes::{Change, ChangeKind};

use crate::error::Result;
use crate::{Store, layout};

/// The directories of which a container's root is made (overlayfs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Read-only directories, the topmost first; at least one.
    pub lower: Vec<PathBuf>,
    /// Where the container writes.
    pub upper: PathBuf,
    /// overlayfs' own.
    pub work: PathBuf,
}

impl Store {
    /// Makes the directories of a container on top of `layers`, lowest first. Survives `kill -9`; the record that the
    /// caller writes beside them makes it durable.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`], and the kernel's (`EEXIST` when the container has a snapshot).
    pub fn prepare(&self, container: &ContainerId, layers: &[Digest]) -> Result<Snapshot> {
        let snapshot = self.snapshot(container, layers)?;
        let directory = self.layout.container(container);
        atomic::create_dir(&directory, layout::PASSABLE)?;
        if layers.is_empty() {
            atomic::create_dir(directory.join("lower"), layout::PASSABLE)?;
        }
        atomic::create_dir(&snapshot.work, layout::PRIVATE)?;
        // Last, and only if new: an upper directory with its work directory is what makes a snapshot.
        let upper = &snapshot.upper;
        rustix::fs::mkdir(upper, layout::PRIVATE).context("mkdir", upper.display())?;
        self.copy_root(layers, upper)?;
        Ok(snapshot)
    }

    /// Makes the directories of a root in `directory`, which is empty.
    pub(crate) fn prepare_in(&self, directory: &Path, layers: &[Digest]) -> Result<Snapshot> {
        let mut lower = self.lowers(layers)?;
        if lower.is_empty() {
            lower.push(directory.join("lower"));
            atomic::create_dir(&lower[0], layout::PASSABLE)?;
        }
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        for made in [&upper, &work] {
            atomic::create_dir(made, layout::PRIVATE)?;
        }
        self.copy_root(layers, &upper)?;
        Ok(Snapshot { lower, upper, work })
    }

    /// The directories of a container that [`Store::prepare`] made.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`].
    pub fn snapshot(&self, container: &ContainerId, layers: &[Digest]) -> Result<Snapshot> {
        let directory = self.layout.container(container);
        let mut lower = self.lowers(layers)?;
        if lower.is_empty() {
            lower.push(directory.join("lower"));
        }
        Ok(Snapshot { lower, upper: self.upper(container), work: directory.join("work") })
    }

    /// Moves the whole directory of a container into the trash, its record included: one step for all of it. `false`
    /// when nothing was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_snapshot(&self, container: &ContainerId) -> Result<bool> {
        self.unbound(&self.upper(container), || self.layout.discard(&self.layout.container(container)))
    }

    /// Bytes in the files that a container wrote.
    ///
    /// # Errors
    /// The kernel's.
    pub fn snapshot_size(&self, container: &ContainerId) -> Result<u64> {
        crate::walk::size(crate::export::open(&self.upper(container))?.as_fd())
    }

    /// How a container's root differs from its image, sorted by path.
    ///
    /// # Errors
    /// The kernel's.
    pub fn changes(&self, container: &ContainerId, layers: &[Digest]) -> Result<Vec<Change>> {
        let upper = crate::export::open(&self.upper(container))?;
        changes::between(upper.as_fd(), &self.lowers(layers)?)
    }

    pub(crate) fn upper(&self, container: &ContainerId) -> PathBuf {
        self.layout.container(container).join("upper")
    }

    /// The directories of `layers`, the topmost first. One that comes twice counts where it is topmost: everything of
    /// the lower one is covered, and overlayfs refuses a directory that it has already. Below a layer that hides
    /// everything under it there is nothing to stack.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`].
    pub fn lowers(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut lowers: Vec<PathBuf> = Vec::new();
        for diff_id in layers.iter().rev() {
            let opaque = self.is_opaque(diff_id)?;
            let directory = self.layer_fs(diff_id);
            if !lowers.contains(&directory) {
                lowers.push(directory);
            }
            if opaque {
                break;
            }
        }
        Ok(lowers)
    }

    /// What `layers`, the lowest first, have together: mounted nowhere, and read-only. Owners are shown as those of the user
    /// namespace `mapping`, if one is given.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`], and the kernel's.
    pub fn merged(&self, layers: &[Digest], mapping: Option<BorrowedFd<'_>>) -> Result<Root> {
        let open = |path: &Path| match mapping {
            None => Root::open(path).map(Root::into_fd),
            Some(user) => mount::copy_mapped(path, user),
        };
        let mut lowers = Vec::new();
        for path in self.lowers(layers)? {
            lowers.push(open(&path)?);
        }
        // An overlay without an upper directory wants two lower ones at least. The mount keeps it, not the name.
        let empty = self.layout.temporary()?;
        atomic::create_dir(&empty, Mode::from_raw_mode(0o700))?;
        let opened = open(&empty);
        rustix::fs::rmdir(&empty).context("rmdir", empty.display())?;
        lowers.push(opened?);
        Ok(Root::of_mount(mount::overlay(&lowers, None)?))
    }

    /// Gives the upper directory the owner and mode of the image's root, which overlayfs takes from there.
    fn copy_root(&self, layers: &[Digest], upper: &Path) -> Result<()> {
        let mut described = None;
        for diff_id in layers.iter().rev() {
            if self.layer(diff_id)?.root_entry {
                described = Some(self.layer_fs(diff_id));
                break;
            }
        }
        let (mode, owner) = match described {
            None => (0o755, (0, 0)),
            Some(directory) => {
                let stat = rustix::fs::stat(&directory).context("stat", directory.display())?;
                (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid))
            }
        };
        rustix::fs::chown(upper, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
            .context("chown", upper.display())?;
        rustix::fs::chmod(upper, Mode::from_raw_mode(mode)).context("chmod", upper.display())?;
        Ok(())
    }
}
