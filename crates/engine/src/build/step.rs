//! One step of a stage: found among what was done before, or done on the layers so far.

use super::cache::{Inputs, Remembered};
use super::devices::Devices;
use super::files::Bringing;
use super::mounts::Mounts;
use super::origins::Origins;
use super::remote::{Fetched, Fetcher};
use super::sources::Supply;
use super::stages::{Build, Built, Left};
use super::told::Told;
use super::workshop::{Bench, Workshop, keep};
use super::{BuildResult, files, run};
use crate::engine::Shared;
use crate::error::{Attempt, Result, blocking};
use coracle_build::{Files, Operation, Planned};
use coracle_spec::Digest;
use coracle_store::Layer;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::SemaphorePermit;

/// What became of files that were brought.
enum Brought {
    /// They were written where the layer is to be made.
    Written,
    /// They are a layer, if anything was.
    Kept(Option<Layer>),
}

/// What files of a step are taken from. Dropped on threads that may block.
#[derive(Default)]
pub(super) struct Supplies {
    origin: Option<Origins>,
    fetched: Vec<Fetched>,
}

impl Supplies {
    /// Opens what is needed for as long as `work` takes. Blocks.
    fn with<T>(
        &self,
        shared: &Shared,
        wanted: &Files,
        work: impl FnOnce(&Bringing<'_>) -> Result<T>,
    ) -> Result<T> {
        let fetched = &self.fetched;
        let are_of_context = !matches!(self.origin, Some(Origins::Layers(_)));
        let Some(origin) = &self.origin else {
            return work(&Bringing { wanted, source: None, left_out: &|_| false, are_of_context, fetched });
        };
        origin.with(shared, |Supply { tree, left_out }| {
            work(&Bringing { wanted, source: Some(tree), left_out, are_of_context, fetched })
        })
    }
}

/// What a step is carried out with.
struct Given {
    supplies: Arc<Supplies>,
    devices: Devices,
}

impl Build<'_> {
    /// Does a step on what is built so far, unless it was done before.
    pub(super) async fn step(
        &self,
        number: usize,
        built: &Built,
        operation: &Operation,
        planned: &Planned,
        anew: bool,
    ) -> BuildResult<Option<Left>> {
        if let Operation::Run(command) = operation {
            run::check(command, &self.request.allowed)?;
            self.notes.command(command);
        }
        let devices = Devices::of(self, operation).await?;
        let layers = &built.layers;
        // A stage for another platform than the result's is the same for all results.
        let mut inputs = Inputs::of(operation, layers, &built.config.platform.normalized());
        if let Some(epoch) = self.request.epoch {
            inputs.add("SOURCE_DATE_EPOCH", &epoch.to_string());
        }
        devices.add_inputs(&mut inputs);
        let supplies = self.supplies(operation).await?;
        // First, so that nothing is missed that changes from here on.
        let state = self.state(operation, &supplies).await?;
        self.add_contents(operation, &supplies, &mut inputs).await?;
        let key = inputs.key();
        let done = &self.shared().built;
        let _turn = done.turn(key).await;
        if !anew || self.shares.has_done(&key) {
            let what = (planned.text.as_str(), layers.len());
            let found = match self.find(&key).await? {
                None if !anew => self.request.caches.find(self, number, what, &inputs).await?,
                found => found,
            };
            if let Some(left) = found {
                self.listener.tell(Told::Cached(number)).await;
                return Ok(Some(left));
            }
            let changed = done.changed(&planned.text, &inputs);
            if !changed.is_empty() {
                self.listener.tell(Told::Changed(number, changed)).await;
            }
        }
        let given = Given { supplies: Arc::clone(&supplies), devices };
        let layer = self.carry_out(number, built, operation, planned, given).await?;
        let created = OffsetDateTime::now_utc().unix_timestamp();
        let mut left = Left { layer: layer.as_ref().map(|layer| layer.diff_id), created, key: None };
        if !self.state(operation, &supplies).await.is_ok_and(|now| now == state) {
            // What was taken may be something else than what the key says.
            return Ok(Some(left));
        }
        let step = Remembered {
            layer: left.layer,
            size: layer.map_or(0, |layer| layer.size),
            created,
            depth: layers.len(),
            text: planned.text.clone(),
            inputs: inputs.into_vec(),
        };
        done.remember(key, step, self.begun).await?;
        self.shares.note_done(key);
        left.key = Some(key);
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
        built.note_use(key, self.begun);
        Ok(Some(Left { layer: step.layer, created: step.created, key: Some(*key) }))
    }

