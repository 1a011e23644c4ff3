//! What is there after each step, and that nothing is left: kernel state, not return values.

mod lab;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use coracle_network::{
    AddressPool, Driver, Endpoint, EndpointRequest, Error, Family, Healed, HostPort, Protocol,
    PublishRequest, Swept, default_subnet,
};
use coracle_sys::netlink::{self, Socket};
use coracle_sys::netns;
use lab::{Lab, config, container, driver, interface, listen, reach, request, ruleset, run, tcp, udp};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const TABLE: &str = "ip coracle-0a1b2c3d";

/// The names of the host's interfaces.
fn interfaces(lab: &Lab) -> Vec<String> {
    let listed = run(lab.host.as_fd(), "ip -o link show");
    let name = |line: &str| line.split(": ").nth(1).map(|n| n.split('@').next().unwrap_or(n).to_owned());
    listed.lines().filter_map(name).collect()
}

#[test]
fn an_attached_container_has_the_address_mac_and_route_that_were_reported() {
    lab::on_host(|lab| {
        let one = container(&driver(), 1, &[]);
        let inside = one.namespace.as_fd();
        assert_eq!(one.endpoint.ips().collect::<Vec<_>>(), [IpAddr::from([172, 29, 0, 2])]);
        assert_eq!(one.endpoint.mac.to_string(), "02:42:ac:1d:00:02");
        let shown = run(inside, "ip addr show eth0");
        assert!(shown.contains("inet 172.29.0.2/16 brd 172.29.255.255"), "{shown}");
        assert!(shown.contains("link/ether 02:42:ac:1d:00:02"), "{shown}");
        assert!(!shown.contains("inet6"), "an address nobody asked for: {shown}");
        assert!(run(inside, "ip route").contains("default via 172.29.0.1 dev eth0"));
        let port = format!("ip -d link show {}", one.endpoint.host_interface);
        assert!(run(lab.host.as_fd(), &port).contains("hairpin on"));
    });
}

#[test]
fn attaching_takes_the_same_few_sends_however_many_containers_and_ports_there_are() {
    lab::on_host(|_| {
        let driver = driver();
        let mut counts = Vec::new();
        for number in 1..=20 {
            let first = 1000 * u16::from(number);
            let ports: Vec<_> = (0..50).map(|n| tcp(None, first + n, 80 + n)).collect();
            let namespace = driver.create_namespace().unwrap();
            let before = driver.sent() + namespace.sent();
            let attached = driver.attach(&namespace, &request(number, &ports)).unwrap();
            counts.push(driver.sent() + namespace.sent() - before);
            let before = driver.sent();
            if number % 2 == 0 {
                driver.detach(&attached.0).unwrap();
                assert_eq!(driver.sent() - before, 1);
            }
        }
        assert_eq!(counts, [3; 20]);
    });
}

#[test]
fn a_taken_port_is_refused_in_dockers_words_and_leaves_nothing() {
    lab::on_host(|lab| {
        let driver = driver();
        let server = TcpListener::bind((ANY, 8080)).unwrap();
        let (rules, links) = (ruleset(lab), interfaces(lab));
        let namespace = driver.create_namespace().unwrap();
        let wanted = request(1, &[tcp(None, 8079, 79), tcp(None, 8080, 80)]);
        let error = driver.attach(&namespace, &wanted).expect_err("the port is taken");
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        assert!(matches!(error, Error::PortTaken { port: 8080, .. }));
        assert_eq!((ruleset(lab), interfaces(lab)), (rules, links));
        // The other port and the address are free again, and the same namespace can be attached.
        drop(server);
        // A program that another test starts has the socket too, from its fork to its exec.
        let begin = Instant::now();
        let (endpoint, _held) = loop {
            match driver.attach(&namespace, &wanted) {
                Err(Error::PortTaken { .. }) if begin.elapsed() < Duration::from_secs(10) => {
                    std::thread::yield_now();
                }
                attached => break attached.unwrap(),
            }
        };
        assert!(matches!(
            driver.attach(&driver.create_namespace().unwrap(), &request(2, &[tcp(None, 8080, 80)])),
            Err(Error::PortTaken { port: 8080, .. })
        ));
        driver.detach(&endpoint).unwrap();
    });
}

