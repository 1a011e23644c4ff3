//! A container whose processes another OCI runtime makes, as runc and crun do. The shim stays their parent.
//!
//! ```text
//! start():   mounts of the host are opened ── then a mount namespace of the shim's own, and in it
//!              <state directory>/bundle      in memory: gone with the shim, and never on the host's mount table
//!                config.json  rootfs/  mounts/0 …        what the runtime reads by path
//!            RUNTIME create ── its first process becomes a child of the shim, a terminal comes over a socket
//!            RUNTIME start
//! exec():    RUNTIME exec --detach; the shim's loop waits for it
//! drop():    RUNTIME delete --force, then the mounts
//!
//! <state directory>/runtime   where the runtime keeps its own state (--root)
//! ```
//!
//! Signals go to the processes themselves; freezing, limits and counts go to the cgroup, which the runtime makes where the
//! configuration says. Source: OCI runtime-spec 1.2, `runtime.md`; the command line is runc(8)'s.

mod bundle;
mod call;
mod config;
mod console;
mod exec;
mod orphans;

pub(super) use exec::{Asker, Starting, Wanted};
pub(super) use orphans::collect;

use super::container::{Made, Maker, become_ready};
use super::descriptors::Inherited;
use super::ending::{self, end};
use super::prepared::cgroup_of;
use super::streams::{self, Pipes};
use crate::cgroup::Group;
use crate::error::{Error, Result};
use crate::layers;
use crate::limits;
use crate::protocol::{Plan, Stdin};
use crate::sandbox::{Given, Joins, Started, Streams};
use bundle::{Bundle, end_of};
use call::{Caller, Stdio};
use config::Places;
use console::Console;
use coracle_logfile::Writer;
use coracle_spec::runtime::ConsoleSize;
use coracle_sys::process::Child;
use coracle_sys::rooted::{Root, prove_procfs};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What another runtime and its container need for as long as the container is there. When this goes, all that was made goes:
/// what still runs in the container is killed.
pub(super) struct Foreign {
    caller: Caller,
    bundle: Bundle,
    group: Group,
    /// As long as this is there, no other shim makes the same container.
    _turn: OwnedFd,
}

/// Makes the container of `plan` and starts it; `limit` is the one that its processes get. Nothing of it stays on
/// failure. The caller must have one thread.
///
/// # Errors
/// [`Error::Foreign`] has the runtime's own words, the others are the shim's.
pub(super) fn start(plan: &mut Plan, given: &Given, joins: &Joins, limit: Inherited) -> Result<Made> {
    prove_procfs()?;
    let process = plan.spec.process.clone().unwrap_or_default();
    let (streams, pipes) = streams::of(&process, plan.stdin != Stdin::Closed, None)?;
    let (foreign, mounted, log) = prepare(plan, given, joins, limit)?;
    let (started, root) = foreign.begin(streams, &pipes, mounted)?;
    let group = foreign.group.clone();
    Ok(Made { maker: Maker::Foreign(Box::new(foreign)), started, root, group, log, pipes })
}

/// Makes all that the runtime reads. What is mounted for it ends with the shim.
fn prepare(
    plan: &mut Plan,
    given: &Given,
    joins: &Joins,
    limit: Inherited,
) -> Result<(Foreign, Root, Option<Writer>)> {
    let missing = || Error::Invalid("the plan names no runtime".to_owned());
    let runtime = plan.runtime.clone().ok_or_else(missing)?;
    let group = Group::existing(&plan.cgroups, Path::new(cgroup_of(&plan.spec)?));
    let turn = wait_for_turn(&plan.root.upper)?;
    let trees = bundle::open(&plan.spec.mounts, given)?;
    // Layers that were opened in another mount namespace cannot be mounted.
    let layers = layers::overlay(&plan.root, None)?;
    let (root, log) = become_ready(plan, layers, limit)?;
    let bundle = Bundle::make(&plan.state_directory)?;
    let places = Places {
        root: bundle.attach_root(&root)?,
        mounts: bundle.attach(trees)?,
        joins: config::places_of(joins),
        init: plan.init.then(|| bundle.copy_init()).transpose()?,
    };
    bundle.write("config.json", &config::adapt(&plan.spec, &places))?;
    let caller = Caller::new(&runtime, &plan.id, &plan.state_directory, bundle.path());
    Ok((Foreign { caller, bundle, group, _turn: turn }, root, log))
}

/// Waits until no other shim makes a container of this layer. One may, whose engine was killed while a runtime took its time,
/// and which then removes what it has made: two mounts of the layer would spoil it.
fn wait_for_turn(layer: &Path) -> Result<OwnedFd> {
    rustix::fs::open(layer, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|directory| flock(&directory, FlockOperation::LockExclusive).map(|()| directory))
        .map_err(|error| Error::Child(format!("cannot lock {}: {error}", layer.display())))
}

