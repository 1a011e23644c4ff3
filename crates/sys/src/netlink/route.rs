//! rtnetlink(7): the messages a container's network needs, and the answers they bring.
//!
//! Each function builds one [`Message`]; the caller decides which go together in one
//! [`Socket::request`](super::Socket::request).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Attributes, Message, Reply, flags, parse};
use crate::error::{Error, Result};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const BRPORT_MODE: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;
const BR_NF_CALL_IPTABLES: u16 = 36;
const BR_NF_CALL_IP6TABLES: u16 = 37;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// All families, in questions.
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The address is valid at once: nobody is asked whether it has it already (RFC 4862, 5.4).
const IFA_F_NODAD: u8 = 2;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, the older one first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Its number in messages: `AF_INET` and `AF_INET6`, which netfilter calls `NFPROTO_IPV4` and `NFPROTO_IPV6`.
    pub fn number(self) -> u8 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }

    /// The length of its addresses, in bits.
    pub fn width(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address as it is on the wire.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address that has these octets; none if they are neither 4 nor 16.
pub fn from_octets(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into())).ok()
}

/// The name of a network interface: 1 to 15 bytes, no `/`, no white space, not `.` or `..` (`dev_valid_name`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks a name.
    ///
    /// # Errors
    /// When the kernel would refuse it. Names are also held to printable ASCII.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
        let fits = (1..=15).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != "..";
        if fits {
            Ok(Self(name))
        } else {
            Err(Error::Unexpected { subject: format!("{name:?}"), expected: "the name of an interface" })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One interface, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// The other end's number in the other end's namespace, for a veth.
    pub peer: Option<u32>,
    /// The kind of a virtual interface: `veth`, `bridge`.
    pub kind: Option<String>,
    /// The hardware address, where it has six bytes.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

/// An address of an interface, or the destination of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The address; for a route, the network.
    pub address: IpAddr,
    /// How many leading bits name the network.
    pub length: u8,
    /// The interface it is an address of; 0 for a route.
    pub index: u32,
}

/// A pair of interfaces of which one end is a bridge port here and the other is in a container.
#[derive(Debug)]
pub struct Veth<'a> {
    /// The end that stays.
    pub name: &'a InterfaceName,
    /// The bridge it becomes a port of.
    pub bridge: u32,
    /// The end in the container.
    pub peer: &'a InterfaceName,
    /// The hardware address of the end in the container.
    pub peer_mac: Mac,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// Largest packet of both ends, in bytes.
    pub mtu: u32,
}

/// `struct ifinfomsg`: `index` 0 means that the name is in an attribute.
fn link_header(index: u32, raised: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&raised.to_ne_bytes());
    header[12..16].copy_from_slice(&raised.to_ne_bytes());
    header
}

fn message(call: &'static str, kind: u16, flags: u16, header: &[u8], subject: impl fmt::Display) -> Message {
    let body = Attributes::with_header(header);
    Message { call, subject: subject.to_string(), kind, flags: flags | flags::ACK, body }
}

/// Creates a bridge, switched on. Its hardware address is fixed, or it would follow its ports'.
pub fn create_bridge(name: &InterfaceName, mac: Mac, mtu: u32) -> Message {
    let mut new = message("RTM_NEWLINK", NEWLINK, flags::CREATE | flags::EXCL, &link_header(0, IFF_UP), name);
    new.body.put_str(IFLA_IFNAME, name.as_str()).put(IFLA_ADDRESS, &mac.0).put_u32(IFLA_MTU, mtu);
    new.body.nest(IFLA_LINKINFO, |info| {
        info.put(INFO_KIND, b"bridge");
    });
    new
}

/// Has the frames that a bridge passes from port to port go through the firewall, where the module `br_netfilter` is loaded,
/// whatever the setting for all bridges says.
pub fn filter_frames(bridge: &InterfaceName) -> Message {
    let mut set = message("RTM_NEWLINK", NEWLINK, 0, &link_header(0, 0), format_args!("bridge {bridge}"));
    set.body.put_str(IFLA_IFNAME, bridge.as_str()).nest(IFLA_LINKINFO, |info| {
        info.put(INFO_KIND, b"bridge").nest(INFO_DATA, |data| {
            data.put_u8(BR_NF_CALL_IPTABLES, 1).put_u8(BR_NF_CALL_IP6TABLES, 1);
        });
    });
    set
}

