//! Where the API is served: unix sockets, TCP, and sockets that systemd has opened.

mod address;
mod tls;
mod unix;

pub(crate) use tls::{Files as TlsFiles, Handshake};

use address::Address;
use rustix::net::{AddressFamily, SocketAddrUnix, getsockname, sockopt};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tls::Tls;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use unix::Made;

/// The first descriptor that systemd passes, sd_listen_fds(3).
const FIRST_PASSED: u32 = 3;
/// Most descriptors that are taken from systemd.
const MOST_PASSED: u32 = 64;
/// Most connections that wait to be accepted; the kernel's own limit may be lower.
const BACKLOG: u32 = 4096;
/// The ports of Docker, without and with TLS.
const PORTS: [u16; 2] = [2375, 2376];

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
        "{0} would let everybody who reaches it become root: use --tlsverify, a unix socket or ssh, or --tls=false to \
         insist"
    )]
    Plain(String),
    /// systemd has not passed the socket.
    #[error("{0} needs sockets from systemd (LISTEN_FDS), and none was passed")]
    NonePassed(String),
    /// What systemd has passed is of no use.
    #[error("descriptor {0} from systemd is no listening unix or TCP socket")]
    Passed(u32),
    /// A file for TLS is of no use.
    #[error("cannot use {} for TLS: {reason}; --tlscacert, --tlscert and --tlskey name other files", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A call failed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
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

/// What those who connect over TCP must bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Security {
    /// Nobody has said, so that TCP is refused.
    #[default]
    Undecided,
    /// Nothing: somebody insists.
    Plain,
    /// TLS, and with authorities also certificates.
    Tls(TlsFiles),
}

/// The same with its files read.
#[derive(Clone)]
enum Secured {
    Undecided,
    Plain,
    Tls { tls: Tls, verified: bool },
}

impl Secured {
    fn read(security: &Security) -> Result<Self, Error> {
        Ok(match security {
            Security::Undecided => Self::Undecided,
            Security::Plain => Self::Plain,
            Security::Tls(files) => {
                Self::Tls { tls: Tls::read(files)?, verified: files.authorities.is_some() }
            }
        })
    }

    /// What a socket at `address` needs, after saying what that lets others do.
    fn for_tcp(&self, address: &str) -> Result<Option<Tls>, Error> {
        match self {
            Self::Undecided => Err(Error::Plain(address.to_owned())),
            Self::Plain => {
                tracing::warn!(
                    address,
                    "the API is served without TLS: whoever reaches this address is root"
                );
                Ok(None)
            }
            Self::Tls { tls, verified: true } => Ok(Some(tls.clone())),
            Self::Tls { tls, verified: false } => {
                tracing::warn!(
                    address,
                    "the API is served without --tlsverify: whoever reaches this address is root"
                );
                Ok(Some(tls.clone()))
            }
        }
    }
}

/// A socket that has its address and does not listen yet: nobody is refused later what was promised now.
pub(crate) enum Bound {
    /// A unix socket, and what was made for it.
    Unix(OwnedFd, Made),
    /// A TCP socket.
    Tcp(TcpSocket, String, Option<Tls>),
    /// A socket of systemd's, which listens already.
    Passed(Listener),
}

/// A socket that takes connections.
pub(crate) struct Listener {
    socket: Socket,
    /// What is spoken over it.
    tls: Option<Tls>,
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
                Ok(Listener { socket: Socket::Unix(listener), tls: None, _made: Some(made) })
            }
            Self::Tcp(socket, address, tls) => {
                let listener = socket.listen(BACKLOG).map_err(failed(&address))?;
                Ok(Listener { socket: Socket::Tcp(listener), tls, _made: None })
            }
        }
    }
}

impl Listener {
    /// Waits for a connection, and for its turn to begin a handshake if it needs one.
    pub(crate) async fn accept(&self) -> io::Result<(Connection, Option<Handshake>)> {
        let connection = match &self.socket {
            Socket::Unix(listener) => Connection::Unix(listener.accept().await?.0),
            Socket::Tcp(listener) => Connection::Tcp(listener.accept().await?.0),
        };
        let handshake = match &self.tls {
            Some(tls) => Some(tls.slot().await),
            None => None,
        };
        Ok((connection, handshake))
    }
}

/// Takes every address of `hosts`.
pub(crate) async fn bind(
    hosts: &[String],
    group: &str,
    security: &Security,
    mut passed: Passed,
) -> Result<Vec<Bound>, Error> {
    let secured = Secured::read(security)?;
    let port = PORTS[usize::from(matches!(secured, Secured::Tls { .. }))];
    let mut listeners = Vec::new();
    for host in hosts {
        match Address::parse(host, port)? {
            Address::Unix(path) => listeners.push(unix::bind(&path, group)?),
            Address::Tcp(address) => listeners.push(tcp(&address, &secured).await?),
            Address::Passed(wanted) => {
                let given = passed.give(wanted);
                if given.is_empty() {
                    return Err(Error::NonePassed(host.clone()));
                }
                for (number, socket) in given {
                    listeners.push(Bound::Passed(take_over(number, socket, &secured)?));
                }
            }
        }
    }
    Ok(listeners)
}

