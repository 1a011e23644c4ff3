//! What containers mount that no path names: a part of a volume, and an image.
//!
//! Both are opened anew at each start. What a volume holds is its containers': a part is found on a descriptor of the
//! volume and mounted by that, so that nobody can exchange it for something outside meanwhile (CVE-2017-1002101,
//! CVE-2021-30465). A link that leads out is refused.

use super::{Description, MountPoint};
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result};
use coracle_runtime::protocol::Role;
use coracle_spec::Digest;
use coracle_sys::mount::{self, Depth};
use coracle_sys::rooted::Root;
use coracle_sys::{mntns, netns};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An image that a container mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedImage {
    /// Its id.
    pub id: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Digest>,
}

impl MountPoint {
    /// Whether no path names what it shows.
    pub(super) fn is_tree(&self) -> bool {
        self.image.is_some() || !self.subpath.is_empty()
    }
}

/// The trees of a container, in the order of its mounts; `remapped` is the network namespace of one that has a user namespace.
pub(super) fn of(
    shared: &Shared,
    container: &Description,
    remapped: Option<BorrowedFd<'_>>,
) -> Result<Vec<(Role, OwnedFd)>> {
    let points = container.mounts.iter().filter(|point| point.is_tree());
    points.map(|point| Ok((Role::Tree, open(shared, point, remapped)?))).collect()
}

/// What a mount point shows, detached. The owners in images are shown as those of the user namespace that the network namespace
/// `remapped` belongs to, if one is given: a whole image cannot be mapped later, as the mount of a volume is.
///
/// # Errors
/// [`Error::Missing`] where it is not there, [`Error::Invalid`] where its path leads out of the volume or image: Docker's
/// words and status.
pub(super) fn open(shared: &Shared, point: &MountPoint, remapped: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let opening = || format!("open what is mounted at {}", point.destination);
    let Some(image) = &point.image else {
        let volume = Root::open(&point.source).attempt(opening)?;
        let part = part(&volume, point)?;
        return mount::copy_descriptor(part.as_fd(), Depth::Recursive).attempt(opening);
    };
    let user = remapped.map(netns::owner).transpose().attempt(opening)?;
    let whole = shared.store.merged(&image.layers, user.as_ref().map(AsFd::as_fd)).attempt(opening)?;
    if point.subpath.is_empty() {
        return Ok(whole.into_fd());
    }
    let part = part(&whole, point)?;
    // Only what is attached can be copied, open_tree(2) before Linux 6.15.
    let (copied, _namespace) = mntns::in_new(|| {
        let host = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        mount::attach(whole.as_fd(), host.as_fd()).map_err(std::io::Error::other)?;
        mount::copy_descriptor(part.as_fd(), Depth::One).map_err(std::io::Error::other)
    })
    .attempt(opening)?;
    copied.attempt(opening)
}

fn part(whole: &Root, point: &MountPoint) -> Result<OwnedFd> {
    let (base, subpath) = (&point.source, &point.subpath);
    whole.open_beneath(subpath).map_err(|error| match error.errno() {
        Some(Errno::XDEV) => Error::Invalid(format!(
            "path concatenation escapes the base directory, base: {base}, subpath: {subpath}"
        )),
        Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
            let reason = error.errno().map(|errno| errno.to_string()).unwrap_or_default();
            Error::Missing(format!("cannot access path {base}/{subpath}: {reason}"))
        }
        _ => Error::Failed { action: format!("open {subpath} in {base}"), source: Box::new(error) },
    })
}
