//! What a host answers: bounded reading, and what its failures mean.

use crate::reach::Reach;
use crate::retry::retry_after;
use crate::{Error, Result, limits};
use bytes::{Bytes, BytesMut};
use coracle_spec::Digest;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use std::time::{Duration, SystemTime};

/// The head of an answer, and its body still to be read.
pub(crate) struct Answer {
    response: Response,
    method: Method,
    /// Whether the host that was asked answered itself, without sending elsewhere.
    pub(crate) own: bool,
    /// How far inside the network the host that was asked is.
    pub(crate) reach: Reach,
}

/// What was asked for, for the message if it is not there.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Manifest { repository: &'a str, pick: &'a str },
    Blob { repository: &'a str, digest: &'a Digest },
    Other,
}

impl Answer {
    pub(crate) fn new(response: Response, method: Method, own: bool, reach: Reach) -> Self {
        Self { response, method, own, reach }
    }

    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A field's text, where it is ASCII and the only one of its name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The host that answered.
    pub(crate) fn host(&self) -> String {
        host_of(self.url())
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    pub(crate) fn media_type(&self) -> Option<&str> {
        let declared = self.header(CONTENT_TYPE.as_str())?;
        Some(declared.split(';').next().unwrap_or_default().trim())
    }

    pub(crate) fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        retry_after(self.header(RETRY_AFTER.as_str())?, now)
    }

    /// An error about this answer's form.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::Protocol { host: self.host(), reason: reason.into() }
    }

    /// Refuses a body that is compressed on the way: digests and sizes are those of what is sent, and we asked for that.
    pub(crate) fn unencoded(self) -> Result<Self> {
        match self.header(CONTENT_ENCODING.as_str()) {
            None | Some("" | "identity") if self.headers().get_all(CONTENT_ENCODING).iter().count() <= 1 => {
                Ok(self)
            }
            encoding => {
                let reason =
                    format!("content encoding {:?}, which was not asked for", encoding.unwrap_or("?"));
                Err(self.invalid(clean(&reason)))
            }
        }
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.response.chunk().await.map_err(|source| transport(&self.method, self.response.url(), source))
    }

    /// The whole body, if it ends within `limit` bytes and `time`.
    pub(crate) async fn read(self, what: &'static str, limit: usize, time: Duration) -> Result<Bytes> {
        let host = self.host();
        let slow = Error::Timeout { host: host.clone(), what };
        let mut answer = self.unencoded()?;
        let reading = async {
            let mut body = BytesMut::new();
            while let Some(chunk) = answer.chunk().await? {
                if chunk.len() > limit - body.len() {
                    return Err(Error::TooLarge { host, what, limit });
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body.freeze())
        };
        tokio::time::timeout(time, reading).await.unwrap_or(Err(slow))
    }

    /// The error that this answer is. Reads what the host says about it.
    pub(crate) async fn failure(self, subject: Subject<'_>) -> Error {
        let (host, status) = (self.host(), self.status());
        let (method, path) = (self.method.to_string(), self.url().path().to_owned());
        let body = self.read("error", limits::FAILURE, limits::FAILURE_TIME).await.unwrap_or_default();
        let report = Report::read(&body);
        let said = report.said();
        let unknown = status == 404 || report.has(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN"]);
        match (status, subject) {
            (429, _) => Error::TooManyRequests { host, said },
            (_, Subject::Manifest { repository, pick }) if unknown => {
                let (repository, pick) = (repository.to_owned(), pick.to_owned());
                Error::ManifestUnknown { host, repository, pick, said }
            }
            (_, Subject::Blob { repository, digest }) if unknown => Error::BlobUnknown {
                host,
                repository: repository.to_owned(),
                digest: Box::new(*digest),
                said,
            },
            (401, _) => Error::Unauthorized { host, said },
            (403, _) => Error::Denied { host, said },
            _ if report.has(&["TOOMANYREQUESTS"]) => Error::TooManyRequests { host, said },
            _ if report.has(&["DENIED"]) => Error::Denied { host, said },
            _ if report.has(&["UNAUTHORIZED"]) => Error::Unauthorized { host, said },
            _ => Error::Status { host, method, path, status, said },
        }
    }
}

/// A failed exchange with the host of `url`.
pub(crate) fn transport(method: &Method, url: &Url, source: reqwest::Error) -> Error {
    let mut shown = url.clone();
    // Signed addresses carry their permission in the query.
    shown.set_query(None);
    Error::Transport { method: method.to_string(), url: shown.into(), source: source.without_url() }
}

/// Host and port as they stand in a URL.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The body of a failure: the distribution specification's form, or what token servers say instead.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    errors: Vec<Said>,
    details: Option<String>,
    message: Option<String>,
    error_description: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: Option<String>,
    message: Option<String>,
}

impl Report {
    /// What is no such report says nothing: a page of HTML helps nobody.
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    fn has(&self, codes: &[&str]) -> bool {
        self.errors.iter().any(|error| codes.iter().any(|code| error.code.as_deref() == Some(code)))
    }

    /// What is appended to a message: nothing, or a colon and the text.
    fn said(&self) -> String {
        let mut texts: Vec<String> = self.errors.iter().take(limits::ERRORS).map(Said::text).collect();
        let others = [&self.details, &self.message, &self.error_description];
        texts.extend(others.into_iter().flatten().take(1).cloned());
        texts.retain(|text| !text.is_empty());
        let text = clean(&texts.join(", "));
        if text.is_empty() { text } else { format!(": {text}") }
    }
}

impl Said {
    fn text(&self) -> String {
        let code = self.code.as_deref().unwrap_or_default().to_lowercase().replace('_', " ");
        let message = self.message.as_deref().unwrap_or_default();
        match (code.is_empty(), message.is_empty()) {
            (_, true) => code,
            (true, _) => message.to_owned(),
            _ if message.to_lowercase().starts_with(&code) => message.to_owned(),
            _ => format!("{code}: {message}"),
        }
    }
}

/// A foreign text for a message: short, on one line, and without what changes a terminal or the direction of writing.
pub(crate) fn clean(text: &str) -> String {
    let unsafe_mark = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let shown = text.chars().filter(|c| !unsafe_mark(*c));
    let plain: String = shown.map(|c| if c.is_control() { ' ' } else { c }).take(limits::MESSAGE).collect();
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_put_into_one_line() {
        for (body, said) in [
            (r#"{"errors":[{"code":"DENIED","message":"no access"}]}"#, ": denied: no access"),
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                ": manifest unknown",
            ),
            (r#"{"errors":[{"code":"A_B"},{"message":"two"}]}"#, ": a b, two"),
            (r#"{"details":"incorrect username or password"}"#, ": incorrect username or password"),
            ("{\"errors\":[{\"message\":\"a\\u001b[31m\\nb\\u202ec\"}]}", ": a [31m bc"),
            (r#"{"errors":null}"#, ""),
            (r#"{"errors":[{"code":7}]}"#, ""),
            ("<html>", ""),
            ("", ""),
            ("[]", ""),
        ] {
            assert_eq!(Report::read(body.as_bytes()).said(), said, "{body}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(9999));
        assert!(Report::read(long.as_bytes()).said().len() <= limits::MESSAGE + 2);
        let deep = "[".repeat(100_000);
        assert_eq!(Report::read(deep.as_bytes()).said(), "");
    }
}
