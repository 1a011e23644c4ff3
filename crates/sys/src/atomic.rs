//! Files and directories that appear whole or not at all.
//!
//! Two strengths: what survives `kill -9` of this process (a rename suffices: the kernel keeps the page cache), and
//! what also survives a power cut (`_durable`: the file is synced before the rename and the directory after it).
//! Paths here are the engine's own; trees that others control are reached through [`crate::rooted`].

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// Begins and ends the name of a file that is being written.
const LEFTOVER: (&str, &str) = (".", ".partial");

/// Writes `content` to `path` with exactly `mode`, replacing what is there in one step. Survives `kill -9`, not a
/// power cut.
///
/// # Errors
/// The calls'; the old content is untouched then.
pub fn write(path: impl AsRef<Path>, content: &[u8], mode: Mode) -> Result<()> {
    replace(path.as_ref(), content, mode, |_| Ok(()))
}

/// As [`write`], and survives a power cut.
///
/// # Errors
/// The calls'; the old content is untouched, except where the sync of the directory fails: then either may be there.
pub fn write_durable(path: impl AsRef<Path>, content: &[u8], mode: Mode) -> Result<()> {
    let path = path.as_ref();
    replace(path, content, mode, |file| rustix::fs::fsync(file).context("fsync", path.display()))?;
    sync_parent(path)
}

/// Makes the directory `path` with exactly `mode`, whatever the umask, unless it exists.
///
/// # Errors
/// The calls'; [`Error::Unexpected`] when something else is there.
pub fn create_dir(path: impl AsRef<Path>, mode: Mode) -> Result<()> {
    let path = path.as_ref();
    match rustix::fs::mkdir(path, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).context("mkdir", path.display()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Err(Error::Unexpected { subject: path.display().to_string(), expected: "a directory" });
        }
        result => result.context("open", path.display())?,
    };
    rustix::fs::fchmod(directory, mode).context("fchmod", path.display())
}

/// As [`create_dir`], and the directory survives a power cut.
///
/// # Errors
/// As [`create_dir`].
pub fn create_dir_durable(path: impl AsRef<Path>, mode: Mode) -> Result<()> {
    let path = path.as_ref();
    create_dir(path, mode)?;
    sync_parent(path)
}

/// Renames `from` to `to`, which must not exist, and syncs the directory of `to`. What is renamed was synced before.
///
/// # Errors
/// `EEXIST` when `to` exists, and the calls' own.
pub fn publish_durable(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    rename_new(from, to)?;
    sync_parent(to)
}

/// Moves `path` into the directory `trash` under a new name and returns it; `None` when nothing is there.
///
/// Takes as long for a tree as for a file; what is in the trash is deleted later, by [`crate::tree::remove`].
///
/// # Errors
/// The call's (`renameat2`): `EXDEV` when `trash` is on another file system.
pub fn discard(path: impl AsRef<Path>, trash: impl AsRef<Path>) -> Result<Option<PathBuf>> {
    let path = path.as_ref();
    let target = trash.as_ref().join(random_name()?);
    match rename_new(path, &target) {
        Ok(()) => Ok(Some(target)),
        Err(error) if error.errno() == Some(Errno::NOENT) && !path.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs the directory that holds `path`.
///
/// # Errors
/// The calls' (`open`, `fsync`).
pub fn sync_parent(path: impl AsRef<Path>) -> Result<()> {
    let parent = parent(path.as_ref());
    sync_dir(parent)
}

/// Syncs the directory `path`: the names in it survive a power cut.
///
/// # Errors
/// The calls' (`open`, `fsync`).
pub fn sync_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    rustix::fs::fsync(open_dir(path)?).context("fsync", path.display())
}

/// Removes what interrupted [`write`]s left in the directory `path`. No other writer may be at work there.
///
/// # Errors
/// The calls' (`open`, `getdents64`, `unlinkat`).
pub fn sweep(path: impl AsRef<Path>) -> Result<()> {
    let directory = open_dir(path.as_ref())?;
    for name in crate::tree::names(directory.as_fd())? {
        if is_leftover(name.to_bytes()) {
            rustix::fs::unlinkat(&directory, name.as_c_str(), AtFlags::empty())
                .context("unlinkat", name.to_string_lossy())?;
        }
    }
    Ok(())
}

/// 32 random hex digits: a name that nothing else has.
///
/// # Errors
/// The call's (`getrandom`).
pub fn random_name() -> Result<String> {
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags).context("getrandom", "a name")?;
    }
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn replace(
    path: &Path,
    content: &[u8],
    mode: Mode,
    sync: impl Fn(&std::fs::File) -> Result<()>,
) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(Error::Unexpected {
            subject: path.display().to_string(),
            expected: "the path of a file",
        });
    };
    let directory = open_dir(parent(path))?;
    let temporary = format!("{}{}{}", LEFTOVER.0, random_name()?, LEFTOVER.1);
    let result = fill(directory.as_fd(), &temporary, content, mode, sync).and_then(|()| {
        rustix::fs::renameat(&directory, &temporary, &directory, name).context("renameat", path.display())
    });
    if result.is_err() {
        // The failure that is reported is the one that matters; `sweep` finds what stays behind.
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
    }
    result
}

fn fill(
    directory: BorrowedFd<'_>,
    name: &str,
    content: &[u8],
    mode: Mode,
    sync: impl Fn(&std::fs::File) -> Result<()>,
) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600)).context("openat", name)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content).context("write", name)?;
    rustix::fs::fchmod(&file, mode).context("fchmod", name)?;
    sync(&file)
}

fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, from, cwd, to, RenameFlags::NOREPLACE) {
        Err(errno) => Err(errno).context("renameat2", format_args!("{} to {}", from.display(), to.display())),
        Ok(()) => Ok(()),
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context("open", path.display())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str() != OsStr::from_bytes(b"") => parent,
        _ => Path::new("."),
    }
}

fn is_leftover(name: &[u8]) -> bool {
    let length = LEFTOVER.0.len() + 32 + LEFTOVER.1.len();
    name.len() == length && name.starts_with(LEFTOVER.0.as_bytes()) && name.ends_with(LEFTOVER.1.as_bytes())
}
