//! The container that a shim is the parent of: its processes, its root, its cgroup.

use super::channel::Channel;
use super::descendants;
use super::descriptors::Inherited;
use super::ending::end;
use super::foreign::{self, Asker, Foreign, Starting, Wanted};
use super::prepared::Place;
use super::streams::{self, Pipes, channel_of};
use crate::cgroup::{Entry, Frozen, Group};
use crate::error::{Error, Result};
use crate::protocol::{Execution, HeldPort, Overlay, Plan, RelayedPort, Role};
use crate::sandbox::{self, FirstProcess, Given, Joining, Joins, Start, Started, Streams, users};
use coracle_logfile::{Limits, Writer};
use coracle_spec::Owners;
use coracle_spec::runtime::{Process, User};
use coracle_sys::mount;
use coracle_sys::process::{Child, reap, send_signal};
use coracle_sys::quota::RoomToMount;
use coracle_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use rustix::net::{getsockname, sockopt};
use rustix::process::{Pid, Signal};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The exit code of what SIGKILL has ended.
const KILLED: i32 = 128 + Signal::KILL.as_raw();

/// Who makes the container's processes.
pub(super) enum Maker {
    /// The shim. The way into the group stays open for execs.
    Shim(Entry),
    /// Another runtime.
    Foreign(Box<Foreign>),
    /// The container has ended.
    Nobody,
}

/// A container that was just started.
pub(super) struct Made {
    pub(super) maker: Maker,
    pub(super) started: Started,
    pub(super) root: Root,
    pub(super) group: Group,
    pub(super) log: Option<Writer>,
    pub(super) pipes: Pipes,
}

/// An exec that runs.
pub(super) struct Exec {
    pub(super) id: String,
    pub(super) child: Child,
    pub(super) terminal: Option<OwnedFd>,
    /// When it is killed.
    until: Option<Instant>,
}

pub(super) struct Container {
    plan: Plan,
    /// Absent once the container has ended and the engine knows.
    root: Option<Root>,
    group: Group,
    maker: Maker,
    child: Child,
    terminal: Option<OwnedFd>,
    execs: Vec<Exec>,
    /// Execs that another runtime is starting.
    starting: Vec<Starting>,
    has_output: bool,
    limit: Inherited,
    /// Reserved ports: open as long as they are the container's.
    held: Vec<OwnedFd>,
    /// Mount namespaces of volumes.
    volumes: Vec<OwnedFd>,
    /// Whether nothing of it is left.
    is_clean: bool,
}

/// The descriptors that came with a plan, by what they are.
#[derive(Default)]
pub(super) struct Belongings {
    pub(super) joins: Joins,
    pub(super) datagrams: Option<OwnedFd>,
    pub(super) listener: Option<OwnedFd>,
    pub(super) given: Given,
    attached: Vec<OwnedFd>,
    held: Vec<OwnedFd>,
    volumes: Vec<OwnedFd>,
}

impl Belongings {
    /// Sorts `descriptors`, one for each of `roles`.
    pub(super) fn sort(roles: &[Role], descriptors: Vec<OwnedFd>) -> Result<Self> {
        if roles.len() != descriptors.len() {
            let text = format!("{} descriptors for {} roles", descriptors.len(), roles.len());
            return Err(Error::Malformed(text));
        }
        let mut sorted = Self::default();
        for (role, descriptor) in roles.iter().zip(descriptors) {
            match role {
                Role::Network => sorted.joins.network = Some(descriptor),
                Role::Pid => sorted.joins.pid = Some(descriptor),
                Role::Ipc => sorted.joins.ipc = Some(descriptor),
                Role::Uts => sorted.joins.uts = Some(descriptor),
                Role::SharedMemory => sorted.given.shared_memory = Some(descriptor),
                Role::Tree => sorted.given.trees.push(descriptor),
                Role::Volume => sorted.volumes.push(descriptor),
                Role::Attached => sorted.attached.push(descriptor),
                Role::Held => sorted.held.push(descriptor),
                Role::NamesUdp => sorted.datagrams = Some(descriptor),
                Role::NamesTcp => sorted.listener = Some(descriptor),
            }
        }
        Ok(sorted)
    }
}

impl Container {
    /// Starts the container of `plan` in the place that was made for it; `limit` is the one that its processes get.
    /// Nothing of it stays on failure.
    pub(super) fn start(
        mut plan: Plan,
        mut belongings: Belongings,
        place: Place,
        limit: Inherited,
    ) -> Result<(Self, Channel)> {
        let Place { overlay, group, entry, streams: (streams, pipes), sandbox, user, .. } = place;
        let outside = Outside { limit, given: std::mem::take(&mut belongings.given), user };
        let started = start_in(&mut plan, overlay, sandbox, (streams, outside));
        let (root, log, started) = started.inspect_err(|_| {
            // The reason of the failure matters more than a directory that is left for the engine to remove.
            let _ = group.remove();
        })?;
        let made = Made { maker: Maker::Shim(entry), started, root, group, log, pipes };
        Self::new(plan, belongings, made, limit)
    }

