//! Making processes: clone3(2), fork(2), execve(2), and what a process needs between the two.

use crate::error::{Context, Error, Result};
use crate::signal;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

/// The flags of clone3(2) that make namespaces.
pub type Namespaces = UnshareFlags;

/// How to make a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clone<'a> {
    /// Namespaces that the child gets of its own.
    pub namespaces: Option<Namespaces>,
    /// A cgroup v2 directory to be born into (Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether the child becomes a sibling: its parent is the caller's parent.
    pub sibling: bool,
}

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller.
    Parent(Child),
}

/// A process that was just made.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's pid namespace.
    pub pid: Pid,
    /// Refers to it, and to no other that later gets the same id; readable when it has exited.
    pub pidfd: OwnedFd,
}

/// Of clone3(2); beyond 32 bits, where the constant of `libc` does not reach.
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a process with clone3(2), which copies the address space as fork(2) does.
///
/// The caller must have one thread: locks that other threads hold (the allocator's among them) stay locked in the
/// child for ever. Where there are more threads, [`fork`] first.
///
/// # Errors
/// `EAGAIN` at a limit of tasks, `ENOSPC` at a limit of namespaces, `EPERM` without privilege.
pub fn clone(how: Clone<'_>) -> Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = how.namespaces.map_or(0, |n| u64::from(n.bits()));
    flags |= libc::CLONE_PIDFD as u64;
    // SAFETY: an all-zero clone_args is valid; it asks for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    if let Some(cgroup) = how.cgroup {
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("descriptors are not negative");
    }
    if how.sibling {
        flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    args.flags = flags;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    // SAFETY: without CLONE_VM and a stack the child continues on a copy of this stack, like fork(2). `args` and
    // `pidfd` outlive the call, and the size passed is that of the structure.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error()).context("clone3", "a process");
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(Cloned::Child) };
    // SAFETY: CLONE_PIDFD succeeded, so the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent(Child { pid, pidfd }))
}

/// Makes a process with the C library's fork(3), whose allocator is usable in the child although the caller has
/// several threads: glibc takes its locks around the fork. The child has one thread. Returns `None` in the child.
///
/// # Errors
/// `EAGAIN` at a limit of tasks.
pub fn fork() -> Result<Option<Pid>> {
    // SAFETY: the child runs on a copy of this stack; callers only use the allocator, which glibc keeps consistent,
    // and system calls.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error()).context("fork", "a process");
    }
    Ok(Pid::from_raw(pid))
}

/// Lets all threads allocate from one heap: another for each takes four calls and tens of kilobytes, and pays off only
/// for threads that allocate much at the same time. To be called before there is a second one.
pub fn share_one_heap() {
    // SAFETY: mallopt(3) changes a setting of the allocator under the allocator's own lock.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Moves the calling thread into new namespaces, unshare(2).
///
/// # Errors
/// As [`clone`]; `EINVAL` for a user namespace in a process with several threads.
pub fn unshare(namespaces: Namespaces) -> Result<()> {
    // SAFETY: callers pass namespaces only; CLONE_FILES, which could invalidate descriptors that other threads
    // hold, is removed here.
    unsafe { rustix::thread::unshare_unsafe(namespaces - UnshareFlags::FILES) }
        .context("unshare", "namespaces")
}

/// Ends the process at once, without destructors or flushing of buffers, as a forked child must.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces the program, execve(2). Returns only when it fails.
///
/// # Errors
/// `ENOENT` and `EACCES` as for any path; `ENOEXEC` for a file that is no program; `E2BIG`.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Result<Infallible> {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error()).context("execve", path.to_string_lossy())
}

/// Marks every descriptor from `first` on to be closed by execve(2) (`CLOSE_RANGE_CLOEXEC`, Linux 5.11).
///
/// # Errors
/// `EINVAL` on kernels before 5.11.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: no descriptor is closed now, so no owner is surprised.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("close_range", first);
    }
    Ok(())
}

/// Gives up the owner of a descriptor that is to stay open until the process executes a program or ends: what closes
/// it then costs nothing. For processes that do so soon; the descriptor must be close-on-exec, as all of this crate are.
pub fn keep_until_exec(descriptor: OwnedFd) -> BorrowedFd<'static> {
    // SAFETY: the owner is given up, so nothing closes the descriptor as long as the process runs this program.
    unsafe { BorrowedFd::borrow_raw(descriptor.into_raw_fd()) }
}

