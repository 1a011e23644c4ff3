//! Pull and push, `/auth`, `/distribution/…` and `/images/search`.

use super::images::reference;
use super::json_line;
use crate::answer::{self, Answer};
use crate::convert::{platform, transfer};
use crate::error::Failure;
use crate::input;
use crate::peer::Watch;
use crate::server::Call;
use bytes::Bytes;
use coracle_api::auth::{AuthConfig, AuthResponse};
use coracle_api::image as api;
use coracle_api::{ApiVersion, ProgressMessage};
use coracle_engine::Result;
use coracle_engine::images::{ImportRequest, PullRequest, PushRequest, SearchRequest, Step, Teller};
use coracle_spec::{Platform, Reference};
use hyper::Response;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The registry that is meant where none is named.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Rows of a search, unless the client wants fewer or more; Docker's numbers.
const SEARCH_ROWS: u32 = 25;
const MOST_SEARCH_ROWS: u32 = 100;

/// `POST /images/create?fromImage=…`
pub(super) async fn pull(call: &Call, name: &str) -> Answer {
    let tag = call.query.get("tag").filter(|tag| !tag.is_empty());
    let (reference, which) = wanted(name, tag)?;
    let platform = call.query.get("platform").filter(|text| !text.is_empty());
    let platform = platform.map(str::parse::<Platform>).transpose();
    let request = PullRequest {
        reference,
        platform: platform.map_err(|error| Failure::invalid(error.to_string()))?,
        credentials: transfer::credentials(call.request.headers()),
    };
    let context = Arc::clone(&call.context);
    streamed(&call.client, move |told| async move {
        let images = context.engine.images();
        match which {
            Which::One => images.pull(request, &told).await.map(drop),
            Which::EveryTag => images.pull_all(request, &told).await,
        }
    })
    .await
}

/// `POST /images/create?fromSrc=ADDRESS`
pub(super) async fn import(call: &Call, address: String, request: ImportRequest) -> Answer {
    let context = Arc::clone(&call.context);
    streamed(&call.client, move |told| async move {
        context.engine.images().import_from(&address, request, &told).await.map(drop)
    })
    .await
}

/// How much a pull wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    One,
    EveryTag,
}

/// What a pull names. `tag` may also be a digest; without it and without a tag in the name, all tags are meant.
fn wanted(name: &str, tag: Option<&str>) -> std::result::Result<(Reference, Which), Failure> {
    let invalid = |_| Failure::invalid("invalid reference format");
    let reference: Reference = name.parse().map_err(invalid)?;
    match tag {
        Some(digest) if digest.contains(':') => {
            Ok((reference.with_digest(digest.parse().map_err(invalid)?), Which::One))
        }
        Some(tag) => Ok((reference.with_tag(tag.parse().map_err(invalid)?), Which::One)),
        None if reference.tag().is_none() && reference.digest().is_none() => Ok((reference, Which::EveryTag)),
        None => Ok((reference, Which::One)),
    }
}

fn no_name() -> Failure {
    Failure::invalid("invalid reference format: no name was given")
}

/// `POST /images/{name}/push`
pub(super) async fn push(call: &Call, name: &str) -> Answer {
    let invalid = |_| Failure::invalid("invalid reference format");
    let mut reference: Reference = name.parse().map_err(invalid)?;
    if let Some(tag) = call.query.get("tag").filter(|tag| !tag.is_empty()) {
        reference = reference.with_tag(tag.parse().map_err(invalid)?);
    }
    let request = PushRequest {
        reference,
        platform: platform::one(call, ApiVersion::new(1, 46))?,
        credentials: transfer::credentials(call.request.headers()),
    };
    let context = Arc::clone(&call.context);
    streamed(
        &call.client,
        move |told| async move { context.engine.images().push(request, &told).await.map(drop) },
    )
    .await
}

/// Runs a transfer and streams what it tells. What fails before it has told anything is an answer of its own. A client
/// that goes ends the transfer, also while a registry gives nothing that could be told.
async fn streamed<F>(client: &Watch, transfer: impl FnOnce(Teller) -> F) -> Answer
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (told, steps) = Teller::channel();
    let running = Running { task: tokio::spawn(transfer(told)), steps, client: client.clone() };
    match running.next().await {
        Next::Step(first, running) => Ok(stream(running, transfer::lines(first).into())),
        Next::Ended(result) => {
            result?;
            Ok(answer::stream("application/json", futures_util::stream::empty()))
        }
        Next::ClientGone => Err(gone()),
    }
}

/// A transfer that ends with whoever waits for it. What it has brought is left to the collector when the transfer itself
/// has let go of it.
struct Running {
    task: JoinHandle<Result<()>>,
    steps: mpsc::Receiver<Step>,
    client: Watch,
}

