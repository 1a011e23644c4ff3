//! Why a network operation was refused or failed.

use std::io;
use std::net::IpAddr;

use crate::endpoint::Protocol;
use crate::subnet::Subnet;
use coracle_sys::netlink::route::Family;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a network operation was refused or failed. After an error nothing of the operation is left.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another socket of the host, or another container, has the port. The text is Docker's, clients look for it.
    #[error("Bind for {address}:{port} failed: port is already allocated")]
    PortTaken {
        /// The host address asked for.
        address: IpAddr,
        /// The host port asked for.
        port: u16,
    },
    /// Every port of a range is taken.
    #[error("all ports from {first} to {last} on {address} are already allocated")]
    RangeTaken {
        /// The host address asked for.
        address: IpAddr,
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// The host refuses the port for another reason: the address is not its own, or is not allowed.
    #[error("cannot bind {protocol} port {port} on host address {address}")]
    Bind {
        /// The protocol of the port.
        protocol: Protocol,
        /// The host address asked for.
        address: IpAddr,
        /// The host port asked for.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Ports of this protocol cannot be published on this kind of address: the container has none of that family but a link-local
    /// one, and nothing relays them to another.
    #[error(
        "cannot publish {protocol} ports on {address}: the container has no address that they could lead to"
    )]
    HostAddress {
        /// The protocol of the port.
        protocol: Protocol,
        /// The host address asked for.
        address: IpAddr,
    },
    /// More ports than [`crate::limits::PORTS_PER_ENDPOINT`].
    #[error("cannot publish {count} ports of one container, the limit is {limit}")]
    TooManyPorts {
        /// How many were asked for.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A container's address is in use.
    #[error("address {address} is already in use on this network")]
    AddressTaken {
        /// The address asked for.
        address: IpAddr,
    },
    /// A container's address is not one that this network can give.
    #[error("address {address} is not a free host address of {subnet}")]
    AddressOutside {
        /// The address asked for.
        address: IpAddr,
        /// The network.
        subnet: Subnet,
    },
    /// The network is full.
    #[error("no free address left in {subnet}")]
    NoAddress {
        /// The network.
        subnet: Subnet,
    },
    /// An address of a family that the network does not have.
    #[error("the network has no {family} addresses, {address} is none of its own")]
    NoFamily {
        /// The address asked for.
        address: IpAddr,
        /// Its family.
        family: Family,
    },
    /// No private network is left that no interface and no route of the host uses.
    #[error("no private {family} network is free on this host; give the bridge an address ({})", bridge_option(*family))]
    NoSubnet {
        /// The family asked for.
        family: Family,
    },
    /// Not a usable network.
    #[error(
        "{text:?} is not an IPv4 address with a prefix length between 8 and 30, nor one of IPv6 that an interface can have with one between 8 and 126"
    )]
    Subnet {
        /// What was given.
        text: String,
    },
    /// Not a usable engine id.
    #[error("{text:?} is not an engine id of 8 hexadecimal digits")]
    EngineId {
        /// What was given.
        text: String,
    },
    /// An interface with the bridge's name is something else.
    #[error("interface {name} exists and is not a bridge")]
    NotABridge {
        /// The name.
        name: String,
    },
    /// Text that would add a line or a field to a file of the container.
    #[error("{what} {value:?} has characters that do not belong there")]
    Text {
        /// What the text is: "host name", "search domain".
        what: &'static str,
        /// The text.
        value: String,
    },
    /// A file of the host cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {attempt}")]
    Kernel {
        /// What was attempted, on what.
        attempt: String,
        /// The call that failed.
        source: coracle_sys::Error,
    },
}

/// The daemon's option that gives the default bridge an address.
fn bridge_option(family: Family) -> &'static str {
    match family {
        Family::V4 => "--bip",
        Family::V6 => "--bip6",
    }
}

/// Says what was attempted when the kernel refuses.
pub(crate) trait Attempt<T> {
    /// Wraps the failure as [`Error::Kernel`].
    fn attempt(self, attempt: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for coracle_sys::Result<T> {
    fn attempt(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Kernel { attempt: attempt(), source })
    }
}
