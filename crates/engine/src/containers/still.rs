//! Containers stand still for a moment, for a commit or while a volume of theirs is read as a whole, and no longer than somebody
//! needs that: also when the engine is killed meanwhile, the next one has them go on.

use super::state::Status;
use super::{Description, record};
use crate::engine::{Engine, Shared};
use crate::error::{Attempt, Error, Result, blocking};
use crate::index::Durability;
use crate::shim::Shim;
use coracle_runtime::protocol::Request;
use coracle_spec::ContainerId;
use coracle_sys::atomic;
use rustix::fs::Mode;
use std::path::PathBuf;

/// Lies in the state directory of a container that stands still for a moment only.
const NOTE: &str = "commit";

impl Engine {
    /// Has a container that runs stand still until [`Self::go_on`]; whether it does because of that. One that somebody else
    /// holds still goes on after both.
    pub(super) async fn hold_still(&self, id: &ContainerId) -> Result<bool> {
        let container = self.shared.containers.find(id.as_str())?;
        let mut holders = container.holders().lock().await;
        match container.describe().state.status {
            Status::Running => *holders = 0,
            // By whoever holds it, not by somebody who has paused it.
            Status::Paused if *holders > 0 => {
                *holders += 1;
                return Ok(true);
            }
            _ => return Ok(false),
        }
        let note = note(&self.shared, id);
        let writing = move || atomic::write(note, b"", Mode::from_raw_mode(0o600));
        blocking(writing).await?.attempt(|| format!("note that container {id} stands still for a moment"))?;
        let paused = self.pause(id.as_str()).await;
        if paused.is_err() {
            forget(&self.shared, id);
        }
        match paused {
            Ok(()) => {
                *holders = 1;
                Ok(true)
            }
            // It has ended meanwhile.
            Err(Error::Conflict(_)) if !self.inspect(id.as_str())?.state.status.is_up() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has a container go on that stands still because of [`Self::hold_still`], unless somebody else needs it still.
    pub(super) async fn go_on(&self, id: &ContainerId) -> Result<()> {
        let container = match self.shared.containers.find(id.as_str()) {
            // It was removed meanwhile.
            Err(Error::NotFound { .. }) => return Ok(()),
            found => found?,
        };
        let mut holders = container.holders().lock().await;
        *holders = holders.saturating_sub(1);
        if *holders > 0 {
            return Ok(());
        }
        let thawed = match self.unpause(id.as_str()).await {
            // It was killed meanwhile.
            Ok(()) | Err(Error::Conflict(_) | Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        forget(&self.shared, id);
        thawed
    }
}

/// Has a container go on that an earlier engine has held still.
pub(super) async fn thaw_interrupted(shared: &Shared, description: &mut Description, shim: &Shim) {
    if !note(shared, &description.id).exists() {
        return;
    }
    match thaw(shared, description, shim).await {
        Ok(()) => forget(shared, &description.id),
        Err(error) => {
            let (container, error) = (&description.id, error.chain());
            tracing::error!(%container, error, "it stands still after an engine that was killed");
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

/// Nobody holds the container still any more.
pub(super) fn forget(shared: &Shared, id: &ContainerId) {
    match std::fs::remove_file(note(shared, id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(container = %id, %error, "the note that it stands still cannot be removed");
        }
        _ => {}
    }
}

fn note(shared: &Shared, id: &ContainerId) -> PathBuf {
    shared.state_directory(id).join(NOTE)
}
