//! The resolver with real sockets: a client, the service, and servers that the test plays.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coracle_names::limits::{FORWARDED, SERVER_PATIENCE, STREAMS};
use coracle_names::{Name, Service, Table, Upstream};
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const WEB: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const WEB_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;

/// A service with two tables, and clients of it.
struct Bench {
    service: Service,
    tables: [Table; 2],
    _directory: TempDir,
    client: UdpSocket,
    stream_address: SocketAddr,
}

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    socket.set_nonblocking(true).expect("an option");
    socket
}

fn bench(upstream: Upstream) -> Bench {
    let directory = tempfile::tempdir().expect("a directory");
    let paths: Vec<PathBuf> = ["front", "back"].map(|name| directory.path().join(name)).to_vec();
    let tables = [0, 1].map(|n| Table::open(&paths[n]).expect("a table"));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let (address, stream_address) =
        (socket.local_addr().expect("bound"), listener.local_addr().expect("bound"));
    let service = Service::new(socket.into(), listener.into(), &paths, upstream).expect("a service");
    let client = udp();
    client.connect(address).expect("connected");
    tables[0]
        .publish("e1", &[WEB.into(), WEB_V6.into()], &[Name::parse("web").expect("a name")])
        .expect("published");
    Bench { service, tables, _directory: directory, client, stream_address }
}

impl Bench {
    /// Runs the service, as its owner would, until `fd` is readable.
    fn run_until_readable(&mut self, fd: BorrowedFd<'_>) {
        assert!(self.run(fd, PATIENCE), "nothing came");
    }

    fn run(&mut self, fd: BorrowedFd<'_>, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let left = end - Instant::now();
            let wait = self.service.next_timeout().map_or(left, |timeout| timeout.min(left));
            let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
            let service = self.service.as_fd();
            let mut fds = [PollFd::new(&fd, PollFlags::IN), PollFd::new(&service, PollFlags::IN)];
            poll(&mut fds, Some(&wait)).expect("polled");
            if !fds[0].revents().is_empty() {
                return true;
            }
            self.service.run_ready().expect("served");
        }
        false
    }

    fn ask(&mut self, question: &[u8]) -> Vec<u8> {
        self.client.send(question).expect("sent");
        let client = self.client.try_clone().expect("cloned");
        self.run_until_readable(client.as_fd());
        receive(&client).0
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, peer) = socket.recv_from(&mut buffer).expect("readable");
    buffer.truncate(length);
    (buffer, peer)
}

fn question(number: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0]);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// What a server answers: the question with flags and something behind it.
fn answer(question: &[u8], flags: [u8; 2], tail: &[u8]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&flags);
    message.extend_from_slice(tail);
    message
}

fn code(message: &[u8]) -> u8 {
    message[3] & 15
}

fn records(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[6], message[7]])
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("short");
    [&length.to_be_bytes(), message].concat()
}

fn unframe(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer");
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).expect("an answer");
    message
}

#[test]
fn names_of_all_tables_are_answered_and_other_kinds_of_them_are_empty() {
    let mut bench = bench(Upstream::none());
    let name = |text| Name::parse(text).unwrap();
    bench.tables[1].publish("e2", &[Ipv4Addr::new(10, 0, 0, 9).into()], &[name("db"), name("web")]).unwrap();
    let db = bench.ask(&question(7, "DB", A));
    assert_eq!((code(&db), records(&db)), (0, 1));
    assert_eq!(db[db.len() - 4..], [10, 0, 0, 9]);
    assert_eq!(db[..2], [0, 7]);
    let firsts: std::collections::BTreeSet<Vec<u8>> = (0..4)
        .map(|_| {
            let web = bench.ask(&question(8, "web", A));
            assert_eq!(records(&web), 2);
            web[web.len() - 4..].to_vec()
        })
        .collect();
    assert_eq!(firsts.len(), 2, "both addresses take turns");
    let none = bench.ask(&question(9, "db", AAAA));
    assert_eq!((code(&none), records(&none)), (0, 0));
    let of_v6 = bench.ask(&question(9, "web", AAAA));
    assert_eq!((code(&of_v6), records(&of_v6)), (0, 1));
    assert!(of_v6.ends_with(&WEB_V6.octets()), "{of_v6:?}");
    let pointer = bench.ask(&question(10, "9.0.0.10.in-addr.arpa", PTR));
    assert_eq!(records(&pointer), 1);
    assert!(pointer.ends_with(&[0, 4, 2, b'd', b'b', 0]), "{pointer:?}");
    bench.tables[1].withdraw("e2").unwrap();
    // Without servers what is unknown fails, and at once.
    assert_eq!(code(&bench.ask(&question(11, "db", A))), 2);
}

