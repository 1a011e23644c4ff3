//! `docker cp`: paths of a container become archives, and archives files of a container.
//!
//! The container may run, and change its files meanwhile: a path is resolved once, inside the container's root, and what
//! is found is used by its descriptor. How the root comes to be is the engine's.

use std::ffi::{CStr, CString, OsStr};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_spec::Owners;
use coracle_sys::error::Context;
use coracle_sys::mount;
use coracle_sys::rooted::{Root, reopen};
use coracle_sys::userns;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::archive::Reader;
use crate::compression::{Bounded, decoder};
use crate::error::{Error, Result};
use crate::layer::apply::{Copying, Unpacker};
use crate::layer::spot::Target;
use crate::limits;
use crate::pack::{pack_directory, pack_empty, pack_file};

/// The files of a container, with everything that is mounted below its root.
#[derive(Debug)]
pub struct Tree {
    root: Root,
    /// File systems that are the kernel's rather than the container's, by device number.
    hidden: Vec<u64>,
    /// Who the container's users are here, if they are others.
    owners: Option<Owners>,
}

/// Something that was found at a path.
#[derive(Debug)]
pub struct Found {
    /// The directory that holds it; a directory that was named by a dot holds itself.
    parent: OwnedFd,
    name: CString,
    /// The directory itself, where it is one.
    directory: Option<OwnedFd>,
    /// What it is.
    pub stat: Stat,
}

/// What keeps files from being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The root is read-only.
    Root,
    /// What is mounted there is read-only, or the kernel's.
    Mount,
}

impl Found {
    /// The directory itself, where it is one.
    pub(crate) fn directory(&self) -> Option<&OwnedFd> {
        self.directory.as_ref()
    }

    /// The directory that holds it, and its name there.
    pub(crate) fn place(&self) -> (BorrowedFd<'_>, &CStr) {
        (self.parent.as_fd(), &self.name)
    }
}

