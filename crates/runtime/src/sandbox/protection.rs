//! What of the assembled file system a container may not see or change: masked paths, protected paths, a read-only root.
//!
//! As in [`super::filesystem`], descriptors stay open until the program is executed.

use super::device;
use super::filesystem::Assembled;
use super::ground::Covered;
use crate::error::{Error, Result};
use coracle_sys::mount::{self, Attributes, Depth, FileSystem};
use coracle_sys::process::keep_until_exec;
use coracle_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// Hides and protects `covered`, as far as it is there.
pub(super) fn protect(covered: &Covered, assembled: &Assembled<'_>) -> Result<()> {
    for path in &covered.readonly {
        if let Some(target) = existing(&assembled.root, path)? {
            let copy = keep_until_exec(mount::copy_descriptor(target, Depth::Recursive)?);
            let read_only = Attributes::MOUNT_ATTR_RDONLY;
            mount::change(copy, read_only, Attributes::empty(), None, Depth::Recursive)?;
            mount::attach(copy, target)?;
        }
    }
    mask(assembled, &covered.masked)
}

/// Makes the root read-only.
pub(super) fn protect_root(root: &Root) -> Result<()> {
    let read_only = Attributes::MOUNT_ATTR_RDONLY;
    Ok(mount::change(root.as_fd(), read_only, Attributes::empty(), None, Depth::One)?)
}

/// Covers files with the null device and directories with an empty read-only one.
///
/// The null device is the host's, its number checked: a container's own could be a link to what must be hidden
/// (CVE-2025-31133).
fn mask(assembled: &Assembled<'_>, paths: &[String]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = host_null()?;
    if !device::is_null(null) {
        return Err(Error::Child("/dev/null is not the null device".to_owned()));
    }
    let options = ["nr_inodes=1".to_owned()];
    let read_only = Attributes::MOUNT_ATTR_RDONLY;
    let empty = FileSystem { kind: "tmpfs", source: "tmpfs", options: &options, attributes: read_only };
    for path in paths {
        let Some(target) = existing(&assembled.root, path)? else { continue };
        match assembled.targets.bind(null, target) {
            Err(error) if error.errno() == Some(Errno::NOTDIR) => assembled.targets.mount(&empty, target)?,
            covered => covered?,
        }
    }
    Ok(())
}

/// The file at `path` inside the root, or nothing when there is none.
fn existing(root: &Root, path: &str) -> Result<Option<BorrowedFd<'static>>> {
    match root.open_path(path) {
        Ok(found) => Ok(Some(keep_until_exec(found))),
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The host's null device, as the root is not changed yet.
fn host_null() -> Result<BorrowedFd<'static>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty())
        .map(keep_until_exec)
        .map_err(|error| Error::Child(format!("/dev/null: {error}")))
}
