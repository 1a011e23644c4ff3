//! What a container sees as its file system, assembled by its first process in its own namespaces.
//!
//! The root and all its content are hostile: every target is resolved once, inside the root, to a descriptor, and
//! only descriptors are mounted on. `/proc` and `/sys` must be ordinary directories (CVE-2019-19921,
//! CVE-2023-27561). Nothing of it ever shows in the host's mount table.

use super::plan::{MountKind, Plan, PlannedMount};
use super::{cgroupfs, device};
use crate::cgroup::Group;
use crate::error::{Error, Result};
use coracle_sys::mount::{self, Attributes, Depth, Parameter};
use coracle_sys::process::Namespaces;
use coracle_sys::rooted::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// `f_type` of procfs, statfs(2).
const PROCFS: i64 = 0x9fa0;

/// What later steps need of the assembled file system.
pub(super) struct Assembled {
    /// The root, mounted.
    pub(super) root: Root,
    /// The container's own pseudoterminals, if it has any.
    pub(super) terminals: Option<OwnedFd>,
    /// The directory of devices, if the container has one of its own.
    pub(super) devices: Option<OwnedFd>,
}

/// Attaches `root_mount` in the calling process's mount namespace and makes every mount of the plan below it.
pub(super) fn assemble(plan: &Plan, root_mount: BorrowedFd<'_>, group: &Group) -> Result<Assembled> {
    mount::propagate_all(plan.propagation)?;
    mount::attach(root_mount, open_host("/", OFlags::DIRECTORY)?.as_fd())?;
    let root = root_mount.try_clone_to_owned().map_err(|error| Error::Child(format!("dup: {error}")))?;
    let mut assembled = Assembled { root: Root::from_fd(root)?, terminals: None, devices: None };
    for planned in &plan.mounts {
        mount_one(plan, planned, group, &mut assembled).map_err(|error| {
            Error::Child(format!("mount {}: {}", planned.destination.display(), error.chain()))
        })?;
    }
    Ok(assembled)
}

/// Hides and protects what the plan names, and makes the root read-only if it asks for that.
pub(super) fn protect(plan: &Plan, assembled: &Assembled) -> Result<()> {
    let root = &assembled.root;
    for path in &plan.linux.readonly_paths {
        if let Some(target) = existing(root, path)? {
            let copy = mount::copy_descriptor(target.as_fd(), Depth::Recursive)?;
            let read_only = Attributes::MOUNT_ATTR_RDONLY;
            mount::change(copy.as_fd(), read_only, Attributes::empty(), None, Depth::Recursive)?;
            mount::attach(copy.as_fd(), target.as_fd())?;
        }
    }
    mask(root, &plan.linux.masked_paths)?;
    if plan.readonly_root {
        let read_only = Attributes::MOUNT_ATTR_RDONLY;
        mount::change(root.as_fd(), read_only, Attributes::empty(), None, Depth::One)?;
    }
    Ok(())
}

fn mount_one(plan: &Plan, planned: &PlannedMount, group: &Group, assembled: &mut Assembled) -> Result<()> {
    match &planned.kind {
        MountKind::Tree { copy, directory } => bind(&assembled.root, planned, copy.as_fd(), *directory),
        MountKind::Cgroup => {
            let target = assembled.root.create_dir_all(&planned.destination, DIRECTORY_MODE)?;
            refuse_procfs(planned, target.as_fd())?;
            cgroupfs::mount(group, plan.owns(Namespaces::NEWCGROUP), planned.options.set, target.as_fd())
        }
        MountKind::New { kind, source } => {
            let made = make(kind, source, planned)?;
            let target = target_of_new(&assembled.root, kind, &planned.destination)?;
            refuse_procfs(planned, target.as_fd())?;
            mount::attach(made.as_fd(), target.as_fd())?;
            propagate(planned, made.as_fd())?;
            if kind == "tmpfs" && planned.destination == Path::new("/dev") {
                device::populate(made.as_fd(), &plan.linux.devices)?;
                assembled.devices = Some(made);
            } else if kind == "devpts" {
                assembled.terminals = Some(made);
            }
            Ok(())
        }
    }
}

fn make(kind: &str, source: &str, planned: &PlannedMount) -> Result<OwnedFd> {
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

/// The directory that a new file system is mounted on, made if it is missing.
fn target_of_new(root: &Root, kind: &str, destination: &Path) -> Result<OwnedFd> {
    if kind != "proc" && kind != "sysfs" {
        return Ok(root.create_dir_all(destination, DIRECTORY_MODE)?);
    }
    let relative = destination.strip_prefix("/").unwrap_or(destination);
    let open = || root.open_beneath_no_symlinks(relative, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let opened = match open() {
        Err(error) if error.errno() == Some(Errno::NOENT) => {
            root.create_dir_all(destination, DIRECTORY_MODE)?;
            open()
        }
        opened => opened,
    };
    opened.map_err(|error| match error.errno() {
        Some(Errno::LOOP | Errno::NOTDIR) => {
            Error::Child(format!("{kind} must be mounted on an ordinary directory"))
        }
        _ => error.into(),
    })
}

fn bind(root: &Root, planned: &PlannedMount, copy: BorrowedFd<'_>, directory: bool) -> Result<()> {
    let options = &planned.options;
    if !(options.set | options.clear).is_empty() {
        mount::change(copy, options.set, options.clear, None, Depth::One)?;
    }
    if !(options.set_below | options.clear_below).is_empty() {
        mount::change(copy, options.set_below, options.clear_below, None, Depth::Recursive)?;
    }
    propagate(planned, copy)?;
    let target = if directory {
        root.create_dir_all(&planned.destination, DIRECTORY_MODE)?
    } else {
        root.create_file(&planned.destination)?
    };
    refuse_procfs(planned, target.as_fd())?;
    Ok(mount::attach(copy, target.as_fd())?)
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

/// Covers files with the null device and directories with an empty read-only one.
///
/// The null device is the host's, its number checked: a container's own could be a link to what must be hidden
/// (CVE-2025-31133).
fn mask(root: &Root, paths: &[String]) -> Result<()> {
    let null = open_host("/dev/null", OFlags::empty())?;
    if !device::is_null(null.as_fd()) {
        return Err(Error::Child("/dev/null is not the null device".to_owned()));
    }
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = existing(root, path)? else { continue };
        let stat = rustix::fs::fstat(&target).map_err(|error| Error::Child(format!("{path}: {error}")))?;
        let cover = if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            mount::copy_descriptor(null.as_fd(), Depth::One)?
        } else if let Some(empty) = &empty {
            mount::copy_descriptor(empty.as_fd(), Depth::One)?
        } else {
            let made =
                mount::make("tmpfs", &[Parameter::Value("nr_inodes", "1")], Attributes::MOUNT_ATTR_RDONLY)?;
            mount::attach(made.as_fd(), target.as_fd())?;
            empty = Some(made);
            continue;
        };
        mount::attach(cover.as_fd(), target.as_fd())?;
    }
    Ok(())
}

/// The file at `path` inside the root, or nothing when there is none.
fn existing(root: &Root, path: &str) -> Result<Option<OwnedFd>> {
    match root.open_path(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a path of the host's, before the root is changed.
fn open_host(path: &str, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags, Mode::empty())
        .map_err(|error| Error::Child(format!("{path}: {error}")))
}