#[test]
fn what_no_table_knows_goes_to_the_server_and_comes_back_as_it_was() {
    let server = udp();
    let mut bench = bench(Upstream::servers(vec![server.local_addr().unwrap()]));
    let mut seen = Vec::new();
    for number in [1u16, 2, 3] {
        let mut sent = question(number, "Example.com", AAAA);
        // An OPT record behind the question is passed on.
        sent[11] = 1;
        sent.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        bench.client.send(&sent).unwrap();
        bench.run_until_readable(server.as_fd());
        let (asked, peer) = receive(&server);
        assert_eq!(asked[2..], sent[2..]);
        seen.push((asked[..2].to_vec(), peer.port()));
        // Cut to fit a datagram, with records of whatever kind: nothing of it is ours to change.
        let reply = answer(&asked, [0x83, 0x80], &[9; 1000]);
        server.send_to(&reply, peer).unwrap();
        let client = bench.client.try_clone().unwrap();
        bench.run_until_readable(client.as_fd());
        let (got, _) = receive(&client);
        assert_eq!(got[..2], number.to_be_bytes());
        assert_eq!(got[2..], reply[2..]);
    }
    assert!(seen.iter().any(|(number, _)| *number != seen[0].0), "numbers are random: {seen:?}");
    assert_eq!(bench.service.next_timeout(), None, "nothing is under way");
}

