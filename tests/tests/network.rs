//! The default bridge: the way out, published ports, names, and the files that tell a container who it is.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::{self, SMALL};
use coracle_tests::net::{SERVE, get};

fn serve(engine: &Engine, name: &str, options: &[&str]) -> String {
    let name = engine.name(name);
    let mut arguments = vec!["run", "-d", "--name", &name, "--hostname", &name];
    arguments.extend(options);
    arguments.extend([SMALL, "sh", "-c", SERVE]);
    engine.docker(&arguments).ok();
    name
}

#[test]
fn a_published_port_is_reached_from_everywhere_it_should_be() {
    let engine = Engine::start();
    let web = serve(&engine, "web", &["-p", "0:80"]);
    let port = engine.docker(&["port", &web, "80/tcp"]).ok();
    let port = port.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    wait_until("it serves", || get(&format!("127.0.0.1:{port}")).as_deref() == Some(web.as_str()));
    let gateway = engine.docker(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", &web]).ok();
    assert_eq!(get(&format!("{gateway}:{port}")).as_deref(), Some(web.as_str()), "by the bridge's address");
    let address = engine.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &web]).ok();
    assert_eq!(get(&format!("{address}:80")).as_deref(), Some(web.as_str()), "directly from the host");
    let fetch = |from: &str| engine.docker(&["run", "--rm", SMALL, "wget", "-qO-", from]).ok();
    assert_eq!(fetch(&format!("http://{gateway}:{port}/")), web, "from another container through the port");
    assert_eq!(fetch(&format!("http://{address}/")), web, "from another container directly");
    let own = engine.docker(&["exec", &web, "wget", "-qO-", &format!("http://{gateway}:{port}/")]);
    assert_eq!(own.ok(), web, "from the container itself");
    engine.docker(&["rm", "-f", &web]).ok();
    assert_eq!(get(&format!("127.0.0.1:{port}")), None);
}

#[test]
fn a_port_on_the_loopback_is_for_this_machine_alone() {
    let engine = Engine::start();
    let web = serve(&engine, "local", &["-p", "127.0.0.1:0:80"]);
    let at = engine.docker(&["port", &web, "80"]).ok();
    wait_until("it serves", || get(&at).as_deref() == Some(web.as_str()));
    let port = at.rsplit(':').next().unwrap();
    let gateway = engine.docker(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", &web]).ok();
    assert_eq!(get(&format!("{gateway}:{port}")), None, "not by another address of this machine");
    engine.docker(&["rm", "-f", &web]).ok();
}

#[test]
fn datagrams_are_published_too() {
    let engine = Engine::start();
    let (base, name) = (engine.name("perl"), engine.name("udp"));
    engine.docker(&["import", &image::debian().display().to_string(), &base]).ok();
    let echo = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 53, Proto => 'udp') or die; \
                while (defined $s->recv(my $m, 99)) { $s->send($m) }";
    engine
        .docker(&["run", "-d", "--name", &name, "-p", "127.0.0.1:0:53/udp", &base, "perl", "-e", echo])
        .ok();
    let at = engine.docker(&["port", &name, "53/udp"]).ok();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 16];
    wait_until("it answers", || {
        socket.send_to(b"echo", &at).unwrap();
        socket.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"echo")
    });
    engine.docker(&["rm", "-f", &name]).ok();
    engine.docker(&["rmi", &base]).ok();
}

#[test]
fn another_containers_network_is_shared() {
    let engine = Engine::start();
    let web = serve(&engine, "owner", &[]);
    let network = format!("container:{web}");
    let shared =
        |script: &str| engine.docker(&["run", "--rm", "--network", &network, SMALL, "sh", "-c", script]).ok();
    wait_until("it serves", || shared("wget -qO- http://127.0.0.1/ || true") == web);
    assert_eq!(shared("hostname"), web);
    engine.docker(&["rm", "-f", &web]).ok();
    let alone = engine.docker(&["run", "--rm", "--network", "none", SMALL, "ip", "-o", "link"]).ok();
    assert_eq!(alone.lines().count(), 1, "a loopback only: {alone}");
}

