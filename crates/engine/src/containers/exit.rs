//! What follows the end of a container.

use super::state::Status;
use super::task::Task;
use super::{Description, oci_spec, trees};
use crate::engine::Shared;
use crate::error::{Attempt, blocking};
use coracle_runtime::cgroup::Group;
use coracle_runtime::protocol::{Exit, Request};
use coracle_runtime::shim::record;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

/// How long what runs in a lost container is waited for once it was killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a shim may take to be gone: of one that was killed, the sockets are closed before it has ended.
const LINGERING: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The exit of a container whose shim is gone: it died with it.
pub(crate) fn lost() -> Exit {
    Exit { code: 137, oom_killed: false, at: OffsetDateTime::now_utc().unix_timestamp_nanos() }
}

/// Removes the cgroup of a container whose shim is gone, with what runs in it: the shim's own processes end with it, those
/// that another runtime has made do not.
pub(crate) async fn clear(shared: &Shared, container: &Description) {
    let run = record::read_run(&shared.state_directory(&container.id));
    let shim = run.filter(|run| run.boot_id == shared.boot_id).map(|run| run.shim);
    let outlives = match shim {
        Some(shim) => blocking(move || is_alive(shim)).await.unwrap_or(true),
        None => false,
    };
    if outlives {
        // It is the engine that cannot speak to it, and nothing of the container's is at fault.
        tracing::error!(container = %container.id, "its shim is there and does not answer; what runs is left alone");
        return;
    }
    let Ok(path) = oci_spec::cgroup(&container.id, &container.settings, &shared.config.cgroup()) else {
        return;
    };
    let group = Group::existing(&shared.cgroups, Path::new(&path));
    let cleared = blocking(move || {
        group.end(PATIENCE);
        group.remove().attempt(|| "remove the cgroup of a lost container".to_owned())
    });
    if let Err(error) = cleared.await.and_then(|cleared| cleared) {
        tracing::warn!(container = %container.id, error = error.chain(), "something of it is left");
    }
}

/// Whether a process runs, and goes on to. One that cannot be looked at does. Blocks for a moment.
fn is_alive(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return false };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => {
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            poll(&mut ended, Some(&LINGERING)).is_ok_and(|count| count == 0)
        }
        Err(error) => error != Errno::SRCH,
    }
}

/// Takes note of an exit: the network is given back first, so that nobody reaches an address that is free again.
pub(crate) async fn settle(task: &mut Task, exit: Exit) {
    release_network(task).await;
    // Nobody takes a size of a container that ran for that of one that ended.
    task.shared.sizes.forget(&task.now.id);
    let finished =
        OffsetDateTime::from_unix_timestamp_nanos(exit.at).unwrap_or_else(|_| OffsetDateTime::now_utc());
    let state = &mut task.now.state;
    state.status = Status::Exited;
    super::health::leave(state);
    state.pid = 0;
    state.exit_code = exit.code;
    // Unless the shim has told of it when it happened.
    let is_news = exit.oom_killed && !state.oom_killed;
    state.oom_killed = exit.oom_killed;
    state.finished_at = Some(finished);
    let ran = state.started_at.map_or(0, |started| (finished - started).whole_seconds());
    if let Some(live) = task.live.take() {
        // Told, it lets go of the layers, which can take a while; only the next start waits for that.
        task.last = Some(tokio::spawn(async move {
            // A shim that cannot be told is gone, and its hold with it.
            let _ = live.shim.ask(&Request::Forget, &[]).await;
            trees::let_go(live.volumes).await;
        }));
    }
    task.shared.execs.forget(&task.now.id);
    for mount in task.now.volumes() {
        task.shared.volumes.tell_unmounted(&mount.name, &task.now.id);
    }
    if is_news {
        task.tell("oom", &[]);
    }
    let (code, ran) = (exit.code.to_string(), ran.to_string());
    task.tell("die", &[("exitCode", &code), ("execDuration", &ran)]);
    if task.now.settings.host.auto_remove {
        task.publish();
    } else {
        task.changed().await;
    }
}

async fn release_network(task: &mut Task) {
    super::start::tell_of_networks(task, "disconnect");
    for membership in &task.now.networks {
        if membership.endpoint.is_some()
            && let Ok(live) = task.shared.networks.find(&membership.network)
            && let Err(error) = live.bridge.withdraw(task.now.id.as_str()).await
        {
            tracing::warn!(container = %task.now.id, error = error.chain(), "its names could not be withdrawn");
        }
    }
    let connected = task.now.networks.clone();
    for membership in &mut task.now.networks {
        membership.endpoint = None;
        membership.is_way_out = false;
    }
    super::network::give_back(&task.shared, &task.now.id, connected).await;
}
