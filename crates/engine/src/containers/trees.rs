//! What containers mount that no path names: a part of a volume, a volume that is a file system of its own, and an image.
//!
//! Both are opened anew at each start. What a volume holds is its containers': a part is found on a descriptor of the
//! volume and mounted by that, so that nobody can exchange it for something outside meanwhile (CVE-2017-1002101,
//! CVE-2021-30465). A link that leads out is refused.

use super::{Description, MountPoint};
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::shim::Shim;
use crate::volumes::{Backing, Mounted};
use coracle_runtime::protocol::{Request, Role};
use coracle_spec::Digest;
use coracle_sys::mount::{self, Depth};
use coracle_sys::rooted::Root;
use coracle_sys::{mntns, netns};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

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
        self.image.is_some() || !self.subpath.is_empty() || self.is_mounted_volume()
    }

    /// Whether it is a volume that is mounted while it is used.
    pub(super) fn is_mounted_volume(&self) -> bool {
        self.kind == "volume" && self.backing != Backing::Directory
    }
}

/// Volumes that are mounted for a container, as long as this is kept. Dropping it may unmount them, which blocks.
pub(super) type Volumes = Vec<Arc<Mounted>>;

/// Lets go of what may be the last hold of volumes. Most containers have none, and wait for no thread.
pub(super) async fn let_go(volumes: Volumes) {
    if !volumes.is_empty() {
        // A panic there would be told by itself.
        let _ = blocking(move || drop(volumes)).await;
    }
}

/// What a container mounts.
pub(super) struct Opened {
    /// It, detached.
    pub(super) tree: OwnedFd,
    /// The volume that it is of, if that is mounted.
    pub(super) volume: Option<Arc<Mounted>>,
}

/// The trees of a container in the order of its mounts, and the volumes that are mounted for it, which go with the plan as
/// well; `remapped` is the network namespace of one that has a user namespace.
pub(super) fn of(
    shared: &Shared,
    container: &Description,
    remapped: Option<BorrowedFd<'_>>,
) -> Result<(Vec<(Role, OwnedFd)>, Volumes)> {
    let (mut trees, mut volumes) = (Vec::new(), Vec::new());
    for point in container.mounts.iter().filter(|point| point.is_tree()) {
        let Opened { tree, volume } = open(shared, point, remapped)?;
        trees.push((Role::Tree, tree));
        volumes.extend(volume);
    }
    for volume in &volumes {
        let kept =
            volume.as_fd().try_clone_to_owned().attempt(|| "duplicate a volume's namespace".to_owned())?;
        trees.push((Role::Volume, kept));
    }
    Ok((trees, volumes))
}

/// The volumes that are mounted for a container which runs, from its shim: an earlier engine has started it.
pub(super) async fn found_again(shared: &Shared, container: &Description, shim: &Shim) -> Volumes {
    let mut volumes = Vec::new();
    let points = container.mounts.iter().filter(|point| point.is_mounted_volume());
    for (number, point) in points.enumerate() {
        let found = match shim.ask(&Request::Volume { number }, &[]).await {
            Ok((_, mut descriptors)) => descriptors
                .pop()
                .ok_or_else(|| Error::Conflict("the shim sent no volume".to_owned()))
                .and_then(|namespace| shared.volumes.adopt(&point.name, namespace)),
            Err(error) => Err(error),
        };
        match found {
            Ok(volume) => volumes.push(volume),
            Err(error) => tracing::error!(
                container = %container.id, volume = point.name, error = error.chain(),
                "a volume of it could not be found again; other containers may not share it"
            ),
        }
    }
    volumes
}

/// What a mount point shows, detached. The owners in images are shown as those of the user namespace that the network namespace
/// `remapped` belongs to, if one is given: a whole image cannot be mapped later, as the mount of a volume is.
///
/// # Errors
/// [`Error::Missing`] where it is not there, [`Error::Invalid`] where its path leads out of the volume or image: Docker's
/// words and status.
pub(super) fn open(shared: &Shared, point: &MountPoint, remapped: Option<BorrowedFd<'_>>) -> Result<Opened> {
    if let Some(image) = &point.image {
        return Ok(Opened { tree: of_image(shared, point, image, remapped)?, volume: None });
    }
    let mounted = if point.is_mounted_volume() { shared.volumes.mount(&point.name)? } else { None };
    let Some(volume) = mounted else {
        return Ok(Opened { tree: of_volume(&point.source, point)?, volume: None });
    };
    let entering = || format!("enter volume {}", point.name);
    let tree = volume.inside(|| of_volume("/", point)).attempt(entering)??;
    Ok(Opened { tree, volume: Some(volume) })
}

fn opening(point: &MountPoint) -> String {
    format!("open what is mounted at {}", point.destination)
}

/// What is mounted of the volume at `path`.
fn of_volume(path: &str, point: &MountPoint) -> Result<OwnedFd> {
    let volume = Root::open(path).attempt(|| opening(point))?;
    let part = if point.subpath.is_empty() { None } else { Some(part(&volume, point)?) };
    let shown = part.as_ref().map_or_else(|| volume.as_fd(), AsFd::as_fd);
    mount::copy_descriptor(shown, Depth::Recursive).attempt(|| opening(point))
}

fn of_image(
    shared: &Shared,
    point: &MountPoint,
    image: &MountedImage,
    remapped: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd> {
    let opening = || opening(point);
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
