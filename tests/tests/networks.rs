//! Networks of one's own: made and removed, who reaches whom, names, and containers that come and go.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::net::{Net, SERVE, fetch, get, serve};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU8, Ordering};

/// The first three numbers of a subnet that no other test has.
fn free_prefix() -> String {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let first = u8::try_from(std::process::id() % 251).expect("a byte");
    format!("10.{}.{first}", 232 + TAKEN.fetch_add(1, Ordering::Relaxed))
}

fn address(engine: &Engine, container: &str, network: &Net<'_>) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks {:?}).IPAddress}}}}", network.name);
    engine.docker(&["inspect", "-f", &format, container]).ok()
}

fn is_known(engine: &Engine, from: &str, name: &str) -> bool {
    engine.docker(&["exec", from, "nslookup", "-type=a", name, "127.0.0.11"]).code == 0
}

#[test]
fn a_network_is_made_found_and_removed() {
    let engine = Engine::start();
    let prefix = free_prefix();
    let (subnet, gateway) = (format!("{prefix}.0/24"), format!("{prefix}.9"));
    let range = format!("{prefix}.64/26");
    let given = ["--subnet", &subnet, "--gateway", &gateway, "--ip-range", &range, "--label", "sea=north"];
    let network = Net::create(&engine, "sea", &given);
    let shown = network.inspect();
    let pool = json!([{"Subnet": subnet, "IPRange": range, "Gateway": gateway}]);
    assert_eq!(shown["IPAM"]["Config"], pool);
    assert_eq!((&shown["Driver"], &shown["Scope"]), (&json!("bridge"), &json!("local")));
    assert_eq!((&shown["Labels"], &shown["Internal"]), (&json!({"sea": "north"}), &json!(false)));
    let id = shown["Id"].as_str().unwrap();
    assert!(id.len() == 64 && shown["Created"].as_str().unwrap().starts_with("20"), "{shown}");
    let list = |filter: &str| {
        let name = format!("name={}", network.name);
        let arguments = ["network", "ls", "-q", "--no-trunc", "--filter", &name, "--filter", filter];
        engine.docker(&arguments).ok()
    };
    let by_id = format!("id={}", &id[..12]);
    for filter in
        [&by_id, "driver=bridge", "type=custom", "scope=local", "label=sea", "label=sea=north", "dangling=1"]
    {
        assert_eq!(list(filter), id, "{filter}");
    }
    for filter in ["id=zz", "driver=host", "type=builtin", "scope=swarm", "label=sea=south", "dangling=0"] {
        assert_eq!(list(filter), "", "{filter}");
    }
    let first = serve(&engine, "first", &network, &[]);
    assert_eq!(address(&engine, &first, &network), format!("{prefix}.64"), "of the range");
    if !engine.is_original() {
        // Docker's list does not know who is on a network.
        assert_eq!(list("dangling=0"), id);
    }
    engine.docker(&["network", "rm", &network.name]).fails_with(1);
    engine.docker(&["rm", "-f", &first]).ok();
    assert_eq!(engine.docker(&["network", "rm", &id[..12]]).ok(), id[..12]);
    engine.docker(&["network", "inspect", &network.name]).fails_with(1);
}

