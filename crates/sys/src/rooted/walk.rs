//! The walk that creates what is missing, one component at a time on held descriptors.
//!
//! Each step is one name in one directory that is held open, never followed by the kernel, so an exchange of a
//! component for a link (CVE-2024-45310) changes which directory inside the root is reached and nothing else.
//! `..` returns to the descriptor that the walk came from, so a directory moved away leads nowhere new.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::limits;

/// Walks to the directory `path`, making what is missing with `mode`.
pub(super) fn directory(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd> {
    let mut walk = Walk::new(root, path)?;
    while let Some(name) = walk.todo.pop_front() {
        walk.step(&name, mode)?;
    }
    walk.finish()
}

/// Walks to the file `path`, making it and its parents (with `parents`) where missing.
pub(super) fn file(root: BorrowedFd<'_>, path: &Path, parents: Mode) -> Result<OwnedFd> {
    let mut walk = Walk::new(root, path)?;
    while let Some(name) = walk.todo.pop_front() {
        if !walk.todo.is_empty() || is_dots(&name) {
            walk.step(&name, parents)?;
        } else if let Some(file) = walk.last(&name)? {
            return Ok(file);
        }
    }
    Err(walk.unexpected("a file"))
}

/// Where a walk stands.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// The directories below the root that led here, innermost last.
    held: Vec<OwnedFd>,
    /// Components still to walk.
    todo: VecDeque<CString>,
    links: usize,
    path: &'a Path,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, path: &'a Path) -> Result<Self> {
        let mut walk = Self { root, held: Vec::new(), todo: VecDeque::new(), links: 0, path };
        walk.prepend(path.as_os_str().as_bytes())?;
        Ok(walk)
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.held.last().map_or(self.root, AsFd::as_fd)
    }

    /// Enters the directory `name`, or puts what a link of that name says in front of what is left.
    fn step(&mut self, name: &CString, mode: Mode) -> Result<()> {
        match name.as_bytes() {
            b"." => return Ok(()),
            b".." => {
                self.held.pop();
                return Ok(());
            }
            _ => {}
        }
        let found = self.open_or(name, |here| {
            rustix::fs::mkdirat(here, name.as_c_str(), mode).context("mkdirat", self.path.display())
        })?;
        match self.kind(&found)? {
            FileType::Directory => self.enter(found),
            FileType::Symlink => self.follow(&found),
            _ => Err(Errno::NOTDIR).context("open", self.path.display()),
        }
    }

    /// Opens or makes the last component as a file; `None` when it was a link, whose target is walked next.
    fn last(&mut self, name: &CString) -> Result<Option<OwnedFd>> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = self.open_or(name, |here| {
            rustix::fs::openat(here, name.as_c_str(), flags, Mode::from_raw_mode(0o644))
                .map(drop)
                .context("openat", self.path.display())
        })?;
        match self.kind(&found)? {
            FileType::Symlink => self.follow(&found).map(|()| None),
            FileType::Directory => Err(self.unexpected("a file")),
            _ => Ok(Some(found)),
        }
    }

    /// A handle of `name` in the current directory; where it is missing, `create` is asked to make it.
    fn open_or(&self, name: &CString, create: impl Fn(BorrowedFd<'_>) -> Result<()>) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..limits::RACE_RETRIES {
            match rustix::fs::openat(self.here(), name.as_c_str(), flags, Mode::empty()) {
                Ok(found) => return Ok(found),
                Err(Errno::NOENT) => match create(self.here()) {
                    // Somebody else was faster: look again at what is there now.
                    Err(error) if error.errno() == Some(Errno::EXIST) => {}
                    result => result?,
                },
                Err(errno) => return Err(errno).context("openat", self.path.display()),
            }
        }
        Err(Errno::AGAIN).context("openat", self.path.display())
    }

    fn enter(&mut self, directory: OwnedFd) -> Result<()> {
        if self.held.len() >= limits::WALK_DEPTH {
            return Err(Errno::NAMETOOLONG).context("open", self.path.display());
        }
        self.held.push(directory);
        Ok(())
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<()> {
        self.links += 1;
        if self.links > limits::SYMLINKS {
            return Err(Errno::LOOP).context("open", self.path.display());
        }
        let target =
            rustix::fs::readlinkat(link, c"", Vec::new()).context("readlinkat", self.path.display())?;
        if target.as_bytes().starts_with(b"/") {
            self.held.clear();
        }
        self.prepend(target.as_bytes())
    }

    fn prepend(&mut self, path: &[u8]) -> Result<()> {
        for component in path.split(|byte| *byte == b'/').rev().filter(|component| !component.is_empty()) {
            let name = CString::new(component).map_err(|_| self.unexpected("a path without NUL"))?;
            self.todo.push_front(name);
        }
        Ok(())
    }

    fn kind(&self, fd: &OwnedFd) -> Result<FileType> {
        let stat = rustix::fs::fstat(fd).context("fstat", self.path.display())?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    fn finish(mut self) -> Result<OwnedFd> {
        match self.held.pop() {
            Some(directory) => Ok(directory),
            None => self.root.try_clone_to_owned().context("dup", self.path.display()),
        }
    }

    fn unexpected(&self, expected: &'static str) -> Error {
        Error::Unexpected { subject: self.path.display().to_string(), expected }
    }
}

fn is_dots(name: &CString) -> bool {
    matches!(name.as_bytes(), b"." | b"..")
}
