//! `/sys/fs/cgroup` as a container sees it: its own group at the top of each hierarchy.

use crate::cgroup::{Group, Layout};
use crate::error::{Error, Result};
use coracle_sys::mount::{self, Attributes, Depth, FileSystem, Parameter, Targets};
use coracle_sys::process::keep_until_exec;
use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use std::os::fd::{AsFd, BorrowedFd};

/// Mounts the container's view on `target`. With a cgroup namespace of its own (`private`) the kernel cuts the
/// view; without one, only the group's own directories are shown.
pub(super) fn mount(
    group: &Group,
    private: bool,
    set: Attributes,
    targets: &Targets,
    target: BorrowedFd<'_>,
) -> Result<()> {
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
            let top = keep_until_exec(top);
            mount::attach(top, target)?;
            for hierarchy in hierarchies {
                let name = directory(&hierarchy.controllers, top)?;
                if private {
                    // The directory is a name in the fresh tmpfs, which is ours alone.
                    let options = &hierarchy.controllers;
                    let new = FileSystem { kind: "cgroup", source: "cgroup", options, attributes: set };
                    targets.mount_below(&new, top, &name)?;
                } else {
                    bind(group, &hierarchy.controllers, set, (top, &name))?;
                }
            }
            let read_only = set & Attributes::MOUNT_ATTR_RDONLY;
            if read_only.is_empty() {
                return Ok(());
            }
            Ok(mount::change(top, read_only, Attributes::empty(), None, Depth::One)?)
        }
    }
}

/// Makes the directory of a v1 hierarchy, named after its controllers, and a link to it for each of several.
fn directory(controllers: &[String], top: BorrowedFd<'_>) -> Result<String> {
    let option = controllers.join(",");
    let name = option.strip_prefix("name=").unwrap_or(&option);
    mkdirat(top, name, Mode::from_raw_mode(0o755)).map_err(|error| failed(name, error))?;
    if controllers.len() > 1 {
        for controller in controllers {
            symlinkat(name, top, controller.as_str()).map_err(|error| failed(name, error))?;
        }
    }
    Ok(name.to_owned())
}

/// Shows the group's own directory of a v1 hierarchy in the directory `name` of `top`.
fn bind(
    group: &Group,
    controllers: &[String],
    set: Attributes,
    (top, name): (BorrowedFd<'_>, &str),
) -> Result<()> {
    let directory =
        controllers.first().and_then(|controller| group.controller(controller)).unwrap_or_default();
    let copy = mount::copy_path(&directory, Depth::One)?;
    mount::change(copy.as_fd(), set, Attributes::empty(), None, Depth::One)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = openat(top, name, flags, Mode::empty()).map_err(|error| failed(name, error))?;
    Ok(mount::attach(copy.as_fd(), target.as_fd())?)
}

fn failed(name: &str, error: rustix::io::Errno) -> Error {
    Error::Child(format!("cgroup hierarchy {name}: {error}"))
}
