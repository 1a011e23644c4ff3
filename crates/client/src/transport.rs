//! Requests. Each request has a connection of its own: they are cheap on a unix socket, and streams
//! would block a shared one.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use coracle_api::version::API_VERSION_HEADER;
use coracle_api::{ApiVersion, ErrorBody, Query};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::{AbortHandle, JoinHandle};

use crate::connection::{self, dial};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::stream::Hijacked;
use crate::{Result, limits};

/// The daemon must send the headers of `/wait` when it begins to wait, so that a start can safely follow.
const OLDEST: ApiVersion = ApiVersion::new(1, 30);

/// What a path segment must not contain; `/` and `:` belong to names of images.
const SEGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// A client of one engine, at the API version both speak. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Arc<Endpoint>,
    version: ApiVersion,
    watcher: Option<Watcher>,
}

/// Is told of each answer: the request, the status, how long it took.
pub type Watcher = fn(&str);

/// One request before it is sent.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Query,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: RequestBody,
}

/// The body of a response, read piece by piece. Dropping it ends the connection.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    _connection: Connection,
    attempt: String,
}

/// Ends the task that drives a connection when nobody reads from it any more.
#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Connects and agrees on the API version.
    ///
    /// # Errors
    /// Nobody listens, or the daemon is too old.
    pub async fn connect(endpoint: Endpoint, watcher: Option<Watcher>) -> Result<Self> {
        let mut client = Self { endpoint: Arc::new(endpoint), version: ApiVersion::MAX, watcher };
        let (response, _) = client.exchange(Call::head("/_ping"), Version::None).await?;
        let newest =
            response.headers().get(API_VERSION_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        client.version = ApiVersion::negotiate(newest);
        if client.version < OLDEST {
            return Err(Error::TooOld { newest: client.version, needed: OLDEST });
        }
        Ok(client)
    }

    /// Connects without asking: `version` is what `DOCKER_API_VERSION` says.
    #[must_use]
    pub fn with_version(endpoint: Endpoint, version: ApiVersion) -> Self {
        Self { endpoint: Arc::new(endpoint), version, watcher: None }
    }

    /// The same, and `watcher` is told of each answer.
    #[must_use]
    pub fn watched(self, watcher: Option<Watcher>) -> Self {
        Self { watcher, ..self }
    }

    /// The version that requests carry.
    #[must_use]
    pub fn version(&self) -> ApiVersion {
        self.version
    }

    /// Where the engine listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request whose answer is JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        self.parsed(call, coracle_api::from_slice).await
    }

    /// Sends a request whose answer is a list, which may be long.
    pub(crate) async fn list<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>> {
        self.parsed(call, coracle_api::list_from_slice).await
    }

    /// Sends a request whose answer is JSON to be shown as it is.
    pub(crate) async fn raw(&self, call: Call) -> Result<Box<RawValue>> {
        self.parsed(call, |bytes| serde_json::from_slice(bytes)).await
    }

    async fn parsed<T>(
        &self,
        call: Call,
        parse: impl FnOnce(&[u8]) -> std::result::Result<T, serde_json::Error>,
    ) -> Result<T> {
        let mut body = self.stream(call).await?;
        let bytes = body.collect(limits::RESPONSE).await?;
        parse(&bytes).map_err(|source| Error::Answer { attempt: body.attempt, source })
    }

    /// Sends a request whose answer has no content worth reading.
    pub(crate) async fn done(&self, call: Call) -> Result<()> {
        self.stream(call).await.map(drop)
    }

    /// Sends a request whose answer is a stream.
    pub(crate) async fn stream(&self, call: Call) -> Result<Body> {
        let attempt = call.describe();
        let (response, connection) = self.exchange(call, Version::Ours).await?;
        let status = response.status();
        let mut body = Body { incoming: response.into_body(), _connection: connection, attempt };
        // Docker answers 304 when there is nothing to do, such as starting a running container.
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(body);
        }
        Err(refusal(status, &body.collect(limits::FAILURE).await?))
    }

    /// Sends a request whose answer is a header.
    pub(crate) async fn header(&self, call: Call, name: &str) -> Result<Option<String>> {
        let attempt = call.describe();
        let (response, _connection) = self.exchange(call, Version::Ours).await?;
        let status = response.status();
        if !status.is_success() {
            // Answers to HEAD have no body; what was asked for is all there is to say.
            let reason = status.canonical_reason().unwrap_or("failed");
            return Err(Error::Daemon { status: status.as_u16(), message: format!("{reason} ({attempt})") });
        }
        Ok(response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    /// Sends a request that turns the connection into a raw stream.
    pub(crate) async fn hijack(&self, call: Call) -> Result<Hijacked> {
        let attempt = call.describe();
        let call = call
            .header(CONNECTION, HeaderValue::from_static("Upgrade"))
            .header(UPGRADE, HeaderValue::from_static("tcp"));
        let (response, connection) = self.exchange(call, Version::Ours).await?;
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded =
                hyper::upgrade::on(response).await.map_err(|source| Error::Http { attempt, source })?;
            return Ok(Hijacked::new(TokioIo::new(upgraded)));
        }
        if status.is_success() {
            return Err(Error::NotUpgraded { attempt, status: status.as_u16() });
        }
        let mut body = Body { incoming: response.into_body(), _connection: connection, attempt };
        Err(refusal(status, &body.collect(limits::FAILURE).await?))
    }

    async fn exchange(&self, call: Call, version: Version) -> Result<(Response<Incoming>, Connection)> {
        let attempt = call.describe();
        let prefix = match version {
            Version::Ours => format!("/v{}", self.version),
            Version::None => String::new(),
        };
        let request = call.into_request(&prefix)?;
        let failed = |source| Error::Http { attempt: attempt.clone(), source };
        let stream = dial(&self.endpoint).await?;
        let (mut sender, driver) = handshake(stream).await.map_err(&failed)?;
        let connection = Connection(driver.abort_handle());
        let begun = Instant::now();
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return Err(failed(reason(error, driver).await)),
        };
        if let Some(watcher) = self.watcher {
            watcher(&format!("{attempt}: {} after {:?}", response.status(), begun.elapsed()));
        }
        Ok((response, connection))
    }
}

