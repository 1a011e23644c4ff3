//! Where the API is served: unix sockets, TCP, and sockets that systemd has opened.

use rustix::fs::{AtFlags, Gid, Mode, OFlags};
use rustix::net::{AddressFamily, sockopt};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The first descriptor that systemd passes, sd_listen_fds(3).
const FIRST_PASSED: u32 = 3;
/// Most descriptors that are taken from systemd.
const MOST_PASSED: u32 = 64;
/// The port of Docker without TLS.
const PORT: u16 = 2375;

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
    /// systemd has not passed the socket.
    #[error("{0} needs sockets from systemd (LISTEN_FDS), and none was passed")]
    NonePassed(String),
    /// What systemd has passed is of no use.
    #[error("descriptor {0} from systemd is no listening unix or TCP socket")]
    Passed(u32),
    /// A call failed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// An address of `--host`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    /// Address and port.
    Tcp(String),
    /// A socket of systemd's by its number, or all of them.
    Passed(Option<u32>),
}

impl Address {
    fn parse(host: &str) -> Result<Self, Error> {
        let invalid = || Error::Address(host.to_owned());
        match host.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("fd", "" | "*")) => Ok(Self::Passed(None)),
            Some(("fd", number)) => Ok(Self::Passed(Some(number.parse().map_err(|_| invalid())?))),
            Some(("tcp", address)) => tcp_address(address).map(Self::Tcp).ok_or_else(invalid),
            // Docker takes an address alone for TCP.
            None if host.contains(':') => tcp_address(host).map(Self::Tcp).ok_or_else(invalid),
            _ => Err(invalid()),
        }
    }
}

/// Address and port with what is missing filled in as Docker does.
fn tcp_address(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains('/') {
        return None;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()?),
        _ => (text, PORT),
    };
    Some(format!("{}:{port}", if host.is_empty() { "localhost" } else { host }))
}

/// The sockets that systemd has passed.
#[derive(Debug, Default)]
pub(crate) struct Passed(Vec<(u32, OwnedFd)>);

