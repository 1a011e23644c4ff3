//! Containers of steps that an engine was killed in the middle of. Each has a note from before it is made until after it is
//! gone; an engine that starts removes those that have one.

use crate::containers::remove_unasked;
use crate::engine::Shared;
use crate::error::{Attempt, Result, blocking};
use coracle_spec::ContainerId;
use coracle_sys::atomic;
use rustix::fs::Mode;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIRECTORY: &str = "building";

/// Notes that a container is made for a step.
pub(super) async fn note(shared: &Shared, id: &ContainerId) -> Result<()> {
    let (directory, id) = (directory(shared), id.clone());
    blocking(move || {
        atomic::create_dir(&directory, Mode::from_raw_mode(0o700))?;
        atomic::write(directory.join(id.as_str()), b"", Mode::from_raw_mode(0o600))
    })
    .await?
    .attempt(|| "note that a step is under way".to_owned())
}

/// Removes the container of a step, if it was made, and then its note.
pub(super) async fn remove(shared: Arc<Shared>, id: ContainerId) {
    if shared.containers.find(id.as_str()).is_ok() {
        remove_unasked(Arc::clone(&shared), id.clone()).await;
    }
    // One that could not be removed keeps its note for the next start.
    if shared.containers.find(id.as_str()).is_err() {
        forget(&directory(&shared).join(id.as_str()));
    }
}

/// Removes what an earlier engine left.
///
/// # Errors
/// When the notes cannot be read.
pub(crate) async fn remove_all(shared: &Arc<Shared>) -> Result<()> {
    let swept = Arc::clone(shared);
    blocking(move || super::memory::sweep(&swept.config)).await?;
    let directory = directory(shared);
    let reading = || format!("read {}", directory.display());
    let notes = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        notes => notes.attempt(reading)?,
    };
    for note in notes {
        let note = note.attempt(reading)?;
        match note.file_name().to_str().and_then(|name| name.parse::<ContainerId>().ok()) {
            Some(id) => remove(Arc::clone(shared), id).await,
            None => forget(&note.path()),
        }
    }
    Ok(())
}

fn directory(shared: &Shared) -> PathBuf {
    shared.config.data_root.join(DIRECTORY)
}

fn forget(note: &Path) {
    match std::fs::remove_file(note) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(note = %note.display(), %error, "the note of a step cannot be removed");
        }
        _ => {}
    }
}
