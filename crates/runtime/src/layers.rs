//! The layers of a container as one file system.
//!
//! With a user namespace every layer, the one to write included, is an idmapped mount of its own, in which the owners on the disk are
//! shown as who they are outside. The overlay works in the name of the namespace's root: to files it makes itself, its work
//! directory first, the host's root would be nobody, and the kernel would make it read-only without a word. So the disk has the ids
//! that the container knows, layers are shared with every other container, and nothing is ever given to other owners.

use crate::error::{Error, Result};
use crate::protocol::Overlay;
use coracle_spec::Owners;
use coracle_sys::mount::{self, Durability, Writable};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Names the layers, for a container in this user namespace whose users are these outside, if it has one.
///
/// # Errors
/// [`Error::Invalid`] for layers that are not there; `EINVAL` for a file system whose owners cannot be shown as others.
pub fn overlay(layers: &Overlay, mapping: Option<(BorrowedFd<'_>, &Owners)>) -> Result<mount::Overlay> {
    if layers.volatile {
        forget_earlier_mount(open(&layers.work)?.as_fd());
    }
    let durability = if layers.volatile { Durability::Volatile } else { Durability::Durable };
    let of = |lower: &[OwnedFd], upper: &OwnedFd, work: &OwnedFd| {
        let writable = Writable { upper: upper.as_fd(), work: work.as_fd(), durability };
        mount::Overlay::new(lower, Some(writable))
    };
    let Some((user, owners)) = mapping else {
        let lower = layers.lower.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
        return Ok(of(&lower, &open(&layers.upper)?, &open(&layers.work)?)?);
    };
    let as_theirs = |path: &Path| mount::copy_mapped(path, user);
    let mut lower =
        layers.lower.iter().map(|path| as_theirs(path)).collect::<coracle_sys::Result<Vec<_>>>()?;
    // The kernel takes both from one mount alone.
    let (above, upper, work) = same_directory(layers)?;
    let above = as_theirs(above)?;
    let beneath = |name: &OsStr| {
        rustix::fs::openat(&above, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Error::Invalid(format!("layer {}: {error}", layers.upper.display())))
    };
    let nobody = || Error::Invalid("the user namespace has no root".to_owned());
    let root = owners.outside((0, 0)).ok_or_else(nobody)?;
    let overlay = of(&lower, &beneath(upper)?, &beneath(work)?)?;
    lower.push(above);
    Ok(overlay.of_mapped(lower, root))
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::Invalid(format!("layer {}: {error}", path.display())))
}

/// The directory that both the upper directory and the work directory are in, and their names there.
fn same_directory(layers: &Overlay) -> Result<(&Path, &OsStr, &OsStr)> {
    let place = |path| Some((Path::parent(path)?, Path::file_name(path)?));
    match (place(&layers.upper), place(&layers.work)) {
        (Some((above, upper)), Some((other, work))) if above == other => Ok((above, upper, work)),
        _ => Err(Error::Invalid(
            "the layer to write and its work directory are not in one directory".to_owned(),
        )),
    }
}

/// Removes the mark by which the kernel refuses what was mounted volatile before, which might lack writes after a loss of
/// power (Documentation/filesystems/overlayfs.rst, "Volatile mount"): such a container is removed by then.
fn forget_earlier_mount(work: BorrowedFd<'_>) {
    if rustix::fs::unlinkat(work, "work/incompat/volatile/dirty", AtFlags::empty()).is_err() {
        // There was no earlier mount.
        return;
    }
    for directory in ["work/incompat/volatile", "work/incompat"] {
        // What is left is told by the mount that fails.
        let _ = rustix::fs::unlinkat(work, directory, AtFlags::REMOVEDIR);
    }
}