#[test]
fn what_cannot_be_is_refused_with_dockers_status() {
    let engine = Engine::start();
    let prefix = free_prefix();
    let network = Net::create(&engine, "taken", &["--subnet", &format!("{prefix}.0/24")]);
    let (taken, free) = (network.name.as_str(), &engine.name("free"));
    let with = |subnet: &str, gateway: &str| json!({"Name": free, "IPAM": {"Config": [{"Subnet": subnet, "Gateway": gateway}]}});
    let create = |body: Value| engine.request("POST", "/v1.44/networks/create", Some(&body.to_string()));
    for (body, status, text) in [
        (json!({"Name": taken}), 409, format!("network with name {taken} already exists")),
        (json!({"Name": ""}), 400, "invalid name".to_owned()),
        (json!({"Name": "bridge"}), 403, "predefined bridge network".to_owned()),
        (json!({"Name": free, "Driver": "nope"}), 404, "plugin".to_owned()),
        (json!({"Name": free, "Driver": "host"}), 403, "only one instance".to_owned()),
        (with(&format!("{prefix}.128/25"), ""), 403, "Pool overlaps with other one".to_owned()),
        (with(&format!("{prefix}.5/24"), ""), 400, format!("it should be {prefix}.0/24")),
        (with("nowhere", ""), 400, "invalid CIDR block notation".to_owned()),
        (with("10.9.8.0/24", "10.9.9.1"), 400, "doesn't contain this address".to_owned()),
    ] {
        let (found, answer) = create(body.clone());
        assert!(found == status && answer.contains(&text), "{body}: {found} {answer}");
    }
    for (method, path, body, status) in [
        ("DELETE", "/networks/bridge", None, 403),
        ("DELETE", "/networks/nosuch", None, 404),
        ("GET", "/networks/nosuch", None, 404),
        ("POST", "/networks/nosuch/connect", Some(json!({"Container": "nosuch"})), 404),
        ("POST", "/networks/bridge/connect", Some(json!({"Container": "nosuch"})), 404),
        ("GET", "/networks?filters=%7B%22wind%22:%5B%22x%22%5D%7D", None, 400),
    ] {
        let body = body.map(|body| body.to_string());
        let (found, answer) = engine.request(method, &format!("/v1.44{path}"), body.as_deref());
        assert_eq!(found, status, "{method} {path}: {answer}");
    }
    let web = serve(&engine, "web", &network, &[]);
    let request = |network: &str, verb: &str, container: &str| {
        let body = json!({"Container": container}).to_string();
        engine.request("POST", &format!("/v1.44/networks/{network}/{verb}"), Some(&body))
    };
    assert_eq!(engine.request("DELETE", &format!("/v1.44/networks/{taken}"), None).0, 403, "in use");
    assert_eq!(request(taken, "connect", &web).0, 403, "twice");
    assert_eq!(request("host", "connect", &web).0, 400);
    assert_eq!(request("none", "connect", &web).0, 400);
    assert_eq!(
        request("bridge", "disconnect", &web).0 / 100 * 100,
        if engine.is_original() { 500 } else { 400 }
    );
}

