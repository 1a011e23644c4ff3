//! A connection as it goes by: which answer belongs to which request, and where HTTP ends.

use super::message::{Event, Framing, Messages, field};
use crate::schema::{Answer, Exchange, Violation, split_version};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// A request whose answer has not begun.
#[derive(Debug)]
struct Request {
    method: String,
    target: String,
    /// Whether the answer may turn the connection into something else.
    may_turn: bool,
}

impl Request {
    fn of(head: &str) -> Option<Self> {
        let mut words = head.lines().next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let path = target.split('?').next().unwrap_or_default();
        let may_turn = field(head, "upgrade").is_some()
            || (method == "POST" && path.ends_with("/attach"))
            || (method == "POST" && path.contains("/exec/") && path.ends_with("/start"));
        Some(Self { method, target, may_turn })
    }
}

/// What both directions know.
#[derive(Debug, Default)]
struct Shared {
    waiting: VecDeque<Request>,
    /// Whether what the client sends is no request: the answer has turned the connection, or may yet.
    opaque: bool,
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the client sends.
#[derive(Debug)]
pub(super) struct Asking {
    messages: Messages,
    shared: Arc<Mutex<Shared>>,
}

/// What the engine sends.
#[derive(Debug)]
pub(super) struct Answering {
    messages: Messages,
    shared: Arc<Mutex<Shared>>,
    original: bool,
    exchange: Option<Exchange>,
    found: Vec<Violation>,
}

/// Both sides of a new connection; `original` tells whose answers they are.
pub(super) fn sides(original: bool) -> (Asking, Answering) {
    let shared = Arc::<Mutex<Shared>>::default();
    let asking = Asking { messages: Messages::new(), shared: Arc::clone(&shared) };
    let messages = Messages::new();
    (asking, Answering { messages, shared, original, exchange: None, found: Vec::new() })
}

impl Asking {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if lock(&self.shared).opaque {
            return;
        }
        let (mut request, shared) = (None, &self.shared);
        self.messages.feed(bytes, &mut |event| match event {
            // The rest is what goes to a process, and no client asks anything before it has the answer.
            _ if lock(shared).opaque => Framing::Opaque,
            Event::Head(head) => {
                request = Request::of(head);
                if let Some(request) = request.take() {
                    lock(shared).waiting.push_back(request);
                }
                Framing::told_by(head).unwrap_or(Framing::Length(0))
            }
            Event::Body(_) => Framing::Opaque,
            Event::End => {
                let mut shared = lock(shared);
                shared.opaque = shared.waiting.back().is_some_and(|request| request.may_turn);
                Framing::Opaque
            }
        });
        if lock(&self.shared).opaque {
            self.messages = Messages::new();
        }
    }
}

impl Answering {
    /// Takes bytes, and returns what is wrong with the answers that ended in them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Violation> {
        let Self { messages, shared, original, exchange, found } = self;
        messages.feed(bytes, &mut |event| match event {
            Event::Head(head) => begin(head, shared, *original, exchange),
            Event::Body(part) => {
                if let Some(exchange) = exchange {
                    exchange.feed(part);
                }
                Framing::Opaque
            }
            Event::End => {
                found.extend(exchange.take().map(|exchange| exchange.end(true)).unwrap_or_default());
                Framing::Opaque
            }
        });
        std::mem::take(&mut self.found)
    }

    /// The connection ends.
    pub(super) fn end(&mut self) -> Vec<Violation> {
        let whole = self.messages.may_end();
        self.exchange.take().map(|exchange| exchange.end(whole)).unwrap_or_default()
    }
}

/// A target as if it had asked for the version that answers it: without one, that is the engine's newest.
fn versioned<'a>(target: &'a str, answered: Option<&str>) -> Cow<'a, str> {
    match answered {
        Some(version) if split_version(target).1 == target => format!("/v{version}{target}").into(),
        _ => target.into(),
    }
}

fn begin(head: &str, shared: &Mutex<Shared>, original: bool, exchange: &mut Option<Exchange>) -> Framing {
    let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    if (100..200).contains(&status) && status != 101 {
        return Framing::Length(0);
    }
    let mut shared = lock(shared);
    // An answer to something that was no request.
    let Some(request) = shared.waiting.pop_front() else {
        return Framing::told_by(head).unwrap_or(Framing::UntilClose);
    };
    let content_type = field(head, "content-type").unwrap_or_default().to_owned();
    let answer = Answer { status, content_type };
    let target = versioned(&request.target, field(head, "api-version"));
    let begun = Exchange::begin(&request.method, &target, &answer, original);
    let framing = match Framing::told_by(head) {
        _ if status == 101 => Framing::Opaque,
        _ if request.method == "HEAD" || status == 204 || status == 304 => Framing::Length(0),
        Some(framing) => framing,
        None if request.may_turn => Framing::Opaque,
        None => Framing::UntilClose,
    };
    shared.opaque = framing == Framing::Opaque;
    *exchange = Some(begun);
    framing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(of: Vec<Violation>) -> Vec<String> {
        of.into_iter().map(|violation| violation.place).collect()
    }

    #[test]
    fn answers_are_paired_with_requests_until_the_connection_turns() {
        let (mut asking, mut answering) = sides(false);
        asking.feed(b"GET /volumes HTTP/1.1\r\n\r\nHEAD /_ping HTTP/1.1\r\n\r\n");
        let bad =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"A\": 1}\n";
        assert_eq!(found(answering.feed(bad)), ["VolumeListResponse.A"]);
        assert_eq!(found(answering.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")), [""; 0]);
        // An exec that is refused leaves the connection as it was; its early input is no request.
        asking.feed(b"POST /exec/a/start HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}early");
        asking.feed(b"more");
        let no = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}";
        assert_eq!(found(answering.feed(no.as_bytes())), [""; 0]);
        asking.feed(b"GET /volumes HTTP/1.1\r\n\r\n");
        assert_eq!(found(answering.feed(bad)), ["VolumeListResponse.A"]);
        asking.feed(b"POST /containers/a/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n");
        assert_eq!(found(answering.feed(b"HTTP/1.1 101 UPGRADED\r\n\r\n\x01\0\0\0")), [""; 0]);
        asking.feed(b"GET /volumes HTTP/1.1\r\n\r\n");
        assert_eq!(found(answering.feed(bad)), [""; 0]);
        assert_eq!(found(answering.end()), [""; 0]);
    }

    #[test]
    fn who_asks_for_no_version_gets_the_one_that_the_answer_names() {
        let body =
            b"\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"BridgeNfIptables\": true}";
        for (asked, answered, wanted) in [
            ("/info", "Api-Version: 1.45", &[][..]),
            ("/info", "Server: none", &["SystemInfo.BridgeNfIptables"]),
            ("/v1.53/info", "Api-Version: 1.45", &["SystemInfo.BridgeNfIptables"]),
        ] {
            let (mut asking, mut answering) = sides(false);
            asking.feed(format!("GET {asked} HTTP/1.1\r\n\r\n").as_bytes());
            let head = format!("HTTP/1.1 200 OK\r\n{answered}");
            assert_eq!(
                found(answering.feed(&[head.as_bytes(), body].concat())),
                wanted,
                "{asked} {answered}"
            );
        }
    }
}
