//! Removal of a whole tree on descriptors, however deep, without leaving its mount; and where on the disk trees begin.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::limits;

/// Removes `name` in `parent` and all below it. Absent is no error; a symbolic link is removed, not followed.
///
/// Another mount below is never entered, since its content is not the tree's. Directories deeper than
/// [`limits::REMOVE_DEPTH`] are first moved to the top, so that neither stack nor descriptors grow with the depth.
///
/// # Errors
/// `EXDEV` at another mount, and the calls' own (`EPERM` for an immutable file).
pub fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    if unlink(parent, name)? {
        return Ok(());
    }
    let Some(top) = open_directory(parent, name)? else { return Ok(()) };
    let mut moved = 0;
    loop {
        let before = moved;
        empty(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What was moved up meanwhile is emptied in the next round.
            Err(Errno::NOTEMPTY) if moved > before => {}
            Err(errno) => return Err(errno).context("unlinkat", display(name)),
        }
    }
}

/// Says that what is made in `directory` are the tops of trees that have nothing to do with each other (`T`, chattr(1)): ext4
/// then begins each where the disk is emptiest, not beside its siblings. Without a journal it also passes over every inode
/// that was freed in the last minutes, one by one, wherever a tree has just been deleted, and a millisecond for each new
/// file adds up. File systems that know no such hint are left as they are.
///
/// # Errors
/// The calls' (`ioctl_iflags`), other than that the file system does not know it.
pub fn scatter(directory: BorrowedFd<'_>) -> Result<()> {
    let unknown = [Errno::NOTTY, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS];
    let set = rustix::fs::ioctl_getflags(directory).and_then(|flags| {
        if flags.contains(IFlags::TOPDIR) {
            return Ok(());
        }
        rustix::fs::ioctl_setflags(directory, flags | IFlags::TOPDIR)
    });
    match set {
        Err(errno) if !unknown.contains(&errno) => Err(errno).context("ioctl", "FS_IOC_SETFLAGS"),
        _ => Ok(()),
    }
}

/// Removes everything in `directory`, or moves what is too deep into `top`.
fn empty(top: BorrowedFd<'_>, directory: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> Result<()> {
    for name in names(directory)? {
        if unlink(directory, &name)? {
            continue;
        }
        if depth >= limits::REMOVE_DEPTH {
            move_up(top, directory, &name, moved)?;
            continue;
        }
        let Some(child) = open_directory(directory, &name)? else { continue };
        empty(top, child.as_fd(), depth + 1, moved)?;
        drop(child);
        match rustix::fs::unlinkat(directory, name.as_c_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).context("unlinkat", display(&name)),
        }
    }
    Ok(())
}

/// Unlinks what is no directory; `false` when it is one.
fn unlink(directory: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // POSIX allows EPERM for a directory; Linux says EISDIR, some of its file systems do not.
        Err(Errno::PERM) if is_directory(directory, name) => Ok(false),
        Err(errno) => Err(errno).context("unlinkat", display(name)),
    }
}

fn is_directory(directory: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Opens a directory of the same mount; `None` when it is gone.
fn open_directory(directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..limits::RACE_RETRIES {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
            Ok(fd) => return Ok(Some(fd)),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno).context("openat2", display(name)),
        }
    }
    Err(Errno::AGAIN).context("openat2", display(name))
}

fn move_up(top: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> Result<()> {
    loop {
        let target = CString::new(format!(".removing-{moved}")).expect("digits hold no NUL");
        *moved += 1;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(directory, name, top, target.as_c_str(), flags) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // The tree has a file of that name of its own.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context("renameat2", display(name)),
        }
    }
}

/// Every name in a directory but `.` and `..`.
///
/// # Errors
/// The calls' (`openat`, `getdents64`).
pub fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A descriptor of its own: reading moves the position, and the caller's may be an O_PATH handle.
    let listing = rustix::fs::openat(directory, c".", flags, Mode::empty()).context("openat", "directory")?;
    let mut names = Vec::new();
    for entry in Dir::new(listing).context("fstat", "directory")? {
        let entry = entry.context("getdents64", "directory")?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn display(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}
