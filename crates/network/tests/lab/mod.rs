//! A small world for tests: a "host" namespace with a neighbour on its LAN, servers, and bounded attempts to reach them.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use coracle_network::{
    Addressing, Config, DefaultRoute, Driver, Endpoint, EndpointRequest, Held, HostPort, InterfaceName,
    Namespace, Protocol, PublishRequest,
};
use coracle_sys::netlink::route::{self, Link, Mac, Veth};
use coracle_sys::netlink::{self, Socket};
use coracle_sys::netns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
pub(crate) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 29, 0, 1));
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const HOST_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub(crate) const NEIGHBOUR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
pub(crate) const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd29, 0, 0, 0, 0, 0, 0, 1));
/// What must succeed may take this long on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What must fail is given this long to succeed.
const DOUBT: Duration = Duration::from_millis(400);

/// The host's namespace and its neighbour's; the calling thread is in the host's.
pub(crate) struct Lab {
    pub(crate) host: OwnedFd,
    pub(crate) neighbour: OwnedFd,
}

/// Runs `test` in a host namespace of its own with a neighbour on its LAN.
pub(crate) fn on_host<T: Send>(test: impl FnOnce(&Lab) -> T + Send) -> T {
    netns::in_new(|| {
        let socket = Socket::open(netlink::Protocol::Route).expect("netlink");
        let lan = interface("lan0");
        socket
            .request(&[route::set_up(1), route::create_bridge(&lan, Mac([2, 0, 0, 0, 0, 1]), 1500)])
            .expect("a LAN");
        let index = link(&socket, "lan0").expect("just made").index;
        socket
            .request(&[route::add_address(index, HOST, 24), route::add_address(index, HOST_V6, 64)])
            .expect("addresses");
        let (neighbour, inner) = netns::in_new(|| {
            (netns::current().expect("proc"), Socket::open(netlink::Protocol::Route).expect("netlink"))
        })
        .expect("a neighbour");
        let (port, eth0) = (interface("lan1"), interface("eth0"));
        let veth = Veth {
            name: &port,
            bridge: index,
            peer: &eth0,
            peer_mac: Mac([2, 0, 0, 0, 0, 2]),
            netns: neighbour.as_fd(),
            mtu: 1500,
        };
        socket.request(&[route::create_veth(&veth)]).expect("a cable");
        let index = link(&inner, "eth0").expect("just made").index;
        inner
            .request(&[
                route::set_up(index),
                route::add_address(index, NEIGHBOUR, 24),
                route::add_default_route(HOST, index),
                route::add_address(index, NEIGHBOUR_V6, 64),
                route::add_default_route(HOST_V6, index),
            ])
            .expect("the neighbour's addresses");
        test(&Lab { host: netns::current().expect("proc"), neighbour })
    })
    .expect("a host")
}

pub(crate) fn interface(name: &str) -> InterfaceName {
    InterfaceName::new(name).expect("a valid name")
}

pub(crate) fn link(socket: &Socket, name: &str) -> Option<Link> {
    socket.request(&[route::get_link(&interface(name))]).ok()?.iter().find_map(Link::parse)
}

pub(crate) fn config() -> Config {
    Config {
        engine: "0a1b2c3d".parse().expect("an id"),
        bridge: interface("coracle0"),
        addressing: vec![addressing("172.29.0.1/16")],
        mtu: 1500,
        passage: coracle_network::Passage::default(),
    }
}

pub(crate) fn addressing(subnet: &str) -> Addressing {
    Addressing { subnet: subnet.parse().expect("a network"), range: None, reserved: Vec::new() }
}

/// A network with addresses of both families.
pub(crate) fn dual() -> Config {
    let mut config = config();
    config.addressing.push(addressing("fd29::1/64"));
    config
}

pub(crate) fn driver() -> Driver {
    Driver::open(config()).expect("a network")
}

/// A request of the container with this number.
pub(crate) fn request(number: u8, ports: &[PublishRequest]) -> EndpointRequest {
    EndpointRequest {
        container_id: format!("{number:02x}").repeat(32),
        interface: interface("eth0"),
        ips: Vec::new(),
        mac: None,
        default_route: DefaultRoute::Here,
        ports: ports.to_vec(),
    }
}

pub(crate) fn tcp(host_ip: Option<IpAddr>, host_port: u16, container_port: u16) -> PublishRequest {
    PublishRequest {
        protocol: Protocol::Tcp,
        container_port,
        host_ip,
        host_port: HostPort::Exactly(host_port),
    }
}

pub(crate) fn udp(host_port: u16, container_port: u16) -> PublishRequest {
    PublishRequest { protocol: Protocol::Udp, ..tcp(None, host_port, container_port) }
}

