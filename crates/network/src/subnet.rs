//! IPv4 networks: parsing, containment, and finding one that the host does not use yet.

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use coracle_sys::error::Context as _;
use coracle_sys::netlink::route::{self, InterfaceName, Link, Prefix};
use coracle_sys::netlink::{Protocol, Socket};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::{Attempt, Error, Result};
use crate::limits::{LONGEST_PREFIX, SHORTEST_PREFIX};

/// An address together with its network: the gateway's, as in `172.17.0.1/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4Net {
    address: Ipv4Addr,
    length: u8,
}

impl Ipv4Net {
    /// An address that a host of the network can have, and the length of the network's prefix in bits.
    ///
    /// # Errors
    /// When the prefix is not between 8 and 30 bits, or the address is the network's or its broadcast address.
    pub fn new(address: Ipv4Addr, length: u8) -> Result<Self> {
        let net = Self { address, length };
        if (SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&length) && net.is_host(address) {
            Ok(net)
        } else {
            Err(Error::Subnet { text: format!("{address}/{length}") })
        }
    }

    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The length of the prefix, in bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The lowest address.
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & mask(self.length))
    }

    /// How many addresses there are, the network's and the broadcast address included.
    pub fn size(&self) -> u32 {
        1 << (32 - self.length)
    }

    /// Whether `address` is one that a host can have: neither the network's nor the broadcast address.
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        let host = u32::from(address) & !mask(self.length);
        self.contains(address) && host != 0 && host != !mask(self.length)
    }

    /// Whether `address` is in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.address)) & mask(self.length) == 0
    }

    /// Whether the two networks have an address in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.overlaps(&Prefix { address: other.address, length: other.length, index: 0 })
    }

    /// Whether the network and another prefix have an address in common.
    fn overlaps(&self, other: &Prefix) -> bool {
        let shared = mask(self.length.min(other.length));
        (u32::from(self.address) ^ u32::from(other.address)) & shared == 0
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Ipv4Net {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
            Some((address.parse().ok()?, length.parse().ok().filter(|_| plain)?))
        });
        let (address, length) = parsed.ok_or_else(|| Error::Subnet { text: text.to_owned() })?;
        Self::new(address, length)
    }
}

/// Addresses for networks that are given none: a range that is cut into networks of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    base: Ipv4Addr,
    length: u8,
    size: u8,
}

impl AddressPool {
    /// A range, of which the first `length` bits are those of `base`, cut into networks with prefixes of `size` bits.
    ///
    /// # Errors
    /// [`Error::Subnet`] when there would be no such network, or one that no bridge can have.
    pub fn new(base: Ipv4Addr, length: u8, size: u8) -> Result<Self> {
        if (1..=size).contains(&length) && (SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&size) {
            return Ok(Self { base: Ipv4Addr::from(u32::from(base) & mask(length)), length, size });
        }
        Err(Error::Subnet { text: format!("{base}/{length} in networks of /{size}") })
    }

    /// Docker's.
    pub fn usual() -> Vec<Self> {
        let large =
            (17..=31).map(|second| Self { base: Ipv4Addr::new(172, second, 0, 0), length: 16, size: 16 });
        let small = Self { base: Ipv4Addr::new(192, 168, 0, 0), length: 16, size: 20 };
        large.chain([small]).collect()
    }

    /// Its networks, each with the address that a bridge has there.
    fn networks(self) -> impl Iterator<Item = Ipv4Net> {
        let (base, size) = (u32::from(self.base), self.size);
        let count = 1u32 << (size - self.length);
        (0..count).map(move |nth| Ipv4Net {
            address: Ipv4Addr::from(base + (nth << (32 - size)) + 1),
            length: size,
        })
    }
}

/// The network for a bridge that was given none: the one it has, or the first of `pools` that no address and no route of
/// the host overlaps. Reads the calling thread's namespace.
///
/// # Errors
/// When the kernel cannot be asked, or every candidate is in use.
pub fn default_subnet(bridge: &InterfaceName, pools: &[AddressPool]) -> Result<Ipv4Net> {
    let attempt = || String::from("list the addresses and routes of the host");
    let socket = Socket::open(Protocol::Route).attempt(attempt)?;
    let links = socket.dump(&route::list_links()).attempt(attempt)?;
    let own = links.iter().filter_map(Link::parse).find(|link| link.name == bridge.as_str());
    let addresses = socket.dump(&route::list_addresses()).attempt(attempt)?;
    let mut used: Vec<Prefix> = addresses.iter().filter_map(Prefix::parse_address).collect();
    let has = used.iter().find(|prefix| own.as_ref().is_some_and(|link| link.index == prefix.index));
    if let Some(net) = has.and_then(|prefix| Ipv4Net::new(prefix.address, prefix.length).ok()) {
        return Ok(net);
    }
    let routes = socket.dump(&route::list_routes()).attempt(attempt)?;
    used.extend(routes.iter().filter_map(Prefix::parse_route));
    first_free(pools, &used).ok_or(Error::NoSubnet)
}

