//! Files that become a layer where they are: nothing is copied, the directory that was written is the layer.

use std::fs::File;
use std::os::fd::AsFd;

use coracle_spec::digest::{Algorithm, Hasher};
use coracle_spec::{ContainerId, Digest};
use coracle_sys::atomic;
use coracle_sys::error::Context;
use rustix::fs::{AtFlags, FileType, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::export::open;
use crate::fingerprint::Digesting;
use crate::layer::{FS, Layer};
use crate::pack::{Form, pack};
use crate::select::Workspace;
use crate::walk::{Node, size, walk};
use crate::{Snapshot, Store, layout};

/// Bytes of an archive that holds nothing: the two blocks that end it.
const END: u64 = 2 * crate::archive::BLOCK as u64;

/// The directories of a root that is no container's. They go into the trash with the value.
#[derive(Debug)]
pub struct Scratch {
    snapshot: Snapshot,
    workspace: Workspace,
}

impl Scratch {
    /// Where its directories are.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Store {
    /// The directories of a root on top of `layers`, lowest first.
    ///
    /// # Errors
    /// [`Error::LayerMissing`], and the kernel's.
    pub fn scratch(&self, layers: &[Digest]) -> Result<Scratch> {
        let workspace = self.workspace()?;
        let snapshot = self.prepare_in(workspace.path(), layers)?;
        Ok(Scratch { snapshot, workspace })
    }

    /// Takes away what a container wrote, which never runs again.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&self, container: &ContainerId) -> Result<Scratch> {
        let workspace = self.workspace()?;
        let upper = workspace.path().join("upper");
        let from = self.upper(container);
        rustix::fs::rename(&from, &upper).context("rename", from.display())?;
        let snapshot = Snapshot { lower: Vec::new(), upper, work: workspace.path().join("work") };
        Ok(Scratch { snapshot, workspace })
    }

    /// Makes a layer of what was written; `None` where nothing was. Nobody writes any more. Files that are newer than
    /// `latest`, in seconds since 1970, become as old as that. Durable on return.
    ///
    /// # Errors
    /// [`Error::Archive`] for a file that a layer cannot hold (a name that begins with `.wh.`), and the kernel's.
    pub fn keep(&self, scratch: Scratch, latest: Option<i64>) -> Result<Option<Layer>> {
        let Scratch { snapshot, workspace } = scratch;
        let upper = open(&snapshot.upper)?;
        if let Some(latest) = latest {
            make_older(&upper, latest)?;
        }
        let mut digest = Digesting(Hasher::new(Algorithm::Sha256));
        let tar_size = pack(upper.as_fd(), Form::Layer, &mut digest)?;
        if tar_size <= END {
            return Ok(None);
        }
        let stat = rustix::fs::fstat(&upper).context("fstat", "upper")?;
        let layer = Layer {
            diff_id: digest.0.finish(),
            size: size(upper.as_fd())?,
            tar_size,
            blob: None,
            opaque_root: false,
            root_entry: (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) != (0o755, 0, 0),
        };
        self.publish_scratch(&snapshot, &workspace, &layer)?;
        Ok(Some(layer))
    }

    fn publish_scratch(&self, snapshot: &Snapshot, workspace: &Workspace, layer: &Layer) -> Result<()> {
        let whole = workspace.path().join("layer");
        atomic::create_dir(&whole, layout::PASSABLE)?;
        let (upper, fs) = (&snapshot.upper, whole.join(FS));
        rustix::fs::rename(upper, &fs).context("rename", upper.display())?;
        layer.write_record(&whole)?;
        let directory = File::open(&whole).context("open", whole.display())?;
        rustix::fs::syncfs(&directory).context("syncfs", whole.display())?;
        self.arrivals.tell(&layer.diff_id);
        match atomic::publish_durable(&whole, self.layout.layer(&layer.diff_id)) {
            // The same files are there already.
            Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
            published => Ok(published?),
        }
    }
}

fn make_older(top: &File, latest: i64) -> Result<()> {
    walk(top.as_fd(), &mut |node: &Node<'_>| {
        if node.stat.st_mtime <= latest || is_marker(node) {
            return Ok(());
        }
        let time = Timespec { tv_sec: latest, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(node.parent, node.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .context("utimensat", crate::error::shown(node.path))
            .map_err(Error::from)
    })?;
    if rustix::fs::fstat(top).context("fstat", "upper")?.st_mtime > latest {
        let time = Timespec { tv_sec: latest, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(top, &times).context("futimens", "upper")?;
    }
    Ok(())
}

/// A whiteout has no time in an archive.
fn is_marker(node: &Node<'_>) -> bool {
    node.kind() == FileType::CharacterDevice && node.stat.st_rdev == 0
}
