//! Owner, mode, times and extended attributes of what is unpacked, and which attributes belong to an image at all.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use coracle_sys::error::Context;
use coracle_sys::{Result, xattr};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::archive::{Entry, Kind, Time};

/// Hides everything that lower layers have in the same directory (overlayfs).
pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// Inherited by what is made in the directory, so it is set last.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Whether an extended attribute of an archive is content. Everything else is policy of the machine that unpacks:
/// labels and signatures (`security.selinux`, `security.ima`), and what overlayfs would obey (`trusted.overlay.*`,
/// `user.overlay.*`).
pub(crate) fn is_content(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | DEFAULT_ACL => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

/// Refuses access lists that are none: the kernel answers for some of them as if it knew no access lists at all.
pub(super) fn check(entry: &Entry) -> std::result::Result<(), &'static str> {
    let lists = content(entry).filter(|(name, _)| name.starts_with(b"system."));
    for (_, value) in lists {
        // posix_acl_xattr.h: a version, then entries of eight bytes.
        if value.get(..4) != Some(&[2, 0, 0, 0]) || !value[4..].len().is_multiple_of(8) {
            return Err("the access list is malformed");
        }
    }
    Ok(())
}

/// What becomes of attributes that a file system has no place for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unsupported {
    /// The entry is refused: a layer is whole or not at all.
    Refused,
    /// They are left out, as Docker does: what is copied into may be any file system of the host.
    LeftOut,
}

/// Sets everything but the time on an open file or directory. The owner comes first: changing it clears setuid and
/// capabilities. What is so already is left: to look costs a tenth of a change.
pub(super) fn set_on_open(fd: BorrowedFd<'_>, entry: &Entry, unsupported: Unsupported) -> Result<()> {
    let (uid, gid) = owner(entry);
    let found = rustix::fs::fstat(fd).context("fstat", "entry")?;
    let is_theirs = (found.st_uid, found.st_gid) == (entry.uid, entry.gid);
    if !is_theirs {
        rustix::fs::fchown(fd, Some(uid), Some(gid)).context("fchown", "entry")?;
    }
    if !is_theirs || found.st_mode & 0o7777 != entry.mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).context("fchmod", "entry")?;
    }
    for (name, value) in content(entry).filter(|(name, _)| *name != DEFAULT_ACL) {
        match xattr::set(fd, &c_string(name), value) {
            Err(error) if unsupported == Unsupported::LeftOut && error.errno() == Some(Errno::OPNOTSUPP) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Sets everything on what cannot be opened: links, FIFOs and devices.
pub(super) fn set_by_name(parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> Result<()> {
    let (uid, gid) = owner(entry);
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statat(parent, name, nofollow).context("fstatat", "entry")?;
    if (found.st_uid, found.st_gid) != (entry.uid, entry.gid) {
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), nofollow).context("fchownat", "entry")?;
    }
    let open = || {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::empty()).context("openat", "entry")
    };
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        // By a handle: in a container that runs, a link may be there by now, and fchmodat(2) follows one.
        coracle_sys::rooted::set_mode(&open()?, Mode::from_raw_mode(entry.mode))?;
    }
    // user(7) attributes exist only on files and directories, and no ACL on links.
    for (key, value) in content(entry).filter(|(key, _)| key.starts_with(b"security.")) {
        xattr::set(&open()?, &c_string(key), value)?;
    }
    rustix::fs::utimensat(parent, name, &timestamps(entry.mtime), nofollow).context("utimensat", "entry")
}

/// Sets access and modification time.
pub(super) fn set_time(fd: impl AsFd, time: Time) -> Result<()> {
    rustix::fs::futimens(fd, &timestamps(time)).context("futimens", "entry")
}

fn content(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = entry.xattrs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    pairs.filter(|(name, _)| is_content(name))
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn c_string(name: &[u8]) -> CString {
    CString::new(name).expect("the reader refuses NUL in names of attributes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_is_kept() {
        for kept in
            ["user.mime", "security.capability", "system.posix_acl_access", "system.posix_acl_default"]
        {
            assert!(is_content(kept.as_bytes()), "{kept}");
        }
        for dropped in [
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "trusted.overlay.metacopy",
            "trusted.x",
            "user.overlay.opaque",
            "security.selinux",
            "security.ima",
            "security.evm",
            "security.apparmor",
            "system.nfs4_acl",
            "noname",
            "",
        ] {
            assert!(!is_content(dropped.as_bytes()), "{dropped}");
        }
    }
}