    /// Finds what files of a step are taken from.
    async fn supplies(&self, operation: &Operation) -> BuildResult<Arc<Supplies>> {
        let Operation::Files(wanted) = operation else { return Ok(Arc::default()) };
        let fetcher = Fetcher { shared: self.shared(), client: &self.request.client };
        let fetched = fetcher.fetch_all(wanted).await?;
        fetched.iter().for_each(|fetched| self.notes.add(fetched.material.clone()));
        let is_local = fetched.len() < wanted.transfer.sources.len();
        let origin = if is_local { Some(self.origin(wanted.from.as_ref()).await?) } else { None };
        Ok(Arc::new(Supplies { origin, fetched }))
    }

    /// Adds what the files are to what a step depends on.
    async fn add_contents(
        &self,
        operation: &Operation,
        supplies: &Arc<Supplies>,
        inputs: &mut Inputs,
    ) -> BuildResult<()> {
        match operation {
            Operation::Run(command) => Mounts::add_inputs(self, command, inputs).await?,
            Operation::Files(wanted) if !wanted.transfer.sources.is_empty() => {
                let (shared, wanted) = (Arc::clone(self.shared()), wanted.clone());
                let taken = Arc::clone(supplies);
                let digest =
                    blocking(move || taken.with(&shared, &wanted, |bringing| bringing.fingerprint()));
                inputs.add_digest("the files", digest.await??);
            }
            _ => {}
        }
        Ok(())
    }

    /// What the kernel notes of changes of the files that a step takes from a context that others may change; nothing, where
    /// there are none.
    async fn state(&self, operation: &Operation, supplies: &Arc<Supplies>) -> BuildResult<String> {
        match operation {
            Operation::Run(command) if self.shares.contexts.are_in_place() => {
                Ok(Mounts::state(self, command).await?)
            }
            Operation::Files(wanted) if supplies.origin.as_ref().is_some_and(Origins::is_in_place) => {
                let (shared, wanted) = (Arc::clone(self.shared()), wanted.clone());
                let taken = Arc::clone(supplies);
                let state = blocking(move || taken.with(&shared, &wanted, |bringing| bringing.state()));
                Ok(state.await??.to_string())
            }
            _ => Ok(String::new()),
        }
    }

    /// To do a step beside others.
    async fn permit(&self) -> SemaphorePermit<'_> {
        self.shared().build_permits.acquire().await.expect("nobody closes it")
    }

    async fn carry_out(
        &self,
        number: usize,
        built: &Built,
        operation: &Operation,
        planned: &Planned,
        Given { supplies, devices }: Given,
    ) -> BuildResult<Option<Layer>> {
        let layers = &built.layers;
        let epoch = self.request.epoch;
        let shared = Arc::clone(self.shared());
        if let Operation::Run(command) = operation {
            let mut settings = run::settings(command, &self.request.host);
            let mounts = Mounts::prepare(self, layers, command, devices.targets()).await?;
            mounts.add_to(&mut settings);
            devices.add_to(&mut settings);
            // Not while it waits for a cache: others have work.
            let _permit = self.permit().await;
            let workshop = Workshop::open(self.engine, layers, settings).await?;
            let (place, platform) = ((number, planned.lines), &built.config.platform);
            if let Err(error) = run::run(&workshop, command, place, platform, self.listener).await {
                workshop.close().await;
                return Err(error);
            }
            let scratch = workshop.finish().await?;
            let keeping = move || {
                mounts.clean(&scratch.snapshot().upper)?;
                drop(mounts);
                keep(&shared, scratch, epoch)
            };
            return Ok(blocking(keeping).await??);
        }
        let _permit = self.permit().await;
        let (mut operation, mut layers) = (operation.clone(), layers.clone());
        let work = move || {
            if let Operation::Files(wanted) = &mut operation
                && wanted.transfer.link
            {
                if !wanted.transfer.stands_alone() {
                    *wanted = files::with_numbers(wanted, Bench::open(&shared, &layers)?.tree())?;
                }
                // What is linked does not depend on what is below, and follows no link of it.
                layers.clear();
            }
            let bench = Bench::open(&shared, &layers)?;
            match &operation {
                Operation::Directory(wanted) => files::make_directory(bench.tree(), wanted)?,
                Operation::Files(wanted) => {
                    let bring = |bringing: &Bringing<'_>| match bringing.alone(bench.tree())? {
                        Some(alone) => alone.keep(&shared.store, epoch).map(Brought::Kept),
                        None => bringing.bring(bench.tree()).map(|()| Brought::Written),
                    };
                    if let Brought::Kept(layer) = supplies.with(&shared, wanted, bring)? {
                        return Ok(layer);
                    }
                }
                Operation::Run(_) => unreachable!("a command runs in a container"),
            }
            keep(&shared, bench.finish(), epoch)
        };
        Ok(blocking(work).await??)
    }
}
