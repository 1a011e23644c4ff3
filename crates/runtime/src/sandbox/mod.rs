//! The sandbox: a container's first process, and those that join it later.
//!
//! ```text
//! start():  plan ── everything that can be refused is refused here
//!             │ clone3 with all namespaces, born into the cgroup
//!             ├── parent: waits for the report, gets the terminal
//!             └── child:  cgroup → namespaces → mounts → protect → pivot → identity → exec
//! join():   fork ── child: cgroup → setns by pidfd → clone3 as a sibling → identity → exec
//! ```
//!
//! [`start`] needs a caller with one thread. [`join`] does not: it forks through the C library first.

mod capability;
mod cgroupfs;
mod device;
mod filesystem;
mod identity;
mod init;
mod join;
mod options;
mod plan;
mod program;
mod protection;
mod report;
mod terminal;
pub mod users;

pub use capability::NAMES as CAPABILITY_NAMES;
pub use join::{Joining, join};
pub(crate) use terminal::resize;

use crate::cgroup::{Entry, Group};
use crate::channel;
use crate::error::{Error, Result};
use coracle_spec::runtime::{ConsoleSize, Spec};
use coracle_sys::mount::{self, Attributes};
use coracle_sys::process::{
    Child, Clone, Cloned, Namespaces, clone, close_all_but, exit_now, keep_until_exec, unshare,
};
use coracle_sys::rooted::Root;
use coracle_sys::signal;
use plan::Plan;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Namespaces of others that a container joins.
#[derive(Debug, Default)]
pub struct Joins {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What a sandbox is made of.
#[derive(Debug)]
pub struct Sandbox<'a> {
    /// The configuration.
    pub spec: &'a Spec,
    /// The root: a detached mount.
    pub root: &'a Root,
    /// The cgroup, made and limited.
    pub group: &'a Group,
    /// The way into it.
    pub entry: &'a Entry,
    /// Namespaces to join.
    pub joins: &'a Joins,
    /// What the first process is.
    pub first: FirstProcess,
}

/// Starts a container. The caller must have one thread.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::NotExecutable`] for the program, [`Error::Invalid`] for the configuration,
/// [`Error::Child`] for a step that failed inside. The first process is gone in each case.
pub fn start(sandbox: &Sandbox<'_>, streams: Streams) -> Result<Started> {
    let plan = Plan::new(sandbox.spec)?;
    let (ours, theirs) = channel::pair()?;
    if let Some(pid) = &sandbox.joins.pid {
        // Only children are affected, and all children of this process belong to this container.
        enter(pid, LinkNameSpaceType::ProcessID)?;
    }
    // The cgroup namespace is made after the process has moved, or its root would be wrong.
    let how = Clone {
        namespaces: Some(plan.namespaces - Namespaces::NEWCGROUP),
        cgroup: sandbox.entry.birth.as_ref().map(AsFd::as_fd),
        sibling: false,
    };
    match clone(how)? {
        Cloned::Child => {
            // Closed when the program is executed, as all the others.
            keep_until_exec(ours);
            let Err(error) = become_container(sandbox, &plan, streams, theirs.as_fd());
            report::fail(theirs.as_fd(), &error);
            exit_now(1);
        }
        Cloned::Parent(child) => {
            drop((theirs, streams));
            match report::outcome(&ours)? {
                (outcome, None) => Ok(Started { child, terminal: outcome.terminal }),
                (_, Some(error)) => {
                    coracle_sys::process::reap(child.pidfd.as_fd())?;
                    Err(error)
                }
            }
        }
    }
}

/// The steps of the first process, in order. Each may assume that the ones before it have happened.
fn become_container(
    sandbox: &Sandbox<'_>,
    plan: &Plan,
    streams: Streams,
    channel: BorrowedFd<'_>,
) -> Result<Infallible> {
    prepare(sandbox.entry)?;
    join_namespaces(sandbox.joins)?;
    if plan.owns(Namespaces::NEWCGROUP) {
        unshare(Namespaces::NEWCGROUP)?;
    }
    let assembled = filesystem::assemble(plan, sandbox.root, sandbox.group)?;
    let stdio = terminal::streams(streams, &assembled, channel)?;
    protection::protect(plan, &assembled)?;
    name_host(plan)?;
    mount::pivot(assembled.root.as_fd())?;
    stdio.install(&plan.program.process)?;
    close_all_but(channel)?;
    identity::assume(&plan.program)?;
    if sandbox.first == FirstProcess::Reaper {
        init::leave_to_reaper()?;
    }
    start_program(&plan.program)
}

/// What every process does first: nobody inside may look at it, it dies with its parent, it is in its cgroup.
fn prepare(entry: &Entry) -> Result<()> {
    use rustix::process::{set_dumpable_behavior, setsid};
    // CVE-2016-9962: a process of the container must not read or trace one that still holds host descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("become unreadable"))?;
    signal::reset_all();
    // What is made on the way has the modes that it is given; the program's own mask is set with its identity.
    rustix::process::umask(rustix::fs::Mode::empty());
    entry.enter()?;
    setsid().map_err(failed("start a session"))?;
    Ok(())
}

/// The last step: become the program.
fn start_program(program: &plan::Program) -> Result<Infallible> {
    // Changing the user has cleared it, so it is set last.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("follow the parent"))?;
    program::run(&program.arguments, &program.environment)
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
