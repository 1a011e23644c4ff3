//! Networks with addresses of both families, and of IPv6 alone: what there is, and who reaches whom.

mod lab;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use coracle_network::{
    AddressPool, Config, Driver, EndpointRequest, Error, Family, Healed, Passage, Protocol, PublishRequest,
    Swept, default_subnet,
};
use coracle_sys::netns;
use lab::{
    GATEWAY, GATEWAY_V6, HOST, HOST_V6, NEIGHBOUR, NEIGHBOUR_V6, connects, container, datagrams, dual,
    exchange, interface, listen, reach, request, ruleset, run, tcp, udp,
};

/// Of both families, as such sockets are.
const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const LOOPBACK: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn open(config: Config) -> Driver {
    Driver::open(config).expect("a network")
}

fn with(passage: Passage) -> Driver {
    open(Config { passage, ..dual() })
}

/// The container's address of IPv6.
fn v6(container: &lab::Container) -> IpAddr {
    container.endpoint.address(Family::V6).expect("the network has IPv6").ip
}

#[test]
fn a_container_has_addresses_and_ways_out_of_both_families_that_can_be_used_at_once() {
    lab::on_host(|lab| {
        let driver = open(dual());
        let one = container(&driver, 1, &[]);
        let inside = one.namespace.as_fd();
        let shown = run(inside, "ip addr show eth0");
        assert!(shown.contains("inet 172.29.0.2/16") && shown.contains("inet6 fd29::2/64"), "{shown}");
        assert!(!shown.contains("tentative") && !shown.contains("dynamic"), "{shown}");
        assert!(run(inside, "ip -6 route").contains("default via fd29::1 dev eth0"));
        let bridge = run(lab.host.as_fd(), "ip addr show coracle0");
        assert!(bridge.contains("inet6 fd29::1/64") && !bridge.contains("fd29::1/64 scope global tentative"));
        for (name, value) in [("coracle0/accept_ra", "0"), ("all/forwarding", "1")] {
            assert_eq!(netns::sysctl(&format!("ipv6/conf/{name}")).unwrap(), value, "{name}");
        }
        let settings = netns::inside(inside, || {
            ["eth0/accept_ra", "eth0/disable_ipv6", "default/disable_ipv6"]
                .map(|name| netns::sysctl(&format!("ipv6/conf/{name}")).unwrap())
        });
        assert_eq!(settings.unwrap(), ["0", "0", "1"]);
    });
}

#[test]
fn a_host_that_takes_what_its_routers_say_goes_on_doing_so() {
    lab::on_host(|_| {
        let accepts = |name: &str| netns::sysctl(&format!("ipv6/conf/{name}/accept_ra")).unwrap();
        netns::set_sysctl("ipv6/conf/lan0/accept_ra", "1").unwrap();
        netns::set_sysctl("ipv6/conf/lan1/accept_ra", "0").unwrap();
        let _driver = open(dual());
        assert_eq!(
            (accepts("lan0"), accepts("lan1"), accepts("coracle0")),
            ("2".into(), "0".into(), "0".into())
        );
        // Only when forwarding begins: afterwards whoever changes it knows.
        netns::set_sysctl("ipv6/conf/lan0/accept_ra", "1").unwrap();
        let _driver = open(dual());
        assert_eq!(accepts("lan0"), "1");
    });
}

#[test]
fn published_ports_are_reached_by_ipv6_from_everywhere_and_unpublished_ones_are_not() {
    everyone_reaches_what_is_published(None);
}

#[test]
fn the_same_holds_whether_bridged_packets_pass_the_firewall_or_not() {
    // Where br_netfilter is not loaded, the setting does not exist and the test above has shown this already.
    if std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-ip6tables").exists() {
        everyone_reaches_what_is_published(Some("1"));
        everyone_reaches_what_is_published(Some("0"));
    }
}