#[test]
fn files_tell_a_container_who_it_is() {
    let engine = Engine::start();
    let run = |options: &[&str], script: &str| {
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(options);
        arguments.extend([SMALL, "sh", "-c", script]);
        engine.docker(&arguments).ok()
    };
    let hosts = run(
        &["--hostname", "boat", "--add-host", "shore:10.1.2.3", "--add-host", "quay:host-gateway"],
        "cat /etc/hosts",
    );
    assert!(hosts.lines().any(|line| line.split_whitespace().eq(["10.1.2.3", "shore"])), "{hosts}");
    assert!(hosts.lines().any(|line| line.ends_with("boat")) && hosts.contains("quay"), "{hosts}");
    let resolv = run(&["--dns-search", "sea.test", "--dns-opt", "ndots:3"], "cat /etc/resolv.conf");
    assert!(resolv.contains("search sea.test") && resolv.contains("ndots:3"), "{resolv}");
    if !engine.is_original() {
        // Docker writes the second line into the file (the class of CVE-2022-4318).
        engine.docker(&["run", "--rm", "--add-host", "bad\nhost:1.2.3.4", SMALL, "true"]).fails_with(125);
    }
}

/// Docker resolves names on networks that a user has made; ours does on the default bridge as well.
#[test]
fn containers_find_each_other_by_name() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let web = serve(&engine, "named", &[]);
    wait_until("it serves", || {
        engine.docker(&["run", "--rm", SMALL, "wget", "-qO-", &format!("http://{web}/")]).stdout.trim() == web
    });
    engine.docker(&["rename", &web, "renamed"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", SMALL, "wget", "-qO-", "http://renamed/"]).ok(), web);
    engine.docker(&["rm", "-f", "renamed"]).ok();
    assert_ne!(
        engine.docker(&["run", "--rm", SMALL, "nslookup", "renamed"]).code,
        0,
        "the dead do not resolve"
    );
}

/// The promise of the first page: a Debian, its packages through NAT, a server on a port, committed and run again.
#[test]
fn a_debian_installs_nginx_and_serves_it() {
    let engine = Engine::start();
    let (base, image, name) = (engine.name("debian"), engine.name("nginx"), engine.name("install"));
    engine.docker(&["import", &image::debian().display().to_string(), &base]).ok();
    let mirror = image::mirror().unwrap_or_else(|| "http://deb.debian.org/debian".to_owned());
    let resolver = "/etc/ssl/certs/ca-certificates.crt";
    let certificates = format!("{resolver}:{resolver}:ro");
    let script = format!(
        "set -e; . /etc/os-release; echo \"deb {mirror} $VERSION_CODENAME main\" > /etc/apt/sources.list; \
         apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends nginx-light"
    );
    let mut arguments = vec!["run", "--name", &name];
    if std::path::Path::new(resolver).exists() && !engine.is_original() {
        arguments.extend(["-v", &certificates]);
    }
    arguments.extend([base.as_str(), "sh", "-c", &script]);
    engine.docker(&arguments).ok();
    engine
        .docker(&[
            "commit",
            "-c",
            "CMD [\"nginx\", \"-g\", \"daemon off;\"]",
            "-c",
            "EXPOSE 80",
            &name,
            &image,
        ])
        .ok();
    engine.docker(&["rm", &name]).ok();
    let web = engine.name("served");
    engine.docker(&["run", "-d", "--name", &web, "-p", "127.0.0.1:0:80", &image]).ok();
    let at = engine.docker(&["port", &web, "80"]).ok();
    wait_until("nginx serves the host", || get(&at).is_some_and(|page| page.contains("nginx")));
    let address = engine.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &web]).ok();
    let inside = engine.docker(&["run", "--rm", SMALL, "wget", "-qO-", &format!("http://{address}/")]).ok();
    assert!(inside.contains("nginx"), "another container is served too");
    engine.docker(&["rm", "-f", &web]).ok();
    engine.docker(&["rmi", &image, &base]).ok();
}
