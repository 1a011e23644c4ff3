//! What a container sees as its file system, assembled by its first process in its own namespaces: first the file systems
//! of the kernel on a ground of our own, then, once the root is there, they move into it, and the container's own mounts
//! follow.
//!
//! The root and all its content are hostile: every target is resolved once, inside the root, to a descriptor, and
//! only descriptors are mounted on. `/proc` and `/sys` must be ordinary directories (CVE-2019-19921,
//! CVE-2023-27561). Nothing of it ever shows in the host's mount table.
//!
//! Descriptors are not closed one by one: the program is executed soon, and ends them all.

use super::plan::{MountKind, Plan, PlannedMount};
use super::{cgroupfs, device, identity};
use crate::cgroup::Group;
use crate::error::{Error, Result};
use coracle_sys::mount::{self, Attributes, Depth, FileSystem, Parameter, Propagation, Targets};
use coracle_sys::process::{Namespaces, keep_until_exec};
use coracle_sys::rooted::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// `f_type` of procfs, statfs(2).
const PROCFS: i64 = 0x9fa0;

/// What is assembled, and what later steps need of it.
pub(super) struct Assembled<'a> {
    /// What is mounted in: the ground, then the root.
    pub(super) root: Root,
    /// The container's own pseudoterminals, if it has any and a terminal.
    pub(super) terminals: Option<BorrowedFd<'static>>,
    /// The directory of devices, if the container has one of its own.
    pub(super) devices: Option<BorrowedFd<'static>>,
    /// The same, until something is mounted that might have come to lie over it or in it.
    fresh_devices: Option<BorrowedFd<'static>>,
    /// What is mounted on by number.
    pub(super) targets: Targets,
    /// The mounts on the ground itself, which carry all others.
    tops: Vec<(BorrowedFd<'static>, &'a PlannedMount)>,
    has_parameters: bool,
}

/// Makes the file systems of the kernel, on a ground that nothing else is on, in the calling process's mount namespace.
/// Sets the parameters of the kernel that are the container's own on the way.
pub(super) fn lay<'a>(plan: &'a Plan, group: &Group) -> Result<Assembled<'a>> {
    // Whatever the root's shall be in the end, nothing of this goes to the host.
    let separate =
        if plan.propagation == Propagation::Private { Propagation::Private } else { Propagation::Slave };
    mount::propagate_all(separate)?;
    let ground = Root::from_fd(mount::make("tmpfs", &[], Attributes::empty())?)?;
    mount::attach_on_root(ground.as_fd())?;
    let mut assembled = Assembled {
        root: ground,
        terminals: None,
        devices: None,
        fresh_devices: None,
        targets: Targets::enter()?,
        tops: Vec::new(),
        has_parameters: false,
    };
    for planned in &plan.mounts {
        let made = mount_one(plan, planned, group, &mut assembled)?;
        let is_top = planned.destination.components().count() == 2;
        assembled.tops.extend(made.filter(|_| is_top).map(|made| (made, planned)));
    }
    if !assembled.has_parameters {
        identity::set_parameters(plan, &super::private_procfs()?)?;
    }
    Ok(assembled)
}

/// Goes on in `root`: attaches it, moves what was laid into it, and makes the container's own mounts.
pub(super) fn settle(
    plan: &Plan,
    root: Root,
    mounts: &[PlannedMount],
    group: &Group,
    assembled: &mut Assembled<'_>,
) -> Result<()> {
    mount::attach_on_root(root.as_fd())?;
    let ground = std::mem::replace(&mut assembled.root, root);
    keep_until_exec(ground.into_fd());
    assembled.fresh_devices = None;
    for (top, planned) in std::mem::take(&mut assembled.tops) {
        let moved =
            top_directory(&assembled.root, planned).and_then(|target| Ok(mount::attach(top, target)?));
        moved.map_err(in_mounting(planned))?;
    }
    for planned in mounts {
        mount_one(plan, planned, group, assembled)?;
    }
    match plan.propagation {
        Propagation::Private | Propagation::Slave => Ok(()),
        other => {
            let none = Attributes::empty();
            Ok(mount::change(assembled.root.as_fd(), none, none, Some(other), Depth::Recursive)?)
        }
    }
}

fn in_mounting(planned: &PlannedMount) -> impl Fn(Error) -> Error {
    move |error| Error::Child(format!("mount {}: {}", planned.destination.display(), error.chain()))
}

