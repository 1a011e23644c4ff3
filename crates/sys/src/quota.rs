//! Quotas of projects: bounds on what a directory and all below it may take on its file system, quotactl(2) and
//! ioctl_xfs_fsgetxattr(2). XFS has them where it is mounted with `pquota`, ext4 with the feature `project` and `prjquota`.
//!
//! A project is a number that files have beside their owner. What is made in a directory that passes its number on has it as
//! well, and the kernel counts all blocks by it.

use crate::error::{Context, Result};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Quotas are asked for by descriptor, with no device in between, since Linux 5.14.
const SYS_QUOTACTL_FD: libc::c_long = libc::SYS_quotactl_fd;
const PROJECTS: libc::c_int = 2;
/// `Q_XGETQSTAT`, `Q_GETQUOTA` and `Q_SETQUOTA`.
const GET_STATE: libc::c_int = 0x5805;
const GET_QUOTA: libc::c_int = 0x80_0007;
const SET_QUOTA: libc::c_int = 0x80_0008;
/// `FS_QUOTA_PDQ_ENFD`: projects are held to their limits, not only counted.
const ENFORCED: u16 = 1 << 5;
/// `QIF_BLIMITS`: the limits of blocks are what is set.
const BLOCK_LIMITS: u32 = 1;
/// The unit of limits, in bytes (`QIF_DQBLKSIZE`).
const BLOCK: u64 = 1024;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory belongs to its project.
const INHERIT: u32 = 0x200;
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`.
const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;

/// `struct fs_quota_stat`.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    flags: u16,
    _pad: i8,
    /// Files and limits in general, which nobody asks for here.
    _rest: [u64; 9],
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    _pad: [u8; 8],
}

/// What a project has and may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// Most bytes; no bound if 0.
    pub limit: u64,
}

/// Whether the file system of `directory` holds projects to their limits. Without privilege it holds nobody.
///
/// # Errors
/// The call's, other than those that mean no.
pub fn is_enforced(directory: BorrowedFd<'_>) -> Result<bool> {
    let mut state = State::default();
    match control(directory, GET_STATE, 0, &mut state) {
        Ok(()) => Ok(state.flags & ENFORCED != 0),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOSYS | Errno::SRCH | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => Ok(false),
            _ => Err(error).context("quotactl_fd", "Q_XGETQSTAT"),
        },
    }
}

/// What a project has and may have on the file system of `directory`.
///
/// # Errors
/// `ESRCH` where projects are not counted, `EPERM` without privilege.
pub fn usage(directory: BorrowedFd<'_>, project: u32) -> Result<Usage> {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    match control(directory, GET_QUOTA, project, &mut quota) {
        // Of a project that never had anything XFS knows nothing.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(Usage::default()),
        asked => asked.context("quotactl_fd", format_args!("project {project}")).map(|()| Usage {
            bytes: quota.dqb_curspace,
            files: quota.dqb_curinodes,
            limit: quota.dqb_bhardlimit.saturating_mul(BLOCK),
        }),
    }
}

/// Holds a project to so many bytes on the file system of `directory`; to none if 0. The kernel counts in whole blocks.
///
/// # Errors
/// As [`usage`]; `ERANGE` for more than the file system can count.
pub fn set_limit(directory: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<()> {
    // SAFETY: as above.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    quota.dqb_bhardlimit = bytes.div_ceil(BLOCK);
    quota.dqb_bsoftlimit = quota.dqb_bhardlimit;
    quota.dqb_valid = BLOCK_LIMITS;
    control(directory, SET_QUOTA, project, &mut quota)
        .context("quotactl_fd", format_args!("project {project}"))
}

/// The project that what is made in `directory` belongs to; nothing where it is nobody's.
///
/// # Errors
/// `ENOTTY` from a file system without projects.
pub fn project(directory: BorrowedFd<'_>) -> Result<Option<u32>> {
    let attributes = attributes(directory)?;
    Ok((attributes.flags & INHERIT != 0 && attributes.project != 0).then_some(attributes.project))
}

/// Has an empty directory, and what is made in it from here on, belong to a project.
///
/// # Errors
/// As [`project`]; `EPERM` without privilege.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the structure, which has the layout of struct fsxattr,
    // outlives the call, which only reads it.
    let done = unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES as _, &raw const attributes) };
    if done < 0 {
        return Err(io::Error::last_os_error())
            .context("ioctl", format_args!("FS_IOC_FSSETXATTR of project {project}"));
    }
    Ok(())
}

/// Room for overlayfs beyond the limit of a project, until this is dropped.
///
/// overlayfs makes its own directory anew at each mount, and where it cannot it mounts read-only and says nothing: what is full
/// could not be made emptier once it was mounted again.
#[derive(Debug)]
pub struct RoomToMount {
    directory: OwnedFd,
    project: u32,
    limit: u64,
}

impl RoomToMount {
    /// More than a directory takes, and what file systems hold ready to make one, in bytes.
    const BYTES: u64 = 1 << 20;

    /// Gives it to the project of a directory; nothing where that has no limit.
    ///
    /// # Errors
    /// As [`project`] and [`usage`].
    pub fn of(directory: OwnedFd) -> Result<Option<Self>> {
        let Some(project) = project(directory.as_fd())? else { return Ok(None) };
        let limit = usage(directory.as_fd(), project)?.limit;
        if limit == 0 {
            return Ok(None);
        }
        set_limit(directory.as_fd(), project, limit.saturating_add(Self::BYTES))?;
        Ok(Some(Self { directory, project, limit }))
    }
}

impl Drop for RoomToMount {
    fn drop(&mut self) {
        // It worked a moment ago, and nobody could do more about it.
        let _ = set_limit(self.directory.as_fd(), self.project, self.limit);
    }
}

fn attributes(directory: BorrowedFd<'_>) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: as above; the call fills the structure, which has the size that is part of the command.
    let done = unsafe { libc::ioctl(directory.as_raw_fd(), GET_ATTRIBUTES as _, &raw mut attributes) };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("ioctl", "FS_IOC_FSGETXATTR");
    }
    Ok(attributes)
}

fn control<T>(directory: BorrowedFd<'_>, command: libc::c_int, project: u32, data: &mut T) -> io::Result<()> {
    let command = (command << 8) | PROJECTS;
    // SAFETY: `data` has the layout that `command` reads or fills, and outlives the call; the descriptor is open for as long
    // as it is borrowed.
    let done = unsafe {
        libc::syscall(
            SYS_QUOTACTL_FD,
            directory.as_raw_fd(),
            command,
            libc::c_ulong::from(project),
            std::ptr::from_mut(data),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!((size_of::<Attributes>(), size_of::<State>()), (28, 80));
    }

    #[test]
    fn memory_holds_nobody_to_a_limit() {
        let memory = std::fs::File::open("/dev/shm").unwrap();
        assert!(!is_enforced(memory.as_fd()).unwrap());
    }
}
