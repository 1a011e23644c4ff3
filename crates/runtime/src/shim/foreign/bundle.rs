//! What a runtime reads and writes by path: in a mount namespace of the shim's own, on a file system in memory.

use crate::error::{Error, Result};
use crate::limits;
use crate::sandbox::Given;
use coracle_spec::runtime::Mount;
use coracle_sys::mount::{self, Attributes, Depth, Parameter, Propagation};
use coracle_sys::process::{Namespaces, unshare};
use coracle_sys::rooted::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory of a container's bundle.
pub(super) struct Bundle {
    path: PathBuf,
    names: AtomicU32,
}

/// Opens the trees of the host that `mounts` show, where the host's mounts are: a tree that is opened later would not
/// have the propagation that it has there.
pub(super) fn open(mounts: &[Mount], given: &Given) -> Result<Vec<Option<OwnedFd>>> {
    mounts.iter().map(|mount| given.open_tree(mount)).collect()
}

/// That something could not be made at `path`.
pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::Child(format!("cannot make {}: {error}", path.display()))
}

impl Bundle {
    /// Moves this process into a mount namespace of its own, to which the host's mounts still come, and makes a bundle.
    pub(super) fn make(state_directory: &Path) -> Result<Self> {
        unshare(Namespaces::NEWNS)?;
        mount::propagate_all(Propagation::Slave)?;
        let path = state_directory.join("bundle");
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&path)(error)),
            _ => {}
        }
        let parameters = [("source", "coracle"), ("mode", "0700"), ("size", limits::FOREIGN_FILES)];
        let parameters = parameters.map(|(name, value)| Parameter::Value(name, value));
        let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
        let memory = mount::make("tmpfs", &parameters, attributes)?;
        mount::attach(memory.as_fd(), handle(&path)?.as_fd())?;
        Ok(Self { path, names: AtomicU32::new(0) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of its directory.
    pub(super) fn directory(&self) -> Result<OwnedFd> {
        handle(&self.path)
    }

    /// A path in it that nothing has yet.
    pub(super) fn name(&self, what: &str) -> PathBuf {
        self.path.join(format!("{what}-{}", self.names.fetch_add(1, Ordering::Relaxed)))
    }

    /// Attaches the container's layers.
    pub(super) fn attach_root(&self, root: &Root) -> Result<PathBuf> {
        let place = self.path.join("rootfs");
        fs::create_dir(&place).map_err(failed(&place))?;
        mount::attach(root.as_fd(), handle(&place)?.as_fd())?;
        Ok(place)
    }

    /// Attaches trees. Returns where each is.
    pub(super) fn attach(&self, trees: Vec<Option<OwnedFd>>) -> Result<Vec<Option<PathBuf>>> {
        let attach = |tree: OwnedFd| {
            let place = self.name("mount");
            let stat = rustix::fs::fstat(&tree).map_err(|error| failed(&place)(error.into()))?;
            let made = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                fs::create_dir(&place)
            } else {
                File::create(&place).map(drop)
            };
            made.map_err(failed(&place))?;
            mount::attach(tree.as_fd(), handle(&place)?.as_fd())?;
            Ok(place)
        };
        trees.into_iter().map(|tree| tree.map(attach).transpose()).collect()
    }

    /// Makes a copy of this program, which is the reaper of a container that wants one. It is the container's alone:
    /// whatever becomes of it there, nobody else runs it (CVE-2019-5736).
    pub(super) fn copy_init(&self) -> Result<PathBuf> {
        let place = self.path.join("init");
        fs::copy("/proc/self/exe", &place)
            .and_then(|_| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
            .map_err(failed(&place))?;
        Ok(place)
    }

    /// Writes a document.
    pub(super) fn write(&self, name: impl AsRef<Path>, document: &impl Serialize) -> Result<()> {
        let path = self.path.join(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed(&path))?;
        serde_json::to_writer(file, document).map_err(|error| failed(&path)(error.into()))
    }

    /// Lets go of the container's layers and of all else that is mounted. What the host has mounted in a tree that is shared
    /// with it stays there.
    pub(super) fn unmount(&self) -> Result<()> {
        let none = Attributes::empty();
        let own = handle(&self.path)?;
        mount::change(own.as_fd(), none, none, Some(Propagation::Private), Depth::Recursive)?;
        drop(own);
        unmount(&self.path, UnmountFlags::DETACH)
            .map_err(|error| Error::Child(format!("cannot unmount {}: {error}", self.path.display())))
    }
}

/// The end of what a runtime has written to a file, `bound` bytes at most. It is not waited for, whatever it has made there.
pub(super) fn end_of(path: &Path, bound: u64) -> io::Result<String> {
    let not_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(not_waiting).open(path)?;
    let length = file.metadata()?.len();
    if length > bound {
        file.seek(SeekFrom::Start(length - bound))?;
    }
    let mut bytes = Vec::new();
    file.take(bound).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A handle of what is at `path`, by which something is mounted on it.
fn handle(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::Child(format!("cannot open {}: {error}", path.display())))
}
