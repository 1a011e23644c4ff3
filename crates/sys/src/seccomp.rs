//! Loading a compiled system call filter, seccomp(2).

use crate::error::{Context, Result};
use std::io;

/// One instruction of classic BPF, as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// How many instructions to skip when it does not.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

/// Most instructions a filter may have (`BPF_MAXINSNS`).
pub const LONGEST: usize = 4096;

/// Installs `filter` for the calling thread and its descendants, for ever.
///
/// `flags` are those of seccomp(2), `SECCOMP_FILTER_FLAG_*`, without `NEW_LISTENER`.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN` or no-new-privileges; `EINVAL` for a filter that the kernel refuses.
pub fn load(filter: &[Instruction], flags: u32) -> Result<()> {
    let length = u16::try_from(filter.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
        .context("seccomp", "a filter")?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of sock_filter; `program` points to `length` of them and both outlive
    // the call, which only reads.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            &raw const program,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error())
            .context("seccomp", format_args!("a filter of {length} instructions"));
    }
    Ok(())
}