    /// The same by the runtime that the plan names.
    pub(super) fn start_foreign(
        mut plan: Plan,
        belongings: Belongings,
        joins: &Joins,
        limit: Inherited,
    ) -> Result<(Self, Channel)> {
        let made = foreign::start(&mut plan, &belongings.given, joins, limit)?;
        Self::new(plan, belongings, made, limit)
    }

    fn new(plan: Plan, belongings: Belongings, made: Made, limit: Inherited) -> Result<(Self, Channel)> {
        let Made { maker, started, root, group, log, pipes } = made;
        let mut channel = channel_of(None, &started, pipes)?.with_log(log, plan.stdin);
        for (socket, attachment) in belongings.attached.into_iter().zip(&plan.attachments) {
            channel.attach(socket, *attachment);
        }
        let container = Self {
            plan,
            root: Some(root),
            group,
            maker,
            child: started.child,
            terminal: started.terminal,
            execs: Vec::new(),
            starting: Vec::new(),
            has_output: true,
            limit,
            held: belongings.held,
            volumes: belongings.volumes,
            is_clean: false,
        };
        Ok((container, channel))
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn pid(&self) -> i32 {
        self.child.pid.as_raw_nonzero().get()
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// The mount namespace of a volume.
    pub(super) fn volume(&self, number: usize) -> Option<&OwnedFd> {
        self.volumes.get(number)
    }

    /// Lets go of the layers and volumes, and of what else another runtime has made.
    fn release_root(&mut self) {
        self.root = None;
        self.volumes.clear();
        self.maker = Maker::Nobody;
    }

    pub(super) fn execs(&self) -> &[Exec] {
        &self.execs
    }

    /// The terminal of the container, or of an exec.
    pub(super) fn terminal(&self, exec: Option<&str>) -> Option<&OwnedFd> {
        match exec {
            None => self.terminal.as_ref(),
            Some(id) => self.execs.iter().find(|e| e.id == id)?.terminal.as_ref(),
        }
    }

    /// The process of the container, or of an exec.
    pub(super) fn process(&self, exec: Option<&str>) -> Option<BorrowedFd<'_>> {
        match exec {
            None => Some(self.pidfd()),
            Some(id) => Some(self.execs.iter().find(|e| e.id == id)?.child.pidfd.as_fd()),
        }
    }

    /// Gives all ports free.
    pub(super) fn release_ports(&mut self) {
        self.held.clear();
    }

    /// Holds these ports too, and gives others free.
    pub(super) fn hold(&mut self, more: Vec<OwnedFd>, release: &[HeldPort]) {
        self.held.retain(|socket| !port_of(socket).is_some_and(|port| release.contains(&port)));
        self.held.extend(more);
    }

    /// Takes out those of the sockets whose ports are to be relayed.
    pub(super) fn take_relayed(&mut self, relayed: &[RelayedPort]) -> Vec<(RelayedPort, OwnedFd)> {
        let by_port: HashMap<_, _> =
            relayed.iter().map(|relayed| ((relayed.port.protocol, relayed.port.address), relayed)).collect();
        let mut taken = Vec::new();
        for socket in std::mem::take(&mut self.held) {
            let port = port_of(&socket);
            match port.and_then(|port| by_port.get(&(port.protocol, port.address))) {
                Some(relayed) => taken.push((**relayed, socket)),
                None => self.held.push(socket),
            }
        }
        taken
    }

    pub(super) fn has_output(&self) -> bool {
        self.has_output
    }

    pub(super) fn output_ended(&mut self) {
        self.has_output = false;
    }

    /// Collects the first process, and ends what it leaves behind where pid namespaces do not.
    pub(super) fn reap(&self) -> i32 {
        let code = reap(self.pidfd()).unwrap_or(255);
        if let Err(error) = self.group.kill() {
            super::eprintln_log(&error.chain());
        }
        code
    }

    pub(super) fn reap_exec(&mut self, index: usize) -> (String, i32) {
        let exec = self.execs.remove(index);
        (exec.id, reap(exec.child.pidfd.as_fd()).unwrap_or(255))
    }

    /// Ends all execs, once the first process is gone. Returns which they were, and their exit codes.
    pub(super) fn end_execs(&mut self) -> Vec<(String, i32)> {
        if self.execs.is_empty() {
            return Vec::new();
        }
        // The kernel has killed those in the container's pid namespace. Of the others some may be frozen, which no signal ends on
        // v1, and some have come into the group after it was killed.
        for failure in [self.group.set_frozen(Frozen::Running), self.group.kill()].map(Result::err) {
            failure.iter().for_each(|error| super::eprintln_log(&error.chain()));
        }
        self.execs.drain(..).map(|exec| (exec.id, end(&exec.child).unwrap_or(KILLED))).collect()
    }

    pub(super) fn was_out_of_memory(&self) -> bool {
        self.group.oom_kills() > 0
    }

    /// Starts an exec, connected to `socket`. Returns its streams and its process id; nothing where another runtime starts it,
    /// and whoever asks hears of it later.
    pub(super) fn exec(
        &mut self,
        execution: Execution,
        socket: Option<OwnedFd>,
        asker: impl FnOnce() -> Result<Asker>,
    ) -> Result<Option<(Channel, i32)>> {
        let Execution { id, mut process, user, attachment, lifetime, privileged } = execution;
        let ended = || Error::Child("the container has ended".to_owned());
        let root = self.root.as_ref().ok_or_else(ended)?;
        apply_user(&mut process, root, &user, &self.plan.groups)?;
        let owners = self.plan.owners();
        require_somebody(&process.user, owners.as_ref())?;
        self.limit.give_to(&mut process);
        let (streams, pipes) = streams::of(&process, attachment.stdin, owners.as_ref())?;
        let attached = socket.map(|socket| (socket, attachment));
        let wanted = Wanted { id, pipes, attached, lifetime: lifetime.map(Duration::from_millis) };
        match &self.maker {
            Maker::Shim(entry) => {
                let seccomp = self.plan.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
                let filter = seccomp.filter(|_| !privileged);
                let is_remapped = owners.is_some();
                let joining = Joining { target: self.pidfd(), entry, process: &process, filter, is_remapped };
                let started = sandbox::join(&joining, streams)?;
                self.add_exec(wanted, started).map(Some)
            }
            Maker::Foreign(foreign) => {
                self.starting.push(foreign.exec(&process, streams, wanted, asker()?)?);
                Ok(None)
            }
            Maker::Nobody => Err(ended()),
        }
    }

    fn add_exec(&mut self, wanted: Wanted, started: Started) -> Result<(Channel, i32)> {
        let Wanted { id, pipes, attached, lifetime } = wanted;
        let mut channel = channel_of(Some(id.clone()), &started, pipes).inspect_err(|_| {
            // Nobody hears of it, and nobody else would end it.
            end(&started.child);
        })?;
        if let Some((socket, attachment)) = attached {
            channel.attach(socket, attachment);
        }
        let pid = started.child.pid.as_raw_nonzero().get();
        self.execs.push(Exec {
            id,
            child: started.child,
            terminal: started.terminal,
            until: lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime)),
        });
        Ok((channel, pid))
    }

    /// Execs that another runtime is starting.
    pub(super) fn starting(&self) -> &[Starting] {
        &self.starting
    }

    /// Children that somebody waits for.
    fn awaited(&self) -> Vec<Pid> {
        let execs = self.execs.iter().map(|exec| exec.child.pid);
        execs.chain(self.starting.iter().map(Starting::pid)).chain([self.child.pid]).collect()
    }

    /// Takes over an exec that another runtime has started, or has not, and answers who has asked for it. Returns its
    /// streams.
    pub(super) fn exec_started(&mut self, index: usize) -> Option<Channel> {
        let (asker, wanted, started) = self.starting.remove(index).take(&self.awaited());
        let added = started.and_then(|started| self.add_exec(wanted, started));
        foreign::collect(&self.awaited());
        let (channel, pid) = match added {
            Ok((channel, pid)) => (Some(channel), Ok(pid)),
            Err(error) => (None, Err(error)),
        };
        asker.answer(pid);
        channel
    }

    /// Kills what an exec has started. It is stopped, for its end to follow: otherwise it could see what it waits for end, and
    /// end by itself.
    pub(super) fn kill_started_by(&self, exec: &Exec) -> Result<()> {
        // One that has ended by now needs no stopping.
        let _ = send_signal(exec.child.pidfd.as_fd(), Signal::STOP.as_raw());
        descendants::kill(&self.group, exec.child.pid.as_raw_nonzero().get())
    }

    /// When the next exec has lived as long as it may.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let starting = self.starting.iter().map(Starting::until);
        self.execs.iter().filter_map(|exec| exec.until).chain(starting).min()
    }

    /// Kills execs that have lived as long as they may, with what they have started.
    pub(super) fn kill_late(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(index) =
            self.execs.iter().position(|exec| exec.until.is_some_and(|until| until <= now))
        {
            self.execs[index].until = None;
            let exec = &self.execs[index];
            self.kill_started_by(exec)?;
            send_signal(exec.child.pidfd.as_fd(), Signal::KILL.as_raw())?;
        }
        Ok(())
    }

    /// Removes what the kernel does not remove by itself, once: the next run of the container has a group of the same name.
    pub(super) fn clean_up(&mut self) {
        if std::mem::replace(&mut self.is_clean, true) {
            return;
        }
        self.release_root();
        if let Err(error) = self.group.remove() {
            super::eprintln_log(&error.chain());
        }
    }
}

