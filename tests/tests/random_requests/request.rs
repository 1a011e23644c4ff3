//! A request of a seed and a number.

use crate::body;
use crate::field::Field;
use crate::words::{self, Mood};
use coracle_tests::image::SMALL;
use coracle_tests::mutation::{self, Random};
use coracle_tests::schema::{Operation, Schema, split_version};
use serde_json::Value;
use std::fmt;

/// How the bytes go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// All of them.
    Whole,
    /// All, and then the client says that it has no more.
    HalfClosed,
    /// Fewer than announced, and then the end.
    CutOff,
    /// In chunks.
    Chunked,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    operation: &'static str,
    method: String,
    target: String,
    headers: String,
    body: Vec<u8>,
    manner: Manner,
    odd: bool,
}

const METHODS: [&str; 9] = ["GET", "POST", "DELETE", "PUT", "HEAD", "PATCH", "OPTIONS", "TRACE", "get"];
const ENCODINGS: [&str; 12] =
    ["%2e%2e", "%2f", "%00", "%ff", "%zz", "%", "//", "%252e", ";x=y", "%0d%0a", "\u{e9}", "%F0%9F%A6%80"];
const TYPES: [&str; 8] = [
    "",
    "text/plain",
    "application/json; charset=utf-16",
    "APPLICATION/JSON",
    "application/x-tar",
    "json",
    "multipart/form-data",
    "application/json,application/json",
];

impl Request {
    /// The request of this number.
    pub(crate) fn random(seed: usize, number: usize, field: &Field<'_>) -> Self {
        let mut random = Random::new((seed as u64) << 32 | number as u64);
        // The first numbers of near seeds are near.
        for _ in 0..8 {
            random.below(2);
        }
        let mood = [Mood::Plausible, Mood::Plausible, Mood::Boundary, Mood::Hostile][random.below(4)];
        let operation = pick(&mut random);
        let mut request = Self {
            operation: operation.name(),
            method: operation.method().to_owned(),
            target: String::new(),
            headers: String::new(),
            body: Vec::new(),
            manner: Manner::Whole,
            odd: false,
        };
        request.address(operation, mood, field, &mut random);
        request.fill(operation, mood, field, &mut random);
        if mood == Mood::Hostile {
            request.distort(&mut random);
        }
        request
    }

    fn address(&mut self, operation: &Operation, mood: Mood, field: &Field<'_>, random: &mut Random) {
        let version = match random.below(40) {
            0 => "/v1.23".to_owned(),
            1 => "/v1.99".to_owned(),
            2..12 => String::new(),
            _ => format!("/v1.{}", 24 + random.below(30)),
        };
        let area = operation.segments()[0].as_str();
        let mut path = version;
        for segment in operation.segments() {
            path.push('/');
            match segment.starts_with('{') {
                true => path.push_str(&encode(&name(area, operation, mood, field, random))),
                false => path.push_str(segment),
            }
        }
        let mut query = Vec::new();
        for parameter in operation.parameters().iter().filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            let always = ["path", "fromImage", "remote", "term", "t", "h", "w"].contains(&name);
            // Of many that are plausible alone, hardly any set is.
            let often = if mood == Mood::Plausible { operation.parameters().len().max(2) } else { 2 };
            if always || random.once_in(often) {
                let text = argument(operation, name, parameter, mood, random);
                query.push(format!("{name}={}", encode(&text)));
            }
        }
        if mood != Mood::Plausible && random.once_in(4) {
            query.push((*random.pick(&["x", "=", "&&", "a[]=1", "%zz=%", "+=+"])).to_owned());
        }
        let mark = if query.is_empty() { "" } else { "?" };
        self.target = format!("{path}{mark}{}", query.join("&"));
    }

    fn fill(&mut self, operation: &Operation, mood: Mood, field: &Field<'_>, random: &mut Random) {
        for parameter in operation.parameters().iter().filter(|parameter| parameter["in"] == "body") {
            let schema = &parameter["schema"];
            if schema["type"] == "string" {
                self.headers.push_str("Content-Type: application/x-tar\r\n");
                self.body = match mood {
                    Mood::Hostile => mutation::of_bytes(field.archive(), random),
                    _ => field.archive().to_vec(),
                };
                continue;
            }
            let document = body::document(operation, schema, mood, &field.own_directory(), random);
            self.body = document.to_string().into_bytes();
            self.headers.push_str("Content-Type: application/json\r\n");
        }
        if operation.parameters().iter().any(|parameter| parameter["name"] == "X-Registry-Auth")
            && random.once_in(2)
        {
            self.headers
                .push_str(&format!("X-Registry-Auth: {}\r\n", random.pick(&["", "e30=", "!!", "bnVsbA=="])));
        }
        if operation.method() == "GET" && random.once_in(8) {
            self.headers.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
    }

    /// Makes it one that no client sends.
    fn distort(&mut self, random: &mut Random) {
        match random.below(12) {
            0 => self.method = (*random.pick(&METHODS)).to_owned(),
            1 => {
                let at = self.target.len().min(2 + random.below(self.target.len()));
                let at = self.target.floor_char_boundary(at);
                self.target.insert_str(at, random.pick::<&str>(&ENCODINGS));
                self.odd = true;
            }
            2 => self.headers = format!("Content-Type: {}\r\n", random.pick(&TYPES)),
            3 => self.body = mutation::of_bytes(&self.body, random),
            4 => self.body = "[".repeat(random.below(100_000)).into_bytes(),
            5 => self.body.extend_from_slice(b" {}"),
            6 => self.body.insert(0, b"\xef\xbb\xbf\xff{"[random.below(5)]),
            7 => self.manner = Manner::CutOff,
            8 => self.manner = Manner::HalfClosed,
            9 => self.manner = Manner::Chunked,
            10 => {
                self.headers.push_str(&format!("X-Long: {}\r\n", "y".repeat(random.below(20_000))));
            }
            _ => {
                self.target.push_str(&format!("&z={}", "z".repeat(random.below(9000))));
            }
        }
    }

    /// What it was made of.
    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The path without its version.
    pub(crate) fn path(&self) -> &str {
        split_version(self.target.split('?').next().unwrap_or_default()).1
    }

    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    /// Whether it is none that HTTP knows how to answer.
    pub(crate) fn is_broken(&self) -> bool {
        self.manner == Manner::CutOff || self.odd
    }

    /// The bytes to send.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { method, target, headers, body, manner, .. } = self;
        let framing = match manner {
            Manner::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Manner::CutOff => format!("Content-Length: {}\r\n", body.len() + 10),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let close = if headers.contains("Connection:") { "" } else { "Connection: close\r\n" };
        let mut bytes =
            format!("{method} {target} HTTP/1.1\r\nHost: d\r\n{close}{headers}{framing}\r\n").into_bytes();
        match manner {
            Manner::Chunked => {
                for part in body.chunks(7) {
                    bytes.extend(format!("{:x}\r\n", part.len()).bytes());
                    bytes.extend_from_slice(part);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
            _ => bytes.extend_from_slice(body),
        }
        bytes
    }
}

/// An operation; of those that this engine refuses all alike, fewer.
fn pick(random: &mut Random) -> &'static Operation {
    const REFUSED: [&str; 7] = ["swarm", "nodes", "services", "tasks", "secrets", "configs", "plugins"];
    let operations = Schema::get().operations();
    let first = random.pick(operations);
    let again = REFUSED.contains(&first.segments()[0].as_str()) && !random.once_in(4);
    if again { random.pick(operations) } else { first }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes()).replace("\r\n", " | ");
        let end = text.floor_char_boundary(1000);
        write!(formatter, "{:?}: {}", self.manner, &text[..end])
    }
}

