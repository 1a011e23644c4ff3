//! This process's own descriptors as procfs shows them: the one way to act on what an `O_PATH` handle stands for.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};

use crate::error::{Context, Error, Result};

/// `/proc/self/fd`, proved to be procfs, so that nothing mounted over it answers instead (CVE-2025-52881).
pub(crate) fn fd_table() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let table = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty()).context("open", "/proc/self/fd")?;
    let found = rustix::fs::fstatfs(&table).context("fstatfs", "/proc/self/fd")?;
    if found.f_type != PROC_SUPER_MAGIC {
        return Err(Error::Unexpected { subject: "/proc/self/fd".to_owned(), expected: "procfs" });
    }
    Ok(table)
}

/// The name of a descriptor in [`fd_table`].
pub(crate) fn fd_name(fd: &impl AsFd) -> CString {
    CString::new(fd.as_fd().as_raw_fd().to_string()).expect("digits hold no NUL")
}
