//! Answers that go on: logs, events, exported file systems.

use super::containers::filters;
use crate::answer::{self, Answer, Body};
use crate::convert::time;
use crate::error::Failure;
use crate::server::Call;
use bytes::Bytes;
use coracle_api::version::{MULTIPLEXED_STREAM, RAW_STREAM};
use coracle_api::{ApiVersion, Filters};
use coracle_engine::events::Event;
use coracle_engine::images::BodyWriter;
use coracle_engine::logs::{Entry, Selection, Stream, Tail};
use futures_util::{StreamExt, stream};
use hyper::Response;
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
                // Logs have no attributes here (their options are refused); Docker ends an empty list like a full one.
                line.push(b' ');
            }
            line.extend(&entry.bytes);
            frame(&mut out, entry.stream, &line, self.tty);
        }
        out.into()
    }
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

pub(super) fn logs(call: &Call, name: &str) -> Answer {
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
    let log = call.engine().logs(name, &selection, query.is_on("follow"))?;
    let kind = stream_type(call.version, shown.tty);
    let parts = stream::unfold((log, shown), |(mut log, shown)| async move {
        loop {
            match log.next().await {
                Ok(entries) if entries.is_empty() => return None,
                Ok(entries) => {
                    let bytes = shown.write(&entries);
                    if !bytes.is_empty() {
                        return Some((Ok(bytes), (log, shown)));
                    }
                }
                Err(error) => return Some((Err(io::Error::other(error.chain())), (log, shown))),
            }
        }
    });
    Ok(answer::stream(kind, parts))
}

/// Docker takes what is no number, and negative ones, for all lines.
fn tail(text: &str) -> Tail {
    text.parse().map_or(Tail::All, Tail::Last)
}

fn moment(text: Option<&str>) -> Result<Option<::time::OffsetDateTime>, Failure> {
    match text.filter(|text| !text.is_empty() && *text != "0") {
        None => Ok(None),
        Some(text) => {
            time::read(text).map(Some).ok_or_else(|| Failure::invalid(format!("invalid time: {text:?}")))
        }
    }
}

pub(super) async fn export(call: &Call, name: &str) -> Answer {
    let root = call.engine().root_of(name).await?;
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

/// The filters of events.
const KNOWN: [&str; 11] = [
    "type",
    "event",
    "container",
    "image",
    "label",
    "volume",
    "network",
    "daemon",
    "scope",
    "plugin",
    "node",
];

pub(super) fn events(call: &Call) -> Answer {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&KNOWN) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    let (since, until) = (moment(call.query.get("since"))?, moment(call.query.get("until"))?);
    let (past, mut receiver) = call.engine().listen_events();
    let in_time = move |event: &Event| {
        since.is_none_or(|since| event.at >= since) && until.is_none_or(|until| event.at <= until)
    };
    // Without a beginning, only what happens from now on is told.
    let past = past.into_iter().filter(move |event| since.is_some() && in_time(event));
    let live = async_stream(async move |sender: tokio::sync::mpsc::Sender<Event>| {
        let end = async {
            match until.map(|until| until - ::time::OffsetDateTime::now_utc()) {
                Some(left) => tokio::time::sleep(left.try_into().unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                () = sender.closed() => return,
                event = receiver.recv() => match event {
                    Ok(event) => if sender.send(event).await.is_err() { return },
                    // A listener that is too slow misses the oldest.
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    });
    let version = call.version;
    let lines = stream::iter(past).chain(live).filter_map(move |event| {
        let line = wanted(&event, &filters).then(|| {
            let mut line = serde_json::to_vec(&shown(&event, version)).unwrap_or_default();
            line.push(b'\n');
            Ok(Bytes::from(line))
        });
        std::future::ready(line)
    });
    // Something is sent at once, so that the client sees the head.
    let first = stream::once(std::future::ready(Ok(Bytes::new())));
    Ok(answer::stream("application/json", first.chain(lines)))
}

/// A stream of what a task sends; the task ends with the stream.
fn async_stream<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    run: impl FnOnce(tokio::sync::mpsc::Sender<T>) -> F,
) -> impl stream::Stream<Item = T> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(run(sender));
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}

fn wanted(event: &Event, filters: &Filters) -> bool {
    let any = |name: &str, test: &dyn Fn(&str) -> bool| !filters.has(name) || filters.values(name).any(test);
    let named = |kind: &str| {
        let name = event.attributes.get("name");
        any(kind, &|wanted| {
            event.kind == kind && (event.id.starts_with(wanted) || name.is_some_and(|name| name == wanted))
        })
    };
    let action = event.action.split(':').next().unwrap_or_default();
    any("type", &|kind| event.kind == kind)
        && any("event", &|wanted| wanted == action || wanted == event.action)
        && named("container")
        && named("volume")
        && named("network")
        && any("image", &|wanted| {
            event.id == wanted
                || event.attributes.get("image").is_some_and(|image| image == wanted)
                || event.attributes.get("name").is_some_and(|name| name == wanted)
        })
        && filters.values("label").all(|label| crate::convert::listing::has_label(&event.attributes, label))
        && any("scope", &|scope| scope == "local")
}

fn shown(event: &Event, version: ApiVersion) -> coracle_api::system::Event {
    let old = version < ApiVersion::new(1, 52) && matches!(event.kind, "container" | "image");
    let only_old = |text: &str| if old { text.to_owned() } else { String::new() };
    let nanoseconds = event.at.unix_timestamp_nanos();
    coracle_api::system::Event {
        status: only_old(&event.action),
        id: only_old(&event.id),
        from: event.attributes.get("image").map(|image| only_old(image)).unwrap_or_default(),
        kind: event.kind.to_owned(),
        action: event.action.clone(),
        actor: coracle_api::system::Actor { id: event.id.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: event.at.unix_timestamp(),
        time_nano: i64::try_from(nanoseconds).unwrap_or(i64::MAX),
    }
}
