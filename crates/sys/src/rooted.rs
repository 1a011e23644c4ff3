//! Paths resolved below a directory that somebody else controls.
//!
//! A container's root, or a directory being unpacked, belongs to an attacker: any component can be a symbolic link,
//! and can turn into one between two calls. [`Root`] holds a descriptor of the top and hands out descriptors of what
//! lies below; callers act on those and never resolve the path again. Symbolic links are followed as a process that is
//! chrooted there would follow them. Removal of whole trees is in [`crate::tree`].
//!
//! Mechanism: openat2(2) with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS` where nothing is created; where components
//! may be created, a walk of one component at a time on held descriptors, which has no path to re-resolve.

use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::limits;

mod evaluate;
mod walk;

/// Mode of parents that [`Root::create_file`] makes, before the umask.
const PARENT_MODE: Mode = Mode::from_raw_mode(0o755);

/// The top of a tree whose content is hostile.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// Proves now that `/proc` is procfs, through which handles become files, for a process whose time is better spent now than
/// later.
///
/// # Errors
/// [`Error::Unexpected`] when it is not, and the calls' own.
pub fn prove_procfs() -> Result<()> {
    crate::proc::procfs().map(|_| ())
}

impl Root {
    /// Opens the directory `path`, which is the host's and trusted; what lies below it is not.
    ///
    /// # Errors
    /// The call's, when `path` is no directory or cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).context("open", path.display())?;
        Ok(Self { fd })
    }

    /// Takes the descriptor of a directory, such as a detached mount.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when it is not a directory.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let stat = rustix::fs::fstat(&fd).context("fstat", "root")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Error::Unexpected { subject: "root".to_owned(), expected: "a directory" });
        }
        Ok(Self { fd })
    }

    /// Takes a mount that was made by [`crate::mount`], whose root is a directory.
    pub fn of_mount(mount: OwnedFd) -> Self {
        Self { fd: mount }
    }

    /// A second handle of the same directory.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { fd: self.fd.try_clone().context("dup", "root")? })
    }

    /// Gives up the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens `path`, following symbolic links inside the root. `mode` counts only where `flags` create a file.
    ///
    /// The caller decides what an open may do: a FIFO blocks without `NONBLOCK`, and opening a device acts on it.
    /// [`Root::open_path`] opens anything without side effects; [`Root::read_bounded`] reads a file.
    ///
    /// # Errors
    /// The call's (`openat2`).
    pub fn open_file(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(self.as_fd(), path.as_ref(), flags, mode, resolve)
    }

    /// A handle (`O_PATH`) of whatever `path` leads to, following symbolic links inside the root.
    ///
    /// # Errors
    /// The call's (`openat2`).
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open_file(path, OFlags::PATH, Mode::empty())
    }

    /// A handle (`O_PATH`) of `path` itself, which may be a symbolic link; links on the way are followed in the root.
    ///
    /// # Errors
    /// The call's (`openat2`).
    pub fn open_link(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open_file(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Opens `path`, refusing any symbolic link, `..` above the root and other mounts.
    ///
    /// # Errors
    /// `ELOOP` for a symbolic link, `EXDEV` for an absolute path, an escape or another mount.
    pub fn open_beneath_no_symlinks(
        &self,
        path: impl AsRef<Path>,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        openat2(self.as_fd(), path.as_ref(), flags | OFlags::NOFOLLOW, mode, resolve)
    }

    /// A handle (`O_PATH`) of what `path` leads to, refusing whatever leads out of the root: `..` and symbolic links above it,
    /// and absolute links, which [`Root::open_path`] would follow inside.
    ///
    /// # Errors
    /// `EXDEV` for an absolute path or an escape, and the call's others (`openat2`).
    pub fn open_beneath(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(self.as_fd(), path.as_ref(), OFlags::PATH, Mode::empty(), resolve)
    }

    /// A handle (`O_PATH`) of the directory `path`, refusing any symbolic link and `..` above the root; other mounts are
    /// entered.
    ///
    /// # Errors
    /// `ELOOP` for a symbolic link, `EXDEV` for an absolute path or an escape.
    pub fn open_directory_without_links(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        openat2(self.as_fd(), path.as_ref(), flags, Mode::empty(), resolve)
    }

    /// Where `path` leads inside the root, as an absolute path without links; what does not exist stays as it is written.
    /// Only text: who wants what is there opens it.
    ///
    /// # Errors
    /// `ELOOP` beyond [`limits::SYMLINKS`], `ENAMETOOLONG`, and the calls' own.
    pub fn evaluate(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        evaluate::evaluate(self, path.as_ref())
    }

    /// Opens `path` as [`Root::open_file`] does, as long as no step leads from the mount that the root is on to another.
    ///
    /// # Errors
    /// `EXDEV` where one does, and the call's others (`openat2`).
    pub fn open_on_same_mount(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        openat2(self.as_fd(), path.as_ref(), flags, Mode::empty(), resolve)
    }

    /// Makes the directory `path` and its missing parents, and returns a handle (`O_PATH`) of it.
    ///
    /// Symbolic links are followed inside the root, dangling ones too: their targets are made. What exists keeps its
    /// mode; what is made gets `mode` less the umask.
    ///
    /// # Errors
    /// `ENOTDIR` when a component is something else, `ELOOP` beyond [`limits::SYMLINKS`], and the calls' own.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        match self.open_file(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Ok(found) => Ok(found),
            // Something is missing, or is what only the walk can tell.
            Err(_) => walk::directory(self.as_fd(), path, mode),
        }
    }

    /// Makes an empty regular file at `path` unless something other than a directory is there, with missing parents,
    /// and returns a handle (`O_PATH`) of what is there: the target of a bind mount of a file.
    ///
    /// Symbolic links are followed inside the root, dangling ones too. A new file has mode 0644 less the umask.
    ///
    /// # Errors
    /// [`Error::Unexpected`] for a directory, and as [`Root::create_dir_all`].
    pub fn create_file(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let path = path.as_ref();
        if let Ok(found) = self.open_path(path) {
            let stat = rustix::fs::fstat(&found).context("fstat", path.display())?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Ok(found);
            }
        }
        walk::file(self.as_fd(), path, PARENT_MODE)
    }

    /// The directory that holds `path`, and the last name, which is not looked at: what unlinkat, renameat, mknodat
    /// and symlinkat take. The name never is empty, `.` or `..`, and has no slash.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when the path ends in no name (`/`, `..`), and the call's when the parent is missing.
    pub fn resolve_parent(&self, path: impl AsRef<Path>) -> Result<(OwnedFd, CString)> {
        let path = path.as_ref();
        let (parent, name) = split_last(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open_file(parent, flags, Mode::empty())?, name))
    }

    /// As [`Root::resolve_parent`], making missing parents with `mode`.
    ///
    /// # Errors
    /// As [`Root::resolve_parent`] and [`Root::create_dir_all`].
    pub fn create_parent(&self, path: impl AsRef<Path>, mode: Mode) -> Result<(OwnedFd, CString)> {
        let (parent, name) = split_last(path.as_ref())?;
        Ok((self.create_dir_all(parent, mode)?, name))
    }

    /// The content of the regular file at `path`, of at most `max` bytes; links are followed inside the root.
    ///
    /// Files such as `/etc/passwd` of an image: a FIFO would block (CVE-2024-9676), a device would act, and an endless
    /// file would fill the memory (CVE-2026-47262), so the type is checked on a handle before anything is opened.
    ///
    /// # Errors
    /// [`Error::Unexpected`] for another type or a longer file, and the calls' own (`ENOENT` when it is missing).
    pub fn read_bounded(&self, path: impl AsRef<Path>, max: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let handle = self.open_path(path)?;
        let stat = rustix::fs::fstat(&handle).context("fstat", path.display())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Unexpected {
                subject: path.display().to_string(),
                expected: "a regular file",
            });
        }
        let file = std::fs::File::from(reopen(&handle, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
        let size = u64::try_from(stat.st_size).unwrap_or(0).min(max);
        let content = read_sized(file, size, max).context("read", path.display())?;
        if content.len() as u64 > max {
            return Err(Error::Unexpected {
                subject: path.display().to_string(),
                expected: "within the size allowed",
            });
        }
        Ok(content)
    }

    /// What `path` leads to, symbolic links followed inside the root.
    ///
    /// # Errors
    /// The calls' (`openat2`, `fstat`).
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        rustix::fs::fstat(self.open_path(path)?).context("fstat", path.display())
    }

    /// What `path` itself is, which may be a symbolic link.
    ///
    /// # Errors
    /// The calls' (`openat2`, `fstat`).
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        rustix::fs::fstat(self.open_link(path)?).context("fstat", path.display())
    }

    /// Removes what is at `path` and everything below it; a symbolic link is removed itself. Absent is no error.
    ///
    /// # Errors
    /// `EXDEV` when something is mounted below, and the calls' own.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> Result<()> {
        match self.resolve_parent(path) {
            Ok((parent, name)) => crate::tree::remove(parent.as_fd(), &name),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens what an `O_PATH` handle stands for, without resolving its path again.
///
/// Goes through `/proc/self/fd` of a procfs that was proved to be one, whatever is mounted over it.
///
/// # Errors
/// [`Error::Unexpected`] when `/proc` is no procfs, and the calls' own.
pub fn reopen(handle: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    let path = format!("self/fd/{}", handle.as_fd().as_raw_fd());
    rustix::fs::openat(crate::proc::procfs()?, path, flags | OFlags::CLOEXEC, Mode::empty())
        .context("openat", "/proc/self/fd")
}

/// Sets the permission bits of what an `O_PATH` handle stands for; a symbolic link has none, and is refused.
///
/// # Errors
/// `EOPNOTSUPP` for a link, [`Error::Unexpected`] when `/proc` is no procfs, and the call's own (`fchmodat`).
pub fn set_mode(handle: impl AsFd, mode: Mode) -> Result<()> {
    let stat = rustix::fs::fstat(&handle).context("fstat", "handle")?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP).context("fchmodat", "a symbolic link");
    }
    let table = crate::proc::fd_table()?;
    let name = crate::proc::fd_name(&handle);
    rustix::fs::chmodat(&table, name.as_c_str(), mode, rustix::fs::AtFlags::empty())
        .context("fchmodat", "/proc/self/fd")
}

