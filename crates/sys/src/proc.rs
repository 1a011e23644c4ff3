//! This process's own descriptors as procfs shows them: the one way to act on what an `O_PATH` handle stands for.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};

use crate::error::{Context, Error, Result};
use crate::process::keep_until_exec;

/// `/proc`, once it was proved to be procfs.
static PROCFS: RwLock<Option<BorrowedFd<'static>>> = RwLock::new(None);

/// `/proc`, proved to be procfs, so that nothing mounted over it answers instead (CVE-2025-52881). It is looked at once;
/// then the descriptor that was proved is kept, whatever is mounted later.
pub(crate) fn procfs() -> Result<BorrowedFd<'static>> {
    if let Some(known) = *PROCFS.read().unwrap_or_else(PoisonError::into_inner) {
        return Ok(known);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = rustix::fs::open(c"/proc", flags, Mode::empty()).context("open", "/proc")?;
    let system = rustix::fs::fstatfs(&found).context("fstatfs", "/proc")?;
    if system.f_type != PROC_SUPER_MAGIC {
        return Err(Error::Unexpected { subject: "/proc".to_owned(), expected: "procfs" });
    }
    // Whoever was faster has proved the same.
    Ok(*PROCFS.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| keep_until_exec(found)))
}

/// Forgets the descriptor, which the process has closed or is about to.
pub(crate) fn forget() {
    *PROCFS.write().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The table of the calling process's descriptors.
pub(crate) fn fd_table() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(procfs()?, c"self/fd", flags, Mode::empty()).context("openat", "/proc/self/fd")
}

/// The name of a descriptor in [`fd_table`].
pub(crate) fn fd_name(fd: &impl AsFd) -> CString {
    CString::new(fd.as_fd().as_raw_fd().to_string()).expect("digits hold no NUL")
}
