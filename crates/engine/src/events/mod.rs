//! What has happened, for those who listen and those who ask later. The last events outlive the engine ([`journal`]).

mod journal;

use crate::error::{Result, blocking};
use journal::Journal;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use time::OffsetDateTime;
use tokio::sync::broadcast;

/// Most events that are remembered.
const REMEMBERED: usize = 1024;
/// Most events that wait for one listener; a slower one misses the oldest.
const BACKLOG: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// To what kind of thing: `container`, `image`, `volume`, `network`, `daemon`, `builder`.
    pub kind: &'static str,
    /// What: `create`, `start`, `die` and so on.
    pub action: String,
    /// The thing's id or name.
    pub id: String,
    /// Its name, image, labels, and details of the action.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: OffsetDateTime,
}

/// Tells everybody who listens.
#[derive(Debug)]
pub(crate) struct Bus {
    sender: broadcast::Sender<Event>,
    past: Mutex<Past>,
    /// How many were told since the engine began.
    told: AtomicU64,
}

#[derive(Debug, Default)]
struct Past {
    events: VecDeque<Event>,
    /// Absent where nothing is to outlive the engine, and once it is closed.
    journal: Option<Journal>,
}

impl Bus {
    /// Remembers nothing of what was, and nothing for later.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, past: Mutex::default(), told: AtomicU64::new(0) }
    }

    /// Remembers what happened before, and keeps what happens below `data_root`.
    ///
    /// # Errors
    /// When that cannot be read or written.
    pub(crate) async fn open(data_root: &Path) -> Result<Self> {
        let data_root = data_root.to_owned();
        let (journal, events) = blocking(move || Journal::open(&data_root)).await??;
        let past = Past { events, journal: Some(journal) };
        Ok(Self { sender: broadcast::channel(BACKLOG).0, past: Mutex::new(past), told: AtomicU64::new(0) })
    }

    /// Keeps what has happened until now, and nothing from now on.
    pub(crate) async fn close(&self) -> Result<()> {
        let journal = self.past.lock().unwrap_or_else(PoisonError::into_inner).journal.take();
        blocking(move || drop(journal)).await
    }

    pub(crate) fn tell(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let at = OffsetDateTime::now_utc();
        self.told.fetch_add(1, Ordering::Relaxed);
        let event = Event { kind, action: action.into(), id: id.to_owned(), attributes, at };
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.events.len() == REMEMBERED {
            past.events.pop_front();
        }
        if let Some(journal) = &past.journal {
            journal.note(&event);
        }
        past.events.push_back(event.clone());
        // Nobody listening is no failure. Sent under the lock, so that `listen` neither misses nor doubles one.
        let _ = self.sender.send(event);
    }

    /// How many were told since the engine began.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// How many listen now.
    pub(crate) fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// What is remembered, and everything from now on.
    pub(crate) fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.events.iter().cloned().collect(), self.sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_gets_the_past_and_the_future_without_a_gap() {
        let bus = Bus::new();
        bus.tell("container", "create", "a", BTreeMap::new());
        let (past, mut receiver) = bus.listen();
        bus.tell("container", "start", "a", BTreeMap::new());
        assert_eq!(past.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["create"]);
        assert_eq!(receiver.try_recv().unwrap().action, "start");
    }
}
