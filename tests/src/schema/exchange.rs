//! One request and its answer, held against the schema while it arrives.

use super::{Fault, Operation, Schema, Version, Violation, allowed, split_version, validate};
use serde_json::Value;

/// Largest answer that is checked, in bytes; larger ones are none that tests make.
const LARGEST: usize = 32 << 20;
/// Where the engine serves what Docker's schema does not have.
const EXTENSIONS: [&str; 2] = ["/coracle/", "/grpc"];

/// How an answer begins.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type, empty if there is none.
    pub content_type: String,
}

/// What the body must be.
#[derive(Debug)]
enum Body {
    /// Anything.
    Any,
    /// Nothing.
    Empty,
    /// A document of a schema that is at this place.
    Document(&'static Value, String),
    /// Documents of a definition, one after the other.
    Stream(&'static str),
}

/// An answer that arrives.
#[derive(Debug)]
pub struct Exchange {
    operation: String,
    version: Version,
    original: bool,
    body: Body,
    buffer: Vec<u8>,
    found: Vec<Violation>,
}

impl Exchange {
    /// Begins with the heads; `original` tells whose answer it is.
    pub fn begin(method: &str, target: &str, answer: &Answer, original: bool) -> Self {
        let path = target.split('?').next().unwrap_or_default();
        let (version, path) = split_version(path);
        let operation = Schema::get().operation(method, path);
        let mut exchange = Self {
            operation: operation.map_or_else(|| format!("{method} {path}"), |known| known.name().to_owned()),
            version,
            original,
            body: Body::Any,
            buffer: Vec::new(),
            found: Vec::new(),
        };
        // Docker grants it of whatever path, and says nothing.
        let is_optional = method == "OPTIONS" && answer.status == 200;
        let is_empty = method == "HEAD" || is_optional;
        exchange.body = if is_empty { Body::Empty } else { exchange.expect(operation, path, answer) };
        exchange
    }

    fn expect(&mut self, operation: Option<&'static Operation>, path: &str, answer: &Answer) -> Body {
        if answer.status >= 400 {
            self.expect_type(answer, &["application/json"]);
            return Body::Document(Schema::get().definition("ErrorResponse"), "ErrorResponse".to_owned());
        }
        let Some(operation) = operation else {
            if !EXTENSIONS.iter().any(|prefix| path.starts_with(prefix)) {
                self.fault("path", Fault::Status, answer.status.to_string());
            }
            return Body::Any;
        };
        let Some(schema) = operation.response(answer.status) else {
            let place = format!("{} {}", operation.name(), answer.status);
            self.fault(&place, Fault::Status, "");
            return Body::Any;
        };
        if let Some(definition) = operation.streams() {
            self.expect_type(
                answer,
                &["application/json", "application/jsonl", "application/x-ndjson", "application/json-seq"],
            );
            return Body::Stream(definition);
        }
        match answer.status {
            204 | 304 => Body::Empty,
            _ if schema.is_null() || schema["type"] == "string" => Body::Any,
            _ => {
                self.expect_type(answer, &["application/json"]);
                Body::Document(schema, operation.name().to_owned())
            }
        }
    }

    fn expect_type(&mut self, answer: &Answer, wanted: &[&str]) {
        let found = answer.content_type.split(';').next().unwrap_or_default().trim();
        if !wanted.contains(&found) {
            let place = format!("content type of {}", self.operation);
            self.fault(&place, Fault::ContentType, format!("{found:?} of a {}", answer.status));
        }
    }

    fn fault(&mut self, place: &str, fault: Fault, found: impl Into<String>) {
        let (operation, version) = (self.operation.clone(), self.version);
        let violation = Violation { place: place.to_owned(), fault, found: found.into(), operation, version };
        if allowed::reason(&violation, self.original).is_none() {
            self.found.push(violation);
        }
    }

    /// Takes a part of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.body, Body::Any) || self.buffer.len() > LARGEST {
            return;
        }
        // Records of RFC 7464 begin with this byte.
        self.buffer.extend(bytes.iter().filter(|byte| **byte != 0x1e));
        if let Body::Stream(definition) = self.body {
            self.take_documents(definition);
        }
    }