/// Takes the socket at `path` as well, where Docker's clients look for an engine, unless one is there: Docker's own, or
/// this one already, through one of `bound`. That it cannot be had is no reason not to start.
pub(crate) fn bind_if_free(path: &Path, group: &str, bound: &[Bound]) -> Option<Bound> {
    let there = std::fs::metadata(path).ok();
    if there.is_some_and(|there| bound.iter().any(|bound| bound.is(&there))) {
        return None;
    }
    match unix::bind(path, group) {
        Ok(taken) => return Some(taken),
        Err(Error::Taken(path)) => {
            tracing::info!(path = %path.display(), "another engine serves Docker's socket, and keeps it");
        }
        Err(error) => {
            let error = coracle_spec::full_text(&error);
            tracing::warn!(path = %path.display(), error, "Docker's socket is not served");
        }
    }
    None
}

impl Bound {
    /// Whether it is the socket that this file is.
    fn is(&self, file: &std::fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        match self {
            Self::Unix(_, made) => made.is(file),
            Self::Passed(Listener { socket: Socket::Unix(listener), .. }) => {
                let address = getsockname(listener).and_then(SocketAddrUnix::try_from);
                let path = address.ok().and_then(|address| Some(address.path()?.into_owned()));
                let own = path.and_then(|path| {
                    std::fs::metadata(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()))).ok()
                });
                own.is_some_and(|own| (own.dev(), own.ino()) == (file.dev(), file.ino()))
            }
            Self::Tcp(..) | Self::Passed(_) => false,
        }
    }
}

fn failed(address: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Listen { address: address.to_owned(), source }
}

async fn tcp(address: &str, secured: &Secured) -> Result<Bound, Error> {
    let name = format!("tcp://{address}");
    let tls = secured.for_tcp(&name)?;
    let failed = failed(&name);
    let mut found = tokio::net::lookup_host(address).await.map_err(&failed)?;
    let found = found.next().ok_or_else(|| Error::Address(name.clone()))?;
    let socket = if found.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(&failed)?;
    socket.set_reuseaddr(true).and_then(|()| socket.bind(found)).map_err(&failed)?;
    Ok(Bound::Tcp(socket, name.clone(), tls))
}

/// A socket of systemd's. It says itself what it is.
fn take_over(number: u32, socket: OwnedFd, secured: &Secured) -> Result<Listener, Error> {
    let address = format!("fd://{number}");
    let failed = failed(&address);
    let listens = sockopt::socket_acceptconn(&socket).unwrap_or(false);
    match sockopt::socket_domain(&socket) {
        Ok(AddressFamily::UNIX) if listens => {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true).map_err(&failed)?;
            let socket = Socket::Unix(UnixListener::from_std(listener).map_err(failed)?);
            Ok(Listener { socket, tls: None, _made: None })
        }
        Ok(AddressFamily::INET | AddressFamily::INET6) if listens => {
            let tls = secured.for_tcp(&address)?;
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).map_err(&failed)?;
            let socket = Socket::Tcp(TcpListener::from_std(listener).map_err(failed)?);
            Ok(Listener { socket, tls, _made: None })
        }
        _ => Err(Error::Passed(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(host: &str, security: Security, passed: Passed) -> Result<Vec<Socket>, Error> {
        let bound = bind(&[host.to_owned()], "root", &security, passed).await?;
        bound.into_iter().map(|bound| bound.listen().map(|listener| listener.socket)).collect()
    }

    #[tokio::test]
    async fn tcp_without_tls_must_be_insisted_on() {
        let refused = opened("tcp://127.0.0.1:0", Security::Undecided, Passed::default()).await;
        assert!(matches!(refused, Err(Error::Plain(_))));
        assert_eq!(opened("tcp://127.0.0.1:0", Security::Plain, Passed::default()).await.unwrap().len(), 1);
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = Passed(vec![(3, address.into())]);
        assert!(matches!(opened("fd://", Security::Undecided, passed).await, Err(Error::Plain(_))));
    }

    #[tokio::test]
    async fn sockets_from_systemd_are_told_apart_and_given_out_once() {
        let dir = tempfile::tempdir().unwrap();
        let socket = |name: &str| {
            OwnedFd::from(std::os::unix::net::UnixListener::bind(dir.path().join(name)).unwrap())
        };
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = Passed(vec![(3, socket("a")), (4, tcp.into())]);
        let found = opened("fd://", Security::Plain, passed).await.unwrap();
        assert!(matches!(found[..], [Socket::Unix(_), Socket::Tcp(_)]));
        let passed = Passed(vec![(3, socket("b"))]);
        assert!(matches!(opened("fd://4", Security::Plain, passed).await, Err(Error::NonePassed(_))));
        let file = std::fs::File::open("/dev/null").unwrap();
        let passed = Passed(vec![(3, file.into())]);
        assert!(matches!(opened("fd://3", Security::Plain, passed).await, Err(Error::Passed(3))));
    }

    #[tokio::test]
    async fn dockers_socket_is_taken_unless_somebody_serves_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let free = || bind_if_free(&path, "root", &[]);
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(free().is_none(), "somebody else's is left alone");
        drop(other);
        let stale = free().expect("nobody answers at a stale one").listen().unwrap();
        assert!(free().is_none(), "it is served");
        drop(stale);
        assert!(!path.exists(), "taken back at the end");
        let ours = [unix::bind(&path, "root").unwrap()];
        assert!(bind_if_free(&path, "root", &ours).is_none(), "ours does not listen yet and is no stale one");
        drop(ours);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let passed = Passed(vec![(3, listener.into())]);
        let passed = bind(&["fd://".to_owned()], "root", &Security::Undecided, passed).await.unwrap();
        assert!(bind_if_free(&link.join("docker.sock"), "root", &passed).is_none(), "systemd's");
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(free().is_none() && path.exists(), "what is no socket stays");
    }
}
