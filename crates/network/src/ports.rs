//! Host ports, reserved by sockets: nobody else can take a port while its socket is open, wherever it is passed on.
//!
//! Packets do not reach these sockets where they are translated before, and otherwise the shim relays. TCP ones listen, as a
//! bound socket that does not could be joined by any other with `SO_REUSEADDR`, and without that option connections of a server that used
//! the port before would be in the way for a minute.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::endpoint::{Endpoint, HostPort, Protocol, PublishRequest, Published};
use crate::error::{Error, Result};
use crate::limits::{PORTS_PER_ENDPOINT, RANDOM_PORT_TRIES, RELAY_BACKLOG};

/// The sockets that hold an endpoint's host ports; given to the shim, so that they outlive the engine.
#[derive(Debug, Default)]
pub struct Held {
    /// One for each port, but for SCTP where the kernel does not have it. Those of [`Endpoint::relays`] are non-blocking, and
    /// listen if they are TCP, for the shim to relay what arrives; nothing arrives on the others.
    pub sockets: Vec<OwnedFd>,
}

/// The addresses of a request that names none.
const EVERYWHERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// A reserved port of an address, and what holds it, if anything can.
type Reserved = (IpAddr, Option<OwnedFd>);

/// Reserves every port asked for, in the calling thread's namespace, for a container with the addresses of `endpoint`; on failure
/// none.
pub(crate) fn reserve(requests: &[PublishRequest], endpoint: &Endpoint) -> Result<(Vec<Published>, Held)> {
    if requests.len() > PORTS_PER_ENDPOINT {
        return Err(Error::TooManyPorts { count: requests.len(), limit: PORTS_PER_ENDPOINT });
    }
    let mut held = Held::default();
    let mut ports = Vec::with_capacity(requests.len());
    for request in requests {
        let (protocol, container_port) = (request.protocol, request.container_port);
        let (host_port, reserved) = reserve_one(request, endpoint)?;
        for (host_ip, socket) in reserved {
            ports.push(Published { protocol, container_port, host_ip, host_port });
            held.sockets.extend(socket);
        }
    }
    Ok((ports, held))
}

/// The port, and what holds it on each address asked for.
fn reserve_one(request: &PublishRequest, endpoint: &Endpoint) -> Result<(u16, Vec<Reserved>)> {
    let protocol = request.protocol;
    let is_reached = |address: &IpAddr| endpoint.is_reached(protocol, *address);
    let asked = request.host_ip.map_or(EVERYWHERE.to_vec(), |address| vec![address]);
    let addresses: Vec<_> = asked.iter().copied().filter(is_reached).collect();
    if addresses.is_empty() {
        return Err(Error::HostAddress { protocol, address: asked[0] });
    }
    match request.host_port {
        HostPort::Random | HostPort::Exactly(0) => bind_random(protocol, &addresses),
        HostPort::Exactly(port) => Ok((port, bind_exactly(protocol, &addresses, port)?)),
        HostPort::Between(first, last) => bind_between(protocol, &addresses, first, last),
    }
}

fn bind_between(
    protocol: Protocol,
    addresses: &[IpAddr],
    first: u16,
    last: u16,
) -> Result<(u16, Vec<Reserved>)> {
    for port in first..=last {
        match bind_exactly(protocol, addresses, port) {
            Err(Error::PortTaken { .. }) => {}
            other => return Ok((port, other?)),
        }
    }
    Err(Error::RangeTaken { address: addresses[0], first, last })
}

fn bind_exactly(protocol: Protocol, addresses: &[IpAddr], port: u16) -> Result<Vec<Reserved>> {
    let mut reserved = Vec::with_capacity(addresses.len());
    bind_all(protocol, addresses, port, &mut reserved)?;
    Ok(reserved)
}

/// Binds the port of further addresses, of which those that the host does not have are left out.
fn bind_all(protocol: Protocol, addresses: &[IpAddr], port: u16, reserved: &mut Vec<Reserved>) -> Result<()> {
    for &ip in addresses {
        match bind(protocol, ip, port) {
            Ok(socket) => reserved.push((ip, socket)),
            // Who asks for every address gets those that there are.
            Err(errno) if !reserved.is_empty() && is_without_ipv6(errno) => {}
            Err(errno) => return Err(refusal(errno, protocol, ip, port)),
        }
    }
    Ok(())
}

/// Whether the kernel says that it has no IPv6, or that it is off.
fn is_without_ipv6(errno: Errno) -> bool {
    matches!(errno, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
}

/// A port of the kernel's choice. It may choose one on which another socket listens, or that another has on the further
/// addresses; then once more.
fn bind_random(protocol: Protocol, addresses: &[IpAddr]) -> Result<(u16, Vec<Reserved>)> {
    let first = addresses[0];
    let mut failure = refusal(Errno::ADDRINUSE, protocol, first, 0);
    for _ in 0..RANDOM_PORT_TRIES {
        let drawn = match bind(protocol, first, 0) {
            // Without SCTP in the kernel no socket can have the port; any number does.
            Ok(None) => bind(Protocol::Udp, first, 0)
                .and_then(|udp| port_of(udp.as_ref()))
                .map(|port| (port, (first, None))),
            Ok(socket) => port_of(socket.as_ref()).map(|port| (port, (first, socket))),
            Err(errno) => Err(errno),
        };
        let (port, reserved) = match drawn {
            Ok(drawn) => drawn,
            Err(Errno::ADDRINUSE) => continue,
            Err(errno) => return Err(refusal(errno, protocol, first, 0)),
        };
        let mut all = vec![reserved];
        match bind_all(protocol, &addresses[1..], port, &mut all) {
            Ok(()) => return Ok((port, all)),
            Err(taken @ Error::PortTaken { .. }) => failure = taken,
            Err(error) => return Err(error),
        }
    }
    Err(failure)
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
        rustix::net::listen(&socket, RELAY_BACKLOG)?;
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
