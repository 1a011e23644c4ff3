//! The container that a shim is the parent of: its processes, its root, its cgroup.

use super::channel::{Channel, Input, Output};
use super::descriptors::Inherited;
use super::names::Resolver;
use crate::cgroup::{Entry, Group};
use crate::channel::set_nonblocking;
use crate::error::{Error, Result};
use crate::protocol::{Execution, Overlay, Plan, Role, Stdin};
use crate::sandbox::{self, FirstProcess, Joining, Joins, Sandbox, Started, Streams, users};
use coracle_logfile::{Limits, Stream, Writer};
use coracle_spec::runtime::{Linux, Process, Spec, User};
use coracle_sys::mount::{self, Durability, Writable};
use coracle_sys::process::{Child, reap};
use coracle_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An exec that runs.
pub(super) struct Exec {
    pub(super) id: String,
    pub(super) child: Child,
    pub(super) terminal: Option<OwnedFd>,
}

pub(super) struct Container {
    plan: Plan,
    /// Absent once the container has ended and the engine knows.
    root: Option<Root>,
    group: Group,
    /// The way into the group, which stays open for execs.
    entry: Entry,
    child: Child,
    terminal: Option<OwnedFd>,
    execs: Vec<Exec>,
    has_output: bool,
    limit: Inherited,
    /// Reserved ports and the like: open as long as the container runs.
    _held: Vec<OwnedFd>,
}

/// The descriptors that came with a plan, by what they are.
#[derive(Default)]
struct Belongings {
    joins: Joins,
    attached: Vec<OwnedFd>,
    held: Vec<OwnedFd>,
    datagrams: Option<OwnedFd>,
    listener: Option<OwnedFd>,
}

/// A container that was started.
pub(super) struct Begun {
    pub(super) container: Container,
    /// Its streams.
    pub(super) channel: Channel,
    /// What answers its queries.
    pub(super) resolver: Option<Resolver>,
}

impl Container {
    /// Starts the container of `plan`; `limit` is the one that its processes get.
    pub(super) fn start(mut plan: Plan, descriptors: Vec<OwnedFd>, limit: Inherited) -> Result<Begun> {
        let mut belongings = sort(&plan.descriptors, descriptors)?;
        let (datagrams, listener) = (belongings.datagrams.take(), belongings.listener.take());
        let resolver = Resolver::new(plan.names.as_ref(), datagrams, listener)?;
        let root = Root::from_fd(overlay(&plan.root)?)?;
        if let Some(process) = &mut plan.spec.process {
            apply_user(process, &root, &plan.user, &plan.groups)?;
            give_devices(&mut plan.spec.linux, &process.user);
        }
        plan.spec.process.iter_mut().for_each(|process| limit.give_to(process));
        let group = make_group(&plan.spec, &plan)?;
        let entry_and_started = group.entry().and_then(|entry| {
            let started = start_in(&plan, &root, (&group, &entry), &belongings.joins)?;
            Ok((entry, started))
        });
        let (entry, (started, pipes)) = entry_and_started.inspect_err(|_| {
            // The reason of the failure matters more than a directory that is left for the engine to remove.
            let _ = group.remove();
        })?;
        let mut channel = channel_of(None, &started, pipes)?.with_log(open_log(&plan)?, plan.stdin);
        for (socket, attachment) in belongings.attached.into_iter().zip(&plan.attachments) {
            channel.attach(socket, *attachment);
        }
        let container = Self {
            plan,
            root: Some(root),
            group,
            entry,
            child: started.child,
            terminal: started.terminal,
            execs: Vec::new(),
            has_output: true,
            limit,
            _held: belongings.held,
        };
        Ok(Begun { container, channel, resolver })
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

    /// Lets go of the layers.
    pub(super) fn release_root(&mut self) {
        self.root = None;
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

    pub(super) fn was_out_of_memory(&self) -> bool {
        self.group.oom_kills() > 0
    }

    /// Starts an exec. Returns its streams and its process id.
    pub(super) fn exec(&mut self, execution: Execution) -> Result<(Channel, i32)> {
        let mut process = execution.process;
        let ended = || Error::Child("the container has ended".to_owned());
        let root = self.root.as_ref().ok_or_else(ended)?;
        apply_user(&mut process, root, &execution.user, &[])?;
        self.limit.give_to(&mut process);
        let seccomp = self.plan.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let filter = seccomp.filter(|_| !execution.privileged);
        let (streams, pipes) = streams_of(&process, execution.attachment.stdin)?;
        let joining = Joining { target: self.pidfd(), entry: &self.entry, process: &process, filter };
        let started = sandbox::join(&joining, streams)?;
        let channel = channel_of(Some(execution.id.clone()), &started, pipes)?;
        let pid = started.child.pid.as_raw_nonzero().get();
        self.execs.push(Exec { id: execution.id, child: started.child, terminal: started.terminal });
        Ok((channel, pid))
    }

    /// Removes what the kernel does not remove by itself.
    pub(super) fn clean_up(&self) {
        if let Err(error) = self.group.remove() {
            super::eprintln_log(&error.chain());
        }
    }
}

fn sort(roles: &[Role], descriptors: Vec<OwnedFd>) -> Result<Belongings> {
    if roles.len() != descriptors.len() {
        let text = format!("{} descriptors for {} roles", descriptors.len(), roles.len());
        return Err(Error::Malformed(text));
    }
    let mut sorted = Belongings::default();
    for (role, descriptor) in roles.iter().zip(descriptors) {
        match role {
            Role::Network => sorted.joins.network = Some(descriptor),
            Role::Pid => sorted.joins.pid = Some(descriptor),
            Role::Ipc => sorted.joins.ipc = Some(descriptor),
            Role::Uts => sorted.joins.uts = Some(descriptor),
            Role::Attached => sorted.attached.push(descriptor),
            Role::Held => sorted.held.push(descriptor),
            Role::NamesUdp => sorted.datagrams = Some(descriptor),
            Role::NamesTcp => sorted.listener = Some(descriptor),
        }
    }
    Ok(sorted)
}

fn overlay(layers: &Overlay) -> Result<OwnedFd> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Error::Invalid(format!("layer {}: {error}", path.display())))
    };
    let lower = layers.lower.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let (upper, work) = (open(&layers.upper)?, open(&layers.work)?);
    let durability = if layers.volatile { Durability::Volatile } else { Durability::Durable };
    Ok(mount::overlay(&lower, Some(Writable { upper: upper.as_fd(), work: work.as_fd(), durability }))?)
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

