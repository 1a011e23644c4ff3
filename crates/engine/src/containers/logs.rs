//! The log of a container, read by the engine.

use super::settings::LogSettings;
use super::{Description, log_attributes};
use crate::config::Config;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_logfile::{Entry, Place, Reader, Selection};
use rustix::fs::inotify;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

/// The driver whose files these are.
const JSON_FILE: &str = "json-file";
/// Another of Docker's, which is the same here, but takes fewer options.
const LOCAL: &str = "local";

/// Size of a file in bytes, and number of files, where nobody says otherwise.
const DEFAULT: (u64, u32) = (20 << 20, 5);

/// Most entries that are read in one go before the readers of the log are served.
const BATCH: usize = 1024;
/// Bytes of entries after which it is enough as well: every reader has its own.
const BATCH_SIZE: usize = 64 * 1024;

/// The bounds of a container's log: its file size in bytes and the number of files; nothing where it has no log.
///
/// # Errors
/// [`Error::Unsupported`] for other drivers, [`Error::Invalid`] for options that make no sense.
pub(crate) fn limits(settings: &LogSettings, config: &Config) -> Result<Option<(u64, u32)>> {
    bounds(settings, (config.log.size, config.log.files))
}

/// What the lines of a container's log are marked with, as a JSON document; empty for nothing.
///
/// # Errors
/// [`Error::Invalid`] where it comes to too much.
pub(crate) fn attributes(container: &Description, config: &Config) -> Result<String> {
    let settings = &container.settings.host.log;
    let mut options = settings.options.clone();
    // As Docker: what the engine says holds for its own driver.
    if settings.driver.is_empty() || settings.driver == config.log.driver {
        for (key, value) in &config.log.marks {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    log_attributes::of(container, &options)
}

/// How the logs of containers are that say nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDefaults {
    /// The driver.
    pub driver: String,
    /// Size at which a log is rotated, in bytes.
    pub size: u64,
    /// Most files of a log.
    pub files: u32,
    /// Options that say what lines are marked with.
    pub marks: BTreeMap<String, String>,
}

/// What an engine's own options for logs come to; nothing for no log at all.
///
/// # Errors
/// As for a container's.
pub fn log_defaults(driver: &str, options: BTreeMap<String, String>) -> Result<Option<LogDefaults>> {
    let driver = if driver.is_empty() { JSON_FILE } else { driver }.to_owned();
    let settings = LogSettings { driver, options };
    let Some((size, files)) = bounds(&settings, DEFAULT)? else { return Ok(None) };
    let LogSettings { driver, options: mut marks } = settings;
    marks.retain(|key, _| log_attributes::OPTIONS.contains(&key.as_str()));
    Ok(Some(LogDefaults { driver, size, files, marks }))
}

pub(super) fn invalid(option: &str, value: &str, reason: &str) -> Error {
    Error::Invalid(format!("invalid log option {option}={value}: {reason}"))
}

fn bounds(settings: &LogSettings, (mut size, mut files): (u64, u32)) -> Result<Option<(u64, u32)>> {
    match settings.driver.as_str() {
        "" | JSON_FILE | LOCAL => {}
        "none" => return Ok(None),
        other => {
            return Err(Error::Invalid(format!(
                "error looking up logging plugin {other}: plugin \"{other}\" not found"
            )));
        }
    }
    for (key, value) in &settings.options {
        let invalid = || Error::Invalid(format!("invalid log option {key}={value}"));
        match key.as_str() {
            "max-size" => size = parse_size(value).ok_or_else(invalid)?,
            "max-file" => {
                files = value.parse().ok().filter(|files| (1..=1000).contains(files)).ok_or_else(invalid)?;
            }
            // The files are bounded and searched by position, so compressing them would only cost time.
            "compress" if matches!(value.as_str(), "true" | "false") => {}
            "mode" if value == "blocking" => {}
            option if settings.driver != LOCAL && log_attributes::OPTIONS.contains(&option) => {
                log_attributes::check(option, value)
                    .map_err(|reason| self::invalid(option, value, &reason))?;
            }
            // Each driver has its own words.
            _ if settings.driver == LOCAL => {
                return Err(Error::Invalid(format!("unknown log opt '{key}' for log driver {LOCAL}")));
            }
            _ => return Err(Error::Invalid(format!("unknown log opt '{key}' for {JSON_FILE} log driver"))),
        }
    }
    Ok(Some((size, files)))
}

/// A number of bytes with an optional unit, as `20m`; negative is without bound.
fn parse_size(text: &str) -> Option<u64> {
    if text == "-1" {
        return Some(0);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads a container's log, and goes on as long as it is asked to.
pub struct LogStream {
    /// Away while it is read.
    reader: Option<Reader>,
    path: PathBuf,
    follow: Option<Follow>,
}

struct Follow {
    changes: AsyncFd<OwnedFd>,
    /// Whether the container still runs; the log ends with it.
    running: Box<dyn FnMut() -> bool + Send>,
    exits: watch::Receiver<std::sync::Arc<Description>>,
    /// When nothing more is wanted.
    until: Option<Instant>,
    ended: bool,
}

impl LogStream {
    /// Opens the log at `path`. With `follow`, it is followed until that container does not run.
    pub(crate) fn open(
        path: &Path,
        selection: &Selection,
        follow: Option<watch::Receiver<std::sync::Arc<Description>>>,
    ) -> Result<Self> {
        let subject = || format!("read {}", path.display());
        let follow = match follow {
            None => None,
            Some(exits) => {
                // Watched before the first read, so that nothing is missed in between.
                let changes = watch_directory(path.parent().unwrap_or(path)).attempt(subject)?;
                let view = exits.clone();
                let running = Box::new(move || view.borrow().state.status.is_up());
                let until = selection.until.map(|until| {
                    let left = until - OffsetDateTime::now_utc();
                    Instant::now() + left.try_into().unwrap_or_default()
                });
                Some(Follow { changes, running, exits, until, ended: false })
            }
        };
        let mut reader = Reader::open(path, selection).attempt(subject)?;
        if follow.is_none() {
            reader = reader.up_to_now().attempt(subject)?;
        }
        Ok(Self { reader: Some(reader), path: path.to_owned(), follow })
    }

    /// What there is already, up to one batch, without waiting for more; and whether that is all of it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn first(&mut self) -> Result<(Vec<Entry>, bool)> {
        // Asked before it is read: whoever has ended by then writes nothing more.
        let has_ended = self.follow.as_mut().is_none_or(|follow| !(follow.running)());
        let (entries, is_full) = self.read().await?;
        Ok((entries, has_ended && !is_full))
    }

    /// What is written from now on does not belong to it, but what was written since it ended does: up to `place`, or to now.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn go_on(&mut self, place: Option<Place>) -> Result<()> {
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        let (reader, moved) = blocking(move || {
            let moved = match place {
                Some(place) => {
                    reader.end_at(place);
                    Ok(())
                }
                None => reader.end_now(),
            };
            (reader, moved)
        })
        .await?;
        self.reader = Some(reader);
        moved.attempt(|| format!("read {}", self.path.display()))
    }

    /// The next entries; none at the end.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Entry>> {
        loop {
            let (entries, _) = self.read().await?;
            if !entries.is_empty() {
                return Ok(entries);
            }
            let Some(follow) = self.follow.as_mut().filter(|follow| !follow.ended) else {
                return Ok(entries);
            };
            follow.wait().await.attempt(|| format!("follow {}", self.path.display()))?;
        }
    }

    /// Reads up to one batch, and says whether it is full.
    async fn read(&mut self) -> Result<(Vec<Entry>, bool)> {
        // Whoever was kept from waiting for the last ones gets no more.
        let Some(reader) = self.reader.take() else { return Ok((Vec::new(), false)) };
        let path = self.path.clone();
        let (reader, read) = blocking(move || read(reader, &path)).await?;
        self.reader = Some(reader);
        read
    }
}