#[test]
fn a_failure_after_the_veth_pair_undoes_it_and_the_address() {
    lab::on_host(|lab| {
        let driver = driver();
        let namespace = driver.create_namespace().unwrap();
        // Somebody else's element for the very port: the last step fails.
        run(
            lab.host.as_fd(),
            "nft add element ip coracle-0a1b2c3d published_anywhere { tcp . 8080 : 10.0.0.1 . 1 }",
        );
        let (rules, links) = (ruleset(lab), interfaces(lab));
        let wanted =
            EndpointRequest { ips: vec![[172, 29, 7, 7].into()], ..request(1, &[tcp(None, 8080, 80)]) };
        assert!(matches!(driver.attach(&namespace, &wanted), Err(Error::PortTaken { .. })));
        assert_eq!((ruleset(lab), interfaces(lab)), (rules, links));
        assert!(!run(namespace.as_fd(), "ip -o link").contains("eth0"));
        let free = EndpointRequest { ports: Vec::new(), ..wanted };
        let (endpoint, _held) = driver.attach(&namespace, &free).unwrap();
        assert_eq!(endpoint.addresses[0].ip, IpAddr::from([172, 29, 7, 7]));
    });
}

#[test]
fn a_detached_container_leaves_no_element_and_its_interface_goes_with_its_namespace() {
    lab::on_host(|lab| {
        let driver = driver();
        let before = ruleset(lab);
        let web = container(&driver, 1, &[tcp(None, 8080, 80), tcp(Some(lab::HOST), 8081, 80), udp(53, 53)]);
        let during = ruleset(lab);
        assert!(during.contains("tcp . 8080 : 172.29.0.2 . 80"), "{during}");
        assert!(during.contains("tcp . 192.0.2.1 . 8081 : 172.29.0.2 . 80"), "{during}");
        assert!(during.contains("udp . 53 : 172.29.0.2 . 53"), "{during}");
        driver.detach(&web.endpoint).unwrap();
        assert_eq!(ruleset(lab), before);
        // The kernel ends namespaces when it pleases; removing what is left is what a caller can do off its path.
        let endpoint = web.endpoint.clone();
        drop(web);
        driver.remove_interface(&endpoint).unwrap();
        assert!(!interfaces(lab).contains(&endpoint.host_interface.to_string()));
        TcpListener::bind((ANY, 8080)).unwrap();
    });
}

#[test]
fn host_ports_are_drawn_at_random_from_a_range_and_on_every_protocol() {
    lab::on_host(|_| {
        let driver = driver();
        let publish =
            |protocol, host_port| PublishRequest { protocol, container_port: 80, host_ip: None, host_port };
        let random: Vec<_> =
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|p| publish(p, HostPort::Random)).to_vec();
        let one = container(&driver, 1, &random);
        assert!(one.endpoint.ports.iter().all(|port| port.host_port >= 1024), "{:?}", one.endpoint.ports);
        let range = [publish(Protocol::Tcp, HostPort::Between(9000, 9001))];
        let drawn = [2, 3].map(|number| {
            let container = container(&driver, number, &range);
            (container.endpoint.ports[0].host_port, container)
        });
        assert_eq!((drawn[0].0, drawn[1].0), (9000, 9001));
        let full = driver.attach(&driver.create_namespace().unwrap(), &request(4, &range));
        assert!(matches!(full, Err(Error::RangeTaken { first: 9000, last: 9001, .. })));
        let foreign = tcp(Some([203, 0, 113, 1].into()), 80, 80);
        let refused = driver.attach(&driver.create_namespace().unwrap(), &request(4, &[foreign]));
        assert!(matches!(refused, Err(Error::Bind { .. })));
    });
}

