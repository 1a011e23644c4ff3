//! The removal of a container that has no processes.

use super::state::Status;
use super::task::{Command, Task};
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_spec::ContainerId;
use std::sync::Arc;

/// Removes everything of the container. What fails is reported at the end; a container that could not be removed is
/// dead, and can be removed again.
pub(crate) async fn remove(task: &mut Task, volumes: bool) -> Result<()> {
    let failures = take_down(task, volumes).await;
    if let Some(first) = failures.into_iter().next() {
        task.now.state.status = Status::Dead;
        task.now.state.error = first.chain();
        task.changed().await;
        return Err(first);
    }
    drop(task.waiting.take());
    task.shared.execs.remove_of(&task.now.id);
    task.shared.containers.remove(&task.now.id, &task.now.name);
    task.shared.sizes.forget(&task.now.id);
    task.tell("destroy", &[]);
    Ok(())
}

/// Removes a container that nobody has asked to remove: it was made for a step of something else. What stays behind is an
/// ordinary container, which anybody can remove.
pub(crate) async fn remove_unasked(shared: Arc<Shared>, id: ContainerId) {
    let removed = match shared.containers.find(id.as_str()) {
        Ok(container) => container.ask(|reply| Command::Remove { force: true, volumes: true, reply }).await,
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        tracing::warn!(container = %id, error = error.chain(), "it could not be removed");
    }
}

async fn take_down(task: &mut Task, volumes: bool) -> Vec<Error> {
    let mut failures = Vec::new();
    if !matches!(task.shared.runtime(&task.now.settings.host.runtime), Ok(None)) {
        // Another runtime is removing what it has of the container, in the directory that goes below.
        task.layers_are_free().await;
    }
    let id = task.now.id.clone();
    let (store, state) = (Arc::clone(&task.shared.store), task.shared.state_directory(&id));
    let removed = blocking(move || {
        // Renamed away; the deleting happens later.
        store.remove_snapshot(&id).attempt(|| format!("remove the layers of container {id}"))?;
        match std::fs::remove_dir_all(&state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).attempt(|| format!("remove {}", state.display()))
            }
            _ => Ok(()),
        }
    })
    .await;
    failures.extend(removed.and_then(|removed| removed).err());
    // What a container had until now is not old. Written with the removal.
    task.shared.images.note_use(&task.now.image, time::OffsetDateTime::now_utc());
    failures.extend(task.shared.index.remove_container(&task.now.id).await.err());
    if volumes {
        for mount in task.now.mounts.iter().filter(|mount| mount.anonymous) {
            // An anonymous volume that another container has been given stays.
            match task.shared.remove_anonymous_volume(&mount.name, &task.now.id).await {
                Ok(()) | Err(Error::Conflict(_) | Error::NotFound { .. }) => {}
                Err(error) => failures.push(error),
            }
        }
    }
    task.shared.empty_trash_soon();
    failures
}
