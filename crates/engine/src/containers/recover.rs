//! Finding the containers again: from the index what there is, from the shims what runs, from the records how what
//! does not run has ended.

use super::exit;
use super::health;
use super::state::Status;
use super::still;
use super::task::{Command, Live, spawn, spawn_ended};
use super::{Description, record, trees};
use crate::engine::Shared;
use crate::error::Result;
use crate::shim::Shim;
use coracle_runtime::protocol::{Exit, Reply, Request, State};
use coracle_runtime::shim::record as left;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::sync::Arc;

/// The exit code of what has ended unseen.
const UNKNOWN: i32 = 255;

/// What became of a container while no engine was there.
enum Fate {
    /// It did not run.
    Still,
    /// It runs.
    Runs(Box<Live>, i32),
    /// It has ended.
    Ended(Exit),
}

/// Makes a task for every container on record, and settles what has happened to each meanwhile.
pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<()> {
    for text in shared.index.containers().await? {
        match record::read(&text) {
            Ok(description) => recover_one(shared, description).await,
            // Reported and left alone: its data may be all that somebody has.
            Err(error) => {
                tracing::error!(error = %error, record = text, "a container cannot be read and is left out");
            }
        }
    }
    all_ended(shared).await;
    shared.recovered.send_replace(true);
    shared.networks.sweep().await;
    forget_state_of_the_dead(shared);
    Ok(())
}

async fn recover_one(shared: &Arc<Shared>, mut description: Description) {
    if let Err(error) = shared.containers.reserve(&description.name, &description.id) {
        tracing::error!(container = %description.id, error = error.chain(), "its name belongs to another");
        return;
    }
    // The last engine may have been killed before it noted the start.
    let last = description.state.started_at.max(Some(description.created)).unwrap_or(description.created);
    shared.images.note_use(&description.image, last);
    let fate = fate(shared, &description).await;
    let container = match fate {
        Fate::Still => {
            still::forget(shared, &description.id);
            for membership in &mut description.networks {
                membership.endpoint = None;
                membership.is_way_out = false;
            }
            if description.starts_with_the_engine() {
                // For those that join its namespaces to see.
                description.state.status = Status::Restarting;
            }
            spawn(shared, description, None)
        }
        Fate::Runs(live, pid) => {
            health::recall(shared, &mut description);
            description.state.pid = pid;
            still::thaw_interrupted(shared, &mut description, &live.shim).await;
            if description.state.status != Status::Paused {
                description.state.status = Status::Running;
            }
            adopt(shared, &description).await;
            spawn(shared, description, Some(*live))
        }
        Fate::Ended(exit) => {
            health::recall(shared, &mut description);
            still::forget(shared, &description.id);
            // Known to the drivers again, so that settling can give it back.
            adopt(shared, &description).await;
            description.state.status = Status::Running;
            spawn_ended(shared, description, exit)
        }
    };
    shared.containers.insert(container);
}

/// Waits until what has ended meanwhile is known to have ended.
async fn all_ended(shared: &Shared) {
    let containers = shared.containers.all();
    // The first thing that a task does is to settle the end; whoever is removed by that answers nothing.
    let settled = containers.iter().map(|container| container.ask(|reply| Command::Dismiss { reply }));
    futures_util::future::join_all(settled).await;
}

/// Takes over the places that a container has on its networks.
async fn adopt(shared: &Shared, description: &Description) {
    for membership in &description.networks {
        let Some(endpoint) = membership.endpoint.clone() else { continue };
        let adopted = match shared.networks.find(&membership.network) {
            Ok(live) => live.bridge.adopt(endpoint).await,
            Err(error) => Err(error),
        };
        if let Err(error) = adopted {
            tracing::error!(container = %description.id, error = error.chain(), "its network could not be taken over");
        }
    }
}

