//! The container's own `/dev`: a fresh tmpfs, filled through its descriptor before anything else can reach it.

use crate::error::{Error, Result};
use coracle_spec::Owners;
use coracle_spec::runtime::{Device, User};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The devices that every container has, OCI runtime-spec `config-linux.md`, "Default Devices".
const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];

/// Makes the default devices, the links and `extra` in the fresh directory `dev`. Where users of the container are others
/// outside, as `owners` says, everything is made to belong to those.
pub(super) fn populate(dev: BorrowedFd<'_>, extra: &[Device], owners: Option<&Owners>) -> Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    for (name, major, minor) in DEFAULT {
        mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor))
            .map_err(|error| failed(name, error))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name).map_err(|error| failed(name, error))?;
    }
    extra.iter().try_for_each(|device| add(dev, device, owners))?;
    let Some(owners) = owners else { return Ok(()) };
    let names = DEFAULT.map(|(name, ..)| name).into_iter().chain(LINKS.map(|(_, name)| name));
    names.chain([""]).try_for_each(|name| own(dev, name, outside(owners, (0, 0), name)?))
}

/// Who somebody of the container is outside of it.
fn outside(owners: &Owners, owner: (u32, u32), name: &str) -> Result<(u32, u32)> {
    owners.outside(owner).ok_or_else(|| {
        let (uid, gid) = owner;
        Error::Child(format!("/dev/{name} cannot belong to {uid}:{gid}, who is nobody in the user namespace"))
    })
}

/// Gives away what is called so in `dev`; with an empty name `dev` itself.
fn own(dev: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy, (uid, gid): (u32, u32)) -> Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    chownat(dev, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)
        .map_err(|error| failed(&name.to_string_lossy(), error))
}

fn add(dev: BorrowedFd<'_>, device: &Device, owners: Option<&Owners>) -> Result<()> {
    let Ok(name) = Path::new(&device.path).strip_prefix("/dev") else {
        return Err(Error::Child(format!("device {} is not below /dev", device.path)));
    };
    if name.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(Error::Child(format!("device {} has a path that climbs", device.path)));
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(Error::Child(format!("device {} has the unknown type {other:?}", device.path))),
    };
    make_parents(dev, name, owners)?;
    // Nothing but this code has written below the fresh tmpfs, so its paths hold no foreign links.
    let number = makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(dev, name, kind, mode, number) {
        // A default device that is listed as well.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(&device.path, error)),
    }
    let owner = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    own(dev, name, owners.map_or(Ok(owner), |owners| outside(owners, owner, &device.path))?)
}

/// Gives the devices of which nothing is said to the container's user, as the Container Device Interface has it.
pub(super) fn give(dev: BorrowedFd<'_>, devices: &[Device], user: &User) -> Result<()> {
    let of_user = |device: &&Device| device.uid.is_none() || device.gid.is_none();
    for device in devices.iter().filter(of_user).filter(|_| (user.uid, user.gid) != (0, 0)) {
        let owner = (device.uid.unwrap_or(user.uid), device.gid.unwrap_or(user.gid));
        own(dev, device.path.trim_start_matches("/dev/"), owner)?;
    }
    Ok(())
}

/// Makes the directory `name` in the fresh directory `dev`; whether it was not there.
pub(super) fn make_directory(dev: BorrowedFd<'_>, name: &str) -> Result<bool> {
    match mkdirat(dev, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(failed(name, error)),
    }
}

fn make_parents(dev: BorrowedFd<'_>, name: &Path, owners: Option<&Owners>) -> Result<()> {
    let mut made = std::path::PathBuf::new();
    for part in name.parent().into_iter().flat_map(Path::components) {
        made.push(part);
        match mkdirat(dev, &made, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(&made.display().to_string(), error)),
        }
        if let Some(owners) = owners {
            own(dev, made.as_path(), outside(owners, (0, 0), &made.display().to_string())?)?;
        }
    }
    Ok(())
}

/// Makes the empty file that a terminal is mounted on, and returns a handle of it.
pub(super) fn console_target(dev: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dev, "console", flags, Mode::from_raw_mode(0o600))
        .map_err(|error| failed("console", error))
}

/// Whether a descriptor refers to the null device, character device 1:3.
pub(super) fn is_null(descriptor: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(descriptor.as_fd()).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    })
}

fn failed(name: &str, error: Errno) -> Error {
    Error::Child(format!("cannot make /dev/{}: {error}", name.trim_start_matches("/dev/")))
}
