//! Mount namespaces of an operation: mounts that nobody else sees and that go with the last descriptor.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::error::{Context, Result};
use crate::mount::{self, Propagation};

/// Runs `work` on a thread of its own in a new mount namespace, which begins as a copy of the caller's from which nothing
/// reaches the original. Returns what `work` returns, and the namespace, whose mounts stay while its descriptor does.
///
/// The thread has a root and a working directory of its own, so `work` may change them ([`mount::pivot`]), which also
/// lets go of the host's mounts.
///
/// # Errors
/// When the thread or the namespace cannot be made.
pub fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<(T, OwnedFd)> {
    on_thread(|| {
        // SAFETY: `UnshareFlags::FILES` is not among the flags, so every descriptor stays what it is for its
        // owner. The namespace, root and working directory are this thread's alone, which ends after `work`.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
            .context("unshare", "mount namespace")?;
        mount::propagate_all(Propagation::Private)?;
        // Before `work`, after which `/proc` may be somebody else's.
        let path = "/proc/thread-self/ns/mnt";
        let namespace =
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", path)?;
        Ok((work(), namespace))
    })
}

/// Runs `work` on a thread of its own in the mount namespace `mntns`, whose root is the thread's root and working
/// directory. Paths lead there to what the namespace's processes have made of them.
///
/// # Errors
/// When the thread cannot be made or may not enter; what `work` returns is handed through.
pub fn inside<T: Send>(mntns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        // setns(2): a thread that shares its root with others may not enter.
        // SAFETY: `UnshareFlags::FILES` is not among the flags; root and working directory are this thread's alone, which
        // ends after `work`.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.context("unshare", "root")?;
        rustix::thread::move_into_link_name_space(mntns, Some(LinkNameSpaceType::Mount))
            .context("setns", "mount namespace")?;
        Ok(work())
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("mntns".to_owned());
        let handle = builder.spawn_scoped(scope, work).context("clone", "thread")?;
        handle.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{Attributes, Depth, Parameter};
    use std::fs;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_mounted_inside_is_seen_by_descriptor_and_by_nobody_else() {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let open = |from: &OwnedFd, name: &str| {
            rustix::fs::openat(from, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let (root, namespace) = in_new(|| {
            let outer = mount::make("tmpfs", &[Parameter::Value("size", "1m")], Attributes::empty()).unwrap();
            let inner = mount::make("tmpfs", &[Parameter::Value("size", "1m")], Attributes::empty()).unwrap();
            rustix::fs::mkdirat(&inner, "deep", Mode::RWXU).unwrap();
            let host = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            mount::attach(outer.as_fd(), host.as_fd()).unwrap();
            rustix::fs::mkdirat(&outer, "below", Mode::RWXU).unwrap();
            mount::attach(inner.as_fd(), open(&outer, "below").as_fd()).unwrap();
            mount::pivot(outer.as_fd(), 0).unwrap();
            outer
        })
        .unwrap();
        assert!(rustix::fs::statat(&root, "below/deep", rustix::fs::AtFlags::empty()).is_ok());
        assert_ne!(mount::id(root.as_fd(), c"").unwrap(), mount::id(root.as_fd(), c"below").unwrap());
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        assert!(mount::copy_descriptor(root.as_fd(), Depth::One).is_err(), "it is another namespace's");
        drop(namespace);
        let below = rustix::fs::statat(&root, "below/deep", rustix::fs::AtFlags::empty());
        assert_eq!(below.unwrap_err(), rustix::io::Errno::NOENT, "the mounts go with the namespace");
    }
}
