//! `GET /events`: what has happened and what happens, one document a line.

use super::containers::filters;
use super::streams::moment;
use crate::answer::{self, Answer};
use crate::error::Failure;
use crate::server::Call;
use ::time::OffsetDateTime;
use bytes::Bytes;
use coracle_api::{ApiVersion, Filters};
use coracle_engine::events::Event;
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::Sender;

/// The filters. Nothing has ever happened to what is not here, such as nodes.
const KNOWN: [&str; 14] = [
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
    "service",
    "secret",
    "config",
];

pub(super) fn events(call: &Call) -> Answer {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&KNOWN) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    let (since, until) = (moment(call.query.get("since"))?, moment(call.query.get("until"))?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        let text = format!("`since` time ({since}) cannot be after `until` time ({until})");
        return Err(Failure::invalid(text));
    }
    let (past, receiver) = call.engine().listen_events();
    let in_time = move |event: &Event| {
        since.is_none_or(|since| event.at >= since) && until.is_none_or(|until| event.at <= until)
    };
    // Without a beginning and an end, only what happens from now on is told.
    let bounded = since.is_some() || until.is_some();
    let past = past.into_iter().filter(move |event| bounded && in_time(event));
    let live = sent_by(move |sender| forward(receiver, sender, until));
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

/// Hands on what happens until then, or until nobody listens.
async fn forward(mut receiver: Receiver<Event>, sender: Sender<Event>, until: Option<OffsetDateTime>) {
    let end = async {
        match until.map(|until| until - OffsetDateTime::now_utc()) {
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
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// A stream of what a task sends; the task ends with the stream.
fn sent_by<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    run: impl FnOnce(Sender<T>) -> F,
) -> impl stream::Stream<Item = T> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(run(sender));
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}

/// Whether an event passes the filters, as Docker has them: values of one filter widen each other, filters narrow, labels do
/// as well.
fn wanted(event: &Event, filters: &Filters) -> bool {
    let any = |name: &str, test: &dyn Fn(&str) -> bool| !filters.has(name) || filters.values(name).any(test);
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    // The beginning of an id or of a name.
    let named = |kind: &str| {
        any(kind, &|wanted| {
            event.kind == kind && (event.id.starts_with(wanted) || attribute("name").starts_with(wanted))
        })
    };
    let action = event.action.split(':').next().unwrap_or_default();
    let image = attribute(if event.kind == "image" { "name" } else { "image" });
    any("type", &|kind| event.kind == kind)
        && any("event", &|wanted| wanted == action || wanted == event.action)
        && ["container", "volume", "network", "daemon", "plugin", "node", "service", "secret", "config"]
            .into_iter()
            .all(named)
        && any("image", &|wanted| {
            [event.id.as_str(), image].into_iter().any(|name| name == wanted || without_tag(name) == wanted)
        })
        && filters.values("label").all(|label| crate::convert::listing::has_label(&event.attributes, label))
        && any("scope", &|scope| scope == "local")
}

/// The repository of an image's name.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        // A port of the registry is no tag.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &'static str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Event {
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: attributes.collect(),
            at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn filters_narrow_and_their_values_widen() {
        let started = event(
            "container",
            "start",
            "abc1",
            &[("name", "web"), ("image", "reg:5000/nginx:1"), ("l", "v")],
        );
        let exec = event("container", "exec_create: sh", "abc1", &[("name", "web"), ("image", "nginx")]);
        let tagged = event("image", "tag", "sha256:77", &[("name", "nginx:1")]);
        let connected = event("network", "connect", "def2", &[("name", "bridge"), ("container", "abc1")]);
        let reloaded = event("daemon", "reload", "e1", &[("name", "host")]);
        let all = [started, exec, tagged, connected, reloaded];
        for (filters, expected) in [
            (&[][..], &[0, 1, 2, 3, 4][..]),
            (&[("type", "image"), ("type", "network")], &[2, 3]),
            (&[("event", "exec_create")], &[1]),
            (&[("event", "exec_create: sh"), ("event", "tag")], &[1, 2]),
            (&[("container", "web")], &[0, 1]),
            (&[("container", "ab")], &[0, 1]),
            (&[("container", "other")], &[]),
            (&[("image", "reg:5000/nginx")], &[0]),
            (&[("image", "nginx")], &[1, 2]),
            (&[("image", "nginx:1")], &[2]),
            (&[("image", "sha256:77")], &[2]),
            (&[("label", "l=v")], &[0]),
            (&[("label", "l"), ("label", "other")], &[]),
            (&[("network", "bridge")], &[3]),
            (&[("volume", "x")], &[]),
            (&[("daemon", "host")], &[4]),
            (&[("scope", "swarm")], &[]),
            (&[("scope", "local"), ("type", "daemon")], &[4]),
            (&[("node", "x")], &[]),
        ] {
            let mut given = Filters::default();
            filters.iter().for_each(|(name, value)| given.add(*name, *value));
            let passed: Vec<usize> = (0..all.len()).filter(|index| wanted(&all[*index], &given)).collect();
            assert_eq!(passed, expected, "{filters:?}");
        }
    }
}
