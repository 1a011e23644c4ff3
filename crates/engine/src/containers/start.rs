//! Starting a container: its network and its shim are made side by side, then the shim is given the plan.

use super::modes::{NetworkMode, PidMode};
use super::network::Connected;
use super::oci_spec::{self, Host};
use super::settings::Settings;
use super::state::Status;
use super::task::{Live, Task};
use super::{host, mounts};
use crate::error::{Attempt, Error, Result, blocking};
use crate::shim::Shim;
use coracle_network::Endpoint;
use coracle_runtime::channel;
use coracle_runtime::protocol::{self, Attachment, Log, Names, Overlay, Plan, Reply, Request, Role, Stdin};
use coracle_sys::process::{Child, reap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Starts the container of `task`. On failure everything is as before, and its record says why.
pub(crate) async fn start(task: &mut Task) -> Result<()> {
    let waiting = std::mem::take(&mut task.waiting);
    match try_start(task, waiting).await {
        Ok(()) => Ok(()),
        Err(error) => {
            if let Error::Start { code, .. } = &error {
                task.now.state.exit_code = *code;
            } else {
                task.now.state.exit_code = 128;
            }
            task.now.state.error = error.chain();
            if task.now.settings.host.auto_remove {
                // As Docker: a container that never ran is not kept either.
                super::remove::remove(task, true).await?;
            } else {
                task.changed().await;
            }
            Err(error)
        }
    }
}

async fn try_start(task: &mut Task, waiting: Vec<(Attachment, OwnedFd)>) -> Result<()> {
    let directory = task.shared.state_directory(&task.now.id);
    let launch = launch(task, &directory);
    let connect = super::network::connect(task);
    let (launched, connected) = tokio::join!(launch, connect);
    let (connected, (shim, events, gone)) = match (connected, launched) {
        (Ok(connected), Ok(launched)) => (connected, launched),
        (Ok(connected), Err(error)) => {
            give_back(task, connected.endpoint).await;
            return Err(error);
        }
        // The shim ends when its socket is closed before the first request, and is collected.
        (Err(error), _) => return Err(error),
    };
    let endpoint = connected.endpoint.clone();
    match hand_over(task, &shim, connected, waiting).await {
        Ok(pid) => {
            task.live = Some(Live { shim, events });
            started(task, pid, endpoint).await;
            Ok(())
        }
        Err(error) => {
            task.last = Some(gone);
            give_back(task, endpoint).await;
            Err(error)
        }
    }
}

async fn give_back(task: &Task, endpoint: Option<Endpoint>) {
    if let Some(endpoint) = endpoint
        && let Err(error) = task.shared.network.detach(endpoint).await
    {
        tracing::error!(container = %task.now.id, error = error.chain(), "its network could not be taken down");
    }
}

/// The shim, what it tells, and the end of its process.
type Launched = (Shim, mpsc::UnboundedReceiver<protocol::Event>, JoinHandle<()>);

/// Starts the shim's process, which then waits for its plan, and which is collected whatever becomes of it.
async fn launch(task: &Task, directory: &std::path::Path) -> Result<Launched> {
    let launcher = Arc::clone(&task.shared.launcher);
    let directory = directory.to_owned();
    let (ours, child) = blocking(move || {
        // What an earlier run has left would be taken for this one's.
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&directory)
            .and_then(|()| channel::pair().map_err(std::io::Error::other))
            .map(|(ours, theirs)| (ours, launcher.start(&theirs, &directory.join("shim.log"))))
    })
    .await?
    .attempt(|| format!("prepare the state directory of container {}", task.now.id))?;
    let gone = tokio::spawn(wait_for(child?));
    let (shim, events) = Shim::new(ours)?;
    Ok((shim, events, gone))
}

/// Waits until the shim's process has ended, and collects it.
async fn wait_for(child: Child) {
    let Ok(pidfd) = crate::watch::watch(child.pidfd) else { return };
    if pidfd.readable().await.is_ok() {
        // Only a shim of an earlier engine is no child, and that one is not waited for here.
        let _ = reap(pidfd.get_ref().as_fd());
    }
}