#[test]
fn names_belong_to_their_network() {
    let engine = Engine::start();
    let (sea, lake) = (Net::create(&engine, "sea", &[]), Net::create(&engine, "lake", &[]));
    let boat = serve(&engine, "boat", &sea, &["--network-alias", "ferry"]);
    let quay = serve(&engine, "quay", &sea, &[]);
    let pond = serve(&engine, "pond", &lake, &["--network-alias", "ferry"]);
    let short = engine.docker(&["inspect", "-f", "{{.Id}}", &boat]).ok()[..12].to_owned();
    for name in [boat.as_str(), "ferry", &short] {
        wait_until("it serves", || fetch(&engine, &quay, name) == boat);
    }
    assert!(!is_known(&engine, &quay, &pond), "a name of another network");
    assert!(!is_known(&engine, &pond, &boat), "the other way round");
    wait_until("it serves", || fetch(&engine, &pond, "ferry") == pond);
    let networks = engine.docker(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", &boat]).ok();
    let networks: Value = serde_json::from_str(&networks).unwrap();
    let endpoint = &networks[&sea.name];
    assert_eq!(endpoint["NetworkID"], sea.inspect()["Id"]);
    assert_eq!(endpoint["Aliases"], json!(["ferry"]));
    assert_eq!(endpoint["DNSNames"], json!([boat, "ferry", short]));
    let member = &sea.inspect()["Containers"][engine.docker(&["inspect", "-f", "{{.Id}}", &boat]).ok()];
    assert_eq!((&member["Name"], &member["EndpointID"]), (&json!(boat), &endpoint["EndpointID"]));
    engine.docker(&["rm", "-f", &boat]).ok();
    assert!(!is_known(&engine, &quay, "ferry"), "the dead do not resolve");
}

#[test]
fn containers_of_different_networks_do_not_reach_each_other() {
    let engine = Engine::start();
    let (sea, lake) = (Net::create(&engine, "sea", &[]), Net::create(&engine, "lake", &[]));
    let (boat, pond) = (serve(&engine, "boat", &sea, &["-p", "0:80"]), serve(&engine, "pond", &lake, &[]));
    let plain = engine.name("plain");
    engine.docker(&["run", "-d", "--name", &plain, "--hostname", &plain, SMALL, "sh", "-c", SERVE]).ok();
    let at = |container: &str, network: &Net<'_>| address(&engine, container, network);
    let of_plain =
        engine.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", &plain]).ok();
    for (name, own) in [(&boat, at(&boat, &sea)), (&pond, at(&pond, &lake)), (&plain, of_plain.clone())] {
        wait_until("it serves", || fetch(&engine, name, &own) == *name);
        for (other, address) in
            [(&boat, at(&boat, &sea)), (&pond, at(&pond, &lake)), (&plain, of_plain.clone())]
        {
            let expected = if other == name { name.as_str() } else { "" };
            assert_eq!(fetch(&engine, name, &address), expected, "{name} to {other}");
        }
    }
    let port = engine.docker(&["port", &boat, "80/tcp"]).ok();
    let port = port.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    wait_until("it serves", || get(&format!("127.0.0.1:{port}")).as_deref() == Some(boat.as_str()));
    engine.docker(&["rm", "-f", &plain]).ok();
}

#[test]
fn an_internal_network_reaches_nothing_but_itself() {
    let engine = Engine::start();
    let outside = Net::create(&engine, "outside", &[]);
    let prefix = free_prefix();
    let gateway = format!("{prefix}.1");
    let given = ["--internal", "--subnet", &format!("{prefix}.0/24"), "--gateway", &gateway];
    let inside = Net::create(&engine, "inside", &given);
    let open = serve(&engine, "open", &outside, &["-p", "0:80"]);
    let cell = serve(&engine, "cell", &inside, &["--cap-add", "NET_ADMIN"]);
    let mate = serve(&engine, "mate", &inside, &[]);
    assert_eq!(inside.inspect()["Internal"], json!(true));
    wait_until("it serves", || fetch(&engine, &cell, &mate) == mate);
    let routes = engine.docker(&["exec", &cell, "ip", "route"]).ok();
    assert!(!routes.contains("default"), "{routes}");
    // Whoever makes a way out is stopped on the host.
    engine.docker(&["exec", &cell, "ip", "route", "add", "default", "via", &gateway]).ok();
    let (there, here) = (address(&engine, &open, &outside), address(&engine, &cell, &inside));
    assert_eq!(fetch(&engine, &cell, &there), "", "out");
    assert_eq!(fetch(&engine, &open, &here), "", "in");
    assert!(!is_known(&engine, &cell, &open));
    let port = engine.docker(&["port", &open, "80/tcp"]).ok();
    let port = port.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    wait_until("it serves", || get(&format!("127.0.0.1:{port}")).as_deref() == Some(open.as_str()));
    if !engine.is_original() {
        // Docker's proxy, a process of the host, lets it through.
        assert_eq!(fetch(&engine, &cell, &format!("{gateway}:{port}")), "", "out by a published port");
    }
}

#[test]
fn ports_are_published_as_soon_as_there_is_a_way_out() {
    let engine = Engine::start();
    let vault = Net::create(&engine, "vault", &["--internal"]);
    let (sea, river) = (Net::create(&engine, "sea", &[]), Net::create(&engine, "river", &[]));
    let name = serve(&engine, "web", &vault, &["-p", "127.0.0.1::80"]);
    let published = || {
        let output = engine.docker(&["port", &name, "80"]);
        (output.code == 0).then(|| output.stdout.trim().to_owned()).filter(|address| !address.is_empty())
    };
    assert_eq!(published(), None);
    let connect = |network: &Net<'_>| engine.docker(&["network", "connect", &network.name, &name]).ok();
    let disconnect = |network: &Net<'_>| engine.docker(&["network", "disconnect", &network.name, &name]).ok();
    for network in [&sea, &river, &sea] {
        connect(network);
        let address = published().expect("it is published");
        let reachable = address.replace("127.0.0.1", "localhost");
        if !engine.is_original() {
            // The original is in a network namespace of its own.
            assert_eq!(get(&reachable).as_deref(), Some(name.as_str()));
        }
        disconnect(network);
        assert_eq!(published(), None);
        assert_eq!(get(&reachable), None);
    }
    // A certain port can be had again, as nobody else holds it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let certain = serve(&engine, "certain", &vault, &["-p", &format!("127.0.0.1:{port}:80")]);
    for _ in 0..2 {
        engine.docker(&["network", "connect", &sea.name, &certain]).ok();
        assert_eq!(engine.docker(&["port", &certain, "80"]).ok(), format!("127.0.0.1:{port}"));
        engine.docker(&["network", "disconnect", &sea.name, &certain]).ok();
    }
    if engine.is_original() {
        // It leaves behind what it began.
        return;
    }
    // Who cannot have it is not on the network either, and goes on.
    let other = serve(&engine, "other", &sea, &["-p", &format!("127.0.0.1:{port}:80")]);
    let refused = engine.docker(&["network", "connect", &sea.name, &certain]);
    assert!(refused.code == 1 && refused.stderr.contains("already"), "{}", refused.stderr);
    engine.docker(&["rm", "-f", &other]).ok();
    engine.docker(&["network", "connect", &sea.name, &certain]).ok();
    engine.docker(&["rm", "-f", &certain, &name]).ok();
}

#[test]
fn names_lead_out_of_an_internal_network_as_little_as_anything_else() {
    let engine = Engine::start();
    if engine.is_original() {
        // It asks servers that a container names from within the container, where this one is not.
        return;
    }
    // An address that no other test has.
    let [a, b, c, d] = std::process::id().to_be_bytes();
    let address = std::net::Ipv4Addr::new(127, 53 ^ a ^ b, c, d.max(1));
    let server = std::net::UdpSocket::bind((address, 53)).unwrap();
    let asked = std::sync::Arc::new(AtomicU8::new(0));
    let (counted, stop) = (std::sync::Arc::clone(&asked), std::sync::Arc::new(AtomicU8::new(0)));
    let stopped = std::sync::Arc::clone(&stop);
    server.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let serving = std::thread::spawn(move || {
        let mut message = [0; 512];
        while stopped.load(Ordering::Relaxed) == 0 {
            let Ok((length, client)) = server.recv_from(&mut message) else { continue };
            counted.fetch_add(1, Ordering::Relaxed);
            // There is no such name.
            (message[2], message[3]) = (0x81, 0x83);
            server.send_to(&message[..length], client).unwrap();
        }
    });
    let vault = Net::create(&engine, "vault", &["--internal"]);
    let sea = Net::create(&engine, "sea", &[]);
    let name = serve(&engine, "inside", &vault, &["--dns", &address.to_string()]);
    let questions = || {
        let before = asked.load(Ordering::Relaxed);
        engine.docker(&["exec", &name, "nslookup", "-type=a", "outside.test"]);
        asked.load(Ordering::Relaxed) - before
    };
    assert_eq!(questions(), 0);
    assert!(is_known(&engine, &name, &name), "what is on the network is known");
    engine.docker(&["network", "connect", &sea.name, &name]).ok();
    assert!(questions() > 0);
    engine.docker(&["network", "disconnect", &sea.name, &name]).ok();
    assert_eq!(questions(), 0);
    engine.docker(&["restart", "-t", "0", &name]).ok();
    assert_eq!(questions(), 0);
    stop.store(1, Ordering::Relaxed);
    serving.join().unwrap();
}

#[test]
fn containers_of_a_network_may_be_kept_apart() {
    let engine = Engine::start();
    let prefix = free_prefix();
    let (subnet, gateway) = (format!("{prefix}.0/24"), format!("{prefix}.1"));
    let apart = ["-o", "com.docker.network.bridge.enable_icc=false", "--subnet", &subnet];
    let sea = Net::create(&engine, "sea", &apart);
    let (boat, ship) = (serve(&engine, "boat", &sea, &["-p", "0:80"]), serve(&engine, "ship", &sea, &[]));
    let (of_boat, of_ship) = (address(&engine, &boat, &sea), address(&engine, &ship, &sea));
    wait_until("they serve", || {
        fetch(&engine, &boat, &of_boat) == boat && fetch(&engine, &ship, &of_ship) == ship
    });
    assert!(is_known(&engine, &ship, &boat), "names are told all the same");
    assert_eq!(fetch(&engine, &ship, &of_boat), "");
    assert_eq!(fetch(&engine, &boat, &of_ship), "");
    let port = engine.docker(&["port", &boat, "80/tcp"]).ok();
    let port = port.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    wait_until("the published port leads there", || {
        fetch(&engine, &ship, &format!("{gateway}:{port}")) == boat
    });
}

#[test]
fn ports_are_published_where_the_network_says() {
    let engine = Engine::start();
    let here = ["-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1"];
    let sea = Net::create(&engine, "sea", &here);
    let boat = serve(&engine, "boat", &sea, &["-p", "0:80", "-p", "127.0.0.2::81"]);
    let port = engine.docker(&["port", &boat, "80/tcp"]).ok();
    assert!(port.starts_with("127.0.0.1:") && port.lines().count() == 1, "{port}");
    assert!(engine.docker(&["port", &boat, "81/tcp"]).ok().starts_with("127.0.0.2:"));
    wait_until("it serves", || get(port.trim()).as_deref() == Some(boat.as_str()));
}

#[test]
fn addresses_are_given_as_asked_for() {
    let engine = Engine::start();
    let prefix = free_prefix();
    let network = Net::create(&engine, "sea", &["--subnet", &format!("{prefix}.0/24")]);
    let wanted = format!("{prefix}.77");
    let options = ["--ip", &wanted, "--mac-address", "02:00:00:00:00:4d"];
    let boat = serve(&engine, "boat", &network, &options);
    assert_eq!(address(&engine, &boat, &network), wanted);
    let link = engine.docker(&["exec", &boat, "ip", "-o", "link", "show", "eth0"]).ok();
    assert!(link.contains("02:00:00:00:00:4d"), "{link}");
    let run = |address: &str| {
        engine.docker(&["run", "--rm", "--network", &network.name, "--ip", address, SMALL, "true"])
    };
    run(&wanted).fails_with(125);
    run("192.0.2.1").fails_with(125);
    engine.docker(&["restart", "-t", "0", &boat]).ok();
    assert_eq!(address(&engine, &boat, &network), wanted);
}

#[test]
fn a_container_is_made_on_several_networks() {
    let engine = Engine::start();
    let (sea, lake) = (Net::create(&engine, "a-sea", &[]), Net::create(&engine, "b-lake", &[]));
    let (boat, pond) = (serve(&engine, "boat", &sea, &[]), serve(&engine, "pond", &lake, &[]));
    let other = format!("name={},alias=lock", lake.name);
    let both = serve(&engine, "both", &sea, &["--network", &other]);
    wait_until("it serves", || fetch(&engine, &both, &boat) == boat && fetch(&engine, &both, &pond) == pond);
    wait_until("it serves", || fetch(&engine, &pond, "lock") == both);
    assert!(!is_known(&engine, &boat, "lock"), "an alias of the other network");
    let first = sea.inspect()["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    let route = engine.docker(&["exec", &both, "ip", "route"]).ok();
    assert!(route.contains(&format!("default via {first} ")), "the first by name leads out: {route}");
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    let engine = Engine::start();
    let (sea, lake) = (Net::create(&engine, "sea", &[]), Net::create(&engine, "lake", &[]));
    let (boat, pond) = (serve(&engine, "boat", &sea, &["-p", "0:80"]), serve(&engine, "pond", &lake, &[]));
    let pid = |name: &str| engine.docker(&["inspect", "-f", "{{.State.Pid}}", name]).ok();
    let before = pid(&boat);
    assert!(!is_known(&engine, &boat, &pond));
    engine.docker(&["network", "connect", "--alias", "canal", &lake.name, &boat]).ok();
    wait_until("it serves", || {
        fetch(&engine, &boat, &pond) == pond && fetch(&engine, &pond, "canal") == boat
    });
    engine.docker(&["network", "connect", &lake.name, &boat]).fails_with(1);
    engine.docker(&["network", "disconnect", &sea.name, &boat]).ok();
    assert_eq!(sea.inspect()["Containers"], json!({}));
    assert_eq!(fetch(&engine, &pond, "canal"), boat, "the other network stays");
    let links = engine.docker(&["exec", &boat, "ip", "-o", "link"]).ok();
    assert_eq!(links.lines().count(), 2, "a loopback and one more: {links}");
    let gateway = lake.inspect()["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    let route = engine.docker(&["exec", &boat, "ip", "route"]).ok();
    assert!(route.contains(&format!("default via {gateway} ")), "the way out moves: {route}");
    let port = engine.docker(&["port", &boat, "80/tcp"]).ok();
    let port = port.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    wait_until("the port moves", || get(&format!("127.0.0.1:{port}")).as_deref() == Some(boat.as_str()));
    engine.docker(&["network", "disconnect", &lake.name, &boat]).ok();
    assert_eq!(fetch(&engine, &pond, "canal"), "", "gone from the last");
    engine.docker(&["network", "disconnect", &lake.name, &boat]).fails_with(1);
    engine.docker(&["network", "connect", &sea.name, &boat]).ok();
    let bay = serve(&engine, "bay", &sea, &[]);
    wait_until("it serves", || fetch(&engine, &bay, &boat) == boat);
    assert_eq!(pid(&boat), before, "it has run all the time");
}

#[test]
fn a_container_that_does_not_run_joins_and_leaves_networks() {
    let engine = Engine::start();
    let (sea, lake) = (Net::create(&engine, "sea", &[]), Net::create(&engine, "lake", &[]));
    let pond = serve(&engine, "pond", &lake, &[]);
    let boat = engine.name("boat");
    engine
        .docker(&[
            "create",
            "--name",
            &boat,
            "--hostname",
            &boat,
            "--network",
            &sea.name,
            SMALL,
            "sh",
            "-c",
            SERVE,
        ])
        .ok();
    engine.docker(&["network", "connect", "--alias", "canal", &lake.name, &boat]).ok();
    engine.docker(&["network", "disconnect", &sea.name, &boat]).ok();
    engine.docker(&["start", &boat]).ok();
    wait_until("it serves", || fetch(&engine, &pond, "canal") == boat);
    assert_eq!(sea.inspect()["Containers"], json!({}));
    engine.docker(&["stop", "-t", "0", &boat]).ok();
    engine.docker(&["rm", "-f", &pond]).ok();
    engine.docker(&["network", "rm", &lake.name]).ok();
    engine.docker(&["start", &boat]).fails_with(1);
    engine.docker(&["network", "disconnect", &lake.name, &boat]);
    engine.docker(&["rm", "-f", &boat]).ok();
}

#[test]
fn networks_that_nobody_uses_are_pruned() {
    let engine = Engine::start();
    let label = engine.name("label");
    let (used, idle) = (
        Net::create(&engine, "used", &["--label", &label]),
        Net::create(&engine, "idle", &["--label", &label]),
    );
    serve(&engine, "boat", &used, &[]);
    let filter = format!("label={label}");
    let pruned = engine.docker(&["network", "prune", "-f", "--filter", &filter]).ok();
    assert!(pruned.contains(&idle.name) && !pruned.contains(&used.name), "{pruned}");
    engine.docker(&["network", "inspect", &idle.name]).fails_with(1);
    engine.docker(&["network", "inspect", &used.name]).ok();
}

#[test]
fn what_happens_to_networks_is_told() {
    let engine = Engine::start();
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let network = Net::create(&engine, "sea", &[]);
    let boat = serve(&engine, "boat", &network, &[]);
    engine.docker(&["rm", "-f", &boat]).ok();
    engine.docker(&["network", "rm", &network.name]).ok();
    let until = (since.parse::<u64>().unwrap() + 30).to_string();
    let filter = format!("network={}", network.name);
    let format = "{{.Action}} {{.Actor.Attributes.type}} {{if .Actor.Attributes.container}}container{{end}}";
    let arguments =
        ["events", "--since", &since, "--filter", "type=network", "--filter", &filter, "--format", format];
    let mut listening = engine
        .command("docker")
        .args(arguments)
        .args(["--until", &until])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(listening.stdout.take().unwrap()));
    let told: Vec<String> = lines.by_ref().take(4).map(|line| line.unwrap().trim().to_owned()).collect();
    listening.kill().unwrap();
    listening.wait().unwrap();
    assert_eq!(
        told,
        ["create bridge", "connect bridge container", "disconnect bridge container", "destroy bridge"]
    );
}

/// Ours alone: the original is not killed.
#[test]
fn networks_and_who_is_on_them_survive_the_engine() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let (sea, lake) = (engine.name("sea"), engine.name("lake"));
    for network in [&sea, &lake] {
        engine.docker(&["network", "create", network]).ok();
    }
    let run = |engine: &Engine, name: &str, network: &str| {
        let run =
            ["run", "-d", "--name", name, "--hostname", name, "--network", network, SMALL, "sh", "-c", SERVE];
        engine.docker(&run).ok()
    };
    run(&engine, "boat", &sea);
    run(&engine, "quay", &sea);
    engine.docker(&["network", "connect", "--alias", "canal", &lake, "boat"]).ok();
    let bridge = format!("cn-{}", &engine.docker(&["network", "inspect", "-f", "{{.Id}}", &lake]).ok()[..12]);
    wait_until("it serves", || fetch(&engine, "quay", "boat") == "boat");
    let shown = engine.docker(&["network", "inspect", &sea, &lake]).ok();
    engine.kill();
    // The machine has lost the bridge meanwhile.
    assert!(std::process::Command::new("ip").args(["link", "delete", &bridge]).status().unwrap().success());
    engine.start_again();
    assert_eq!(engine.docker(&["network", "inspect", &sea, &lake]).ok(), shown);
    assert_eq!(fetch(&engine, "quay", "boat"), "boat");
    run(&engine, "pond", &lake);
    wait_until("the bridge is made again", || fetch(&engine, "pond", "canal") == "boat");
    engine.docker(&["network", "disconnect", &sea, "boat"]).ok();
    assert!(!is_known(&engine, "quay", "boat"));
    engine.docker(&["network", "rm", &sea]).fails_with(1);
    engine.docker(&["rm", "-f", "boat", "quay", "pond"]).ok();
    engine.docker(&["network", "rm", &sea, &lake]).ok();
    engine.kill();
    engine.start_again();
    assert_eq!(engine.docker(&["network", "ls", "-q", "--filter", "type=custom"]).ok(), "");
}

const PROJECT: &str = "
services:
  web:
    image: IMAGE
    command: [sh, -c, 'mkdir /www; echo web > /www/index.html; exec httpd -f -p 80 -h /www']
    ports: ['127.0.0.1:0:80']
    networks: {default: {}, back: {aliases: [inner]}}
  store:
    image: IMAGE
    command: [sh, -c, 'mkdir /www; echo store > /www/index.html; exec httpd -f -p 80 -h /www']
    networks: {back: {aliases: [shelf]}}
  door:
    image: IMAGE
    command: [sleep, '1000']
networks:
  back: {internal: true}
";

#[test]
fn a_project_of_compose_comes_up_on_its_networks_and_goes_down() {
    let engine = Engine::start();
    let place = engine.directory().join("project");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("compose.yaml"), PROJECT.replace("IMAGE", SMALL)).unwrap();
    let project = engine.name("project");
    let compose = |arguments: &[&str]| {
        engine.plugin_in(&place, &[&["compose", "--progress", "plain", "-p", &project], arguments].concat())
    };
    compose(&["up", "-d"]).ok();
    let fetch = |from: &str, server: &str| {
        let url = format!("http://{server}/");
        compose(&["exec", "-T", from, "timeout", "2", "wget", "-qO-", &url]).stdout.trim().to_owned()
    };
    wait_until("it serves", || fetch("door", "web") == "web" && fetch("web", "shelf") == "store");
    assert_eq!((fetch("store", "inner"), fetch("web", "store")), ("web".to_owned(), "store".to_owned()));
    assert_eq!(fetch("door", "store"), "", "on another network");
    let port = compose(&["port", "web", "80"]).ok();
    wait_until("it serves", || get(port.trim()).as_deref() == Some("web"));
    compose(&["up", "-d"]).ok();
    compose(&["down"]).ok();
    let left = engine.docker(&["network", "ls", "-q", "--filter", &format!("name={project}")]).ok();
    assert_eq!(left, "");
}

