//! Starting a container: its network and its shim are made side by side, unless they were prepared, then the shim is given
//! the plan.

use super::memberships::Membership;
use super::modes::NetworkMode;
use super::network::{self, Connected};
use super::oci_spec::{self, Host};
use super::prepare::Prepared;
use super::state::Status;
use super::task::{Live, Task};
use super::trees::Volumes;
use super::{Description, host, isolation, logs, mounts, partners, quota, trees};
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::shim::Shim;
use coracle_network::DnsSockets;
use coracle_runtime::channel;
use coracle_runtime::protocol::{self, Attachment, Log, Overlay, Plan, Reply, Request, Role, Stdin};
use coracle_spec::ContainerId;
use coracle_sys::process::{Child, reap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Starts the container of `task`. On failure everything is as before, and its record says why.
pub(crate) async fn start(task: &mut Task) -> Result<()> {
    let waiting = task.waiting.take();
    task.shared.sizes.forget(&task.now.id);
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
    let (launched, connected) = match take_prepared(task).await {
        Some(Prepared { launched, network: ahead }) => {
            (Ok(launched), network::connect(task, Some(ahead)).await)
        }
        None => match isolation::owners_at_start(&task.shared, &task.now.settings)? {
            None => tokio::join!(launch(&task.shared, &task.now.id), network::connect(task, None)),
            Some(owners) => {
                let launched = launch(&task.shared, &task.now.id).await?;
                let isolated =
                    isolation::isolate(&task.shared, &task.now.settings, owners, &launched.0).await;
                let connected = match isolated {
                    Ok(ahead) => network::connect(task, Some(ahead)).await,
                    Err(error) => Err(error),
                };
                (Ok(launched), connected)
            }
        },
    };
    let (connected, (shim, events, gone)) = match (connected, launched) {
        (Ok(connected), Ok(launched)) => (connected, launched),
        (Ok(connected), Err(error)) => {
            network::give_back(&task.shared, &task.now.id, connected.networks).await;
            return Err(error);
        }
        (Err(error), Ok((shim, events, gone))) => {
            // The shim ends when its socket is closed before the start; until then its cgroup is in the way of the next.
            drop((shim, events));
            task.last = Some(gone);
            return Err(error);
        }
        (Err(error), Err(_)) => return Err(error),
    };
    let networks = connected.networks.clone();
    match hand_over(task, &shim, connected, waiting).await {
        Ok((pid, volumes)) => {
            task.live = Some(Live { shim, events, volumes });
            started(task, pid, networks).await;
            Ok(())
        }
        Err(error) => {
            task.last = Some(gone);
            if matches!(error, Error::Conflict(_)) {
                // The shim is gone, and has removed nothing.
                super::exit::clear(&task.shared, &task.now).await;
            }
            network::give_back(&task.shared, &task.now.id, networks).await;
            Err(error)
        }
    }
}

/// What was prepared for this start, unless it was killed meanwhile.
async fn take_prepared(task: &mut Task) -> Option<Prepared> {
    let prepared = task.prepared.take()?.made().await?;
    (!prepared.launched.2.is_finished()).then_some(prepared)
}

/// The shim, what it tells, and the end of its process.
pub(super) type Launched = (Shim, mpsc::UnboundedReceiver<protocol::Event>, JoinHandle<()>);

/// Starts the shim's process, which then waits for its plan, and which is collected whatever becomes of it.
pub(super) async fn launch(shared: &Shared, id: &ContainerId) -> Result<Launched> {
    let launcher = Arc::clone(&shared.launcher);
    let directory = shared.state_directory(id);
    let (ours, child) = blocking(move || {
        make_anew(&directory)
            .and_then(|()| channel::pair().map_err(std::io::Error::other))
            .map(|(ours, theirs)| (ours, launcher.start(theirs, &directory.join("shim.log"))))
    })
    .await?
    .attempt(|| format!("prepare the state directory of container {id}"))?;
    let gone = tokio::spawn(wait_for(child?));
    let (shim, events) = Shim::new(ours)?;
    Ok((shim, events, gone))
}

/// Makes the directory, empty: what an earlier run has left would be taken for this one's.
fn make_anew(directory: &std::path::Path) -> std::io::Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_dir_all(directory)?;
            std::fs::create_dir(directory)
        }
        made => made,
    }
}

/// Waits until the shim's process has ended, and collects it.
async fn wait_for(child: Child) {
    let Ok(pidfd) = crate::watch::watch(child.pidfd) else { return };
    if pidfd.readable().await.is_ok() {
        // Only a shim of an earlier engine is no child, and that one is not waited for here.
        let _ = reap(pidfd.get_ref().as_fd());
    }
}

/// Sends the plan. Returns the first process, which keeps the network namespace from here on, and the volumes that are mounted
/// for the container.
async fn hand_over(
    task: &Task,
    shim: &Shim,
    connected: Connected,
    waiting: Vec<(Attachment, OwnedFd)>,
) -> Result<(i32, Volumes)> {
    let (shared, now) = (Arc::clone(&task.shared), task.now.clone());
    let (owned, volumes) = blocking(move || prepare(&shared, &now, connected, waiting)).await??;
    let descriptors: Vec<BorrowedFd<'_>> = owned.iter().map(AsFd::as_fd).collect();
    let error = match shim.ask(&Request::Start, &descriptors).await {
        Ok((Reply::Started { pid }, _)) => return Ok((pid, volumes)),
        Ok((other, _)) => {
            Error::Start { code: 128, text: format!("the shim answered {other:?}"), verb: None }
        }
        Err(error) => error,
    };
    // The last hold of a volume may unmount it.
    blocking(move || drop((owned, volumes))).await?;
    Err(error)
}

