//! What goes into attaching a container and what comes out: plain data, kept by the engine in its own records.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use coracle_sys::netlink::route::{InterfaceName, Mac};

/// A transport whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Which port of the host is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    /// Whichever is free.
    Random,
    /// This one.
    Exactly(u16),
    /// The first free one of a range, both ends included.
    Between(u16, u16),
}

/// One port to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The transport.
    pub protocol: Protocol,
    /// The port inside the container.
    pub container_port: u16,
    /// The host's address it appears on; `None` is every IPv4 address of the host. Every IPv6 address is `::`, a request
    /// of its own.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: HostPort,
}

/// Whether a network is the container's way to everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRoute {
    /// Through this network.
    Here,
    /// Through another network, or nowhere.
    Elsewhere,
}

/// A container to attach to a network.
#[derive(Debug, Clone)]
pub struct EndpointRequest {
    /// The container's id, 64 hexadecimal digits; the names of host interfaces derive from it.
    pub container_id: String,
    /// The interface's name in the container: `eth0`, or `eth1` and so on for further networks.
    pub interface: InterfaceName,
    /// The address wanted.
    pub ip: Option<Ipv4Addr>,
    /// The hardware address wanted; by default it derives from the address, as Docker's does.
    pub mac: Option<Mac>,
    /// Whether the container reaches everything else through this network: one of its networks.
    pub default_route: DefaultRoute,
    /// What is published.
    pub ports: Vec<PublishRequest>,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Published {
    /// The transport.
    pub protocol: Protocol,
    /// The port inside the container.
    pub container_port: u16,
    /// The host's address; `0.0.0.0` is every IPv4 address of the host, `::` every IPv6 address. The kernel translates
    /// IPv4; what arrives by IPv6 the shim relays, see [`crate::Relay`].
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// A container's attachment to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's id.
    pub container_id: String,
    /// The interface's name in the container.
    pub interface: InterfaceName,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// How many leading bits of it name the network.
    pub prefix_length: u8,
    /// The bridge's address: the container's default route.
    pub gateway: Ipv4Addr,
    /// The container's hardware address.
    pub mac: Mac,
    /// The host's end of the veth pair.
    pub host_interface: InterfaceName,
    /// What is published.
    pub ports: Vec<Published>,
}
