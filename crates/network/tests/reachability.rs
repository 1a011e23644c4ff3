//! Who reaches whom, with real traffic between namespaces.

mod lab;

use std::os::fd::AsFd;

use coracle_sys::netns;
use lab::{
    GATEWAY, HOST, LOOPBACK, NEIGHBOUR, connects, container, datagrams, driver, exchange, listen, reach, run,
    tcp, udp,
};
use std::net::{IpAddr, Ipv4Addr};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether frames within a bridge go through the firewall; there where br_netfilter is loaded.
const BRIDGED_PACKETS: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

#[test]
fn a_published_port_is_reached_from_everywhere_and_an_unpublished_one_is_not() {
    everyone_reaches_what_is_published(None);
}

#[test]
fn the_same_holds_whether_bridged_packets_pass_the_firewall_or_not() {
    // Where br_netfilter is not loaded, the setting does not exist and the test above has shown this already.
    if std::path::Path::new(BRIDGED_PACKETS).exists() {
        everyone_reaches_what_is_published(Some("1"));
        everyone_reaches_what_is_published(Some("0"));
    }
}

fn everyone_reaches_what_is_published(bridged_packets: Option<&str>) {
    lab::on_host(|lab| {
        if let Some(value) = bridged_packets {
            netns::set_sysctl("bridge/bridge-nf-call-iptables", value).expect("a setting of this namespace");
        }
        let driver = driver();
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let other = container(&driver, 2, &[]);
        let published = listen(web.namespace.as_fd(), ANY, 80);
        let private = listen(web.namespace.as_fd(), ANY, 81);
        let (host, lan) = (lab.host.as_fd(), lab.neighbour.as_fd());
        let address = web.endpoint.addresses[0].ip;
        let table = [
            ("host by its LAN address", host, HOST, 8080),
            ("host by 127.0.0.1", host, LOOPBACK, 8080),
            ("host by another address of 127/8", host, IpAddr::from([127, 1, 2, 3]), 8080),
            ("host by the gateway's address", host, GATEWAY, 8080),
            ("host directly", host, address, 80),
            ("neighbour", lan, HOST, 8080),
            ("the container itself by the host's address", web.namespace.as_fd(), HOST, 8080),
            ("the container itself by the gateway", web.namespace.as_fd(), GATEWAY, 8080),
            ("another container by the host's address", other.namespace.as_fd(), HOST, 8080),
            ("another container by the gateway", other.namespace.as_fd(), GATEWAY, 8080),
            ("another container directly", other.namespace.as_fd(), address, 80),
        ];
        for (who, from, to, port) in table {
            reach(from, (to, port), &published).unwrap_or_else(|why| panic!("{who}: {why}"));
        }
        reach(other.namespace.as_fd(), (address, 81), &private).expect("within one bridge");
        // The neighbour routes to the container's own address: neither port answers.
        for port in [80, 81] {
            assert!(!connects(lan, (address, port)), "the neighbour reached {address}:{port}");
        }
        assert!(!connects(lan, (HOST, 81)));
    });
}

