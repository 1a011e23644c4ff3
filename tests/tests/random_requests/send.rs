//! Sending a request, and hearing what comes of it.

use crate::request::{Manner, Request};
use coracle_tests::schema::Answer;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the parts of an answer without an end are waited for.
const ENDLESS: Duration = Duration::from_millis(100);
/// Most bytes of an answer that are heard.
const MOST: usize = 4 << 20;

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer, and as much of its body as there is soon; `whole` if that is all.
    Answered { answer: Answer, body: Vec<u8>, whole: bool },
    /// The end of the connection.
    Closed,
    /// Nothing in time.
    Late,
}

/// Sends a request on a connection of its own.
pub(crate) fn send(socket: &Path, request: &Request) -> Outcome {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // An engine that has heard enough may answer and close.
    let _ = stream.write_all(&request.bytes());
    if matches!(request.manner(), Manner::HalfClosed | Manner::CutOff) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    hear(&mut stream, request.method() == "HEAD")
}

fn hear(stream: &mut UnixStream, only_head: bool) -> Outcome {
    let begun = Instant::now();
    let mut heard = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let head = heard.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4);
        let over = begun.elapsed() > PATIENCE || heard.len() > MOST;
        if let Some(head) = head {
            let state = Message::of(&heard, head, only_head);
            if over || state.whole {
                return state.outcome(over);
            }
            if state.endless {
                stream.set_read_timeout(Some(ENDLESS)).unwrap();
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => {
                let Some(head) = head else { return Outcome::Closed };
                let state = Message::of(&heard, head, only_head);
                // An answer that ends before its end was broken off.
                return if state.until_close { state.outcome(false) } else { Outcome::Closed };
            }
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let Some(head) = head else { return Outcome::Late };
                let state = Message::of(&heard, head, only_head);
                let late = !state.endless;
                return state.outcome(late);
            }
            Err(_) => return Outcome::Closed,
        }
    }
}

/// An answer as far as it has come.
struct Message {
    answer: Answer,
    body: Vec<u8>,
    whole: bool,
    /// Whether the length of the body is not told.
    endless: bool,
    /// Whether the end of the connection is its end.
    until_close: bool,
}

impl Message {
    fn of(heard: &[u8], head: usize, only_head: bool) -> Self {
        let text = String::from_utf8_lossy(&heard[..head]).to_ascii_lowercase();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let answer = Answer { status, content_type: field("content-type:").unwrap_or_default().to_owned() };
        let chunked = field("transfer-encoding:").is_some();
        let rest = &heard[head..];
        let (body, whole, endless) =
            match field("content-length:").and_then(|length| length.parse::<usize>().ok()) {
                _ if only_head || matches!(status, 204 | 304) => (Vec::new(), true, false),
                // What follows is no part of the API.
                _ if status == 101 => (Vec::new(), true, true),
                Some(length) => (rest[..rest.len().min(length)].to_vec(), rest.len() >= length, false),
                None if chunked => {
                    let (body, whole) = unchunk(rest);
                    (body, whole, true)
                }
                None => (rest.to_vec(), false, true),
            };
        Self { answer, body, whole, endless, until_close: endless && !chunked }
    }

    fn outcome(self, late: bool) -> Outcome {
        if late {
            return Outcome::Late;
        }
        Outcome::Answered { answer: self.answer, body: self.body, whole: self.whole }
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|part| part == b"\r\n") else { return (body, false) };
        let size =
            std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size else { return (body, false) };
        rest = &rest[end + 2..];
        if size == 0 {
            return (body, true);
        }
        let Some(part) = rest.get(..size + 2) else {
            body.extend_from_slice(rest);
            return (body, false);
        };
        body.extend_from_slice(&part[..size]);
        rest = &rest[size + 2..];
    }
}
