//! The shim: the parent of one container.
//!
//! ```text
//! engine ── plan, descriptors ──► shim ── clone ──► first process
//!    ▲       (perhaps twice:        ├── streams thread: log, attached sockets
//!    │        prepare, start)       │
//!    └────── replies, events ───────┴── this thread: requests, names, exits
//!
//! <state directory>/shim.sock   where an engine that was restarted finds it
//! <state directory>/run.json    that it runs
//! <state directory>/exit.json   how it ended; written before anybody is told
//! ```
//!
//! An engine may come and go; the shim lives until its container has ended and the end is on record.

mod arriving;
mod channel;
mod client;
mod connections;
mod container;
mod descendants;
mod descriptors;
mod ending;
mod foreign;
mod names;
mod prepared;
mod pump;
pub mod record;
mod relays;
mod requests;
mod streams;

use crate::cgroup::OomWatch;
use crate::error::{Error, Result};
use crate::protocol::{self, Event, Exit, Failure, Isolation, Message, RelayedPort, Reply, Request};
use arriving::{Arrived, Arriving};
use connections::Connections;
use container::{Belongings, Container};
use coracle_spec::owners::map_text;
use coracle_sys::process::{close_from, share_one_heap, take_inherited};
use coracle_sys::signal;
use coracle_sys::userns;
use names::Resolver;
use prepared::Prepared;
use pump::{Notice, Pump};
use relays::Relays;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// How long output is waited for after the first process has ended and something else still holds it open.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// The number of the descriptor on which the engine sends the first request.
pub const CONTROL: u32 = 3;

/// Runs the shim of one container, from the first request to the record of its exit.
///
/// # Errors
/// When the engine's first request makes no sense, or the container cannot be started; the engine was told.
pub fn run() -> Result<()> {
    // What the engine was started with is nothing to a container.
    close_from(CONTROL + 1);
    let limit = descriptors::raise();
    signal::block_terminal();
    share_one_heap();
    let engine = take_inherited(CONTROL)?;
    // The engine made the shim the leader of nothing; a session keeps its terminal's signals away.
    rustix::process::setsid().map_err(|error| Error::Child(format!("cannot start a session: {error}")))?;
    let mut prepared = None;
    let mut user = None;
    let mut arriving = Arriving::default();
    while let Some(arrived) = arriving.receive(engine.as_fd())? {
        match arrived {
            Arrived::Part => {}
            Arrived::Request(id, Request::Isolate(isolation), descriptors)
                if user.is_none() && prepared.is_none() =>
            {
                user = isolate(&engine, id, &isolation, descriptors.into_iter().next())?;
            }
            Arrived::Request(_, Request::Prepare, descriptors) if prepared.is_none() => {
                prepared = Some(prepare(descriptors, user.take())?);
            }
            Arrived::Request(id, Request::Start, descriptors) => {
                return start((engine, id), (descriptors, user), prepared, limit);
            }
            Arrived::Request(..) => {
                return Err(Error::Malformed("the container is not started yet".to_owned()));
            }
            Arrived::Broken(id) => return refuse(&engine, id, arriving::lost()),
        }
    }
    // Nobody wants it any more.
    drop(prepared);
    Ok(())
}

/// Makes or finds the user namespace of the container to come. Nothing where that fails, of which the engine is told.
fn isolate(
    engine: &OwnedFd,
    id: u64,
    isolation: &Isolation,
    given: Option<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    let (reply, user, network) = match isolated(isolation, given) {
        Ok((user, network)) => (Reply::Done, Some(user), network),
        Err(error) => (Reply::Failed(Failure::from(&error)), None, None),
    };
    let descriptors: Vec<_> = network.iter().map(AsFd::as_fd).collect();
    protocol::send(engine.as_fd(), id, &Message::Reply(reply), &descriptors)?;
    Ok(user)
}

fn isolated(
    Isolation { owners, network }: &Isolation,
    given: Option<OwnedFd>,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let user = match given {
        Some(given) => given,
        None => userns::make(&map_text(&owners.uids), &map_text(&owners.gids))?,
    };
    let network = network.then(|| userns::make_network(user.as_fd())).transpose()?;
    Ok((user, network))
}