/// A container: its namespace, its attachment and what its shim would hold.
pub(crate) struct Container {
    pub(crate) namespace: Namespace,
    pub(crate) endpoint: Endpoint,
    pub(crate) held: Held,
}

pub(crate) fn container(driver: &Driver, number: u8, ports: &[PublishRequest]) -> Container {
    let namespace = driver.create_namespace().expect("a namespace");
    let (endpoint, held) = driver.attach(&namespace, &request(number, ports)).expect("attached");
    Container { namespace, endpoint, held }
}

impl Container {
    /// What its shim would accept connections to a host address and port with.
    pub(crate) fn relay(&self, host_ip: IpAddr, host_port: u16) -> TcpListener {
        let is_it = |socket: &&OwnedFd| {
            let bound = rustix::net::getsockname(socket).expect("a socket");
            SocketAddr::try_from(bound).expect("of IP") == SocketAddr::new(host_ip, host_port)
        };
        let socket = self.held.sockets.iter().find(is_it).expect("the port is held");
        socket.try_clone().expect("a descriptor").into()
    }
}

/// A listening socket of a namespace.
pub(crate) fn listen(netns: BorrowedFd<'_>, address: IpAddr, port: u16) -> TcpListener {
    let bind = || TcpListener::bind(SocketAddr::new(address, port)).expect("bound");
    let listener = netns::inside(netns, bind).expect("entered");
    listener.set_nonblocking(true).expect("an option");
    listener
}

/// Connects from a namespace to an address and has `listener` answer. Returns the address the listener saw.
pub(crate) fn reach(
    from: BorrowedFd<'_>,
    to: (IpAddr, u16),
    listener: &TcpListener,
) -> Result<SocketAddr, String> {
    let mut client = connect(from, to, PATIENCE)?;
    client.write_all(b"ping").map_err(|e| e.to_string())?;
    wait_readable(listener.as_fd(), PATIENCE)
        .map_err(|()| String::from("another listener has the connection"))?;
    let (mut server, peer) = listener.accept().map_err(|e| e.to_string())?;
    server.set_nonblocking(false).map_err(|e| e.to_string())?;
    server.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let mut text = [0; 4];
    server.read_exact(&mut text).map_err(|e| e.to_string())?;
    server.write_all(b"pong").map_err(|e| e.to_string())?;
    client.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    client.read_exact(&mut text).map_err(|e| e.to_string())?;
    assert_eq!(&text, b"pong");
    Ok(peer)
}

/// Whether a connection can be opened at all, to anything.
pub(crate) fn connects(from: BorrowedFd<'_>, to: (IpAddr, u16)) -> bool {
    connect(from, to, DOUBT).is_ok()
}

fn connect(from: BorrowedFd<'_>, to: (IpAddr, u16), limit: Duration) -> Result<TcpStream, String> {
    let connect = || TcpStream::connect_timeout(&SocketAddr::new(to.0, to.1), limit);
    netns::inside(from, connect).expect("entered").map_err(|e| format!("cannot connect to {to:?}: {e}"))
}

/// A datagram socket of a namespace.
pub(crate) fn datagrams(netns: BorrowedFd<'_>, address: IpAddr, port: u16) -> UdpSocket {
    let bind = || UdpSocket::bind(SocketAddr::new(address, port)).expect("bound");
    let socket = netns::inside(netns, bind).expect("entered");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    socket
}

/// Sends a datagram from `client` and has `server` answer; returns the address the server saw.
pub(crate) fn exchange(
    client: &UdpSocket,
    to: (IpAddr, u16),
    server: &UdpSocket,
) -> Result<SocketAddr, String> {
    let mut text = [0; 16];
    client.send_to(b"ping", SocketAddr::new(to.0, to.1)).map_err(|e| format!("send: {e}"))?;
    let (length, peer) = server.recv_from(&mut text).map_err(|e| format!("server: {e}"))?;
    assert_eq!(&text[..length], b"ping");
    server.send_to(b"pong", peer).map_err(|e| format!("answer: {e}"))?;
    let (length, _) = client.recv_from(&mut text).map_err(|e| format!("client: {e}"))?;
    assert_eq!(&text[..length], b"pong");
    Ok(peer)
}

pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> Result<(), ()> {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)) {
        Ok(1) => Ok(()),
        _ => Err(()),
    }
}

/// Runs a program in a namespace and returns what it printed.
pub(crate) fn run(netns: BorrowedFd<'_>, command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let output = netns::inside(netns, || Command::new(program).args(words).output().expect("started"))
        .expect("entered");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}: {err}");
    out.into_owned()
}

/// The host's rules as nft prints them.
pub(crate) fn ruleset(lab: &Lab) -> String {
    run(lab.host.as_fd(), "nft list ruleset")
}