fn everyone_reaches_what_is_published(bridged_packets: Option<&str>) {
    lab::on_host(|lab| {
        if let Some(value) = bridged_packets {
            netns::set_sysctl("bridge/bridge-nf-call-ip6tables", value).expect("a setting of this namespace");
        }
        let driver = open(dual());
        let web = container(&driver, 1, &[tcp(None, 8080, 80), tcp(Some(HOST_V6), 8081, 80)]);
        let other = container(&driver, 2, &[]);
        let published = listen(web.namespace.as_fd(), ANY, 80);
        let private = listen(web.namespace.as_fd(), ANY, 81);
        let (host, lan, address) = (lab.host.as_fd(), lab.neighbour.as_fd(), v6(&web));
        for (who, from, to, port) in [
            ("host by its LAN address", host, HOST_V6, 8080),
            ("host by the gateway's address", host, GATEWAY_V6, 8080),
            ("host directly", host, address, 80),
            ("host by a certain address", host, HOST_V6, 8081),
            ("neighbour", lan, HOST_V6, 8080),
            ("neighbour by a certain address", lan, HOST_V6, 8081),
            ("neighbour by IPv4", lan, HOST, 8080),
            ("the container itself by the host's address", web.namespace.as_fd(), HOST_V6, 8080),
            ("the container itself by the gateway", web.namespace.as_fd(), GATEWAY_V6, 8080),
            ("another container by the host's address", other.namespace.as_fd(), HOST_V6, 8080),
            ("another container by the gateway", other.namespace.as_fd(), GATEWAY_V6, 8080),
            ("another container directly", other.namespace.as_fd(), address, 80),
        ] {
            reach(from, (to, port), &published).unwrap_or_else(|why| panic!("{who}: {why}"));
        }
        reach(other.namespace.as_fd(), (address, 81), &private).expect("within one bridge");
        // The neighbour routes to the container's own address: neither port answers.
        for port in [80, 81] {
            assert!(!connects(lan, (address, port)), "the neighbour reached {address}:{port}");
        }
        assert!(!connects(lan, (HOST_V6, 81)));
        assert!(!connects(host, (GATEWAY_V6, 8081)), "another address than the port is published on");
    });
}

#[test]
fn what_the_kernel_does_not_translate_comes_to_the_socket_that_is_relayed() {
    lab::on_host(|lab| {
        let driver = open(dual());
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let relays: Vec<_> = web.endpoint.relays().map(|(port, target)| (port.host_ip, target)).collect();
        assert_eq!(relays, [(ANY, SocketAddr::new(v6(&web), 80))]);
        let listener = web.relay(ANY, 8080);
        reach(lab.host.as_fd(), (LOOPBACK, 8080), &listener).expect("by ::1");
        // From a link-local address, which is not forwarded.
        run(lab.host.as_fd(), "ip addr add fe80::1:1/64 dev lan0 nodad");
        run(lab.neighbour.as_fd(), "ip addr add fe80::1:2/64 dev eth0 nodad");
        run(lab.neighbour.as_fd(), "timeout 10 bash -c exec<>/dev/tcp/fe80::1:1%eth0/8080");
        lab::wait_readable(listener.as_fd(), std::time::Duration::from_secs(10)).expect("a connection");
    });
}

#[test]
fn containers_go_outside_under_the_hosts_address_unless_others_know_theirs() {
    lab::on_host(|lab| {
        let driver = open(dual());
        let one = container(&driver, 1, &[]);
        let outside = listen(lab.neighbour.as_fd(), ANY, 7777);
        let seen = reach(one.namespace.as_fd(), (NEIGHBOUR_V6, 7777), &outside).unwrap();
        assert_eq!(seen.ip(), HOST_V6);
        let on_host = listen(lab.host.as_fd(), ANY, 7778);
        let seen = reach(one.namespace.as_fd(), (GATEWAY_V6, 7778), &on_host).unwrap();
        assert_eq!(seen.ip(), v6(&one));
        driver.detach(&one.endpoint).unwrap();
        driver.remove().unwrap();
        let driver = with(Passage { unmasqueraded: true, ..Passage::default() });
        let one = container(&driver, 1, &[]);
        let seen = reach(one.namespace.as_fd(), (NEIGHBOUR_V6, 7777), &outside).unwrap();
        assert_eq!(seen.ip(), v6(&one));
    });
}

