//! Mounting on held descriptors with mount(2), which takes one call where the interface of descriptors takes five to
//! ten, and works on every kernel.
//!
//! The old interface knows paths only. The paths here are names in the process's own table of descriptors, so that a
//! target is what its descriptor refers to, whatever has become of the path that it was found by. What comes to be
//! mounted cannot be told by a descriptor afterwards: who needs one uses [`super::make`] and [`super::attach`].

use super::Attributes;
use crate::error::{Context, Error, Result};
use crate::limits;
use crate::proc::{fd_name, fd_table};
use crate::process::keep_until_exec;
use rustix::mount::{MountFlags, mount, mount_bind};
use std::ffi::CString;
use std::os::fd::BorrowedFd;

/// A file system to be made and mounted.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem<'a> {
    /// Its kind, `tmpfs` for instance.
    pub kind: &'a str,
    /// What `/proc/mounts` tells as its source.
    pub source: &'a str,
    /// Its options.
    pub options: &'a [String],
    /// The attributes of the mount. `MOUNT_ATTR_RDONLY` makes the file system itself read-only as well, for all who
    /// mount it.
    pub attributes: Attributes,
}

/// The table of descriptors, which is the working directory of the process while it mounts.
#[derive(Debug)]
pub struct Targets(());

impl Targets {
    /// Makes the table the working directory, where it has to stay as long as this is used: elsewhere the names of
    /// descriptors are not found. For a process that is about to execute a program, as the table stays open until then.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when `/proc` is no procfs, and the calls' own.
    pub fn enter() -> Result<Self> {
        rustix::process::fchdir(keep_until_exec(fd_table()?)).context("fchdir", "/proc/self/fd")?;
        Ok(Self(()))
    }

    /// Makes a file system and mounts it on `target`.
    ///
    /// # Errors
    /// `ENODEV` for a kind that the kernel does not know, `EINVAL` for an option that it does not take.
    pub fn mount(&self, new: &FileSystem<'_>, target: BorrowedFd<'_>) -> Result<()> {
        new.mount_on(&fd_name(&target))
    }

    /// Makes a file system and mounts it on the file `name` in `directory`, which nobody else can change.
    ///
    /// # Errors
    /// As [`Targets::mount`].
    pub fn mount_below(&self, new: &FileSystem<'_>, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
        let path = format!("{}/{name}", fd_name(&directory).to_string_lossy());
        new.mount_on(&c_string(path)?)
    }

    /// Mounts the file that `source` refers to, without what is mounted below it, on `target`. Both are in the caller's
    /// mount namespace.
    ///
    /// # Errors
    /// `ENOTDIR` when one is a directory and the other is not.
    pub fn bind(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
        mount_bind(fd_name(&source).as_c_str(), fd_name(&target).as_c_str()).context("mount", "a file")
    }
}

impl FileSystem<'_> {
    fn mount_on(&self, target: &CString) -> Result<()> {
        let options = self.options.join(",");
        if options.len() >= limits::MOUNT_OPTIONS {
            return Err(Error::Unexpected {
                subject: format!("{} bytes of options of a {}", options.len(), self.kind),
                expected: "what mount(2) takes, which is less than a page",
            });
        }
        let data = c_string(options)?;
        mount(self.source, target.as_c_str(), self.kind, flags(self.attributes), Some(data.as_c_str()))
            .context("mount", format_args!("{} {}", self.kind, data.to_string_lossy()))
    }
}

fn c_string(text: String) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Unexpected {
        subject: "an option of a mount".to_owned(),
        expected: "without a zero byte",
    })
}

fn flags(attributes: Attributes) -> MountFlags {
    [
        (Attributes::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (Attributes::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (Attributes::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (Attributes::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (Attributes::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (Attributes::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
        (Attributes::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (Attributes::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ]
    .into_iter()
    .filter(|(attribute, _)| attributes.contains(*attribute))
    .fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}
