//! Where files of a build are changed or read: the container of a command, or a root that is no container's.

use super::leftovers;
use crate::containers::settings::Settings;
use crate::containers::{View, view_of_scratch};
use crate::engine::{Engine, Shared};
use crate::error::{Attempt, Result, blocking};
use crate::images::Image;
use coracle_spec::{ContainerId, Digest};
use coracle_store::{Layer, Scratch, Tree};
use std::sync::Arc;

/// A container in which a command runs.
pub(super) struct Workshop<'a> {
    pub(super) engine: &'a Engine,
    pub(super) id: ContainerId,
    is_open: bool,
}

impl<'a> Workshop<'a> {
    /// Makes a container on `layers`, which somebody holds on to.
    pub(super) async fn open(engine: &'a Engine, layers: &[Digest], settings: Settings) -> Result<Self> {
        let id = ContainerId::random();
        leftovers::note(&engine.shared, &id).await?;
        // From here on it is removed, made or not.
        let workshop = Self { engine, id, is_open: true };
        let image = Image::of_layers(layers.to_vec());
        match engine.create_of(workshop.id.clone(), settings, &image).await {
            Ok(_) => Ok(workshop),
            Err(error) => {
                workshop.close().await;
                Err(error)
            }
        }
    }

    /// Removes it, but for what it wrote.
    pub(super) async fn finish(self) -> Result<Scratch> {
        let (store, id) = (Arc::clone(&self.engine.shared.store), self.id.clone());
        let taken = blocking(move || store.take(&id)).await;
        self.close().await;
        taken?.attempt(|| "take what a step has written".to_owned())
    }

    /// Removes it, and waits until it is gone.
    pub(super) async fn close(mut self) {
        self.is_open = false;
        leftovers::remove(Arc::clone(&self.engine.shared), self.id.clone()).await;
    }
}

impl Drop for Workshop<'_> {
    /// Nobody waits for the build any more.
    fn drop(&mut self) {
        if self.is_open {
            tokio::spawn(leftovers::remove(Arc::clone(&self.engine.shared), self.id.clone()));
        }
    }
}

/// The root of some layers, to be read or written. Dropped on threads that may block.
pub(super) struct Bench {
    view: View,
    scratch: Scratch,
}

impl Bench {
    /// Mounts `layers`, lowest first, which somebody holds on to. Blocks.
    pub(super) fn open(shared: &Shared, layers: &[Digest]) -> Result<Self> {
        let scratch = shared.store.scratch(layers).attempt(|| "prepare a step of a build".to_owned())?;
        let view = view_of_scratch(scratch.snapshot())?;
        Ok(Self { view, scratch })
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.view.tree
    }

    /// Unmounts it; what was written.
    pub(super) fn finish(self) -> Scratch {
        drop(self.view);
        self.scratch
    }
}

/// Makes a layer of what was written, none if nothing was. Blocks.
pub(super) fn keep(shared: &Shared, scratch: Scratch, epoch: Option<i64>) -> Result<Option<Layer>> {
    let kept = shared.store.keep(scratch, epoch);
    kept.map_err(|error| super::context::of_input(error, || "make a layer of a step".to_owned()))
}
