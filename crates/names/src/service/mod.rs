//! Answers a container's queries, without a thread and without ever waiting.
//!
//! ```text
//! datagram or stream ─► question ─► a name or address of a table? ─ yes ─► answer
//!                                                                 └ no ──► forward, verbatim but for its number
//! ```
//!
//! The owner polls the one descriptor behind [`AsFd`], an epoll of all others, for at most [`Service::next_timeout`],
//! and calls [`Service::run_ready`]. Every forwarded question has a socket of its own, connected to one server: its port
//! and number are random, and the kernel drops what comes from elsewhere.

mod datagrams;
mod streams;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::Timespec;

use crate::error::{Error, Result};
use crate::limits::{ATTEMPTS, DATAGRAMS_PER_TURN};
use crate::message::{Failure, Kind, Question, Records, Refusal};
use crate::name::Name;
use crate::table::Table;
use crate::upstream::Upstream;
use datagrams::Exchange;
use streams::Stream;

const DATAGRAMS: u64 = 0;
const LISTENER: u64 = 1;
/// The first number of a descriptor that comes and goes. Numbers are never used again, so that an event for one that was
/// closed a moment ago finds nothing.
const FIRST_TOKEN: u64 = 2;

/// The resolver of one container.
#[derive(Debug)]
pub struct Service {
    epoll: OwnedFd,
    datagrams: OwnedFd,
    listener: OwnedFd,
    tables: Vec<Table>,
    /// What the network of each table is called, as far as it can be asked for.
    networks: Vec<Option<Name>>,
    /// Further names that this container alone has for others.
    aliases: HashMap<Name, Name>,
    upstream: Upstream,
    exchanges: HashMap<u64, Exchange>,
    streams: HashMap<u64, Stream>,
    /// From the number of a connection to a server to that of the client it works for.
    forwarded: HashMap<u64, u64>,
    next_token: u64,
    /// Counts answers, so that the addresses of one name take turns at being first.
    turn: usize,
}

/// What to do with a client's message.
enum Reply {
    Answer(Vec<u8>),
    Nothing,
    Forward,
}

