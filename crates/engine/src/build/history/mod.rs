//! Which builds there were: kept in the index, as many and as long as the limits say, and told to whoever listens.
//!
//! ```text
//! begin ─► active ─► end ─► kept ─► removed: by somebody, or as one too many or too old, unless it is pinned
//! ```
//!
//! A build that an engine was killed in is in no history.

mod counting;
mod record;

pub use counting::Counting;
pub use record::{BuildRecord, Counts, End, RecordedOutput};
pub(super) use record::{shown, without_passwords};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::index::{Answer, Index};
use crate::limits;
use record::clipped;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use time::OffsetDateTime;
use tokio::sync::broadcast;

/// Something that happened to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryEvent {
    /// A build has begun.
    Begun(BuildRecord),
    /// It has ended, or something of its record has changed since.
    Ended(BuildRecord),
    /// It is in the history no more.
    Removed(BuildRecord),
}

/// What there is, and what will happen.
pub struct Listening {
    /// Builds that go on.
    pub active: Vec<BuildRecord>,
    /// Those that have ended, the last one first.
    pub ended: Vec<BuildRecord>,
    /// Everything that happens from now on.
    pub events: broadcast::Receiver<HistoryEvent>,
}

/// See above.
#[derive(Debug)]
pub(crate) struct History {
    index: Arc<Index>,
    state: Mutex<State>,
    events: broadcast::Sender<HistoryEvent>,
}

#[derive(Debug, Default)]
struct State {
    active: BTreeMap<String, BuildRecord>,
    ended: BTreeMap<String, BuildRecord>,
}

/// A build that goes on. Dropped, it was canceled.
#[derive(Debug)]
pub struct Recording {
    history: Arc<History>,
    id: Option<String>,
    counting: Arc<Counting>,
}

