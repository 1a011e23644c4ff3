//! Starting another program without copying the caller's address space, as vfork(2) does.

use crate::error::{Context, Result};
use crate::process::Child;
use rustix::process::Pid;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// A program to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Its path.
    pub program: &'a CStr,
    /// Its arguments, the name it is called by first.
    pub arguments: &'a [CString],
    /// Its whole environment.
    pub environment: &'a [CString],
    /// The descriptors it gets, as 0, 1, 2 and so on. It gets no others that are close-on-exec.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// The cgroups it is in from its first instruction on; the caller's if absent.
    pub groups: Option<Groups<'a>>,
}

/// Cgroups to be in.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a> {
    /// The directory of a v2 group, if there is that hierarchy (Linux 5.7).
    pub birth: Option<BorrowedFd<'a>>,
    /// `tasks` of each v1 group, open for writing.
    pub tasks: &'a [OwnedFd],
}

/// Bytes of the stack that the child runs on until it executes the program: it makes a handful of calls.
const STACK: usize = 32 * 1024;

/// What the child needs, made before it is: it shares the caller's memory and must not allocate.
struct Prepared<'a> {
    program: &'a CStr,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    descriptors: &'a [BorrowedFd<'a>],
    tasks: &'a [OwnedFd],
    /// The child's complaint, if it could not execute the program.
    errno: AtomicI32,
}

/// Starts `what`, with every signal blocked: the program unblocks them ([`crate::signal::unblock_all`]).
///
/// No descriptor in `what.descriptors` may have a number below their count, other than its own place: it would be
/// overwritten before it is copied; [`io::ErrorKind::InvalidInput`] tells so.
///
/// posix_spawn(3) would ask for the action of each of the 64 signals and set it; with signals blocked until after
/// execve(2), which drops the handlers itself, there is nothing to ask for.
///
/// # Errors
/// `ENOENT` and `EACCES` for the program; `EAGAIN` at a limit of tasks.
pub fn spawn(what: &Spawn<'_>) -> Result<Child> {
    let clash = |(place, fd): (usize, &BorrowedFd<'_>)| {
        let number = usize::try_from(fd.as_raw_fd()).unwrap_or(0);
        number < what.descriptors.len() && number != place
    };
    if what.descriptors.iter().enumerate().any(clash) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).context("spawn", "descriptors that clash");
    }
    let subject = what.program.to_string_lossy();
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let mut prepared = Prepared {
        program: what.program,
        arguments: pointers(what.arguments),
        environment: pointers(what.environment),
        descriptors: what.descriptors,
        tasks: what.groups.map_or(&[], |groups| groups.tasks),
        errno: AtomicI32::new(0),
    };
    let birth = what.groups.and_then(|groups| groups.birth);
    let child = clone_and_wait(&mut prepared, birth).context("clone", &subject)?;
    match prepared.errno.into_inner() {
        0 => Ok(child),
        errno => {
            crate::process::reap(child.pidfd.as_fd())?;
            Err(io::Error::from_raw_os_error(errno)).context("execve", &subject)
        }
    }
}

/// Makes the child and waits until it has executed its program or has ended.
fn clone_and_wait(prepared: &mut Prepared<'_>, birth: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK / size_of::<u128>()];
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let before = set_mask(u64::MAX)?;
    let argument = ptr::from_mut(prepared).cast();
    let made = match birth {
        // SAFETY: the stack's end is aligned to 16 bytes and grows down into memory that is only the child's. With
        // CLONE_VFORK this thread stands still, so `stack`, `prepared` and `pidfd` outlive the child's use of them.
        // Signals are blocked, so no handler of the caller's runs in the child.
        None => unsafe {
            let end = stack.as_mut_ptr_range().end.cast();
            let pid = libc::clone(run, end, flags | libc::SIGCHLD, argument, &raw mut pidfd);
            if pid > 0 { Ok(i64::from(pid)) } else { Err(io::Error::last_os_error()) }
        },
        Some(birth) => {
            // SAFETY: an all-zero clone_args is valid; it asks for nothing.
            let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
            args.flags = u64::from(flags.cast_unsigned()) | crate::process::CLONE_INTO_CGROUP;
            args.exit_signal = libc::SIGCHLD as u64;
            args.pidfd = &raw mut pidfd as u64;
            args.stack = stack.as_mut_ptr() as u64;
            args.stack_size = (stack.len() * size_of::<u128>()) as u64;
            args.cgroup = u64::try_from(birth.as_raw_fd()).expect("descriptors are not negative");
            // SAFETY: as above.
            match unsafe { clone3_and_run(&raw const args, run, argument) } {
                pid if pid > 0 => Ok(pid),
                error => Err(io::Error::from_raw_os_error(i32::try_from(-error).unwrap_or(libc::EINVAL))),
            }
        }
    };
    set_mask(before)?;
    let made = made.map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw).expect("the kernel made it"));
    let pid = made?;
    // SAFETY: CLONE_PIDFD succeeded, so the kernel stored a new descriptor that nobody else owns.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// clone3(2), whose child, on the stack that `args` names, calls `function` and ends with what that returns. The C library has
