//! Starting another program without copying the caller's address space, posix_spawn(3).

use crate::error::{Context, Result};
use crate::process::Child;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

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
}

/// A list of file actions that is destroyed again.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(descriptors: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: init makes `actions` valid, which `Drop` destroys.
        let mut actions = unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Self(actions.assume_init())
        };
        for (target, descriptor) in descriptors.iter().enumerate() {
            let target = i32::try_from(target).map_err(io::Error::other)?;
            // SAFETY: `actions` is initialised; the call stores two numbers. When both are equal, the C library
            // clears close-on-exec instead.
            check(unsafe {
                libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, descriptor.as_raw_fd(), target)
            })?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Starts `what`. No descriptor in `what.descriptors` may have a number below their count, other than its own
/// place: it would be overwritten before it is copied; [`io::ErrorKind::InvalidInput`] tells so.
///
/// # Errors
/// `ENOENT` and `EACCES` for the program; `EAGAIN` at a limit of tasks.
pub fn spawn(what: &Spawn<'_>) -> Result<Child> {
    let clash = |(place, fd): (usize, &BorrowedFd<'_>)| {
        let number = usize::try_from(fd.as_raw_fd()).unwrap_or(0);
        number < what.descriptors.len() && number != place
    };
    if what.descriptors.iter().enumerate().any(clash) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput))
            .context("posix_spawn", "descriptors that clash");
    }
    let subject = what.program.to_string_lossy();
    let actions = Actions::new(what.descriptors).context("posix_spawn", &subject)?;
    let pointers = |strings: &[CString]| -> Vec<*mut libc::c_char> {
        strings.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
    };
    let (arguments, environment) = (pointers(what.arguments), pointers(what.environment));
    let mut pid = 0;
    // SAFETY: every pointer is valid for the call, both arrays end in a null pointer, and posix_spawn writes to
    // none of the strings.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            what.program.as_ptr(),
            &raw const actions.0,
            ptr::null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    })
    .context("posix_spawn", &subject)?;
    let pid = Pid::from_raw(pid)
        .ok_or_else(|| io::Error::other("no process id"))
        .context("posix_spawn", &subject)?;
    // The child is not reaped before its descriptor is open, so the id cannot be another's.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open", &subject)?;
    Ok(Child { pid, pidfd })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::reap;
    use std::io::Read;
    use std::os::fd::AsFd;

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
        let error =
            spawn(&Spawn { program: c"/no/such", arguments: &[], environment: &[], descriptors: &[] });
        assert_eq!(error.unwrap_err().errno(), Some(rustix::io::Errno::NOENT));
    }
}