#[test]
fn an_internal_network_is_closed_in_both_families() {
    lab::on_host(|lab| {
        let driver = with(Passage { internal: true, ..Passage::default() });
        let (one, two) = (container(&driver, 1, &[]), container(&driver, 2, &[]));
        let inside = listen(one.namespace.as_fd(), ANY, 80);
        let outside = listen(lab.neighbour.as_fd(), ANY, 7777);
        let on_host = listen(lab.host.as_fd(), ANY, 7778);
        for (own, gateway, neighbour) in
            [(v6(&one), GATEWAY_V6, NEIGHBOUR_V6), (one.endpoint.addresses[0].ip, GATEWAY, NEIGHBOUR)]
        {
            reach(two.namespace.as_fd(), (own, 80), &inside).expect("within it");
            reach(one.namespace.as_fd(), (gateway, 7778), &on_host).expect("the host's own address on it");
            assert!(!connects(one.namespace.as_fd(), (neighbour, 7777)));
            assert!(!connects(lab.neighbour.as_fd(), (own, 80)));
        }
        drop(outside);
    });
}

#[test]
fn nothing_passes_one_way_into_an_internal_network_or_out_of_it() {
    lab::on_host(|lab| {
        let driver = with(Passage { internal: true, ..Passage::default() });
        let one = container(&driver, 1, &[udp(5353, 53)]);
        let inside = datagrams(one.namespace.as_fd(), ANY, 53);
        let outside = datagrams(lab.neighbour.as_fd(), ANY, 7777);
        let on_host = datagrams(lab.host.as_fd(), ANY, 7778);
        for (own, neighbour, host) in
            [(v6(&one), NEIGHBOUR_V6, HOST_V6), (one.endpoint.addresses[0].ip, NEIGHBOUR, HOST)]
        {
            // All find each other from here on.
            exchange(&on_host, (own, 53), &inside).unwrap();
            exchange(&on_host, (neighbour, 7777), &outside).unwrap();
            inside.send_to(b"out", (neighbour, 7777)).unwrap();
            outside.send_to(b"in", (host, 5353)).unwrap();
            // What is sent afterwards is the first that arrives.
            exchange(&on_host, (own, 53), &inside).unwrap();
            exchange(&on_host, (neighbour, 7777), &outside).unwrap();
        }
    });
}

#[test]
fn the_host_does_not_speak_ipv6_on_networks_without_it() {
    lab::on_host(|lab| {
        let driver = open(lab::config());
        let one = container(&driver, 1, &[]);
        let on_host = datagrams(lab.host.as_fd(), ANY, 7778);
        let inside = one.namespace.as_fd();
        // As who has CAP_NET_ADMIN could.
        netns::inside(inside, || netns::set_sysctl("ipv6/conf/eth0/disable_ipv6", "0")).unwrap().unwrap();
        run(inside, "ip addr add fd77::1/64 dev eth0 nodad");
        assert_eq!(run(lab.host.as_fd(), "ip -6 addr show dev coracle0"), "");
        // To all nodes, wherever they are.
        let shout = "timeout 10 bash -c echo>/dev/udp/ff02::1%eth0/7778";
        run(inside, shout);
        let client = datagrams(lab.neighbour.as_fd(), ANY, 7777);
        // What is sent afterwards is the first that arrives.
        exchange(&client, (HOST_V6, 7778), &on_host).unwrap();
    });
}

