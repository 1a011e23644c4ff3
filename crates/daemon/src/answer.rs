//! Responses: JSON, nothing, streams.

use crate::error::Failure;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::{Serialize, Serializer};
use std::io;

/// How long an entry of a list usually is, in bytes; it may be longer.
const ENTRY: usize = 768;

/// The body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// What a route answers.
pub(crate) type Answer = Result<Response<Body>, Failure>;

/// Bytes as a body.
pub(crate) fn bytes(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A document.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let content = serde_json::to_vec(value).map_err(unwritten)?;
    Ok(with_type(status, "application/json", bytes(content)))
}

/// A document, and 200.
pub(crate) fn ok<T: Serialize>(value: &T) -> Answer {
    json(StatusCode::OK, value)
}

/// A list, and 200. One entry at a time is made, written, and gone.
pub(crate) fn list<T: Serialize>(entries: impl ExactSizeIterator<Item = T>) -> Answer {
    let mut content = Vec::with_capacity(2 + entries.len() * ENTRY);
    let written = serde_json::Serializer::new(&mut content).collect_seq(entries);
    written.map_err(unwritten)?;
    Ok(with_type(StatusCode::OK, "application/json", bytes(content)))
}

/// No content: 204.
pub(crate) fn done() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

/// A status alone.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(bytes(Bytes::new()));
    *response.status_mut() = status;
    Ok(response)
}

/// 204, or 304 when nothing had to be changed.
pub(crate) fn changed(changed: bool) -> Answer {
    empty(if changed { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED })
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unwritten(error: serde_json::Error) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the answer: {error}"))
}

/// What arrives from `parts`, as it arrives.
pub(crate) fn stream(
    kind: &'static str,
    parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    use futures_util::StreamExt;
    let frames = parts.map(|part| part.map(Frame::data));
    with_type(StatusCode::OK, kind, BodyExt::boxed_unsync(StreamBody::new(frames)))
}

/// The failure's document.
pub(crate) fn failure(failure: &Failure) -> Response<Body> {
    if failure.status == StatusCode::NOT_MODIFIED {
        let mut response = Response::new(bytes(Bytes::new()));
        *response.status_mut() = failure.status;
        return response;
    }
    with_type(failure.status, "application/json", bytes(failure.body()))
}

fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
