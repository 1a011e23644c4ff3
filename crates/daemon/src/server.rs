//! Connections and requests: the version is taken off the path, the route answers, failures become documents.

use crate::answer::{self, Answer, Body};
use crate::buildkit::Door;
use crate::config::Settings;
use crate::config::defaults::Requested;
use crate::error::Failure;
use crate::hijack::Client;
use crate::listen::Handshake;
use crate::metrics::Metrics;
use crate::peer::{Peer, Watch};
use crate::reload::Reloadable;
use crate::{hijack, input, routes};
use coracle_api::{ApiVersion, Query, version};
use coracle_engine::Engine;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::time::Instant;

/// How long a client may take to say what it wants where descriptors are scarce.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every route can reach.
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) settings: Settings,
    pub(crate) reloadable: RwLock<Reloadable>,
    /// What builds of BuildKit's clients have open.
    pub(crate) door: Door,
    /// The numbers, if anybody may ask for them.
    pub(crate) metrics: Option<Metrics>,
}

impl Context {
    /// What is filled into requests to make containers.
    pub(crate) fn requested(&self) -> Requested {
        self.reloadable.read().unwrap_or_else(PoisonError::into_inner).requested.clone()
    }
}

/// A request whose version and path were taken apart.
pub(crate) struct Call {
    pub(crate) context: Arc<Context>,
    /// Whether whoever asks is there still.
    pub(crate) client: Watch,
    pub(crate) version: ApiVersion,
    pub(crate) query: Query,
    pub(crate) request: Request<Incoming>,
}

impl Call {
    pub(crate) fn engine(&self) -> &Engine {
        &self.context.engine
    }
}

/// Serves one connection until it is closed, over TLS if there is a handshake to begin with.
pub(crate) async fn serve(context: Arc<Context>, peer: Peer, handshake: Option<Handshake>) {
    let scarce = peer.is_among_the_last();
    let Some(handshake) = handshake else {
        let watch = peer.watch();
        return serve_over(context, watch, scarce, peer).await;
    };
    let watch = peer.watch_encrypted();
    match handshake.run(peer).await {
        Ok(stream) => serve_over(context, watch, scarce, stream).await,
        Err(error) => tracing::info!(%error, "a client's TLS handshake failed"),
    }
}

/// With `scarce` descriptors no stream begins on this connection, and its client has to say soon what it wants, once.
async fn serve_over(context: Arc<Context>, watch: Watch, scarce: bool, stream: impl Client + 'static) {
    let accepted = hijack::accept(stream);
    let accepted = match scarce {
        true => tokio::time::timeout(PATIENCE, accepted).await.ok(),
        false => Some(accepted.await),
    };
    // A client that closes in the middle of its first request has nothing to be told.
    let Some(Ok(stream)) = accepted else { return };
    let service = service_fn(move |request| respond(Arc::clone(&context), watch.clone(), scarce, request));
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .keep_alive(!scarce)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn respond(
    context: Arc<Context>,
    client: Watch,
    scarce: bool,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    use futures_util::FutureExt;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let experimental = context.settings.experimental;
    let completed = hijack::is_completed(&request);
    let answered = AssertUnwindSafe(dispatch(context, client, scarce, request)).catch_unwind().await;
    let answer = answered.unwrap_or_else(|_| {
        tracing::error!(%method, path, "a request made the engine panic");
        Err(Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the engine failed at this request; its log says how",
        ))
    });
    let mut response = answer.unwrap_or_else(|failure| {
        tracing::debug!(%method, path, status = failure.status.as_u16(), message = failure.message, "refused");
        answer::failure(&failure)
    });
    add_headers(&mut response, experimental);
    if completed && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // No stream came of it, and nobody knows any more if the client goes on.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn add_headers(response: &mut Response<Body>, experimental: bool) {
    let headers = response.headers_mut();
    for (name, value) in [
        (version::API_VERSION_HEADER, ApiVersion::MAX.to_string()),
        (version::OS_TYPE_HEADER, "linux".to_owned()),
        (version::EXPERIMENTAL_HEADER, experimental.to_string()),
        ("Server", format!("Coracle/{} (linux)", env!("CARGO_PKG_VERSION"))),
    ] {
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
}

async fn dispatch(context: Arc<Context>, client: Watch, scarce: bool, request: Request<Incoming>) -> Answer {
    let full = request.uri().path().to_owned();
    let (asked, path) = ApiVersion::split_path(&full);
    let version = asked.unwrap_or(ApiVersion::MAX);
    if let Some(refusal) = refusal(version) {
        input::discard(request);
        return Err(refusal);
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if scarce && wants_stream(&segments, &query) {
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many streams are open: the engine has few file descriptors left, and its limit (LimitNOFILE, ulimit -Hn) can be \
             raised",
        ));
    }
    let (method, begun, measuring) = (request.method().clone(), Instant::now(), Arc::clone(&context));
    let answer = routes::route(Call { context, client, version, query, request }, &segments).await;
    if let (Ok(_), Some(metrics)) = (&answer, &measuring.metrics) {
        metrics.note(&method, &segments, begun);
    }
    answer
}

/// Whether the answer goes on until its client has enough.
fn wants_stream(segments: &[&str], query: &Query) -> bool {
    match segments {
        ["containers", _, "attach", ..] | ["exec", _, "start"] | ["session" | "grpc" | "events"] => true,
        ["coracle", "images", ..] => true,
        ["containers", _, "logs"] => query.is_on("follow"),
        ["containers", _, "stats"] => query.is_on_or_absent("stream"),
        _ => false,
    }
}

/// Why a version is not served.
fn refusal(version: ApiVersion) -> Option<Failure> {
    let text = if version < ApiVersion::MIN {
        format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            ApiVersion::MIN
        )
    } else if version > ApiVersion::MAX {
        format!("client version {version} is too new. Maximum supported API version is {}", ApiVersion::MAX)
    } else {
        return None;
    };
    Some(Failure::invalid(text))
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
