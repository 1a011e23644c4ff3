//! The engine's numbers for Prometheus, at `/metrics` of an address of their own and by Docker's names. What only a scrape needs is
//! counted when one comes.

use crate::answer::Body;
use crate::routes::system;
use crate::server::Context;
use bytes::Bytes;
use coracle_engine::containers::state::Status;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Most clients that are served at once; the next ones wait in the kernel's queue.
const CLIENTS: usize = 16;
/// How long a client may take for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is timed.
const ACTIONS: [&str; 5] = ["changes", "commit", "create", "delete", "start"];

/// The numbers.
pub(crate) struct Metrics {
    registry: Registry,
    actions: HistogramVec,
    /// What is looked up when somebody asks, by one at a time.
    asked: Mutex<Asked>,
}

struct Asked {
    states: IntGaugeVec,
    events: IntCounter,
    subscribers: IntGauge,
    checks: IntCounter,
    failed: IntCounter,
}

impl Metrics {
    /// All at nought, and what never changes.
    ///
    /// # Errors
    /// When two have one name.
    pub(crate) fn new(engine_id: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let actions = HistogramOpts::new(
            "engine_daemon_container_actions_seconds",
            "How long actions on containers take that succeed, in seconds",
        );
        let actions = HistogramVec::new(actions, &["action"])?;
        for action in ACTIONS {
            actions.with_label_values(&[action]);
        }
        registry.register(Box::new(actions.clone()))?;
        let states =
            Opts::new("engine_daemon_container_states_containers", "How many containers are in which state");
        let asked = Asked {
            states: IntGaugeVec::new(states, &["state"])?,
            events: IntCounter::new("engine_daemon_events_total", "How many events there were")?,
            subscribers: IntGauge::new(
                "engine_daemon_events_subscribers_total",
                "How many listen to events",
            )?,
            checks: IntCounter::new(
                "engine_daemon_health_checks_total",
                "How many health checks there were",
            )?,
            failed: IntCounter::new(
                "engine_daemon_health_checks_failed_total",
                "How many health checks failed",
            )?,
        };
        registry.register(Box::new(asked.states.clone()))?;
        registry.register(Box::new(asked.events.clone()))?;
        registry.register(Box::new(asked.subscribers.clone()))?;
        registry.register(Box::new(asked.checks.clone()))?;
        registry.register(Box::new(asked.failed.clone()))?;
        register_machine(&registry, engine_id)?;
        Ok(Self { registry, actions, asked: Mutex::new(asked) })
    }

    /// Takes note that a request was answered well, if it is one that is timed.
    pub(crate) fn note(&self, method: &Method, segments: &[&str], begun: Instant) {
        if let Some(action) = action(method, segments) {
            self.actions.with_label_values(&[action]).observe(begun.elapsed().as_secs_f64());
        }
    }

    /// All of them, as text.
    fn show(&self, context: &Context) -> prometheus::Result<Vec<u8>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.look(context);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl Asked {
    fn look(&self, context: &Context) {
        let (mut running, mut paused, mut stopped) = (0, 0, 0);
        for container in context.engine.list() {
            match container.state.status {
                Status::Paused => paused += 1,
                status if status.is_up() => running += 1,
                _ => stopped += 1,
            }
        }
        for (state, count) in [("running", running), ("paused", paused), ("stopped", stopped)] {
            self.states.with_label_values(&[state]).set(count);
        }
        let counts = context.engine.counts();
        for (counter, now) in [
            (&self.events, counts.events),
            (&self.checks, counts.health_checks),
            (&self.failed, counts.failed_health_checks),
        ] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        self.subscribers.set(i64::try_from(context.engine.event_listeners()).unwrap_or(i64::MAX));
    }
}

/// What an engine is and runs on.
fn register_machine(registry: &Registry, engine_id: &str) -> prometheus::Result<()> {
    let machine = system::Machine::read();
    let info = Opts::new("engine_daemon_engine_info", "Which engine this is, and what it runs on")
        .const_label("architecture", std::env::consts::ARCH)
        .const_label("commit", "")
        .const_label("daemon_id", engine_id)
        .const_label("graphdriver", "overlay2")
        .const_label("kernel", &machine.kernel)
        .const_label("os", &machine.system)
        .const_label("os_type", "linux")
        .const_label("os_version", &machine.version)
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let info = IntGauge::with_opts(info)?;
    info.set(1);
    registry.register(Box::new(info))?;
    for (name, help, value) in [
        ("engine_daemon_engine_cpus_cpus", "How many processors the machine has", machine.cpus),
        ("engine_daemon_engine_memory_bytes", "How much memory the machine has, in bytes", machine.memory),
    ] {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))?;
    }
    Ok(())
}

/// The name of what a request does, if it is timed.
fn action(method: &Method, segments: &[&str]) -> Option<&'static str> {
    match (method.as_str(), segments) {
        ("POST", ["containers", "create"]) => Some("create"),
        ("POST", ["containers", _, "start"]) => Some("start"),
        ("DELETE", ["containers", _]) => Some("delete"),
        ("GET", ["containers", _, "changes"]) => Some("changes"),
        ("POST", ["commit"]) => Some("commit"),
        _ => None,
    }
}

/// Listens at `HOST:PORT`; every address of the machine without a host.
///
/// # Errors
/// When that is none, or somebody else's.
pub(crate) async fn bind(address: &str) -> io::Result<TcpListener> {
    if !address.starts_with(':') {
        return TcpListener::bind(address).await;
    }
    match TcpListener::bind(format!("[::]{address}")).await {
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
            TcpListener::bind(format!("0.0.0.0{address}")).await
        }
        bound => bound,
    }
}

/// Serves them until it is dropped.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>) {
    let slots = Arc::new(Semaphore::new(CLIENTS));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("nobody closes it");
        match listener.accept().await {
            Ok((stream, _)) => {
                let context = Arc::clone(&context);
                clients.spawn(async move {
                    serve_one(stream, context).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of descriptors: they come back when connections end.
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

async fn serve_one(stream: TcpStream, context: Arc<Context>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &context);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

fn answer(request: &Request<Incoming>, context: &Context) -> Response<Body> {
    let (status, text) = match (request.uri().path(), &context.metrics) {
        ("/metrics", Some(metrics)) => match metrics.show(context) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
        },
        _ => (StatusCode::NOT_FOUND, b"404 page not found\n".to_vec()),
    };
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(prometheus::TEXT_FORMAT);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_what_they_do() {
        for (method, path, expected) in [
            (Method::POST, &["containers", "create"][..], Some("create")),
            (Method::POST, &["containers", "x", "start"], Some("start")),
            (Method::DELETE, &["containers", "x"], Some("delete")),
            (Method::GET, &["containers", "x"], None),
            (Method::POST, &["exec", "x", "start"], None),
        ] {
            assert_eq!(action(&method, path), expected, "{method} {path:?}");
        }
    }

    #[test]
    fn every_name_is_there_once_and_docker_has_it() {
        let metrics = Metrics::new("id").expect("each name is another");
        metrics.note(&Method::POST, &["commit"], Instant::now());
        let names: Vec<String> =
            metrics.registry.gather().iter().map(|family| family.name().to_owned()).collect();
        assert!(names.contains(&"engine_daemon_container_actions_seconds".to_owned()), "{names:?}");
        let mut text = Vec::new();
        TextEncoder::new().encode(&metrics.registry.gather(), &mut text).expect("it can be written");
        let text = String::from_utf8(text).expect("it is text");
        assert!(text.contains("seconds_count{action=\"commit\"} 1"), "{text}");
    }
}
