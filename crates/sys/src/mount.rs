//! Mounts as descriptors: made detached, changed by descriptor, attached to a descriptor (Linux 5.2 and 5.12).
//!
//! No function here takes a path below a container's root; targets are descriptors from [`crate::rooted`].
//! [`Targets`] mounts on them by the older interface, which takes fewer calls.

use crate::error::{Context, Error, Result};
use crate::userns::as_owner;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree,
};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

mod targets;

pub use targets::{FileSystem, Targets};

/// Attributes of a mount, `MOUNT_ATTR_*` of mount_setattr(2).
pub type Attributes = MountAttrFlags;

/// How mount events travel between copies of a mount, mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// In no direction.
    Private,
    /// From the original to the copy.
    Slave,
    /// In both directions.
    Shared,
    /// In no direction, and the mount cannot be copied.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }

    fn flags(self) -> MountPropagationFlags {
        match self {
            Self::Private => MountPropagationFlags::PRIVATE,
            Self::Slave => MountPropagationFlags::DOWNSTREAM,
            Self::Shared => MountPropagationFlags::SHARED,
            Self::Unbindable => MountPropagationFlags::UNBINDABLE,
        }
    }
}

/// Whether a change reaches the mounts below as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// This mount alone.
    One,
    /// This mount and all below it.
    Recursive,
}

/// An option of a file system that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// A name alone, for instance `ro`.
    Flag(&'a str),
    /// A name and a value.
    Value(&'a str, &'a str),
}

