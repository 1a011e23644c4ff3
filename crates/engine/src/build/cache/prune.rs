//! What is remembered of builds, for those who look at it and those who want the room.

use super::{Cache, Entry};
use crate::build::caches::CacheMount;
use crate::engine::{Engine, Shared};
use crate::error::{Result, blocking};
use coracle_spec::Digest;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;

/// The kind of what a step left.
const REGULAR: &str = "regular";

/// The kind of what commands keep in `RUN --mount=type=cache`.
pub const CACHE_MOUNT: &str = "exec.cachemount";

/// A step that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedStep {
    /// What it is remembered under.
    pub id: Digest,
    /// Docker's name of what it is: `regular` for a step.
    pub kind: &'static str,
    /// The instruction.
    pub description: String,
    /// Bytes in the files of its layer.
    pub size: u64,
    /// When it was done.
    pub created: OffsetDateTime,
    /// When it was done or found last.
    pub last_used: OffsetDateTime,
    /// How often it needed not be done.
    pub uses: u32,
    /// Whether a build that goes on has it.
    pub in_use: bool,
    /// Whether an image has its layer too.
    pub shared: bool,
}

/// Which steps are to be forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepFilter {
    /// Also those whose layer an image has.
    pub all: bool,
    /// Only those that were not used since.
    pub until: Option<OffsetDateTime>,
    /// Only these; all if empty. The beginning of an id will do.
    pub ids: Vec<String>,
    /// Only those whose description holds one of these; all if empty.
    pub descriptions: Vec<String>,
    /// Only those of these kinds; all if empty.
    pub kinds: Vec<String>,
    /// As many bytes stay, of what was used last.
    pub keep: u64,
}

/// Steps that were forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedSteps {
    /// What they were remembered under.
    pub ids: Vec<Digest>,
    /// Caches of commands that are gone.
    pub mounts: Vec<CacheMount>,
    /// Bytes of layers that nothing else has, and of the caches.
    pub bytes: u64,
}

impl StepFilter {
    fn covers(&self, step: &CachedStep) -> bool {
        let id = step.id.to_string();
        let hex = id.split(':').next_back().unwrap_or_default();
        let is_named = |name: &String| {
            !name.is_empty() && (id.starts_with(name.as_str()) || hex.starts_with(name.as_str()))
        };
        let is_described = |text: &String| step.description.contains(text.as_str());
        !step.in_use
            && (self.all || !step.shared)
            && self.until.is_none_or(|until| step.last_used <= until)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == step.kind))
            && (self.ids.is_empty() || self.ids.iter().any(is_named))
            && (self.descriptions.is_empty() || self.descriptions.iter().any(is_described))
    }
}

impl StepFilter {
    /// The same of a cache of commands, which no image has.
    fn covers_mount(&self, mount: &CacheMount) -> bool {
        let is_named = |name: &String| !name.is_empty() && mount.key.starts_with(name.as_str());
        !mount.in_use
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == CACHE_MOUNT))
            && self.until.is_none_or(|until| moment(mount.last_used) <= until)
            && (self.ids.is_empty() || self.ids.iter().any(is_named))
            && (self.descriptions.is_empty()
                || self.descriptions.iter().any(|text| mount.id.contains(text.as_str())))
    }
}

impl Engine {
    /// What builds have done before, what was used last first.
    pub fn cached_steps(&self) -> Vec<CachedStep> {
        steps(&self.shared)
    }

    /// Forgets steps, so that their layers can be freed.
    ///
    /// # Errors
    /// The index's.
    pub async fn prune_cached_steps(&self, filter: &StepFilter) -> Result<PrunedSteps> {
        let pruned = prune(&self.shared, filter).await?;
        self.shared.tell_of_pruning("builder", pruned.bytes);
        Ok(pruned)
    }
}

/// Forgets what was not used for the longest time where the layers of steps alone take more than they may, if any came.
///
/// # Errors
/// The index's.
pub(crate) async fn stay_within_budget(shared: &Shared) -> Result<PrunedSteps> {
    let budget =
        shared.config.storage.build_cache.unwrap_or_else(|| default_budget(&shared.config.data_root));
    if budget == 0 || !shared.built.take_grown() {
        return Ok(PrunedSteps::default());
    }
    prune(shared, &StepFilter { keep: budget, ..StepFilter::default() }).await
}

/// A tenth of the file system.
fn default_budget(root: &Path) -> u64 {
    // Where the kernel does not say, nothing is forgotten.
    rustix::fs::statvfs(root).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize) / 10)
}

fn steps(shared: &Shared) -> Vec<CachedStep> {
    let (built, images) = (&shared.built, &shared.images);
    let busy = built.busy();
    let mut entries = built.entries();
    keep_lowest_longest(&mut entries);
    entries
        .into_iter()
        .map(|(id, entry)| CachedStep {
            in_use: busy.contains(&id) || entry.step.layer.is_some_and(|layer| images.is_held(&layer)),
            shared: entry.step.layer.is_some_and(|layer| images.have_layer(&layer)),
            id,
            kind: REGULAR,
            description: entry.step.text.clone(),
            size: entry.step.size,
            created: moment(entry.step.created),
            last_used: moment(entry.last_used),
            uses: entry.uses,
        })
        .collect()
}