/// Prepares what the plan among `descriptors` says, in the user namespace `user` if there is one.
fn prepare(descriptors: Vec<OwnedFd>, user: Option<OwnedFd>) -> Result<Prepared> {
    let (plan, mut belongings) = open_plan(descriptors, user)?;
    let mut prepared = Prepared::new(&plan, &mut belongings)?;
    if let Err(error) = prepared.make_place(&plan) {
        // What fails now fails again at the start, where somebody hears of it.
        eprintln_log(&error.chain());
    }
    Ok(prepared)
}

fn open_plan(descriptors: Vec<OwnedFd>, user: Option<OwnedFd>) -> Result<(protocol::Plan, Belongings)> {
    let mut descriptors = descriptors.into_iter();
    let missing = || Error::Malformed("there is no plan beside the request".to_owned());
    let plan = protocol::read_plan(descriptors.next().ok_or_else(missing)?)?;
    let mut belongings = Belongings::sort(&plan.descriptors, descriptors.collect())?;
    belongings.joins.user = belongings.joins.user.or(user);
    Ok((plan, belongings))
}

fn start(
    (engine, id): (OwnedFd, u64),
    given: (Vec<OwnedFd>, Option<OwnedFd>),
    prepared: Option<Prepared>,
    limit: descriptors::Inherited,
) -> Result<()> {
    match begin(given, prepared, limit) {
        Ok(mut shim) => {
            let pid = shim.container.pid();
            protocol::send(engine.as_fd(), id, &Message::Reply(Reply::Started { pid }), &[])?;
            shim.connections.add(engine);
            shim.serve();
            Ok(())
        }
        Err(error) => refuse(&engine, id, error),
    }
}

/// Tells the engine why there is no container.
fn refuse(engine: &OwnedFd, id: u64, error: Error) -> Result<()> {
    let reply = Message::Reply(Reply::Failed(Failure::from(&error)));
    protocol::send(engine.as_fd(), id, &reply, &[])?;
    Err(error)
}

fn duplicate(error: std::io::Error) -> Error {
    Error::Protocol { action: "duplicate a descriptor", source: error }
}

fn begin(
    (descriptors, user): (Vec<OwnedFd>, Option<OwnedFd>),
    prepared: Option<Prepared>,
    limit: descriptors::Inherited,
) -> Result<Shim> {
    let (plan, mut belongings) = open_plan(descriptors, user)?;
    let prepared = prepared.map_or_else(|| Prepared::new(&plan, &mut belongings), Ok)?;
    let (connections, resolver, container, channel) = if plan.runtime.is_none() {
        let (place, connections, resolver) = prepared.settle(&plan)?;
        let (container, channel) = Container::start(plan, belongings, place, limit)?;
        (connections, resolver, container, channel)
    } else {
        let (joins, connections, resolver) = prepared.settle_elsewhere(&plan)?;
        let (container, channel) = Container::start_foreign(plan, belongings, &joins, limit)?;
        (connections, resolver, container, channel)
    };
    let pump = Pump::start(channel)
        .map_err(|source| Error::Protocol { action: "start the streams thread", source })?;
    let run = record::Run {
        shim: rustix::process::getpid().as_raw_nonzero().get(),
        pid: container.pid(),
        boot_id: container.plan().boot_id.clone(),
    };
    record::write_run(connections.directory(), &run)?;
    let phase = Phase::Running;
    let mut shim = Shim { container, resolver, relays: None, pump, connections, memory: None, phase };
    let relayed = shim.container.plan().relays.clone();
    if let Err(error) = shim.relay(&relayed) {
        // The container runs, and the rest of its ports work.
        eprintln_log(&error.chain());
    }
    Ok(shim)
}

/// How far the container's life has come.
#[derive(Debug)]
enum Phase {
    /// The first process runs.
    Running,
    /// It has ended; its last output is waited for.
    Draining { code: i32, until: Instant },
    /// The end is on record; attached sockets are still being served.
    Ended { exit: Exit, served: bool, acknowledged: bool },
}

struct Shim {
    container: Container,
    /// Answers the container's queries while its first process runs.
    resolver: Option<Resolver>,
    /// Passes on what the kernel does not translate, if there is any such port.
    relays: Option<Relays>,
    pump: Pump,
    connections: Connections,
    /// Tells when the container has no more memory, while its first process runs.
    memory: Option<OomWatch>,
    phase: Phase,
}