/// The first network of `pools` that meets none in `taken`, and no address and no route of the host. Reads the
/// calling thread's namespace.
///
/// # Errors
/// When the kernel cannot be asked, or every candidate is in use.
pub fn free_subnet(pools: &[AddressPool], taken: &[Ipv4Net]) -> Result<Ipv4Net> {
    let attempt = || String::from("list the addresses and routes of the host");
    let socket = Socket::open(Protocol::Route).attempt(attempt)?;
    let addresses = socket.dump(&route::list_addresses()).attempt(attempt)?;
    let routes = socket.dump(&route::list_routes()).attempt(attempt)?;
    let taken = taken.iter().map(|net| Prefix { address: net.address, length: net.length, index: 0 });
    let mut used: Vec<Prefix> = taken.collect();
    used.extend(addresses.iter().filter_map(Prefix::parse_address));
    used.extend(routes.iter().filter_map(Prefix::parse_route));
    first_free(pools, &used).ok_or(Error::NoSubnet)
}

/// Keeps other engines of the machine from looking for a free network, until it is dropped: what one has found is taken only
/// once its bridge has the address. Waits for them.
///
/// # Errors
/// When the kernel refuses.
pub fn claim_subnets() -> Result<OwnedFd> {
    let attempt = || String::from("wait for other engines that look for a free network");
    // A directory that every machine has, so that there is no file to leave; locks on it are seen by engines alone.
    let place = "/sys/class/net";
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let claim = rustix::fs::open(place, flags, Mode::empty()).context("open", place).attempt(attempt)?;
    rustix::fs::flock(&claim, FlockOperation::LockExclusive).context("flock", place).attempt(attempt)?;
    Ok(claim)
}

fn first_free(pools: &[AddressPool], used: &[Prefix]) -> Option<Ipv4Net> {
    let mut networks = pools.iter().flat_map(|pool| pool.networks());
    networks.find(|net| !used.iter().any(|prefix| net.overlaps(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(a: u8, b: u8, c: u8, length: u8) -> Prefix {
        Prefix { address: Ipv4Addr::new(a, b, c, 0), length, index: 0 }
    }

    #[test]
    fn networks_parse_strictly() {
        let net: Ipv4Net = "172.17.0.1/16".parse().unwrap();
        assert_eq!((net.network(), net.size()), (Ipv4Addr::new(172, 17, 0, 0), 65_536));
        assert_eq!(net.to_string(), "172.17.0.1/16");
        for bad in
            ["", "172.17.0.1", "172.17.0.0/16", "172.17.255.255/16", "1.2.3.4/31", "1.2.3.4/+16", "1.2.3.4/7"]
        {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_neither_the_first_nor_the_last_address() {
        let net: Ipv4Net = "10.0.0.1/30".parse().unwrap();
        let hosts: Vec<_> =
            (0..8).map(|n| Ipv4Addr::new(10, 0, 0, n)).filter(|&ip| net.is_host(ip)).collect();
        assert_eq!(hosts, [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]);
    }

    #[test]
    fn the_first_network_without_an_overlap_is_taken() {
        let free = |used: &[Prefix]| first_free(&AddressPool::usual(), used).map(|net| net.to_string());
        assert_eq!(free(&[]).as_deref(), Some("172.17.0.1/16"));
        assert_eq!(free(&[prefix(172, 17, 0, 16)]).as_deref(), Some("172.18.0.1/16"));
        assert_eq!(free(&[prefix(172, 17, 4, 24), prefix(172, 18, 0, 15)]).as_deref(), Some("172.20.0.1/16"));
        assert_eq!(free(&[prefix(172, 16, 0, 12)]).as_deref(), Some("192.168.0.1/20"));
        assert_eq!(
            free(&[prefix(172, 16, 0, 12), prefix(192, 168, 1, 24)]).as_deref(),
            Some("192.168.16.1/20")
        );
        assert_eq!(free(&[prefix(0, 0, 0, 0)]), None);
    }
}