/// The port that a socket holds.
fn port_of(socket: &OwnedFd) -> Option<HeldPort> {
    let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let protocol = sockopt::socket_protocol(socket).ok()??;
    Some(HeldPort { protocol: protocol.as_raw().get().try_into().ok()?, address })
}

/// Resolves the user inside the container and gives it a home, as Docker does. Groups that the configuration has are
/// numbers, whatever the container calls by them, and stay.
fn apply_user(process: &mut Process, root: &Root, user: &str, groups: &[String]) -> Result<()> {
    let resolved = users::resolve(root, user, groups)?;
    let given = std::mem::replace(&mut process.user, resolved.user).additional_gids;
    let groups = &mut process.user.additional_gids;
    groups.extend(given);
    let mut seen = BTreeSet::new();
    groups.retain(|group| seen.insert(*group));
    // As runc: none that is empty is a home.
    process.env.retain(|entry| entry != "HOME=");
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        process.env.push(format!("HOME={}", resolved.home));
    }
    // Capabilities in force belong to root alone; others find theirs in the bounding set (CVE-2016-8867).
    if process.user.uid != 0
        && let Some(capabilities) = &mut process.capabilities
    {
        capabilities.effective.clear();
        capabilities.permitted.clear();
        capabilities.ambient.clear();
    }
    Ok(())
}

