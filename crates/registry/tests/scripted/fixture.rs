//! Clients whose pauses take no time, and an image to ask for.

use crate::server::{Reply, Request, Server};
use bytes::Bytes;
use coracle_registry::{
    Access, BlobStream, Client, Clock, Credentials, Error, Hosts, Options, Pick, Proxies, Repository, Secret,
    Timing,
};
use coracle_spec::image::{Descriptor, media_type};
use coracle_spec::{Digest, Reference};
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

pub(crate) const USER: &str = "user";
pub(crate) const PASSWORD: &str = "hunter2-the-password";
/// `USER:PASSWORD` as a header has it.
pub(crate) const BASIC: &str = "Basic dXNlcjpodW50ZXIyLXRoZS1wYXNzd29yZA==";

/// A clock that is ahead by all pauses that were taken.
pub(crate) struct FastClock {
    start: Instant,
    pauses: Mutex<Vec<Duration>>,
    ahead: Mutex<Duration>,
}

impl FastClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), pauses: Mutex::default(), ahead: Mutex::default() })
    }

    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }

    pub(crate) fn advance(&self, duration: Duration) {
        *self.ahead.lock().unwrap() += duration;
    }
}

impl Clock for FastClock {
    fn now(&self) -> Instant {
        self.start + *self.ahead.lock().unwrap()
    }

    /// 6 November 1994, 08:49:37 UTC.
    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777) + *self.ahead.lock().unwrap()
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.pauses.lock().unwrap().push(duration);
        self.advance(duration);
        Box::pin(async {})
    }
}

/// What a test can change about its client.
pub(crate) struct Setup {
    pub(crate) mirrors: Vec<String>,
    pub(crate) insecure: Vec<String>,
    pub(crate) certificates: PathBuf,
    pub(crate) proxy: Proxies,
    pub(crate) timing: Timing,
    pub(crate) clock: Arc<FastClock>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let clock = FastClock::new();
        let long = Duration::from_secs(30);
        let timing = Timing {
            connect: long,
            idle: long,
            answer: long,
            commit: long,
            tries: 4,
            patience: Duration::from_secs(180),
            clock: clock.clone(),
        };
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            certificates: PathBuf::from("/nonexistent"),
            proxy: Proxies::default(),
            timing,
            clock,
        }
    }

    /// Gives up after a moment in which nothing happens. Only for tests that expect that.
    pub(crate) fn impatient(self) -> Self {
        self.patient_for(Duration::from_millis(150))
    }

    /// Gives up after this time in which nothing happens.
    pub(crate) fn patient_for(mut self, moment: Duration) -> Self {
        self.timing.idle = moment;
        self.timing.answer = moment;
        self.timing.commit = moment;
        self.timing.tries = 2;
        self
    }

    pub(crate) fn client(&self) -> Client {
        let hosts = Hosts::new(&self.mirrors, &self.insecure).unwrap();
        let options = Options {
            user_agent: "coracle/test".to_owned(),
            certificates: self.certificates.clone(),
            proxy: self.proxy.clone(),
        };
        Client::with_timing(hosts, options, self.timing.clone()).unwrap()
    }

    /// The repository `a/b` on `host`.
    pub(crate) fn repository(&self, host: &str, credentials: Credentials, access: Access) -> Repository {
        self.client().repository(&name(host), credentials, access)
    }

    pub(crate) fn pull(&self, server: &Server) -> Repository {
        self.repository(&server.host(), Credentials::Anonymous, Access::Pull)
    }

    pub(crate) fn push(&self, server: &Server) -> Repository {
        self.repository(&server.host(), Credentials::Anonymous, Access::Push)
    }
}

pub(crate) fn name(host: &str) -> Reference {
    format!("{host}/a/b").parse().unwrap()
}

pub(crate) fn user() -> Credentials {
    Credentials::Basic { username: USER.to_owned(), password: Secret::new(PASSWORD) }
}

pub(crate) fn tag(text: &str) -> Pick {
    Pick::Tag(text.parse().unwrap())
}

/// A manifest with a configuration and a layer of these bytes.
pub(crate) fn manifest() -> String {
    let config = Descriptor::of(media_type::CONFIG, b"{}");
    let layer = Descriptor::of(media_type::LAYER_GZIP, b"layer");
    let value = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [layer],
    });
    value.to_string()
}

/// Serves the manifest as it should be served.
pub(crate) fn serve_manifest(request: &Request) -> Reply {
    let content = manifest();
    let digest = Digest::of(content.as_bytes()).to_string();
    let headers = [("Content-Type", media_type::MANIFEST), ("Docker-Content-Digest", digest.as_str())];
    if request.method == "HEAD" {
        let length = content.len().to_string();
        let mut headers = headers.to_vec();
        headers.push(("Content-Length", &length));
        return Reply::head(200, &headers);
    }
    Reply::new(200, &headers, content)
}

/// Bytes that do not repeat, so that wrong offsets show.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

pub(crate) fn blob(content: &[u8]) -> Descriptor {
    Descriptor::of(media_type::LAYER_GZIP, content)
}

/// Reads a stream to its end, or to its error with what came before.
pub(crate) async fn drain(mut stream: BlobStream) -> (Vec<u8>, Result<(), Error>) {
    let mut all = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(piece)) => all.extend_from_slice(&piece),
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        }
    }
}

/// The whole of a blob.
pub(crate) async fn fetch(repository: &Repository, blob: &Descriptor, offset: u64) -> Result<Vec<u8>, Error> {
    let (all, end) = drain(repository.blob(blob, offset).await?).await;
    end.map(|()| all)
}

/// Content for an upload.
pub(crate) fn open(content: Vec<u8>) -> impl Fn() -> coracle_registry::BodyFuture + Send + Sync {
    move || {
        let pieces: Vec<_> = content.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Box::pin(async { Ok(Box::pin(futures_util::stream::iter(pieces)) as coracle_registry::Body) })
    }
}

/// An error with its causes.
pub(crate) fn text(error: &Error) -> String {
    coracle_spec::full_text(error)
}
