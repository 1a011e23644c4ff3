//! The shim as a container's resolver: real queries from inside a network namespace, and real tables.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod harness;

use coracle_names::{Name, Table};
use coracle_runtime::protocol::{Names, Reply, Request, Role};
use coracle_sys::netlink::{Protocol, Socket, route};
use coracle_sys::netns;
use harness::{Bench, plan, run};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const WEB: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);
const SELF: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 3);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn loopback_up() {
    // The loopback device is the first of every namespace.
    Socket::open(Protocol::Route).unwrap().request(&[route::set_up(1)]).unwrap();
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A network namespace as a container gets it: loopback, and the resolver's sockets in it.
fn container_network() -> (OwnedFd, OwnedFd, OwnedFd) {
    netns::in_new(|| {
        loopback_up();
        let (udp, tcp) =
            (UdpSocket::bind((RESOLVER, 53)).unwrap(), TcpListener::bind((RESOLVER, 53)).unwrap());
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        (netns::current().unwrap(), udp.into(), tcp.into())
    })
    .unwrap()
}

/// Answers each query to `socket` with the address [`OUTSIDE`], until a query for `end` comes.
fn serve(socket: &UdpSocket) {
    let mut query = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut query).unwrap();
        if query[..length].ends_with(b"\x03end") {
            return;
        }
        let mut answer = query[..length].to_vec();
        // A response, one answer: a pointer to the name, type A, class IN, a minute, four bytes.
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        answer[6..8].copy_from_slice(&[0, 1]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(OUTSIDE.octets());
        socket.send_to(&answer, client).unwrap();
    }
}

/// Ends [`serve`], also when the test has failed.
struct EndOfServer<'a>(&'a UdpSocket);

impl Drop for EndOfServer<'_> {
    fn drop(&mut self) {
        self.0.send_to(b"\x03end", (Ipv4Addr::LOCALHOST, 53)).unwrap();
    }
}

#[test]
fn names_resolve_inside_are_forwarded_and_withdrawn_before_the_end_is_told() {
    let bench = Bench::new();
    let tables = ["front", "back"].map(|name| Table::open(&bench.path(name)).unwrap());
    tables[0].publish("web", &[WEB.into()], &[name("web")]).unwrap();
    tables[0].publish("me", &[SELF.into()], &[name("me"), name("alias")]).unwrap();
    tables[1].publish("other", &[WEB.into()], &[name("other")]).unwrap();
    let script = "nslookup -type=a web 127.0.0.11; nslookup -type=a example.com 127.0.0.11; \
        nslookup -type=a other 127.0.0.11; echo ready; \
        while ! test -e /go; do sleep 0.01; done; nslookup -type=a other 127.0.0.11; \
        nslookup -type=a example.com 127.0.0.11; exit 4";
    let mut plan = plan(&bench, &["sh", "-c", script]);
    let (network, udp, tcp) = container_network();
    plan.spec.linux.as_mut().unwrap().namespaces[1].path = "joined".into();
    for (role, descriptor) in [(Role::Network, network), (Role::NamesUdp, udp), (Role::NamesTcp, tcp)] {
        bench.give(&mut plan, role, descriptor);
    }
    let names = Names {
        tables: vec![bench.path("front")],
        networks: vec![],
        endpoint: "me".into(),
        servers: vec![Ipv4Addr::LOCALHOST.into()],
        is_internal: false,
        aliases: Default::default(),
    };
    plan.names = Some(names.clone());
    // The shim starts in a namespace that stands for the machine's, with a server of the test's own.
    let bench = netns::in_new(move || {
        loopback_up();
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
        let stop = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&server));
            let _end = EndOfServer(&stop);
            let mut shim = bench.start(&plan).unwrap();
            bench.wait_for_log("ready");
            let tables_of_both = vec![bench.path("front"), bench.path("back")];
            let both = Names { tables: tables_of_both, is_internal: true, ..names };
            assert_eq!(shim.ask(&Request::Names(both)), Reply::Done);
            assert_eq!(tables[0].lookup(&name("me")).unwrap(), [IpAddr::V4(SELF)]);
            std::fs::write(format!("/proc/{}/root/go", shim.pid()), "").unwrap();
            assert_eq!(shim.exited().code, 4);
            for gone in ["me", "alias"] {
                assert!(tables[0].lookup(&name(gone)).unwrap().is_empty(), "{gone} still resolves");
            }
            assert_eq!(tables[0].lookup(&name("web")).unwrap(), [IpAddr::V4(WEB)], "others stay");
            shim.forget();
        });
        bench
    })
    .unwrap();
    let log = std::fs::read_to_string(bench.log()).unwrap();
    let answers = |address: Ipv4Addr| log.matches(&format!("Address: {address}")).count();
    // web before, other after the change; example.com, and other before it, but nobody outside after it.
    assert_eq!((answers(WEB), answers(OUTSIDE)), (2, 2), "{log}");
    bench.assert_nothing_is_left();
}

#[test]
fn a_plan_with_names_and_no_sockets_is_refused() {
    let bench = Bench::new();
    let mut plan = plan(&bench, &["true"]);
    plan.names = Some(Names {
        tables: vec![],
        networks: vec![],
        endpoint: "me".into(),
        servers: vec![],
        is_internal: false,
        aliases: Default::default(),
    });
    assert!(bench.start(&plan).unwrap_err().text.contains("sockets"));
    bench.assert_nothing_is_left();
}

#[test]
fn the_shim_may_have_many_descriptors_and_the_container_as_many_as_the_engine() {
    let before = getrlimit(Resource::Nofile);
    let mut low = before;
    low.current = Some(777);
    setrlimit(Resource::Nofile, low).unwrap();
    let bench = Bench::new();
    let mut plan = plan(&bench, &["sh", "-c", "ulimit -n; ulimit -Hn; grep 'open files' /proc/1/limits"]);
    let (code, out, _) = run(&bench, &mut plan).unwrap();
    let hard = before.maximum.map_or("unlimited".to_owned(), |n| n.to_string());
    assert_eq!(code, 0);
    assert!(out.starts_with(&format!("777\n{hard}\n")), "{out}");
    bench.assert_nothing_is_left();
    // What the configuration says is what counts.
    let bench = Bench::new();
    let mut plan =
        harness::plan(&bench, &["sh", "-c", "ulimit -n; while ! test -e /go; do sleep 0.01; done"]);
    let limit = coracle_spec::runtime::Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 55, soft: 44 };
    plan.spec.process.as_mut().unwrap().rlimits = vec![limit];
    let mut shim = bench.start(&plan).unwrap();
    bench.wait_for_log("44");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", bench.shim_pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(words[3], words[4], "the shim's soft limit is its hard one: {files}");
    std::fs::write(format!("/proc/{}/root/go", shim.pid()), "").unwrap();
    assert_eq!(shim.exited().code, 0);
    shim.forget();
    setrlimit(Resource::Nofile, before).unwrap();
    bench.assert_nothing_is_left();
}
