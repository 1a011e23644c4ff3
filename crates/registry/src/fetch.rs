//! A file at an address that a client names: what `docker import` is given instead of an archive.

use crate::answer::{Answer, Subject, clean};
use crate::exchange::{Call, Home};
use crate::pace::Pace;
use crate::reach::Reach;
use crate::{Client, Error, Result, Secret};
use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderValue};
use reqwest::{Method, Url};
use std::time::SystemTime;

/// A file on its way.
pub struct Fetched {
    answer: Answer,
    left: Option<u64>,
    idle: std::time::Duration,
    pace: Pace,
}

impl Client {
    /// Asks for what is at an address; without a scheme, one without TLS is meant, as Docker has it. Redirects are followed,
    /// no further inside the network than to where everybody is unless the address itself is there.
    ///
    /// # Errors
    /// [`Error::Address`] for what is no address, and what the host says instead of a file.
    pub async fn fetch(&self, address: &str) -> Result<Fetched> {
        self.fetch_as(address, None).await
    }

    /// As [`Client::fetch`], with the whole `Authorization` header for the host that the address names.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn fetch_as(&self, address: &str, authorization: Option<&Secret>) -> Result<Fetched> {
        let invalid = |reason| Error::Address { text: clean(address), reason };
        let full = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let url = Url::parse(&full).map_err(|_| invalid("it is no address"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid("only http and https are supported"));
        }
        let home = Home { base: url.clone(), limit: Reach::Public, own: Reach::Local };
        let mut call = Call::new(Method::GET);
        call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let authorization = authorization
            .map(|header| HeaderValue::from_str(header.expose()))
            .transpose()
            .map_err(|_| invalid("what authorizes it cannot be part of a header"))?;
        let answer = self.deliver(url, &call, authorization.as_ref(), &home).await?;
        if answer.status() != 200 {
            return Err(answer.failure(Subject::Other).await);
        }
        let answer = answer.unencoded()?;
        Ok(Fetched { left: answer.length(), answer, idle: self.timing().idle, pace: Pace::default() })
    }
}

impl Fetched {
    /// Bytes that are still to come, where the host says so.
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// When the file was changed last, where the host says so.
    pub fn modified(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.answer.header("last-modified")?).ok()
    }

    /// What the host says of the file's name: `attachment; filename="…"`.
    pub fn disposition(&self) -> Option<&str> {
        self.answer.header("content-disposition")
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Timeout`] when hardly anything comes, and what broke the connection.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = self.pace.next(&mut self.answer, self.idle, "file").await?;
        if let (Some(left), Some(piece)) = (&mut self.left, &piece) {
            *left = left.saturating_sub(piece.len() as u64);
        }
        Ok(piece)
    }
}