#[test]
fn two_networks_reach_each_other_through_published_ports_only() {
    lab::on_host(|_| {
        let one = open(dual());
        let two = open(Config {
            bridge: interface("coracle1"),
            addressing: vec![lab::addressing("172.30.0.1/16"), lab::addressing("fd30::1/64")],
            ..dual()
        });
        let web = container(&one, 1, &[tcp(None, 8080, 80)]);
        let stranger = container(&two, 2, &[]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        assert!(!connects(stranger.namespace.as_fd(), (v6(&web), 80)));
        reach(stranger.namespace.as_fd(), (HOST_V6, 8080), &listener).unwrap();
        reach(stranger.namespace.as_fd(), (GATEWAY_V6, 8080), &listener).unwrap();
    });
}

#[test]
fn containers_that_are_kept_apart_are_so_in_both_families() {
    for bridged_packets in [None, Some("1"), Some("0")] {
        lab::on_host(|lab| {
            let setting = "bridge/bridge-nf-call-ip6tables";
            if let Some(value) = bridged_packets.filter(|_| netns::sysctl(setting).is_ok()) {
                netns::set_sysctl(setting, value).expect("a setting of this namespace");
            }
            let driver = with(Passage { isolated: true, ..Passage::default() });
            let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
            let other = container(&driver, 2, &[]);
            let listener = listen(web.namespace.as_fd(), ANY, 80);
            assert!(!connects(other.namespace.as_fd(), (v6(&web), 80)));
            reach(other.namespace.as_fd(), (HOST_V6, 8080), &listener).expect("it is published");
            reach(web.namespace.as_fd(), (HOST_V6, 8080), &listener).expect("it is published");
            reach(lab.neighbour.as_fd(), (HOST_V6, 8080), &listener).expect("it is published");
        });
    }
}

#[test]
fn containers_that_are_kept_apart_do_not_speak_by_addresses_that_nobody_gave_them() {
    lab::on_host(|_| {
        let passage = Passage { isolated: true, ..Passage::default() };
        let driver = open(Config { passage, ..lab::config() });
        let [one, two] = [1, 2].map(|number| container(&driver, number, &[]));
        for container in [&one, &two] {
            // As who has CAP_NET_ADMIN could.
            let inside = container.namespace.as_fd();
            netns::inside(inside, || netns::set_sysctl("ipv6/conf/eth0/disable_ipv6", "0")).unwrap().unwrap();
        }
        run(one.namespace.as_fd(), "ip addr add fd77::1/64 dev eth0 nodad");
        run(two.namespace.as_fd(), "ip addr add fd77::2/64 dev eth0 nodad");
        let listener = listen(one.namespace.as_fd(), ANY, 80);
        assert!(!connects(two.namespace.as_fd(), ("fd77::1".parse().unwrap(), 80)));
        drop(listener);
    });
}

#[test]
fn datagrams_follow_a_container_that_is_replaced() {
    lab::on_host(|lab| {
        let driver = open(dual());
        let client = datagrams(lab.neighbour.as_fd(), ANY, 5000);
        let first = container(&driver, 1, &[udp(5353, 53)]);
        let server = datagrams(first.namespace.as_fd(), ANY, 53);
        exchange(&client, (HOST_V6, 5353), &server).unwrap();
        driver.detach(&first.endpoint).unwrap();
        drop((server, first));
        // While nobody has the port the flow goes to the host itself, and would go on doing so.
        client.send_to(b"lost", (HOST_V6, 5353)).unwrap();
        let second = container(&driver, 2, &[udp(5353, 53)]);
        let server = datagrams(second.namespace.as_fd(), ANY, 53);
        exchange(&client, (HOST_V6, 5353), &server).unwrap();
    });
}

#[test]
fn a_network_of_ipv6_alone_has_nothing_of_ipv4() {
    lab::on_host(|lab| {
        let driver = open(Config { addressing: vec![lab::addressing("fd29::1/64")], ..dual() });
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        assert_eq!(web.endpoint.addresses.len(), 1);
        assert!(!run(web.namespace.as_fd(), "ip addr show eth0").contains("inet "));
        assert!(!ruleset(lab).contains("table ip coracle"));
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        reach(lab.neighbour.as_fd(), (HOST_V6, 8080), &listener).unwrap();
        // What comes by IPv4 is relayed, and so is ::1.
        let targets: Vec<_> = web.endpoint.relays().map(|(_, target)| target).collect();
        assert_eq!(targets, [SocketAddr::new(v6(&web), 80); 2]);
        let of_v4 = web.relay(Ipv4Addr::UNSPECIFIED.into(), 8080);
        reach(lab.neighbour.as_fd(), (HOST, 8080), &of_v4).unwrap();
    });
}

#[test]
fn nothing_is_translated_to_link_local_addresses() {
    lab::on_host(|lab| {
        let v4 = lab::addressing("172.29.0.1/16");
        let driver = open(Config { addressing: vec![v4, lab::addressing("fe80:29::1/64")], ..dual() });
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        assert_eq!(v6(&web).to_string(), "fe80:29::2");
        let v4 = web.endpoint.addresses[0].ip;
        let relays: Vec<_> = web.endpoint.relays().map(|(port, target)| (port.host_ip, target)).collect();
        assert_eq!(relays, [(ANY, SocketAddr::new(v4, 80))]);
        assert!(!run(lab.host.as_fd(), "nft list table ip6 coracle-0a1b2c3d").contains("8080"));
        let addressing = vec![lab::addressing("fe80:30::1/64")];
        let alone = open(Config { bridge: interface("coracle1"), addressing, ..dual() });
        let refused = alone.attach(&alone.create_namespace().unwrap(), &request(2, &[tcp(None, 8081, 80)]));
        assert!(matches!(refused, Err(Error::HostAddress { .. })));
    });
}

#[test]
fn addresses_are_given_as_asked_or_none_at_all() {
    lab::on_host(|_| {
        let driver = open(dual());
        let namespace = driver.create_namespace().unwrap();
        let asked = |number, ips: &[&str]| EndpointRequest {
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..request(number, &[])
        };
        let (one, _) = driver.attach(&namespace, &asked(1, &["fd29::77"])).unwrap();
        assert_eq!(one.ips().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["172.29.0.2", "fd29::77"]);
        let refuse = |ips: &[&str]| {
            driver.attach(&driver.create_namespace().unwrap(), &asked(2, ips)).expect_err("refused")
        };
        assert!(matches!(refuse(&["172.29.0.9", "fd29::77"]), Error::AddressTaken { .. }));
        assert!(matches!(refuse(&["172.29.0.9", "fd28::2"]), Error::AddressOutside { .. }));
        // The address of IPv4 is free again.
        driver.attach(&driver.create_namespace().unwrap(), &asked(2, &["172.29.0.9"])).unwrap();
        let single = open(Config {
            bridge: interface("coracle1"),
            addressing: vec![lab::addressing("172.30.0.1/16")],
            ..dual()
        });
        let refused = single.attach(&single.create_namespace().unwrap(), &asked(3, &["fd29::5"]));
        assert!(matches!(refused, Err(Error::NoFamily { family: Family::V6, .. })));
    });
}

#[test]
fn whatever_is_flushed_comes_back_in_both_families_and_goes_with_the_network() {
    lab::on_host(|lab| {
        let host = lab.host.as_fd();
        for command in ["iptables", "ip6tables"] {
            run(host, &format!("{command} -P FORWARD DROP"));
        }
        let before = ruleset(lab);
        let driver = open(dual());
        let web = container(&driver, 1, &[tcp(None, 8080, 80), tcp(Some(HOST_V6), 8081, 80)]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        let whole = ruleset(lab);
        driver.heal().unwrap();
        for damage in [
            "nft delete table ip6 coracle-0a1b2c3d",
            "nft flush chain ip6 coracle-0a1b2c3d forward",
            "nft flush map ip6 coracle-0a1b2c3d published",
            "nft flush map ip6 coracle-0a1b2c3d published_anywhere",
            "nft flush set ip6 coracle-0a1b2c3d networks",
            "nft delete table ip coracle-0a1b2c3d",
            "ip6tables -F FORWARD",
        ] {
            run(host, damage);
            assert_ne!(ruleset(lab), whole, "{damage}");
            assert_eq!(driver.heal().unwrap(), Healed { bridge: false, firewall: true }, "{damage}");
            for (to, port) in [(HOST_V6, 8080), (HOST_V6, 8081), (HOST, 8080)] {
                reach(lab.neighbour.as_fd(), (to, port), &listener).expect(damage);
            }
        }
        run(host, "ip -6 addr flush dev coracle0");
        assert!(driver.heal().unwrap().bridge);
        reach(lab.neighbour.as_fd(), (HOST_V6, 8080), &listener).unwrap();
        driver.detach(&web.endpoint).unwrap();
        assert!(!ruleset(lab).contains("8080") && !ruleset(lab).contains("8081"));
        driver.remove().unwrap();
        let counters = |rules: String| rules.lines().filter(|line| !line.contains("counter")).count();
        assert_eq!(counters(ruleset(lab)), counters(before));
    });
}

#[test]
fn a_restarted_engine_adopts_both_addresses_and_sweeps_what_died_meanwhile() {
    lab::on_host(|lab| {
        let first = open(dual());
        let living = container(&first, 1, &[tcp(None, 8080, 80)]);
        let dead = container(&first, 2, &[tcp(None, 8082, 80)]);
        drop(first);
        let second = open(dual());
        second.adopt(&living.endpoint).unwrap();
        assert_eq!(second.sweep().unwrap(), Swept { ports: 2, interfaces: 1 });
        assert!(!ruleset(lab).contains("8082"));
        drop(dead);
        let third = container(&second, 3, &[]);
        assert_ne!(v6(&third), v6(&living));
        let listener = listen(living.namespace.as_fd(), ANY, 80);
        reach(lab.neighbour.as_fd(), (HOST_V6, 8080), &listener).unwrap();
    });
}

#[test]
fn the_way_out_of_both_families_moves_to_another_network() {
    lab::on_host(|lab| {
        let one = open(dual());
        let two = open(Config {
            bridge: interface("coracle1"),
            addressing: vec![lab::addressing("172.30.0.1/16"), lab::addressing("fd30::1/64")],
            ..dual()
        });
        let both = container(&one, 1, &[]);
        let second = EndpointRequest {
            interface: interface("eth1"),
            default_route: coracle_network::DefaultRoute::Elsewhere,
            ..request(1, &[])
        };
        let (endpoint, _held) = two.attach(&both.namespace, &second).unwrap();
        let outside = listen(lab.neighbour.as_fd(), ANY, 7777);
        reach(both.namespace.as_fd(), (NEIGHBOUR_V6, 7777), &outside).unwrap();
        one.detach(&both.endpoint).unwrap();
        one.remove_interface(&both.endpoint).unwrap();
        assert!(!connects(both.namespace.as_fd(), (NEIGHBOUR_V6, 7777)));
        two.add_default_route(&both.namespace, &endpoint).unwrap();
        reach(both.namespace.as_fd(), (NEIGHBOUR_V6, 7777), &outside).unwrap();
        reach(both.namespace.as_fd(), (NEIGHBOUR, 7777), &outside).unwrap();
    });
}

#[test]
fn a_port_is_the_same_on_both_families_or_taken() {
    lab::on_host(|_| {
        let driver = open(dual());
        let any_of = |host_port| PublishRequest {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_ip: None,
            host_port,
        };
        let random = container(&driver, 1, &[any_of(coracle_network::HostPort::Random)]);
        let ports = &random.endpoint.ports;
        assert_eq!((ports.len(), ports[0].host_port), (2, ports[1].host_port));
        let socket = socket_of_v6(9000);
        let range = [any_of(coracle_network::HostPort::Between(9000, 9001))];
        assert_eq!(container(&driver, 2, &range).endpoint.ports[0].host_port, 9001);
        let refused = driver.attach(&driver.create_namespace().unwrap(), &request(3, &[tcp(None, 9000, 80)]));
        let text = refused.map(|_| ()).expect_err("taken").to_string();
        assert_eq!(text, "Bind for :::9000 failed: port is already allocated");
        drop(socket);
        let sctp =
            PublishRequest { protocol: Protocol::Sctp, ..any_of(coracle_network::HostPort::Exactly(9100)) };
        assert_eq!(container(&driver, 4, &[sctp]).endpoint.ports.len(), 2);
    });
}

/// A socket that has a port of IPv6 and none of IPv4.
fn socket_of_v6(port: u16) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let socket = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None).expect("a socket");
    sockopt::set_ipv6_v6only(&socket, true).expect("an option");
    rustix::net::bind(&socket, &SocketAddr::new(ANY, port)).expect("bound");
    rustix::net::listen(&socket, 1).expect("listening");
    socket
}

#[test]
fn the_default_network_keeps_what_the_bridge_has() {
    lab::on_host(|lab| {
        let bridge = interface("coracle0");
        let pools = [AddressPool::unique_local([1, 2, 3, 4, 5])];
        let found = || default_subnet(&bridge, &pools, Family::V6).unwrap().to_string();
        assert_eq!(found(), "fd01:203:405::1/64");
        run(lab.host.as_fd(), "ip -6 route add fd01:203:405::/64 dev lan0");
        assert_eq!(found(), "fd01:203:405:1::1/64");
        let _driver = open(dual());
        assert_eq!(found(), "fd29::1/64");
    });
}