/// Closes every descriptor but the first three and `kept`, for a process that has one thread and is about to execute a
/// program: whatever path it follows until then leads to no descriptor of the host's (CVE-2024-21626).
///
/// # Errors
/// `ENOSYS` on kernels before 5.9.
pub fn close_all_but(kept: BorrowedFd<'_>) -> Result<()> {
    crate::proc::forget();
    let number = u32::try_from(kept.as_raw_fd()).expect("descriptors are not negative");
    for (first, last) in [(3, number.saturating_sub(1)), (number + 1, libc::c_uint::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: the caller neither uses nor drops an owner of these descriptors again, and nothing that was kept
        // or borrowed: it executes a program, or ends with `exit_now`. What this crate itself keeps it has forgotten.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
            return Err(io::Error::last_os_error()).context("close_range", first);
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on, for a process that keeps none and ends with [`exit_now`], so that no
/// owner of one, and nothing that was kept or borrowed, is used or dropped afterwards.
pub fn close_from(first: u32) {
    crate::proc::forget();
    // SAFETY: the caller never uses or drops an owner of these descriptors again (above). Failure is impossible
    // but on kernels before 5.9, where they stay open until the process ends.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Takes over a descriptor that the parent left open across execve(2), and marks it close-on-exec.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn take_inherited(number: u32) -> Result<OwnedFd> {
    let number = i32::try_from(number)
        .map_err(|_| Error::Unexpected { subject: number.to_string(), expected: "a file descriptor" })?;
    // SAFETY: F_SETFD changes a flag of the descriptor, if it is one.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error()).context("fcntl", number);
    }
    // SAFETY: it is open (above) and was inherited: this process made no owner of it, and callers name each of the
    // descriptors that their parent promised once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sends the signal `number`, real-time signals included, pidfd_send_signal(2).
///
/// # Errors
/// `ESRCH` when the process has ended, `EINVAL` for a number that is no signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: a null siginfo asks for the one that kill(2) would send; the kernel checks the number.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("pidfd_send_signal", format_args!("signal {number}"));
    }
    Ok(())
}

/// Waits for the process behind `pidfd` and returns its exit code as shells count: 128 + signal when killed.
///
/// # Errors
/// `ECHILD` if it is not a child of the caller; `EAGAIN` from callers that poll first means it still runs.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<i32> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return Ok(status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|s| 128 + s))
                    .unwrap_or(255));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waitid", "a child"),
        }
    }
}

/// Has the process that `command` starts find its signals at their defaults, which it passes on, and be killed when the thread
/// that starts it ends, as when its process is killed (`PR_SET_PDEATHSIG`, prctl(2)).
pub fn bind_to_parent(command: &mut Command) {
    let parent = getpid();
    let prepare = move || {
        signal::reset_all();
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that has ended meanwhile kills nobody.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec `prepare` makes system calls alone: it neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
}

/// A child that has ended and was not waited for yet, if there is one. It is left to be waited for.
pub fn ended_child() -> Option<Pid> {
    // SAFETY: all bytes zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` outlives the call, which fills it or leaves it zero.
    let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    if done < 0 {
        // There are no children.
        return None;
    }
    // SAFETY: waitid(2) has filled in the fields of SIGCHLD, or left all of them zero.
    Pid::from_raw(unsafe { info.si_pid() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, pidfd_send_signal};
    use std::os::fd::AsFd;

    fn child_that(act: impl FnOnce() -> i32) -> Child {
        // The test harness has several threads, so the child forks again before it clones.
        match clone(Clone::default()).unwrap() {
            Cloned::Child => exit_now(act()),
            Cloned::Parent(child) => child,
        }
    }

    #[test]
    fn a_clone_reports_its_exit_code_and_a_killed_one_its_signal() {
        let child = child_that(|| 42);
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), 42);
        let child = child_that(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        pidfd_send_signal(&child.pidfd, Signal::KILL).unwrap();
        assert_eq!(reap(child.pidfd.as_fd()).unwrap(), 137);
    }

    #[test]
    fn a_clone_in_a_pid_namespace_is_number_one() {
        let how = Clone { namespaces: Some(Namespaces::NEWPID), ..Clone::default() };
        match clone(how).unwrap() {
            Cloned::Child => exit_now(i32::from(rustix::process::getpid().as_raw_nonzero().get() != 1)),
            Cloned::Parent(child) => assert_eq!(reap(child.pidfd.as_fd()).unwrap(), 0),
        }
    }

    #[test]
    fn exec_names_the_program_that_is_missing() {
        let error = execve(c"/no/such/program", &[], &[]).unwrap_err();
        assert_eq!(error.to_string(), "execve /no/such/program");
        assert_eq!(error.errno(), Some(rustix::io::Errno::NOENT));
    }

    #[test]
    fn a_taken_descriptor_is_closed_on_exec() {
        use rustix::io::{FdFlags, fcntl_getfd};
        let (read, _write) = rustix::pipe::pipe().unwrap();
        let number = u32::try_from(std::os::fd::IntoRawFd::into_raw_fd(read)).unwrap();
        let taken = take_inherited(number).unwrap();
        assert_eq!(fcntl_getfd(taken.as_fd()).unwrap(), FdFlags::CLOEXEC);
    }
}
