//! IPv6 on networks: addresses, names, ways and published ports of both families, and of IPv6 alone.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::{self, SMALL};
use coracle_tests::net::{Net, SERVE, fetch, get, serve};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Of both families, with a subnet of IPv6 that no other test has.
fn dual<'a>(engine: &'a Engine, name: &str) -> Net<'a> {
    Net::create(engine, name, &["--ipv6", "--subnet", &format!("{}::/64", free_prefix())])
}

/// The first four groups of a subnet that no other test has.
fn free_prefix() -> String {
    static TAKEN: AtomicU16 = AtomicU16::new(1);
    format!("fd5a:{:x}:{:x}", std::process::id() & 0xffff, TAKEN.fetch_add(1, Ordering::Relaxed))
}

/// The container's place on the network.
fn endpoint(engine: &Engine, container: &str, network: &Net<'_>) -> Value {
    let shown = engine.docker(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", container]).ok();
    serde_json::from_str::<Value>(&shown).expect("JSON")[&network.name].clone()
}

fn v6(engine: &Engine, container: &str, network: &Net<'_>) -> String {
    endpoint(engine, container, network)["GlobalIPv6Address"].as_str().expect("a text").to_owned()
}

/// A port that nobody has; Docker before release 28 draws one for each family.
fn free_port() -> u16 {
    let listener = TcpListener::bind("[::]:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// The host's port of port 80, the same on all addresses.
fn port(engine: &Engine, container: &str) -> String {
    let shown = engine.docker(&["port", container, "80/tcp"]).ok();
    let ports: Vec<_> = shown.lines().filter_map(|line| line.rsplit(':').next()).collect();
    assert!(ports.windows(2).all(|pair| pair[0] == pair[1]), "{shown}");
    ports[0].to_owned()
}

fn default_address(engine: &Engine, container: &str) -> String {
    let format = "{{.NetworkSettings.Networks.bridge.GlobalIPv6Address}}";
    engine.docker(&["inspect", "-f", format, container]).ok()
}

#[test]
fn a_network_of_both_families_is_shown_as_docker_shows_it() {
    let engine = Engine::start();
    let prefix = free_prefix();
    let (subnet, gateway, range) =
        (format!("{prefix}::/64"), format!("{prefix}::9"), format!("{prefix}:0:1::/80"));
    let given = ["--ipv6", "--subnet", &subnet, "--gateway", &gateway, "--ip-range", &range];
    let network = Net::create(&engine, "sea", &given);
    let shown = network.inspect();
    // Docker has the other since API 1.48.
    assert_eq!(shown["EnableIPv6"], json!(true));
    assert!(shown.get("EnableIPv4").is_none_or(|enabled| *enabled == json!(true)), "{shown}");
    let pools = shown["IPAM"]["Config"].as_array().unwrap();
    let of_v6 = pools.iter().find(|pool| pool["Subnet"] == json!(subnet)).expect("the subnet");
    assert_eq!((&of_v6["Gateway"], &of_v6["IPRange"]), (&json!(gateway), &json!(range)));
    assert_eq!(pools.len(), 2, "and one of IPv4 that the engine has chosen: {pools:?}");
    let boat = serve(&engine, "boat", &network, &[]);
    let place = endpoint(&engine, &boat, &network);
    let address: Ipv6Addr = place["GlobalIPv6Address"].as_str().unwrap().parse().unwrap();
    assert!(address.to_string().starts_with(&format!("{prefix}:0:1:")), "of the range: {address}");
    assert_eq!((&place["GlobalIPv6PrefixLen"], &place["IPv6Gateway"]), (&json!(64), &json!(gateway)));
    assert!(place["IPAddress"].as_str().unwrap().parse::<IpAddr>().unwrap().is_ipv4());
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &boat]).ok();
    assert_eq!(network.inspect()["Containers"][&id]["IPv6Address"], json!(format!("{address}/64")));
    let inside = engine.docker(&["exec", &boat, "ip", "-6", "addr", "show", "dev", "eth0"]).ok();
    assert!(inside.contains(&format!("{address}/64")), "{inside}");
    let routes = engine.docker(&["exec", &boat, "ip", "-6", "route"]).ok();
    assert!(routes.contains(&format!("default via {gateway} dev eth0")), "{routes}");
    let listed = engine.docker(&[
        "network",
        "ls",
        "--filter",
        &format!("name={}", network.name),
        "--format",
        "{{.IPv6}}",
    ]);
    assert_eq!(listed.ok(), "true");
}

#[test]
fn a_network_that_names_no_subnet_gets_one_of_the_sites_own() {
    let engine = Engine::start();
    if engine.is_original() {
        // Docker has done so since release 28.
        return;
    }
    let nets = ["sea", "lake"].map(|name| Net::create(&engine, name, &["--ipv6"]));
    let subnets = nets.each_ref().map(|net| {
        let shown = net.inspect();
        let pools = shown["IPAM"]["Config"].as_array().unwrap().clone();
        let texts = pools.iter().filter_map(|pool| pool["Subnet"].as_str()).map(str::to_owned);
        texts.filter(|text| text.contains(':')).collect::<Vec<_>>()
    });
    for subnet in subnets.iter().flatten() {
        assert!(subnet.starts_with("fd") && subnet.ends_with("/64"), "{subnet}");
    }
    assert!(subnets[0].len() == 1 && subnets[1].len() == 1 && subnets[0] != subnets[1], "{subnets:?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let engine = Engine::start();
    let prefix = free_prefix();
    let _taken = Net::create(&engine, "taken", &["--ipv6", "--subnet", &format!("{prefix}::/64")]);
    let name = engine.name("free");
    let create = |body: &Value| engine.request("POST", "/networks/create", Some(&body.to_string()));
    let with =
        |subnet: &str| json!({"Name": name, "EnableIPv6": true, "IPAM": {"Config": [{"Subnet": subnet}]}});
    for (body, status, text) in [
        (with(&format!("{prefix}::/80")), 403, "Pool overlaps with other one"),
        (with(&format!("{prefix}::5/64")), 400, "it should be"),
        (with("fd00::/129"), 400, "invalid CIDR block notation"),
    ] {
        let (found, answer) = create(&body);
        assert!(found == status && answer.contains(text), "{body}: {found} {answer}");
    }
    if !engine.is_original() {
        let neither = json!({"Name": name, "EnableIPv4": false, "EnableIPv6": false});
        assert_eq!(create(&neither).0, 400);
        // Docker takes the subnet, and makes the network without it.
        let without = json!({"Name": name, "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}});
        let (status, answer) = create(&without);
        assert!(status == 400 && answer.contains("IPv6 is not enabled"), "{status} {answer}");
        let options = json!({"com.docker.network.driver.mtu": "1000"});
        let small = json!({"Name": name, "EnableIPv6": true, "Options": options});
        let (status, answer) = create(&small);
        assert!(status == 400 && answer.contains("IPv6 needs 1280 bytes"), "{status} {answer}");
    }
    engine.docker(&["network", "inspect", &name]).fails_with(1);
}

#[test]
fn addresses_are_given_as_asked_for_and_stay() {
    let mut engine = Engine::start();
    let prefix = free_prefix();
    let wanted = format!("{prefix}::77");
    let name = engine.name("boat");
    {
        let network = Net::create(&engine, "sea", &["--ipv6", "--subnet", &format!("{prefix}::/64")]);
        let boat = serve(&engine, "boat", &network, &["--ip6", &wanted]);
        assert_eq!(v6(&engine, &boat, &network), wanted);
        assert_eq!(endpoint(&engine, &boat, &network)["IPAMConfig"], json!({"IPv6Address": wanted}));
        let run = |address: &str| {
            engine.docker(&["run", "--rm", "--network", &network.name, "--ip6", address, SMALL, "true"])
        };
        run(&wanted).fails_with(125);
        run("2001:db8::1").fails_with(125);
        let late = engine.name("late");
        engine.docker(&["run", "-d", "--name", &late, SMALL, "sleep", "600"]).ok();
        let other = format!("{prefix}::78");
        engine.docker(&["network", "connect", "--ip6", &other, &network.name, &late]).ok();
        assert_eq!(v6(&engine, &late, &network), other);
        wait_until("it serves", || fetch(&engine, &late, &format!("[{wanted}]")) == boat);
        engine.docker(&["restart", "-t", "0", &boat]).ok();
        assert_eq!(v6(&engine, &boat, &network), wanted);
        if engine.is_original() {
            return;
        }
        // What follows needs the engine for itself.
        std::mem::forget(network);
    }
    engine.kill();
    engine.start_again();
    let network = Net::of(&engine, engine.name("sea"));
    assert_eq!(network.inspect()["EnableIPv6"], json!(true));
    assert_eq!(v6(&engine, &name, &network), wanted);
    let late = engine.name("late");
    wait_until("it serves", || fetch(&engine, &late, &format!("[{wanted}]")) == name);
    let third = serve(&engine, "third", &network, &[]);
    wait_until("it serves", || fetch(&engine, &third, &name) == name);
}

#[test]
fn names_have_addresses_of_both_families_and_addresses_names() {
    let engine = Engine::start();
    let network = dual(&engine, "sea");
    let plain = Net::create(&engine, "lake", &[]);
    let (boat, quay) = (
        serve(&engine, "boat", &network, &["--network-alias", "ferry"]),
        serve(&engine, "quay", &network, &[]),
    );
    let pond = serve(&engine, "pond", &plain, &[]);
    let address = v6(&engine, &boat, &network);
    let ask = |from: &str, kind: &str, name: &str| {
        engine.docker(&["exec", from, "nslookup", &format!("-type={kind}"), name, "127.0.0.11"]).stdout
    };
    for name in [boat.as_str(), "ferry"] {
        assert!(ask(&quay, "aaaa", name).contains(&address), "{name}");
        assert!(!ask(&quay, "a", name).contains(&address), "{name}");
    }
    let nibbles: String = address
        .parse::<Ipv6Addr>()
        .unwrap()
        .octets()
        .iter()
        .rev()
        .fold(String::new(), |text, octet| format!("{text}{:x}.{:x}.", octet & 15, octet >> 4));
    assert!(ask(&quay, "ptr", &format!("{nibbles}ip6.arpa")).contains(&boat));
    // A name without an address of IPv6 is nobody else's to answer for.
    let other = ask(&pond, "aaaa", &pond);
    assert!(!other.contains("NXDOMAIN") && !other.contains("SERVFAIL"), "{other}");
    let hosts = engine.docker(&["exec", &boat, "cat", "/etc/hosts"]).ok();
    assert!(
        hosts.lines().any(|line| line.split_whitespace().eq([address.as_str(), boat.as_str()])),
        "{hosts}"
    );
    engine.docker(&["rm", "-f", &boat]).ok();
    assert!(!ask(&quay, "aaaa", "ferry").contains(&address), "the dead do not resolve");
}

#[test]
fn a_container_without_addresses_of_ipv6_has_it_off() {
    let engine = Engine::start();
    let (dual, plain) = (dual(&engine, "sea"), Net::create(&engine, "lake", &[]));
    for (network, off) in [(&dual, "0"), (&plain, "1")] {
        let setting = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6";
        let found = engine.docker(&["run", "--rm", "--network", &network.name, SMALL, "cat", setting]).ok();
        assert_eq!(found, off);
    }
}

#[test]
fn a_port_is_published_on_both_families_whichever_the_container_has() {
    let engine = Engine::start();
    let (dual, plain) = (dual(&engine, "sea"), Net::create(&engine, "lake", &[]));
    for network in [&dual, &plain] {
        let port = free_port();
        let published = ["-p", &format!("{port}:80")];
        let boat = serve(&engine, &format!("boat-{}", network.name), network, &published);
        let shown = engine.docker(&["port", &boat, "80/tcp"]).ok();
        assert_eq!(shown.lines().collect::<Vec<_>>(), [format!("0.0.0.0:{port}"), format!("[::]:{port}")]);
        let listed =
            engine.docker(&["ps", "--filter", &format!("name={boat}"), "--format", "{{.Ports}}"]).ok();
        assert_eq!(listed, format!("0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp"));
        for host in ["127.0.0.1", "[::1]"] {
            wait_until(host, || get(&format!("{host}:{port}")).as_deref() == Some(boat.as_str()));
        }
        let name = engine.name("taken");
        let again = ["run", "--rm", "--name", &name, "-p", &format!("[::1]:{port}:80"), SMALL, "true"];
        let refused = engine.docker(&again);
        refused.fails_with(125);
        engine.docker(&["rm", "-f", &name]);
    }
}

#[test]
fn a_port_is_published_on_the_address_of_ipv6_that_is_named() {
    let engine = Engine::start();
    let network = dual(&engine, "sea");
    for (given, shown, reached) in
        [("[::1]::80", "[::1]:", true), ("[::]::80", "[::]:", true), ("127.0.0.1::80", "127.0.0.1:", false)]
    {
        let boat = serve(&engine, &format!("boat{}", shown.len()), &network, &["-p", given]);
        let found = engine.docker(&["port", &boat, "80/tcp"]).ok();
        assert!(found.starts_with(shown) && found.lines().count() == 1, "{found}");
        let port = port(&engine, &boat);
        let of_v6 = || get(&format!("[::1]:{port}"));
        if reached {
            wait_until("it serves", || of_v6().as_deref() == Some(boat.as_str()));
            assert_eq!(get(&format!("127.0.0.1:{port}")), None, "{given}");
        } else {
            wait_until("it serves", || get(&format!("127.0.0.1:{port}")).as_deref() == Some(boat.as_str()));
            assert_eq!(of_v6(), None, "{given}");
        }
        engine.docker(&["rm", "-f", &boat]).ok();
    }
}

#[test]
fn what_is_large_goes_both_ways_through_a_port_that_is_relayed() {
    let engine = Engine::start();
    let network = Net::create(&engine, "lake", &[]);
    let name = engine.name("echo");
    let port = free_port();
    let published = format!("{port}:80");
    let dead = free_port();
    let nowhere = format!("{dead}:81");
    let run =
        ["run", "-d", "--name", &name, "--network", &network.name, "-p", &published, "-p", &nowhere, SMALL];
    engine.docker(&[&run[..], &["nc", "-ll", "-p", "80", "-e", "cat"]].concat()).ok();
    let sent: Vec<u8> = (0..1u32 << 21).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(format!("[::1]:{port}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut writing = stream.try_clone()?;
        std::thread::scope(|scope| {
            scope.spawn(|| writing.write_all(&sent).and_then(|()| writing.shutdown(Shutdown::Write)));
            let mut got = Vec::new();
            stream.read_to_end(&mut got).map(|_| got)
        })
    };
    wait_until("all of it comes back", || exchange().is_ok_and(|got| got == sent));
    // Where nobody listens, who comes is sent away at once.
    let mut refused = TcpStream::connect(format!("[::1]:{dead}")).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(refused.read(&mut [0]).is_ok_and(|length| length == 0));
    // One that says nothing holds nobody up, and ends with the container.
    let mut silent = TcpStream::connect(format!("[::1]:{port}")).unwrap();
    assert!(exchange().is_ok_and(|got| got == sent));
    engine.docker(&["rm", "-f", &name]).ok();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(!matches!(silent.read(&mut [0]), Ok(1..)), "nothing was said");
    assert!(TcpStream::connect(format!("[::1]:{port}")).is_err(), "nobody listens any more");
}

#[test]
fn datagrams_go_through_a_port_that_is_relayed() {
    let engine = Engine::start();
    let network = Net::create(&engine, "lake", &[]);
    let (base, name) = (engine.name("perl"), engine.name("udp"));
    engine.docker(&["import", &image::debian().display().to_string(), &base]).ok();
    let echo = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 53, Proto => 'udp') or die; \
                while (defined $s->recv(my $m, 99)) { $s->send($m) }";
    let run = ["run", "-d", "--name", &name, "--network", &network.name, "-p", "0:53/udp", &base];
    engine.docker(&[&run[..], &["perl", "-e", echo]].concat()).ok();
    let shown = engine.docker(&["port", &name, "53/udp"]).ok();
    let port = shown.lines().find_map(|line| line.strip_prefix("[::]:")).expect("of IPv6").to_owned();
    for text in [b"one", b"two"] {
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.connect(format!("[::1]:{port}")).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut answer = [0; 16];
        wait_until("an answer", || {
            // Until the container listens, it is told that nobody does.
            client.send(text).is_ok()
                && client.recv(&mut answer).is_ok_and(|length| &answer[..length] == text)
        });
    }
    engine.docker(&["rm", "-f", &name]).ok();
    engine.docker(&["rmi", &base]).ok();
}

#[test]
fn a_network_of_ipv6_alone_has_no_addresses_of_ipv4() {
    let engine = Engine::start();
    let name = engine.name("sea");
    let body = json!({"Name": name, "EnableIPv4": false, "EnableIPv6": true});
    let (status, answer) = engine.request("POST", "/v1.48/networks/create", Some(&body.to_string()));
    if engine.is_original() && status != 201 {
        // Docker can since API 1.48, as an experiment at first.
        return;
    }
    assert_eq!(status, 201, "{answer}");
    let network = Net::of(&engine, name);
    let shown = network.inspect();
    assert_eq!(shown["IPAM"]["Config"].as_array().unwrap().len(), 1, "{shown}");
    let boat = serve(&engine, "boat", &network, &["-p", "0:80"]);
    let quay = serve(&engine, "quay", &network, &[]);
    assert_eq!(endpoint(&engine, &boat, &network)["IPAddress"], json!(""));
    wait_until("it serves", || fetch(&engine, &quay, &boat) == boat);
    let port = port(&engine, &boat);
    for host in ["127.0.0.1", "[::1]"] {
        wait_until(host, || get(&format!("{host}:{port}")).as_deref() == Some(boat.as_str()));
    }
}

#[test]
fn compose_makes_networks_with_ipv6() {
    let engine = Engine::start();
    let prefix = free_prefix();
    let place = engine.directory().join("composed");
    std::fs::create_dir_all(&place).unwrap();
    let file = format!(
        "services:\n  boat:\n    image: {SMALL}\n    command: sleep 600\n    networks: {{sea: {{ipv6_address: \"{prefix}::44\"}}}}\n\
         networks:\n  sea:\n    enable_ipv6: true\n    ipam: {{config: [{{subnet: \"{prefix}::/64\"}}]}}\n"
    );
    std::fs::write(place.join("compose.yaml"), file).unwrap();
    let project = engine.name("composed");
    let compose =
        |command: &[&str]| engine.plugin_in(&place, &[&["compose", "-p", &project], command].concat());
    compose(&["up", "-d"]).ok();
    let format = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}";
    let address = engine.docker(&["inspect", "-f", format, &format!("{project}-boat-1")]).ok();
    compose(&["down", "-t", "0"]).ok();
    assert_eq!(address, format!("{prefix}::44"));
}

#[test]
fn the_default_network_has_ipv6_where_the_daemon_says_so() {
    let prefix = free_prefix();
    let cidr = format!("{prefix}::/64");
    let engine = Engine::start_with(&["--ipv6", "--fixed-cidr-v6", &cidr]);
    if engine.is_original() {
        return;
    }
    let boat = engine.name("boat");
    engine
        .docker(&["run", "-d", "--name", &boat, "--hostname", &boat, "-p", "0:80", SMALL, "sh", "-c", SERVE])
        .ok();
    assert_eq!(default_address(&engine, &boat), format!("{prefix}::2"));
    let format = "{{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{end}}";
    let shown = engine.docker(&["network", "inspect", "-f", format, "bridge"]).ok();
    assert!(shown.starts_with("true ") && shown.contains(&cidr), "{shown}");
    let old = engine.request("GET", &format!("/v1.41/containers/{boat}/json"), None).1;
    let old: Value = serde_json::from_str(&old).unwrap();
    let settings = &old["NetworkSettings"];
    assert_eq!(settings["GlobalIPv6Address"], json!(format!("{prefix}::2")));
    assert_eq!(settings["IPv6Gateway"], json!(format!("{prefix}::1")));
    let quay = engine.name("quay");
    engine.docker(&["run", "-d", "--name", &quay, SMALL, "sleep", "600"]).ok();
    wait_until("it serves", || fetch(&engine, &quay, &format!("[{prefix}::2]")) == boat);
}

#[test]
fn containers_of_other_users_have_ipv6_too() {
    let engine = Engine::start_remapped(1_720_000, &[]);
    if engine.is_original() {
        return;
    }
    let network = dual(&engine, "sea");
    let (boat, quay) = (serve(&engine, "boat", &network, &[]), serve(&engine, "quay", &network, &[]));
    let address = v6(&engine, &boat, &network);
    wait_until("it serves", || fetch(&engine, &quay, &format!("[{address}]")) == boat);
}

#[test]
fn a_subnet_of_link_local_addresses_is_one_like_others() {
    let engine = Engine::start();
    if engine.is_original() {
        // Docker shares it with every other network of the machine.
        return;
    }
    for prefix in ["fe80", "fe80:5a5a"] {
        let subnet = format!("{prefix}::/64");
        let network = Net::create(&engine, "sea", &["--ipv6", "--subnet", &subnet]);
        let (boat, quay) =
            (serve(&engine, "boat", &network, &[]), serve(&engine, "quay", &network, &["-p", "0:80"]));
        assert_eq!(v6(&engine, &boat, &network), format!("{prefix}::2"));
        let peer = format!("{prefix}::2%eth0");
        let answers = || engine.docker(&["exec", &quay, "ping", "-6", "-c1", "-W3", &peer]).code == 0;
        wait_until("it answers", answers);
        let port = port(&engine, &quay);
        wait_until("it serves", || get(&format!("[::1]:{port}")).as_deref() == Some(quay.as_str()));
    }
}

#[test]
fn subnets_come_from_the_pools_that_the_daemon_was_given() {
    let prefix = free_prefix();
    let pool = format!("base={prefix}::/48,size=64");
    let engine = Engine::start_with(&["--default-address-pool", &pool]);
    if engine.is_original() {
        return;
    }
    let network = Net::create(&engine, "sea", &["--ipv6"]);
    let shown = network.inspect();
    let pools = shown["IPAM"]["Config"].as_array().unwrap();
    let subnets: Vec<_> = pools.iter().filter_map(|pool| pool["Subnet"].as_str()).collect();
    assert!(subnets.contains(&format!("{prefix}::/64").as_str()), "{subnets:?}");
    assert_eq!(subnets.len(), 2, "those of IPv4 are the usual ones: {subnets:?}");
}

#[test]
fn ports_of_ipv6_change_while_a_container_runs() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let network = Net::create(&engine, "lake", &[]);
    let [first, second] = [(); 2].map(|()| free_port());
    let boat = serve(&engine, "boat", &network, &["-p", &format!("{first}:80")]);
    let is_reached = |port: u16| get(&format!("[::1]:{port}")).as_deref() == Some(boat.as_str());
    wait_until("it serves", || is_reached(first));
    engine.coracle(&["update", "--publish", &format!("{second}:80"), &boat]).ok();
    assert!(is_reached(first) && is_reached(second));
    engine.coracle(&["update", "--publish-rm", &format!("{first}:80"), &boat]).ok();
    assert!(!is_reached(first) && is_reached(second));
    assert!(TcpListener::bind(format!("[::]:{first}")).is_ok(), "it is free for others");
    // The way out moves to a network with IPv6, where the kernel translates; `::1` is relayed to the address there.
    let dual = dual(&engine, "sea");
    engine.docker(&["network", "connect", &dual.name, &boat]).ok();
    engine.docker(&["network", "disconnect", &network.name, &boat]).ok();
    assert!(is_reached(second));
    let gateway = endpoint(&engine, &boat, &dual)["IPv6Gateway"].as_str().unwrap().to_owned();
    assert_eq!(get(&format!("[{gateway}]:{second}")).as_deref(), Some(boat.as_str()));
}

#[test]
fn a_port_does_not_lead_to_who_gets_the_address_of_a_container_that_left() {
    let engine = Engine::start();
    let network = dual(&engine, "sea");
    let port = free_port();
    let boat = serve(&engine, "boat", &network, &["-p", &format!("{port}:80")]);
    let reached = || get(&format!("[::1]:{port}"));
    wait_until("it serves", || reached().as_deref() == Some(boat.as_str()));
    let address = v6(&engine, &boat, &network);
    let of_v4 = endpoint(&engine, &boat, &network)["IPAddress"].as_str().expect("a text").to_owned();
    engine.docker(&["network", "disconnect", &network.name, &boat]).ok();
    let mut options = vec!["--ip6", &address];
    if !engine.is_original() {
        // Docker refuses it where it has chosen the subnet. The hardware address is that of the one who left then.
        options.extend(["--ip", &of_v4]);
    }
    let heir = serve(&engine, "heir", &network, &options);
    wait_until("the heir serves", || fetch(&engine, &heir, "[::1]") == heir);
    assert_eq!(reached(), None);
    assert!(TcpListener::bind(format!("[::]:{port}")).is_ok(), "it is free for others");
    engine.docker(&["rm", "-f", &boat]).ok();
}

#[test]
fn a_port_comes_back_with_the_network_that_a_container_left() {
    let engine = Engine::start();
    let network = dual(&engine, "sea");
    let port = free_port();
    let boat = serve(&engine, "boat", &network, &["-p", &format!("{port}:80")]);
    let reached = |host: &str| get(&format!("{host}:{port}")).as_deref() == Some(boat.as_str());
    wait_until("it serves", || reached("[::1]"));
    engine.docker(&["network", "disconnect", &network.name, &boat]).ok();
    engine.docker(&["network", "connect", &network.name, &boat]).ok();
    for host in ["[::1]", "127.0.0.1"] {
        wait_until(host, || reached(host));
    }
}
