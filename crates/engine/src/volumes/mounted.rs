//! Volumes that are another file system, or a directory of the host, while somebody uses them.
//!
//! Each is mounted as the root of a mount namespace of its own, which nothing but descriptors keeps: the host's table of mounts
//! has nothing of it. The engine holds one as long as a container runs that has the volume, and so does the container's
//! shim, from which an engine that is started again gets it. Containers have copies of the mount, so that all of them share
//! one file system, and the kernel unmounts it after the last.

use super::mounting::Mounting;
use super::{Entry, Inner, Volumes};
use crate::error::{Attempt, Result};
use coracle_sys::error::Context;
use coracle_sys::mntns;
use coracle_sys::mount::{self, Attributes, Depth, Flags};
use rustix::fs::{Mode, OFlags};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

/// A volume's file system. Letting go of the last may unmount it, which blocks.
#[derive(Debug)]
pub(crate) struct Mounted {
    namespace: OwnedFd,
}

impl Mounted {
    /// Works on the volume, which is the root meanwhile.
    ///
    /// # Errors
    /// When the thread or the way there cannot be made.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> coracle_sys::Result<T> {
        mntns::inside(self.namespace.as_fd(), work)
    }

    /// The namespace, which keeps the file system.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    fn mount(mounting: &Mounting, place: &Path) -> coracle_sys::Result<Self> {
        let bound = mounting.is_bind().then(|| bind(mounting)).transpose()?;
        let (mounted, namespace) = mntns::in_new(|| {
            let root = match bound {
                Some(root) => {
                    mount::attach(root.as_fd(), open(Path::new("/"))?.as_fd())?;
                    root
                }
                None => {
                    mount::mount_on(place, &mounting.device, &mounting.kind, mounting.flags, &mounting.data)?;
                    open(place)?
                }
            };
            // Lets go of the host's mounts, which could not be unmounted otherwise.
            mount::pivot(root.as_fd(), 0)
        })?;
        mounted?;
        Ok(Self { namespace })
    }
}

/// A directory of the host as it is to be shown.
fn bind(mounting: &Mounting) -> coracle_sys::Result<OwnedFd> {
    // A mount of something else than a directory would be no volume.
    open(Path::new(&mounting.device))?;
    let depth = if mounting.flags.contains(Flags::REC) { Depth::Recursive } else { Depth::One };
    let copy = mount::copy_path(Path::new(&mounting.device), depth)?;
    let attributes = [
        (Flags::RDONLY, Attributes::MOUNT_ATTR_RDONLY),
        (Flags::NOSUID, Attributes::MOUNT_ATTR_NOSUID),
        (Flags::NODEV, Attributes::MOUNT_ATTR_NODEV),
        (Flags::NOEXEC, Attributes::MOUNT_ATTR_NOEXEC),
    ];
    let asked = attributes.iter().filter(|(flag, _)| mounting.flags.contains(*flag));
    let set = asked.fold(Attributes::empty(), |set, (_, attribute)| set | *attribute);
    if !set.is_empty() {
        mount::change(copy.as_fd(), set, Attributes::empty(), None, Depth::One)?;
    }
    Ok(copy)
}

fn open(path: &Path) -> coracle_sys::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("open", path.display())
}

impl Volumes {
    /// The file system of a volume, which is mounted if nobody uses it yet; nothing for one that is a directory. Blocks.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); in Docker's words when it cannot be mounted.
    pub(crate) fn mount(&self, name: &str) -> Result<Option<Arc<Mounted>>> {
        self.0.mount(&self.0.entry(name)?)
    }

    /// Takes over the file system that a container of an earlier engine has of a volume. The first that is found counts.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub(crate) fn adopt(&self, name: &str, namespace: OwnedFd) -> Result<Arc<Mounted>> {
        let entry = self.0.entry(name)?;
        let mut known = lock(&entry);
        if let Some(mounted) = known.upgrade() {
            return Ok(mounted);
        }
        let mounted = Arc::new(Mounted { namespace });
        *known = Arc::downgrade(&mounted);
        Ok(mounted)
    }
}

impl Inner {
    pub(super) fn mount(&self, entry: &Entry) -> Result<Option<Arc<Mounted>>> {
        let Some(mounting) = Mounting::of(&entry.volume.options).ok().flatten() else { return Ok(None) };
        // Held while it is mounted: whoever else needs it meanwhile shares it.
        let mut known = lock(entry);
        if let Some(mounted) = known.upgrade() {
            return Ok(Some(mounted));
        }
        let place = &entry.volume.mountpoint;
        let failed = |what: &str| {
            format!("error while mounting volume '{}': failed to mount local volume: {what}", place.display())
        };
        let resolved =
            resolved(&mounting).attempt(|| failed("error resolving passed in network volume address"))?;
        let mounted = Mounted::mount(&resolved, place).attempt(|| {
            let data = Some(resolved.shown()).filter(|data| !data.is_empty());
            let data = data.map(|data| format!(", data: {data}")).unwrap_or_default();
            failed(&format!("mount {}:{}{data}", resolved.device, place.display()))
        })?;
        let mounted = Arc::new(mounted);
        *known = Arc::downgrade(&mounted);
        Ok(Some(mounted))
    }
}

fn lock(entry: &Entry) -> MutexGuard<'_, Weak<Mounted>> {
    entry.mounted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be mounted, its machine by address.
fn resolved(mounting: &Mounting) -> std::io::Result<Mounting> {
    let Some(host) = mounting.host() else { return Ok(mounting.clone()) };
    let address = (host, 0).to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    Ok(mounting.at(address.ip()))
}
