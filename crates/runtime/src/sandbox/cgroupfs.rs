//! `/sys/fs/cgroup` as a container sees it: its own group at the top of each hierarchy.

use crate::cgroup::{Group, Layout};
use crate::error::{Error, Result};
use coracle_sys::mount::{self, Attributes, Depth, Parameter};
use rustix::fs::{Mode, mkdirat, symlinkat};
use rustix::mount::MountFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Mounts the container's view on `target`. With a cgroup namespace of its own (`private`) the kernel cuts the
/// view; without one, only the group's own directories are shown.
pub(super) fn mount(group: &Group, private: bool, set: Attributes, target: BorrowedFd<'_>) -> Result<()> {
    match group.layout() {
        Layout::V2 { .. } if private => {
            let made = mount::make("cgroup2", &[], set)?;
            Ok(mount::attach(made.as_fd(), target)?)
        }
        Layout::V2 { .. } => {
            let directory = group.unified().unwrap_or_default();
            let copy = mount::copy_path(&directory, Depth::One)?;
            mount::change(copy.as_fd(), set, Attributes::empty(), None, Depth::One)?;
            Ok(mount::attach(copy.as_fd(), target)?)
        }
        Layout::V1 { hierarchies, .. } => {
            let parameters = [Parameter::Value("mode", "755"), Parameter::Value("size", "0")];
            let top = mount::make("tmpfs", &parameters, set - Attributes::MOUNT_ATTR_RDONLY)?;
            mount::attach(top.as_fd(), target)?;
            // The old interface takes a path: those below are names in the fresh tmpfs, which is ours alone.
            rustix::process::fchdir(&top)
                .map_err(|error| Error::Child(format!("the cgroup directory: {error}")))?;
            for hierarchy in hierarchies {
                one(group, &hierarchy.controllers, private, set, &top)?;
            }
            let read_only = set & Attributes::MOUNT_ATTR_RDONLY;
            Ok(mount::change(top.as_fd(), read_only, Attributes::empty(), None, Depth::One)?)
        }
    }
}

/// One v1 hierarchy, in a directory named after its controllers below `top`, the working directory.
fn one(group: &Group, controllers: &[String], private: bool, set: Attributes, top: &OwnedFd) -> Result<()> {
    let option = controllers.join(",");
    let name = option.strip_prefix("name=").unwrap_or(&option);
    let failed = |error: rustix::io::Errno| Error::Child(format!("cgroup hierarchy {name}: {error}"));
    mkdirat(top, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
    if controllers.len() > 1 {
        for controller in controllers {
            symlinkat(name, top, controller.as_str()).map_err(failed)?;
        }
    }
    if private {
        // One call where the new interface takes five.
        let data = std::ffi::CString::new(option.as_str()).unwrap_or_default();
        return rustix::mount::mount("cgroup", name, "cgroup", flags(set), Some(data.as_c_str()))
            .map_err(failed);
    }
    let directory =
        controllers.first().and_then(|controller| group.controller(controller)).unwrap_or_default();
    let copy = mount::copy_path(&directory, Depth::One)?;
    mount::change(copy.as_fd(), set, Attributes::empty(), None, Depth::One)?;
    let target = rustix::fs::openat(
        top,
        name,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed)?;
    Ok(mount::attach(copy.as_fd(), target.as_fd())?)
}

fn flags(set: Attributes) -> MountFlags {
    [
        (Attributes::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (Attributes::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (Attributes::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (Attributes::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    ]
    .into_iter()
    .filter(|(attribute, _)| set.contains(*attribute))
    .fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}
