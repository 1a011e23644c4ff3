//! Other containers whose namespaces a container joins. Known by id from the container's creation on; what they are is looked
//! up at each of its starts.

use super::modes::{IpcMode, NetworkMode, PidMode, UtsMode};
use super::registry::Registry;
use super::settings::{HostSettings, Settings};
use super::state::Status;
use super::{Description, isolation};
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result};
use coracle_runtime::protocol::Role;
use coracle_spec::{ContainerId, Owners};
use coracle_sys::mount::{self, Depth};
use coracle_sys::rooted::Root;
use coracle_sys::{error::Context, mntns};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::watch;

/// `f_type` of tmpfs, statfs(2).
const TMPFS: i64 = 0x0102_1994;

/// Puts ids in the place of names, so that another container of the name does not become the partner.
///
/// # Errors
/// [`Error::Invalid`] for a pid or ipc namespace of nobody, as in Docker. A network may be missing until the start.
pub(super) fn resolve(containers: &Registry, host: &mut HostSettings) -> Result<()> {
    let find = |other: &mut String| {
        let found = containers.find(other).map_err(|error| Error::Invalid(error.to_string()))?;
        *other = found.id().to_string();
        Ok(())
    };
    if let PidMode::Container(other) = &mut host.pid {
        find(other)?;
    }
    if let IpcMode::Container(other) = &mut host.ipc {
        find(other)?;
    }
    if let NetworkMode::Container(other) = &mut host.network
        && let Ok(found) = containers.find(other)
    {
        *other = found.id().to_string();
    }
    Ok(())
}

/// A container whose namespace `now` joins and which is about to be started, so that it has to come first. What is returned
/// sees every later change of it.
pub(super) fn awaited(containers: &Registry, now: &Description) -> Option<watch::Receiver<Arc<Description>>> {
    let host = &now.settings.host;
    let mut partners: Vec<&str> = Vec::new();
    if let NetworkMode::Container(other) = &host.network {
        partners.push(other);
    }
    if let IpcMode::Container(other) = &host.ipc {
        partners.push(other);
    }
    if let PidMode::Container(other) = &host.pid {
        partners.push(other);
    }
    let found = partners.into_iter().filter_map(|partner| containers.find(partner).ok());
    let mut watched = found.map(|found| found.watch());
    watched.find_map(|mut partner| {
        let status = partner.borrow_and_update().state.status;
        (status == Status::Restarting).then_some(partner)
    })
}

/// Whose network a container has: another's may be a third one's in turn.
///
/// # Errors
/// [`Error::NotFound`] where one is gone.
pub(super) fn owner_of_network(shared: &Shared, container: &Description) -> Result<ContainerId> {
    let mut owner = container.id.clone();
    let mut network = container.settings.host.network.clone();
    while let NetworkMode::Container(other) = network {
        let other = shared.containers.find(&other)?.describe();
        if other.id == container.id {
            return Err(Error::Invalid("cannot join own network".to_owned()));
        }
        owner = other.id.clone();
        network = other.settings.host.network.clone();
    }
    Ok(owner)
}

/// The network namespace of another container.
///
/// # Errors
/// [`Error::Conflict`] with Docker's words when it does not run.
pub(super) fn network_of(shared: &Shared, other: &str) -> Result<OwnedFd> {
    let other = shared.containers.find(other)?.describe();
    if !other.state.status.is_up() {
        let text = format!("cannot join network of a non running container: {}", other.id);
        return Err(Error::Conflict(text));
    }
    namespace(&other, "net")
}

/// What a container joins of others besides their network, opened.
///
/// # Errors
/// As Docker, when one does not run or does not share: [`Error::Failed`] for a pid namespace, [`Error::Conflict`] and
/// [`Error::Invalid`] for an ipc namespace.
pub(super) fn joins(shared: &Shared, settings: &Settings) -> Result<Vec<(Role, OwnedFd)>> {
    let mut joins = Vec::new();
    if let PidMode::Container(other) = &settings.host.pid {
        let other = shared.containers.find(other)?.describe();
        running(&other).attempt(|| "failed to join PID namespace".to_owned())?;
        joins.push((Role::Pid, namespace(&other, "pid")?));
    }
    if let (NetworkMode::Container(other), UtsMode::Private) = (&settings.host.network, settings.host.uts) {
        joins.push((Role::Uts, namespace(&shared.containers.find(other)?.describe(), "uts")?));
    }
    if let IpcMode::Container(other) = &settings.host.ipc {
        let other = shared.containers.find(other)?.describe();
        let joining = |refusal| format!("failed to join IPC namespace: {refusal}");
        running(&other).map_err(|refusal| Error::Conflict(joining(refusal)))?;
        shareable(&other).map_err(|refusal| Error::Invalid(joining(refusal)))?;
        joins.push((Role::Ipc, namespace(&other, "ipc")?));
        joins.push((Role::SharedMemory, shared_memory(&other)?));
    }
    Ok(joins)
}