impl Passed {
    /// Takes them over. To be called before anything else opens descriptors, whose numbers could be these.
    ///
    /// # Errors
    /// When one that was promised is not there.
    pub(crate) fn take() -> coracle_engine::Result<Self> {
        let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        let count = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
        let count: u32 = if ours { u32::min(count, MOST_PASSED) } else { 0 };
        let numbers = FIRST_PASSED..FIRST_PASSED + count;
        numbers
            .map(|number| Ok((number, coracle_engine::take_inherited(number)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Those that `wanted` names; each is given out once.
    fn give(&mut self, wanted: Option<u32>) -> Vec<(u32, OwnedFd)> {
        self.0.extract_if(.., |(number, _)| wanted.is_none_or(|wanted| wanted == *number)).collect()
    }
}

/// A socket that takes connections.
pub(crate) enum Listener {
    /// A unix socket, and what was made for it if it is ours.
    Unix(UnixListener, #[expect(dead_code, reason = "removes the socket when it is dropped")] Option<Made>),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// A socket in the file system: its directory, its name there, and which file it is.
pub(crate) struct Made {
    directory: OwnedFd,
    name: std::ffi::OsString,
    file: (u64, u64),
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

fn identity(directory: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Opens every address of `hosts`.
pub(crate) async fn open(
    hosts: &[String],
    group: &str,
    insist_on_plain: bool,
    mut passed: Passed,
) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for host in hosts {
        match Address::parse(host)? {
            Address::Unix(path) => listeners.push(unix(&path, group)?),
            Address::Tcp(address) => listeners.push(tcp(&address, insist_on_plain).await?),
            Address::Passed(wanted) => {
                let given = passed.give(wanted);
                if given.is_empty() {
                    return Err(Error::NonePassed(host.clone()));
                }
                for (number, socket) in given {
                    listeners.push(take_over(number, socket, insist_on_plain)?);
                }
            }
        }
    }
    Ok(listeners)
}

fn failed(address: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Listen { address: address.to_owned(), source }
}

fn unix(path: &Path, group: &str) -> Result<Listener, Error> {
    let address = format!("unix://{}", path.display());
    let failed = failed(&address);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(&failed)?;
    let name = path.file_name().ok_or_else(|| Error::Address(address.clone()))?;
    // Through a descriptor of the directory: paths may be longer than the addresses of sockets.
    let directory: OwnedFd =
        rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    clear(path, &short)?;
    // Connecting needs the right to write, which the umask leaves to root alone until the group is set.
    let listener = UnixListener::bind(&short).map_err(&failed)?;
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
    Ok(Listener::Unix(listener, Some(made)))
}

/// Removes a socket that nobody serves any more. `short` is a way to `path` that fits into an address.
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

async fn tcp(address: &str, insist_on_plain: bool) -> Result<Listener, Error> {
    insist(&format!("tcp://{address}"), insist_on_plain)?;
    TcpListener::bind(address).await.map(Listener::Tcp).map_err(failed(&format!("tcp://{address}")))
}

fn insist(address: &str, insist_on_plain: bool) -> Result<(), Error> {
    if !insist_on_plain {
        return Err(Error::Plain(address.to_owned()));
    }
    tracing::warn!(address, "the API is served without TLS: whoever reaches this address is root");
    Ok(())
}

/// A socket of systemd's. It says itself what it is.
fn take_over(number: u32, socket: OwnedFd, insist_on_plain: bool) -> Result<Listener, Error> {
    let address = format!("fd://{number}");
    let failed = failed(&address);
    let listens = sockopt::socket_acceptconn(&socket).unwrap_or(false);
    match sockopt::socket_domain(&socket) {
        Ok(AddressFamily::UNIX) if listens => {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true).map_err(&failed)?;
            UnixListener::from_std(listener).map(|listener| Listener::Unix(listener, None)).map_err(failed)
        }
        Ok(AddressFamily::INET | AddressFamily::INET6) if listens => {
            insist(&address, insist_on_plain)?;
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).map_err(&failed)?;
            TcpListener::from_std(listener).map(Listener::Tcp).map_err(failed)
        }
        _ => Err(Error::Passed(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        let tcp = |text: &str| Some(Address::Tcp(text.into()));
        for (host, address) in [
            ("unix:///run/a.sock", Some(Address::Unix("/run/a.sock".into()))),
            ("tcp://127.0.0.1:4243", tcp("127.0.0.1:4243")),
            ("tcp://", tcp("localhost:2375")),
            ("tcp://:7", tcp("localhost:7")),
            ("tcp://[::1]", tcp("[::1]:2375")),
            ("tcp://[::1]:9/", tcp("[::1]:9")),
            ("0.0.0.0:2375", tcp("0.0.0.0:2375")),
            ("fd://", Some(Address::Passed(None))),
            ("fd://4", Some(Address::Passed(Some(4)))),
            ("unix://", None),
            ("fd://x", None),
            ("tcp://a:b", None),
            ("tcp://a:1/path", None),
            ("npipe://x", None),
            ("nothing", None),
        ] {
            assert_eq!(Address::parse(host).ok(), address, "{host}");
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than an address of a socket can be.
        for path in [dir.path().join("socket"), dir.path().join("x".repeat(120)).join("socket")] {
            drop(unix(&path, "root").unwrap());
            assert!(!path.exists());
            let stale = dir.path().join("stale");
            drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
            fs::rename(&stale, &path).unwrap();
            let listener = unix(&path, "root").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
            assert!(matches!(unix(&path, "root"), Err(Error::Taken(_))));
            drop(listener);
            fs::create_dir(&path).unwrap();
            assert!(matches!(unix(&path, "root"), Err(Error::NoSocket(_))));
            fs::remove_dir(&path).unwrap();
            std::os::unix::fs::symlink("/dev/null", &path).unwrap();
            assert!(matches!(unix(&path, "root"), Err(Error::NoSocket(_))));
        }
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let first = unix(&path, "root").unwrap();
        fs::remove_file(&path).unwrap();
        let _second = unix(&path, "root").unwrap();
        drop(first);
        assert!(path.exists());
    }

    async fn opened(host: &str, insist_on_plain: bool, passed: Passed) -> Result<Vec<Listener>, Error> {
        open(&[host.to_owned()], "root", insist_on_plain, passed).await
    }

    #[tokio::test]
    async fn tcp_without_tls_must_be_insisted_on() {
        let refused = opened("tcp://127.0.0.1:0", false, Passed::default()).await;
        assert!(matches!(refused, Err(Error::Plain(_))));
        assert_eq!(opened("tcp://127.0.0.1:0", true, Passed::default()).await.unwrap().len(), 1);
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = Passed(vec![(3, address.into())]);
        assert!(matches!(opened("fd://", false, passed).await, Err(Error::Plain(_))));
    }

    #[tokio::test]
    async fn sockets_from_systemd_are_told_apart_and_given_out_once() {
        let dir = tempfile::tempdir().unwrap();
        let socket = |name: &str| {
            OwnedFd::from(std::os::unix::net::UnixListener::bind(dir.path().join(name)).unwrap())
        };
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = Passed(vec![(3, socket("a")), (4, tcp.into())]);
        let found = opened("fd://", true, passed).await.unwrap();
        assert!(matches!(found[..], [Listener::Unix(..), Listener::Tcp(_)]));
        let passed = Passed(vec![(3, socket("b"))]);
        assert!(matches!(opened("fd://4", true, passed).await, Err(Error::NonePassed(_))));
        let file = fs::File::open("/dev/null").unwrap();
        let passed = Passed(vec![(3, file.into())]);
        assert!(matches!(opened("fd://3", true, passed).await, Err(Error::Passed(3))));
    }
}