/// Creates a veth pair whose far end is born in its namespace: moving it there afterwards waits for an RCU grace
/// period, 15 to 30 ms. The far end is switched on from inside: here its pair is not complete yet (`ENOTCONN`).
pub fn create_veth(veth: &Veth<'_>) -> Message {
    let header = link_header(0, IFF_UP);
    let mut new = message("RTM_NEWLINK", NEWLINK, flags::CREATE | flags::EXCL, &header, veth.name);
    new.body.put_str(IFLA_IFNAME, veth.name.as_str()).put_u32(IFLA_MTU, veth.mtu);
    new.body.put_u32(IFLA_MASTER, veth.bridge);
    new.body.nest(IFLA_LINKINFO, |info| {
        info.put(INFO_KIND, b"veth").nest(INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&link_header(0, 0))
                    .put_str(IFLA_IFNAME, veth.peer.as_str())
                    .put_u32(IFLA_MTU, veth.mtu);
                let netns = veth.netns.as_raw_fd().cast_unsigned();
                peer.put(IFLA_ADDRESS, &veth.peer_mac.0).put_u32(IFLA_NET_NS_FD, netns);
            });
        });
    });
    new
}

/// Lets a bridge port send a frame back where it came from, for a container that uses its own published port; an isolated one
/// exchanges frames with the bridge itself only, and with ports that are not isolated (bridge(8)).
pub fn set_port(port: &InterfaceName, isolated: bool) -> Message {
    let mut set = message("RTM_NEWLINK", NEWLINK, 0, &link_header(0, 0), format_args!("port {port}"));
    set.body.put_str(IFLA_IFNAME, port.as_str()).nest(IFLA_LINKINFO, |info| {
        info.put(INFO_SLAVE_KIND, b"bridge").nest(INFO_SLAVE_DATA, |data| {
            data.put_u8(BRPORT_MODE, 1);
            if isolated {
                data.put_u8(BRPORT_ISOLATED, 1);
            }
        });
    });
    set
}

/// Makes an interface a port of the bridge with number `bridge`.
pub fn set_master(port: &InterfaceName, bridge: u32) -> Message {
    let mut set = message("RTM_NEWLINK", NEWLINK, 0, &link_header(0, 0), format_args!("{port} master"));
    set.body.put_str(IFLA_IFNAME, port.as_str()).put_u32(IFLA_MASTER, bridge);
    set
}

/// Switches an interface on.
pub fn set_up(index: u32) -> Message {
    message("RTM_NEWLINK", NEWLINK, 0, &link_header(index, IFF_UP), format_args!("interface {index} up"))
}

/// Sets the largest packet of an interface, in bytes.
pub fn set_mtu(index: u32, mtu: u32) -> Message {
    let mut set =
        message("RTM_NEWLINK", NEWLINK, 0, &link_header(index, 0), format_args!("interface {index} mtu"));
    set.body.put_u32(IFLA_MTU, mtu);
    set
}

/// Removes an interface. Waits for RCU grace periods (16 to 48 ms): never while somebody waits for an answer.
pub fn delete_link(name: &InterfaceName) -> Message {
    let mut delete = message("RTM_DELLINK", DELLINK, 0, &link_header(0, 0), name);
    delete.body.put_str(IFLA_IFNAME, name.as_str());
    delete
}

/// Asks for one interface; the reply reads with [`Link::parse`].
pub fn get_link(name: &InterfaceName) -> Message {
    let mut get = message("RTM_GETLINK", GETLINK, 0, &link_header(0, 0), name);
    get.body.put_str(IFLA_IFNAME, name.as_str());
    get
}

/// Lists all interfaces; for [`Socket::dump`](super::Socket::dump).
pub fn list_links() -> Message {
    message("RTM_GETLINK", GETLINK, 0, &link_header(0, 0), "all interfaces")
}

/// `struct ifaddrmsg`, with the address.
fn address(call: &'static str, kind: u16, flags: u16, index: u32, ip: IpAddr, length: u8) -> Message {
    let [a, b, c, d] = index.to_ne_bytes();
    let own_flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
    let header = [Family::of(ip).number(), length, own_flags, 0, a, b, c, d];
    let mut change = message(call, kind, flags, &header, format_args!("{ip}/{length}"));
    change.body.put(IFA_LOCAL, &octets(ip)).put(IFA_ADDRESS, &octets(ip));
    change
}

