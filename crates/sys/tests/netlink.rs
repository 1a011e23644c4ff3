//! rtnetlink in namespaces of its own: what is asked for is what the kernel then has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use coracle_sys::netlink::route::{self, InterfaceName, Link, Mac, Prefix, Veth};
use coracle_sys::netlink::{Protocol, Socket};
use coracle_sys::netns;

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1));

fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).expect("a valid name")
}

fn find(socket: &Socket, wanted: &str) -> Option<Link> {
    let replies = socket.request(&[route::get_link(&name(wanted))]).ok()?;
    replies.iter().find_map(Link::parse)
}

#[test]
fn a_veth_is_born_in_its_namespace_and_its_peer_is_known_from_the_same_send() {
    netns::in_new(|| {
        let host = Socket::open(Protocol::Route).unwrap();
        let bridge_mac = Mac([2, 0x42, 1, 2, 3, 4]);
        host.request(&[route::create_bridge(&name("br0"), bridge_mac, 1500)]).unwrap();
        let bridge = find(&host, "br0").unwrap();
        assert!(bridge.up);
        assert_eq!((bridge.mac, bridge.kind.as_deref()), (Some(bridge_mac), Some("bridge")));
        let (container, inner) =
            netns::in_new(|| (netns::current().unwrap(), Socket::open(Protocol::Route).unwrap())).unwrap();
        let mac = Mac([2, 0x42, 10, 9, 0, 2]);
        let port = name("v1");
        let before = host.sent();
        let veth = Veth {
            name: &port,
            bridge: bridge.index,
            peer: &name("eth0"),
            peer_mac: mac,
            netns: container.as_fd(),
            mtu: 1400,
        };
        let replies = host
            .request(&[route::create_veth(&veth), route::set_port(&port, true), route::get_link(&port)])
            .unwrap();
        assert_eq!(host.sent() - before, 1);
        let link = replies.iter().find_map(Link::parse).unwrap();
        assert_eq!((link.master, link.mtu), (Some(bridge.index), 1400));
        let eth0 = find(&inner, "eth0").unwrap();
        assert_eq!(link.peer, Some(eth0.index));
        assert!(!eth0.up);
        inner.request(&[route::set_up(eth0.index)]).unwrap();
        assert!(find(&inner, "eth0").unwrap().up);
        assert_eq!((eth0.mac, eth0.mtu), (Some(mac), 1400));
    })
    .unwrap();
}

#[test]
fn addresses_and_routes_are_listed_as_they_were_added() {
    netns::in_new(|| {
        let socket = Socket::open(Protocol::Route).unwrap();
        let bridge = [route::create_bridge(&name("br0"), Mac([2, 0, 0, 0, 0, 1]), 1500)];
        socket.request(&bridge).unwrap();
        let index = find(&socket, "br0").unwrap().index;
        let both = [(GATEWAY, 24), (GATEWAY_V6, 64)];
        // The kernel gives the bridge a link-local address of its own whenever it pleases.
        let of_ours = |prefix: &Prefix| both.contains(&(prefix.address, prefix.length));
        let list = || {
            let addresses = socket.dump(&route::list_addresses()).unwrap();
            addresses.iter().filter_map(Prefix::parse_address).filter(of_ours).collect::<Vec<_>>()
        };
        for (address, length) in both {
            socket.request(&[route::add_address(index, address, length)]).unwrap();
        }
        let expected = both.map(|(address, length)| Prefix { address, length, index });
        assert_eq!(list(), expected);
        let routes = socket.dump(&route::list_routes()).unwrap();
        let routes: Vec<_> = routes.iter().filter_map(Prefix::parse_route).collect();
        for (address, length) in [("10.9.0.0", 24), ("fd09::", 64)] {
            let network = Prefix { address: address.parse().unwrap(), length, index: 0 };
            assert!(routes.contains(&network), "{address}: {routes:?}");
        }
        for (address, length) in both {
            socket.request(&[route::delete_address(index, address, length)]).unwrap();
        }
        assert_eq!(list(), []);
        let links = socket.dump(&route::list_links()).unwrap();
        assert!(links.iter().filter_map(Link::parse).any(|link| link.name == "br0"));
    })
    .unwrap();
}

#[test]
fn the_first_failure_of_a_batch_is_reported_under_its_own_name() {
    netns::in_new(|| {
        let socket = Socket::open(Protocol::Route).unwrap();
        let error = socket
            .request(&[route::get_link(&name("absent")), route::set_up(4711)])
            .expect_err("no such link");
        assert_eq!(error.to_string(), "RTM_GETLINK absent");
        assert_eq!(error.errno(), Some(rustix::io::Errno::NODEV));
        // The socket is not confused by the second failure, whose answer nobody asked for.
        assert!(find(&socket, "lo").is_some());
    })
    .unwrap();
}

#[test]
fn settings_belong_to_the_namespace_of_the_thread() {
    let outside = netns::sysctl("ipv4/ip_forward").unwrap();
    let (namespace, inside) = netns::in_new(|| {
        netns::set_sysctl("ipv4/ip_forward", if outside == "1" { "0" } else { "1" }).unwrap();
        (netns::current().unwrap(), netns::sysctl("ipv4/ip_forward").unwrap())
    })
    .unwrap();
    assert_ne!(inside, outside);
    assert_eq!(netns::sysctl("ipv4/ip_forward").unwrap(), outside);
    let again = netns::inside(namespace.as_fd(), || netns::sysctl("ipv4/ip_forward").unwrap()).unwrap();
    assert_eq!(again, inside);
}
