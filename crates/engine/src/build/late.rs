//! Stages that nobody knew to be needed before a base image was there: its triggers copy from them.

use super::invalid;
use super::stages::{Build, Built};
use super::told::Told;
use super::{BuildResult, stages};
use crate::error::{Error, Result};
use coracle_build::{Operation, Origin, Planned};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// What becomes known of stages while they are built.
#[derive(Default)]
pub(super) struct Late {
    /// What was built late, by the number of the stage in the file.
    built: HashMap<usize, OnceCell<Arc<Built>>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The number of the first step of each stage.
    first_steps: HashMap<usize, usize>,
    /// Which stages a stage needs for the triggers of its base.
    needs: HashMap<usize, BTreeSet<usize>>,
}

impl Late {
    /// For this many stages.
    pub(super) fn new(stages: usize) -> Self {
        let built = (0..stages).map(|stage| (stage, OnceCell::new())).collect();
        Self { built, known: Mutex::default() }
    }

    /// What was built late.
    pub(super) fn built(&self, stage: usize) -> Option<&Arc<Built>> {
        self.built.get(&stage)?.get()
    }

    /// The number of the first step of a stage that is built late.
    pub(super) fn first_step(&self, stage: usize) -> Option<usize> {
        self.lock().first_steps.get(&stage).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is under it is changed by single calls.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Build<'_> {
    /// Has the stages built that triggers of the base of stage `number` take files of, where nobody else does.
    ///
    /// # Errors
    /// For stages that need each other, and what building them fails with.
    pub(super) async fn prepare(&self, number: usize, triggers: &[Planned]) -> BuildResult<()> {
        for stage in triggers.iter().flat_map(origins) {
            self.note_need(number, stage)?;
            if !self.is_in_order(stage) {
                self.build_late(stage).await?;
            }
        }
        Ok(())
    }

    /// Builds a stage, and what it needs that nobody else builds.
    fn build_late(&self, stage: usize) -> BoxFuture<'_, BuildResult<()>> {
        async move {
            let order = self.outline.order_of(&self.file, &self.request.wanted, stage).map_err(invalid)?;
            for needed in order.into_iter().filter(|needed| !self.is_in_order(*needed)) {
                self.late.built[&needed].get_or_try_init(|| self.build_announced(needed)).await?;
            }
            Ok(())
        }
        .boxed()
    }

    async fn build_announced(&self, stage: usize) -> BuildResult<Arc<Built>> {
        let count = self.outline.steps(&self.file, stage).len() + 1;
        let first = self.shares.take_numbers(count);
        self.late.lock().first_steps.insert(stage, first);
        self.listener.tell(Told::Steps(self.steps_of(stage))).await;
        self.build_stage(stage).await
    }

    /// Notes that a stage waits for another one, unless that waits for it.
    fn note_need(&self, number: usize, needed: usize) -> Result<()> {
        let mut known = self.late.lock();
        known.needs.entry(number).or_default().insert(needed);
        let mut left = vec![needed];
        let mut seen = BTreeSet::new();
        while let Some(stage) = left.pop() {
            if stage == number {
                let name = stages::name_in(&self.file, number);
                let text =
                    format!("circular dependency detected on stage: {name}, by a trigger of its base image");
                return Err(Error::Invalid(text));
            }
            if !seen.insert(stage) {
                continue;
            }
            left.extend(known.needs.get(&stage).into_iter().flatten());
            left.extend(self.outline.needs(&self.file, &self.request.wanted, stage).map_err(invalid)?);
        }
        Ok(())
    }
}

/// The stages that a step takes files of.
fn origins(planned: &Planned) -> Vec<usize> {
    let stage = |origin: &Origin| match origin {
        Origin::Stage(stage) => Some(*stage),
        Origin::Image(_) | Origin::Context(_) => None,
    };
    match &planned.operation {
        Some(Operation::Files(files)) => files.from.iter().filter_map(stage).collect(),
        Some(Operation::Run(command)) => {
            command.mounts.iter().filter_map(|(_, from)| from.as_ref().and_then(stage)).collect()
        }
        Some(Operation::Directory(_)) | None => Vec::new(),
    }
}