#[test]
fn answers_that_were_not_asked_for_are_ignored() {
    let (server, stranger) = (udp(), udp());
    let mut bench = bench(Upstream::servers(vec![server.local_addr().unwrap()]));
    bench.client.send(&question(1, "example.com", A)).unwrap();
    bench.run_until_readable(server.as_fd());
    let (asked, peer) = receive(&server);
    let good = answer(&asked, [0x81, 0x80], b"good");
    stranger.send_to(&answer(&asked, [0x81, 0x80], b"evil"), peer).ok();
    let mut number = good.clone();
    number[0] ^= 1;
    let mut name = good.clone();
    name[13] ^= 1;
    for evil in [number, name, asked.clone(), good[..20].to_vec(), Vec::new()] {
        server.send_to(&evil, peer).unwrap();
    }
    server.send_to(&good, peer).unwrap();
    let client = bench.client.try_clone().unwrap();
    bench.run_until_readable(client.as_fd());
    assert_eq!(receive(&client).0[2..], good[2..]);
    bench.service.run_ready().unwrap();
    assert_eq!(client.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_next_server_is_asked_when_one_is_absent_failing_or_silent() {
    let absent = udp().local_addr().unwrap();
    let (failing, silent, good) = (udp(), udp(), udp());
    let servers = [&failing, &silent, &good].map(|socket| socket.local_addr().unwrap());
    let mut bench = bench(Upstream::servers([&[absent], &servers[..]].concat()));
    bench.client.send(&question(5, "example.com", A)).unwrap();
    bench.run_until_readable(failing.as_fd());
    let (asked, peer) = receive(&failing);
    failing.send_to(&answer(&asked, [0x81, 0x82], &[]), peer).unwrap();
    bench.run_until_readable(silent.as_fd());
    let start = Instant::now();
    bench.run_until_readable(good.as_fd());
    assert!(start.elapsed() >= SERVER_PATIENCE / 2);
    let (asked, peer) = receive(&good);
    good.send_to(&answer(&asked, [0x81, 0x80], b"late"), peer).unwrap();
    let client = bench.client.try_clone().unwrap();
    bench.run_until_readable(client.as_fd());
    let (got, _) = receive(&client);
    assert_eq!((&got[..2], code(&got)), (&[0, 5][..], 0));
}

#[test]
fn a_failure_that_every_server_reports_is_passed_on() {
    let server = udp();
    let absent = udp().local_addr().unwrap();
    let mut bench = bench(Upstream::servers(vec![absent]));
    let got = bench.ask(&question(6, "example.com", A));
    assert_eq!((code(&got), &got[..2]), (2, &[0, 6][..]));
    bench.service.set_upstream(Upstream::servers(vec![server.local_addr().unwrap()]));
    bench.client.send(&question(7, "example.com", A)).unwrap();
    bench.run_until_readable(server.as_fd());
    let (asked, peer) = receive(&server);
    server.send_to(&answer(&asked, [0x81, 0x85], &[]), peer).unwrap();
    let client = bench.client.try_clone().unwrap();
    bench.run_until_readable(client.as_fd());
    assert_eq!(code(&receive(&client).0), 5);
}

#[test]
fn a_stream_carries_several_questions_and_a_large_answer_of_a_server() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let absent = udp().local_addr().unwrap();
    let mut bench = bench(Upstream::servers(vec![absent, server.local_addr().unwrap()]));
    let mut client = TcpStream::connect(bench.stream_address).unwrap();
    let both = [
        framed(&question(1, "web", A)),
        framed(&question(2, "example.com", A)),
        framed(&question(3, "web", A)),
    ];
    client.write_all(&both.concat()).unwrap();
    bench.run_until_readable(client.as_fd());
    let web = unframe(&mut client);
    assert_eq!((&web[..2], &web[web.len() - 4..]), (&[0, 1][..], &WEB.octets()[..]));
    bench.run_until_readable(server.as_fd());
    let (mut accepted, _) = server.accept().unwrap();
    bench.run_until_readable(accepted.as_fd());
    let asked = unframe(&mut accepted);
    let large = answer(&asked, [0x81, 0x80], &vec![5; 60_000]);
    accepted.write_all(&framed(&large)).unwrap();
    let mut got = Vec::new();
    client.set_nonblocking(true).unwrap();
    // Both answers that remain: a large one, and a small one whose size the first one has told.
    while got.len() < 2 + large.len() + 2 + web.len() {
        let mut buffer = [0; 4096];
        bench.run_until_readable(client.as_fd());
        let length = client.read(&mut buffer).unwrap();
        assert_ne!(length, 0);
        got.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(got[2..4], [0, 2]);
    assert_eq!(got[4..2 + large.len()], large[2..]);
    assert_eq!(got[2 + large.len() + 2..][..2], [0, 3]);
}

#[test]
fn a_stream_whose_server_hangs_up_or_is_absent_gets_a_failure() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut bench = bench(Upstream::servers(vec![server.local_addr().unwrap()]));
    let mut client = TcpStream::connect(bench.stream_address).unwrap();
    client.write_all(&framed(&question(1, "example.com", A))).unwrap();
    for _ in 0..coracle_names::limits::ATTEMPTS {
        bench.run_until_readable(server.as_fd());
        drop(server.accept().unwrap());
    }
    bench.run_until_readable(client.as_fd());
    assert_eq!(code(&unframe(&mut client)), 2);
    drop(server);
    client.write_all(&framed(&question(2, "example.com", A))).unwrap();
    bench.run_until_readable(client.as_fd());
    assert_eq!(code(&unframe(&mut client)), 2);
}

#[test]
fn questions_and_clients_beyond_the_bounds_are_refused_not_queued() {
    let server = udp();
    let mut bench = bench(Upstream::servers(vec![server.local_addr().unwrap()]));
    let client = bench.client.try_clone().unwrap();
    for number in 0..u16::try_from(FORWARDED).unwrap() {
        client.send(&question(number, "example.com", A)).unwrap();
        bench.service.run_ready().unwrap();
    }
    let refused = bench.ask(&question(0xffff, "example.com", A));
    assert_eq!((&refused[..2], code(&refused)), (&[0xff, 0xff][..], 2));
    // Names of ours are answered all the same.
    assert_eq!(records(&bench.ask(&question(1, "web", A))), 1);
    let connect = || TcpStream::connect(bench.stream_address).unwrap();
    let mut streams: Vec<TcpStream> = (0..=STREAMS).map(|_| connect()).collect();
    let mut last = streams.pop().unwrap();
    bench.run_until_readable(last.as_fd());
    assert_eq!(last.read(&mut [0; 1]).unwrap(), 0, "closed");
    streams[0].write_all(&framed(&question(2, "web", A))).unwrap();
    bench.run_until_readable(streams[0].as_fd());
    assert_eq!(records(&unframe(&mut streams[0])), 1);
}

#[test]
fn a_client_that_announces_more_than_a_question_is_closed() {
    let mut bench = bench(Upstream::none());
    let mut client = TcpStream::connect(bench.stream_address).unwrap();
    client.write_all(&[0xff, 0xff, 0, 0]).unwrap();
    bench.run_until_readable(client.as_fd());
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn a_client_that_leaves_while_its_server_thinks_takes_nothing_with_it() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut bench = bench(Upstream::servers(vec![server.local_addr().unwrap()]));
    let mut client = TcpStream::connect(bench.stream_address).unwrap();
    client.write_all(&framed(&question(1, "example.com", A))).unwrap();
    bench.run_until_readable(server.as_fd());
    let (accepted, _) = server.accept().unwrap();
    bench.run_until_readable(accepted.as_fd());
    // A reset, as of a process that was killed with unread data.
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    // The server's connection is closed with it.
    let mut accepted = accepted;
    unframe(&mut accepted);
    bench.run_until_readable(accepted.as_fd());
    assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(bench.service.next_timeout(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn garbage_never_stops_the_service(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..20)) {
        let mut bench = bench(Upstream::none());
        let mut stream = TcpStream::connect(bench.stream_address).unwrap();
        for message in &messages {
            bench.client.send(message).unwrap();
            // The service may have closed the stream by now.
            let _ = stream.write_all(message);
            bench.service.run_ready().unwrap();
        }
        // Whatever was answered to garbage is read away.
        bench.service.run_ready().unwrap();
        while bench.client.recv(&mut [0; 1024]).is_ok() {}
        prop_assert_eq!(records(&bench.ask(&question(1, "web", A))), 1);
    }
}

#[test]
fn what_one_container_calls_another_is_answered_from_the_tables() {
    let mut bench = bench(Upstream::none());
    let name = |text| Name::parse(text).unwrap();
    bench.service.set_aliases([(name("site"), name("web")), (name("lost"), name("nobody"))].into());
    let site = bench.ask(&question(7, "Site", A));
    assert_eq!((code(&site), site[site.len() - 4..].to_vec()), (0, WEB.octets().to_vec()));
    assert_ne!(code(&bench.ask(&question(8, "lost", A))), 0);
    bench.service.set_aliases([].into());
    assert_ne!(code(&bench.ask(&question(9, "site", A))), 0);
}

#[test]
fn a_name_is_known_with_its_network_behind_it() {
    let mut bench = bench(Upstream::none());
    bench.service.set_networks(vec![Some(Name::parse("br.net1").unwrap())]);
    let found = bench.ask(&question(7, "web.br.net1", A));
    assert_eq!((code(&found), found[found.len() - 4..].to_vec()), (0, WEB.octets().to_vec()));
    for (id, other) in [(8, "web.net1"), (9, "web.br.net1.example"), (10, "br.net1")] {
        assert_ne!(code(&bench.ask(&question(id, other, A))), 0, "{other}");
    }
}