async fn fate(shared: &Arc<Shared>, description: &Description) -> Fate {
    let directory = shared.state_directory(&description.id);
    let was_up = description.state.status.is_up();
    let Some(run) = left::read_run(&directory) else {
        // Started, and no trace of it: the machine was started anew.
        return if was_up { Fate::Ended(machine_ended()) } else { Fate::Still };
    };
    if run.boot_id != shared.boot_id {
        return if was_up { Fate::Ended(machine_ended()) } else { Fate::Still };
    }
    if let Some(live) = connect(shared, description, run.shim).await {
        return live;
    }
    match left::read_exit(&directory) {
        Some(exit) if was_up || newer(description, &exit) => Fate::Ended(exit),
        Some(_) => Fate::Still,
        None => {
            exit::clear(shared, description).await;
            if was_up { Fate::Ended(exit::lost()) } else { Fate::Still }
        }
    }
}

/// Whether the engine was killed before it could note the start that this is the end of.
fn newer(description: &Description, exit: &Exit) -> bool {
    description.state.finished_at.is_none_or(|finished| finished.unix_timestamp_nanos() < exit.at)
}

/// Exit code 255: the container ended with the machine.
fn machine_ended() -> Exit {
    Exit { code: 255, ..exit::lost() }
}

/// What became of a container to whose shim the connection is broken.
pub(super) enum Broken {
    /// It goes on, and can be spoken to again.
    Mended(Live),
    /// It has ended meanwhile.
    Ended(Exit),
    /// Its shim is gone, and it with that.
    Lost,
}

/// Finds out what became of a container to whose shim the connection is broken, and connects again if it goes on.
pub(super) async fn connect_again(shared: &Arc<Shared>, container: &Description) -> Broken {
    let directory = shared.state_directory(&container.id);
    let Some(run) = left::read_run(&directory).filter(|run| run.boot_id == shared.boot_id) else {
        return Broken::Lost;
    };
    match connect(shared, container, run.shim).await {
        Some(Fate::Runs(live, _)) => {
            settle_execs(shared, container, &live.shim).await;
            Broken::Mended(*live)
        }
        Some(Fate::Ended(exit)) => Broken::Ended(exit),
        // Without anybody to tell, a shim ends as soon as the end is on record.
        _ => left::read_exit(&directory).map_or(Broken::Lost, Broken::Ended),
    }
}

/// Execs whose end nobody was told of have ended; how, nobody knows.
async fn settle_execs(shared: &Arc<Shared>, container: &Description, shim: &Shim) {
    let Ok((Reply::State(State { execs, .. }), _)) = shim.ask(&Request::State, &[]).await else { return };
    for exec in shared.execs.of(&container.id).into_iter().filter(|exec| !execs.contains_key(exec)) {
        shared.execs.ended(shared, &exec, UNKNOWN);
    }
}

async fn connect(shared: &Shared, container: &Description, shim: i32) -> Option<Fate> {
    // A shim that is gone leaves its socket; without a process nobody answers there.
    pidfd_open(Pid::from_raw(shim)?, PidfdFlags::empty()).ok()?;
    let (connection, events) = Shim::connect(&shared.state_directory(&container.id)).ok()?;
    let (reply, _) = connection.ask(&Request::State, &[]).await.ok()?;
    let Reply::State(State { pid, exit, .. }) = reply else { return None };
    if let Some(exit) = exit {
        // The exit is on record; the shim only waits to be told so.
        let _ = connection.ask(&Request::Forget, &[]).await;
        return Some(Fate::Ended(exit));
    }
    let volumes = trees::found_again(shared, container, &connection).await;
    Some(Fate::Runs(Box::new(Live { shim: connection, events, volumes }), pid?))
}

/// Removes state directories of containers that are not on record.
fn forget_state_of_the_dead(shared: &Shared) {
    let Ok(entries) = std::fs::read_dir(shared.config.exec_root.join("containers")) else { return };
    for entry in entries.flatten() {
        let known = entry.file_name().to_str().is_some_and(|id| shared.containers.find(id).is_ok());
        if !known && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), error = %error, "an old state directory cannot be removed");
        }
    }
}