/// Reads what there is, up to one batch, and says whether it is full.
fn read(mut reader: Reader, path: &Path) -> (Reader, Result<(Vec<Entry>, bool)>) {
    let (mut entries, mut size) = (Vec::new(), 0);
    while entries.len() < BATCH && size < BATCH_SIZE {
        match reader.next_entry().attempt(|| format!("read {}", path.display())) {
            Ok(Some(entry)) => {
                size += entry.bytes.len();
                entries.push(entry);
            }
            Ok(None) => return (reader, Ok((entries, false))),
            Err(error) => return (reader, Err(error)),
        }
    }
    (reader, Ok((entries, true)))
}

impl Follow {
    /// Waits until there may be more, or the container or what is wanted of it has ended: then what is left is read once more.
    async fn wait(&mut self) -> std::io::Result<()> {
        if !(self.running)() {
            self.ended = true;
            return Ok(());
        }
        tokio::select! {
            ready = self.changes.readable() => {
                let mut ready = ready?;
                let mut buffer = [MaybeUninit::uninit(); 4096];
                let mut events = inotify::Reader::new(self.changes.get_ref(), &mut buffer);
                // What changed does not matter; only that the descriptor is read empty.
                while events.next().is_ok() {}
                ready.clear_ready();
            }
            changed = self.exits.changed() => self.ended |= changed.is_err(),
            () = over(self.until) => self.ended = true,
        }
        Ok(())
    }
}

/// Waits for a moment, if there is one.
async fn over(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn watch_directory(directory: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let descriptor = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&descriptor, directory, flags)?;
    crate::watch::watch(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("10", Some(10)),
            ("20m", Some(20 << 20)),
            ("1K", Some(1024)),
            ("1gib", Some(1 << 30)),
            ("-1", Some(0)),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        for text in ["", "m", "5x", "-5", "99999999999999999999g"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
