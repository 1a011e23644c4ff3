//! Published ports that the kernel does not translate: what arrives is passed on to the container, and back.
//!
//! That is what the host itself sends to `::1`, what comes from link-local addresses, and everything that comes by the family of
//! which the container has no address. All else never reaches these sockets.
//!
//! ```text
//! client ─► socket of the port ─► stream or flow ─► the container's address and port
//! ```
//!
//! The owner polls the one descriptor behind [`Relays::as_fd`], an epoll of all others, for at most [`Relays::next_timeout`],
//! and calls [`Relays::run_ready`], which never waits.

mod datagrams;
mod streams;

use crate::error::{Error, Result};
use crate::limits::{RELAY_BUFFER, RELAY_EVENTS, RELAY_PAUSE, RELAYED_FLOWS, RELAYED_STREAMS};
use crate::protocol::{HeldPort, RelayedPort};
use datagrams::Flow;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, getrlimit};
use rustix::time::Timespec;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use streams::Stream;

/// The number of TCP in the IP header.
const TCP: u8 = 6;

/// The relayed ports of one container.
pub(super) struct Relays {
    epoll: OwnedFd,
    /// All by numbers that are never used again, so that an event for one that was closed a moment ago finds nothing. A stream has
    /// two, of which the second is odd.
    ports: HashMap<u64, Port>,
    streams: HashMap<u64, Stream>,
    flows: HashMap<u64, Flow>,
    /// How many streams and flows there may be at once.
    most: Most,
    next_number: u64,
    /// Until when nobody is accepted, as there are no descriptors left.
    paused: Option<Instant>,
    /// What is being passed on.
    buffer: Vec<u8>,
}

/// How much is relayed at once.
#[derive(Debug, PartialEq, Eq)]
struct Most {
    streams: usize,
    flows: usize,
}

impl Most {
    /// Leaves at least the half of so many descriptors to all else that the shim does: clients from anywhere come here, and may not
    /// keep the engine from what it asks for.
    fn of(descriptors: Option<u64>) -> Self {
        let descriptors = descriptors.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        // A stream has two.
        Self { streams: RELAYED_STREAMS.min(descriptors / 6), flows: RELAYED_FLOWS.min(descriptors / 8) }
    }
}

/// A port, and where it leads.
struct Port {
    held: HeldPort,
    target: SocketAddr,
    socket: OwnedFd,
    /// The numbers of the flows of its clients.
    clients: HashMap<SocketAddr, u64>,
}

impl Relays {
    /// None yet.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub(super) fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|errno| failed("watch ports", errno))?;
        Ok(Self {
            epoll,
            ports: HashMap::new(),
            streams: HashMap::new(),
            flows: HashMap::new(),
            most: Most::of(getrlimit(Resource::Nofile).current),
            next_number: 0,
            paused: None,
            buffer: vec![0; RELAY_BUFFER],
        })
    }

    /// Passes on what arrives at a port from now on, whose socket is non-blocking and, if it is TCP, listens.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub(super) fn add(&mut self, relayed: RelayedPort, socket: OwnedFd) -> Result<()> {
        let number = self.number();
        self.watch(&socket, number, EventFlags::IN).map_err(|errno| failed("watch a port", errno))?;
        let RelayedPort { port: held, target } = relayed;
        self.ports.insert(number, Port { held, target, socket, clients: HashMap::new() });
        Ok(())
    }

    /// Leads a port elsewhere, for who comes from now on; `false` if it is none of these.
    pub(super) fn lead(&mut self, relayed: &RelayedPort) -> bool {
        let found = self.ports.iter_mut().find(|(_, port)| port.held == relayed.port);
        let Some((&number, port)) = found else { return false };
        if port.target != relayed.target {
            port.target = relayed.target;
            self.end_flows(number);
        }
        true
    }

    /// Gives these ports free, and ends what is passed on from them.
    pub(super) fn release(&mut self, released: &[HeldPort]) {
        let numbers: Vec<u64> =
            self.ports.iter().filter(|(_, port)| released.contains(&port.held)).map(|(n, _)| *n).collect();
        for number in numbers {
            self.end_flows(number);
            self.streams.retain(|_, stream| stream.port() != number);
            self.ports.remove(&number);
        }
    }

    /// Ends what is passed on, as nobody is there any more; the ports stay reserved.
    pub(super) fn end(&mut self) {
        for port in self.ports.values_mut() {
            // One that is not watched accepts nobody anyway.
            let _ = epoll::delete(&self.epoll, &port.socket);
            port.clients.clear();
        }
        self.streams.clear();
        self.flows.clear();
        self.paused = None;
    }

    /// Readable when there is something to do.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// How long there is nothing to do unless the descriptor becomes readable.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let flows = self.flows.values().map(|flow| flow.deadline);
        let first = flows.chain(self.paused).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Handles what is ready, and what has been silent for too long. Bounded: who sends much gets a turn again at the next call.
    ///
    /// # Errors
    /// When the epoll itself fails; clients that fail lose their own connection only.
    pub(super) fn run_ready(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(RELAY_EVENTS);
        let space = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, space, Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("wait for ports", errno)),
        }
        for event in events {
            let number = { event.data }.u64();
            if let Some(port) = self.ports.get(&number) {
                if port.held.protocol == TCP { self.accept(number) } else { self.receive(number) }
            } else if self.flows.contains_key(&number) {
                self.answer(number);
            } else if { event.flags }.contains(EventFlags::ERR) {
                self.fail(number);
            } else {
                self.serve(number & !1);
            }
        }
        self.expire(Instant::now());
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.flows.iter().filter(|(_, flow)| flow.deadline <= now).map(|(number, _)| *number).collect();
        late.into_iter().for_each(|number| self.end_flow(number));
        if self.paused.is_some_and(|until| until <= now) {
            self.resume();
        }
    }

    /// Accepts nobody for a while: every listening socket would stay ready.
    fn pause(&mut self) {
        for (_, port) in self.ports.iter().filter(|(_, port)| port.held.protocol == TCP) {
            // One that is not watched is paused already.
            let _ = epoll::delete(&self.epoll, &port.socket);
        }
        self.paused = Some(Instant::now() + RELAY_PAUSE);
    }

    fn resume(&mut self) {
        if self.paused.take().is_none() {
            return;
        }
        for (number, port) in self.ports.iter().filter(|(_, port)| port.held.protocol == TCP) {
            if let Err(errno) = self.watch(&port.socket, *number, EventFlags::IN)
                && errno != Errno::EXIST
            {
                super::eprintln_log(&format!("port {} is not relayed any more: {errno}", port.held.address));
            }
        }
    }

    fn watch(&self, socket: &OwnedFd, number: u64, interest: EventFlags) -> std::result::Result<(), Errno> {
        epoll::add(&self.epoll, socket, EventData::new_u64(number), interest)
    }

    /// The next number that is even.
    fn number(&mut self) -> u64 {
        self.next_number += 2;
        self.next_number
    }
}