#[test]
fn ports_of_a_running_container_come_and_go() {
    lab::on_host(|lab| {
        let driver = driver();
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        let (more, held) = driver.publish_more(&web.endpoint, &[tcp(None, 8081, 80), udp(53, 53)]).unwrap();
        // Each on both families, of which the container has one.
        assert_eq!((more.ports.len(), held.sockets.len(), more.relays().count()), (6, 4, 3));
        let lan = lab.neighbour.as_fd();
        for port in [8080, 8081] {
            reach(lan, (lab::HOST, port), &listener).unwrap();
        }
        let refused = driver.publish_more(&more, &[tcp(None, 8082, 80), tcp(None, 8080, 80)]);
        assert!(matches!(refused, Err(Error::PortTaken { port: 8080, .. })));
        let less = driver.unpublish(&more, &more.ports[2..]).unwrap();
        assert_eq!(less, web.endpoint);
        drop(held);
        let rules = ruleset(lab);
        assert!(!rules.contains("8081") && !rules.contains("8082") && !rules.contains("udp . 53"), "{rules}");
        reach(lan, (lab::HOST, 8080), &listener).unwrap();
        // What is withdrawn is not healed, what is published is.
        run(lab.host.as_fd(), "nft flush ruleset");
        driver.heal().unwrap();
        assert_eq!(ruleset(lab).matches("8081").count(), 0);
        reach(lan, (lab::HOST, 8080), &listener).unwrap();
    });
}

#[test]
fn ports_on_ipv6_addresses_are_listened_on_for_the_shim_and_are_no_elements() {
    lab::on_host(|lab| {
        let driver = driver();
        let before = ruleset(lab);
        let on = |protocol, address: &str| PublishRequest {
            protocol,
            container_port: 80,
            host_ip: Some(address.parse().unwrap()),
            host_port: HostPort::Exactly(8080),
        };
        let web = container(&driver, 1, &[on(Protocol::Tcp, "::"), on(Protocol::Udp, "::1")]);
        assert_eq!(ruleset(lab), before);
        let relays: Vec<_> = web.endpoint.relays().collect();
        assert_eq!(relays.iter().map(|(port, _)| *port).collect::<Vec<_>>(), web.endpoint.ports);
        assert!(relays.iter().all(|(_, target)| *target == "172.29.0.2:80".parse().unwrap()));
        let listener = web.relay("::".parse().unwrap(), 8080);
        let _client = std::net::TcpStream::connect("[::1]:8080").unwrap();
        lab::wait_readable(listener.as_fd(), Duration::from_secs(10)).unwrap();
        listener.accept().unwrap();
        // IPv4 is free for another, IPv6 is not.
        let _other = container(&driver, 2, &[tcp(Some(ANY), 8080, 80)]);
        let third =
            driver.attach(&driver.create_namespace().unwrap(), &request(3, &[on(Protocol::Tcp, "::1")]));
        let text = third.map(|_| ()).expect_err("taken").to_string();
        assert_eq!(text, "Bind for ::1:8080 failed: port is already allocated");
        let sctp =
            driver.attach(&driver.create_namespace().unwrap(), &request(3, &[on(Protocol::Sctp, "::")]));
        assert!(matches!(sctp, Err(Error::HostAddress { .. })));
    });
}

#[test]
fn docker_dropping_what_is_forwarded_does_not_stop_our_containers() {
    lab::on_host(|lab| {
        let host = lab.host.as_fd();
        run(host, "iptables -P FORWARD DROP");
        run(host, "iptables -N DOCKER-USER");
        run(host, "iptables -I FORWARD -j DOCKER-USER");
        run(host, "iptables -A DOCKER-USER -j RETURN");
        let driver = driver();
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        reach(lab.neighbour.as_fd(), (lab::HOST, 8080), &listener).unwrap();
        let outside = listen(lab.neighbour.as_fd(), ANY, 7777);
        reach(web.namespace.as_fd(), (lab::NEIGHBOUR, 7777), &outside).unwrap();
        assert!(!lab::connects(lab.neighbour.as_fd(), (web.endpoint.addresses[0].ip, 80)));
        let listed = run(host, "iptables -S DOCKER-USER");
        assert_eq!(listed.matches("coracle0").count(), 2 * 2, "name and comment of two rules: {listed}");
        assert_eq!(listed.matches("-j ACCEPT").count(), 2, "{listed}");
        // Opened again, nothing is doubled; flushed by somebody, it comes back.
        drop(Driver::open(config()).unwrap());
        assert_eq!(run(host, "iptables -S DOCKER-USER"), listed);
        run(host, "iptables -F DOCKER-USER");
        assert!(driver.heal().unwrap().firewall);
        assert_eq!(run(host, "iptables -S DOCKER-USER").matches("-j ACCEPT").count(), 2);
        driver.remove().unwrap();
        assert_eq!(run(host, "iptables -S DOCKER-USER"), "-N DOCKER-USER\n");
    });
}