/// The same verbs by our own command.
#[test]
fn our_own_command_makes_connects_and_removes_networks() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("sea");
    let id = engine.coracle(&["network", "create", "--label", "a=b", &name]).ok();
    assert_eq!(id.len(), 64);
    let listed = engine.coracle(&["network", "ls"]).ok();
    assert!(listed.contains(&id[..12]) && listed.contains(&name), "{listed}");
    engine.coracle(&["run", "-d", "--name", "boat", "--network", &name, SMALL, "sh", "-c", SERVE]).ok();
    engine.coracle(&["run", "-d", "--name", "quay", SMALL, "sleep", "1000"]).ok();
    engine.coracle(&["network", "connect", "--alias", "pier", &name, "quay"]).ok();
    assert!(is_known(&engine, "boat", "pier"));
    let shown = engine.coracle(&["network", "inspect", &name]).ok();
    assert!(shown.contains("boat") && shown.contains("quay"), "{shown}");
    engine.coracle(&["network", "disconnect", &name, "quay"]).ok();
    assert!(!is_known(&engine, "boat", "pier"));
    engine.coracle(&["network", "rm", &name]).fails_with(1);
    engine.coracle(&["rm", "-f", "boat", "quay"]).ok();
    engine.coracle(&["network", "prune", "-f"]).ok();
    engine.coracle(&["network", "inspect", &name]).fails_with(1);
}
