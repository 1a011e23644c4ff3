//! A container becomes an image. It stands still meanwhile, and no longer: also when the engine is killed meanwhile, the
//! next one has it go on.

use super::state::Status;
use super::{Description, record};
use crate::engine::{Engine, Shared};
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::CommitRequest;
use crate::index::Durability;
use crate::shim::Shim;
use coracle_runtime::protocol::Request;
use coracle_spec::{ContainerId, Digest};
use coracle_sys::atomic;
use rustix::fs::Mode;
use std::path::PathBuf;

/// Lies in the state directory of a container that stands still for a commit only.
const NOTE: &str = "commit";

impl Engine {
    /// Makes an image of a container, which is paused meanwhile if `pause`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for changes that are none.
    pub async fn commit(&self, name: &str, pause: bool, request: CommitRequest) -> Result<Digest> {
        let container = self.inspect(name)?;
        let paused = pause && self.pause_briefly(&container).await?;
        let image = self.images().commit(request).await;
        if paused {
            self.go_on(&container.id).await?;
        }
        image
    }

    /// Has a container that runs stand still until [`Self::go_on`]; whether it does because of that.
    pub(super) async fn pause_briefly(&self, container: &Description) -> Result<bool> {
        let id = &container.id;
        if container.state.status != Status::Running {
            return Ok(false);
        }
        let note = note(&self.shared, id);
        let writing = move || atomic::write(note, b"", Mode::from_raw_mode(0o600));
        blocking(writing).await?.attempt(|| format!("note that container {id} stands still for a moment"))?;
        let paused = self.pause(id.as_str()).await;
        if paused.is_err() {
            forget(&self.shared, id);
        }
        match paused {
            Ok(()) => Ok(true),
            // It has ended meanwhile.
            Err(Error::Conflict(_)) if !self.inspect(id.as_str())?.state.status.is_up() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has a container go on that stands still because of [`Self::pause_briefly`].
    pub(super) async fn go_on(&self, id: &ContainerId) -> Result<()> {
        let thawed = match self.unpause(id.as_str()).await {
            // It was killed meanwhile.
            Ok(()) | Err(Error::Conflict(_) | Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        forget(&self.shared, id);
        thawed
    }
}

/// Has a container go on that an earlier engine was committing.
pub(super) async fn thaw_interrupted(shared: &Shared, description: &mut Description, shim: &Shim) {
    if !note(shared, &description.id).exists() {
        return;
    }
    match thaw(shared, description, shim).await {
        Ok(()) => forget(shared, &description.id),
        Err(error) => {
            let (container, error) = (&description.id, error.chain());
            tracing::error!(%container, error, "it stands still after a commit that was interrupted");
        }
    }
}

async fn thaw(shared: &Shared, description: &mut Description, shim: &Shim) -> Result<()> {
    shim.ask(&Request::Freeze { frozen: false }, &[]).await?;
    description.state.status = Status::Running;
    // Before the note goes: without it, an engine that comes later takes the record's word that somebody has paused it.
    let (id, name, record) = (&description.id, &description.name, record::write(description));
    shared.index.put_container(id, name, record, Durability::Deferred).await
}

/// Nobody is committing the container any more.
pub(super) fn forget(shared: &Shared, id: &ContainerId) {
    match std::fs::remove_file(note(shared, id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(container = %id, %error, "the note of a commit cannot be removed");
        }
        _ => {}
    }
}

fn note(shared: &Shared, id: &ContainerId) -> PathBuf {
    shared.state_directory(id).join(NOTE)
}
