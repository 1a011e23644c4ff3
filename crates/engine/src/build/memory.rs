//! Files that never reach a disk: secrets, sockets of agents, scripts of here-documents.

use crate::config::Config;
use crate::error::{Attempt, Error, Result};
use coracle_sys::{atomic, mount};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `f_type` of tmpfs and ramfs, statfs(2).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Where every Linux has a file system in memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// A directory in memory that is the engine's alone. It goes with the value.
#[derive(Debug)]
pub(super) struct MemoryDirectory(PathBuf);

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl MemoryDirectory {
    /// Makes one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is no file system in memory.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let place = places(config).into_iter().find(|place| is_in_memory(place.parent().unwrap_or(place)));
        let place = place.ok_or_else(|| {
            Error::Unsupported(format!(
                "secrets, SSH agents and scripts of a build need a file system in memory: neither {} nor {SHARED_MEMORY} is one",
                config.exec_root.display()
            ))
        })?;
        let making = || format!("make a directory in {}", place.display());
        atomic::create_dir(&place, Mode::RWXU).attempt(making)?;
        let path = place.join(atomic::random_name().attempt(making)?);
        atomic::create_dir(&path, Mode::RWXU).attempt(making)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file.
    pub(super) fn write(&self, name: &str, content: &[u8], permit: Permit) -> Result<PathBuf> {
        let path = self.0.join(name);
        let writing = || "write a file in memory".to_owned();
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).attempt(writing)?;
        file.write_all(content).attempt(writing)?;
        permit.apply(&file).attempt(writing)?;
        Ok(path)
    }
}

impl Permit {
    /// Gives a file its owner and mode.
    pub(super) fn apply(self, file: &File) -> std::io::Result<()> {
        rustix::fs::fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        file.set_permissions(Permissions::from_mode(self.mode))
    }

    /// The same for what cannot be opened, in a directory of the engine's alone.
    pub(super) fn apply_to(self, path: &Path) -> std::io::Result<()> {
        rustix::fs::chown(path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        std::fs::set_permissions(path, Permissions::from_mode(self.mode))
    }
}

impl Drop for MemoryDirectory {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes what an engine that was killed has left.
pub(super) fn sweep(config: &Config) {
    places(config).iter().for_each(|place| remove(place));
}

fn remove(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "secrets of a build cannot be removed");
        }
        _ => {}
    }
}

/// Where directories may be made; the better place first.
fn places(config: &Config) -> [PathBuf; 2] {
    let shared = Path::new(SHARED_MEMORY).join(format!("coracle-{}", config.engine_id()));
    [config.exec_root.join("secrets"), shared]
}

fn is_in_memory(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::open(path, flags, Mode::empty()) else { return false };
    let is = |magic: &i64| mount::require_file_system(directory.as_fd(), *magic, "in memory").is_ok();
    IN_MEMORY.iter().any(is)
}
