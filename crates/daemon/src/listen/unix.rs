//! Unix sockets in the file system: taking a path, giving it to a group, and giving it back.

use super::{Bound, Error, failed};
use rustix::fs::{AtFlags, Gid, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::Path;

/// A socket in the file system: its directory, its name there, and which file it is.
pub(crate) struct Made {
    directory: OwnedFd,
    pub(super) name: OsString,
    file: (u64, u64),
}

impl Made {
    /// Whether it is this file.
    pub(super) fn is(&self, file: &fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        self.file == (file.dev(), file.ino())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Another engine may have put its own there meanwhile.
        if identity(&self.directory, &self.name).is_ok_and(|file| file == self.file) {
            // Whoever has removed it already has done our work.
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

fn identity(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Takes `path` for a socket of `group`.
pub(super) fn bind(path: &Path, group: &str) -> Result<Bound, Error> {
    let address = format!("unix://{}", path.display());
    let failed = failed(&address);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As the engine makes its directories, of which this may be one.
    fs::DirBuilder::new().recursive(true).mode(0o711).create(parent).map_err(&failed)?;
    let name = path.file_name().ok_or_else(|| Error::Address(address.clone()))?;
    // Through a descriptor of the directory: paths may be longer than the addresses of sockets.
    let directory: OwnedFd =
        rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    clear(path, &short)?;
    // Connecting needs the right to write, which the umask leaves to root alone until the group is set.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket| rustix::net::bind(&socket, &SocketAddrUnix::new(&short)?).map(|()| socket))
        .map_err(|error| failed(error.into()))?;
    let file = identity(&directory, name).map_err(|error| failed(error.into()))?;
    let made = Made { directory, name: name.to_owned(), file };
    let gid = group_id(group);
    if gid.is_none() && group != "root" {
        tracing::warn!(group, "there is no such group; the socket is for root alone");
    }
    let gid = Some(Gid::from_raw(gid.unwrap_or(0)));
    rustix::fs::chownat(&made.directory, name, None, gid, AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|()| {
            rustix::fs::chmodat(&made.directory, name, Mode::from_raw_mode(0o660), AtFlags::empty())
        })
        .map_err(|error| failed(error.into()))?;
    Ok(Bound::Unix(socket, made))
}

/// Removes a socket that nobody serves any more. `short` is a way to `path` that fits into an address.
///
/// An engine that is only just starting does not listen yet and cannot be told from one that is gone: of two that are
/// started for one path in the same moment, the second gets it.
fn clear(path: &Path, short: &Path) -> Result<(), Error> {
    let address = path.display().to_string();
    let failed = failed(&address);
    let metadata = match fs::symlink_metadata(short) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::NoSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(short) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(short).map_err(failed)
        }
        Ok(_) => Err(Error::Taken(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::super::Listener;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn served(path: &Path) -> Listener {
        bind(path, "root").unwrap().listen().unwrap()
    }

    #[tokio::test]
    async fn nobody_is_served_before_the_engine_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let connect = || std::os::unix::net::UnixStream::connect(&path);
        let bound = bind(&path, "root").unwrap();
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _listener = bound.listen().unwrap();
        connect().unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than an address of a socket can be.
        for path in [dir.path().join("socket"), dir.path().join("x".repeat(120)).join("socket")] {
            drop(served(&path));
            assert!(!path.exists());
            let stale = dir.path().join("stale");
            drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
            fs::rename(&stale, &path).unwrap();
            let listener = served(&path);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
            assert!(matches!(bind(&path, "root"), Err(Error::Taken(_))));
            drop(listener);
            fs::create_dir(&path).unwrap();
            assert!(matches!(bind(&path, "root"), Err(Error::NoSocket(_))));
            fs::remove_dir(&path).unwrap();
            std::os::unix::fs::symlink("/dev/null", &path).unwrap();
            assert!(matches!(bind(&path, "root"), Err(Error::NoSocket(_))));
        }
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let first = served(&path);
        fs::remove_file(&path).unwrap();
        let _second = served(&path);
        drop(first);
        assert!(path.exists());
    }
}
