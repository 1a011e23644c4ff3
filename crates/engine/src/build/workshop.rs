//! Where files of a build are changed or read: the container of a command, or a root that is no container's.

use super::leftovers;
use crate::containers::settings::Settings;
use crate::containers::{Created, View, create_of, view_of_scratch};
use crate::engine::{Engine, Shared};
use crate::error::{Attempt, Result, blocking};
use crate::images::Image;
use coracle_spec::{ContainerId, Digest};
use coracle_store::{Layer, Scratch, Tree};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A container in which a command runs.
pub(super) struct Workshop<'a> {
    pub(super) engine: &'a Engine,
    pub(super) id: ContainerId,
    /// As long as it is being made, which goes on when nobody waits any more.
    making: Option<JoinHandle<Result<Created>>>,
    is_open: bool,
}

impl<'a> Workshop<'a> {
    /// Makes a container on `layers`, which somebody holds on to.
    pub(super) async fn open(engine: &'a Engine, layers: &[Digest], settings: Settings) -> Result<Self> {
        let id = ContainerId::random();
        leftovers::note(&engine.shared, &id).await?;
        let image = Image::of_layers(layers.to_vec());
        let making = tokio::spawn(create_of(Arc::clone(&engine.shared), id.clone(), settings, image));
        // From here on it is removed, made or not.
        let mut workshop = Self { engine, id, making: Some(making), is_open: true };
        match workshop.made().await {
            Ok(()) => Ok(workshop),
            Err(error) => {
                workshop.close().await;
                Err(error)
            }
        }
    }

    async fn made(&mut self) -> Result<()> {
        let Some(making) = &mut self.making else { return Ok(()) };
        let made = making.await;
        self.making = None;
        made.attempt(|| "make the container of a step".to_owned())?.map(drop)
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
            let (making, shared, id) = (self.making.take(), Arc::clone(&self.engine.shared), self.id.clone());
            tokio::spawn(async move {
                if let Some(making) = making {
                    // Made or not, it is removed.
                    let _ = making.await;
                }
                leftovers::remove(shared, id).await;
            });
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
