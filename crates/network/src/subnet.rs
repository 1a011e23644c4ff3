//! Networks of either family: parsing, containment, and finding one that the host does not use yet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use coracle_sys::error::Context as _;
use coracle_sys::netlink::route::{self, Family, InterfaceName, Link, Prefix};
use coracle_sys::netlink::{Protocol, Socket};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::{Attempt, Error, Result};
use crate::limits::{HOST_BITS, SHORTEST_PREFIX};

/// An address together with its network: the gateway's, as in `172.17.0.1/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    address: IpAddr,
    length: u8,
}

impl Subnet {
    /// An address that a host of the network can have, and the length of the network's prefix in bits.
    ///
    /// # Errors
    /// When the prefix leaves less than two bits for hosts or is shorter than 8 bits, or the address is the network's or its
    /// broadcast address, or one of IPv6 that no interface has.
    pub fn new(address: IpAddr, length: u8) -> Result<Self> {
        let net = Self { address, length };
        let longest = net.family().width() - HOST_BITS;
        if (SHORTEST_PREFIX..=longest).contains(&length) && net.is_host(address) && !is_no_interfaces(address)
        {
            Ok(net)
        } else {
            Err(Error::Subnet { text: format!("{address}/{length}") })
        }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix, in bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The lowest address.
    pub fn network(&self) -> IpAddr {
        lowest(self.address, self.length)
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        highest(self.address, self.length)
    }

    /// Whether `address` is one that a host can have: not the lowest one, which is the network's or that of all its routers
    /// (RFC 4291, 2.6.1), and in IPv4 not the highest one, the broadcast address.
    pub fn is_host(&self, address: IpAddr) -> bool {
        let is_broadcast = address.is_ipv4() && address == self.last();
        self.contains(address) && address != self.network() && !is_broadcast
    }

    /// Whether `address` is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && lowest(address, self.length) == self.network()
    }

    /// Whether the two networks have an address in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.overlaps(&Prefix { address: other.address, length: other.length, index: 0 })
    }

    /// Whether the network and another prefix have an address in common.
    fn overlaps(&self, other: &Prefix) -> bool {
        let shared = self.length.min(other.length);
        self.family() == Family::of(other.address)
            && lowest(self.address, shared) == lowest(other.address, shared)
    }

    /// How many addresses an address is above the lowest one.
    pub(crate) fn offset(&self, address: IpAddr) -> u128 {
        bits(address) - bits(self.network())
    }

    /// The address that is so many above the lowest one.
    pub(crate) fn nth(&self, offset: u128) -> IpAddr {
        from_bits(self.family(), bits(self.network()) + offset)
    }
}

/// The address as a number.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(bits).expect("of an address of this family")).into(),
        Family::V6 => Ipv6Addr::from(bits).into(),
    }
}

/// The bits behind a prefix, all of them set.
fn rest(family: Family, length: u8) -> u128 {
    let behind = u32::from(family.width().saturating_sub(length));
    1u128.checked_shl(behind).map_or(u128::MAX, |next| next - 1)
}

/// The lowest address with the same prefix of `length` bits.
pub fn lowest(address: IpAddr, length: u8) -> IpAddr {
    let family = Family::of(address);
    from_bits(family, bits(address) & !rest(family, length))
}

/// The lowest address with the same prefix of `length` bits that a host can have, where there is any.
pub fn first_host(address: IpAddr, length: u8) -> IpAddr {
    let family = Family::of(address);
    from_bits(family, bits(lowest(address, length)) | rest(family, length).min(1))
}

/// The highest address with the same prefix of `length` bits.
pub fn highest(address: IpAddr, length: u8) -> IpAddr {
    let family = Family::of(address);
    from_bits(family, bits(address) | rest(family, length))
}

/// Parses `ADDRESS/LENGTH`, whatever bits the address has behind the prefix.
pub fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length = length.parse().ok().filter(|length| plain && *length <= Family::of(address).width())?;
    Some((address, length))
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, length) = prefix(text).ok_or_else(|| Error::Subnet { text: text.to_owned() })?;
        Self::new(address, length)
    }
}

/// Addresses for networks that are given none: a range that is cut into networks of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    base: IpAddr,
    length: u8,
    size: u8,
}

