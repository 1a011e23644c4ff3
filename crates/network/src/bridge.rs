//! The network's bridge: made or adopted, with its address and settings.

use std::net::IpAddr;

use coracle_sys::error::Context as _;
use coracle_sys::netlink::Socket;
use coracle_sys::netlink::route::{self, Family, InterfaceName, Link, Mac, Prefix, octets};
use coracle_sys::netns;
use rustix::io::Errno;

use crate::error::{Attempt, Error, Result};
use crate::namespace::{ensure_setting, unless_missing};
use crate::subnet::{Subnet, is_link_local};

/// What the bridge should be.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    pub(crate) name: InterfaceName,
    /// One of each family that the network has.
    pub(crate) subnets: Vec<Subnet>,
    /// Largest packet, in bytes.
    pub(crate) mtu: u32,
    /// Whether its containers do not reach each other.
    pub(crate) isolated: bool,
}

/// The bridge as found or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ensured {
    /// Its number.
    pub(crate) index: u32,
    /// Whether anything was missing.
    pub(crate) changed: bool,
}

/// The hardware address that belongs to an address, as Docker derives it from one of IPv4.
pub(crate) fn mac_of(address: IpAddr) -> Mac {
    let mut folded = [0; 4];
    for (nth, octet) in octets(address).into_iter().enumerate() {
        folded[nth % 4] ^= octet;
    }
    let [a, b, c, d] = folded;
    Mac([0x02, 0x42, a, b, c, d])
}

impl Bridge {
    /// Makes the bridge what it should be, whatever it is now, in the calling thread's namespace.
    pub(crate) fn ensure(&self, socket: &Socket) -> Result<Ensured> {
        let (link, made) = match self.find(socket)? {
            Some(link) => (link, false),
            None => (self.create(socket)?, true),
        };
        if link.kind.as_deref() != Some("bridge") {
            return Err(Error::NotABridge { name: link.name });
        }
        let mut corrections = Vec::new();
        if !link.up {
            corrections.push(route::set_up(link.index));
        }
        if link.mtu != self.mtu {
            corrections.push(route::set_mtu(link.index, self.mtu));
        }
        // Before the addresses: an interface where IPv6 is off takes none.
        self.settings().attempt(|| format!("set up bridge {}", self.name))?;
        self.correct_addresses(socket, link.index, &mut corrections)?;
        let changed = made || !corrections.is_empty();
        if self.isolated {
            corrections.push(route::filter_frames(&self.name));
        }
        if !corrections.is_empty() {
            socket.request(&corrections).attempt(|| format!("set up bridge {}", self.name))?;
        }
        Ok(Ensured { index: link.index, changed })
    }

    /// What a port of the bridge has to be.
    ///
    /// Ports that are isolated exchange nothing, which is enough where frames do not go through the firewall. Where they do,
    /// a frame to a published port would be turned at once to the port of its container and be dropped there; the firewall
    /// tells those from the others by itself.
    pub(crate) fn port(&self, port: &InterfaceName) -> coracle_sys::netlink::Message {
        route::set_port(port, self.isolated && !frames_can_be_filtered(Family::V4))
    }

    /// Removes the bridge, which may be gone already.
    pub(crate) fn remove(&self, socket: &Socket) -> Result<()> {
        remove_link(socket, &self.name)
    }

    fn find(&self, socket: &Socket) -> Result<Option<Link>> {
        find_link(socket, &self.name)
    }

    fn create(&self, socket: &Socket) -> Result<Link> {
        let attempt = || format!("create bridge {}", self.name);
        let mac =
            self.subnets.first().map_or(Mac([0x02, 0x42, 0, 0, 0, 1]), |subnet| mac_of(subnet.address()));
        let create = route::create_bridge(&self.name, mac, self.mtu);
        let replies = socket.request(&[create, route::get_link(&self.name)]).attempt(attempt)?;
        let missing = || coracle_sys::Error::Unexpected {
            subject: self.name.to_string(),
            expected: "described by the kernel that just made it",
        };
        replies.iter().find_map(Link::parse).ok_or_else(missing).attempt(attempt)
    }

