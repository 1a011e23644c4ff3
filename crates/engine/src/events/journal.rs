//! Events on disk, so that what happened before a restart of the engine can be asked for: `events.jsonl` below the data root,
//! one document a line.
//!
//! Nothing waits for it: a thread of its own writes, and what an engine had not written when it was killed is lost. The file is
//! written anew with the last events when it has grown to several times as many.

use super::{Event, REMEMBERED};
use crate::error::{Attempt, Result};
use crate::limits::{EVENT_FILE, EVENT_LINE, EVENTS_TO_WRITE};
use coracle_sys::atomic;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use time::OffsetDateTime;

const FILE: &str = "events.jsonl";
/// Bytes of events at which the file is written anew.
const GROWN: usize = 4 << 20;
const KINDS: [&str; 6] = ["container", "image", "volume", "network", "daemon", "builder"];

/// An event as a line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    kind: String,
    action: String,
    id: String,
    attributes: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    at: i64,
}

impl Line {
    fn of(event: &Event) -> Self {
        Self {
            kind: event.kind.to_owned(),
            action: event.action.clone(),
            id: event.id.clone(),
            attributes: event.attributes.clone(),
            at: i64::try_from(event.at.unix_timestamp_nanos()).unwrap_or(i64::MAX),
        }
    }

    fn event(self) -> Option<Event> {
        Some(Event {
            kind: KINDS.into_iter().find(|kind| *kind == self.kind)?,
            action: self.action,
            id: self.id,
            attributes: self.attributes,
            at: OffsetDateTime::from_unix_timestamp_nanos(self.at.into()).ok()?,
        })
    }
}

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct Journal {
    sender: Option<SyncSender<Event>>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the file below `data_root`, and reads the last events. Blocks.
    ///
    /// A disk without room is no reason not to start: the file then stays as it is, and new events follow the old ones.
    ///
    /// # Errors
    /// When it cannot be read or opened.
    pub(super) fn open(data_root: &Path) -> Result<(Self, VecDeque<Event>)> {
        let path = data_root.join(FILE);
        let past = read(&path)?;
        let lines: VecDeque<Vec<u8>> = past.iter().filter_map(line).collect();
        let opened = write_anew(&path, &lines).map(|file| (file, false)).or_else(|error| {
            tracing::error!(path = %path.display(), error = error.chain(), "the past events could not be written anew");
            let file = File::options().append(true).create(true).open(&path);
            file.attempt(|| format!("open {}", path.display())).map(|file| (file, true))
        });
        let (file, torn) = opened?;
        let (sender, receiver) = sync_channel(EVENTS_TO_WRITE);
        let bytes = lines.iter().map(Vec::len).sum();
        let written = Written { path, file, torn, bytes, limit: GROWN.max(2 * bytes), lines };
        let writer = std::thread::Builder::new().name("events".to_owned()).spawn(|| written.take(receiver));
        let writer = writer.attempt(|| "start the thread that writes events".to_owned())?;
        Ok((Self { sender: Some(sender), writer: Some(writer) }, past))
    }

    /// Has an event written, unless the disk is too slow for all that happens.
    pub(super) fn note(&self, event: &Event) {
        // The thread ends with this value, not before, unless it failed and said so.
        let Some(Err(TrySendError::Full(lost))) =
            self.sender.as_ref().map(|sender| sender.try_send(event.clone()))
        else {
            return;
        };
        tracing::warn!(kind = lost.kind, action = lost.action, id = lost.id, "an event is told but not kept");
    }
}

impl Drop for Journal {
    /// Waits until everything is written.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(writer) = self.writer.take() {
            // A panic there has been told.
            let _ = writer.join();
        }
    }
}

/// The file, and what of it would be kept.
struct Written {
    path: PathBuf,
    file: File,
    /// Whether its end may be half a line.
    torn: bool,
    /// Length of the file, in bytes.
    bytes: usize,
    /// Length at which it is written anew, in bytes.
    limit: usize,
    lines: VecDeque<Vec<u8>>,
}