/// Sends the plan. Returns the first process, which keeps the network namespace from here on.
async fn hand_over(
    task: &Task,
    shim: &Shim,
    connected: Connected,
    waiting: Vec<(Attachment, OwnedFd)>,
) -> Result<i32> {
    let settings = Arc::clone(&task.now.settings);
    let files = super::network::write_files(task, connected.endpoint.as_ref()).await?;
    let facts = host::facts(&task.shared, &settings, mounts::of(&task.now, files)?).await?;
    let joins = Joins::open(task, &settings)?;
    let mut plan = plan(task, &settings, &facts)?;
    let mut descriptors: Vec<(Role, BorrowedFd<'_>)> = Vec::new();
    let network =
        connected.joined.as_ref().or(connected.namespace.as_ref().map(|namespace| &namespace.netns));
    descriptors.extend(network.map(|fd| (Role::Network, fd.as_fd())));
    descriptors.extend(joins.0.iter().map(|(role, fd)| (*role, fd.as_fd())));
    if let Some(dns) = connected.namespace.as_ref().and_then(|namespace| namespace.dns.as_ref()) {
        descriptors.extend([(Role::NamesUdp, dns.udp.as_fd()), (Role::NamesTcp, dns.tcp.as_fd())]);
        plan.names = Some(Names {
            tables: vec![task.shared.network.names().to_owned()],
            endpoint: task.now.id.to_string(),
            servers: super::network::servers(&task.shared.config, &settings),
        });
    }
    descriptors.extend(connected.held.sockets.iter().map(|fd| (Role::Held, fd.as_fd())));
    for (attachment, socket) in &waiting {
        plan.attachments.push(*attachment);
        descriptors.push((Role::Attached, socket.as_fd()));
    }
    plan.descriptors = descriptors.iter().map(|(role, _)| *role).collect();
    let memory = protocol::write_plan(&plan).attempt(|| "write the plan".into())?;
    let all: Vec<BorrowedFd<'_>> =
        std::iter::once(memory.as_fd()).chain(descriptors.iter().map(|(_, fd)| *fd)).collect();
    match shim.ask(&Request::Start, &all).await? {
        (Reply::Started { pid }, _) => Ok(pid),
        (other, _) => Err(Error::Start { code: 128, text: format!("the shim answered {other:?}") }),
    }
}

fn plan(task: &Task, settings: &Settings, facts: &Host) -> Result<Plan> {
    let id = &task.now.id;
    let shared = &task.shared;
    let snapshot = shared
        .store
        .snapshot(id, &task.now.layers)
        .attempt(|| format!("find the layers of container {id}"))?;
    let mut lower = snapshot.lower;
    lower.push(shared.mount_points.clone());
    let stdin = match (settings.open_stdin, settings.stdin_once) {
        (false, _) => Stdin::Closed,
        (true, false) => Stdin::Open,
        (true, true) => Stdin::Once,
    };
    Ok(Plan {
        id: id.to_string(),
        spec: oci_spec::build(id, settings, facts)?,
        user: settings.user.clone(),
        groups: settings.host.group_add.clone(),
        root: Overlay {
            lower,
            upper: snapshot.upper,
            work: snapshot.work,
            volatile: settings.host.auto_remove,
        },
        cgroups: shared.cgroups.clone(),
        state_directory: shared.state_directory(id),
        boot_id: shared.boot_id.clone(),
        log: log(task, settings),
        stdin,
        init: settings.host.init.unwrap_or(facts.init),
        names: None,
        attachments: Vec::new(),
        descriptors: Vec::new(),
    })
}

fn log(task: &Task, settings: &Settings) -> Option<Log> {
    let config = &task.shared.config;
    super::logs::limits(&settings.host.log, config).ok().flatten().map(|(max_size, max_files)| Log {
        path: task.shared.log_path(&task.now.id),
        max_size,
        max_files,
    })
}

/// Namespaces of other processes, opened.
struct Joins(Vec<(Role, OwnedFd)>);

impl Joins {
    fn open(task: &Task, settings: &Settings) -> Result<Self> {
        let mut joins = Vec::new();
        if let PidMode::Container(other) = &settings.host.pid {
            joins.push((Role::Pid, host::namespace_of(&task.shared, other, "pid")?));
        }
        if let (NetworkMode::Container(other), true) = (&settings.host.network, settings.hostname.is_empty())
        {
            joins.push((Role::Uts, host::namespace_of(&task.shared, other, "uts")?));
        }
        Ok(Self(joins))
    }
}

async fn started(task: &mut Task, pid: i32, endpoint: Option<Endpoint>) {
    let state = &mut task.now.state;
    state.status = Status::Running;
    state.pid = pid;
    state.exit_code = 0;
    state.error.clear();
    state.oom_killed = false;
    state.stopped_by_hand = false;
    state.started_at = Some(OffsetDateTime::now_utc());
    task.now.endpoint = endpoint;
    publish_names(task).await;
    task.tell("start", &[]);
    task.changed().await;
}

/// Lets other containers find this one by name.
pub(crate) async fn publish_names(task: &Task) {
    let Some(endpoint) = &task.now.endpoint else { return };
    let mut names = vec![task.now.name.to_string(), task.now.id.short().to_owned()];
    names.extend(task.now.settings.host.aliases.iter().cloned());
    if !task.now.settings.hostname.is_empty() {
        names.push(task.now.settings.hostname.clone());
    }
    if let Err(error) = task.shared.network.publish(endpoint, &names).await {
        tracing::warn!(container = %task.now.id, error = error.chain(), "its names could not be published");
    }
}
