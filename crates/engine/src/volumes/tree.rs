//! The files of a volume, whose content belongs to containers: nothing is followed, no other mount entered.

use crate::limits;
use coracle_sys::error::{Context, Error};
use coracle_sys::{Result, tree};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes in the files below `top`, each hard-linked file counted once. What vanishes meanwhile is left out.
pub(super) fn size(top: BorrowedFd<'_>) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    add(top, 0, &mut seen, &mut total)?;
    Ok(total)
}

fn add(
    directory: BorrowedFd<'_>,
    depth: usize,
    seen: &mut HashSet<(u64, u64)>,
    total: &mut u64,
) -> Result<()> {
    check_depth(depth)?;
    for name in tree::names(directory)? {
        let Some(stat) = stat(directory, &name)? else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if let Some(child) = enter(directory, &name)? {
                    add(child.as_fd(), depth + 1, seen, total)?;
                }
            }
            FileType::RegularFile if stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)) => {
                *total = total.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Each level holds descriptors.
pub(super) fn check_depth(depth: usize) -> Result<()> {
    if depth < limits::VOLUME_DEPTH {
        return Ok(());
    }
    Err(Error::Unexpected {
        subject: "a tree of directories".to_owned(),
        expected: "within the depth allowed",
    })
}

/// What `name` is; `None` when it is gone.
pub(super) fn stat(directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        result => result.context("fstatat", name.to_string_lossy()).map(Some),
    }
}

/// Opens a directory; `None` when it is another mount, or no directory any more.
pub(super) fn enter(directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        result => result.context("openat2", name.to_string_lossy()).map(Some),
    }
}
