//! One step of a stage: a container on the layers so far, in which something is done to the files, and the layer of it.

use super::{Build, BuildResult, files, leftovers, run};
use crate::containers::settings::Settings;
use crate::error::{Attempt, Result, blocking};
use crate::images::Image;
use coracle_build::{Arguments, Operation};
use coracle_spec::image::ImageConfig;
use coracle_spec::{ContainerId, Digest};
use std::sync::Arc;

/// How far a stage is.
#[derive(Clone, Debug)]
pub(super) struct Built {
    /// Lowest first.
    pub(super) layers: Vec<Digest>,
    pub(super) config: ImageConfig,
    /// For the stages that begin with this one.
    pub(super) arguments: Arguments,
}

/// Where a step is done: on these layers.
pub(super) struct Site<'a, 'b> {
    pub(super) build: &'a Build<'b>,
    pub(super) layers: Vec<Digest>,
}

impl Site<'_, '_> {
    /// Does a step; the layer that it leaves, unless it changes nothing.
    pub(super) async fn carry_out(&self, operation: &Operation) -> BuildResult<Option<Digest>> {
        let settings = match operation {
            Operation::Run(command) => run::settings(command, self.build.request)?,
            Operation::Files(_) | Operation::Directory(_) => unstarted(),
        };
        let layers = match operation {
            // What is linked does not depend on what is below, and follows no link of it.
            Operation::Files(wanted) if wanted.transfer.link => &[],
            _ => &self.layers[..],
        };
        let workshop = Workshop::open(layers, settings, self.build).await?;
        let done = match operation {
            Operation::Run(_) => run::run(&workshop, operation, self.build.listener).await,
            Operation::Files(wanted) => files::bring(&workshop, wanted, self.build).await,
            Operation::Directory(path) => files::make_directory(&workshop, path).await.map_err(Into::into),
        };
        let layer = match done {
            Ok(()) => workshop.layer().await.map_err(Into::into),
            Err(error) => Err(error),
        };
        workshop.close().await;
        layer
    }
}

/// The settings of a container that is never started.
pub(super) fn unstarted() -> Settings {
    Settings { cmd: Some(vec!["/".to_owned()]), ..Settings::default() }
}

/// A container in which files are changed.
pub(super) struct Workshop<'a> {
    pub(super) build: &'a Build<'a>,
    pub(super) id: ContainerId,
    is_open: bool,
}

impl<'a> Workshop<'a> {
    /// Makes a container on `layers`.
    pub(super) async fn open(layers: &[Digest], settings: Settings, build: &'a Build<'a>) -> Result<Self> {
        let id = ContainerId::random();
        leftovers::note(build.shared(), &id).await?;
        // From here on it is removed, made or not.
        let workshop = Self { build, id, is_open: true };
        let image = Image::of_layers(layers.to_vec());
        match build.engine.create_of(workshop.id.clone(), settings, &image).await {
            Ok(_) => Ok(workshop),
            Err(error) => {
                workshop.close().await;
                Err(error)
            }
        }
    }

    /// What it wrote, as a layer; `None` if nothing.
    async fn layer(&self) -> Result<Option<Digest>> {
        let (store, id) = (Arc::clone(&self.build.shared().store), self.id.clone());
        let layer =
            blocking(move || store.commit(&id)).await?.attempt(|| "make a layer of a step".to_owned())?;
        Ok((!crate::images::is_empty_layer(&layer.diff_id)).then_some(layer.diff_id))
    }

    /// Removes it, and waits until it is gone.
    pub(super) async fn close(mut self) {
        self.is_open = false;
        leftovers::remove(Arc::clone(self.build.shared()), self.id.clone()).await;
    }
}

impl Drop for Workshop<'_> {
    /// Nobody waits for the build any more.
    fn drop(&mut self) {
        if self.is_open {
            tokio::spawn(leftovers::remove(Arc::clone(self.build.shared()), self.id.clone()));
        }
    }
}
