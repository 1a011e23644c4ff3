//! What a shim does for an engine, request by request.

use super::{Phase, Shim};
use crate::cgroup::Frozen;
use crate::error::{Error, Result};
use crate::protocol::{Attachment, Execution, Failure, FailureKind, Reply, Request, State};
use crate::sandbox;
use coracle_logfile::Limits;
use coracle_sys::process::send_signal;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// The number of SIGKILL.
const KILL: i32 = rustix::process::Signal::KILL.as_raw();

/// A reply, and the descriptor that goes with it.
type Answer = (Reply, Option<OwnedFd>);

/// Does what is asked for over connection `from`, with the id there. Nothing is answered now where the answer comes later.
pub(super) fn handle(
    shim: &mut Shim,
    from: (usize, u64),
    request: Request,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Option<Answer>> {
    match request {
        Request::Exec(execution) => exec(shim, from, *execution, descriptors.pop()),
        other => handle_now(shim, other, descriptors).map(Some),
    }
}

fn handle_now(shim: &mut Shim, request: Request, mut descriptors: Vec<OwnedFd>) -> Result<Answer> {
    let done = |()| (Reply::Done, None);
    match request {
        Request::Descriptors | Request::Prepare | Request::Isolate(_) | Request::Start | Request::Exec(_) => {
            Err(Error::Malformed("the container was started already".to_owned()))
        }
        Request::State => Ok((Reply::State(state(shim)), None)),
        Request::Attach(attachment) => attach(shim, attachment, descriptors.pop()).map(done),
        Request::Signal { exec, number } => signal(shim, exec.as_deref(), number),
        Request::Resize { exec, size } => match shim.container.terminal(exec.as_deref()) {
            Some(terminal) => sandbox::resize(terminal.as_fd(), size).map(done),
            None => Ok((gone("there is no such terminal"), None)),
        },
        Request::Freeze { frozen } => {
            let state = if frozen { Frozen::Stopped } else { Frozen::Running };
            shim.container.group().set_frozen(state).map(done)
        }
        Request::Update(resources) => shim.container.group().apply(&resources).map(done),
        Request::Names(names) => match &mut shim.resolver {
            Some(resolver) => resolver.change(names).map(done),
            None => Ok((gone("nothing resolves names for this container"), None)),
        },
        Request::Ports { release, relays } => {
            if let Some(relaying) = &mut shim.relays {
                relaying.release(&release);
            }
            shim.container.hold(descriptors, &release);
            shim.relay(&relays).map(done)
        }
        Request::Log(bounds) => {
            shim.pump.bound_log(Limits { size: bounds.max_size, files: bounds.max_files });
            Ok((Reply::Done, None))
        }
        Request::Processes => Ok((Reply::Processes(shim.container.group().processes()?), None)),
        Request::Root => {
            let Some(root) = shim.container.root() else {
                return Ok((gone("the container has ended"), None));
            };
            Ok((Reply::Done, Some(root.try_clone()?.into_fd())))
        }
        Request::Volume { number } => match shim.container.volume(number) {
            Some(volume) => {
                let volume = volume.try_clone().map_err(super::duplicate)?;
                Ok((Reply::Done, Some(volume)))
            }
            None => Ok((gone("there is no such volume"), None)),
        },
        Request::Forget => {
            if let Phase::Ended { acknowledged, .. } = &mut shim.phase {
                *acknowledged = true;
                // Whoever starts something else on its ports need not wait for the disk.
                shim.container.release_ports();
                shim.relays = None;
                // The last hold of the layers: the kernel writes them out before this returns, and nobody waits but
                // who wants to start the container again, for whom the group must be gone as well.
                shim.container.clean_up();
            }
            Ok((Reply::Done, None))
        }
    }
}

fn gone(text: &str) -> Reply {
    Reply::Failed(Failure { kind: FailureKind::Gone, text: text.to_owned(), verb: None })
}

fn state(shim: &Shim) -> State {
    let exit = match &shim.phase {
        Phase::Ended { exit, .. } => Some(exit.clone()),
        _ => None,
    };
    let execs = shim.container.execs().iter();
    State {
        pid: Some(shim.container.pid()),
        exit,
        execs: execs.map(|exec| (exec.id.clone(), exec.child.pid.as_raw_nonzero().get())).collect(),
    }
}

fn attach(shim: &Shim, attachment: Attachment, socket: Option<OwnedFd>) -> Result<()> {
    let socket = socket.ok_or_else(|| Error::Malformed("nothing to attach was sent".to_owned()))?;
    shim.pump.attach(None, socket, attachment);
    Ok(())
}

fn exec(
    shim: &mut Shim,
    (connection, id): (usize, u64),
    execution: Execution,
    socket: Option<OwnedFd>,
) -> Result<Option<Answer>> {
    if !matches!(shim.phase, Phase::Running) {
        return Ok(Some((gone("the container has ended"), None)));
    }
    let Shim { container, connections, pump, .. } = shim;
    let started = container.exec(execution, socket, || connections.asker(connection, id))?;
    Ok(started.map(|(channel, pid)| {
        pump.add(channel);
        (Reply::Started { pid }, None)
    }))
}

fn signal(shim: &Shim, exec: Option<&str>, number: i32) -> Result<Answer> {
    let Some(process) = shim.container.process(exec) else { return Ok((gone("it has ended"), None)) };
    if number == KILL
        && let Some(exec) = shim.container.execs().iter().find(|other| Some(other.id.as_str()) == exec)
    {
        shim.container.kill_started_by(exec)?;
    }
    match send_signal(process, number) {
        Err(error) if error.errno() == Some(Errno::SRCH) => Ok((gone("it has ended"), None)),
        sent => Ok((Reply::Done, None)).and_then(|answer| sent.map(|()| answer).map_err(Into::into)),
    }
}
