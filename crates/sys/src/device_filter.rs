//! Loading a program that decides about devices, and attaching it to a cgroup v2, bpf(2).

use crate::error::{Context, Result};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of extended BPF, as the kernel reads it (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u8,
    /// The destination register in the lower four bits, the source register in the upper four.
    pub registers: u8,
    /// How many instructions to skip, or where in memory.
    pub offset: i16,
    /// The operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// What is attached further up counts as well, and so does what is attached beside it.
const ALLOW_MULTI: u32 = 2;
/// The kernel lends some of its functions to programs under the GPL alone; these use none.
const LICENCE: &CStr = c"Apache-2.0";

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`; what is not passed is zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Has `program` decide which devices the processes of the cgroup at `directory` may open and make (Linux 4.15). It lives as
/// long as the cgroup.
///
/// # Errors
/// `EPERM` without privilege, `EINVAL` for a program that the kernel refuses or a kernel without `CONFIG_CGROUP_BPF`.
pub fn attach(program: &[Instruction], directory: BorrowedFd<'_>) -> Result<()> {
    let count = u32::try_from(program.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
        .context("bpf", "a device filter")?;
    let load = Load {
        program_type: TYPE_CGROUP_DEVICE,
        count,
        instructions: program.as_ptr() as u64,
        licence: LICENCE.as_ptr() as u64,
        ..Load::default()
    };
    let loaded = call(PROG_LOAD, &load).context("bpf", format_args!("a filter of {count} instructions"))?;
    // SAFETY: BPF_PROG_LOAD succeeded, so the kernel returned a new descriptor that nobody else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let number = |fd: i32| u32::try_from(fd).expect("descriptors are not negative");
    let attach = Attach {
        target: number(directory.as_raw_fd()),
        program: number(loaded.as_raw_fd()),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    call(PROG_ATTACH, &attach).context("bpf", "a device filter and its cgroup").map(drop)
}

fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: `attributes` has the layout of the beginning of union bpf_attr, its size is passed, and it and what it points
    // to outlive the call, which only reads.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(done).unwrap_or(i32::MAX))
}