impl AddressPool {
    /// A range, of which the first `length` bits are those of `base`, cut into networks with prefixes of `size` bits.
    ///
    /// # Errors
    /// [`Error::Subnet`] when there would be no such network, or one that no bridge can have.
    pub fn new(base: IpAddr, length: u8, size: u8) -> Result<Self> {
        let longest = Family::of(base).width() - HOST_BITS;
        if (1..=size).contains(&length) && (SHORTEST_PREFIX..=longest).contains(&size) {
            return Ok(Self { base: lowest(base, length), length, size });
        }
        Err(Error::Subnet { text: format!("{base}/{length} in networks of /{size}") })
    }

    /// Docker's of IPv4.
    pub fn usual() -> Vec<Self> {
        let of_v4 = |a, b, length, size| Self { base: Ipv4Addr::new(a, b, 0, 0).into(), length, size };
        let large = (17..=31).map(|second| of_v4(172, second, 16, 16));
        large.chain([of_v4(192, 168, 16, 20)]).collect()
    }

    /// The unique local addresses of one site, in networks of 64 bits (RFC 4193): `fd`, the site's number, and a number for
    /// each network.
    pub fn unique_local([a, b, c, d, e]: [u8; 5]) -> Self {
        let base = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Self { base: base.into(), length: 48, size: 64 }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.base)
    }

    /// The first of its networks that overlaps none of `used`, with the address that a bridge has there.
    fn first_free(&self, used: &[Prefix]) -> Option<Subnet> {
        let family = self.family();
        let mut network = bits(self.base);
        loop {
            let subnet = Subnet { address: from_bits(family, network + 1), length: self.size };
            let in_the_way = used.iter().filter(|prefix| subnet.overlaps(prefix));
            let Some(last) = in_the_way.map(|prefix| bits(highest(prefix.address, prefix.length))).max()
            else {
                return Some(subnet);
            };
            // The one behind all that is in the way: a pool may have more networks than can be tried.
            let last = last | rest(family, self.size);
            network = last.checked_add(1).filter(|next| *next <= bits(highest(self.base, self.length)))?;
        }
    }
}

/// The network of a family for a bridge that was given none: the one it has, or the first of `pools` that no address and no route
/// of the host overlaps. Reads the calling thread's namespace.
///
/// # Errors
/// When the kernel cannot be asked, or every candidate is in use.
pub fn default_subnet(bridge: &InterfaceName, pools: &[AddressPool], family: Family) -> Result<Subnet> {
    let attempt = || String::from("list the addresses and routes of the host");
    let socket = Socket::open(Protocol::Route).attempt(attempt)?;
    let links = socket.dump(&route::list_links()).attempt(attempt)?;
    let own = links.iter().filter_map(Link::parse).find(|link| link.name == bridge.as_str());
    let addresses = socket.dump(&route::list_addresses()).attempt(attempt)?;
    let mut used: Vec<Prefix> = addresses.iter().filter_map(Prefix::parse_address).collect();
    let is_own = |prefix: &&Prefix| {
        own.as_ref().is_some_and(|link| link.index == prefix.index)
            && Family::of(prefix.address) == family
            && !is_link_local(prefix.address)
    };
    if let Some(net) =
        used.iter().find(is_own).and_then(|prefix| Subnet::new(prefix.address, prefix.length).ok())
    {
        return Ok(net);
    }
    let routes = socket.dump(&route::list_routes()).attempt(attempt)?;
    used.extend(routes.iter().filter_map(Prefix::parse_route));
    first_free(pools, &used, family).ok_or(Error::NoSubnet { family })
}

/// Whether the kernel gives every interface an address like this by itself.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Whether an address of IPv6 is of a kind that no interface has or that the kernel drops on every wire: multicast, and the first
/// 96 bits of `::1`, of addresses of IPv4 as sockets show them, and of those that are compatible (RFC 4291, 2.5.3 and 2.5.5).
fn is_no_interfaces(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_multicast() || address.to_ipv4().is_some())
}

