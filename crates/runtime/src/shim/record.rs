//! What a shim leaves on disk for an engine that comes later: that the container runs, and how it ended.
//!
//! The records need to survive a killed engine, not a loss of power: then the container is gone as well, and its
//! boot id tells so.

use crate::error::{Error, Result};
use crate::protocol::{EXIT_RECORD, Exit, RUN_RECORD};
use rustix::fs::{Mode, OFlags, openat, renameat};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// That a container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The shim's process id.
    pub shim: i32,
    /// The id of the container's first process.
    pub pid: i32,
    /// The boot of the machine that both belong to.
    pub boot_id: String,
}

/// Writes the record of a running container into `directory`.
pub(super) fn write_run(directory: &OwnedFd, run: &Run) -> Result<()> {
    write(directory, RUN_RECORD, run)
}

/// Writes the record of an exit into `directory`.
pub(super) fn write_exit(directory: &OwnedFd, exit: &Exit) -> Result<()> {
    write(directory, EXIT_RECORD, exit)
}

fn write<T: Serialize>(directory: &OwnedFd, name: &str, record: &T) -> Result<()> {
    let failed = |source| Error::Protocol { action: "write a record", source };
    let bytes = serde_json::to_vec(record).map_err(|error| Error::Malformed(error.to_string()))?;
    let temporary = format!("{name}.tmp");
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file =
        openat(directory, &temporary, flags, Mode::from_raw_mode(0o600)).map_err(|e| failed(e.into()))?;
    File::from(file).write_all(&bytes).map_err(failed)?;
    renameat(directory, &temporary, directory.as_fd(), name).map_err(|e| failed(e.into()))
}

/// Reads the record of a running container, if there is a whole one.
pub fn read_run(state_directory: &Path) -> Option<Run> {
    read(&state_directory.join(RUN_RECORD))
}

/// Reads the record of an exit, if there is a whole one.
pub fn read_exit(state_directory: &Path) -> Option<Exit> {
    read(&state_directory.join(EXIT_RECORD))
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
