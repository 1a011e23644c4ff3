//! User namespaces: made without anybody in them, entered for good, and files written in the name of their root from outside.
//!
//! Unlike others, this namespace belongs to a whole process: who has several threads cannot enter one.

use crate::error::{Context, Result};
use crate::process::{Clone, Cloned, Namespaces, clone, exit_now, reap, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    LinkNameSpaceType, capabilities, move_into_link_name_space, set_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes a user namespace with these users and groups, in the format of `/proc/PID/uid_map`. It lives on while a descriptor of
/// it, or of a namespace that belongs to it, does. The caller must have one thread: a process is cloned, which ends before this
/// returns.
///
/// # Errors
/// `EPERM` for ids that the caller does not have itself, `ENOSPC` at the limit of namespaces (`/proc/sys/user`).
pub fn make(users: &str, groups: &str) -> Result<OwnedFd> {
    with_process(
        Some(Namespaces::NEWUSER),
        || Ok(()),
        |process| {
            write(&format!("{process}/uid_map"), users)?;
            write(&format!("{process}/gid_map"), groups)?;
            open(&format!("{process}/ns/user"), OFlags::RDONLY)
        },
    )
}

/// Makes a network namespace that belongs to the user namespace `user`. For callers of [`make`].
///
/// # Errors
/// `EPERM` without privilege over the user namespace, `ENOSPC` at the limit of namespaces.
pub fn make_network(user: BorrowedFd<'_>) -> Result<OwnedFd> {
    let enter = || enter(user).and_then(|()| unshare(Namespaces::NEWNET));
    with_process(None, enter, |process| open(&format!("{process}/ns/net"), OFlags::RDONLY))
}

/// Looks at a process, by its directory in `/proc`, that has done `first` and waits.
fn with_process<T>(
    namespaces: Option<Namespaces>,
    first: impl FnOnce() -> Result<()>,
    look: impl FnOnce(&str) -> Result<T>,
) -> Result<T> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("socketpair", "a process")?;
    match clone(Clone { namespaces, ..Clone::default() })? {
        Cloned::Child => {
            drop(ours);
            let errno = first().err().map_or(0, |error| error.errno().map_or(u8::MAX, errno_byte));
            // Whoever is told looks, and lets go of the other end.
            let told = rustix::io::write(&theirs, &[errno]);
            let _ = told.and_then(|_| rustix::io::read(&theirs, &mut [0_u8; 1]));
            exit_now(0);
        }
        Cloned::Parent(child) => {
            drop(theirs);
            let looked =
                wait_for_word(&ours).and_then(|()| look(&format!("/proc/{}", child.pid.as_raw_nonzero())));
            drop(ours);
            reap(child.pidfd.as_fd())?;
            looked
        }
    }
}

/// Linux's numbers of errors that calls of this module have fit.
fn errno_byte(errno: Errno) -> u8 {
    u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX)
}

fn wait_for_word(socket: &OwnedFd) -> Result<()> {
    let mut word = [u8::MAX];
    rustix::io::read(socket, &mut word).context("read", "what a process says")?;
    match word {
        [0] => Ok(()),
        [errno] => Err(io::Error::from_raw_os_error(errno.into()))
            .context("unshare", "a network namespace of a user namespace"),
    }
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).context("open", path)
}

/// In one call, as the kernel wants it.
fn write(path: &str, text: &str) -> Result<()> {
    rustix::io::write(open(path, OFlags::WRONLY)?, text.as_bytes()).context("write", path).map(drop)
}

/// Moves the calling process, which has one thread and root's privilege, into a user namespace, where it has every capability
/// and is nobody yet.
///
/// # Errors
/// `EINVAL` from a process with several threads, `EPERM` without privilege over the namespace.
pub fn enter(namespace: BorrowedFd<'_>) -> Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::User)).context("setns", "user namespace")
}

/// Makes the calling process root of the user namespace that it has entered, in root's group alone.
///
/// # Errors
/// `EINVAL` where the namespace has no root.
pub fn become_root() -> Result<()> {
    let (user, group) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[]).context("setgroups", "none")?;
    set_thread_res_gid(group, group, group).context("setresgid", "root")?;
    set_thread_res_uid(user, user, user).context("setresuid", "root")
}

/// Does `work` with the calling thread as the owner of what it makes, and with all its privileges: what is made in a mount
/// whose owners are mapped has to belong to somebody there, and root of the host is nobody in a container. An overlay that is
/// mounted so does its own work in the owner's name, too.
///
/// # Errors
/// When the thread is not root.
pub fn as_owner<T>((uid, gid): (u32, u32), work: impl FnOnce() -> T) -> Result<T> {
    let own = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    set_owner(uid, gid).context("setfsuid", uid)?;
    let done = work();
    drop(own);
    Ok(done)
}

/// Gives the thread back who it was.
struct Owner {
    uid: u32,
    gid: u32,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It is who the thread is otherwise, which is always allowed.
        let _ = set_owner(self.uid, self.gid);
    }
}

fn set_owner(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: both take a number and concern the calling thread alone. They tell what was before, not whether it worked.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
    // The kernel takes privileges over files away from who is not root for files, capabilities(7).
    let sets = capabilities(None)?;
    set_capabilities(None, rustix::thread::CapabilitySets { effective: sets.permitted, ..sets })?;
    // SAFETY: as above; a number that is nobody's changes nothing.
    let now = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    if now == libc::c_long::from(uid) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_owner_makes_files_and_keeps_its_privileges() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made");
        let write =
            || std::fs::write(&path, "").and_then(|()| std::os::unix::fs::chown(&path, Some(7), None));
        as_owner((70_000, 70_001), || {
            std::fs::write(directory.path().join("first"), "").unwrap();
            write().unwrap();
        })
        .unwrap();
        let found = std::fs::metadata(directory.path().join("first")).unwrap();
        assert_eq!(
            (found.uid(), found.gid()),
            (70_000, 70_001),
            "in a directory of mode 0700 that is root's"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), 7);
        std::fs::write(directory.path().join("later"), "").unwrap();
        assert_eq!(std::fs::metadata(directory.path().join("later")).unwrap().uid(), 0);
    }
}