/// Makes a mount. Returns a descriptor of it where it was made detached.
fn mount_one(
    plan: &Plan,
    planned: &PlannedMount,
    group: &Group,
    assembled: &mut Assembled<'_>,
) -> Result<Option<BorrowedFd<'static>>> {
    let fresh_devices = assembled.fresh_devices.take();
    let made = match &planned.kind {
        MountKind::Tree { copy } => bind(&assembled.root, planned, copy.as_fd()).map(|()| None),
        MountKind::Cgroup => mount_groups(plan, planned, group, assembled).map(|()| None),
        MountKind::New { kind, source } if is_one_call(plan, planned, kind) => {
            mount_at_once(planned, (kind, source), fresh_devices, assembled).map(|()| None)
        }
        MountKind::New { kind, source } => mount_detached(plan, planned, (kind, source), assembled).map(Some),
    };
    made.map_err(in_mounting(planned))
}

fn mount_groups(plan: &Plan, planned: &PlannedMount, group: &Group, assembled: &Assembled<'_>) -> Result<()> {
    let target = directory_anywhere(&assembled.root, planned)?;
    let private = plan.owns(Namespaces::NEWCGROUP);
    cgroupfs::mount(group, private, planned.options.set, &assembled.targets, target)
}

fn mount_at_once(
    planned: &PlannedMount,
    (kind, source): (&str, &str),
    fresh_devices: Option<BorrowedFd<'static>>,
    assembled: &mut Assembled<'_>,
) -> Result<()> {
    let options = &planned.options;
    let attributes = options.set | options.set_below;
    let new = FileSystem { kind, source, options: &options.data, attributes };
    if let (Some(devices), Some(name)) = (fresh_devices, name_in_dev(&planned.destination))
        && device::make_directory(devices, name)?
    {
        assembled.fresh_devices = fresh_devices;
        return Ok(assembled.targets.mount_below(&new, devices, name)?);
    }
    Ok(assembled.targets.mount(&new, mount_point(&assembled.root, planned)?)?)
}

/// Whether mount(2) is enough: nobody needs a descriptor of the mount, and nothing is read-only, which would make the
/// file system read-only for others that mount it.
fn is_one_call(plan: &Plan, planned: &PlannedMount, kind: &str) -> bool {
    let options = &planned.options;
    let is_needed = match kind {
        "proc" => true,
        "tmpfs" => planned.destination == Path::new("/dev"),
        "devpts" => plan.terminal,
        _ => false,
    };
    let read_only = (options.set | options.set_below).contains(Attributes::MOUNT_ATTR_RDONLY);
    !is_needed && !read_only && kind != "sysfs" && options.propagation.is_none()
}

/// `name` of `/dev/name`.
fn name_in_dev(destination: &Path) -> Option<&str> {
    let mut parts = destination.strip_prefix("/dev").ok()?.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => name.to_str(),
        _ => None,
    }
}

fn mount_detached(
    plan: &Plan,
    planned: &PlannedMount,
    (kind, source): (&str, &str),
    assembled: &mut Assembled<'_>,
) -> Result<BorrowedFd<'static>> {
    let is_devices = kind == "tmpfs" && planned.destination == Path::new("/dev");
    let ready = plan.devices.as_ref().filter(|_| is_devices);
    let made = match ready {
        Some(ready) => ready.try_clone().map_err(|error| Error::Child(format!("duplicate /dev: {error}")))?,
        None => make(kind, source, planned)?,
    };
    let target = top_directory(&assembled.root, planned)?;
    let made = if kind == "proc" && !planned.options.set.contains(Attributes::MOUNT_ATTR_RDONLY) {
        // As long as it is attached nowhere, nothing can lie over what is written (CVE-2025-52881).
        let procfs = Root::from_fd(made)?;
        identity::set_parameters(plan, &procfs)?;
        assembled.has_parameters = true;
        keep_until_exec(procfs.into_fd())
    } else {
        keep_until_exec(made)
    };
    mount::attach(made, target)?;
    propagate(planned, made)?;
    if is_devices {
        if ready.is_none() {
            device::populate(made, &plan.linux.devices, None)?;
        }
        assembled.devices = Some(made);
        assembled.fresh_devices = Some(made);
    } else if kind == "devpts" {
        assembled.terminals = Some(made);
    }
    Ok(made)
}

/// Where a file system is attached that was made detached.
fn top_directory(root: &Root, planned: &PlannedMount) -> Result<BorrowedFd<'static>> {
    match &planned.kind {
        MountKind::New { kind, .. } if kind == "proc" || kind == "sysfs" => {
            ordinary_directory(root, kind, &planned.destination)
        }
        _ => mount_point(root, planned),
    }
}

