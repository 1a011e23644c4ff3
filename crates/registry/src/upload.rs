//! Writing blobs: mounts from other repositories, and uploads.

use crate::answer::{Answer, Subject};
use crate::client::scope;
use crate::exchange::{Call, Payload};
use crate::manifest::named_digest;
use crate::retry::{Outlook, Tries};
use crate::session::{Session, Target};
use crate::{Access, Error, Repository, Result};
use bytes::Bytes;
use coracle_spec::digest::Algorithm;
use coracle_spec::image::Descriptor;
use coracle_spec::{Digest, Reference};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Content to be uploaded.
pub type Body = BoxStream<'static, io::Result<Bytes>>;

/// Content to be uploaded, once it is open.
pub type BodyFuture = BoxFuture<'static, io::Result<Body>>;

/// Opens the content from its start.
type Open<'a> = &'a (dyn Fn() -> BodyFuture + Send + Sync);

/// A blob to be uploaded.
pub(crate) struct Source<'a> {
    open: Open<'a>,
    digest: Digest,
    size: u64,
}

/// How far an upload is, and what went wrong on our side of it.
#[derive(Default)]
pub(crate) struct Meter {
    sent: AtomicU64,
    complete: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Repository {
    /// Makes a blob of another repository on the same registry one of this repository, without an upload. Returns
    /// whether that was done; if not, the blob must be uploaded.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if the registry mounted something else, and errors of the exchange.
    pub async fn mount(&self, digest: &Digest, from: &Reference) -> Result<bool> {
        if from.domain() != self.domain() {
            return Ok(false);
        }
        let session = self.origin().with_scope(scope(from.path(), Access::Pull));
        let target = Target::Path(format!(
            "/v2/{}/blobs/uploads/?mount={digest}&from={}",
            self.path(),
            from.path().replace('/', "%2F")
        ));
        let answer = match session.ask(&target, &post()).await {
            Ok(answer) => answer,
            // No token for the other repository.
            Err(Error::Denied { .. } | Error::Unauthorized { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.answered(&session);
        match answer.status() {
            201 => {
                agree(&answer, digest)?;
                Ok(true)
            }
            202 => {
                self.keep_upload(session.location(&answer)?);
                Ok(false)
            }
            400 | 401 | 403 | 404 | 405 => Ok(false),
            _ => Err(answer.failure(Subject::Blob { repository: self.path(), digest }).await),
        }
    }

    /// Stores a blob. `open` gives its content from the start, once for each try.
    ///
    /// # Errors
    /// [`Error::Content`] if the content cannot be read or has another size, [`Error::DigestMismatch`] if the registry
    /// stored something else, [`Error::Denied`], [`Error::Unauthorized`], and errors of the exchange.
    pub async fn upload(
        &self,
        blob: &Descriptor,
        open: &(dyn Fn() -> BodyFuture + Send + Sync),
    ) -> Result<()> {
        let session = self.origin();
        let source = Source { open, digest: blob.digest, size: blob.size };
        let timing = session.client.timing();
        let mut tries = Tries::new(timing);
        loop {
            let error = match self.upload_once(session, &source).await {
                Ok(()) => {
                    self.answered(session);
                    return Ok(());
                }
                Err(error) => error,
            };
            let Some(pause) = tries.pause(outlook(&error)) else { return Err(error.cause) };
            timing.clock.pause(pause).await;
        }
    }

    /// Ends upload sessions that mounts opened and no upload used. What the registry says to that does not matter: it
    /// ends them itself after a while.
    pub async fn abandon(&self) {
        while let Some(url) = self.take_upload() {
            cancel(self.origin(), url).await;
        }
    }

    async fn upload_once(&self, session: &Session, source: &Source<'_>) -> std::result::Result<(), Failed> {
        let mut url = match self.take_upload() {
            Some(url) => url,
            None => self.start(session, source.digest.algorithm()).await?,
        };
        let done = self.transfer(session, source, &mut url).await;
        if let Err(failed) = &done
            && failed.status != Some(404)
        {
            cancel(session, url).await;
        }
        done
    }

    async fn start(&self, session: &Session, algorithm: Algorithm) -> Result<Url> {
        let query = match algorithm {
            Algorithm::Sha256 => String::new(),
            other => format!("?digest-algorithm={}", other.name()),
        };
        let target = Target::Path(format!("/v2/{}/blobs/uploads/{query}", self.path()));
        let answer = session.demand(&target, &post(), &[202], Subject::Other).await?;
        session.location(&answer)
    }

    /// Sends the content, and has the registry check and keep it.
    async fn transfer(
        &self,
        session: &Session,
        source: &Source<'_>,
        url: &mut Url,
    ) -> std::result::Result<(), Failed> {
        if source.size > 0 {
            let answer = session.send(&Target::Url(url.clone()), &source.patch()).await?;
            if !matches!(answer.status(), 200..=204) {
                return Err(Failed::of(answer, session).await);
            }
            if answer.header("location").is_some() {
                *url = session.location(&answer)?;
            }
        }
        let mut closing = url.clone();
        closing.query_pairs_mut().append_pair("digest", &source.digest.to_string());
        let mut call = Call::new(Method::PUT);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        call.wait = Some(session.client.timing().commit);
        let answer = session.send(&Target::Url(closing), &call).await?;
        if !matches!(answer.status(), 200..=204) {
            return Err(Failed::of(answer, session).await);
        }
        Ok(agree(&answer, &source.digest)?)
    }
}

/// Why a try of an upload failed.
struct Failed {
    cause: Error,
    status: Option<u16>,
    outlook: Option<Outlook>,
}

impl Failed {
    async fn of(answer: Answer, session: &Session) -> Self {
        let status = answer.status();
        let retry_after = answer.retry_after(session.client.timing().clock.date());
        let outlook = match status {
            // The session is gone, or is not where we think: a new one starts from nothing.
            404 | 409 | 416 => Some(Outlook::Hopeful),
            _ => Outlook::of_status(status, retry_after),
        };
        Self { cause: answer.failure(Subject::Other).await, status: Some(status), outlook }
    }
}

impl From<Error> for Failed {
    fn from(cause: Error) -> Self {
        Self { cause, status: None, outlook: None }
    }
}

fn outlook(failed: &Failed) -> Outlook {
    failed.outlook.unwrap_or_else(|| Outlook::of(&failed.cause))
}

fn post() -> Call<'static> {
    let mut call = Call::new(Method::POST);
    call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    call
}

async fn cancel(session: &Session, url: Url) {
    // A courtesy: the registry ends sessions itself after a while.
    if let Err(_unheard) = session.send(&Target::Url(url), &Call::new(Method::DELETE)).await {}
}

/// Whether the registry stored what was sent, as far as it says.
fn agree(answer: &Answer, expected: &Digest) -> Result<()> {
    match named_digest(answer)? {
        Some(computed) if computed.algorithm() == expected.algorithm() && computed != *expected => {
            Err(Error::DigestMismatch {
                host: answer.host(),
                expected: Box::new(*expected),
                computed: Box::new(computed),
            })
        }
        _ => Ok(()),
    }
}

impl Source<'_> {
    /// The request that carries the content.
    fn patch(&self) -> Call<'_> {
        let mut call = Call::new(Method::PATCH);
        let text = |text: String| HeaderValue::from_str(&text).expect("digits are a header's text");
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.headers.insert(CONTENT_LENGTH, text(self.size.to_string()));
        call.headers.insert(CONTENT_RANGE, text(format!("0-{}", self.size - 1)));
        call.payload = Payload::Stream(self);
        call
    }

    /// The content from its start, as the body of a request.
    pub(crate) async fn open(&self) -> Result<(reqwest::Body, Arc<Meter>)> {
        let content = (self.open)().await.map_err(|source| Error::Content { digest: self.digest, source })?;
        let meter = Arc::new(Meter::default());
        let state = (content, Arc::clone(&meter), self.size);
        let counted = stream::unfold(Some(state), |state| async move {
            let (mut content, meter, size) = state?;
            let mut next = meter.count(content.next().await, size)?;
            if next.is_ok() && meter.is_complete() {
                // The HTTP library asks for no more than the announced length; what comes behind must show here.
                if let Some(Err(error)) = meter.count(content.next().await, size) {
                    next = Err(error);
                }
            }
            let next_state = next.is_ok().then_some((content, meter, size));
            Some((next, next_state))
        });
        Ok((reqwest::Body::wrap_stream(counted), meter))
    }

    /// The error of the content, if it was that.
    pub(crate) fn blame(&self, meter: &Meter) -> Result<()> {
        match meter.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(source) => Err(Error::Content { digest: self.digest, source }),
            None => Ok(()),
        }
    }
}