impl Tree {
    /// The files below `root`. Nothing is seen of the file systems that are mounted at `hidden`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(root: Root, hidden: &[&str]) -> Result<Self> {
        let own = device(root.as_fd())?;
        let mut tree = Self { root, hidden: Vec::new(), owners: None };
        for path in hidden {
            match tree.root.open_directory_without_links(path) {
                Ok(found) => tree.hidden.push(device(found.as_fd())?),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tree.hidden.retain(|device| *device != own);
        Ok(tree)
    }

    /// The same of a container whose users are these others outside: `root` is as it sees it.
    #[must_use]
    pub fn of_others(self, owners: Option<Owners>) -> Self {
        Self { owners, ..self }
    }

    /// The root, through which everything else of the container is reached.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What is at `path`, as lstat(2) sees it: a link is found itself unless `path` ends in a slash or a dot. `None` when
    /// there is nothing.
    ///
    /// # Errors
    /// The kernel's (`ENOTDIR`, `ELOOP`).
    pub fn find(&self, path: &Path) -> Result<Option<Found>> {
        match self.locate(path) {
            // Where something of the kernel's is mounted, an empty directory is seen.
            Ok(found) if self.is_hidden(&found) && !self.is_top_of_hidden(&found)? => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_hidden(&self, found: &Found) -> bool {
        self.hidden.contains(&found.stat.st_dev)
    }

    fn is_top_of_hidden(&self, found: &Found) -> Result<bool> {
        let above = rustix::fs::statat(&found.parent, c"..", rustix::fs::AtFlags::empty());
        let parent = if found.name.as_bytes() == b"." {
            above.context("fstatat", "..")?
        } else {
            rustix::fs::fstat(&found.parent).context("fstat", "directory")?
        };
        Ok(parent.st_dev != found.stat.st_dev)
    }

    fn locate(&self, path: &Path) -> coracle_sys::Result<Found> {
        let text = path.as_os_str().as_bytes();
        let last = text.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let (parent, name) = match last {
            b"" | b"." | b".." => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                (self.root.open_file(path, flags, rustix::fs::Mode::empty())?, c".".to_owned())
            }
            _ => self.root.resolve_parent(path)?,
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&parent, name.as_c_str(), flags, rustix::fs::Mode::empty())
            .context("openat", path.display())?;
        let stat = rustix::fs::fstat(&handle).context("fstat", path.display())?;
        let directory = (FileType::from_raw_mode(stat.st_mode) == FileType::Directory).then_some(handle);
        Ok(Found { parent, name, directory, stat })
    }

    /// Writes an archive of what was found: a directory with everything below it, under the name `name`; anything else
    /// under its own.
    ///
    /// # Errors
    /// [`Error::Write`], and the kernel's.
    pub fn pack(&self, found: &Found, name: &OsStr, output: impl Write) -> Result<()> {
        let output = BufWriter::with_capacity(limits::CHUNK, output);
        let owners = self.owners.as_ref();
        match &found.directory {
            Some(directory) if self.is_hidden(found) => {
                pack_empty(directory.as_fd(), name.as_bytes(), owners, output)
            }
            Some(directory) => {
                let directory = reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
                pack_directory(directory.as_fd(), name.as_bytes(), (&self.hidden, owners), output)
            }
            None => pack_file(found.parent.as_fd(), &found.name, owners, output),
        }
    }

    /// Whether nothing can be written to what was found, and if so, whether the root's own mount is the reason.
    ///
    /// # Errors
    /// The kernel's.
    pub fn protection(&self, found: &Found) -> Result<Option<Protection>> {
        let here = found.directory.as_ref().unwrap_or(&found.parent).as_fd();
        if self.is_hidden(found) {
            return Ok(Some(Protection::Mount));
        }
        let flags = rustix::fs::fstatvfs(here).context("fstatvfs", "directory")?.f_flag;
        if !flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Ok(None);
        }
        let own = mount::id(self.root.as_fd(), c"")? == mount::id(here, c"")?;
        Ok(Some(if own { Protection::Root } else { Protection::Mount }))
    }

    /// Unpacks an archive, compressed or not, into the directory at `path`, which exists; links on the way to it and in it
    /// are followed inside the root.
    ///
    /// # Errors
    /// [`Error::Archive`] and [`Error::TooLarge`] when the archive is malformed or hostile, [`Error::Unpack`] when the
    /// container's files are in its way, [`Error::Stream`] when it breaks off. What was unpacked by then stays.
    pub fn unpack(&self, path: &Path, input: impl Read + Send, copying: Copying) -> Result<()> {
        // Where the owners of files are mapped, root of the host is nobody who could make one.
        match self.owners.as_ref().and_then(|owners| owners.outside((0, 0))) {
            Some(root) => userns::as_owner(root, || self.unpack_as_oneself(path, input, copying))?,
            None => self.unpack_as_oneself(path, input, copying),
        }
    }

    fn unpack_as_oneself(&self, path: &Path, input: impl Read + Send, copying: Copying) -> Result<()> {
        let path: PathBuf = self.root.evaluate(path)?;
        let target = Target {
            root: self.root.try_clone()?,
            directory: Root::from_fd(self.root.open_path(&path)?)?,
            path,
            hidden: self.hidden.clone(),
        };
        let count = AtomicU64::new(0);
        let counted = Counted { input, count: &count };
        let stream = |source| Error::Stream { what: "the archive", source };
        let (_, decoded) = decoder(counted).map_err(stream)?;
        let mut decoded = Bounded::new(decoded, &count);
        Unpacker::of_copy(target, copying, self.owners.clone()).run(&mut Reader::new(&mut decoded))?;
        // What stands behind the end of the archive; a stream that broke off shows here at last.
        io::copy(&mut decoded, &mut io::sink()).map_err(stream).map(drop)
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    input: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn device(fd: BorrowedFd<'_>) -> coracle_sys::Result<u64> {
    Ok(rustix::fs::fstat(fd).context("fstat", "root")?.st_dev)
}

fn is_missing(error: &coracle_sys::Error) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}
