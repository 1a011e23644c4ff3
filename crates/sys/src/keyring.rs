//! Keyrings of processes, keyctl(2).

use crate::error::{Context, Result};
use std::io;

/// `KEYCTL_JOIN_SESSION_KEYRING` of the kernel's `keyctl.h`.
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Gives the calling thread, and all that it starts from here on, a session keyring of its own in the place of the one that
/// it has inherited. It is new and empty, and has no name by which anybody else could join it.
///
/// # Errors
/// `ENOSYS` from a kernel without keys, `EDQUOT` and `ENOMEM` where there is no room.
pub fn begin_session() -> Result<()> {
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: without a name nothing is read, and only credentials of the calling thread change.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("keyctl", "a session keyring");
    }
    Ok(())
}
