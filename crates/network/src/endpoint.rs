//! What goes into attaching a container and what comes out: plain data, kept by the engine in its own records.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use coracle_sys::netlink::route::{Family, InterfaceName, Mac};

use crate::subnet::is_link_local;

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
    /// The host's address it appears on; `None` is every address of the host, of both families, with the same port.
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
    /// The addresses wanted, one of a family at most.
    pub ips: Vec<IpAddr>,
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
    /// The host's address; `0.0.0.0` is every IPv4 address of the host, `::` every IPv6 address. Where the container has
    /// an address of the same family, the kernel translates; the rest the shim relays, see [`Endpoint::relays`].
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// An address of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// How many leading bits of it name the network.
    pub prefix_length: u8,
    /// The bridge's address of the same family: the container's default route.
    pub gateway: IpAddr,
}

/// A container's attachment to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's id.
    pub container_id: String,
    /// The interface's name in the container.
    pub interface: InterfaceName,
    /// The container's addresses: one of each family that the network has, that of IPv4 first.
    pub addresses: Vec<Address>,
    /// The container's hardware address.
    pub mac: Mac,
    /// The host's end of the veth pair.
    pub host_interface: InterfaceName,
    /// What is published.
    pub ports: Vec<Published>,
}

impl Endpoint {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<&Address> {
        self.addresses.iter().find(|address| Family::of(address.ip) == family)
    }

    /// Its addresses alone.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|address| address.ip)
    }

    /// Its address of a family to which packets of others can be sent on: a link-local one is reached from its own network alone.
    pub(crate) fn reached_at(&self, family: Family) -> Option<IpAddr> {
        self.address(family).map(|address| address.ip).filter(|ip| !is_link_local(*ip))
    }

    /// Published ports on which something arrives that the kernel does not translate, and where it is relayed: the container has
    /// no address of the family, or it comes from a link-local address, or from the host itself to `::1`.
    pub fn relays(&self) -> impl Iterator<Item = (Published, SocketAddr)> + '_ {
        self.ports.iter().filter_map(|port| {
            let is_translated = self.is_translated(port.host_ip) && port.host_ip.is_ipv4();
            let target = self.relayed_to(port).filter(|_| !is_translated)?;
            Some((*port, target))
        })
    }

    /// Where a port would be relayed: the container's address of its family, or else of the other one.
    pub fn relayed_to(&self, port: &Published) -> Option<SocketAddr> {
        let mut families = [Family::of(port.host_ip)].into_iter().chain(Family::BOTH);
        let target = families.find_map(|family| self.reached_at(family));
        let target = target.filter(|_| port.protocol != Protocol::Sctp)?;
        Some(SocketAddr::new(target, port.container_port))
    }

    /// Whether the kernel translates what is sent to a host address.
    pub(crate) fn is_translated(&self, host_ip: IpAddr) -> bool {
        self.reached_at(Family::of(host_ip)).is_some()
    }

    /// Whether what is sent to a host address gets to the container at all.
    pub(crate) fn is_reached(&self, protocol: Protocol, host_ip: IpAddr) -> bool {
        let relays = || Family::BOTH.into_iter().any(|family| self.reached_at(family).is_some());
        self.is_translated(host_ip) || protocol != Protocol::Sctp && relays()
    }
}