/// The user namespace of the containers whose other namespaces a container joins, as far as they run, and who its users are
/// outside. Namespaces belong to one, so all of them have to have the same.
///
/// # Errors
/// [`Error::Conflict`] when they do not, or one has the host's.
pub(super) fn user_namespace(shared: &Shared, settings: &Settings) -> Result<Option<(Owners, OwnedFd)>> {
    let host = &settings.host;
    let network = if let NetworkMode::Container(other) = &host.network { Some(other) } else { None };
    let ipc = if let IpcMode::Container(other) = &host.ipc { Some(other) } else { None };
    let pid = if let PidMode::Container(other) = &host.pid { Some(other) } else { None };
    let mut found: Option<(ContainerId, Owners, OwnedFd)> = None;
    for other in [network, ipc, pid].into_iter().flatten() {
        let other = shared.containers.find(other)?.describe();
        if !other.state.status.is_up() {
            // Whoever opens what is joined says so.
            continue;
        }
        let owners = isolation::owners_of_process(other.state.pid)?.ok_or_else(|| {
            Error::Conflict(format!(
                "container {} is in the host's user namespace, and cannot be joined from another: run with --userns=host to \
                 join it",
                other.id
            ))
        })?;
        let user = namespace(&other, "user")?;
        match &found {
            Some((first, _, same)) if !is_same(same, &user)? => {
                return Err(Error::Conflict(format!(
                    "containers {first} and {} have different user namespaces, and cannot both be joined",
                    other.id
                )));
            }
            _ => found = Some((other.id.clone(), owners, user)),
        }
    }
    Ok(found.map(|(_, owners, user)| (owners, user)))
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> Result<bool> {
    let identity = |namespace: &OwnedFd| {
        rustix::fs::fstat(namespace)
            .map(|stat| (stat.st_dev, stat.st_ino))
            .attempt(|| "look at a namespace".to_owned())
    };
    Ok(identity(one)? == identity(other)?)
}

/// Why another container cannot be joined.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    #[error("container {0}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)")]
    NotShareable(ContainerId),
}

fn running(other: &Description) -> std::result::Result<(), Refusal> {
    if other.state.status.is_up() { Ok(()) } else { Err(Refusal::NotRunning(other.id.clone())) }
}

fn shareable(other: &Description) -> std::result::Result<(), Refusal> {
    match other.settings.host.ipc {
        IpcMode::Shareable | IpcMode::Host | IpcMode::Container(_) => Ok(()),
        IpcMode::Private | IpcMode::None => Err(Refusal::NotShareable(other.id.clone())),
    }
}

fn namespace(other: &Description, kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/{kind}", other.state.pid);
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .attempt(|| format!("open {path}"))
}

/// A copy of the mount on another container's `/dev/shm`. Only inside its mount namespace can it be copied, open_tree(2),
/// and it is the container's to change: no link there is followed, and nothing but a tmpfs is taken.
fn shared_memory(other: &Description) -> Result<OwnedFd> {
    let copying = || format!("share /dev/shm of container {}", other.id);
    let namespace = namespace(other, "mnt")?;
    let copy = || {
        let path = "/";
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).context("open", path)?;
        let found = Root::from_fd(root)?.open_directory_without_links("dev/shm")?;
        mount::require_file_system(found.as_fd(), TMPFS, "a tmpfs on /dev/shm")?;
        mount::copy_descriptor(found.as_fd(), Depth::One)
    };
    mntns::inside(namespace.as_fd(), copy).and_then(|copied| copied).attempt(copying)
}
