//! What is made of a container between its create and its start, while its client thinks: a shim whose first process waits
//! in the container's cgroup and namespaces (ADR 0015).
//!
//! Nothing depends on it. It is made beside everything else and taken by a start that comes soon; without it, or when
//! something of the container was changed meanwhile, the start makes the same itself.

use super::modes::{IpcMode, NetworkMode, PidMode};
use super::network::{self, Ahead};
use super::oci_spec::Host;
use super::start::{self, Launched};
use super::task::Task;
use super::{Description, host, isolation, mounts};
use crate::engine::Shared;
use crate::error::{Attempt, Result, blocking};
use coracle_runtime::protocol::{self, Request};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Most containers that are prepared at once; each costs about a megabyte.
pub(crate) const MOST: usize = 16;
/// How long one waits for its start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container that is prepared, or about to be.
pub(crate) struct Preparation {
    made: JoinHandle<Result<Prepared>>,
    /// When it is given up.
    pub(crate) until: Instant,
    _permit: OwnedSemaphorePermit,
}

/// A container that is prepared.
pub(crate) struct Prepared {
    pub(super) launched: Launched,
    pub(super) network: Ahead,
}

/// Begins to prepare a container, unless it shares what belongs to another, another runtime makes it, or enough are prepared
/// already.
pub(crate) fn begin(shared: &Arc<Shared>, now: &Description) -> Option<Preparation> {
    let host = &now.settings.host;
    let shares = matches!(host.network, NetworkMode::Container(_))
        || matches!(host.pid, PidMode::Container(_))
        || matches!(host.ipc, IpcMode::Container(_));
    // A runtime that is not known any more is for the start to tell.
    if shares || !matches!(shared.runtime(&host.runtime), Ok(None)) {
        return None;
    }
    let permit = Arc::clone(&shared.preparations).try_acquire_owned().ok()?;
    let made = tokio::spawn(prepare(Arc::clone(shared), now.clone()));
    Some(Preparation { made, until: Instant::now() + PATIENCE, _permit: permit })
}

async fn prepare(shared: Arc<Shared>, now: Description) -> Result<Prepared> {
    let (launched, ahead) = match isolation::owners_at_start(&shared, &now.settings)? {
        None => {
            let making = network::namespace(&now.settings.host.network);
            let (launched, namespace) = tokio::join!(start::launch(&shared, &now.id), making);
            (launched?, Ahead { namespace: namespace?, ..Ahead::default() })
        }
        Some(owners) => {
            let launched = start::launch(&shared, &now.id).await?;
            let ahead = isolation::isolate(&shared, &now.settings, owners, &launched.0).await?;
            (launched, ahead)
        }
    };
    let (network, descriptors) = blocking(move || describe(&shared, &now, ahead)).await??;
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    launched.0.tell(&Request::Prepare, &descriptors).await?;
    Ok(Prepared { launched, network })
}

/// The plan of the container as it would be started now, and what goes with it. Of its own files only what is known
/// already is written.
fn describe(
    shared: &Shared,
    now: &Description,
    Ahead { mut namespace, owners, .. }: Ahead,
) -> Result<(Ahead, Vec<OwnedFd>)> {
    let written = network::write_ahead(shared, now)?;
    let files = network::own_files(&shared.state_directory(&now.id));
    let facts = host::facts(shared, &now.settings, mounts::of(now, files, owners.as_ref())?)?;
    let mut plan = start::plan(shared, now, &Host { owners: owners.clone(), ..facts })?;
    let mut given = Vec::new();
    if let Some(namespace) = &mut namespace {
        let netns = namespace.netns.try_clone().attempt(|| "duplicate a network namespace".into())?;
        plan.names = namespace.dns.is_some().then(|| network::names(shared, now));
        given.extend(start::of_namespace(netns, namespace.dns.take()));
    }
    plan.descriptors = given.iter().map(|(role, _)| *role).collect();
    let memory = protocol::write_plan(&plan).attempt(|| "write the plan".into())?;
    let descriptors = std::iter::once(memory).chain(given.into_iter().map(|(_, descriptor)| descriptor));
    Ok((Ahead { namespace, is_with_shim: true, written, owners }, descriptors.collect()))
}

impl Preparation {
    /// What was prepared, once it is; nothing if that did not succeed, as whatever was in its way will be in the way of
    /// the start as well, and be told there.
    pub(super) async fn made(self) -> Option<Prepared> {
        let made = self.made.await.ok()?;
        made.inspect_err(|error| tracing::debug!(error = error.chain(), "a container could not be prepared"))
            .ok()
    }

    /// Ends it, and waits until nothing of it is left.
    pub(super) async fn dismiss(self) {
        let Some(Prepared { launched: (shim, events, gone), .. }) = self.made().await else { return };
        drop((shim, events));
        // A panic there would be this engine's own, and has been told.
        let _ = gone.await;
    }
}

impl Task {
    /// Ends what was prepared, if anything was.
    pub(super) async fn dismiss_prepared(&mut self) {
        let Some(preparation) = self.prepared.take() else { return };
        preparation.dismiss().await;
        let directory = self.shared.state_directory(&self.now.id);
        if let Err(error) = blocking(move || std::fs::remove_dir_all(directory)).await.and_then(|removed| {
            removed.attempt(|| format!("remove the state directory of container {}", self.now.id))
        }) {
            tracing::debug!(error = error.chain(), "nothing was there, or it stays until the next start");
        }
    }
}
