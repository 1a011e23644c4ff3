//! Copies a tree with everything that an image can say of a file: owner, mode, times, links, devices, extended
//! attributes, holes. On held descriptors throughout; nothing is followed.

use super::tree::{check_depth, enter, stat};
use coracle_sys::error::{Context, Error};
use coracle_sys::{Result, tree as directories, xattr};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Copies everything below `source` into the empty directory `target`, which nobody else writes.
pub(super) fn tree(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    Copy { top: target, links: HashMap::new() }.directory(source, target, &mut Vec::new())
}

/// Gives `target` the owner, mode, extended attributes and times of `source`, both open directories or files.
pub(super) fn attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(source).context("fstat", "source")?;
    // The owner comes first: changing it clears setuid and capabilities.
    let (uid, gid) = owner(&stat);
    rustix::fs::fchown(target, Some(uid), Some(gid)).context("fchown", "copy")?;
    rustix::fs::fchmod(target, mode(&stat)).context("fchmod", "copy")?;
    extended_attributes(source, target)?;
    rustix::fs::futimens(target, &times(&stat)).context("futimens", "copy")
}

struct Copy<'a> {
    /// The directory that everything is copied into.
    top: BorrowedFd<'a>,
    /// Where each file with several names was copied first, below the top.
    links: HashMap<(u64, u64), CString>,
}

impl Copy<'_> {
    /// `path` is where `target` is, below the top.
    fn directory(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        path: &mut Vec<CString>,
    ) -> Result<()> {
        check_depth(path.len())?;
        for name in directories::names(source)? {
            let Some(found) = stat(source, &name)? else { continue };
            path.push(name.clone());
            self.entry(source, target, &name, &found, path)?;
            path.pop();
        }
        Ok(())
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CStr,
        found: &Stat,
        path: &mut Vec<CString>,
    ) -> Result<()> {
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Directory {
            let Some(child) = enter(source, name)? else { return Ok(()) };
            let made = make_directory(target, name)?;
            self.directory(child.as_fd(), made.as_fd(), path)?;
            // Last, as what is made inside changes the times.
            return attributes(child.as_fd(), made.as_fd());
        }
        if found.st_nlink > 1 {
            let first = (found.st_dev, found.st_ino);
            if let Some(first) = self.links.get(&first) {
                return rustix::fs::linkat(self.top, first.as_c_str(), target, name, AtFlags::empty())
                    .context("linkat", name.to_string_lossy());
            }
            self.links.insert(first, joined(path));
        }
        match kind {
            FileType::RegularFile => file(source, target, name),
            FileType::Symlink => symlink(source, target, name, found),
            _ => node(source, target, name, found, kind),
        }
    }
}

fn make_directory(target: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let shown = name.to_string_lossy();
    rustix::fs::mkdirat(target, name, Mode::RWXU).context("mkdirat", &shown)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(target, name, flags, Mode::empty()).context("openat", shown)
}

fn file(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let shown = name.to_string_lossy();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut from =
        File::from(rustix::fs::openat(source, name, flags, Mode::empty()).context("openat", &shown)?);
    let stat = rustix::fs::fstat(&from).context("fstat", &shown)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::Unexpected { subject: shown.into_owned(), expected: "a regular file any more" });
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR).context("openat", &shown)?;
    let mut to = File::from(made);
    content(&mut from, &mut to, u64::try_from(stat.st_size).unwrap_or(0)).context("copy", shown)?;
    attributes(from.as_fd(), to.as_fd())
}

/// Copies the data and leaves the holes, so that a small layer does not become a large volume.
fn content(from: &mut File, to: &mut File, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&*from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(&*from, SeekFrom::Hole(start))?;
        from.seek(io::SeekFrom::Start(start))?;
        to.seek(io::SeekFrom::Start(start))?;
        // copy_file_range(2) where the file systems know it.
        if io::copy(&mut (&*from).take(end - start), to)? == 0 {
            break;
        }
        at = end;
    }
    to.set_len(size)?;
    to.flush()
}

fn symlink(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let shown = name.to_string_lossy();
    let leads_to = rustix::fs::readlinkat(source, name, Vec::new()).context("readlinkat", &shown)?;
    rustix::fs::symlinkat(leads_to.as_c_str(), target, name).context("symlinkat", shown)?;
    attributes_by_name(target, name, stat)
}

fn node(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    kind: FileType,
) -> Result<()> {
    let shown = name.to_string_lossy();
    rustix::fs::mknodat(target, name, kind, mode(stat), stat.st_rdev).context("mknodat", &shown)?;
    attributes_by_name(target, name, stat)?;
    // Just made in a directory that nobody else writes, so it is no link.
    rustix::fs::chmodat(target, name, mode(stat), AtFlags::empty()).context("fchmodat", &shown)?;
    let handle = |directory: BorrowedFd<'_>| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(directory, name, flags, Mode::empty()).context("openat", &shown)
    };
    extended_attributes(handle(source)?.as_fd(), handle(target)?.as_fd())?;
    rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).context("utimensat", shown)
}

fn attributes_by_name(target: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let shown = name.to_string_lossy();
    let (uid, gid) = owner(stat);
    rustix::fs::chownat(target, name, Some(uid), Some(gid), nofollow).context("fchownat", &shown)?;
    rustix::fs::utimensat(target, name, &times(stat), nofollow).context("utimensat", shown)
}

fn extended_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    for name in xattr::names(source)?.into_iter().filter(|name| is_content(name.to_bytes())) {
        if let Some(value) = xattr::get(source, &name)? {
            xattr::set(target, &name, &value)?;
        }
    }
    Ok(())
}

/// Labels and signatures (`security.selinux`, `security.ima`) are this machine's, not the image's.
fn is_content(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user."),
    }
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn joined(path: &[CString]) -> CString {
    let parts: Vec<&[u8]> = path.iter().map(|part| part.to_bytes()).collect();
    CString::new(parts.join(&b'/')).expect("no part has a NUL")
}