/// What comes next.
enum Next {
    Step(Step, Running),
    Ended(std::result::Result<(), Failure>),
    ClientGone,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    async fn next(mut self) -> Next {
        let step = tokio::select! {
            step = self.steps.recv() => step,
            () = self.client.gone() => return Next::ClientGone,
        };
        match step {
            Some(step) => Next::Step(step, self),
            None => Next::Ended(match (&mut self.task).await {
                Ok(result) => result.map_err(Failure::from),
                Err(error) => Err(Failure::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
            }),
        }
    }
}

/// Nobody hears it.
fn gone() -> Failure {
    Failure::new(hyper::StatusCode::BAD_REQUEST, "the client is gone")
}

fn stream(running: Running, lines: VecDeque<ProgressMessage>) -> Response<answer::Body> {
    let parts = futures_util::stream::unfold((Some(running), lines), |(mut running, mut lines)| async {
        loop {
            if let Some(line) = lines.pop_front() {
                return Some((Ok::<Bytes, io::Error>(json_line(&line)), (running, lines)));
            }
            match running.take()?.next().await {
                Next::Step(step, rest) => {
                    lines = transfer::lines(step).into();
                    running = Some(rest);
                }
                Next::Ended(Ok(())) => return None,
                Next::Ended(Err(failure)) => lines.push_back(ProgressMessage::failure(failure.message)),
                Next::ClientGone => return Some((Err(io::ErrorKind::BrokenPipe.into()), (None, lines))),
            }
        }
    });
    answer::stream("application/json", parts)
}

/// `POST /auth`
pub(super) async fn login(call: Call) -> Answer {
    let auth: AuthConfig = input::document(call.request).await?;
    let registry = match auth.serveraddress.as_str() {
        "" => DEFAULT_REGISTRY,
        address => address,
    };
    let login = call.context.engine.images().login(registry, transfer::of_auth(&auth)).await?;
    answer::ok(&AuthResponse {
        status: login.status,
        identity_token: login.identity_token.map(|token| token.expose().to_owned()).unwrap_or_default(),
    })
}

/// `GET /distribution/{name}/json`
pub(super) async fn distribution(call: &Call, name: &str) -> Answer {
    let reference = reference(Some(name), None)?.ok_or_else(no_name)?;
    let credentials = transfer::credentials(call.request.headers());
    let found = call.engine().images().distribution(reference, credentials).await?;
    answer::ok(&api::DistributionInspect {
        descriptor: serde_json::to_value(&found.descriptor).unwrap_or_default(),
        platforms: found
            .platforms
            .iter()
            .map(|platform| serde_json::to_value(platform).unwrap_or_default())
            .collect(),
    })
}

/// `GET /images/search`
pub(super) async fn search(call: &Call) -> Answer {
    let limit = match call.query.get("limit").filter(|text| !text.is_empty() && *text != "0") {
        None => SEARCH_ROWS,
        Some(text) => {
            let parsed = text.parse().ok().filter(|limit| *limit <= MOST_SEARCH_ROWS);
            parsed.ok_or_else(|| {
                Failure::invalid(format!("invalid limit {text}: it is none from 1 to {MOST_SEARCH_ROWS}"))
            })?
        }
    };
    let filters = super::containers::filters(call)?;
    if let Some(unknown) = filters.unknown(&["is-official", "is-automated", "stars"]) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    let flag = |name: &str| filters.values(name).next().map(|text| matches!(text, "1" | "true"));
    let (official, automated) = (flag("is-official"), flag("is-automated"));
    let stars = filters.values("stars").filter_map(|text| text.parse::<u64>().ok()).max().unwrap_or(0);
    let request = SearchRequest {
        term: call.query.get("term").unwrap_or_default().to_owned(),
        limit,
        credentials: transfer::credentials(call.request.headers()),
    };
    let found = call.engine().images().search(request).await?;
    let wanted = found.into_iter().filter(|row| {
        row.star_count >= stars
            && official.is_none_or(|wanted| row.is_official == wanted)
            && automated.is_none_or(|wanted| row.is_automated == wanted)
    });
    let rows = wanted.map(|row| api::SearchResult {
        star_count: i64::try_from(row.star_count).unwrap_or(i64::MAX),
        is_official: row.is_official,
        name: row.name,
        is_automated: row.is_automated,
        description: row.description,
    });
    answer::ok(&rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_names_a_tag_a_digest_or_all_tags() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("docker.io/library/app@{digest}");
        for (name, tag, expected) in [
            ("app", Some("v1"), ("docker.io/library/app:v1", Which::One)),
            ("app:v1", None, ("docker.io/library/app:v1", Which::One)),
            ("app", None, ("docker.io/library/app", Which::EveryTag)),
            ("app", Some(digest.as_str()), (by_digest.as_str(), Which::One)),
            ("app@sha256:aaaa", None, ("", Which::One)),
            ("APP", None, ("", Which::One)),
            ("app", Some("a b"), ("", Which::One)),
        ] {
            match wanted(name, tag) {
                Ok((reference, which)) => assert_eq!((reference.canonical().as_str(), which), expected),
                Err(failure) => {
                    assert_eq!((expected.0, failure.status.as_u16()), ("", 400), "{name} {tag:?}");
                }
            }
        }
    }
}