/// Refuses who is nobody in the container's user namespace, if it has one.
fn require_somebody(user: &User, owners: Option<&Owners>) -> Result<()> {
    let Some(owners) = owners else { return Ok(()) };
    let groups = user.additional_gids.iter().chain([&user.gid]);
    match groups.map(|gid| (user.uid, *gid)).find(|owner| owners.outside(*owner).is_none()) {
        None => Ok(()),
        Some((uid, gid)) => Err(Error::Invalid(format!(
            "user {uid} with group {gid} is nobody in the container's user namespace: its users and groups are fewer"
        ))),
    }
}

/// What a container has from outside, besides its streams.
struct Outside {
    limit: Inherited,
    given: Given,
    user: Option<OwnedFd>,
}

/// Mounts the layers, and starts the container in them. The sandbox is gone on failure.
fn start_in(
    plan: &mut Plan,
    overlay: mount::Overlay,
    sandbox: sandbox::Prepared,
    (streams, Outside { limit, given, user }): (Streams, Outside),
) -> Result<(Root, Option<Writer>, Started)> {
    let (root, log) = match become_ready(plan, overlay, limit) {
        Ok(ready) => ready,
        Err(error) => {
            sandbox.dismiss();
            return Err(error);
        }
    };
    let first = if plan.init { FirstProcess::Reaper } else { FirstProcess::Program };
    let user = user.as_ref().map(AsFd::as_fd);
    let start = Start { spec: &plan.spec, root: &root, first, given, user };
    let started = sandbox.start(&start, streams)?;
    Ok((root, log, started))
}

/// Mounts the layers, finds in them what the plan leaves open, and opens the log: all that can fail before anything runs.
pub(super) fn become_ready(
    plan: &mut Plan,
    overlay: mount::Overlay,
    limit: Inherited,
) -> Result<(Root, Option<Writer>)> {
    let room = room_to_mount(&plan.root)?;
    let root = Root::of_mount(overlay.mount()?);
    drop(room);
    let owners = plan.owners();
    let process = plan.spec.process.get_or_insert_default();
    apply_user(process, &root, &plan.user, &plan.groups)?;
    require_somebody(&process.user, owners.as_ref())?;
    limit.give_to(process);
    Ok((root, open_log(plan)?))
}

/// Room for the mount itself, where a container may be full.
fn room_to_mount(layers: &Overlay) -> Result<Option<RoomToMount>> {
    if !layers.may_be_bounded {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let upper = rustix::fs::open(&layers.upper, flags, Mode::empty())
        .map_err(|error| Error::Child(format!("cannot open {}: {error}", layers.upper.display())))?;
    Ok(RoomToMount::of(upper)?)
}

fn open_log(plan: &Plan) -> Result<Option<Writer>> {
    plan.log
        .as_ref()
        .map(|log| {
            let limits = Limits { size: log.max_size, files: log.max_files };
            Writer::open(&log.path, limits).map(|writer| writer.marking(&log.attributes))
        })
        .transpose()
        .map_err(|error| Error::Invalid(error.to_string()))
}
