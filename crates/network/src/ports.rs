//! Host ports, reserved by sockets: nobody else can take a port while its socket is open, wherever it is passed on.
//!
//! IPv4 packets never reach these sockets, because they are translated before. TCP ones listen, as a bound socket that does
//! not could be joined by any other with `SO_REUSEADDR`, and without that option connections of a server that used
//! the port before would be in the way for a minute.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::endpoint::{HostPort, Protocol, PublishRequest, Published};
use crate::error::{Error, Result};
use crate::limits::{PORTS_PER_ENDPOINT, RANDOM_PORT_TRIES, RELAY_BACKLOG};

/// The sockets that hold an endpoint's host ports; given to the shim, so that they outlive the engine.
#[derive(Debug, Default)]
pub struct Held {
    /// One for each port published on an IPv4 address, but for SCTP where the kernel does not have it. Nothing arrives on
    /// them; they are only kept open.
    pub sockets: Vec<OwnedFd>,
    /// One for each port published on an IPv6 address.
    pub relays: Vec<Relay>,
}

/// A port published on an IPv6 address, which the shim serves: containers have IPv4 addresses only.
#[derive(Debug)]
pub struct Relay {
    /// Which port it is.
    pub published: Published,
    /// Non-blocking; listens, if it is TCP.
    pub socket: OwnedFd,
}

/// Reserves every port asked for, in the calling thread's namespace; on failure none.
pub(crate) fn reserve(requests: &[PublishRequest]) -> Result<(Vec<Published>, Held)> {
    if requests.len() > PORTS_PER_ENDPOINT {
        return Err(Error::TooManyPorts { count: requests.len(), limit: PORTS_PER_ENDPOINT });
    }
    let mut held = Held::default();
    let mut ports = Vec::with_capacity(requests.len());
    for request in requests {
        let (published, socket) = reserve_one(request)?;
        ports.push(published);
        match socket {
            Some(socket) if published.host_ip.is_ipv6() => held.relays.push(Relay { published, socket }),
            socket => held.sockets.extend(socket),
        }
    }
    Ok((ports, held))
}

fn reserve_one(request: &PublishRequest) -> Result<(Published, Option<OwnedFd>)> {
    let (protocol, container_port) = (request.protocol, request.container_port);
    let host_ip = request.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    if host_ip.is_ipv6() && protocol == Protocol::Sctp {
        return Err(Error::HostAddress { protocol, address: host_ip });
    }
    let (host_port, socket) = match request.host_port {
        HostPort::Random | HostPort::Exactly(0) => bind_random(protocol, host_ip)?,
        HostPort::Exactly(port) => (port, bind_exactly(protocol, host_ip, port)?),
        HostPort::Between(first, last) => bind_between(protocol, host_ip, first, last)?,
    };
    Ok((Published { protocol, container_port, host_ip, host_port }, socket))
}

fn bind_between(protocol: Protocol, ip: IpAddr, first: u16, last: u16) -> Result<(u16, Option<OwnedFd>)> {
    for port in first..=last {
        match bind_exactly(protocol, ip, port) {
            Err(Error::PortTaken { .. }) => {}
            other => return Ok((port, other?)),
        }
    }
    Err(Error::RangeTaken { address: ip, first, last })
}

fn bind_exactly(protocol: Protocol, ip: IpAddr, port: u16) -> Result<Option<OwnedFd>> {
    bind(protocol, ip, port).map_err(|errno| refusal(errno, protocol, ip, port))
}

/// A port of the kernel's choice. It may choose one on which another socket listens; then once more.
fn bind_random(protocol: Protocol, ip: IpAddr) -> Result<(u16, Option<OwnedFd>)> {
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

fn bind(protocol: Protocol, ip: IpAddr, port: u16) -> Result<Option<OwnedFd>, Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match rustix::net::socket_with(family, kind, flags, Some(number)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        socket => socket?,
    };
    if ip.is_ipv6() {
        // IPv4 has a socket of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(ip, port))?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, if ip.is_ipv4() { 0 } else { RELAY_BACKLOG })?;
    }
    Ok(Some(socket))
}

fn port_of(socket: Option<&OwnedFd>) -> Result<u16, Errno> {
    let address = rustix::net::getsockname(socket.ok_or(Errno::PROTONOSUPPORT)?)?;
    Ok(SocketAddr::try_from(address)?.port())
}

fn refusal(errno: Errno, protocol: Protocol, address: IpAddr, port: u16) -> Error {
    match errno {
        Errno::ADDRINUSE => Error::PortTaken { address, port },
        errno => Error::Bind { protocol, address, port, source: errno.into() },
    }
}
