//! Where the API is served: unix sockets, TCP, and sockets that systemd has opened.

use rustix::fs::{Gid, Mode, OFlags};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The first descriptor that systemd passes, sd_listen_fds(3).
const FIRST_PASSED: u32 = 3;

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is not an address of a kind that is known.
    #[error("host {0:?} is not unix://PATH, tcp://ADDRESS:PORT or fd://")]
    Address(String),
    /// Another process answers there.
    #[error("{} is served by another engine", .0.display())]
    Taken(PathBuf),
    /// Something that is no socket is there.
    #[error("{} is there and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// A TCP address without TLS.
    #[error(
        "{0} would let everybody who reaches it become root: TLS is not supported yet; use a unix socket, ssh, or \
         --tls=false to insist"
    )]
    Plain(String),
    /// systemd has passed no socket.
    #[error("fd:// needs sockets from systemd (LISTEN_FDS), and none was passed")]
    NonePassed,
    /// A call failed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// A socket that takes connections.
pub(crate) enum Listener {
    /// A unix socket; its path is removed at the end if it is ours.
    Unix(UnixListener, Option<PathBuf>),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// A connection.
pub(crate) enum Connection {
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Listener {
    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::Tcp(stream)),
        }
    }

    /// Removes what was made for listening.
    pub(crate) fn remove(&self) {
        if let Self::Unix(_, Some(path)) = self {
            // Somebody else may have replaced it; then there is nothing of ours to remove.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens every address of `hosts`.
pub(crate) async fn open(
    hosts: &[String],
    group: &str,
    insist_on_plain: bool,
) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for host in hosts {
        if let Some(path) = host.strip_prefix("unix://") {
            listeners.push(unix(Path::new(path), group)?);
        } else if let Some(address) = host.strip_prefix("tcp://") {
            listeners.push(tcp(address, insist_on_plain).await?);
        } else if host.starts_with("fd://") {
            listeners.extend(passed()?);
        } else {
            return Err(Error::Address(host.clone()));
        }
    }
    Ok(listeners)
}

fn failed(address: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Listen { address: address.to_owned(), source }
}

fn unix(path: &Path, group: &str) -> Result<Listener, Error> {
    let name = format!("unix://{}", path.display());
    let failed = failed(&name);
    clear(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(&failed)?;
    // Through a descriptor of the directory: paths may be longer than the addresses of sockets.
    let directory: OwnedFd =
        rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
    let file = path.file_name().ok_or_else(|| Error::Address(name.clone()))?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(file);
    // Never open for others, not even for a moment.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(&short);
    rustix::process::umask(before);
    let listener = bound.map_err(&failed)?;
    let gid = group_id(group);
    if gid.is_none() && group != "root" {
        tracing::warn!(group, "there is no such group; the socket is for root alone");
    }
    rustix::fs::chown(path, None, Some(Gid::from_raw(gid.unwrap_or(0))))
        .map_err(|error| failed(error.into()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(&failed)?;
    Ok(Listener::Unix(listener, Some(path.to_owned())))
}

/// Removes a socket that nobody serves any more.
fn clear(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(Error::NoSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(Error::Taken(path.to_owned())),
        Err(_) => fs::remove_file(path).map_err(failed(&path.display().to_string())),
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

async fn tcp(address: &str, insist_on_plain: bool) -> Result<Listener, Error> {
    if !insist_on_plain {
        return Err(Error::Plain(format!("tcp://{address}")));
    }
    tracing::warn!(address, "the API is served without TLS: whoever reaches this address is root");
    TcpListener::bind(address).await.map(Listener::Tcp).map_err(failed(&format!("tcp://{address}")))
}

fn passed() -> Result<Vec<Listener>, Error> {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let count: u32 = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    if !ours || count == 0 {
        return Err(Error::NonePassed);
    }
    (FIRST_PASSED..FIRST_PASSED + count)
        .map(|number| {
            let failed = failed("fd://");
            let descriptor =
                coracle_engine::take_inherited(number).map_err(|error| failed(io::Error::other(error)))?;
            let listener = std::os::unix::net::UnixListener::from(descriptor);
            listener.set_nonblocking(true).map_err(&failed)?;
            UnixListener::from_std(listener).map(|listener| Listener::Unix(listener, None)).map_err(failed)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = unix(&path, "root").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(unix(&path, "root"), Err(Error::Taken(_))));
        listener.remove();
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        assert!(matches!(unix(&path, "root"), Err(Error::NoSocket(_))));
    }

    #[tokio::test]
    async fn a_path_longer_than_an_address_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(120)).join("socket");
        unix(&path, "root").unwrap();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn tcp_without_tls_must_be_insisted_on() {
        assert!(matches!(open(&["tcp://127.0.0.1:0".into()], "root", false).await, Err(Error::Plain(_))));
        assert_eq!(open(&["tcp://127.0.0.1:0".into()], "root", true).await.unwrap().len(), 1);
        assert!(matches!(open(&["npipe://x".into()], "root", true).await, Err(Error::Address(_))));
    }
}