impl Meter {
    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Counts a piece. What is not as long as announced must not be sent as if it were.
    fn count(&self, piece: Option<io::Result<Bytes>>, size: u64) -> Option<io::Result<Bytes>> {
        let wrong = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        let checked = match piece {
            Some(Ok(piece)) => {
                let sent = self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
                if sent == size {
                    self.complete.store(true, Ordering::Relaxed);
                }
                if sent <= size { Ok(piece) } else { Err(wrong("it is longer than its descriptor says")) }
            }
            Some(Err(error)) => Err(error),
            None if self.sent.load(Ordering::Relaxed) == size => return None,
            None => Err(wrong("it is shorter than its descriptor says")),
        };
        Some(checked.map_err(|error| {
            let kind = error.kind();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            kind.into()
        }))
    }

    /// Waits for `sending`, as long as it gets on: `idle` without a byte is too long, and `commit` once all are sent.
    pub(crate) async fn attend<F: Future>(
        &self,
        sending: F,
        idle: Duration,
        commit: Duration,
    ) -> Option<F::Output> {
        let mut sending = pin!(sending);
        let mut seen = 0;
        loop {
            let complete = self.is_complete();
            let wait = if complete { commit } else { idle };
            match tokio::time::timeout(wait, &mut sending).await {
                Ok(output) => return Some(output),
                Err(_) => {
                    let now = self.sent.load(Ordering::Relaxed);
                    let ended = !complete && self.is_complete();
                    if now == seen && !ended {
                        return None;
                    }
                    seen = now;
                }
            }
        }
    }
}
