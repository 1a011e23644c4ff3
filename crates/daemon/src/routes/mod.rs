//! From a method and a path to what is done: one table, a file for each area.

mod archive;
mod attach;
mod build;
mod check;
mod containers;
mod events;
mod exec;
pub(crate) mod images;
mod lists;
mod moving;
pub(crate) mod networks;
mod plugins;
mod reclaim;
mod registries;
mod stats;
mod streams;
mod swarm;
pub(crate) mod system;
mod usage;
mod volume_copies;
mod volumes;

pub(crate) use streams::frame;

use crate::answer::{self, Answer};
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use hyper::{Method, StatusCode};

/// Answers a call.
pub(crate) async fn route(call: Call, segments: &[&str]) -> Answer {
    let method = call.request.method().clone();
    let get = method == Method::GET;
    match (method.as_str(), segments) {
        ("GET" | "HEAD", ["_ping"]) => system::ping(get),
        // As Docker, of everything: no page of elsewhere is allowed anything by that.
        ("OPTIONS", _) => answer::empty(StatusCode::OK),
        ("GET", ["version"]) => system::version(&call),
        ("GET", ["info"]) => system::info(&call).await,
        ("GET", ["events"]) => events::events(&call),
        ("GET", ["system", "df"]) => usage::disk_usage(&call).await,
        ("POST", ["coracle", "system", "check"]) => check::check(&call),
        ("POST", ["coracle", "system", "shutdown"]) => system::shutdown(&call).await,
        ("GET", ["coracle", "registry", "manifest"]) => lists::get(&call).await,
        ("POST", ["coracle", "registry", "manifest"]) => lists::put(call).await,
        ("POST", ["coracle", "images", "send"]) => moving::send(call).await,
        ("POST", ["coracle", "images", "receive"]) => moving::receive(call),
        ("GET" | "POST", ["coracle", "system", "reclaim"]) => reclaim::reclaim(&call).await,
        ("POST", ["coracle", "images", name @ .., "pin"]) => reclaim::pin(&call, &name.join("/")).await,
        ("DELETE", ["coracle", "images", name @ .., "pin"]) => reclaim::unpin(&call, &name.join("/")).await,
        ("POST", ["coracle", "volumes", "load"]) => volume_copies::load(call).await,
        ("GET", ["coracle", "volumes", name, "archive"]) => volume_copies::save(call, name).await,
        ("POST", ["coracle", "volumes", name, "copy"]) => volume_copies::copy(call, name).await,
        ("POST", ["auth"]) => registries::login(call).await,
        ("POST", ["coracle", "build"]) => build::own::build(call).await,
        ("POST", ["build"]) => build::build(call).await,
        ("POST", ["session"]) => crate::buildkit::session(call),
        ("POST", ["grpc"]) => crate::buildkit::grpc(call),
        ("POST", ["build", "prune"]) => build::cache::prune(&call).await,
        ("POST", ["commit"]) => images::commit(call).await,
        ("GET", ["distribution", name @ .., "json"]) => {
            registries::distribution(&call, &name.join("/")).await
        }
        (method, ["plugins", rest @ ..]) => {
            if plugins::has_document(method, rest) {
                input::document::<Option<serde_json::Value>>(call.request).await?;
            } else {
                input::discard(call.request);
            }
            plugins::route(method, rest)
        }
        (method, [area @ ("swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs"), rest @ ..]) => {
            input::discard(call.request);
            Err(swarm::refuse(method, area, rest))
        }
        (_, ["containers", rest @ ..]) => containers::route(call, rest).await,
        (_, ["exec", rest @ ..]) => exec::route(call, rest).await,
        (_, ["images", rest @ ..]) => images::route(call, rest).await,
        (_, ["volumes", rest @ ..]) => volumes::route(call, rest).await,
        (_, ["networks", rest @ ..]) => networks::route(call, rest).await,
        _ => {
            input::discard(call.request);
            Err(not_found())
        }
    }
}

/// A line of a stream of documents.
fn json_line<T: serde::Serialize>(message: &T) -> bytes::Bytes {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.extend(b"\r\n");
    line.into()
}

/// Nothing is served at this path.
fn not_found() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "page not found")
}

/// Docker does it, and this engine will.
fn later(what: &str) -> Failure {
    Failure::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not supported yet by this engine"))
}
