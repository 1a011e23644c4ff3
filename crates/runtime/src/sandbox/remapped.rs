//! The first process of a container with a user namespace.
//!
//! Namespaces belong to the user namespace of the process that makes them. So the first process is made by one that has entered
//! it, as a sibling of that one, which then ends:
//!
//! ```text
//! shim ── clone ──► entering:  score, /dev, namespaces of others → the user namespace
//!   │                  └── clone3 with all other namespaces, born into the cgroup, a child of the shim's
//!   └── waits for both       └── first process:  root of the namespace → as without one
//! ```
//!
//! What only the host's root may do is done on the way: device nodes are made, the score is lowered. Until it is executed, what
//! runs here is not dumpable and was executed by the host's root, so that no capability in the namespace reaches it (ptrace(2),
//! "Ptrace access mode checking").

use super::plan::{MountKind, Plan};
use super::report;
use super::{
    Joins, Prepared, become_first, device, enter, failed, filesystem, identity, join_namespaces,
    private_procfs,
};
use crate::cgroup::{Entry, Group};
use crate::error::{Error, Result};
use coracle_spec::Owners;
use coracle_sys::process::{Clone, Cloned, Namespaces, clone, exit_now, reap, unshare};
use coracle_sys::userns;
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;
use rustix::thread::LinkNameSpaceType;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// As [`super::prepare`], in the user namespace `user`.
pub(super) fn prepare(
    mut plan: Plan,
    place: (&Group, &Entry),
    joins: &Joins,
    user: BorrowedFd<'_>,
    (ours, theirs): (OwnedFd, OwnedFd),
) -> Result<Prepared> {
    match clone(Clone::default())? {
        Cloned::Child => {
            // As in the direct way: the end of the parent would not be seen otherwise.
            drop(ours);
            let passed_on = pass_on(&mut plan, place, joins, user, theirs.as_fd());
            exit_now(passed_on.map_or_else(
                |error| {
                    report::fail(theirs.as_fd(), &error);
                    1
                },
                |()| 0,
            ));
        }
        Cloned::Parent(entering) => {
            drop(theirs);
            let introduced = report::introduced(ours.as_fd());
            reap(entering.pidfd.as_fd())?;
            let (child, failure) = introduced?;
            let prepared = Prepared { child, channel: ours };
            match failure {
                None => Ok(prepared),
                Some(error) => {
                    prepared.dismiss();
                    Err(error)
                }
            }
        }
    }
}

/// Makes the first process, and introduces it to the parent of both.
fn pass_on(
    plan: &mut Plan,
    place: (&Group, &Entry),
    joins: &Joins,
    user: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
) -> Result<()> {
    become_insider(plan, joins, user)?;
    let how = Clone {
        namespaces: Some(plan.namespaces - Namespaces::NEWCGROUP - Namespaces::NEWIPC),
        cgroup: place.1.birth.as_ref().map(AsFd::as_fd),
        sibling: true,
    };
    match clone(how)? {
        Cloned::Child => {
            let made = become_insiders_root(plan);
            become_first(made.map(|()| &*plan), place, &Joins::default(), channel)
        }
        Cloned::Parent(child) => {
            report::introduce(channel, child.pid.as_raw_nonzero().get(), child.pidfd.as_fd())
        }
    }
}

/// Message queues belong to who makes their namespace, so that it is made by nobody else.
fn become_insiders_root(plan: &Plan) -> Result<()> {
    userns::become_root()?;
    if plan.owns(Namespaces::NEWIPC) { Ok(unshare(Namespaces::NEWIPC)?) } else { Ok(()) }
}

/// Does what only the host's root may, and enters the namespaces. The process is nobody then, and root of the host to files.
fn become_insider(plan: &mut Plan, joins: &Joins, user: BorrowedFd<'_>) -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("become unreadable"))?;
    // What is made on the way has the modes that it is given.
    rustix::process::umask(Mode::empty());
    if let Some(score) = plan.oom_score_adj.take() {
        identity::set_score(Some(score), &private_procfs()?)?;
    }
    let missing =
        || Error::Invalid("the configuration does not say whose ids the user namespace has".to_owned());
    let owners = plan.owners.clone().ok_or_else(missing)?;
    plan.devices = devices(plan, &owners)?;
    join_namespaces(joins)?;
    if let Some(pid) = &joins.pid {
        enter(pid, LinkNameSpaceType::ProcessID)?;
    }
    Ok(userns::enter(user)?)
}

/// The container's own `/dev`, if it gets one.
fn devices(plan: &Plan, owners: &Owners) -> Result<Option<OwnedFd>> {
    let planned = plan.mounts.iter().find(|planned| planned.destination == Path::new("/dev"));
    let Some((planned, MountKind::New { kind, source })) = planned.map(|planned| (planned, &planned.kind))
    else {
        return Ok(None);
    };
    let made = filesystem::make(kind, source, planned)?;
    device::populate(made.as_fd(), &plan.linux.devices, Some(owners))?;
    Ok(Some(made))
}