impl History {
    /// Reads what there was.
    ///
    /// # Errors
    /// The index's.
    pub(crate) async fn open(index: Arc<Index>) -> Result<Self> {
        let rows = index.build_records().await?;
        let read = rows.into_iter().filter_map(|(id, text)| BuildRecord::parse(id, &text));
        let ended = read.map(|record| (record.id.clone(), record)).collect();
        let state = Mutex::new(State { active: BTreeMap::new(), ended });
        Ok(Self { index, state, events: broadcast::Sender::new(limits::BUILD_EVENTS) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is under this lock is changed by single calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever listens, which may be nobody. The caller has the lock: what is told comes in order.
    fn tell(&self, event: HistoryEvent) {
        let _ = self.events.send(event);
    }

    /// Moves a build to those that have ended, and begins to write that down.
    fn end(&self, id: &str, change: impl FnOnce(&mut BuildRecord)) -> Option<Answer<()>> {
        let mut state = self.lock();
        let mut record = state.active.remove(id)?;
        record.completed = Some(OffsetDateTime::now_utc());
        change(&mut record);
        // Written in the order of the changes, which is why the lock is held.
        let written = self.index.put_build_record(id.to_owned(), record.to_json());
        self.tell(HistoryEvent::Ended(record.clone()));
        state.ended.insert(id.to_owned(), record);
        Some(written)
    }

    /// Forgets what is too much or too old, if anything is.
    fn expire(&self) -> Option<Answer<()>> {
        let mut state = self.lock();
        let ids = expired(&state.ended, OffsetDateTime::now_utc());
        for id in &ids {
            if let Some(record) = state.ended.remove(id) {
                self.tell(HistoryEvent::Removed(record));
            }
        }
        (!ids.is_empty()).then(|| self.index.remove_build_records(ids))
    }
}

/// The ids of records that are too many or too old, of those that are not pinned.
fn expired(ended: &BTreeMap<String, BuildRecord>, now: OffsetDateTime) -> Vec<String> {
    let mut free: Vec<&BuildRecord> = ended.values().filter(|record| !record.pinned).collect();
    free.sort_by_key(|record| std::cmp::Reverse(record.completed));
    let is_old = |record: &BuildRecord| record.completed.is_none_or(|at| now - at > limits::BUILD_RECORD_AGE);
    let many =
        free.iter().enumerate().filter(|(place, record)| *place >= limits::BUILD_RECORDS || is_old(record));
    many.map(|(_, record)| record.id.clone()).collect()
}

impl Recording {
    /// The build is over: with what its client is told, or why it failed.
    ///
    /// # Errors
    /// The index's.
    pub async fn end(mut self, outcome: std::result::Result<BTreeMap<String, String>, String>) -> Result<()> {
        let Some(id) = self.id.take() else { return Ok(()) };
        let counts = self.counting.counts();
        let written = self.history.end(&id, |record| {
            record.counts = counts;
            match outcome {
                Ok(answer) => record.answer = clipped(answer),
                Err(mut reason) => {
                    reason = without_passwords(&reason);
                    reason.truncate(reason.floor_char_boundary(limits::BUILD_FAILURE));
                    record.end = End::Failed(reason);
                }
            }
        });
        for answer in written.into_iter().chain(self.history.expire()) {
            answer.arrive().await?;
        }
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let counts = self.counting.counts();
        let written = self.history.end(&id, |record| {
            record.counts = counts;
            record.end = End::Canceled;
        });
        // Nobody waits for it.
        drop(written);
    }
}

impl Engine {
    /// Notes that a build has begun, whose steps are counted there. One that has the same id and has ended is forgotten.
    pub fn begin_build_record(&self, record: BuildRecord, counting: Arc<Counting>) -> Recording {
        let history = Arc::clone(&self.shared.history);
        let id = record.id.clone();
        let mut state = history.lock();
        state.ended.remove(&id);
        history.tell(HistoryEvent::Begun(record.clone()));
        state.active.insert(id.clone(), record);
        drop(state);
        Recording { history, id: Some(id), counting }
    }

    /// Which builds there are and were, and what happens to them.
    pub fn listen_to_builds(&self) -> Listening {
        let history = &self.shared.history;
        // Nobody waits for it.
        drop(history.expire());
        let state = history.lock();
        let mut ended: Vec<BuildRecord> = state.ended.values().cloned().collect();
        ended.sort_by_key(|record| std::cmp::Reverse(record.completed));
        Listening {
            active: state.active.values().cloned().collect(),
            ended,
            events: history.events.subscribe(),
        }
    }

    /// Forgets a build that has ended. Durable on return.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] for one that goes on, and the index's.
    pub async fn remove_build_record(&self, id: &str) -> Result<()> {
        let history = &self.shared.history;
        let removed = {
            let mut state = history.lock();
            if state.active.contains_key(id) {
                return Err(Error::Conflict(format!("build {id} goes on: its record cannot be removed yet")));
            }
            let record = state.ended.remove(id).ok_or_else(|| not_found(id))?;
            history.tell(HistoryEvent::Removed(record));
            history.index.remove_build_records(vec![id.to_owned()])
        };
        removed.arrive().await
    }

    /// Has the record of a build that has ended stay until somebody says otherwise, or no longer. Durable on return.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where as many are pinned as may be, and the index's.
    pub async fn pin_build_record(&self, id: &str, pinned: bool) -> Result<()> {
        let history = &self.shared.history;
        let written = {
            let mut state = history.lock();
            let others = state.ended.values().filter(|record| record.pinned && record.id != id).count();
            if pinned && others >= limits::BUILD_PINS {
                return Err(Error::Conflict(format!(
                    "{others} records of builds are pinned already: unpin others"
                )));
            }
            let record = state.ended.get_mut(id).ok_or_else(|| not_found(id))?;
            record.pinned = pinned;
            let record = record.clone();
            history.tell(HistoryEvent::Ended(record.clone()));
            history.index.put_build_record(id.to_owned(), record.to_json())
        };
        written.arrive().await
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound { kind: "build", name: id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn what_is_too_old_or_too_much_goes_unless_it_is_pinned() {
        let now = OffsetDateTime::now_utc();
        let record = |id: usize, age: Duration, pinned: bool| {
            let mut record = BuildRecord::begin(format!("{id:04}"), String::new(), [], Vec::new());
            (record.completed, record.pinned) = (Some(now - age), pinned);
            (record.id.clone(), record)
        };
        let old = limits::BUILD_RECORD_AGE + Duration::seconds(1);
        let mut ended: BTreeMap<_, _> =
            (0..limits::BUILD_RECORDS).map(|id| record(id, Duration::ZERO, false)).collect();
        assert!(expired(&ended, now).is_empty());
        ended.extend([record(9000, old, true), record(9001, Duration::seconds(5), false)]);
        assert_eq!(expired(&ended, now), ["9001"]);
        let few: BTreeMap<_, _> = [record(1, old, false), record(2, old, true)].into();
        assert_eq!(expired(&few, now), ["0001"]);
    }
}