/// What was used last comes first; of those that were used at once, the lowest, on which the others stand.
fn keep_lowest_longest(entries: &mut [(Digest, Entry)]) {
    entries.sort_by_key(|(id, entry)| (std::cmp::Reverse(entry.last_used), entry.step.depth, *id));
}

/// The caches of commands, the one first that was used last.
async fn mounts(shared: &Shared) -> Result<Vec<CacheMount>> {
    let caches = Arc::clone(&shared.caches);
    let mut mounts = blocking(move || caches.list()).await??;
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.last_used));
    Ok(mounts)
}

async fn remove_mount(shared: &Shared, key: &str) -> Result<bool> {
    let (caches, key) = (Arc::clone(&shared.caches), key.to_owned());
    blocking(move || caches.remove(&key)).await?
}

async fn prune(shared: &Shared, filter: &StepFilter) -> Result<PrunedSteps> {
    let mut kept = 0_u64;
    let mut pruned = PrunedSteps::default();
    let entries: HashMap<Digest, Entry> = shared.built.entries().into_iter().collect();
    let (mut freed, mut staying) = (HashMap::new(), HashSet::new());
    for step in steps(shared) {
        let layer = entries.get(&step.id).and_then(|entry| entry.step.layer);
        // What an image has too takes no room of its own.
        let own = if step.shared { 0 } else { step.size };
        let fits = filter.keep > 0 && kept.saturating_add(own) <= filter.keep;
        if fits || !filter.covers(&step) {
            kept = kept.saturating_add(own);
            staying.extend(layer);
            continue;
        }
        pruned.ids.push(step.id);
        freed.extend(layer.map(|layer| (layer, own)));
    }
    pruned.bytes = freed.iter().filter(|(layer, _)| !staying.contains(*layer)).map(|(_, size)| size).sum();
    if !pruned.ids.is_empty() {
        shared.built.forget_all(&pruned.ids).await?;
        shared.images.may_be_garbage();
    }
    for mount in mounts(shared).await? {
        let fits = filter.keep > 0 && kept.saturating_add(mount.size) <= filter.keep;
        if !fits && filter.covers_mount(&mount) && remove_mount(shared, &mount.key).await? {
            pruned.bytes = pruned.bytes.saturating_add(mount.size);
            pruned.mounts.push(mount);
        } else {
            kept = kept.saturating_add(mount.size);
        }
    }
    if !pruned.ids.is_empty() || !pruned.mounts.is_empty() {
        shared.empty_trash_soon();
    }
    Ok(pruned)
}

impl Cache {
    fn entries(&self) -> Vec<(Digest, Entry)> {
        self.lock().entries.iter().map(|(key, entry)| (*key, entry.clone())).collect()
    }
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::super::Remembered;
    use super::*;

    fn step(text: &str) -> CachedStep {
        CachedStep {
            id: Digest::of(text.as_bytes()),
            kind: REGULAR,
            description: text.to_owned(),
            size: 10,
            created: moment(50),
            last_used: moment(100),
            uses: 0,
            in_use: false,
            shared: false,
        }
    }

    #[test]
    fn of_a_build_the_lowest_steps_stay_longest() {
        let entry = |text: &str, last_used: i64, depth: usize| {
            let step = Remembered {
                layer: None,
                size: 1,
                created: 9,
                depth,
                text: text.to_owned(),
                inputs: Vec::new(),
            };
            (Digest::of(text.as_bytes()), Entry { step: Arc::new(step), last_used, uses: 0 })
        };
        let mut entries =
            vec![entry("third", 5, 3), entry("old", 4, 0), entry("first", 5, 1), entry("second", 5, 2)];
        keep_lowest_longest(&mut entries);
        let order: Vec<&str> = entries.iter().map(|(_, entry)| entry.step.text.as_str()).collect();
        assert_eq!(order, ["first", "second", "third", "old"]);
    }

    #[test]
    fn filters_choose_what_is_forgotten() {
        let plain = step("RUN a");
        let (in_use, shared) =
            (CachedStep { in_use: true, ..step("RUN b") }, CachedStep { shared: true, ..step("RUN c") });
        let covered = |filter: StepFilter| [&plain, &in_use, &shared].map(|step| filter.covers(step));
        assert_eq!(covered(StepFilter::default()), [true, false, false]);
        assert_eq!(covered(StepFilter { all: true, ..StepFilter::default() }), [true, false, true]);
        for (until, expected) in [(99, false), (100, true)] {
            let filter = StepFilter { until: Some(moment(until)), ..StepFilter::default() };
            assert_eq!(filter.covers(&plain), expected, "{until}");
        }
        let hex = plain.id.to_string().split_off("sha256:".len());
        for (id, expected) in [
            (hex[..8].to_owned(), true),
            (plain.id.to_string(), true),
            ("x".to_owned(), false),
            (String::new(), false),
        ] {
            let filter = StepFilter { ids: vec![id.clone()], ..StepFilter::default() };
            assert_eq!(filter.covers(&plain), expected, "{id:?}");
        }
        let filter =
            StepFilter { descriptions: vec!["RUN c".to_owned()], all: true, ..StepFilter::default() };
        assert_eq!(covered(filter), [false, false, true]);
    }
}
