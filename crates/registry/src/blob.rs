//! Reading blobs: a stream that survives broken connections, and hosts that lie about ranges and sizes.
//!
//! The bytes are not verified here: whoever stores them computes their digest anyway.

use crate::answer::{Answer, Subject};
use crate::exchange::Call;
use crate::pace::Pace;
use crate::retry::{Outlook, Tries};
use crate::session::Session;
use crate::{Error, Repository, Result, limits};
use bytes::Bytes;
use coracle_spec::Digest;
use coracle_spec::image::Descriptor;
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, HeaderValue, RANGE};
use std::fmt;

/// The bytes of a blob, from an offset to its end.
pub struct BlobStream {
    repository: Repository,
    digest: Digest,
    size: u64,
    position: u64,
    body: Option<Body>,
    tries: Tries,
    tried: u32,
    /// Whether hosts were seen to answer ranges with something else.
    whole_only: bool,
}

/// One answer, as far as it has been read.
struct Body {
    session: Session,
    answer: Answer,
    /// Bytes that come before the position.
    skip: u64,
    gained: u64,
    pace: Pace,
}

impl Repository {
    /// The bytes of a blob from `offset` to its end. Broken connections are resumed inside the stream as long as that
    /// brings progress. The digest is not verified; a stream that ends well had exactly the descriptor's size.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if there is no such blob, [`Error::SizeMismatch`], and errors of the exchange.
    pub async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let mut stream = BlobStream {
            repository: self.clone(),
            digest: blob.digest,
            size: blob.size,
            position: offset,
            body: None,
            tries: Tries::new(self.origin().client.timing()),
            tried: 0,
            whole_only: false,
        };
        if offset > blob.size {
            return Err(stream.mismatch(self.host(), offset));
        }
        if offset < blob.size {
            stream.open().await?;
        }
        Ok(stream)
    }

    /// The size of a blob, in bytes, where the registry has it.
    ///
    /// # Errors
    /// Errors of the exchange; that there is no such blob is none.
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let session = self.origin();
        let target = session.path(&format!("{}/blobs/{digest}", self.path()));
        let answer = session.ask(&target, &Call::new(Method::HEAD)).await?;
        match answer.status() {
            200 => {
                self.answered(session);
                answer.length().map(Some).ok_or_else(|| answer.invalid("a blob without size"))
            }
            404 => Ok(None),
            _ => Err(answer.failure(Subject::Blob { repository: self.path(), digest }).await),
        }
    }
}

