//! Network namespaces: work inside one on a thread of its own, which ends with the work.
//!
//! A namespace belongs to a thread, so that no thread which does anything else is ever moved.

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::error::{Context, Result};

/// The calling thread's network namespace.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn current() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", path)
}

/// Runs `work` in a new network namespace, which lives on while a descriptor of it (or a process in it) does.
///
/// # Errors
/// When the thread or the namespace cannot be made; what `work` returns is handed through.
pub fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        // SAFETY: only `UnshareFlags::FILES` and similar sharing of memory endanger other threads; a network
        // namespace is a property of this thread alone, which was made for this call and ends after `work`.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
            .context("unshare", "network namespace")?;
        Ok(work())
    })
}

/// Runs `work` in the network namespace `netns`.
///
/// # Errors
/// When the thread cannot be made or may not enter; what `work` returns is handed through.
pub fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
            .context("setns", "network namespace")?;
        Ok(work())
    })
}

/// The user namespace that a network namespace belongs to, ioctl_nsfs(2).
///
/// # Errors
/// `EPERM` for one that is above the caller's own.
pub fn owner(netns: BorrowedFd<'_>) -> Result<OwnedFd> {
    // _IO(0xb7, 0x1), linux/nsfs.h
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: the request takes no argument.
    let descriptor = unsafe { libc::ioctl(netns.as_raw_fd(), NS_GET_USERNS) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error()).context("ioctl", "network namespace");
    }
    // SAFETY: a result that is not negative is a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns".to_owned());
        let handle = builder.spawn_scoped(scope, work).context("clone", "thread")?;
        handle.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Reads a setting below `/proc/sys/net` of the calling thread's namespace, without the final newline.
///
/// # Errors
/// When there is no such setting.
pub fn sysctl(key: &str) -> Result<String> {
    let path = Path::new("/proc/sys/net").join(key);
    let value = fs::read_to_string(&path).context("read", path.display())?;
    Ok(value.trim_end().to_owned())
}

/// Writes a setting below `/proc/sys/net` of the calling thread's namespace: `ipv4/ip_forward`.
///
/// # Errors
/// When there is no such setting or the kernel refuses the value.
pub fn set_sysctl(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(key);
    // Without O_CREAT, which the kernel answers with EACCES where a setting is missing.
    let mut file = fs::File::options().write(true).open(&path).context("open", path.display())?;
    file.write_all(value.as_bytes()).context("write", path.display())
}