#[test]
fn a_port_published_on_one_address_is_not_reached_by_another() {
    lab::on_host(|lab| {
        let driver = driver();
        let web = container(&driver, 1, &[tcp(Some(LOOPBACK), 9090, 80), tcp(Some(HOST), 9091, 80)]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        let (host, lan) = (lab.host.as_fd(), lab.neighbour.as_fd());
        reach(host, (LOOPBACK, 9090), &listener).unwrap();
        reach(host, (HOST, 9091), &listener).unwrap();
        reach(lan, (HOST, 9091), &listener).unwrap();
        assert!(!connects(lan, (HOST, 9090)));
        assert!(!connects(host, (LOOPBACK, 9091)));
        assert!(!connects(host, (HOST, 9090)));
        // CVE-2020-8558, moby#45610: a neighbour that sends packets for 127.0.0.1 to the host.
        netns::inside(lan, || netns::set_sysctl("ipv4/conf/eth0/route_localnet", "1")).unwrap().unwrap();
        run(lan, "ip route add 127.0.0.0/8 via 192.0.2.1 dev eth0");
        assert!(!connects(lan, (LOOPBACK, 9090)));
    });
}

#[test]
fn a_container_cannot_reach_services_on_the_hosts_loopback() {
    lab::on_host(|lab| {
        let driver = driver();
        let one = container(&driver, 1, &[]);
        let service = listen(lab.host.as_fd(), LOOPBACK, 7000);
        reach(lab.host.as_fd(), (LOOPBACK, 7000), &service).unwrap();
        // As a container with CAP_NET_ADMIN could.
        let inside = one.namespace.as_fd();
        run(inside, "ip addr del 127.0.0.1/8 dev lo");
        netns::inside(inside, || netns::set_sysctl("ipv4/conf/eth0/route_localnet", "1")).unwrap().unwrap();
        run(inside, "ip route add 127.0.0.0/8 via 172.29.0.1 dev eth0");
        assert!(!connects(inside, (LOOPBACK, 7000)));
        // Without the guard it would: what was proved is the guard, not a mistake in the test.
        run(lab.host.as_fd(), "nft flush chain ip coracle-0a1b2c3d guard");
        reach(inside, (LOOPBACK, 7000), &service).unwrap();
        assert!(driver.heal().unwrap().firewall);
        assert!(!connects(inside, (LOOPBACK, 7000)));
    });
}

#[test]
fn containers_go_outside_under_the_hosts_address_and_to_the_bridge_under_their_own() {
    lab::on_host(|lab| {
        let driver = driver();
        let one = container(&driver, 1, &[]);
        let outside = listen(lab.neighbour.as_fd(), ANY, 7777);
        let seen = reach(one.namespace.as_fd(), (NEIGHBOUR, 7777), &outside).unwrap();
        assert_eq!(seen.ip(), HOST);
        let on_host = listen(lab.host.as_fd(), ANY, 7778);
        let seen = reach(one.namespace.as_fd(), (GATEWAY, 7778), &on_host).unwrap();
        assert_eq!(seen.ip(), one.endpoint.addresses[0].ip);
    });
}

#[test]
fn containers_keep_their_addresses_outside_where_nothing_is_masqueraded() {
    lab::on_host(|lab| {
        let mut config = lab::config();
        config.passage.unmasqueraded = true;
        let driver = coracle_network::Driver::open(config).unwrap();
        let one = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let outside = listen(lab.neighbour.as_fd(), ANY, 7777);
        let seen = reach(one.namespace.as_fd(), (NEIGHBOUR, 7777), &outside).unwrap();
        assert_eq!(seen.ip(), one.endpoint.addresses[0].ip);
        let listener = listen(one.namespace.as_fd(), ANY, 80);
        assert!(!connects(lab.neighbour.as_fd(), (one.endpoint.addresses[0].ip, 80)));
        reach(lab.neighbour.as_fd(), (HOST, 8080), &listener).unwrap();
        reach(one.namespace.as_fd(), (HOST, 8080), &listener).unwrap();
    });
}

#[test]
fn containers_that_are_kept_apart_reach_each_other_through_published_ports_only() {
    for bridged_packets in [None, Some("1"), Some("0")] {
        containers_are_kept_apart(bridged_packets);
    }
}

fn containers_are_kept_apart(bridged_packets: Option<&str>) {
    lab::on_host(|lab| {
        if let Some(value) = bridged_packets.filter(|_| std::path::Path::new(BRIDGED_PACKETS).exists()) {
            netns::set_sysctl("bridge/bridge-nf-call-iptables", value).expect("a setting of this namespace");
        }
        let mut config = lab::config();
        config.passage.isolated = true;
        let driver = coracle_network::Driver::open(config).expect("a network");
        let web = container(&driver, 1, &[tcp(None, 8080, 80)]);
        let other = container(&driver, 2, &[]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        let are_apart = || {
            assert!(!connects(other.namespace.as_fd(), (web.endpoint.addresses[0].ip, 80)));
            reach(other.namespace.as_fd(), (HOST, 8080), &listener).expect("it is reached");
            reach(web.namespace.as_fd(), (HOST, 8080), &listener).expect("it is reached");
            reach(lab.host.as_fd(), (web.endpoint.addresses[0].ip, 80), &listener).expect("it is reached");
            reach(lab.neighbour.as_fd(), (HOST, 8080), &listener).expect("it is reached");
            let on_host = listen(lab.host.as_fd(), GATEWAY, 7778);
            reach(other.namespace.as_fd(), (GATEWAY, 7778), &on_host).expect("it is reached");
        };
        are_apart();
        run(lab.host.as_fd(), "ip link del coracle0");
        driver.heal().expect("healed");
        are_apart();
        // The bridge itself takes frames for everybody.
        run(
            other.namespace.as_fd(),
            &format!("ip route add {}/32 via {GATEWAY}", web.endpoint.addresses[0].ip),
        );
        are_apart();
    });
}

#[test]
fn datagrams_follow_a_container_that_is_replaced() {
    lab::on_host(|lab| {
        let driver = driver();
        let client = datagrams(lab.neighbour.as_fd(), ANY, 5000);
        let first = container(&driver, 1, &[udp(5353, 53)]);
        let server = datagrams(first.namespace.as_fd(), ANY, 53);
        exchange(&client, (HOST, 5353), &server).unwrap();
        driver.detach(&first.endpoint).unwrap();
        drop((server, first));
        // While nobody has the port the flow goes to the host itself, and would go on doing so.
        client.send_to(b"lost", (HOST, 5353)).unwrap();
        let second = container(&driver, 2, &[udp(5353, 53)]);
        let server = datagrams(second.namespace.as_fd(), ANY, 53);
        exchange(&client, (HOST, 5353), &server).unwrap();
        let local = datagrams(lab.host.as_fd(), ANY, 0);
        exchange(&local, (LOOPBACK, 5353), &server).unwrap();
        let own = datagrams(second.namespace.as_fd(), ANY, 0);
        exchange(&own, (HOST, 5353), &server).unwrap();
    });
}

#[test]
fn two_networks_reach_each_other_through_published_ports_only() {
    lab::on_host(|_| {
        let one = driver();
        let mut config = lab::config();
        config.bridge = lab::interface("coracle1");
        config.addressing = vec![lab::addressing("172.30.0.1/16")];
        let two = coracle_network::Driver::open(config).unwrap();
        let web = container(&one, 1, &[tcp(None, 8080, 80)]);
        let stranger = container(&two, 2, &[]);
        let listener = listen(web.namespace.as_fd(), ANY, 80);
        assert!(!connects(stranger.namespace.as_fd(), (web.endpoint.addresses[0].ip, 80)));
        reach(stranger.namespace.as_fd(), (HOST, 8080), &listener).unwrap();
        reach(stranger.namespace.as_fd(), (GATEWAY, 8080), &listener).unwrap();
    });
}

#[test]
fn a_container_on_two_networks_is_in_both_and_goes_outside_through_one_at_a_time() {
    lab::on_host(|lab| {
        let one = driver();
        let mut config = lab::config();
        config.bridge = lab::interface("coracle1");
        config.addressing = vec![lab::addressing("172.30.0.1/16")];
        let two = coracle_network::Driver::open(config).unwrap();
        let both = container(&one, 1, &[]);
        let second = coracle_network::EndpointRequest {
            interface: lab::interface("eth1"),
            default_route: coracle_network::DefaultRoute::Elsewhere,
            ..lab::request(1, &[tcp(None, 8080, 80)])
        };
        let (endpoint, _held) = two.attach(&both.namespace, &second).unwrap();
        let neighbour = container(&two, 2, &[]);
        let listener = listen(both.namespace.as_fd(), ANY, 80);
        reach(neighbour.namespace.as_fd(), (endpoint.addresses[0].ip, 80), &listener).unwrap();
        // Answers go out by the other network, to an address that conntrack knows all the same.
        reach(lab.neighbour.as_fd(), (HOST, 8080), &listener).unwrap();
        let outside = listen(lab.neighbour.as_fd(), ANY, 7777);
        reach(both.namespace.as_fd(), (NEIGHBOUR, 7777), &outside).unwrap();
        // The first network is left while the container runs.
        one.detach(&both.endpoint).unwrap();
        one.remove_interface(&both.endpoint).unwrap();
        assert!(!connects(both.namespace.as_fd(), (NEIGHBOUR, 7777)));
        two.add_default_route(&both.namespace, &endpoint).unwrap();
        reach(both.namespace.as_fd(), (NEIGHBOUR, 7777), &outside).unwrap();
    });
}

#[test]
fn dockers_containers_are_reached_through_the_ports_that_docker_published_only() {
    lab::on_host(|lab| {
        let host = lab.host.as_fd();
        // The lab's LAN plays a network of Docker's, whose chain our exception opens.
        run(host, "ip link set lan0 name br-0123456789ab");
        run(host, "iptables -P FORWARD DROP");
        let driver = driver();
        let one = container(&driver, 1, &[]);
        let service = listen(lab.neighbour.as_fd(), ANY, 80);
        assert!(!connects(one.namespace.as_fd(), (NEIGHBOUR, 80)));
        run(host, "iptables -t nat -A PREROUTING -p tcp --dport 8088 -j DNAT --to 192.0.2.2:80");
        reach(one.namespace.as_fd(), (HOST, 8088), &service).unwrap();
        // Any other bridge is the way to somewhere.
        run(host, "ip link set br-0123456789ab name br-lan");
        run(host, "nft flush set ip coracle-0a1b2c3d foreign");
        driver.heal().unwrap();
        reach(one.namespace.as_fd(), (NEIGHBOUR, 80), &service).unwrap();
    });
}

#[test]
fn port_53_of_the_resolver_leads_to_its_sockets_and_stays_free_for_others() {
    lab::on_host(|_| {
        let driver = driver();
        let one = container(&driver, 1, &[]);
        let dns = one.namespace.dns.as_ref().expect("a network has a resolver");
        let inside = one.namespace.as_fd();
        let client = datagrams(inside, ANY, 0);
        let resolver = std::net::UdpSocket::from(dns.udp.try_clone().unwrap());
        let address = coracle_network::RESOLVER;
        client.send_to(b"ping", (address, 53)).unwrap();
        lab::wait_readable(dns.udp.as_fd(), std::time::Duration::from_secs(10)).unwrap();
        let mut text = [0; 16];
        let (_, peer) = resolver.recv_from(&mut text).unwrap();
        resolver.send_to(b"pong", peer).unwrap();
        assert_eq!(client.recv_from(&mut text).unwrap(), (4, (address, 53).into()));
        let listener = std::net::TcpListener::from(dns.tcp.try_clone().unwrap());
        reach(inside, (address.into(), 53), &listener).unwrap();
        // A DNS server of the container's own binds every address.
        drop((datagrams(inside, ANY, 53), listen(inside, ANY, 53)));
    });
}