/// The first network of a family of `pools` that meets none in `taken`, and no address and no route of the host. Reads the
/// calling thread's namespace.
///
/// # Errors
/// When the kernel cannot be asked, or every candidate is in use.
pub fn free_subnet(pools: &[AddressPool], taken: &[Subnet], family: Family) -> Result<Subnet> {
    let attempt = || String::from("list the addresses and routes of the host");
    let socket = Socket::open(Protocol::Route).attempt(attempt)?;
    let addresses = socket.dump(&route::list_addresses()).attempt(attempt)?;
    let routes = socket.dump(&route::list_routes()).attempt(attempt)?;
    let taken = taken.iter().map(|net| Prefix { address: net.address, length: net.length, index: 0 });
    let mut used: Vec<Prefix> = taken.collect();
    used.extend(addresses.iter().filter_map(Prefix::parse_address));
    used.extend(routes.iter().filter_map(Prefix::parse_route));
    first_free(pools, &used, family).ok_or(Error::NoSubnet { family })
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

fn first_free(pools: &[AddressPool], used: &[Prefix], family: Family) -> Option<Subnet> {
    let mut of_family = pools.iter().filter(|pool| pool.family() == family);
    of_family.find_map(|pool| pool.first_free(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(texts: &[&str]) -> Vec<Prefix> {
        let prefix = |text: &&str| {
            let (address, length) = prefix(text).unwrap();
            Prefix { address, length, index: 0 }
        };
        texts.iter().map(prefix).collect()
    }

    #[test]
    fn networks_parse_strictly() {
        let ends = |text: &str| {
            let net: Subnet = text.parse().unwrap();
            assert_eq!(net.to_string(), text);
            (net.network().to_string(), net.last().to_string())
        };
        assert_eq!(ends("172.17.0.1/16"), ("172.17.0.0".to_owned(), "172.17.255.255".to_owned()));
        assert_eq!(ends("fd00::1/120"), ("fd00::".to_owned(), "fd00::ff".to_owned()));
        for bad in [
            "",
            "172.17.0.1",
            "172.17.0.0/16",
            "172.17.255.255/16",
            "1.2.3.4/31",
            "1.2.3.4/+16",
            "1.2.3.4/",
            "1.2.3.4/7",
            "1.2.3.4/33",
            "fd00::/64",
            "fd00::1/127",
            "fd00::1/7",
            "fd00::1/129",
            "::1/64",
            "::9/96",
            "::ffff:10.0.0.1/120",
            "ff02::1:1/64",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_neither_the_first_address_nor_that_of_a_broadcast() {
        let hosts = |subnet: &str, prefix: &str| {
            let net: Subnet = subnet.parse().unwrap();
            let is_host = |n: &u8| net.is_host(format!("{prefix}{n}").parse().unwrap());
            (0..8).filter(is_host).collect::<Vec<_>>()
        };
        assert_eq!(hosts("10.0.0.1/30", "10.0.0."), [1, 2]);
        assert_eq!(hosts("fd00::1/126", "fd00::"), [1, 2, 3]);
        assert_eq!(hosts("fd00::1/126", "10.0.0."), []);
    }

    #[test]
    fn the_first_network_without_an_overlap_is_taken() {
        let free = |texts: &[&str]| {
            first_free(&AddressPool::usual(), &used(texts), Family::V4).map(|net| net.to_string())
        };
        assert_eq!(free(&[]).as_deref(), Some("172.17.0.1/16"));
        assert_eq!(free(&["172.17.0.0/16"]).as_deref(), Some("172.18.0.1/16"));
        assert_eq!(free(&["172.17.4.0/24", "172.18.0.0/15"]).as_deref(), Some("172.20.0.1/16"));
        assert_eq!(free(&["172.16.0.0/12"]).as_deref(), Some("192.168.0.1/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.1.0/24"]).as_deref(), Some("192.168.16.1/20"));
        assert_eq!(free(&["0.0.0.0/0"]), None);
        assert_eq!(free(&["::/0"]).as_deref(), Some("172.17.0.1/16"));
    }

    #[test]
    fn a_site_has_networks_of_its_own_and_a_pool_that_is_huge_is_searched_all_the_same() {
        let of = |pool: AddressPool, texts: &[&str]| {
            first_free(&[pool], &used(texts), Family::V6).map(|net| net.to_string())
        };
        let site = AddressPool::unique_local([1, 2, 3, 4, 5]);
        assert_eq!(of(site, &[]).as_deref(), Some("fd01:203:405::1/64"));
        assert_eq!(of(site, &["fd01:203:405::7/128", "10.0.0.0/8"]).as_deref(), Some("fd01:203:405:1::1/64"));
        assert_eq!(of(site, &["fd01:203:405::/48"]), None);
        let huge = AddressPool::new("fd00::".parse().unwrap(), 8, 126).unwrap();
        assert_eq!(of(huge, &["fd00::/9"]).as_deref(), Some("fd80::1/126"));
        assert_eq!(of(huge, &["fd00::/8"]), None);
        assert_eq!(first_free(&[site], &[], Family::V4), None);
        let all = AddressPool::new("8000::".parse().unwrap(), 1, 64).unwrap();
        assert_eq!(of(all, &["8000::/1"]), None);
    }
}
