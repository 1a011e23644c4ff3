//! The door of `docker buildx`: BuildKit's services over the engine's builds.
//!
//! ```text
//! POST /session ─► Sessions (crate buildkit)     POST /grpc ─► service.rs ─┬─► control.rs  Solve, Status, what there is
//!                                                                          └─► bridge.rs   the client steers the build
//!     builds.rs    the builds under way, who waits for which
//!   frontend.rs    options of a client → what is asked for; pure         run.rs  and → what the engine is asked for
//!   contexts.rs    what stands in the place of images and stages        questions.rs  what is asked instead of building
//!     client.rs    what the engine asks the client for     steps.rs  what the engine tells → what the client shows
//!    results.rs    results as clients see them           reading.rs  files of them, and images
//!                                                         cache.rs  what is kept of builds
//!    outputs.rs    what becomes of them                  history.rs  which builds there were
//! provenance.rs    where a result comes from     cache_options.rs, cache_exports.rs  caches that come and go
//! ```
//!
//! A client opens both connections at the same time. It calls `Solve` on the one service, which waits; it then steers the
//! build through the other, tells how it ended with `Return`, and `Solve` makes of the result what was asked for.

mod bridge;
mod builds;
mod cache;
mod cache_exports;
mod cache_options;
mod client;
mod contexts;
mod control;
mod frontend;
mod health;
mod history;
mod outputs;
mod provenance;
mod questions;
mod reading;
mod results;
mod run;
mod service;
mod steps;
mod transfer;

use crate::answer::Answer;
use crate::error::Failure;
use crate::hijack::Takeover;
use crate::server::Call;
use builds::Builds;
use coracle_buildkit::{HEADER_ID, HEADER_METHOD, Offer, Sessions};
use coracle_spec::full_text;
use hyper::header::{HeaderMap, UPGRADE};
use std::sync::Arc;

/// The protocol that a client asks for: HTTP/2 without encryption.
const PROTOCOL: &str = "h2c";

/// What all connections of this door share.
#[derive(Debug, Default)]
pub(crate) struct Door {
    sessions: Arc<Sessions>,
    builds: Builds,
}

/// `POST /session`: the client lends what a build needs of it.
pub(crate) fn session(mut call: Call) -> Answer {
    let takeover = takeover(&mut call)?;
    let offer = offer(call.request.headers()).map_err(|error| Failure::invalid(full_text(&error)))?;
    let sessions = Arc::clone(&call.context.door.sessions);
    takeover.begin_other(PROTOCOL, |stream| async move {
        if let Err(error) = sessions.serve(offer, stream).await {
            tracing::debug!(error = full_text(&error), "a session was not opened");
        }
    })
}

/// `POST /grpc`: the client asks for builds.
pub(crate) fn grpc(mut call: Call) -> Answer {
    let takeover = takeover(&mut call)?;
    let service = service::Services::new(&call.context);
    takeover.begin_other(PROTOCOL, |stream| async move {
        if let Err(error) = coracle_buildkit::serve(stream, service).await {
            tracing::debug!(%error, "a connection of builds ended early");
        }
    })
}

/// The connection, of a client that asks for this protocol.
fn takeover(call: &mut Call) -> Result<Takeover, Failure> {
    let upgrade = call.request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    match upgrade {
        Some(protocol) if protocol.eq_ignore_ascii_case(PROTOCOL) => Ok(Takeover::of(&mut call.request)),
        Some(protocol) => Err(Failure::invalid(format!("protocol {protocol} not supported"))),
        None => Err(Failure::invalid("no upgrade proto in request")),
    }
}

fn offer(headers: &HeaderMap) -> coracle_buildkit::Result<Offer> {
    let text = |value: &'_ hyper::header::HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let id = headers.get(HEADER_ID).map(text).unwrap_or_default();
    let methods: Vec<String> = headers.get_all(HEADER_METHOD).iter().map(text).collect();
    Offer::new(&id, methods.iter().map(String::as_str))
}