/// no such function, and its clone(3) cannot make a process in a cgroup. Returns the child's id, or a negative error number.
///
/// # Safety
/// As for clone(2): the stack is the child's alone and aligned, and what the child shares with the caller outlives its use.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_and_run(
    args: *const libc::clone_args,
    function: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> i64 {
    let result: i64;
    // SAFETY: only the child, whose stack is empty and aligned as calls need it, goes past the jump, and it does not come
    // back. The caller's side is a system call, whose clobbers are named.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {function}",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit_group,
            argument = in(reg) argument,
            function = in(reg) function,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// The same for the other architecture.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3_and_run(
    args: *const libc::clone_args,
    function: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> i64 {
    let result: i64;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {argument}",
            "blr {function}",
            "mov x8, {exit}",
            "svc #0",
            "brk #1",
            "2:",
            exit = const libc::SYS_exit_group,
            argument = in(reg) argument,
            function = in(reg) function,
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => result,
            in("x1") size_of::<libc::clone_args>(),
        );
    }
    result
}

/// The child: it shares the caller's memory, so it only makes system calls, and returns only when one failed.
extern "C" fn run(prepared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone_and_wait` passes a `Prepared` that it does not touch while it waits for this child.
    let prepared = unsafe { &*prepared.cast::<Prepared<'_>>() };
    for tasks in prepared.tasks {
        // SAFETY: one byte of a constant is read.
        if unsafe { libc::write(tasks.as_raw_fd(), b"0".as_ptr().cast(), 1) } < 0 {
            return fail(prepared);
        }
    }
    for (descriptor, target) in prepared.descriptors.iter().zip(0..) {
        // SAFETY: the child has its own table of descriptors (no CLONE_FILES), so no owner is surprised. A descriptor
        // in its own place only loses close-on-exec.
        let done = unsafe {
            if descriptor.as_raw_fd() == target {
                libc::fcntl(target, libc::F_SETFD, 0)
            } else {
                libc::dup2(descriptor.as_raw_fd(), target)
            }
        };
        if done < 0 {
            return fail(prepared);
        }
    }
    // SAFETY: both arrays end in a null pointer and point to strings that the waiting caller keeps.
    unsafe {
        libc::execve(prepared.program.as_ptr(), prepared.arguments.as_ptr(), prepared.environment.as_ptr());
    }
    fail(prepared)
}

/// Leaves the reason where the caller finds it.
fn fail(prepared: &Prepared<'_>) -> libc::c_int {
    // SAFETY: this thread's errno always is there; child and waiting caller share it.
    let errno = unsafe { *libc::__errno_location() };
    prepared.errno.store(errno, Ordering::Relaxed);
    127
}

/// Sets the calling thread's blocked signals, one bit each, and returns what they were. The C library's own call would
/// leave out the signals that it keeps for itself.
fn set_mask(mask: u64) -> io::Result<u64> {
    let mut before = 0_u64;
    // SAFETY: both point to the 8 bytes that the kernel's signal set has on 64-bit machines, and outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(before) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::reap;
    use std::io::Read;

    #[test]
    fn a_program_gets_the_descriptors_and_the_environment_it_is_given() {
        // Descriptors that do not clash with their places.
        let null = std::fs::File::open("/dev/null").unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = rustix::io::fcntl_dupfd_cloexec(&null, 10).unwrap();
        let write = rustix::io::fcntl_dupfd_cloexec(&write, 10).map(|copy| (copy, drop(write))).unwrap().0;
        let arguments = ["sh", "-c", "echo $WORD >&3"].map(|word| CString::new(word).unwrap());
        let child = spawn(&Spawn {
            program: c"/bin/sh",
            arguments: &arguments,
            environment: &[CString::new("WORD=through").unwrap()],
            descriptors: &[null.as_fd(), null.as_fd(), null.as_fd(), write.as_fd()],
            groups: None,
        })
        .unwrap();
        drop(write);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through\n");
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), 0);
    }

    #[test]
    fn a_missing_program_is_an_error_of_the_caller() {
        let error = spawn(&Spawn {
            program: c"/no/such",
            arguments: &[],
            environment: &[],
            descriptors: &[],
            groups: None,
        });
        assert_eq!(error.unwrap_err().errno(), Some(rustix::io::Errno::NOENT));
    }

    #[test]
    fn a_program_is_born_in_the_group_it_is_given() {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2 is mounted");
        let place = std::path::Path::new(line.split(' ').nth(4).unwrap());
        let name = format!("coracle-test-{}-spawn", std::process::id());
        std::fs::create_dir(place.join(&name)).unwrap();
        let group = std::fs::File::open(place.join(&name)).unwrap();
        let groups = Some(Groups { birth: Some(group.as_fd()), tasks: &[] });
        let test = format!("grep -q '^0::/{name}$' /proc/self/cgroup && test \"$WORD\" = x");
        let arguments = ["sh", "-c", &test].map(|word| CString::new(word).unwrap());
        let environment = [CString::new("WORD=x").unwrap()];
        let program = |program| Spawn {
            program,
            arguments: &arguments,
            environment: &environment,
            descriptors: &[],
            groups,
        };
        // More than once, and with a failure in between: the caller's own registers and stack are as they were.
        for _ in 0..3 {
            let child = spawn(&program(c"/bin/sh")).unwrap();
            assert_eq!(reap(child.pidfd.as_fd()).unwrap(), 0);
            let missing = spawn(&program(c"/no/such")).unwrap_err();
            assert_eq!(missing.errno(), Some(rustix::io::Errno::NOENT));
        }
        std::fs::remove_dir(place.join(&name)).unwrap();
    }
}
