//! The sandbox: a container's first process, and those that join it later.
//!
//! ```text
//! prepare():          plan ── everything that can be refused is refused here
//!                       │ clone3 with all namespaces, born into the cgroup
//!                       └── child:  cgroup → namespaces → file systems of the kernel → waits
//! Prepared::start():  what runs, the root, the streams ──► child
//!                       ├── parent: waits for the report, gets the terminal
//!                       └── child:  root and mounts → protect → pivot → identity → exec
//! join():   fork ── child: cgroup → setns by pidfd → clone3 as a sibling → identity → exec
//! ```
//!
//! A container with a user namespace has one process more between clone and child: [`remapped`].
//!
//! [`prepare`] needs a caller with one thread. [`join`] does not: it forks through the C library first.

mod capability;
mod cgroupfs;
mod device;
mod filesystem;
mod given;
mod ground;
mod identity;
mod init;
mod join;
mod options;
mod plan;
mod program;
mod protection;
mod remapped;
mod report;
mod rest;
mod terminal;
pub mod users;

pub use capability::NAMES as CAPABILITY_NAMES;
pub use given::Given;
pub use ground::Ground;
pub use init::reap_for;
pub use join::{Joining, join};
pub(crate) use terminal::resize;

use crate::cgroup::{Entry, Group};
use crate::channel;
use crate::error::{Error, Result};
use coracle_spec::runtime::{ConsoleSize, Mount, Namespace, NamespaceKind, Spec};
use coracle_sys::mount::{self, Attributes};
use coracle_sys::process::{Child, Clone, Cloned, Namespaces, clone, close_all_but, exit_now, unshare};
use coracle_sys::rooted::Root;
use coracle_sys::signal;
use plan::{Plan, PlannedMount, Program};
use rest::{Received, Rest};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Namespaces of others that a container joins.
#[derive(Debug, Default)]
pub struct Joins {
    /// The user namespace that all others of the container belong to.
    pub user: Option<OwnedFd>,
    /// The network namespace.
    pub network: Option<OwnedFd>,
    /// The ipc namespace.
    pub ipc: Option<OwnedFd>,
    /// The uts namespace.
    pub uts: Option<OwnedFd>,
    /// The pid namespace.
    pub pid: Option<OwnedFd>,
}

/// The standard streams of a process.
#[derive(Debug)]
pub enum Streams {
    /// Three descriptors.
    Separate {
        /// Read by the process.
        stdin: OwnedFd,
        /// Written by the process.
        stdout: OwnedFd,
        /// Written by the process.
        stderr: OwnedFd,
    },
    /// A pseudoterminal of the container's own.
    Terminal(Option<ConsoleSize>),
}

/// What a container's first process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FirstProcess {
    /// The program of the configuration.
    Program,
    /// A reaper, whose only child is the program.
    Reaper,
}

/// A process that was started.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub child: Child,
    /// The master side of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// What a container is started with, on a ground that fits it.
#[derive(Debug)]
pub struct Start<'a> {
    /// The configuration, its user resolved.
    pub spec: &'a Spec,
    /// The root: a detached mount.
    pub root: &'a Root,
    /// What the first process is.
    pub first: FirstProcess,
    /// What mounts show that no path names.
    pub given: Given,
    /// The container's user namespace, if it has one.
    pub user: Option<BorrowedFd<'a>>,
}

/// A sandbox that nothing runs in yet: its first process waits for what it is to become, and ends with this value or
/// with the caller.
#[derive(Debug)]
pub struct Prepared {
    child: Child,
    channel: OwnedFd,
}

/// Prepares a sandbox in `group`, whose way in is `entry`. The caller must have one thread.
///
/// # Errors
/// [`Error::Invalid`] for the configuration. What fails inside is told by [`Prepared::start`].
pub fn prepare(ground: &Ground, (group, entry): (&Group, &Entry), joins: &Joins) -> Result<Prepared> {
    let plan = Plan::new(ground)?;
    require(&plan.linux.namespaces, joins)?;
    let (ours, theirs) = channel::pair()?;
    if let Some(user) = &joins.user {
        return remapped::prepare(plan, (group, entry), joins, user.as_fd(), (ours, theirs));
    }
    let own = joins.pid.as_ref().map(enter_for_children).transpose()?;
    // The cgroup namespace is made after the process has moved, or its root would be wrong.
    let how = Clone {
        namespaces: Some(plan.namespaces - Namespaces::NEWCGROUP),
        cgroup: entry.birth.as_ref().map(AsFd::as_fd),
        sibling: false,
    };
    match clone(how)? {
        Cloned::Child => {
            // The parent's end: the end of the parent would not be seen otherwise.
            drop(ours);
            become_first(Ok(&plan), (group, entry), joins, theirs.as_fd())
        }
        Cloned::Parent(child) => {
            let prepared = Prepared { child, channel: ours };
            // A process whose children belong elsewhere cannot have threads, clone(2).
            let back = own.map_or(Ok(()), |own| enter(&own, LinkNameSpaceType::ProcessID));
            match back {
                Ok(()) => Ok(prepared),
                Err(error) => {
                    prepared.dismiss();
                    Err(error)
                }
            }
        }
    }
}