/// Makes a file system of `kind` and a detached mount of it.
///
/// # Errors
/// `ENODEV` for a kind the kernel does not know, `EINVAL` for an option it does not take.
pub fn make(kind: &str, parameters: &[Parameter<'_>], attributes: Attributes) -> Result<OwnedFd> {
    create(describe(kind, parameters)?.as_fd(), kind, attributes)
}

/// Flags of mount(2), `MS_*`.
pub type Flags = MountFlags;

/// Mounts a file system on `target` as mount(2) does, which leaves the words of `data` to the file system.
///
/// # Errors
/// The call's: `ENODEV` for a kind the kernel does not know, `ENOTBLK` and `ENOENT` for the device, `EINVAL` for `data`.
pub fn mount_on(target: &Path, device: &str, kind: &str, flags: Flags, data: &str) -> Result<()> {
    let data = CString::new(data).map_err(|_| io::Error::from(rustix::io::Errno::INVAL));
    let mounted = data.and_then(|data| {
        Ok(rustix::mount::mount(device, target, kind, flags, (!data.is_empty()).then_some(data.as_c_str()))?)
    });
    mounted.context("mount", target.display())
}

/// A file system of `kind` as it is going to be.
fn describe(kind: &str, parameters: &[Parameter<'_>]) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen", kind)?;
    for parameter in parameters {
        match parameter {
            Parameter::Flag(key) => {
                fsconfig_set_flag(context.as_fd(), *key).context("fsconfig", format!("{kind} {key}"))
            }
            Parameter::Value(key, value) => fsconfig_set_string(context.as_fd(), *key, *value)
                .context("fsconfig", format!("{kind} {key}={value}")),
        }?;
    }
    Ok(context)
}

fn create(context: BorrowedFd<'_>, kind: &str, attributes: Attributes) -> Result<OwnedFd> {
    fsconfig_create(context).context("fsconfig create", kind)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).context("fsmount", kind)
}

/// A detached copy of the mount at `path`, in the caller's mount namespace.
///
/// # Errors
/// `ENOENT` and the like for the path; `EINVAL` for an unbindable mount.
pub fn copy_path(path: &Path, depth: Depth) -> Result<OwnedFd> {
    copy(CWD, path, depth, OpenTreeFlags::empty())
}

/// A mount of its own of the directory at `path`, whose owners are shown as those of the user namespace `mapping`.
///
/// # Errors
/// As [`copy_path`] and [`map_owners`].
pub fn copy_mapped(path: &Path, mapping: BorrowedFd<'_>) -> Result<OwnedFd> {
    let copy = copy_path(path, Depth::One)?;
    map_owners(copy.as_fd(), mapping, Depth::One)?;
    Ok(copy)
}

/// A detached copy of the mount that `descriptor` is on, rooted at the file it refers to.
///
/// # Errors
/// `EINVAL` for an unbindable mount, or one that is not in the caller's mount namespace.
pub fn copy_descriptor(descriptor: BorrowedFd<'_>, depth: Depth) -> Result<OwnedFd> {
    copy(descriptor, Path::new(""), depth, OpenTreeFlags::AT_EMPTY_PATH)
}

fn copy(from: BorrowedFd<'_>, path: &Path, depth: Depth, extra: OpenTreeFlags) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | extra;
    if depth == Depth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(from, path, flags).context("open_tree", path.display())
}

/// Attaches the detached `mount` on top of the file that `target` refers to.
///
/// # Errors
/// `ENOTDIR` when one is a directory and the other is not; `EINVAL` when the target is in another namespace.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    move_mount(
        mount,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .context("move_mount", "a mount")
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes a mount, mount_setattr(2): sets and clears attributes, and its propagation if one is given.
///
/// # Errors
/// `EPERM` for an attribute that the caller's user namespace may not clear; `EINVAL` for contradictions.
pub fn change(
    mount: BorrowedFd<'_>,
    set: Attributes,
    clear: Attributes,
    propagation: Option<Propagation>,
    depth: Depth,
) -> Result<()> {
    let attr = MountAttr {
        set: u64::from(set.bits()),
        clear: u64::from(clear.bits()),
        propagation: propagation.map_or(0, Propagation::bits),
        user_namespace: 0,
    };
    set_attributes(mount, &attr, depth).context("mount_setattr", format_args!("set {set:?} clear {clear:?}"))
}

/// Maps the owners of a detached mount through the user namespace `mapping` (Linux 5.12; overlay layers 5.19).
///
/// # Errors
/// `EINVAL` for a file system that cannot be mapped, or a mount that is attached already.
pub fn map_owners(mount: BorrowedFd<'_>, mapping: BorrowedFd<'_>, depth: Depth) -> Result<()> {
    let attr = MountAttr {
        set: 0x0010_0000, // MOUNT_ATTR_IDMAP
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(mapping.as_raw_fd()).expect("descriptors are not negative"),
    };
    set_attributes(mount, &attr, depth).context("mount_setattr", "an idmapped mount")
}

fn set_attributes(mount: BorrowedFd<'_>, attr: &MountAttr, depth: Depth) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a valid empty string, `attr` has the layout of struct mount_attr and outlives the call,
    // and its size is passed, as mount_setattr(2) requires.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags.cast_unsigned(),
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the propagation of every mount of the caller's namespace, whose root is the caller's.
///
/// # Errors
/// `EPERM` without privilege.
pub fn propagate_all(propagation: Propagation) -> Result<()> {
    let flags = propagation.flags() | MountPropagationFlags::REC;
    mount_change("/", flags).context("mount", format_args!("/ with propagation {propagation:?}"))
}

/// Attaches the detached `mount` on top of the caller's root.
///
/// # Errors
/// `EPERM` without privilege.
pub fn attach_on_root(mount: BorrowedFd<'_>) -> Result<()> {
    move_mount(mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context("move_mount", "/")
}

/// An overlay whose layers are named, and which does not exist yet: nothing of it is in use until it is mounted.
#[derive(Debug)]
pub struct Overlay {
    context: OwnedFd,
    mapped: Option<Mapped>,
}

/// What an overlay of mounts with mapped owners needs.
#[derive(Debug)]
struct Mapped {
    owner: (u32, u32),
    /// The mounts, which go with their descriptors as long as the overlay has none of its own.
    _layers: Vec<OwnedFd>,
}

impl Overlay {
    /// Names `lower` (topmost first) below `upper`, whose work directory is `work`.
    ///
    /// Directory redirects and metadata-only copies that a layer might have smuggled in are not followed.
    ///
    /// # Errors
    /// `EINVAL` for a layer that cannot be one; `ENAMETOOLONG` never, as directories are named by descriptor.
    pub fn new(lower: &[OwnedFd], writable: Option<Writable<'_>>) -> Result<Self> {
        let name = |fd: BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let lower: Vec<String> = lower.iter().map(|fd| name(fd.as_fd())).collect();
        let mut parameters = vec![
            Parameter::Value("source", "overlay"),
            Parameter::Value("redirect_dir", "nofollow"),
            Parameter::Value("metacopy", "off"),
            Parameter::Value("index", "off"),
        ];
        parameters.extend(lower.iter().map(|path| Parameter::Value("lowerdir+", path)));
        let (upper, work);
        if let Some(writable) = writable {
            (upper, work) = (name(writable.upper), name(writable.work));
            parameters.extend([Parameter::Value("upperdir", &upper), Parameter::Value("workdir", &work)]);
            if writable.durability == Durability::Volatile {
                parameters.push(Parameter::Flag("volatile"));
            }
        }
        Ok(Self { context: describe("overlay", &parameters)?, mapped: None })
    }

    /// The same of detached mounts `layers` whose owners are mapped. It works in the name of this user and group, which are
    /// somebody in its layers: with the calling thread's own the kernel could make nothing there, and would silently mount it
    /// read-only.
    #[must_use]
    pub fn of_mapped(self, layers: Vec<OwnedFd>, owner: (u32, u32)) -> Self {
        Self { mapped: Some(Mapped { owner, _layers: layers }), ..self }
    }

    /// Makes it, as a detached mount.
    ///
    /// # Errors
    /// `EINVAL` with the kernel's reason in its log; `EBUSY` never, though another overlay may have the same upper
    /// directory, which must not be.
    pub fn mount(self) -> Result<OwnedFd> {
        let create = || create(self.context.as_fd(), "overlay", Attributes::empty());
        match &self.mapped {
            Some(mapped) => as_owner(mapped.owner, create)?,
            None => create(),
        }
    }
}

/// A detached overlay; see [`Overlay`].
///
/// # Errors
/// As [`Overlay::new`] and [`Overlay::mount`].
pub fn overlay(lower: &[OwnedFd], writable: Option<Writable<'_>>) -> Result<OwnedFd> {
    Overlay::new(lower, writable)?.mount()
}

/// The writable part of an overlay.
#[derive(Clone, Copy, Debug)]
pub struct Writable<'a> {
    /// The directory that receives changes.
    pub upper: BorrowedFd<'a>,
    /// An empty directory on the same file system.
    pub work: BorrowedFd<'a>,
    /// What happens to changes when the machine loses power.
    pub durability: Durability,
}

/// Whether an overlay syncs its upper directory when it is unmounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does.
    Durable,
    /// It does not, which saves syncing the whole file system; for what is thrown away afterwards (Linux 5.10).
    Volatile,
}

/// Makes the directory `root` the root of the mount namespace and drops the old one, pivot_root(2), with the mounts that
/// [`attach_on_root`] has put on it before `root`: `between` of them.
///
/// # Errors
/// `EINVAL` when `root` is not a mount point or its parent is shared.
pub fn pivot(root: BorrowedFd<'_>, between: usize) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    use rustix::process::{fchdir, pivot_root};
    fchdir(root).context("fchdir", "the new root")?;
    pivot_root(".", ".").context("pivot_root", "the new root")?;
    // They are now mounted over the new root, one on the other, and this finds the uppermost.
    for _ in 0..=between {
        unmount(".", UnmountFlags::DETACH).context("umount2", "the old root")?;
    }
    rustix::process::chdir("/").context("chdir", "/")
}

/// The id of the mount that `name` in `directory` is on, itself where something is mounted there; with an empty name that
/// of the directory. A symbolic link is not followed (Linux 5.8).
///
/// # Errors
/// The call's (`statx`).
pub fn id(directory: BorrowedFd<'_>, name: &CStr) -> Result<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let found = statx(directory, name, flags, StatxFlags::MNT_ID).context("statx", name.to_string_lossy())?;
    Ok(found.stx_mnt_id)
}

/// Fails unless `descriptor` is on the file system with the magic number `magic` of statfs(2).
///
/// # Errors
/// [`Error::Unexpected`] when it is on another one.
pub fn require_file_system(descriptor: BorrowedFd<'_>, magic: i64, expected: &'static str) -> Result<()> {
    let found = rustix::fs::fstatfs(descriptor).context("fstatfs", expected)?;
    if found.f_type == magic {
        Ok(())
    } else {
        Err(Error::Unexpected { subject: format!("a file on file system {:#x}", found.f_type), expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, openat};
    use std::fs;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn an_overlay_is_usable_without_being_attached_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "u", "w"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("a/top"), "a").unwrap();
        fs::write(dir.path().join("b/top"), "b").unwrap();
        fs::write(dir.path().join("b/below"), "b").unwrap();
        let lower = [open(&dir.path().join("a")), open(&dir.path().join("b"))];
        let (upper, work) = (open(&dir.path().join("u")), open(&dir.path().join("w")));
        let writable =
            Writable { upper: upper.as_fd(), work: work.as_fd(), durability: Durability::Volatile };
        let mount = overlay(&lower, Some(writable)).unwrap();
        let read = |name: &str| {
            let file = openat(&mount, name, OFlags::RDONLY, Mode::empty()).unwrap();
            io::read_to_string(fs::File::from(file)).unwrap()
        };
        assert_eq!((read("top").as_str(), read("below").as_str()), ("a", "b"));
        let made = openat(&mount, "new", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        drop(made);
        assert!(dir.path().join("u/new").exists());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(dir.path().to_str().unwrap()), "nothing appears in the host's mount table");
    }

    #[test]
    fn a_read_only_copy_refuses_writes_while_the_original_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        let copied = copy_path(dir.path(), Depth::One).unwrap();
        change(copied.as_fd(), Attributes::MOUNT_ATTR_RDONLY, Attributes::empty(), None, Depth::One).unwrap();
        let error = openat(&copied, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap_err();
        assert_eq!(error, rustix::io::Errno::ROFS);
        fs::write(dir.path().join("f"), "").unwrap();
    }
}
