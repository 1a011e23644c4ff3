//! The floor: one container with nothing but the kernel. clone3 with all namespaces, an overlay, proc, sysfs and a
//! tmpfs, pivot_root, exec of a static busybox, wait. No cgroup, no filter, no network device.

use coracle_sys::mount::{self, Attributes, Durability, Propagation, Writable};
use coracle_sys::process::{Clone, Cloned, Namespaces, clone, execve, exit_now, fork, reap};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{WaitOptions, waitpid};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The mean time of one, in a process of its own, which has one thread.
pub(crate) fn measure(rounds: usize) -> Duration {
    let place = tempfile::tempdir().unwrap_or_else(|error| panic!("a directory: {error}"));
    for name in ["root/bin", "root/proc", "root/sys", "root/dev", "upper", "work"] {
        std::fs::create_dir_all(place.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    std::fs::copy("/bin/busybox", place.path().join("root/bin/busybox"))
        .unwrap_or_else(|error| panic!("busybox: {error}"));
    let begin = Instant::now();
    match fork() {
        Ok(None) => {
            let done = (0..rounds).all(|_| one(place.path()).is_ok_and(|code| code == 0));
            exit_now(i32::from(!done));
        }
        Ok(Some(pid)) => {
            let status =
                waitpid(Some(pid), WaitOptions::empty()).ok().flatten().and_then(|(_, s)| s.exit_status());
            assert_eq!(status, Some(0), "the floor's containers run");
        }
        Err(error) => panic!("{error}"),
    }
    begin.elapsed() / u32::try_from(rounds.max(1)).unwrap_or(u32::MAX)
}

fn one(place: &Path) -> coracle_sys::Result<i32> {
    let namespaces = Namespaces::NEWNS
        | Namespaces::NEWPID
        | Namespaces::NEWIPC
        | Namespaces::NEWUTS
        | Namespaces::NEWCGROUP
        | Namespaces::NEWNET;
    match clone(Clone { namespaces: Some(namespaces), ..Clone::default() })? {
        Cloned::Child => {
            let failed = inside(place).is_err();
            exit_now(i32::from(failed) + 1)
        }
        Cloned::Parent(child) => reap(child.pidfd.as_fd()),
    }
}

fn inside(place: &Path) -> coracle_sys::Result<()> {
    mount::propagate_all(Propagation::Private)?;
    let directory = |name: &str| directory(&place.join(name));
    let (lower, upper, work) = (directory("root")?, directory("upper")?, directory("work")?);
    let writable = Writable { upper: upper.as_fd(), work: work.as_fd(), durability: Durability::Durable };
    let root = mount::overlay(&[lower], Some(writable))?;
    mount::attach(root.as_fd(), self::directory(Path::new("/"))?.as_fd())?;
    for (kind, name) in [("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "dev")] {
        let made = mount::make(kind, &[], Attributes::empty())?;
        let target = rustix::fs::openat(&root, name, OFlags::PATH, Mode::empty()).map_err(refused)?;
        mount::attach(made.as_fd(), target.as_fd())?;
    }
    mount::pivot(root.as_fd(), 0)?;
    execve(c"/bin/busybox", &[CString::from(c"true")], &[]).map(|_| ())
}

fn directory(path: &Path) -> coracle_sys::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(refused)
}

fn refused(error: rustix::io::Errno) -> coracle_sys::Error {
    coracle_sys::Error::Call {
        call: "open",
        subject: "the floor's directories".to_owned(),
        source: error.into(),
    }
}