impl Written {
    fn take(mut self, receiver: Receiver<Event>) {
        for event in receiver {
            let Some(line) = line(&event) else { continue };
            if let Err(error) = self.add(line) {
                tracing::error!(path = %self.path.display(), %error, "an event could not be written");
            }
        }
    }

    fn add(&mut self, line: Vec<u8>) -> std::io::Result<()> {
        let end: &[u8] = if self.torn { b"\n" } else { b"" };
        let mut written = self.file.write_all(end).and_then(|()| self.file.write_all(&line));
        self.torn = written.is_err();
        self.bytes += line.len();
        self.lines.push_back(line);
        if self.lines.len() > REMEMBERED {
            self.lines.pop_front();
        }
        if self.bytes > self.limit {
            written = written.and(self.shrink());
        }
        written
    }

    /// Writes the file anew, which may then grow to twice what is in it.
    fn shrink(&mut self) -> std::io::Result<()> {
        self.bytes = self.lines.iter().map(Vec::len).sum();
        self.limit = GROWN.max(2 * self.bytes);
        self.file = write_anew(&self.path, &self.lines).map_err(std::io::Error::other)?;
        Ok(())
    }
}

/// An event as it is written; none for one that is too long to be read again.
fn line(event: &Event) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line::of(event)).ok()?;
    line.push(b'\n');
    (line.len() <= EVENT_LINE).then_some(line)
}

fn read(path: &Path) -> Result<VecDeque<Event>> {
    let reading = || format!("read {}", path.display());
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(EVENT_FILE).read_to_end(&mut text).attempt(reading)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).attempt(reading),
    }
    // A line that is no document is the last one of an engine that was killed, or of a newer one.
    let known =
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    let mut events: VecDeque<Event> = known.filter_map(Line::event).collect();
    events.drain(..events.len().saturating_sub(REMEMBERED));
    Ok(events)
}

fn write_anew(path: &Path, lines: &VecDeque<Vec<u8>>) -> Result<File> {
    let content: Vec<u8> = lines.iter().flatten().copied().collect();
    let writing = || format!("write {}", path.display());
    atomic::write(path, &content, Mode::from_raw_mode(0o600)).attempt(writing)?;
    std::fs::OpenOptions::new().append(true).open(path).attempt(writing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, length: usize) -> Event {
        Event {
            kind: "container",
            action: action.to_owned(),
            id: "ab".to_owned(),
            attributes: BTreeMap::from([("name".to_owned(), "x".repeat(length))]),
            at: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
        }
    }

    #[test]
    fn what_was_noted_is_found_again_and_a_torn_line_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let (journal, past) = Journal::open(place.path()).unwrap();
        assert!(past.is_empty());
        journal.note(&event("start", 3));
        journal.note(&event("die", 3));
        drop(journal);
        let path = place.path().join(FILE);
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"kind\":\"conta")
            .unwrap();
        let (journal, past) = Journal::open(place.path()).unwrap();
        assert_eq!(past, [event("start", 3), event("die", 3)]);
        journal.note(&event("destroy", 3));
        drop(journal);
        assert_eq!(Journal::open(place.path()).unwrap().1.len(), 3);
    }

    #[test]
    fn the_file_stays_small_and_has_the_last_events() {
        let place = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(place.path()).unwrap();
        for number in 0..3 * REMEMBERED {
            journal.note(&event(&number.to_string(), 4000));
        }
        journal.note(&event("too long", EVENT_LINE));
        drop(journal);
        let length = std::fs::metadata(place.path().join(FILE)).unwrap().len();
        assert!(length < EVENT_FILE, "{length}");
        let (_journal, past) = Journal::open(place.path()).unwrap();
        assert_eq!(past.len(), REMEMBERED);
        assert_eq!(past.back().unwrap().action, (3 * REMEMBERED - 1).to_string());
    }
}
