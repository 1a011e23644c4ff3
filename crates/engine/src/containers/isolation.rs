//! The user namespace of a container: whether it has one, who its users are outside, and its shim's part in it.
//!
//! A network namespace has to belong to the user namespace, or the container could neither mount `/sys` nor change a setting of
//! its network. So the shim makes both before the network is set up, one after the other; without a user namespace the engine
//! makes the network's beside the start of the shim (ADR 0016).

use super::modes::{NetworkMode, PidMode, UserMode};
use super::network::{self, Ahead};
use super::partners;
use super::settings::Settings;
use super::start;
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::shim::Shim;
use coracle_runtime::layers;
use coracle_runtime::protocol::{Isolation, Overlay, Request};
use coracle_spec::{ContainerId, Owners};
use coracle_store::Snapshot;
use coracle_sys::{netns, userns};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Who the users of a container are outside; nothing for one that has the host's user namespace.
pub(super) fn owners<'a>(shared: &'a Shared, settings: &Settings) -> Option<&'a Owners> {
    let remap = shared.config.remap.as_ref()?;
    (settings.host.user_namespace == UserMode::OfEngine).then_some(&remap.owners)
}

/// Refuses what reaches for more than a user namespace has, with Docker's words.
///
/// # Errors
/// [`Error::Invalid`], and [`Error::Unsupported`] where another runtime would have to make it.
pub(super) fn check(shared: &Shared, settings: &Settings) -> Result<()> {
    if owners(shared, settings).is_none() {
        return Ok(());
    }
    let host = &settings.host;
    let reason = if host.privileged {
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running \
         privileged mode"
    } else if host.network == NetworkMode::Host {
        "cannot share the host's network namespace when user namespaces are enabled"
    } else if host.pid == PidMode::Host {
        "cannot share the host PID namespace when user namespaces are enabled"
    } else if shared.runtime(&host.runtime)?.is_some() {
        return Err(Error::Unsupported(format!(
            "the runtime {} is not given a user namespace: run the container with --userns=host",
            host.runtime
        )));
    } else {
        return Ok(());
    };
    Err(Error::Invalid(reason.to_owned()))
}

/// The same as [`owners`] of a container that is about to be started. It may have been made when the engine gave out no ids.
///
/// # Errors
/// As [`check`].
pub(super) fn owners_at_start<'a>(shared: &'a Shared, settings: &Settings) -> Result<Option<&'a Owners>> {
    check(shared, settings)?;
    Ok(owners(shared, settings))
}

/// Has a shim make the container's user namespace, or join the one of those whose other namespaces it joins, and sets up the
/// network namespace that belongs to it.
///
/// # Errors
/// [`Error::Conflict`] where those do not all have the same; what the kernel refuses.
pub(super) async fn isolate(
    shared: &Shared,
    settings: &Settings,
    owners: &Owners,
    shim: &Shim,
) -> Result<Ahead> {
    let (owners, joined) = match partners::user_namespace(shared, settings)? {
        Some((theirs, joined)) => (theirs, Some(joined)),
        None => (owners.clone(), None),
    };
    let mode = &settings.host.network;
    let network = !matches!(mode, NetworkMode::Container(_));
    let request = Request::Isolate(Isolation { owners: owners.clone(), network });
    let descriptors: Vec<_> = joined.iter().map(AsFd::as_fd).collect();
    let (_, mut made) = shim.ask(&request, &descriptors).await?;
    let namespace = match made.pop() {
        Some(netns) => Some(network::set_up(mode, netns).await?),
        None => None,
    };
    Ok(Ahead { namespace, owners: Some(owners), ..Ahead::default() })
}

/// Proves that this machine can do what the engine's configuration asks for: that the ids can be given, and that layers can be shown
/// as theirs.
///
/// # Errors
/// [`Error::Unsupported`] with what the kernel cannot.
pub(crate) async fn prove(shared: &Arc<Shared>) -> Result<()> {
    let Some(remap) = &shared.config.remap else { return Ok(()) };
    let id = ContainerId::random();
    let (shim, events, gone) = start::launch(shared, &id).await?;
    let request = Request::Isolate(Isolation { owners: remap.owners.clone(), network: true });
    let made = shim.ask(&request, &[]).await;
    drop((shim, events));
    // A panic there would be this engine's own, and has been told.
    let _ = gone.await;
    let (shared, owners) = (Arc::clone(shared), remap.owners.clone());
    let proved = blocking(move || {
        let directory = shared.state_directory(&id);
        std::fs::remove_dir_all(&directory).attempt(|| format!("remove {}", directory.display()))?;
        let (_, mut made) = made?;
        let missing = || Error::Conflict("the shim sent no namespace".to_owned());
        prove_layers(&shared, &owners, &made.pop().ok_or_else(missing)?)
    });
    proved.await?.map_err(|error| {
        Error::Unsupported(format!(
            "--userns-remap cannot be had here: {}; it needs a kernel that mounts layers with mapped owners, as Linux 6.18 does, \
             and privilege over the ids of {}",
            error.chain(),
            remap.user
        ))
    })
}

/// Mounts layers as a container does that has the user namespace which `netns` belongs to, and makes a file there.
fn prove_layers(shared: &Shared, owners: &Owners, netns: &OwnedFd) -> Result<()> {
    let proving = || "mount layers with mapped owners".to_owned();
    let user = netns::owner(netns.as_fd()).attempt(proving)?;
    let scratch = shared.store.scratch(&[]).attempt(proving)?;
    let Snapshot { mut lower, upper, work } = scratch.snapshot().clone();
    lower.push(shared.mount_points.clone());
    let layers = Overlay { lower, upper: upper.clone(), work, volatile: true, ..Overlay::default() };
    let overlay = layers::overlay(&layers, Some((user.as_fd(), owners))).attempt(proving)?;
    let root = overlay.mount().attempt(proving)?;
    let theirs = owners.outside((0, 0)).unwrap_or_default();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let make = || rustix::fs::openat(&root, "made", flags, Mode::RUSR);
    userns::as_owner(theirs, make).attempt(proving)?.attempt(proving)?;
    let owner = std::fs::metadata(upper.join("made")).attempt(proving)?.uid();
    if owner == 0 {
        Ok(())
    } else {
        Err(Error::Invalid(format!("a file of root's came to belong to {owner}")))
    }
}

/// Who the users of a running process are outside, by its process id; nothing for one that has the engine's own user namespace.
pub(super) fn owners_of_process(pid: i32) -> Result<Option<Owners>> {
    let user = |process: &str| {
        let path = format!("/proc/{process}/ns/user");
        match rustix::fs::stat(&path) {
            Err(Errno::NOENT) => Err(Error::Conflict("the container has just ended".to_owned())),
            found => found.map(|stat| (stat.st_dev, stat.st_ino)).attempt(|| format!("look at {path}")),
        }
    };
    if user(&pid.to_string())? == user("self")? {
        return Ok(None);
    }
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path).attempt(|| format!("read {path}"))
    };
    let owners = Owners::parse(&read("uid_map")?, &read("gid_map")?);
    owners
        .map(Some)
        .ok_or_else(|| Error::Invalid(format!("process {pid} has a user namespace without users")))
}