/// The content of a regular file that says it has `size` bytes, and one byte more than `max` where it has. A file that
/// gives what it says with one call is at its end.
fn read_sized(mut file: std::fs::File, size: u64, max: u64) -> std::io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1)];
    let length = file.read(&mut content)?;
    content.truncate(length);
    if length as u64 != size {
        let left = max.saturating_add(1).saturating_sub(length as u64);
        file.take(left).read_to_end(&mut content)?;
    }
    Ok(content)
}

/// openat2(2), repeated where it raced with a rename.
fn openat2(
    top: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    // The empty path is the root itself; openat2 has no AT_EMPTY_PATH.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let creates = flags.intersects(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
    let mode = if creates { mode } else { Mode::empty() };
    let mut last = Errno::AGAIN;
    for _ in 0..limits::RACE_RETRIES {
        match rustix::fs::openat2(top, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => last = errno,
            result => return result.context("openat2", path.display()),
        }
    }
    Err(last).context("openat2", path.display())
}

/// Splits off the last name of `path`, which must be a real one.
fn split_last(path: &Path) -> Result<(&Path, CString)> {
    let bytes = path.as_os_str().as_bytes();
    let trimmed = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'/').count();
    let bytes = &bytes[..trimmed];
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let unusable =
        || Error::Unexpected { subject: path.display().to_string(), expected: "a path that ends in a name" };
    if matches!(&bytes[start..], b"" | b"." | b"..") {
        return Err(unusable());
    }
    let name = CString::new(&bytes[start..]).map_err(|_| unusable())?;
    Ok((Path::new(OsStr::from_bytes(&bytes[..start])), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_is_split_off_and_must_be_one() {
        let cases: [(&str, Option<(&str, &str)>); 10] = [
            ("a", Some(("", "a"))),
            ("/a", Some(("/", "a"))),
            ("a/b", Some(("a/", "b"))),
            ("a/b///", Some(("a/", "b"))),
            ("a/../b", Some(("a/../", "b"))),
            ("", None),
            ("/", None),
            ("a/.", None),
            ("..", None),
            ("a\0b", None),
        ];
        for (path, expected) in cases {
            let got = split_last(Path::new(path)).ok();
            let expected = expected.map(|(parent, name)| (Path::new(parent), CString::new(name).unwrap()));
            assert_eq!(got, expected, "{path:?}");
        }
    }
}
