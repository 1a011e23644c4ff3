//! Where the API is served: unix sockets, TCP, and sockets that systemd has opened.

mod unix;

use rustix::net::{AddressFamily, sockopt};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use unix::Made;

/// The first descriptor that systemd passes, sd_listen_fds(3).
const FIRST_PASSED: u32 = 3;
/// Most descriptors that are taken from systemd.
const MOST_PASSED: u32 = 64;
/// Most connections that wait to be accepted; the kernel's own limit may be lower.
const BACKLOG: u32 = 4096;
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

/// A socket that has its address and does not listen yet: nobody is refused later what was promised now.
pub(crate) enum Bound {
    /// A unix socket, and what was made for it.
    Unix(OwnedFd, Made),
    /// A TCP socket.
    Tcp(TcpSocket, String),
    /// A socket of systemd's, which listens already.
    Passed(Listener),
}

/// A socket that takes connections.
pub(crate) struct Listener {
    socket: Socket,
    /// Removes the socket's file when it is dropped.
    _made: Option<Made>,
}

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Connection {
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Bound {
    /// Begins to take connections.
    pub(crate) fn listen(self) -> Result<Listener, Error> {
        match self {
            Self::Passed(listener) => Ok(listener),
            Self::Unix(socket, made) => {
                let address = format!("unix://{}", made.name.display());
                let failed = failed(&address);
                rustix::net::listen(&socket, BACKLOG.cast_signed()).map_err(|error| failed(error.into()))?;
                let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
                Ok(Listener { socket: Socket::Unix(listener), _made: Some(made) })
            }
            Self::Tcp(socket, address) => {
                let listener = socket.listen(BACKLOG).map_err(failed(&address))?;
                Ok(Listener { socket: Socket::Tcp(listener), _made: None })
            }
        }
    }
}

impl Listener {
    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        match &self.socket {
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::Tcp(stream)),
        }
    }
}

/// Takes every address of `hosts`.
pub(crate) async fn bind(
    hosts: &[String],
    group: &str,
    insist_on_plain: bool,
    mut passed: Passed,
) -> Result<Vec<Bound>, Error> {
    let mut listeners = Vec::new();
    for host in hosts {
        match Address::parse(host)? {
            Address::Unix(path) => listeners.push(unix::bind(&path, group)?),
            Address::Tcp(address) => listeners.push(tcp(&address, insist_on_plain).await?),
            Address::Passed(wanted) => {
                let given = passed.give(wanted);
                if given.is_empty() {
                    return Err(Error::NonePassed(host.clone()));
                }
                for (number, socket) in given {
                    listeners.push(Bound::Passed(take_over(number, socket, insist_on_plain)?));
                }
            }
        }
    }
    Ok(listeners)
}

fn failed(address: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Listen { address: address.to_owned(), source }
}

async fn tcp(address: &str, insist_on_plain: bool) -> Result<Bound, Error> {
    let name = format!("tcp://{address}");
    insist(&name, insist_on_plain)?;
    let failed = failed(&name);
    let mut found = tokio::net::lookup_host(address).await.map_err(&failed)?;
    let found = found.next().ok_or_else(|| Error::Address(name.clone()))?;
    let socket = if found.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(&failed)?;
    socket.set_reuseaddr(true).and_then(|()| socket.bind(found)).map_err(&failed)?;
    Ok(Bound::Tcp(socket, name.clone()))
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
            let socket = Socket::Unix(UnixListener::from_std(listener).map_err(failed)?);
            Ok(Listener { socket, _made: None })
        }
        Ok(AddressFamily::INET | AddressFamily::INET6) if listens => {
            insist(&address, insist_on_plain)?;
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).map_err(&failed)?;
            let socket = Socket::Tcp(TcpListener::from_std(listener).map_err(failed)?);
            Ok(Listener { socket, _made: None })
        }
        _ => Err(Error::Passed(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    async fn opened(host: &str, insist_on_plain: bool, passed: Passed) -> Result<Vec<Socket>, Error> {
        let bound = bind(&[host.to_owned()], "root", insist_on_plain, passed).await?;
        bound.into_iter().map(|bound| bound.listen().map(|listener| listener.socket)).collect()
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
        assert!(matches!(found[..], [Socket::Unix(_), Socket::Tcp(_)]));
        let passed = Passed(vec![(3, socket("b"))]);
        assert!(matches!(opened("fd://4", true, passed).await, Err(Error::NonePassed(_))));
        let file = std::fs::File::open("/dev/null").unwrap();
        let passed = Passed(vec![(3, file.into())]);
        assert!(matches!(opened("fd://3", true, passed).await, Err(Error::Passed(3))));
    }
}
