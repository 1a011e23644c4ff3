//! Bodies of requests: bounded documents, and archives as they arrive.

use crate::error::Failure;
use coracle_engine::images::BodyReader;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use std::io;

/// Largest document in a request, in bytes.
const DOCUMENT: usize = 4 << 20;

/// Reads a document; an absent body is an empty one, as Docker takes it.
///
/// # Errors
/// 400 for what is no document, 413 for one that is too large.
pub(crate) async fn document<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
) -> Result<T, Failure> {
    if is_empty(request.body()) {
        return Ok(T::default());
    }
    let checked = check_type(request.headers());
    // It is read although its type is wrong: what nobody has read ends the connection, which the client may use again.
    let collected = Limited::new(request.into_body(), DOCUMENT).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("request body is larger than {DOCUMENT} bytes"),
            )
        } else {
            Failure::invalid(format!("cannot read the request body: {error}"))
        }
    })?;
    checked?;
    read(&collected.to_bytes())
}

/// The same, where a body must be there.
pub(crate) async fn required<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
) -> Result<T, Failure> {
    if is_empty(request.body()) {
        return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
    }
    document(request).await
}

/// Refuses a body where Docker takes none any more.
pub(crate) fn none(request: &Request<Incoming>, reason: &str) -> Result<(), Failure> {
    // Clients send `{}` or `null` for nothing.
    let short = request.body().size_hint().exact().is_some_and(|size| size <= 7);
    if short { Ok(()) } else { Err(Failure::invalid(reason)) }
}

/// Reads what is sent to no purpose, so that the client hears why instead of a broken pipe.
pub(crate) fn discard(request: Request<Incoming>) {
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    });
}

/// A request's body, for a reader that blocks.
pub(crate) fn reader(request: Request<Incoming>) -> BodyReader {
    let (sender, reader) = BodyReader::channel();
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    // Nobody reads it any more, but the client hears why only when it has sent it all.
                    let _ = sender.send(bytes).await;
                }
                Err(error) => return sender.fail(io::Error::other(error)).await,
            }
        }
        sender.finish().await;
    });
    reader
}

fn is_empty(body: &Incoming) -> bool {
    body.size_hint().exact() == Some(0)
}

fn read<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    coracle_api::from_slice(bytes).map_err(|error| match error.to_string() {
        text if text.starts_with("trailing characters") => Failure::invalid("unexpected content after JSON"),
        text => Failure::invalid(format!("invalid JSON: {}", unexpected(&text, bytes).unwrap_or(text))),
    })
}

/// What is wrong with a document in the words of Docker's library, which name the character that is.
fn unexpected(text: &str, bytes: &[u8]) -> Option<String> {
    let (what, place) = text.split_once(" at line ")?;
    let looking = match what {
        "key must be a string" => "looking for beginning of object key string",
        "expected value" => "looking for beginning of value",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        _ if what.starts_with("EOF while parsing") => return Some("unexpected EOF".to_owned()),
        _ => return None,
    };
    let (line, column) = place.split_once(" column ")?;
    let line = bytes.split(|byte| *byte == b'\n').nth(line.parse::<usize>().ok()?.checked_sub(1)?)?;
    let byte = line.get(column.parse::<usize>().ok()?.checked_sub(1)?)?;
    Some(format!("invalid character '{}' {looking}", byte.escape_ascii()))
}

/// Only JSON is taken: a browser sends other types to any address without asking it first, also those of foreign pages.
fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() {
        return Err(Failure::invalid(format!(
            "malformed Content-Type header ({given}): mime: no media type"
        )));
    }
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::invalid(format!("unsupported Content-Type header ({given}): must be 'application/json'")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::container::ExecStartRequest;

    #[test]
    fn what_is_no_json_is_told_in_dockers_words() {
        for (text, told) in [
            ("{invalid", "invalid character 'i' looking for beginning of object key string"),
            ("{\"a\": }", "invalid character '}' looking for beginning of value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\": 1\n x}", "invalid character 'x' after object key:value pair"),
            ("{\"a\": [1 2]}", "invalid character '2' after array element"),
            ("{\"a\": ", "unexpected EOF"),
        ] {
            let failure = read::<ExecStartRequest>(text.as_bytes()).map(|_| ()).unwrap_err();
            assert_eq!(failure.message, format!("invalid JSON: {told}"), "{text}");
        }
    }

    #[test]
    fn only_json_is_taken() {
        for (given, words) in [
            (Some("application/json"), None),
            (Some("Application/JSON; charset=utf-8"), None),
            (Some("text/plain"), Some("unsupported Content-Type header (text/plain)")),
            (Some("application/x-www-form-urlencoded"), Some("must be 'application/json'")),
            (None, Some("malformed Content-Type header ()")),
        ] {
            let headers: HeaderMap =
                given.iter().map(|given| (CONTENT_TYPE, given.parse().unwrap())).collect();
            match (check_type(&headers), words) {
                (Ok(()), None) => {}
                (Err(failure), Some(words)) => {
                    assert_eq!(failure.status, StatusCode::BAD_REQUEST);
                    assert!(failure.message.contains(words), "{}", failure.message);
                }
                (other, _) => panic!("{given:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        assert!(read::<ExecStartRequest>(b" \n").is_ok());
        assert!(read::<ExecStartRequest>(b"{\"Detach\": true}").unwrap().detach);
        let failure = read::<ExecStartRequest>(b"{} {}").map(|_| ()).unwrap_err();
        assert_eq!(failure.message, "unexpected content after JSON");
        for text in ["{", "[]", "{\"Detach\": \"maybe\"}", "\u{0}"] {
            let failure = read::<ExecStartRequest>(text.as_bytes()).map(|_| ()).unwrap_err();
            assert!(failure.message.starts_with("invalid JSON: "), "{text}: {}", failure.message);
        }
    }
}