    /// Checks the documents that have come whole.
    fn take_documents(&mut self, definition: &str) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut documents = serde_json::Deserializer::from_slice(&buffer).into_iter::<Value>();
        let mut failure = None;
        for document in documents.by_ref() {
            match document {
                Ok(document) => self.document(Schema::get().definition(definition), &document, definition),
                Err(error) if error.is_eof() => break,
                Err(error) => {
                    failure = Some(error.to_string());
                    break;
                }
            }
        }
        self.buffer = buffer[documents.byte_offset()..].to_vec();
        if let Some(failure) = failure {
            self.fault("body", Fault::Body, failure);
            self.body = Body::Any;
        }
    }

    fn document(&mut self, node: &Value, document: &Value, place: &str) {
        for (place, fault, found) in validate::faults(Schema::get(), node, document, place) {
            self.fault(&place, fault, found);
        }
    }

    /// Ends it; `whole` tells whether all of the answer came. Returns what is wrong with it.
    pub fn end(mut self, whole: bool) -> Vec<Violation> {
        let rest = self.buffer.trim_ascii();
        match std::mem::replace(&mut self.body, Body::Any) {
            Body::Any => {}
            Body::Empty | Body::Stream(_) if rest.is_empty() => {}
            _ if !whole || rest.len() > LARGEST => {}
            Body::Empty | Body::Stream(_) => {
                let rest = String::from_utf8_lossy(rest).into_owned();
                self.fault("body", Fault::Body, rest);
            }
            Body::Document(node, place) => match serde_json::from_slice(rest) {
                Ok(document) => self.document(node, &document, &place),
                Err(error) => self.fault("body", Fault::Body, error.to_string()),
            },
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, target: &str, status: u16, content_type: &str, body: &[u8]) -> Vec<String> {
        let answer = Answer { status, content_type: content_type.to_owned() };
        let mut exchange = Exchange::begin(method, target, &answer, false);
        // However it is cut.
        body.chunks(7).for_each(|part| exchange.feed(part));
        let found = exchange.end(true);
        found.into_iter().map(|violation| format!("{} {:?}", violation.place, violation.fault)).collect()
    }

    #[test]
    fn answers_are_held_against_their_operation() {
        let json = "application/json";
        for (method, target, status, kind, body, wanted) in [
            ("GET", "/v1.44/volumes/a", 404, json, r#"{"message":"no"}"#, &[][..]),
            (
                "GET",
                "/v1.44/volumes/a",
                404,
                json,
                r#"{"error":"no"}"#,
                &["ErrorResponse.error Unknown", "ErrorResponse.message Missing"],
            ),
            (
                "GET",
                "/v1.44/volumes/a",
                404,
                "text/plain",
                r#"{"message":"no"}"#,
                &["content type of GET /volumes/{name} ContentType"],
            ),
            ("GET", "/nowhere", 404, json, r#"{"message":"page not found"}"#, &[]),
            ("GET", "/nowhere", 200, json, "{}", &["path Status"]),
            ("POST", "/coracle/system/check", 200, json, "{}", &[]),
            ("POST", "/containers/a/start", 204, "", "", &[]),
            ("POST", "/containers/a/start", 200, "", "", &["POST /containers/{id}/start 200 Status"]),
            ("POST", "/containers/a/start", 204, "", "x", &["body Body"]),
            ("HEAD", "/_ping", 200, "text/plain", "", &[]),
            ("GET", "/_ping", 200, "text/plain", "OK", &[]),
            ("GET", "/networks", 200, json, "[{]", &["body Body"]),
            (
                "GET",
                "/events",
                200,
                json,
                "{\"Type\":\"image\"}\r\n{\"Type\":\"imagine\"}",
                &["EventMessage.Type Value"],
            ),
            ("GET", "/events", 200, "application/json-seq", "\u{1e}{\"Type\":\"image\"}\n\u{1e}{}\n", &[]),
            ("GET", "/events", 200, json, "{} x", &["body Body"]),
            ("GET", "/events", 200, json, "{} {\"Type\":", &["body Body"]),
        ] {
            assert_eq!(
                found(method, target, status, kind, body.as_bytes()),
                wanted,
                "{method} {target} {body}"
            );
        }
    }

    #[test]
    fn what_was_cut_off_is_not_held_against_anybody() {
        let answer = Answer { status: 200, content_type: "application/json".to_owned() };
        let mut exchange = Exchange::begin("GET", "/networks", &answer, false);
        exchange.feed(b"[{\"Na");
        assert_eq!(exchange.end(false), []);
    }
}