/// Writes the files that the container's network decides, and the plan. Returns the plan and what goes with it.
fn prepare(
    shared: &Shared,
    now: &Description,
    connected: Connected,
    waiting: Vec<(Attachment, OwnedFd)>,
) -> Result<(Vec<OwnedFd>, Volumes)> {
    quota::check(shared, now)?;
    let settings = &now.settings;
    let files = network::write_files(shared, now, &connected.networks, &connected.written)?;
    let netns = connected.namespace.as_ref().map(|namespace| namespace.netns.as_fd());
    let netns = netns.or_else(|| connected.joined.as_ref().map(AsFd::as_fd));
    let (trees, volumes) = trees::of(shared, now, netns.filter(|_| connected.owners.is_some()))?;
    let owners = connected.owners;
    let facts = host::facts(shared, settings, mounts::of(now, files, owners.as_ref())?)?;
    let mut plan = plan(shared, now, &Host { links: connected.links, owners, ..facts })?;
    let mut descriptors: Vec<(Role, OwnedFd)> = Vec::new();
    descriptors.extend(connected.joined.map(|joined| (Role::Network, joined)));
    descriptors.extend(partners::joins(shared, settings)?);
    descriptors.extend(trees);
    let has_names = connected.has_names;
    if let Some(namespace) = connected.namespace.filter(|_| !connected.is_with_shim) {
        descriptors.extend(of_namespace(namespace.netns, namespace.dns));
    }
    plan.names = has_names.then(|| network::names(shared, now));
    plan.relays =
        connected.networks.iter().filter_map(|on| on.endpoint.as_ref()).flat_map(network::relays).collect();
    descriptors.extend(connected.held.sockets.into_iter().map(|socket| (Role::Held, socket)));
    for (attachment, socket) in waiting {
        plan.attachments.push(attachment);
        descriptors.push((Role::Attached, socket));
    }
    plan.descriptors = descriptors.iter().map(|(role, _)| *role).collect();
    let memory = protocol::write_plan(&plan).attempt(|| "write the plan".into())?;
    let descriptors =
        std::iter::once(memory).chain(descriptors.into_iter().map(|(_, descriptor)| descriptor));
    Ok((descriptors.collect(), volumes))
}

/// What of a namespace goes to the shim.
pub(super) fn of_namespace(netns: OwnedFd, dns: Option<DnsSockets>) -> impl Iterator<Item = (Role, OwnedFd)> {
    let dns = dns.into_iter().flat_map(|dns| [(Role::NamesUdp, dns.udp), (Role::NamesTcp, dns.tcp)]);
    std::iter::once((Role::Network, netns)).chain(dns)
}

pub(super) fn plan(shared: &Shared, now: &Description, facts: &Host) -> Result<Plan> {
    let (id, settings) = (&now.id, &now.settings);
    let snapshot =
        shared.store.snapshot(id, &now.layers).attempt(|| format!("find the layers of container {id}"))?;
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
            may_be_bounded: shared.store.has_quotas(),
        },
        cgroups: shared.cgroups.clone(),
        state_directory: shared.state_directory(id),
        boot_id: shared.boot_id.clone(),
        log: log(shared, now)?,
        stdin,
        init: settings.host.init.unwrap_or(facts.init),
        names: None,
        attachments: Vec::new(),
        descriptors: Vec::new(),
        relays: Vec::new(),
        runtime: shared
            .runtime(&settings.host.runtime)?
            .map(|other| protocol::Runtime { path: other.path, arguments: other.arguments }),
    })
}

fn log(shared: &Shared, now: &Description) -> Result<Option<Log>> {
    let Some((max_size, max_files)) = logs::limits(&now.settings.host.log, &shared.config)? else {
        return Ok(None);
    };
    let attributes = logs::attributes(now, &shared.config)?;
    Ok(Some(Log { path: shared.log_path(&now.id), max_size, max_files, attributes }))
}

async fn started(task: &mut Task, pid: i32, networks: Vec<Membership>) {
    let state = &mut task.now.state;
    state.status = Status::Running;
    state.pid = pid;
    state.exit_code = 0;
    state.error.clear();
    state.oom_killed = false;
    state.stopped_by_hand = false;
    let now = OffsetDateTime::now_utc();
    state.started_at = Some(now);
    task.now.networks = networks;
    super::health::begin(&mut task.now);
    task.shared.images.note_use(&task.now.image, now);
    publish_names(task).await;
    tell_of_networks(task, "connect");
    for mount in task.now.volumes() {
        task.shared.volumes.tell_mounted(mount, &task.now.id);
    }
    task.tell("start", &[]);
    task.changed().await;
}

/// Lets other containers find this one by name.
pub(crate) async fn publish_names(task: &Task) {
    for membership in &task.now.networks {
        let Some(endpoint) = &membership.endpoint else { continue };
        let published = match task.shared.networks.find(&membership.network) {
            Ok(live) => live.bridge.publish(endpoint, &membership.names(&task.now)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            tracing::warn!(container = %task.now.id, error = error.chain(), "its names could not be published");
        }
    }
}

/// Tells of what happens to a container on all its networks.
pub(super) fn tell_of_networks(task: &Task, action: &str) {
    if let mode @ (NetworkMode::Host | NetworkMode::None) = &task.now.settings.host.network {
        task.shared.networks.tell_of_predefined(&mode.to_string(), action, &task.now.id);
    }
    for membership in task.now.networks.iter().filter(|membership| membership.endpoint.is_some()) {
        if let Ok(live) = task.shared.networks.find(&membership.network) {
            task.shared.networks.tell(&live.network, action, Some(&task.now.id));
        }
    }
}