impl Service {
    /// Serves the two non-blocking sockets (datagrams, and a listening one) from the tables in these directories.
    ///
    /// # Errors
    /// When a table cannot be opened, or the sockets cannot be watched.
    pub fn new(
        datagrams: OwnedFd,
        listener: OwnedFd,
        tables: &[PathBuf],
        upstream: Upstream,
    ) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(Error::service("make the epoll"))?;
        for (socket, token) in [(&datagrams, DATAGRAMS), (&listener, LISTENER)] {
            rustix::io::ioctl_fionbio(socket, true).map_err(Error::service("prepare a socket"))?;
            epoll::add(&epoll, socket, EventData::new_u64(token), EventFlags::IN)
                .map_err(Error::service("watch a socket"))?;
        }
        let mut service = Self {
            epoll,
            datagrams,
            listener,
            tables: Vec::new(),
            networks: Vec::new(),
            aliases: HashMap::new(),
            upstream,
            exchanges: HashMap::new(),
            streams: HashMap::new(),
            forwarded: HashMap::new(),
            next_token: FIRST_TOKEN,
            turn: 0,
        };
        service.set_tables(tables)?;
        Ok(service)
    }

    /// Answers from other tables from now on: the container joined or left a network.
    ///
    /// # Errors
    /// When a table cannot be opened; then the old ones stay.
    pub fn set_tables(&mut self, tables: &[PathBuf]) -> Result<()> {
        self.tables = tables.iter().map(|path| Table::open(path)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Knows the names in the tables, in order, also with these networks behind them from now on: `web.backend`.
    pub fn set_networks(&mut self, networks: Vec<Option<Name>>) {
        self.networks = networks;
    }

    /// Knows others by these names besides those in the tables from now on.
    pub fn set_aliases(&mut self, aliases: HashMap<Name, Name>) {
        self.aliases = aliases;
    }

    /// Asks other servers from now on.
    pub fn set_upstream(&mut self, upstream: Upstream) {
        self.upstream = upstream;
    }

    /// How long the owner may wait before it calls [`Service::run_ready`] even though nothing is ready; without limit
    /// while nothing is under way.
    pub fn next_timeout(&self) -> Option<Duration> {
        let exchanges = self.exchanges.values().map(|exchange| exchange.deadline);
        let first = exchanges.chain(self.streams.values().map(|stream| stream.deadline)).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Handles all that is ready and all that took too long, and returns without waiting. Bounded: a client that floods
    /// the resolver gets its turn again at the next call.
    ///
    /// # Errors
    /// When the epoll itself fails; clients and servers that fail only lose their own exchange.
    pub fn run_ready(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(DATAGRAMS_PER_TURN);
        let ready =
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default()));
        match ready {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::service("wait for the descriptors")(errno)),
        }
        for event in events {
            match { event.data }.u64() {
                DATAGRAMS => self.read_datagrams(),
                LISTENER => self.accept_streams(),
                token if self.exchanges.contains_key(&token) => self.exchange_ready(token),
                token if self.streams.contains_key(&token) => self.stream_ready(token),
                token => {
                    if let Some(&client) = self.forwarded.get(&token) {
                        self.server_ready(client);
                    }
                }
            }
        }
        self.expire(Instant::now());
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.exchanges.iter().filter(|(_, e)| e.deadline <= now).map(|(&t, _)| t).collect();
        for token in late {
            self.exchange_failed(token);
        }
        let late: Vec<u64> =
            self.streams.iter().filter(|(_, s)| s.deadline <= now).map(|(&t, _)| t).collect();
        for token in late {
            self.stream_late(token);
        }
    }

    /// Decides about a client's message; an answer of ours has at most `limit` bytes.
    fn reply(&mut self, message: &[u8], limit: usize) -> Reply {
        let question = match Question::parse(message) {
            Ok(question) => question,
            Err(Refusal::Silent) => return Reply::Nothing,
            Err(Refusal::Answer(answer)) => return Reply::Answer(answer),
        };
        match self.resolve(&question) {
            Ok(Some(records)) => Reply::Answer(question.answer(&records, limit)),
            Ok(None) => Reply::Forward,
            // A table that cannot be read is a failure of ours; another server knows nothing of our names.
            Err(_) => Reply::Answer(question.failure(Failure::Server)),
        }
    }

    /// What the tables know; none if they do not.
    fn resolve(&mut self, question: &Question<'_>) -> Result<Option<Records>> {
        if let Some(address) = question.address() {
            for table in &self.tables {
                if let Some(name) = table.reverse(address)? {
                    return Ok(Some(Records::Pointer(name)));
                }
            }
            return Ok(None);
        }
        let Some(name) = &question.name else { return Ok(None) };
        let name = self.aliases.get(name).unwrap_or(name);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (nth, table) in self.tables.iter().enumerate() {
            addresses.extend(table.lookup(name)?);
            let network = self.networks.get(nth).and_then(Option::as_ref);
            if let Some(name) = network.and_then(|network| name.before(network)) {
                addresses.extend(table.lookup(&name)?);
            }
        }
        if addresses.is_empty() {
            return Ok(None);
        }
        // What the name has of another kind is nobody else's to say: the answer is empty then, and no other server is asked.
        addresses.retain(|address| match question.kind {
            Kind::Address { v4, v6 } => {
                if address.is_ipv4() {
                    v4
                } else {
                    v6
                }
            }
            Kind::Pointer | Kind::Other => false,
        });
        if addresses.is_empty() {
            return Ok(Some(Records::Addresses(addresses)));
        }
        addresses.sort_unstable();
        addresses.dedup();
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % addresses.len();
        addresses.rotate_left(first);
        Ok(Some(Records::Addresses(addresses)))
    }

    fn token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        token
    }
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// The answer to a message that is forwarded but cannot be answered.
fn failure(message: &[u8]) -> Option<Vec<u8>> {
    Question::parse(message).ok().map(|question| question.failure(Failure::Server))
}

/// The servers to ask one question, each in turn.
#[derive(Debug)]
struct Attempts {
    servers: Vec<SocketAddr>,
    made: usize,
}

impl Attempts {
    fn new(servers: &[SocketAddr]) -> Self {
        Self { servers: servers.to_vec(), made: 0 }
    }

    /// The server to ask next, one that was silent before included.
    fn next(&mut self) -> Option<SocketAddr> {
        if self.made >= ATTEMPTS || self.servers.is_empty() {
            return None;
        }
        let server = self.servers[self.made % self.servers.len()];
        self.made += 1;
        Some(server)
    }

    /// Whether there is a server that was not asked yet.
    fn has_untried(&self) -> bool {
        self.made < self.servers.len().min(ATTEMPTS)
    }
}

/// A socket that exchanges messages with one server alone.
fn connect(kind: SocketType, server: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// A number that nobody can guess.
fn random_number() -> Result<[u8; 2], Errno> {
    let mut number = [0; 2];
    getrandom(&mut number, GetRandomFlags::empty())?;
    Ok(number)
}