impl BlobStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::SizeMismatch`] if the blob is longer than its descriptor says, or stays shorter; what broke the
    /// connection if it breaks again and again.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.position < self.size {
            if self.body.is_none() {
                self.open().await?;
            }
            match self.piece().await {
                Ok(Some(piece)) => return Ok(Some(piece)),
                Ok(None) => (),
                Err(error) => self.interrupted(error).await?,
            }
        }
        self.end().await?;
        Ok(None)
    }

    /// The host that the bytes come from.
    pub fn host(&self) -> String {
        self.body.as_ref().map_or_else(|| self.repository.host(), |body| body.session.host().to_owned())
    }

    async fn open(&mut self) -> Result<()> {
        let repository = self.repository.clone();
        let mut last = None;
        for session in repository.sessions() {
            match self.request(session).await {
                Ok(body) => {
                    repository.answered(session);
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) => {
                    repository.failed(session, &error);
                    last = Some(error);
                }
            }
        }
        Err(last.expect("the registry itself is never left out"))
    }

    async fn request(&mut self, session: &Session) -> Result<Body> {
        loop {
            let ranged = self.position > 0 && !self.whole_only;
            let mut call = Call::new(Method::GET);
            call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if ranged {
                let range = format!("bytes={}-", self.position);
                call.headers.insert(RANGE, range.parse().expect("digits are a header's text"));
            }
            let target = session.path(&format!("{}/blobs/{}", self.repository.path(), self.digest));
            let answer = session.ask(&target, &call).await?;
            let skip = match answer.status() {
                200 => {
                    self.expect_size(&answer, answer.length())?;
                    self.position
                }
                206 if ranged => {
                    let range = answer.header("content-range").and_then(content_range);
                    match range {
                        Some((start, total)) if start <= self.position => {
                            self.expect_size(&answer, total)?;
                            self.position - start
                        }
                        _ => {
                            self.whole_only = true;
                            continue;
                        }
                    }
                }
                416 if ranged => {
                    self.whole_only = true;
                    continue;
                }
                206 => return Err(answer.invalid("a part where the whole was asked for")),
                _ => {
                    let (repository, digest) = (self.repository.path(), &self.digest);
                    return Err(answer.failure(Subject::Blob { repository, digest }).await);
                }
            };
            let (answer, session) = (answer.unencoded()?, session.clone());
            return Ok(Body { session, answer, skip, gained: 0, pace: Pace::default() });
        }
    }

    /// The next bytes of the answer; `None` if all of them came before the position.
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        let idle = self.repository.origin().client.timing().idle;
        let body = self.body.as_mut().expect("an answer is open whenever bytes are missing");
        let chunk = body.pace.next(&mut body.answer, idle, "blob").await?;
        let Some(mut chunk) = chunk else {
            let (host, got) = (body.answer.host(), self.position);
            return Err(self.mismatch(host, got));
        };
        let skipped = usize::try_from(body.skip).unwrap_or(usize::MAX).min(chunk.len());
        body.skip -= skipped as u64;
        let piece = chunk.split_off(skipped);
        if piece.is_empty() {
            return Ok(None);
        }
        let end = self.position + piece.len() as u64;
        if end > self.size {
            let host = body.answer.host();
            return Err(self.mismatch(host, end));
        }
        body.gained += piece.len() as u64;
        self.position = end;
        Ok(Some(piece))
    }

    /// Decides whether to go on after an interruption, and waits before that.
    async fn interrupted(&mut self, error: Error) -> Result<()> {
        let Some(body) = self.body.take() else { return Err(error) };
        let too_long = matches!(error, Error::SizeMismatch { got, .. } if got > self.size);
        if body.session.is_mirror() {
            body.session.put_out();
            // Another host is asked for the rest.
            return if too_long { Err(error) } else { Ok(()) };
        }
        self.tried += 1;
        if too_long || self.tried >= limits::BLOB_TRIES {
            return Err(error);
        }
        if body.gained >= limits::PROGRESS {
            self.tries.progress();
        }
        let outlook = match &error {
            Error::SizeMismatch { .. } => Outlook::Hopeful,
            other => Outlook::of(other),
        };
        let Some(pause) = self.tries.pause(outlook) else { return Err(error) };
        drop(body);
        self.repository.origin().client.timing().clock.pause(pause).await;
        Ok(())
    }

    /// Looks for bytes after the last one. Also lets the connection be used again.
    async fn end(&mut self) -> Result<()> {
        let Some(mut body) = self.body.take() else { return Ok(()) };
        let more = tokio::time::timeout(limits::TAIL_TIME, body.answer.chunk()).await;
        // All bytes are here: how the connection ends does not matter any more.
        match more {
            Ok(Ok(Some(chunk))) if !chunk.is_empty() => {
                body.session.put_out();
                Err(self.mismatch(body.answer.host(), self.position + chunk.len() as u64))
            }
            _ => Ok(()),
        }
    }

    fn expect_size(&self, answer: &Answer, size: Option<u64>) -> Result<()> {
        match size {
            Some(size) if size != self.size => Err(self.mismatch(answer.host(), size)),
            _ => Ok(()),
        }
    }

    fn mismatch(&self, host: String, got: u64) -> Error {
        Error::SizeMismatch { host, digest: self.digest, expected: self.size, got }
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobStream({} at {} of {})", self.digest, self.position, self.size)
    }
}

/// Reads `bytes START-END/TOTAL`, of which the total may be unknown (RFC 9110, 14.4).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let fits = start <= end && total.is_none_or(|total| end < total);
    fits.then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_contradictions_are_none() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes -5-9/10", None),
            ("bytes 99999999999999999999-1/2", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
