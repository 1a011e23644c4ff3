//! A process that joins a running container, as `exec` asks for.
//!
//! The caller may have several threads: it forks through the C library, and the child (which has one) enters the
//! namespaces and makes the process as a sibling of its own, so that the caller is the parent and can wait for it.

use super::plan::Program;
use super::{Started, Streams, identity, prepare_process, private_procfs, report, start_program, terminal};
use crate::cgroup::Entry;
use crate::channel;
use crate::error::{Error, Result};
use crate::seccomp::{self, Filter};
use coracle_spec::runtime::{Process, Seccomp};
use coracle_sys::process::{
    Child, Clone, Cloned, clone, close_all_but, exit_now, fork, keep_until_exec, reap,
};
use coracle_sys::userns;
use rustix::process::{DumpableBehavior, Pid, WaitOptions, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};

/// What joins, and what it joins.
#[derive(Debug)]
pub struct Joining<'a> {
    /// A process of the container, whose namespaces are entered.
    pub target: BorrowedFd<'a>,
    /// The way into the container's cgroup.
    pub entry: &'a Entry,
    /// What runs.
    pub process: &'a Process,
    /// The filter that it runs under.
    pub filter: Option<&'a Seccomp>,
    /// Whether the container has a user namespace.
    pub is_remapped: bool,
}

/// Starts a process in a running container.
///
/// # Errors
/// As [`super::Prepared::start`]; `ESRCH` when the container has just ended.
pub fn join(joining: &Joining<'_>, streams: Streams) -> Result<Started> {
    let program = Program::new(joining.process)?;
    let filter = joining.filter.map(seccomp::compile).transpose()?;
    let (ours, theirs) = channel::pair()?;
    let Some(entering) = fork()? else {
        keep_until_exec(ours);
        let code = match enter_and_clone(joining, (&program, filter.as_ref()), streams, theirs.as_fd()) {
            Ok(()) => 0,
            Err(error) => {
                report::fail(theirs.as_fd(), &error);
                1
            }
        };
        exit_now(code);
    };
    drop((theirs, streams));
    let reported = report::outcome(&ours);
    waitpid(Some(entering), WaitOptions::empty()).map_err(super::failed("wait for the entering process"))?;
    let (outcome, failure) = reported?;
    let ended = || Error::Child("the container has ended".to_owned());
    let child = outcome.process.and_then(|(pid, pidfd)| Some(Child { pid: Pid::from_raw(pid)?, pidfd }));
    match (failure, child) {
        (None, Some(child)) => Ok(Started { child, terminal: outcome.terminal }),
        (failure, child) => {
            if let Some(child) = child {
                // Nobody else collects it, and the container's first process could not end before it is collected.
                reap(child.pidfd.as_fd())?;
            }
            Err(failure.unwrap_or_else(ended))
        }
    }
}

fn enter_and_clone(
    joining: &Joining<'_>,
    what: (&Program, Option<&Filter>),
    streams: Streams,
    channel: BorrowedFd<'_>,
) -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(super::failed("become unreadable"))?;
    if joining.is_remapped {
        // Only the host's root may.
        identity::allow(None, &joining.process.rlimits)?;
        identity::set_score(joining.process.oom_score_adj, &private_procfs()?)?;
    }
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    enter(joining.target, namespaces)?;
    let how =
        Clone { namespaces: None, cgroup: joining.entry.birth.as_ref().map(AsFd::as_fd), sibling: true };
    match clone(how)? {
        Cloned::Child => {
            // Not before: with `nsdelegate`, which systemd mounts cgroup2 with, nobody inside of the namespace makes a process
            // in a group out of one that cannot be seen there, cgroups(7).
            let Err(error) =
                enter_last(joining).and_then(|()| become_program(what, joining, streams, channel));
            report::fail(channel, &error);
            exit_now(1);
        }
        Cloned::Parent(child) => {
            report::introduce(channel, child.pid.as_raw_nonzero().get(), child.pidfd.as_fd())
        }
    }
}

/// Enters what a process can only be in itself.
fn enter_last(joining: &Joining<'_>) -> Result<()> {
    if !joining.is_remapped {
        return enter(joining.target, ThreadNameSpaceType::CONTROL_GROUP);
    }
    enter(joining.target, ThreadNameSpaceType::CONTROL_GROUP | ThreadNameSpaceType::USER)?;
    Ok(userns::become_root()?)
}

fn enter(target: BorrowedFd<'_>, namespaces: ThreadNameSpaceType) -> Result<()> {
    move_into_thread_name_spaces(target, namespaces).map_err(super::failed("enter the container"))
}

fn become_program(
    (program, filter): (&Program, Option<&Filter>),
    joining: &Joining<'_>,
    streams: Streams,
    channel: BorrowedFd<'_>,
) -> Result<Infallible> {
    prepare_process(joining.entry)?;
    if !joining.is_remapped {
        identity::set_score(program.process.oom_score_adj, &private_procfs()?)?;
    }
    let stdio = terminal::streams_inside(streams, channel)?;
    stdio.install(&program.process)?;
    close_all_but(channel)?;
    program.capabilities.bound()?;
    identity::assume(program, filter)?;
    start_program(program)
}