impl Foreign {
    /// Has the runtime make the container and start it. Returns its root as it sees it; what was mounted for it lacks
    /// what is mounted in its own namespace.
    fn begin(&self, streams: Streams, pipes: &Pipes, mounted: Root) -> Result<(Started, Root)> {
        let bundle = ["--bundle".into(), self.bundle.path().into()];
        let request = self.request("create", &bundle, streams)?;
        let done = request.call.wait(errors_of(pipes));
        let started = request.process.take(done, &[])?;
        let seen = root_of(&started.child).and_then(|root| {
            drop(mounted);
            self.caller.begin("start", Vec::new(), Stdio::None)?.wait(None)?;
            Ok(root)
        });
        let root = seen.inspect_err(|_| _ = end(&started.child))?;
        Ok((started, root))
    }

    /// Begins to have the runtime make a process with these streams.
    fn request(&self, verb: &'static str, options: &[OsString], streams: Streams) -> Result<Request> {
        let file = Temporary(self.bundle.name("pid"));
        let (stdio, console, size) = match streams {
            Streams::Separate { stdin, stdout, stderr } => {
                (Stdio::Given([stdin, stdout, stderr]), None, None)
            }
            Streams::Terminal(size) => (Stdio::None, Some(Console::listen(&self.bundle)?), size),
        };
        let mut options = options.to_vec();
        options.extend(["--pid-file".into(), file.0.clone().into()]);
        if let Some(console) = &console {
            options.extend(["--console-socket".into(), console.path().into()]);
        }
        let call = self.caller.begin(verb, options, stdio)?;
        Ok(Request { call, process: Requested { verb, file, console, size } })
    }
}

impl Drop for Foreign {
    /// What the runtime cannot remove is removed without it.
    fn drop(&mut self) {
        self.group.end(ending::PATIENCE);
        let deleted =
            self.caller.begin("delete", vec!["--force".into()], Stdio::None).and_then(|call| call.wait(None));
        let others = [self.bundle.unmount(), self.caller.forget(), self.group.remove()];
        for failure in [deleted].into_iter().chain(others).filter_map(Result::err) {
            super::eprintln_log(&failure.chain());
        }
        collect(&[]);
    }
}

/// The end of the process's error output that is read here: into it the runtime complains as well.
fn errors_of(pipes: &Pipes) -> Option<&OwnedFd> {
    pipes.as_ref().and_then(|(outputs, _)| outputs.last()).map(|output| &output.descriptor)
}

/// A file in the bundle that is removed when it has served: each exec has some, and the bundle is small.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // One that was never written is not there.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A process that the runtime is making, and the call that does.
struct Request {
    call: call::Call,
    process: Requested,
}

/// What comes of a process that the runtime was asked for.
struct Requested {
    verb: &'static str,
    file: Temporary,
    console: Option<Console>,
    size: Option<ConsoleSize>,
}

impl Requested {
    /// Takes over the process once the runtime is `done`, or kills it if that has failed. It is none of those `known`.
    fn take(self, done: Result<()>, known: &[Pid]) -> Result<Started> {
        let receive = |console: Console| console.receive(self.verb, self.size);
        let (child, terminal) = match (child_of(self.verb, &self.file.0, known), done) {
            (Ok(child), Ok(())) => (child, self.console.map(receive).transpose()),
            (Ok(child), Err(error)) => (child, Err(error)),
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        match terminal {
            Ok(terminal) => Ok(Started { child, terminal }),
            Err(error) => {
                end(&child);
                Err(error)
            }
        }
    }
}

/// The process whose id the runtime has written into `file`: a child of this one, as the runtime that made it has ended.
fn child_of(verb: &'static str, file: &Path, known: &[Pid]) -> Result<Child> {
    let failed = |text: String| Error::Foreign { verb: verb.to_owned(), text };
    let text = end_of(file, limits::FOREIGN_PID)
        .map_err(|error| failed(format!("it has written no pid file: {error}")))?;
    let number = text.trim().parse().ok().filter(|number: &i32| number.is_positive());
    let pid = number.and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(format!("its pid file holds no process id: {text:?}")))?;
    let number = pid.as_raw_nonzero();
    if known.contains(&pid) {
        return Err(failed(format!("process {number}, which it says it has made, was there before")));
    }
    let gone =
        |error| failed(format!("process {number}, which it has made, is no child of the shim: {error}"));
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(gone)?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), look).map_err(gone)?;
    Ok(Child { pid, pidfd })
}

/// The root of a process, with what is mounted below it in its mount namespace.
fn root_of(child: &Child) -> Result<Root> {
    let path = format!("/proc/{}/root", child.pid.as_raw_nonzero());
    let root = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    root.map(Root::of_mount)
        .map_err(|error| Error::Child(format!("cannot open the container's root: {error}")))
}