#[test]
fn without_docker_the_exceptions_are_in_forward_until_docker_comes() {
    lab::on_host(|lab| {
        let host = lab.host.as_fd();
        run(host, "iptables -P FORWARD DROP");
        let driver = driver();
        assert_eq!(run(host, "iptables -S FORWARD").matches("-j ACCEPT").count(), 2);
        run(host, "iptables -N DOCKER-USER");
        run(host, "iptables -I FORWARD -j DOCKER-USER");
        driver.heal().unwrap();
        assert_eq!(run(host, "iptables -S FORWARD").matches("-j ACCEPT").count(), 0);
        assert_eq!(run(host, "iptables -S DOCKER-USER").matches("-j ACCEPT").count(), 2);
    });
}

#[test]
fn whatever_is_flushed_comes_back_as_it_was_and_an_unchanged_host_costs_one_question() {
    lab::on_host(|lab| {
        let driver = driver();
        let web =
            container(&driver, 1, &[tcp(None, 8080, 80), tcp(Some(lab::LOOPBACK), 8081, 80), udp(53, 53)]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        let whole = ruleset(lab);
        driver.heal().unwrap();
        let damages = [
            "nft flush ruleset",
            "nft flush table ip coracle-0a1b2c3d",
            "nft flush chain ip coracle-0a1b2c3d forward",
            "nft flush map ip coracle-0a1b2c3d published",
            "nft delete element ip coracle-0a1b2c3d published_anywhere { tcp . 8080 }",
            "nft delete element ip coracle-0a1b2c3d bridges { coracle0 }",
            "nft flush set ip coracle-0a1b2c3d networks",
            "nft add rule ip coracle-0a1b2c3d forward accept",
            "nft insert rule ip coracle-0a1b2c3d guard accept",
        ];
        for damage in damages {
            run(lab.host.as_fd(), damage);
            assert_ne!(ruleset(lab), whole, "{damage}");
            assert_eq!(driver.heal().unwrap(), Healed { bridge: false, firewall: true }, "{damage}");
            assert_eq!(ruleset(lab), whole, "{damage}");
            reach(lab.host.as_fd(), (lab::LOOPBACK, 8081), &listener).unwrap();
        }
        assert_eq!(driver.heal().unwrap(), Healed::default());
        let before = driver.sent();
        assert_eq!(driver.heal().unwrap(), Healed::default());
        assert!(driver.sent() - before <= 3);
    });
}

#[test]
fn ports_are_published_although_the_table_was_flushed_a_moment_ago() {
    lab::on_host(|lab| {
        let driver = driver();
        let first = container(&driver, 1, &[tcp(None, 8080, 80)]);
        run(lab.host.as_fd(), "nft flush ruleset");
        let second = container(&driver, 2, &[tcp(None, 8081, 80)]);
        for (container, port) in [(&first, 8080), (&second, 8081)] {
            let listener = listen(container.namespace.as_fd(), ANY, 80);
            reach(lab.neighbour.as_fd(), (lab::HOST, port), &listener).unwrap();
        }
        run(lab.host.as_fd(), "nft flush ruleset");
        driver.detach(&second.endpoint).unwrap();
        driver.heal().unwrap();
        assert!(!ruleset(lab).contains("8081"));
    });
}

#[test]
fn a_removed_bridge_comes_back_with_its_containers() {
    lab::on_host(|lab| {
        let driver = driver();
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        run(lab.host.as_fd(), "ip link delete coracle0");
        assert!(driver.heal().unwrap().bridge);
        reach(lab.neighbour.as_fd(), (lab::HOST, 8080), &listener).unwrap();
        run(lab.host.as_fd(), "ip addr flush dev coracle0");
        assert!(driver.heal().unwrap().bridge);
        reach(lab.neighbour.as_fd(), (lab::HOST, 8080), &listener).unwrap();
    });
}

#[test]
fn a_restarted_engine_adopts_its_containers_and_sweeps_what_died_meanwhile() {
    lab::on_host(|lab| {
        let first = driver();
        let living = container(&first, 1, &[tcp(None, 8080, 80)]);
        let dead = container(&first, 2, &[tcp(None, 8082, 80)]);
        drop(first);
        let whole = ruleset(lab);
        let second = driver();
        assert_eq!(ruleset(lab), whole, "published ports stay published");
        second.adopt(&living.endpoint).unwrap();
        second.adopt(&living.endpoint).unwrap();
        let twin = Endpoint { host_interface: interface("vtwin"), ..living.endpoint.clone() };
        assert!(matches!(second.adopt(&twin), Err(Error::AddressTaken { .. })));
        assert_eq!(second.sweep().unwrap(), Swept { ports: 1, interfaces: 1 });
        assert_eq!(second.sweep().unwrap(), Swept::default());
        assert!(!interfaces(lab).contains(&dead.endpoint.host_interface.to_string()));
        let listener = listen(living.namespace.as_fd(), ANY, 80);
        reach(lab.neighbour.as_fd(), (lab::HOST, 8080), &listener).unwrap();
        let third = container(&second, 3, &[]);
        assert_ne!(third.endpoint.addresses[0].ip, living.endpoint.addresses[0].ip);
    });
}

#[test]
fn removing_the_last_network_removes_the_table() {
    lab::on_host(|lab| {
        let links = interfaces(lab);
        let one = driver();
        let two = coracle_network::Config {
            bridge: interface("coracle1"),
            addressing: vec![lab::addressing("172.30.0.1/16")],
            ..config()
        };
        let two = Driver::open(two).unwrap();
        one.remove().unwrap();
        assert!(ruleset(lab).contains(TABLE));
        assert!(ruleset(lab).contains("coracle1") && !ruleset(lab).contains("coracle0"));
        two.remove().unwrap();
        assert_eq!(ruleset(lab), "");
        assert_eq!(interfaces(lab), links);
    });
}

#[test]
fn a_table_of_another_shape_is_replaced() {
    lab::on_host(|lab| {
        let host = lab.host.as_fd();
        run(host, "nft add table ip coracle-0a1b2c3d");
        run(host, "nft add chain ip coracle-0a1b2c3d guard");
        run(host, "nft add set ip coracle-0a1b2c3d bridges { type ipv4_addr; }");
        let driver = driver();
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        reach(lab.neighbour.as_fd(), (lab::HOST, 8080), &listener).unwrap();
    });
}

#[test]
fn the_default_network_avoids_what_the_host_uses_and_keeps_what_the_bridge_has() {
    lab::on_host(|lab| {
        let host = lab.host.as_fd();
        let bridge = interface("coracle0");
        assert_eq!(
            default_subnet(&bridge, &AddressPool::usual(), Family::V4).unwrap().to_string(),
            "172.17.0.1/16"
        );
        run(host, "ip route add 172.17.4.0/24 via 192.0.2.2");
        assert_eq!(
            default_subnet(&bridge, &AddressPool::usual(), Family::V4).unwrap().to_string(),
            "172.18.0.1/16"
        );
        let _driver = driver();
        assert_eq!(
            default_subnet(&bridge, &AddressPool::usual(), Family::V4).unwrap().to_string(),
            "172.29.0.1/16"
        );
    });
}

#[test]
fn an_interface_that_is_no_bridge_is_left_alone() {
    lab::on_host(|lab| {
        run(lab.host.as_fd(), "ip link add coracle0 type ifb");
        assert!(matches!(Driver::open(config()), Err(Error::NotABridge { .. })));
        assert!(run(lab.host.as_fd(), "ip -d link show coracle0").contains("ifb"));
    });
}

#[test]
fn a_namespace_without_a_network_has_a_loopback_and_nothing_else() {
    lab::on_host(|_| {
        let namespace = coracle_network::Namespace::with_loopback_only().unwrap();
        assert!(namespace.dns.is_none());
        let socket =
            netns::inside(namespace.as_fd(), || Socket::open(netlink::Protocol::Route)).unwrap().unwrap();
        assert!(lab::link(&socket, "lo").unwrap().up);
        let listed = run(namespace.as_fd(), "ip -o link show up");
        assert_eq!(listed.lines().count(), 1, "{listed}");
    });
}