/// Gives an interface an address, one of IPv4 with its broadcast address. One of IPv6 can be used at once.
pub fn add_address(index: u32, ip: IpAddr, length: u8) -> Message {
    let mut add = address("RTM_NEWADDR", NEWADDR, flags::CREATE | flags::EXCL, index, ip, length);
    if let IpAddr::V4(ip) = ip {
        let hosts = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        add.body.put(IFA_BROADCAST, &Ipv4Addr::from(u32::from(ip) | hosts).octets());
    }
    add
}

/// Takes an address from an interface.
pub fn delete_address(index: u32, ip: IpAddr, length: u8) -> Message {
    address("RTM_DELADDR", DELADDR, 0, index, ip, length)
}

/// Lists the addresses of all interfaces; the replies read with [`Prefix::parse_address`].
pub fn list_addresses() -> Message {
    message("RTM_GETADDR", GETADDR, 0, &[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0], "all addresses")
}

/// Sends everything of the gateway's family without a better route to `gateway`, through the interface with number `index`.
pub fn add_default_route(gateway: IpAddr, index: u32) -> Message {
    let family = Family::of(gateway).number();
    let header = [family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0];
    let mut add = message(
        "RTM_NEWROUTE",
        NEWROUTE,
        flags::CREATE | flags::EXCL,
        &header,
        format_args!("default via {gateway}"),
    );
    add.body.put(RTA_GATEWAY, &octets(gateway)).put_u32(RTA_OIF, index);
    add
}

/// Lists the routes; the replies read with [`Prefix::parse_route`].
pub fn list_routes() -> Message {
    let header = [AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message("RTM_GETROUTE", GETROUTE, 0, &header, "all routes")
}

impl Link {
    /// Reads an `RTM_NEWLINK`; `None` for anything else.
    pub fn parse(reply: &Reply) -> Option<Self> {
        let header = reply.body.get(..16).filter(|_| reply.kind == NEWLINK)?;
        let number =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let raised = number(8);
        let mut link = Self {
            index: number(4),
            name: String::new(),
            up: raised & IFF_UP != 0,
            loopback: raised & IFF_LOOPBACK != 0,
            master: None,
            peer: None,
            kind: None,
            mac: None,
            mtu: 0,
        };
        for attribute in parse(&reply.body[16..]) {
            match attribute.kind {
                IFLA_IFNAME => link.name = attribute.str()?.to_owned(),
                IFLA_MASTER => link.master = attribute.u32(),
                IFLA_LINK => link.peer = attribute.u32(),
                IFLA_MTU => link.mtu = attribute.u32()?,
                IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().map(Mac),
                IFLA_LINKINFO => {
                    let kind = parse(attribute.value).find(|a| a.kind == INFO_KIND);
                    link.kind = kind.and_then(|a| a.str().map(str::to_owned));
                }
                _ => {}
            }
        }
        Some(link)
    }
}

impl Prefix {
    /// Reads an `RTM_NEWADDR`; `None` for anything else.
    pub fn parse_address(reply: &Reply) -> Option<Self> {
        let header = reply.body.get(..8).filter(|_| reply.kind == NEWADDR)?;
        let (length, index) = (header[1], u32::from_ne_bytes([header[4], header[5], header[6], header[7]]));
        let find = |kind| parse(&reply.body[8..]).find(move |a| a.kind == kind);
        // IPv6 has the address as IFA_LOCAL only where it differs from the peer's.
        let local = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
        Some(Self { address: from_octets(local.value)?, length, index })
    }

    /// Reads an `RTM_NEWROUTE` with a destination; `None` for anything else, the default route included.
    pub fn parse_route(reply: &Reply) -> Option<Self> {
        let header = reply.body.get(..12).filter(|_| reply.kind == NEWROUTE)?;
        // Routes of groups are listed as well, with numbers of their own.
        if !Family::BOTH.iter().any(|family| family.number() == header[0]) {
            return None;
        }
        let destination = parse(&reply.body[12..]).find(|a| a.kind == RTA_DST)?;
        Some(Self { address: from_octets(destination.value)?, length: header[1], index: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        let long = "x".repeat(15);
        for good in ["lo", "eth0", "br-0a1b", "coracle0", &long] {
            assert!(InterfaceName::new(good).is_ok(), "{good}");
        }
        let longer = "x".repeat(16);
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "a\n", "ä", &longer] {
            assert!(InterfaceName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reply_that_is_cut_short_is_no_link() {
        assert_eq!(Link::parse(&Reply { kind: NEWLINK, body: vec![0; 15] }), None);
        assert_eq!(
            Prefix::parse_address(&Reply { kind: NEWADDR, body: vec![2, 24, 0, 0, 1, 0, 0, 0] }),
            None
        );
    }
}