/// Devices of which nothing is said belong to the container's user, as the Container Device Interface has it.
fn give_devices(linux: &mut Option<Linux>, user: &User) {
    for device in linux.iter_mut().flat_map(|linux| &mut linux.devices) {
        device.uid.get_or_insert(user.uid);
        device.gid.get_or_insert(user.gid);
    }
}

fn make_group(spec: &Spec, plan: &Plan) -> Result<Group> {
    let linux = spec.linux.as_ref();
    let path = linux.map(|linux| linux.cgroups_path.as_str()).filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| Error::Invalid("the configuration names no cgroup".to_owned()))?;
    let group = Group::create(&plan.cgroups, Path::new(path))?;
    if let Some(resources) = linux.and_then(|linux| linux.resources.as_ref()) {
        group.apply(resources).inspect_err(|_| {
            // As above: the refused limit is what the caller must hear of.
            let _ = group.remove();
        })?;
    }
    Ok(group)
}

fn start_in(
    plan: &Plan,
    root: &Root,
    (group, entry): (&Group, &Entry),
    joins: &Joins,
) -> Result<(Started, Pipes)> {
    let process = plan.spec.process.clone().unwrap_or_default();
    let (streams, pipes) = streams_of(&process, plan.stdin != Stdin::Closed)?;
    let first = if plan.init { FirstProcess::Reaper } else { FirstProcess::Program };
    let sandbox = Sandbox { spec: &plan.spec, root, group, entry, joins, first };
    Ok((sandbox::start(&sandbox, streams)?, pipes))
}

/// Our ends of a process's streams, unless it has a terminal.
type Pipes = Option<(Vec<Output>, Option<Input>)>;

fn streams_of(process: &Process, has_input: bool) -> Result<(Streams, Pipes)> {
    if process.terminal {
        return Ok((Streams::Terminal(process.console_size), None));
    }
    let failed = |error: rustix::io::Errno| Error::Protocol { action: "make pipes", source: error.into() };
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed);
    let (our_output, stdout) = pipe()?;
    let (our_error, stderr) = pipe()?;
    set_nonblocking(&our_output)?;
    set_nonblocking(&our_error)?;
    let outputs = vec![
        Output { descriptor: our_output, stream: Stream::Stdout },
        Output { descriptor: our_error, stream: Stream::Stderr },
    ];
    if !has_input {
        let stdin =
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        return Ok((Streams::Separate { stdin, stdout, stderr }, Some((outputs, None))));
    }
    let (stdin, our_input) = pipe()?;
    set_nonblocking(&our_input)?;
    Ok((Streams::Separate { stdin, stdout, stderr }, Some((outputs, Some(Input::new(our_input))))))
}

fn channel_of(name: Option<String>, started: &Started, pipes: Pipes) -> Result<Channel> {
    match (pipes, &started.terminal) {
        (Some((outputs, input)), _) => Ok(Channel::new(name, outputs, input, true)),
        (None, Some(terminal)) => {
            set_nonblocking(terminal)?;
            let copy = || terminal.try_clone().map_err(super::duplicate);
            let output = Output { descriptor: copy()?, stream: Stream::Stdout };
            Ok(Channel::new(name, vec![output], Some(Input::new(copy()?)), false))
        }
        (None, None) => Err(Error::Child("the process has handed over no terminal".to_owned())),
    }
}

fn open_log(plan: &Plan) -> Result<Option<Writer>> {
    plan.log
        .as_ref()
        .map(|log| Writer::open(&log.path, Limits { size: log.max_size, files: log.max_files }))
        .transpose()
        .map_err(|error| Error::Invalid(error.to_string()))
}