/// Whether a path carries the version.
enum Version {
    Ours,
    None,
}

/// What drives a connection until it ends.
type Driver = JoinHandle<hyper::Result<()>>;

async fn handshake(
    stream: connection::Connection,
) -> hyper::Result<(http1::SendRequest<RequestBody>, Driver)> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok((sender, tokio::spawn(connection.with_upgrades())))
}

/// Why a request was not answered. One that was never sent only knows that its connection had ended: an engine that does
/// not want our certificate says so before it reads anything.
async fn reason(error: hyper::Error, driver: Driver) -> hyper::Error {
    if !error.is_canceled() {
        return error;
    }
    match driver.await {
        Ok(Err(reason)) => reason,
        _ => error,
    }
}

/// The daemon's sentence, or whatever else came instead.
fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let message = coracle_api::from_slice::<ErrorBody>(body).map(|body| body.message).unwrap_or_default();
    let message = if message.is_empty() { String::from_utf8_lossy(body).trim().to_owned() } else { message };
    let message = if message.is_empty() { status.to_string() } else { message };
    Error::Daemon { status: status.as_u16(), message }
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self { method, path, query: Query::new(), headers: Vec::new(), body: full(Bytes::new()) }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    pub(crate) fn head(path: impl Into<String>) -> Self {
        Self::new(Method::HEAD, path.into())
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    pub(crate) fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path.into())
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path.into())
    }

    pub(crate) fn query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("wire types hold nothing that JSON cannot");
        self.body = full(bytes.into());
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    pub(crate) fn upload(mut self, reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let pieces = futures_util::stream::try_unfold(reader, |mut reader| async move {
            let mut piece = BytesMut::with_capacity(limits::CHUNK);
            let length = reader.read_buf(&mut piece).await?;
            io::Result::Ok((length > 0).then(|| (Frame::data(piece.freeze()), reader)))
        });
        self.body = BodyExt::boxed_unsync(StreamBody::new(pieces));
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"))
    }

    /// For messages: `POST /containers/x/start`.
    fn describe(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn into_request(self, prefix: &str) -> Result<Request<RequestBody>> {
        let attempt = self.describe();
        let query = self.query.encode();
        let separator = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("{prefix}{}{separator}{query}", self.path))
            .header(HOST, "localhost")
            .header(USER_AGENT, concat!("Coracle-Client/", env!("CARGO_PKG_VERSION")));
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(self.body).map_err(|source| Error::Request { attempt, source })
    }
}

fn full(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Escapes a name for a path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

impl Body {
    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.incoming.frame().await {
            let frame = frame.map_err(|source| Error::Http { attempt: self.attempt.clone(), source })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Everything up to the end.
    async fn collect(&mut self, limit: usize) -> Result<Bytes> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                return Err(Error::TooLarge { attempt: self.attempt.clone(), limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    pub(crate) fn attempt(&self) -> &str {
        &self.attempt
    }
}