/// A name in a path.
fn name(area: &str, operation: &Operation, mood: Mood, field: &Field<'_>, random: &mut Random) -> String {
    // What is no name of here is one of somebody's registry.
    let leaves = area == "distribution" || operation.name() == "POST /images/{name}/push";
    if mood != Mood::Plausible && !leaves && random.once_in(2) {
        return words::text("name", mood, random);
    }
    let known = match area {
        // Whoever is asked to change is one that may.
        "containers" if operation.method() == "GET" && random.once_in(3) => return "keeper".to_owned(),
        "containers" => &["running", "paused", "stopped", "unhealthy", "extra-1", "extra-2", "extra.3"][..],
        "exec" => return field.exec().to_owned(),
        "images" if operation.name() == "POST /images/{name}/push" => &["127.0.0.1:9/spare", "extra:v1"],
        "images" if operation.method() != "DELETE" && random.once_in(2) => &[SMALL],
        "images" => &["spare:v1", "extra", "extra/a:v1"],
        "distribution" => &["127.0.0.1:9/a", "127.0.0.1:9/a/b:c", "UPPER"],
        "volumes" => &["spare-volume", "extra-1", "extra-2"],
        "networks" if operation.method() == "GET" => &["keeper-net", "bridge", "none", "host"],
        "networks" => &["spare-net", "extra-1", "none", "extra-2"],
        _ => &["a", "b"],
    };
    (*random.pick(known)).to_owned()
}

/// A parameter's value.
fn argument(operation: &Operation, name: &str, parameter: &Value, mood: Mood, random: &mut Random) -> String {
    match (operation.name(), name) {
        // Nobody listens there.
        ("POST /images/create", "fromImage") | (_, "serveraddress") => {
            let names = ["127.0.0.1:9/a", "127.0.0.1:9/a/b:c", "127.0.0.1:9/a@sha256:00", "UPPER", "//", ""];
            return (*random.pick(&names)).to_owned();
        }
        (_, "fromSrc" | "remote") => {
            return (*random.pick(&["", "", "-", "http://127.0.0.1:9/x", "ftp://x", "http://"])).to_owned();
        }
        ("GET /images/search", "term") => return (*random.pick(&["127.0.0.1:9/a", ""])).to_owned(),
        // Nobody waits for longer than the test does.
        (_, "t") => return (*random.pick(&["0", "1", "x", "-"])).to_owned(),
        _ => {}
    }
    match parameter["type"].as_str() {
        Some("boolean") if mood == Mood::Plausible => (*random.pick(&["0", "1", "true", "false"])).to_owned(),
        Some("integer" | "number") => match words::number(mood, random) {
            Value::String(text) => text,
            other => other.to_string(),
        },
        _ => words::text(name, mood, random),
    }
}

/// Percent encoding of what has a meaning in a target (RFC 3986, section 2.2).
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@,".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
