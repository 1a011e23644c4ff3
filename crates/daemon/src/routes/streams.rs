//! Answers that go on: logs, exported file systems.

use crate::answer::{self, Answer, Body};
use crate::convert::time;
use crate::error::Failure;
use crate::server::Call;
use bytes::Bytes;
use coracle_api::ApiVersion;
use coracle_api::version::{MULTIPLEXED_STREAM, RAW_STREAM};
use coracle_engine::images::BodyWriter;
use coracle_engine::logs::{Entry, Selection, Stream, Tail};
use futures_util::{StreamExt as _, stream};
use hyper::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;
use std::io;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

/// The content type of a stream with output of this kind.
pub(super) fn stream_type(version: ApiVersion, tty: bool) -> &'static str {
    if tty || version < ApiVersion::new(1, 42) { RAW_STREAM } else { MULTIPLEXED_STREAM }
}

/// Appends a piece of output, framed unless it is a terminal's.
pub(crate) fn frame(into: &mut Vec<u8>, stream: Stream, bytes: &[u8], tty: bool) {
    if !tty {
        let number = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        into.extend([number, 0, 0, 0]);
        into.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    into.extend_from_slice(bytes);
}

/// Which entries of a log are wanted, and how they are shown.
struct Shown {
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    details: bool,
    tty: bool,
}

impl Shown {
    fn write(&self, entries: &[Entry]) -> Bytes {
        let mut out = Vec::new();
        for entry in entries {
            let wanted = match entry.stream {
                Stream::Stdout => self.stdout,
                Stream::Stderr => self.stderr,
            };
            if !wanted {
                continue;
            }
            let mut line = Vec::with_capacity(entry.bytes.len() + 40);
            if self.timestamps {
                line.extend(stamp(entry.time).as_bytes());
                line.push(b' ');
            }
            if self.details {
                // Docker ends an empty list like a full one.
                line.extend(details(&entry.attributes).as_bytes());
                line.push(b' ');
            }
            line.extend(&entry.bytes);
            frame(&mut out, entry.stream, &line, self.tty);
        }
        out.into()
    }
}

/// What a line is marked with, as a query.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let pairs = attributes.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// A text as Go's `url.QueryEscape` writes it.
fn escaped(text: &str) -> String {
    const ESCAPED: AsciiSet =
        NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    utf8_percent_encode(text, &ESCAPED).to_string().replace(' ', "+")
}

/// A moment with all nine digits, as Docker writes it before a line.
fn stamp(moment: ::time::OffsetDateTime) -> String {
    let (date, clock) = (moment.date(), moment.time());
    let (month, nanosecond) = (u8::from(date.month()), clock.nanosecond());
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    format!(
        "{:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{nanosecond:09}Z",
        date.year(),
        date.day()
    )
}

pub(super) async fn logs(call: &Call, name: &str) -> Answer {
    let query = &call.query;
    let container = call.engine().inspect(name)?;
    if !query.is_on("stdout") && !query.is_on("stderr") {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let shown = Shown {
        stdout: query.is_on("stdout"),
        stderr: query.is_on("stderr"),
        timestamps: query.is_on("timestamps"),
        details: query.is_on("details"),
        tty: container.settings.tty,
    };
    let selection = Selection {
        tail: tail(query.get("tail").unwrap_or_default()),
        since: moment(query.get("since"))?,
        until: moment(query.get("until"))?,
    };
    let mut log = call.engine().logs(name, selection, query.is_on("follow")).await?;
    let kind = stream_type(call.version, shown.tty);
    // What is there goes with the head of the answer, and so does the end of a short log that has ended: clients have been
    // seen to look for nothing that comes later.
    let (entries, is_all) = log.first().await?;
    let first = shown.write(&entries);
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    let parts = stream::unfold((!is_all).then_some((log, shown)), |rest| async move {
        let (mut log, shown) = rest?;
        loop {
            match log.next().await {
                Ok(entries) if entries.is_empty() => return None,
                Ok(entries) => {
                    let bytes = shown.write(&entries);
                    if !bytes.is_empty() {
                        return Some((Ok(bytes), Some((log, shown))));
                    }
                }
                Err(error) => return Some((Err(io::Error::other(error.chain())), None)),
            }
        }
    });
    Ok(answer::stream(kind, first.chain(parts)))
}

/// Docker takes what is no number, and negative ones, for all lines.
fn tail(text: &str) -> Tail {
    text.parse().map_or(Tail::All, Tail::Last)
}

/// The moment that a client names; none for the beginning of time, and for nothing.
pub(super) fn moment(text: Option<&str>) -> Result<Option<::time::OffsetDateTime>, Failure> {
    match text.filter(|text| !text.is_empty() && *text != "0") {
        None => Ok(None),
        Some(text) => {
            time::read(text).map(Some).ok_or_else(|| Failure::invalid(format!("invalid time: {text:?}")))
        }
    }
}

pub(super) async fn export(call: &Call, name: &str) -> Answer {
    let root = call.engine().root_of(name).await?;
    call.engine().tell_of_export(name)?;
    let (writer, receiver) = BodyWriter::channel();
    let writing = tokio::task::spawn_blocking(move || coracle_engine::containers::export(&root, writer));
    Ok(archive(receiver, writing))
}

/// The archive that somebody writes to the other end. Where that fails, the answer breaks off instead of ending: no client
/// takes half an archive for a whole one.
pub(super) fn archive(
    receiver: Receiver<Bytes>,
    writing: JoinHandle<coracle_engine::Result<()>>,
) -> Response<Body> {
    let parts = stream::unfold(Some((receiver, writing)), |state| async move {
        let (mut receiver, writing) = state?;
        if let Some(bytes) = receiver.recv().await {
            return Some((Ok(bytes), Some((receiver, writing))));
        }
        let error = match writing.await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.chain(),
            Err(stopped) => stopped.to_string(),
        };
        tracing::warn!(error, "an archive ended early");
        Some((Err(io::Error::other(error)), None))
    });
    answer::stream("application/x-tar", parts)
}
