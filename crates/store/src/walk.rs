//! Walks a tree on descriptors, in an order that depends on names only.
//!
//! The tree may belong to a running container: nothing is followed, what vanishes meanwhile is left out, and other
//! mounts are entered only where they are wanted.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::error::Context;
use coracle_sys::mount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::limits;

/// Something found on a walk.
pub(crate) struct Node<'a> {
    /// The directory that holds it.
    pub(crate) parent: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    /// Relative to the top.
    pub(crate) path: &'a [u8],
    /// 0 directly below the top.
    pub(crate) depth: usize,
    pub(crate) stat: Stat,
    /// A directory, opened; `None` for a directory on a mount that is not entered.
    pub(crate) directory: Option<BorrowedFd<'a>>,
}

impl Node<'_> {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

struct Level {
    directory: OwnedFd,
    names: std::vec::IntoIter<CString>,
    /// Length of the path of this directory.
    path: usize,
}

/// Which mounts below the top are entered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mounts<'a> {
    None,
    /// All but those of these file systems, by device number.
    AllBut(&'a [u64]),
}

/// Visits everything below `top` on its mount, each directory before what it holds, names in the order of their bytes.
pub(crate) fn walk(top: BorrowedFd<'_>, visit: &mut dyn FnMut(&Node<'_>) -> Result<()>) -> Result<()> {
    walk_across(top, Mounts::None, visit)
}

/// The same, on other mounts too.
pub(crate) fn walk_across(
    top: BorrowedFd<'_>,
    mounts: Mounts<'_>,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<()>,
) -> Result<()> {
    let mut path = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(top, c".", flags, Mode::empty()).context("openat", "tree")?;
    let mut levels = vec![Level { names: sorted(directory.as_fd())?, directory, path: 0 }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path);
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        if level.path > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        let depth = levels.len() - 1;
        let parent = levels[depth].directory.as_fd();
        let Some(stat) = stat(parent, &name)? else { continue };
        let mut directory = None;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            directory = match open_across(parent, &name, mounts)? {
                Opened::Here(fd) => Some(fd),
                Opened::Elsewhere => None,
                Opened::Gone => continue,
            };
        }
        let opened = directory.as_ref().map(AsFd::as_fd);
        visit(&Node { parent, name: &name, path: &path, depth, stat, directory: opened })?;
        if let Some(directory) = directory {
            if levels.len() >= limits::DEPTH {
                return Err(Error::TooLarge { what: "depth of a tree", limit: limits::DEPTH as u64 });
            }
            levels.push(Level { names: sorted(directory.as_fd())?, directory, path: path.len() });
        }
    }
    Ok(())
}

/// Whether something is mounted on anything below `top`.
pub(crate) fn holds_mount(top: BorrowedFd<'_>) -> Result<bool> {
    let own = mount::id(top, c"")?;
    let mut found = false;
    walk(top, &mut |node| {
        found |= mount::id(node.parent, node.name).is_ok_and(|id| id != own);
        Ok(())
    })?;
    Ok(found)
}

/// Bytes in the files below `top`, each hard-linked file counted once.
pub(crate) fn size(top: BorrowedFd<'_>) -> Result<u64> {
    let mut total = 0_u64;
    let mut seen = HashSet::new();
    walk(top, &mut |node| {
        let linked = node.stat.st_nlink > 1;
        if node.kind() == FileType::RegularFile
            && (!linked || seen.insert((node.stat.st_dev, node.stat.st_ino)))
        {
            total = total.saturating_add(u64::try_from(node.stat.st_size).unwrap_or(0));
        }
        Ok(())
    })?;
    Ok(total)
}

/// What `name` is; `None` when it is gone.
pub(crate) fn stat(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno).context("fstatat", name.to_string_lossy()).map_err(Error::from),
    }
}

/// How opening a directory went.
pub(crate) enum Opened {
    Here(OwnedFd),
    /// It is another mount.
    Elsewhere,
    /// It is no directory any more.
    Gone,
}

/// Opens the directory `name`, of the same mount, without following a link.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<Opened> {
    open(parent, name, ResolveFlags::NO_XDEV)
}

fn open_across(parent: BorrowedFd<'_>, name: &CStr, mounts: Mounts<'_>) -> Result<Opened> {
    let Mounts::AllBut(hidden) = mounts else { return open_directory(parent, name) };
    let opened = open(parent, name, ResolveFlags::empty())?;
    if let Opened::Here(directory) = &opened {
        let stat = rustix::fs::fstat(directory).context("fstat", name.to_string_lossy())?;
        if hidden.contains(&stat.st_dev) {
            return Ok(Opened::Elsewhere);
        }
    }
    Ok(opened)
}

fn open(parent: BorrowedFd<'_>, name: &CStr, more: ResolveFlags) -> Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | more;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(Opened::Here(fd)),
        Err(Errno::XDEV) => Ok(Opened::Elsewhere),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Opened::Gone),
        Err(errno) => Err(errno).context("openat2", name.to_string_lossy()).map_err(Error::from),
    }
}

fn sorted(directory: BorrowedFd<'_>) -> Result<std::vec::IntoIter<CString>> {
    let mut names = coracle_sys::tree::names(directory)?;
    names.sort();
    Ok(names.into_iter())
}
