//! One step of a stage: found among what was done before, or done on the layers so far.

use super::cache::{Inputs, Remembered};
use super::context::Files as ContextFiles;
use super::stages::{Build, Left};
use super::told::Told;
use super::workshop::{Bench, Workshop, keep};
use super::{BuildResult, files, run};
use crate::error::{Attempt, Result, blocking};
use coracle_build::{Files, Operation, Origin, Planned};
use coracle_spec::Digest;
use coracle_store::Layer;
use std::sync::Arc;
use time::OffsetDateTime;

/// Where files of a step come from.
pub(super) enum Origins {
    Context(Arc<ContextFiles>),
    /// A stage or an image, by its layers, lowest first.
    Layers(Vec<Digest>),
}

impl Build<'_> {
    /// Does a step on `layers`, unless it was done before.
    pub(super) async fn step(
        &self,
        number: usize,
        layers: &[Digest],
        operation: &Operation,
        planned: &Planned,
        anew: bool,
    ) -> BuildResult<Option<Left>> {
        let mut inputs = Inputs::of(operation, layers, &self.request.wanted.platform);
        if let Some(epoch) = self.epoch()? {
            inputs.add("SOURCE_DATE_EPOCH", &epoch.to_string());
        }
        let origin = self.add_origins(operation, &mut inputs).await?;
        let key = inputs.key();
        let built = &self.shared().built;
        let _turn = built.turn(key).await;
        if !anew {
            if let Some(left) = self.find(&key).await? {
                self.listener.tell(Told::Cached(number)).await;
                return Ok(Some(left));
            }
            let changed = built.changed(&planned.text, &inputs);
            if !changed.is_empty() {
                self.listener.tell(Told::Changed(number, changed)).await;
            }
        }
        let permit = self.permits.acquire().await.expect("nobody closes it");
        let layer = self.carry_out(number, layers, operation, planned, origin).await?;
        drop(permit);
        let created = OffsetDateTime::now_utc().unix_timestamp();
        let left = Left { layer: layer.as_ref().map(|layer| layer.diff_id), created };
        let step = Remembered {
            layer: left.layer,
            size: layer.map_or(0, |layer| layer.size),
            created,
            text: planned.text.clone(),
            inputs: inputs.into_vec(),
        };
        built.remember(key, step).await?;
        Ok(Some(left))
    }

    /// What a step of this key left before, where it is still here.
    async fn find(&self, key: &Digest) -> Result<Option<Left>> {
        let built = &self.shared().built;
        let Some(step) = built.find(key) else { return Ok(None) };
        if let Some(layer) = step.layer {
            // First, so that it is not freed between the look and the use.
            self.hold.and([layer]);
            let store = Arc::clone(&self.shared().store);
            let looking = || format!("look for layer {layer}");
            if !blocking(move || store.has_whole_layer(&layer)).await?.attempt(looking)? {
                built.forget_all(&[*key]).await?;
                return Ok(None);
            }
        }
        built.note_use(key);
        Ok(Some(Left { layer: step.layer, created: step.created }))
    }

    /// Finds where files of a step come from, and adds what they are to its inputs.
    async fn add_origins(&self, operation: &Operation, inputs: &mut Inputs) -> BuildResult<Option<Origins>> {
        let Operation::Files(wanted) = operation else { return Ok(None) };
        files::check(wanted)?;
        if wanted.transfer.sources.is_empty() {
            return Ok(None);
        }
        let origin = self.origin(wanted).await?;
        match &origin {
            Origins::Context(context) => {
                let (context, wanted) = (Arc::clone(context), wanted.clone());
                let taken =
                    move || files::fingerprint(&context.tree, &wanted, &|path| context.leaves_out(path));
                inputs.add_digest("the files", blocking(taken).await??);
            }
            Origins::Layers(layers) => {
                let (shared, layers, wanted) = (Arc::clone(self.shared()), layers.clone(), wanted.clone());
                let taken = move || {
                    let bench = Bench::open(&shared, &layers)?;
                    files::fingerprint(bench.tree(), &wanted, &|_| false)
                };
                inputs.add_digest("the files", blocking(taken).await??);
            }
        }
        Ok(Some(origin))
    }

    async fn origin(&self, wanted: &Files) -> Result<Origins> {
        Ok(match &wanted.from {
            None => Origins::Context(self.contexts.main().await?),
            Some(Origin::Stage(stage)) => Origins::Layers(self.built(*stage).await?.layers.clone()),
            Some(Origin::Image(name)) => {
                Origins::Layers(self.image(name, &self.request.wanted.platform).await?.layers)
            }
        })
    }

    async fn carry_out(
        &self,
        number: usize,
        layers: &[Digest],
        operation: &Operation,
        planned: &Planned,
        origin: Option<Origins>,
    ) -> BuildResult<Option<Layer>> {
        let epoch = self.epoch()?;
        let shared = Arc::clone(self.shared());
        if let Operation::Run(command) = operation {
            let settings = run::settings(command, &self.request.host)?;
            let workshop = Workshop::open(self.engine, layers, settings).await?;
            if let Err(error) = run::run(&workshop, command, number, planned.lines, self.listener).await {
                workshop.close().await;
                return Err(error);
            }
            let scratch = workshop.finish().await?;
            return Ok(blocking(move || keep(&shared, scratch, epoch)).await??);
        }
        let layers = match operation {
            // What is linked does not depend on what is below, and follows no link of it.
            Operation::Files(wanted) if wanted.transfer.link => Vec::new(),
            _ => layers.to_vec(),
        };
        let operation = operation.clone();
        let work = move || {
            let bench = Bench::open(&shared, &layers)?;
            match &operation {
                Operation::Directory(path) => files::make_directory(bench.tree(), path)?,
                Operation::Files(wanted) => match &origin {
                    None => files::bring(bench.tree(), wanted, None, &|_| false)?,
                    Some(Origins::Context(context)) => {
                        let left_out = |path: &[u8]| context.leaves_out(path);
                        files::bring(bench.tree(), wanted, Some(&context.tree), &left_out)?;
                    }
                    Some(Origins::Layers(layers)) => {
                        let source = Bench::open(&shared, layers)?;
                        files::bring(bench.tree(), wanted, Some(source.tree()), &|_| false)?;
                    }
                },
                Operation::Run(_) => unreachable!("a command runs in a container"),
            }
            keep(&shared, bench.finish(), epoch)
        };
        Ok(blocking(work).await??)
    }
}
