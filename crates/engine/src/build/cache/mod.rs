//! What builds have done before: by everything that a step depended on, the layer that it left.
//!
//! All of it is in memory, and in the index. A layer that is remembered is kept, until it is pruned. Caches of others come
//! and go as `portable.rs` has them.

mod export;
mod import;
mod key;
mod portable;
mod prune;

pub use export::{CacheMode, ExportedCache};
pub use import::CacheSource;
pub(super) use import::Imports;
pub(super) use key::{Input, Inputs};
pub(super) use portable::{DoneStep, put_inline};
pub(crate) use prune::stay_within_budget;
pub use prune::{CACHE_MOUNT, CachedStep, PrunedSteps, StepFilter};

use crate::error::{Attempt, Result};
use crate::index::Index;
use coracle_spec::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// What a step left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remembered {
    /// The layer; `None` if it changed nothing.
    pub(super) layer: Option<Digest>,
    /// Bytes in the files of the layer.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) created: i64,
    /// How many layers were below.
    #[serde(default)]
    pub(super) depth: usize,
    /// The instruction.
    pub(super) text: String,
    /// Everything that it depended on.
    pub(super) inputs: Vec<Input>,
}

#[derive(Clone, Debug)]
struct Entry {
    step: Arc<Remembered>,
    last_used: i64,
    uses: u32,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Digest, Entry>,
    /// How many steps left each layer.
    layers: HashMap<Digest, usize>,
}

impl State {
    fn insert(&mut self, key: Digest, entry: Entry) {
        self.remove(&key);
        if let Some(layer) = entry.step.layer {
            *self.layers.entry(layer).or_default() += 1;
        }
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Digest) {
        let layer = self.entries.remove(key).and_then(|entry| entry.step.layer);
        if let Some(layer) = layer
            && let Some(count) = self.layers.get_mut(&layer)
        {
            *count -= 1;
            if *count == 0 {
                self.layers.remove(&layer);
            }
        }
    }
}

/// See above.
#[derive(Debug)]
pub(crate) struct Cache {
    index: Arc<Index>,
    state: Mutex<State>,
    /// Whether more may be remembered than may be. At first it may.
    grown: AtomicBool,
    /// Steps that are being done, so that another build waits for the result instead of doing them too.
    turns: Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>,
}

impl Cache {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// The index's.
    pub(crate) async fn open(index: Arc<Index>) -> Result<Self> {
        let mut state = State::default();
        for row in index.build_steps().await? {
            // What cannot be read was written by an engine that is not this one: it is done again.
            let Ok(step) = serde_json::from_str(&row.record) else { continue };
            let entry = Entry { step: Arc::new(step), last_used: row.last_used, uses: row.uses };
            state.insert(row.key, entry);
        }
        Ok(Self { index, state: Mutex::new(state), grown: AtomicBool::new(true), turns: Mutex::default() })
    }

    /// All layers that are remembered.
    pub(crate) fn layers(&self) -> HashSet<Digest> {
        self.lock().layers.keys().copied().collect()
    }

    /// Whether a layer is remembered.
    pub(crate) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.lock().layers.contains_key(diff_id)
    }

    /// Whether more may be remembered than before; from now on it is not.
    fn take_grown(&self) -> bool {
        self.grown.swap(false, Ordering::SeqCst)
    }

    /// Waits until nobody does the step of this key. Whoever has the turn does it, or finds it done.
    pub(super) async fn turn(&self, key: Digest) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::new(AsyncMutex::new(()));
                turns.insert(key, Arc::downgrade(&new));
                new
            })
        };
        turn.lock_owned().await
    }

    /// What the step of this key left.
    pub(super) fn find(&self, key: &Digest) -> Option<Arc<Remembered>> {
        self.lock().entries.get(key).map(|entry| Arc::clone(&entry.step))
    }

    /// Notes that a build that began then, in seconds since 1970, need not do a step again.
    pub(super) fn note_use(&self, key: &Digest, begun: i64) {
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(key) {
            (entry.last_used, entry.uses) = (entry.last_used.max(begun), entry.uses.saturating_add(1));
            self.index.note_build_step_use(*key, entry.last_used, entry.uses);
        }
    }

    /// Remembers what a step of a build left that began then. All steps of a build are used at once: whoever makes room keeps
    /// those below longest, on which the others stand. It survives the end of the engine.
    ///
    /// # Errors
    /// The index's.
    pub(super) async fn remember(&self, key: Digest, step: Remembered, begun: i64) -> Result<()> {
        let record = serde_json::to_string(&step).attempt(|| "write a step down".to_owned())?;
        // Before the layer could be taken for garbage.
        self.lock().insert(key, Entry { step: Arc::new(step), last_used: begun, uses: 0 });
        self.grown.store(true, Ordering::SeqCst);
        let kept = self.index.put_build_step(key, record, begun).await;
        if kept.is_err() {
            self.lock().remove(&key);
        }
        kept
    }

    /// Forgets steps.
    ///
    /// # Errors
    /// The index's.
    pub(super) async fn forget_all(&self, keys: &[Digest]) -> Result<()> {
        {
            let mut state = self.lock();
            keys.iter().for_each(|key| state.remove(key));
        }
        self.index.remove_build_steps(keys.to_vec()).await
    }

    /// The steps that are being done or looked at.
    fn busy(&self) -> HashSet<Digest> {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.iter().filter(|(_, turn)| turn.strong_count() > 0).map(|(key, _)| *key).collect()
    }

    /// What has changed since the instruction was done last: the least there is among all times.
    pub(super) fn changed(&self, text: &str, inputs: &Inputs) -> Vec<String> {
        let state = self.lock();
        let alike = state.entries.values().filter(|entry| entry.step.text == text);
        let changes = alike.map(|entry| (inputs.changed_since(&entry.step.inputs), entry.last_used));
        let least = changes.min_by_key(|(changed, last_used)| (changed.len(), -last_used));
        least.map(|(changed, _)| changed).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
