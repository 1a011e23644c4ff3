//! Answers that go on: attached streams, logs, events, exported file systems.

use super::containers::filters;
use crate::answer::{self, Answer};
use crate::convert::time;
use crate::error::Failure;
use crate::server::Call;
use crate::session::{self, DetachKeys};
use crate::{hijack, input};
use bytes::Bytes;
use coracle_api::container as api;
use coracle_api::version::{MULTIPLEXED_STREAM, RAW_STREAM};
use coracle_api::{ApiVersion, Filters};
use coracle_engine::containers::{AttachSettings, Attached};
use coracle_engine::events::Event;
use coracle_engine::images::BodyWriter;
use coracle_engine::logs::{Entry, Selection, Stream, Tail};
use futures_util::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Request, StatusCode};
use std::io;

/// Attaches the client to a container.
pub(super) async fn attach(call: Call, name: &str) -> Answer {
    let keys = keys(call.query.get("detachKeys").unwrap_or_default())?;
    let engine = call.engine();
    let on = |key: &str| call.query.is_on(key);
    let container = engine.inspect(name)?;
    let mut replay = Vec::new();
    if on("logs") {
        let mut log = engine.logs(name, &Selection::default(), false)?;
        loop {
            let entries = log.next().await?;
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                frame(&mut replay, entry.stream, &entry.bytes, container.settings.tty);
            }
        }
    }
    let wanted = AttachSettings { stdin: on("stdin"), stdout: on("stdout"), stderr: on("stderr") };
    let attached = if on("stream") { Some(engine.attach(name, wanted).await?) } else { None };
    take_over(call, container.settings.tty, replay, attached, keys)
}

/// Starts an exec and attaches the client to it, unless it wants to be detached.
pub(super) async fn start_exec(call: Call, id: &str) -> Answer {
    let (mut parts, body) = call.request.into_parts();
    // The connection becomes a stream later, so what belongs to it is kept apart from the body.
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let request: api::ExecStartRequest = input::document(Request::from_parts(parts, body)).await?;
    let size = request.console_size.and_then(crate::convert::settings::console_size);
    let exec = call.context.engine.inspect_exec(id)?;
    let keys = keys(&exec.settings.detach_keys)?;
    let tty = exec.settings.tty;
    let attached = match call.context.engine.start_exec(id, request.detach, size).await {
        Ok(Some(attached)) => attached,
        Ok(None) => return answer::empty(StatusCode::OK),
        // Docker is attached by then: the reason is the output, and the exec's exit code tells the rest.
        Err(error @ coracle_engine::Error::Start { .. }) if !request.detach => {
            let mut reason = Vec::new();
            let text = format!("{}\r\n", Failure::from(error).message);
            frame(&mut reason, Stream::Stdout, text.as_bytes(), tty);
            return answer_upgrade(call.version, tty, move || {
                tokio::spawn(async move {
                    use tokio::io::AsyncWriteExt;
                    let Some(Ok(client)) = (match upgrade {
                        Some(upgrade) => Some(upgrade.await),
                        None => None,
                    }) else {
                        return;
                    };
                    let mut client = hyper_util::rt::TokioIo::new(client);
                    // A client that is gone need not know.
                    let _ = client.write_all(&reason).await;
                    let _ = client.shutdown().await;
                });
            });
        }
        Err(error) => return Err(error.into()),
    };
    let (context, id) = (std::sync::Arc::clone(&call.context), id.to_owned());
    answer_upgrade(call.version, tty, move || {
        tokio::spawn(async move {
            let Some(upgrade) = upgrade else { return };
            if let Ok(client) = upgrade.await {
                let ended = async { context.engine.wait_exec(&id).await };
                session::run(hyper_util::rt::TokioIo::new(client), attached, keys, ended).await;
            }
        });
    })
}

fn keys(text: &str) -> Result<DetachKeys, Failure> {
    DetachKeys::parse(text).ok_or_else(|| Failure::invalid(format!("Invalid detach keys ({text}) provided")))
}

fn take_over(call: Call, tty: bool, replay: Vec<u8>, attached: Option<Attached>, keys: DetachKeys) -> Answer {
    let request: Request<Incoming> = call.request;
    answer_upgrade(call.version, tty, move || {
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let Some(mut client) = hijack::upgraded(request).await else { return };
            if client.write_all(&replay).await.is_err() {
                return;
            }
            match attached {
                Some(attached) => session::run(client, attached, keys, std::future::ready(())).await,
                // Only the past was wanted.
                None => drop(client.shutdown().await),
            }
        });
    })
}

/// The head that turns the connection into a stream; `begin` starts what speaks over it.
fn answer_upgrade(version: ApiVersion, tty: bool, begin: impl FnOnce()) -> Answer {
    let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS)?;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(stream_type(version, tty)));
    begin();
    Ok(response)
}

fn stream_type(version: ApiVersion, tty: bool) -> &'static str {
    if tty || version < ApiVersion::new(1, 42) { RAW_STREAM } else { MULTIPLEXED_STREAM }
}

/// Appends a piece of output, framed unless it is a terminal's.
fn frame(into: &mut Vec<u8>, stream: Stream, bytes: &[u8], tty: bool) {
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
    details: String,
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
            if !self.details.is_empty() {
                line.extend(self.details.as_bytes());
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
        details: String::new(),
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
    tokio::task::spawn_blocking(move || {
        // A client that is gone ends the writing; what else goes wrong cuts the archive short, which clients notice.
        if let Err(error) = coracle_engine::containers::export(&root, writer) {
            tracing::warn!(error = error.chain(), "an export ended early");
        }
    });
    Ok(answer::stream("application/x-tar", received(receiver)))
}

/// What a blocking writer sends, as a stream.
pub(super) fn received(
    receiver: tokio::sync::mpsc::Receiver<Bytes>,
) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok(bytes), receiver))
    })
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