/// Makes a file system, which is attached nowhere.
pub(super) fn make(kind: &str, source: &str, planned: &PlannedMount) -> Result<OwnedFd> {
    let options = &planned.options;
    let mut parameters: Vec<Parameter<'_>> = options
        .data
        .iter()
        .map(|option| match option.split_once('=') {
            Some((key, value)) => Parameter::Value(key, value),
            None => Parameter::Flag(option),
        })
        .collect();
    if !source.is_empty() {
        parameters.insert(0, Parameter::Value("source", source));
    }
    Ok(mount::make(kind, &parameters, options.set | options.set_below)?)
}

/// The directory that procfs or sysfs is mounted on: one of the root itself, reached without a link.
fn ordinary_directory(root: &Root, kind: &str, destination: &Path) -> Result<BorrowedFd<'static>> {
    let relative = destination.strip_prefix("/").unwrap_or(destination);
    let open = || root.open_beneath_no_symlinks(relative, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let opened = match open() {
        Err(error) if error.errno() == Some(Errno::NOENT) => {
            root.create_dir_all(destination, DIRECTORY_MODE)?;
            open()
        }
        opened => opened,
    };
    opened.map(keep_until_exec).map_err(|error| match error.errno() {
        Some(Errno::LOOP | Errno::NOTDIR) => {
            Error::Child(format!("{kind} must be mounted on an ordinary directory"))
        }
        _ => error.into(),
    })
}

/// The directory that a mount's destination is, made if it is missing. What is reached without leaving the mount of the
/// root is not on procfs, and needs no look at its file system.
fn mount_point(root: &Root, planned: &PlannedMount) -> Result<BorrowedFd<'static>> {
    match root.open_on_same_mount(&planned.destination, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(found) => Ok(keep_until_exec(found)),
        Err(_) => directory_anywhere(root, planned),
    }
}

fn directory_anywhere(root: &Root, planned: &PlannedMount) -> Result<BorrowedFd<'static>> {
    let target = root.create_dir_all(&planned.destination, DIRECTORY_MODE)?;
    refuse_procfs(planned, target.as_fd())?;
    Ok(keep_until_exec(target))
}

fn bind(root: &Root, planned: &PlannedMount, copy: BorrowedFd<'_>) -> Result<()> {
    change_copy(planned, copy)?;
    let found = root.open_on_same_mount(&planned.destination, OFlags::PATH);
    if found.is_ok_and(|target| mount::attach(copy, keep_until_exec(target)).is_ok()) {
        return Ok(());
    }
    // It is missing, elsewhere or of another type, which is told in full here.
    let stat = rustix::fs::fstat(copy).map_err(|error| Error::Child(format!("fstat: {error}")))?;
    let target = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        directory_anywhere(root, planned)?
    } else {
        let target = root.create_file(&planned.destination)?;
        refuse_procfs(planned, target.as_fd())?;
        keep_until_exec(target)
    };
    Ok(mount::attach(copy, target)?)
}

/// Gives a copied tree the attributes and the propagation that were asked for: with one call where it is one mount.
fn change_copy(planned: &PlannedMount, copy: BorrowedFd<'_>) -> Result<()> {
    let options = &planned.options;
    if options.bind == Some(Depth::Recursive) {
        if !(options.set | options.clear).is_empty() {
            mount::change(copy, options.set, options.clear, None, Depth::One)?;
        }
        if !(options.set_below | options.clear_below).is_empty() {
            mount::change(copy, options.set_below, options.clear_below, None, Depth::Recursive)?;
        }
        return propagate(planned, copy);
    }
    let set = (options.set - options.clear_below) | options.set_below;
    let clear = (options.clear - options.set_below) | options.clear_below;
    let propagation = options.propagation.map(|(propagation, _)| propagation);
    if (set | clear).is_empty() && propagation.is_none() {
        return Ok(());
    }
    Ok(mount::change(copy, set, clear, propagation, Depth::One)?)
}

/// Fails when a link of the image has led a mount onto procfs, which a name did not tell (CVE-2019-16884).
fn refuse_procfs(planned: &PlannedMount, target: BorrowedFd<'_>) -> Result<()> {
    if planned.may_cover_procfs() || mount::require_file_system(target, PROCFS, "procfs").is_err() {
        return Ok(());
    }
    Err(Error::Child("it leads into /proc, which nothing may cover".to_owned()))
}

fn propagate(planned: &PlannedMount, mounted: BorrowedFd<'_>) -> Result<()> {
    if let Some((propagation, depth)) = planned.options.propagation {
        let none = Attributes::empty();
        mount::change(mounted, none, none, Some(propagation), depth)?;
    }
    Ok(())
}