/// A socket on its way to the container.
fn connect(kind: SocketType, target: SocketAddr) -> std::result::Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn failed(action: &'static str, errno: Errno) -> Error {
    Error::Protocol { action, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::sockopt;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// A relayed port, and what it leads to.
    fn relayed() -> (Relays, SocketAddr, TcpListener) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        port.set_nonblocking(true).unwrap();
        let (address, target) = (port.local_addr().unwrap(), server.local_addr().unwrap());
        let mut relays = Relays::new().unwrap();
        let port_held = HeldPort { protocol: TCP, address };
        relays.add(RelayedPort { port: port_held, target }, port.into()).unwrap();
        (relays, address, server)
    }

    /// Passes on until it is so.
    fn until(relays: &mut Relays, what: &str, is_so: impl Fn(&Relays) -> bool) {
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        while !is_so(relays) {
            let mut polled = [PollFd::new(&relays.epoll, PollFlags::IN)];
            let ready = poll(&mut polled, Some(&patience)).unwrap();
            assert_eq!(ready, 1, "{what}: nothing happens any more");
            relays.run_ready().unwrap();
        }
    }

    /// Closes it by a reset, as who vanishes does.
    fn reset(client: TcpStream) {
        sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
    }

    #[test]
    fn descriptors_are_left_for_all_else() {
        assert_eq!(Most::of(None), Most { streams: RELAYED_STREAMS, flows: RELAYED_FLOWS });
        for descriptors in [64, 1024, 4096, 16384, 1 << 20] {
            let Most { streams, flows } = Most::of(Some(descriptors));
            assert!(2 * streams + flows <= usize::try_from(descriptors / 2).unwrap(), "{descriptors}");
            assert!(streams > 0 && flows > 0);
        }
    }

    #[test]
    fn who_is_too_many_waits_until_another_ends() {
        let (mut relays, address, server) = relayed();
        relays.most.streams = 1;
        let first = TcpStream::connect(address).unwrap();
        let mut second = TcpStream::connect(address).unwrap();
        until(&mut relays, "the second has to wait", |relays| relays.paused.is_some());
        assert_eq!(relays.streams.len(), 1);
        drop((first, server.accept().unwrap()));
        second.write_all(b"ping").unwrap();
        until(&mut relays, "the first is over", |relays| relays.paused.is_none());
        server.set_nonblocking(true).unwrap();
        let accepted = |_: &Relays| server.accept().is_ok();
        until(&mut relays, "it is the turn of the second", accepted);
    }

    #[test]
    fn a_client_that_says_no_more_and_vanishes_is_not_held_by_a_container_that_is_silent() {
        let (mut relays, address, server) = relayed();
        let client = TcpStream::connect(address).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let is_shut = |relays: &Relays| relays.streams.values().any(Stream::is_half_shut);
        until(&mut relays, "the end is passed on", is_shut);
        let (mut inside, _) = server.accept().unwrap();
        assert_eq!(inside.read(&mut [0]).unwrap(), 0);
        reset(client);
        until(&mut relays, "the connection is over", |relays| relays.streams.is_empty());
    }

    #[test]
    fn an_answer_is_whole_although_the_container_resets_the_connection_behind_it() {
        let (mut relays, address, server) = relayed();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"read by nobody").unwrap();
        until(&mut relays, "somebody connects", |relays| !relays.streams.is_empty());
        let (mut inside, _) = server.accept().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        until(&mut relays, "the end is passed on", |relays| {
            relays.streams.values().any(Stream::is_half_shut)
        });
        let answer = vec![7; 1 << 16];
        inside.write_all(&answer).unwrap();
        // What is not read resets the connection.
        drop(inside);
        until(&mut relays, "the connection is over", |relays| relays.streams.is_empty());
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, answer);
    }
}
