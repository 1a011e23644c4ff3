//! Host ports, reserved by sockets: nobody else can take a port while its socket is open, wherever it is passed on.
//!
//! Packets never reach these sockets, because they are translated before. TCP ones listen, as a bound socket that does
//! not could be joined by any other with `SO_REUSEADDR`, and without that option connections of a server that used
//! the port before would be in the way for a minute.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::endpoint::{HostPort, Protocol, PublishRequest, Published};
use crate::error::{Error, Result};
use crate::limits::{PORTS_PER_ENDPOINT, RANDOM_PORT_TRIES};

/// The sockets that hold an endpoint's host ports; given to the shim, so that they outlive the engine.
#[derive(Debug, Default)]
pub struct Held {
    /// One for each published port, but for SCTP where the kernel does not have it.
    pub sockets: Vec<OwnedFd>,
}

/// Reserves every port asked for, in the calling thread's namespace; on failure none.
pub(crate) fn reserve(requests: &[PublishRequest]) -> Result<(Vec<Published>, Held)> {
    if requests.len() > PORTS_PER_ENDPOINT {
        return Err(Error::TooManyPorts { count: requests.len(), limit: PORTS_PER_ENDPOINT });
    }
    let mut held = Held::default();
    let mut published = Vec::with_capacity(requests.len());
    for request in requests {
        let (port, socket) = reserve_one(request)?;
        published.push(port);
        held.sockets.extend(socket);
    }
    Ok((published, held))
}

fn reserve_one(request: &PublishRequest) -> Result<(Published, Option<OwnedFd>)> {
    let host_ip = match request.host_ip {
        None => Ipv4Addr::UNSPECIFIED,
        Some(IpAddr::V4(address)) => address,
        Some(address @ IpAddr::V6(_)) => return Err(Error::HostAddress { address }),
    };
    let (host_port, socket) = match request.host_port {
        HostPort::Random | HostPort::Exactly(0) => bind_random(request.protocol, host_ip)?,
        HostPort::Exactly(port) => (port, bind_exactly(request.protocol, host_ip, port)?),
        HostPort::Between(first, last) => bind_between(request.protocol, host_ip, first, last)?,
    };
    let (protocol, container_port) = (request.protocol, request.container_port);
    Ok((Published { protocol, container_port, host_ip, host_port }, socket))
}

fn bind_between(protocol: Protocol, ip: Ipv4Addr, first: u16, last: u16) -> Result<(u16, Option<OwnedFd>)> {
    for port in first..=last {
        match bind_exactly(protocol, ip, port) {
            Err(Error::PortTaken { .. }) => {}
            other => return Ok((port, other?)),
        }
    }
    Err(Error::RangeTaken { address: ip, first, last })
}

fn bind_exactly(protocol: Protocol, ip: Ipv4Addr, port: u16) -> Result<Option<OwnedFd>> {
    bind(protocol, ip, port).map_err(|errno| refusal(errno, protocol, ip, port))
}

/// A port of the kernel's choice. It may choose one on which another socket listens; then once more.
fn bind_random(protocol: Protocol, ip: Ipv4Addr) -> Result<(u16, Option<OwnedFd>)> {
    let mut failure = Errno::ADDRINUSE;
    for _ in 0..RANDOM_PORT_TRIES {
        let drawn = match bind(protocol, ip, 0) {
            // Without SCTP in the kernel no socket can have the port; any number does.
            Ok(None) => {
                bind(Protocol::Udp, ip, 0).and_then(|udp| port_of(udp.as_ref())).map(|port| (port, None))
            }
            Ok(socket) => port_of(socket.as_ref()).map(|port| (port, socket)),
            Err(errno) => Err(errno),
        };
        match drawn {
            Ok(drawn) => return Ok(drawn),
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => {
                failure = errno;
                break;
            }
        }
    }
    Err(refusal(failure, protocol, ip, 0))
}

fn bind(protocol: Protocol, ip: Ipv4Addr, port: u16) -> Result<Option<OwnedFd>, Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(AddressFamily::INET, kind, flags, Some(number)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        socket => socket?,
    };
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(ip, port))?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, 0)?;
    }
    Ok(Some(socket))
}

fn port_of(socket: Option<&OwnedFd>) -> Result<u16, Errno> {
    let address = rustix::net::getsockname(socket.ok_or(Errno::PROTONOSUPPORT)?)?;
    Ok(SocketAddrV4::try_from(address)?.port())
}

fn refusal(errno: Errno, protocol: Protocol, address: Ipv4Addr, port: u16) -> Error {
    match errno {
        Errno::ADDRINUSE => Error::PortTaken { address, port },
        errno => Error::Bind { protocol, address, port, source: errno.into() },
    }
}