    fn correct_addresses(
        &self,
        socket: &Socket,
        index: u32,
        corrections: &mut Vec<coracle_sys::netlink::Message>,
    ) -> Result<()> {
        let listed = socket
            .dump(&route::list_addresses())
            .attempt(|| format!("list the addresses of bridge {}", self.name))?;
        let wanted = self.subnets.iter().map(|subnet| Prefix {
            address: subnet.address(),
            length: subnet.length(),
            index,
        });
        let wanted: Vec<_> = wanted.collect();
        let present: Vec<_> =
            listed.iter().filter_map(Prefix::parse_address).filter(|prefix| prefix.index == index).collect();
        let is_foreign = |prefix: &&Prefix| !wanted.contains(prefix) && !is_link_local(prefix.address);
        for other in present.iter().filter(is_foreign) {
            corrections.push(route::delete_address(index, other.address, other.length));
        }
        for missing in wanted.iter().filter(|prefix| !present.contains(prefix)) {
            corrections.push(route::add_address(index, missing.address, missing.length));
        }
        Ok(())
    }

    /// Nobody's router advertisement is believed (CVE-2020-10749).
    fn settings(&self) -> coracle_sys::Result<()> {
        let has = |family| self.subnets.iter().any(|subnet| subnet.family() == family);
        if has(Family::V4) {
            ensure_setting("ipv4/ip_forward", "1")?;
            // Lets 127.0.0.1 of this host reach published ports; the table's guard keeps containers from using it the other way.
            ensure_setting(&format!("ipv4/conf/{}/route_localnet", self.name), "1")?;
        }
        ensure_setting(&format!("ipv6/conf/{}/accept_ra", self.name), "0")?;
        if !has(Family::V6) {
            return ensure_setting(&format!("ipv6/conf/{}/disable_ipv6", self.name), "1");
        }
        ensure_setting(&format!("ipv6/conf/{}/accept_dad", self.name), "0")?;
        ensure_setting(&format!("ipv6/conf/{}/disable_ipv6", self.name), "0")?;
        forward_ipv6()
    }
}

/// Has the host forward packets of IPv6. A host that does so takes no more addresses and no way out from its routers, unless it is
/// told to (`accept_ra` 2): interfaces that took them until now go on.
fn forward_ipv6() -> coracle_sys::Result<()> {
    const FORWARDING: &str = "ipv6/conf/all/forwarding";
    if netns::sysctl(FORWARDING)? == "1" {
        return Ok(());
    }
    let place = "/proc/sys/net/ipv6/conf";
    for entry in std::fs::read_dir(place).context("list", place)? {
        let name = entry.context("list", place)?.file_name();
        let key = format!("ipv6/conf/{}/accept_ra", name.to_string_lossy());
        // An interface may be gone by now.
        if netns::sysctl(&key).is_ok_and(|value| value == "1") {
            unless_missing(netns::set_sysctl(&key, "2"))?;
        }
    }
    netns::set_sysctl(FORWARDING, "1")
}

/// Whether `br_netfilter` is loaded, by which frames of a family go through the firewall.
pub(crate) fn frames_can_be_filtered(family: Family) -> bool {
    let setting = match family {
        Family::V4 => "/proc/sys/net/bridge/bridge-nf-call-iptables",
        Family::V6 => "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
    };
    std::path::Path::new(setting).exists()
}

/// Looks for an interface.
pub(crate) fn find_link(socket: &Socket, name: &InterfaceName) -> Result<Option<Link>> {
    match socket.request(&[route::get_link(name)]) {
        Ok(replies) => Ok(replies.iter().find_map(Link::parse)),
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
        Err(error) => Err(error).attempt(|| format!("look for interface {name}")),
    }
}

/// Removes an interface, which may be gone already.
pub(crate) fn remove_link(socket: &Socket, name: &InterfaceName) -> Result<()> {
    match socket.request(&[route::delete_link(name)]) {
        Err(error) if error.errno() != Some(Errno::NODEV) => {
            Err(error).attempt(|| format!("remove interface {name}"))
        }
        _ => Ok(()),
    }
}