/// Has children of this process begin in another pid namespace. Returns the one where they began before.
fn enter_for_children(pid: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own =
        rustix::fs::open("/proc/self/ns/pid", flags, Mode::empty()).map_err(failed("open a namespace"))?;
    enter(pid, LinkNameSpaceType::ProcessID)?;
    Ok(own)
}

impl Start<'_> {
    /// Checks a mount, and opens what it shows.
    fn open(&self, mount: &Mount) -> Result<PlannedMount> {
        let planned = self.given.open(mount)?;
        planned.map_owners(self.user)?;
        Ok(planned)
    }
}

impl Prepared {
    /// Starts a container whose configuration the sandbox was prepared for.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::NotExecutable`] for the program, [`Error::Invalid`] for the configuration,
    /// [`Error::Child`] for a step that failed inside. The first process is gone in each case.
    pub fn start(self, start: &Start<'_>, streams: Streams) -> Result<Started> {
        let sent = self.send(start, &streams);
        drop(streams);
        let Self { child, channel } = self;
        let outcome = match sent {
            Ok(()) => report::outcome(&channel),
            // A first process that has failed before does not listen, and has said why unless it was killed.
            Err(error @ Error::Protocol { .. }) => {
                report::outcome(&channel).map(|(outcome, failure)| (outcome, failure.or(Some(error))))
            }
            Err(error) => Err(error),
        };
        drop(channel);
        match outcome {
            Ok((outcome, None)) => Ok(Started { child, terminal: outcome.terminal }),
            Ok((_, Some(error))) | Err(error) => {
                coracle_sys::process::reap(child.pidfd.as_fd())?;
                Err(error)
            }
        }
    }

    fn send(&self, start: &Start<'_>, streams: &Streams) -> Result<()> {
        let missing = || Error::Invalid("the configuration names no process".to_owned());
        let process = start.spec.process.as_ref().ok_or_else(missing)?;
        // Refused here rather than inside.
        Program::new(process)?;
        if start.user.is_some() {
            identity::allow(Some(self.child.pid), &process.rlimits)?;
        }
        let mounts = Ground::left_of(start.spec);
        let planned = mounts.iter().map(|mount| start.open(mount)).collect::<Result<Vec<_>>>()?;
        let readonly_root = start.spec.root.as_ref().is_some_and(|root| root.readonly);
        Rest::new(process, mounts, readonly_root, start.first).send(
            self.channel.as_fd(),
            start.root,
            streams,
            &planned,
        )
    }

    /// Ends the first process.
    pub fn dismiss(self) {
        drop(self.channel);
        // It ends of itself; the group is empty once it is collected.
        let _ = coracle_sys::process::reap(self.child.pidfd.as_fd());
    }
}

/// Becomes the first process, if the way there has led so far.
fn become_first(plan: Result<&Plan>, place: (&Group, &Entry), joins: &Joins, channel: BorrowedFd<'_>) -> ! {
    match plan.and_then(|plan| become_container(plan, place, joins, channel)) {
        // Nobody wants it any more.
        Ok(None) => exit_now(0),
        Err(error) => {
            report::fail(channel, &error);
            exit_now(1);
        }
    }
}