impl Shim {
    fn serve(&mut self) {
        // Not before the engine has its answer: the start does not wait for it.
        self.memory = self.container.group().watch_oom().unwrap_or_else(|error| {
            eprintln_log(&error.chain());
            None
        });
        while !self.is_over() {
            let ready = self.wait();
            // First, while the places are those that were polled: telling events drops broken connections.
            for index in ready.connections.into_iter().rev() {
                self.answer(index);
            }
            if ready.streams {
                self.take_notices();
            }
            for index in ready.execs.into_iter().rev() {
                self.exec_ended(index);
            }
            for index in ready.starting.into_iter().rev() {
                self.exec_started(index);
            }
            // Before the exit that it may be the reason of.
            if ready.memory && self.memory.as_mut().is_some_and(OomWatch::take) {
                self.connections.tell(&Event::OutOfMemory);
            }
            // Also when nothing is ready: servers that take too long are given up.
            self.resolve();
            self.pass_on();
            if let Err(error) = self.container.kill_late() {
                eprintln_log(&error.chain());
            }
            if ready.first_process {
                self.first_process_ended();
            }
            if ready.listener {
                self.connections.accept();
            }
            self.finish_if_drained();
        }
        self.container.clean_up();
    }

    /// The shim ends when the end is on record and told: at once if nobody is there to be told.
    fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Ended { served, acknowledged, .. } => {
                *served && (*acknowledged || self.connections.is_empty())
            }
            _ => false,
        }
    }

    fn wait(&self) -> Ready {
        let mut polled = vec![
            PollFd::from_borrowed_fd(self.pump.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.connections.listener(), PollFlags::IN),
        ];
        let running = matches!(self.phase, Phase::Running);
        if running {
            polled.push(PollFd::from_borrowed_fd(self.container.pidfd(), PollFlags::IN));
        }
        let execs = polled.len();
        polled.extend(self.container.execs().iter().map(|e| PollFd::new(&e.child.pidfd, PollFlags::IN)));
        let starting = polled.len();
        let calls = self.container.starting().iter();
        polled.extend(calls.map(|starting| PollFd::from_borrowed_fd(starting.as_fd(), PollFlags::IN)));
        let connections = polled.len();
        polled.extend(self.connections.iter().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
        polled.extend(self.resolver.iter().map(|r| PollFd::from_borrowed_fd(r.as_fd(), PollFlags::IN)));
        let names = connections + self.connections.iter().count();
        polled.extend(self.relays.iter().map(|r| PollFd::from_borrowed_fd(r.as_fd(), PollFlags::IN)));
        let memory = polled.len();
        polled.extend(self.memory.iter().map(|memory| PollFd::new(memory, memory.flags())));
        let timeout = self.timeout();
        if poll(&mut polled, timeout.as_ref()).is_err() {
            return Ready::default();
        }
        let happened = |index: usize| !polled[index].revents().is_empty();
        let now = Instant::now();
        let is_late = |index: usize| self.container.starting()[index].until() <= now;
        Ready {
            streams: happened(0),
            listener: happened(1),
            first_process: running && happened(2),
            memory: self.memory.is_some() && happened(memory),
            execs: (execs..starting).filter(|i| happened(*i)).map(|i| i - execs).collect(),
            starting: (starting..connections)
                .map(|i| (i - starting, happened(i)))
                .filter(|(index, happened)| *happened || is_late(*index))
                .map(|(index, _)| index)
                .collect(),
            connections: (connections..names).filter(|i| happened(*i)).map(|i| i - connections).collect(),
        }
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self) -> Option<Timespec> {
        let drained = match &self.phase {
            Phase::Draining { until, .. } => Some(until.saturating_duration_since(Instant::now())),
            _ => None,
        };
        let names = self.resolver.as_ref().and_then(Resolver::next_timeout);
        let late = self.container.next_end().map(|end| end.saturating_duration_since(Instant::now()));
        let relays = self.relays.as_ref().and_then(Relays::next_timeout);
        let shortest = drained.into_iter().chain(names).chain(relays).chain(late).min()?;
        Some(Timespec::try_from(shortest).unwrap_or_default())
    }

    fn resolve(&mut self) {
        let Some(resolver) = &mut self.resolver else { return };
        if let Err(error) = resolver.run_ready() {
            // It would fail again at once, for ever; the container's queries time out from now on.
            eprintln_log(&error.chain());
            self.withdraw_names();
        }
    }

    /// Passes on what arrives at these ports, whose sockets are held, from now on.
    fn relay(&mut self, relayed: &[RelayedPort]) -> Result<()> {
        // Where nobody is any more, somebody else may be soon.
        if relayed.is_empty() || !matches!(self.phase, Phase::Running) {
            return Ok(());
        }
        let relays = match &mut self.relays {
            Some(relays) => relays,
            none => none.insert(Relays::new()?),
        };
        let further: Vec<_> = relayed.iter().filter(|relayed| !relays.lead(relayed)).copied().collect();
        let taken = self.container.take_relayed(&further);
        taken.into_iter().try_for_each(|(relayed, socket)| relays.add(relayed, socket))
    }

    fn pass_on(&mut self) {
        let Some(relays) = &mut self.relays else { return };
        if let Err(error) = relays.run_ready() {
            // It would fail again at once, for ever; what is relayed ends here.
            eprintln_log(&error.chain());
            self.relays = None;
        }
    }

    /// Ends the resolver, after the container's names are out of all tables.
    fn withdraw_names(&mut self) {
        if let Some(resolver) = self.resolver.take()
            && let Err(error) = resolver.withdraw()
        {
            eprintln_log(&error.chain());
        }
    }

    fn take_notices(&mut self) {
        for notice in self.pump.notices() {
            match notice {
                Notice::Ended(None) => {
                    if let Phase::Draining { until, .. } = &mut self.phase {
                        *until = Instant::now();
                    } else {
                        self.container.output_ended();
                    }
                }
                Notice::Ended(Some(_)) => {}
                Notice::LogFailed(reason) => {
                    eprintln_log(&format!("output is missing from the log: {reason}"));
                }
                Notice::Finished => {
                    if let Phase::Ended { served, .. } = &mut self.phase {
                        *served = true;
                    }
                }
            }
        }
    }

    fn exec_ended(&mut self, index: usize) {
        let (exec, code) = self.container.reap_exec(index);
        self.connections.tell(&Event::ExecExited { exec, code });
    }

    fn exec_started(&mut self, index: usize) {
        if let Some(channel) = self.container.exec_started(index) {
            self.pump.add(channel);
        }
    }

    fn first_process_ended(&mut self) {
        let code = self.container.reap();
        // What is killed from here on is killed by its end.
        self.memory = None;
        self.withdraw_names();
        if let Some(relays) = &mut self.relays {
            relays.end();
        }
        let patience = if self.container.has_output() { LAST_OUTPUT } else { Duration::ZERO };
        self.phase = Phase::Draining { code, until: Instant::now() + patience };
    }

    fn finish_if_drained(&mut self) {
        let Phase::Draining { code, until } = self.phase else { return };
        if Instant::now() < until {
            return;
        }
        while !self.container.starting().is_empty() {
            // Nothing is there that they could start in.
            self.exec_started(0);
        }
        for (exec, code) in self.container.end_execs() {
            self.connections.tell(&Event::ExecExited { exec, code });
        }
        let at = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let exit = Exit { code, oom_killed: self.container.was_out_of_memory(), at };
        if let Err(error) = record::write_exit(self.connections.directory(), &exit) {
            eprintln_log(&error.chain());
        }
        self.connections.tell(&Event::Exited(exit.clone()));
        self.pump.quit();
        self.phase = Phase::Ended { exit, served: false, acknowledged: false };
    }

    fn answer(&mut self, index: usize) {
        let (id, answer) = match self.connections.receive(index) {
            Some(Arrived::Request(id, request, descriptors)) => {
                (id, requests::handle(self, (index, id), request, descriptors))
            }
            Some(Arrived::Broken(id)) => (id, Err(arriving::lost())),
            Some(Arrived::Part) | None => return,
        };
        let (reply, root) = match answer {
            Ok(Some((reply, root))) => (reply, root),
            Ok(None) => return,
            Err(error) => (Reply::Failed(Failure::from(&error)), None),
        };
        self.connections.reply(index, id, reply, root.as_ref());
    }
}

/// What became ready in a turn of the loop; indices into the lists as they were.
#[derive(Default)]
struct Ready {
    streams: bool,
    listener: bool,
    first_process: bool,
    memory: bool,
    execs: Vec<usize>,
    /// Execs whose runtime has ended, or is to.
    starting: Vec<usize>,
    connections: Vec<usize>,
}

/// The shim's own log: its error output, which the engine made a bounded file.
#[expect(clippy::print_stderr, reason = "this is the shim's log")]
fn eprintln_log(text: &str) {
    eprintln!("coracle-runtime shim: {text}");
}
