//! Volumes are saved and copied while containers have them: who could write to one meanwhile is refused, or stands still.

use super::Description;
use super::state::Status;
use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::images::BodyWriter;
use crate::volumes::{Creation, Saving, Volume};
use coracle_spec::ContainerId;
use std::sync::Arc;

/// What becomes of containers that run and can write to a volume that is read as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writers {
    /// Nothing is read while there are any.
    #[default]
    Refused,
    /// They stand still meanwhile.
    Paused,
    /// They go on: what they write meanwhile is read in parts, or not.
    Ignored,
}

/// A volume that is about to become an archive.
#[derive(Debug)]
pub struct SavingVolume {
    saving: Saving,
    paused: Vec<ContainerId>,
}

impl SavingVolume {
    /// Writes the archive, and has who stands still go on.
    ///
    /// # Errors
    /// When something cannot be read, `output` not be written, or a container not go on.
    pub async fn write(self, engine: &Engine, output: BodyWriter) -> Result<()> {
        let Self { saving, paused } = self;
        let written = blocking(move || saving.write(output)).await;
        let gone_on = engine.all_go_on(&paused).await;
        written??;
        gone_on
    }
}

impl Engine {
    /// Prepares an archive of a volume's files.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the volume, [`Error::Conflict`] for containers that write to it.
    pub async fn save_volume(&self, name: &str, writers: Writers) -> Result<SavingVolume> {
        let saving = self.volumes().save(name).await?;
        let paused = self.hold_writers(name, writers).await?;
        Ok(SavingVolume { saving, paused })
    }

    /// Makes a volume of what another one has.
    ///
    /// # Errors
    /// As [`Engine::save_volume`] and [`crate::volumes::Volumes::create`].
    pub async fn copy_volume(&self, from: &str, wanted: Creation, writers: Writers) -> Result<Volume> {
        self.volumes().get(from).await?;
        let paused = self.hold_writers(from, writers).await?;
        let copied = self.volumes().copy(from, wanted).await;
        let gone_on = self.all_go_on(&paused).await;
        let volume = copied?;
        gone_on.map(|()| volume)
    }

    /// Has who writes to a volume stand still, and returns who does because of that.
    async fn hold_writers(&self, volume: &str, writers: Writers) -> Result<Vec<ContainerId>> {
        let writing = if writers == Writers::Ignored { Vec::new() } else { self.writers_of(volume) };
        if writers == Writers::Refused && !writing.is_empty() {
            let names: Vec<&str> = writing.iter().map(|container| container.name.as_str()).collect();
            return Err(Error::Conflict(format!(
                "volume {volume} is written to by running containers ({}): stop them, have them stand still meanwhile \
                 (pause), or take what is there although it changes (live)",
                names.join(", ")
            )));
        }
        let mut paused = Vec::new();
        for container in writing {
            match self.hold_still(&container.id).await {
                Ok(true) => paused.push(container.id.clone()),
                Ok(false) => {}
                Err(error) => {
                    // The first failure is the one that is reported.
                    let _ = self.all_go_on(&paused).await;
                    return Err(error);
                }
            }
        }
        Ok(paused)
    }

    /// Who can write to a volume: one that somebody has paused cannot, but one that stands still for a moment soon can.
    fn writers_of(&self, volume: &str) -> Vec<Arc<Description>> {
        let mut writers = Vec::new();
        for container in self.shared.containers.all() {
            let now = container.describe();
            let runs = match now.state.status {
                Status::Running => true,
                Status::Paused => container.is_held_still(),
                _ => false,
            };
            if runs && now.mounts.iter().any(|mount| mount.name == volume && mount.writable) {
                writers.push(now);
            }
        }
        writers
    }

    async fn all_go_on(&self, paused: &[ContainerId]) -> Result<()> {
        let mut failure = None;
        for id in paused {
            if let Err(error) = self.go_on(id).await {
                failure = failure.or(Some(error));
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
