//! A container's network namespace, with the sockets of the resolver that its shim answers.
//!
//! The resolver listens on random ports of 127.0.0.11, and the namespace redirects port 53 there: on port 53 itself it
//! would be in the way of every DNS server that a container runs.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::error::Context;
use coracle_sys::netlink::route::{Family, InterfaceName};
use coracle_sys::netlink::{self, Socket, route};
use coracle_sys::netns;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::endpoint::Protocol;
use crate::error::{Attempt, Result};
use crate::nft::{Chain, Hook, Rule, Transaction};

/// The address of the resolver in every container with a network.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const TABLE: &str = "coracle-resolver";
const CHAIN: Chain = Chain { name: "output", base: Some(("nat", Hook::Output, -100)) };
/// The loopback's number in every namespace.
const LOOPBACK: u32 = 1;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A network namespace that no process need be in; it ends with its last descriptor or process.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace.
    pub netns: OwnedFd,
    /// The resolver's sockets, where the namespace has a network; for the shim.
    pub dns: Option<DnsSockets>,
    /// Speaks to the namespace from outside.
    pub(crate) route: Socket,
}

/// Non-blocking sockets bound to 127.0.0.11 in a container, to which its port 53 leads.
#[derive(Debug)]
pub struct DnsSockets {
    /// Datagrams.
    pub udp: OwnedFd,
    /// A listening socket.
    pub tcp: OwnedFd,
}

impl Namespace {
    /// A namespace that is ready to be attached to networks.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create() -> Result<Self> {
        netns::in_new(|| {
            let (route, dns) = with_resolver()?;
            Ok(Self { netns: netns::current()?, dns, route })
        })
        .flatten()
        .attempt(|| String::from("create a network namespace"))
    }

    /// A namespace with nothing but a loopback, as `--network none` asks for.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn with_loopback_only() -> Result<Self> {
        netns::in_new(|| {
            let route = loopback()?;
            Ok(Self { netns: netns::current()?, dns: None, route })
        })
        .flatten()
        .attempt(|| String::from("create a network namespace"))
    }

    /// The same as [`Self::create`] of a namespace that is new, and belongs to a user namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_up(netns: OwnedFd) -> Result<Self> {
        Self::set_up_so(netns, with_resolver)
    }

    /// The same as [`Self::with_loopback_only`] of one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_up_loopback_only(netns: OwnedFd) -> Result<Self> {
        Self::set_up_so(netns, || Ok((loopback()?, None)))
    }

    fn set_up_so(
        netns: OwnedFd,
        how: impl FnOnce() -> coracle_sys::Result<(Socket, Option<DnsSockets>)> + Send,
    ) -> Result<Self> {
        let (route, dns) = netns::inside(netns.as_fd(), how)
            .flatten()
            .attempt(|| String::from("set up a network namespace"))?;
        Ok(Self { netns, dns, route })
    }

    /// A namespace that exists, to attach it to a further network.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn open(netns: OwnedFd) -> Result<Self> {
        let route = netns::inside(netns.as_fd(), || Socket::open_for_little(netlink::Protocol::Route))
            .flatten()
            .attempt(|| String::from("enter a network namespace"))?;
        Ok(Self { netns, dns: None, route })
    }

    /// Switches IPv6 on for an interface, whose addresses will then be nobody else's and can be used at once.
    pub(crate) fn switch_on_ipv6(&self, interface: &InterfaceName) -> coracle_sys::Result<()> {
        netns::inside(self.netns.as_fd(), || {
            let settings = [("accept_dad", "0"), ("accept_ra", "0"), ("disable_ipv6", "0")];
            settings.into_iter().try_for_each(|(key, value)| {
                netns::set_sysctl(&format!("ipv6/conf/{interface}/{key}"), value)
            })
        })
        .flatten()
    }

    /// How many times the namespace's socket has sent.
    pub fn sent(&self) -> u64 {
        self.route.sent()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

/// A loopback, and where names are asked for.
fn with_resolver() -> coracle_sys::Result<(Socket, Option<DnsSockets>)> {
    Ok((loopback()?, Some(resolver()?)))
}

/// Switches on the loopback, and IPv6 off for interfaces to come, until they get an address: one that nobody asked for is a
/// way in (CVE-2024-32473), as are a neighbour's router advertisements (CVE-2020-13401).
fn loopback() -> coracle_sys::Result<Socket> {
    let route = Socket::open_for_little(netlink::Protocol::Route)?;
    route.request(&[route::set_up(LOOPBACK)])?;
    for (key, value) in [("ipv6/conf/default/disable_ipv6", "1"), ("ipv6/conf/default/accept_ra", "0")] {
        // The namespace is new, so there is nothing that writing could disturb.
        unless_missing(netns::set_sysctl(key, value))?;
    }
    Ok(route)
}

/// Forgives that the kernel does not have a setting, as without IPv6.
pub(crate) fn unless_missing(done: coracle_sys::Result<()>) -> coracle_sys::Result<()> {
    done.or_else(|error| if error.errno() == Some(Errno::NOENT) { Ok(()) } else { Err(error) })
}

/// Makes a setting what it should be, unless the kernel does not have it, as without IPv6. Writing what is there already
/// would not be free: the kernel takes locks and forgets routes.
pub(crate) fn ensure_setting(key: &str, value: &str) -> coracle_sys::Result<()> {
    match netns::sysctl(key) {
        Ok(present) if present == value => Ok(()),
        Ok(_) => netns::set_sysctl(key, value),
        Err(error) => unless_missing(Err(error)),
    }
}

fn resolver() -> coracle_sys::Result<DnsSockets> {
    let (udp, udp_port) = bind(SocketType::DGRAM).context("bind", "udp 127.0.0.11")?;
    let (tcp, tcp_port) = bind(SocketType::STREAM).context("bind", "tcp 127.0.0.11")?;
    rustix::net::listen(&tcp, BACKLOG).context("listen", "tcp 127.0.0.11")?;
    let mut transaction = Transaction::new(TABLE);
    transaction.add_table();
    transaction.add_chain(CHAIN);
    for (protocol, port) in [(Protocol::Udp, udp_port), (Protocol::Tcp, tcp_port)] {
        let rule = Rule::new(Family::V4, format!("the resolver, {protocol}"))
            .destination_is(RESOLVER.into())
            .port_is(protocol.number(), 53)
            .translate_to(RESOLVER.into(), port);
        transaction.append_rule(CHAIN.name, &rule);
    }
    Socket::open_for_little(netlink::Protocol::Netfilter)?.request(&transaction.finish())?;
    Ok(DnsSockets { udp, tcp })
}

fn bind(kind: SocketType) -> Result<(OwnedFd, u16), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(RESOLVER, 0))?;
    let port = SocketAddrV4::try_from(rustix::net::getsockname(&socket)?)?.port();
    Ok((socket, port))
}