/// The steps of the first process, in order. Each may assume that the ones before it have happened. Returns when it is
/// not wanted.
fn become_container(
    plan: &Plan,
    (group, entry): (&Group, &Entry),
    joins: &Joins,
    channel: BorrowedFd<'_>,
) -> Result<Option<Infallible>> {
    prepare_process(entry)?;
    join_namespaces(joins)?;
    if plan.owns(Namespaces::NEWCGROUP) {
        unshare(Namespaces::NEWCGROUP)?;
    }
    name_host(plan)?;
    // Never dropped, as all descriptors are closed before the program is found, or not.
    let assembled = Box::leak(Box::new(filesystem::lay(plan, group)?));
    protection::protect(&plan.early, assembled)?;
    // Nothing is executed until it is right for the program; what this process may do itself is not changed.
    plan.bounding.bound()?;
    let Some(Received { rest, root, streams, mounts }) = rest::receive(channel)? else { return Ok(None) };
    let program = Program::new(&rest.process)?;
    // Before anything of the container's own can come to lie on the way to one.
    if let Some(devices) = assembled.devices {
        device::give(devices, &plan.linux.devices, &program.process.user)?;
    }
    filesystem::settle(plan, root, mounts.leak(), group, assembled)?;
    let stdio = terminal::streams(streams, assembled, channel)?;
    protection::protect(&plan.late, assembled)?;
    if rest.readonly_root {
        protection::protect_root(&assembled.root)?;
    }
    // The ground is between the two.
    mount::pivot(assembled.root.as_fd(), 1)?;
    stdio.install(&program.process)?;
    close_all_but(channel)?;
    identity::assume(&program, plan.filter.as_ref())?;
    if rest.first == FirstProcess::Reaper {
        init::leave_to_reaper()?;
    }
    start_program(&program).map(Some)
}

/// What every process does first: nobody inside may look at it, it dies with its parent, it is in its cgroup.
fn prepare_process(entry: &Entry) -> Result<()> {
    use rustix::process::{set_dumpable_behavior, setsid};
    // CVE-2016-9962: a process of the container must not read or trace one that still holds host descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("become unreadable"))?;
    signal::reset_all();
    // What is made on the way has the modes that it is given; the program's own mask is set with its identity.
    rustix::process::umask(Mode::empty());
    entry.enter()?;
    setsid().map_err(failed("start a session"))?;
    Ok(())
}

/// The last step: become the program.
fn start_program(program: &Program) -> Result<Infallible> {
    // Changing the user has cleared it, so it is set last.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("follow the parent"))?;
    program::run(&program.arguments, &program.environment)
}

/// Fails when a namespace is to be joined and is not there: the container would be in the host's.
fn require(wanted: &[Namespace], joins: &Joins) -> Result<()> {
    for namespace in wanted.iter().filter(|namespace| !namespace.path.is_empty()) {
        let joined = match namespace.kind {
            NamespaceKind::Network => &joins.network,
            NamespaceKind::Ipc => &joins.ipc,
            NamespaceKind::Uts => &joins.uts,
            NamespaceKind::Pid => &joins.pid,
            NamespaceKind::User => &joins.user,
            other => return Err(Error::Invalid(format!("a {other:?} namespace cannot be joined yet"))),
        };
        if joined.is_none() {
            let kind = namespace.kind;
            return Err(Error::Invalid(format!("the {kind:?} namespace to join did not come with the plan")));
        }
    }
    Ok(())
}

fn join_namespaces(joins: &Joins) -> Result<()> {
    let pairs = [
        (&joins.network, LinkNameSpaceType::Network),
        (&joins.ipc, LinkNameSpaceType::InterProcessCommunication),
        (&joins.uts, LinkNameSpaceType::HostNameAndNISDomainName),
    ];
    pairs
        .into_iter()
        .filter_map(|(fd, kind)| Some((fd.as_ref()?, kind)))
        .try_for_each(|(fd, kind)| enter(fd, kind))
}

fn enter(namespace: &OwnedFd, kind: LinkNameSpaceType) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(kind)).map_err(failed("join a namespace"))
}

/// A mount of procfs that the container cannot reach, for the process's own writes (CVE-2025-52881).
fn private_procfs() -> Result<Root> {
    let attributes =
        Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC;
    Ok(Root::from_fd(mount::make("proc", &[], attributes)?)?)
}

fn name_host(plan: &Plan) -> Result<()> {
    if !plan.owns(Namespaces::NEWUTS) {
        return Ok(());
    }
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes()).map_err(failed("set the host name"))?;
    }
    if !plan.domainname.is_empty() {
        rustix::system::setdomainname(plan.domainname.as_bytes()).map_err(failed("set the domain name"))?;
    }
    Ok(())
}

fn failed(action: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
    move |error| Error::Child(format!("cannot {action}: {error}"))
}
