//! HTTP/1.1 messages as they go by: where each begins and ends (RFC 9112), and nothing else of them.

/// What comes by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A head: the first line and the fields, without the empty line.
    Head(&'a str),
    /// A part of a body.
    Body(&'a [u8]),
    /// The end of a message.
    End,
}

/// How the body of a message is told apart from what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything that comes.
    UntilClose,
    /// No message follows at all: the connection carries something else from here on.
    Opaque,
}

impl Framing {
    /// What the fields of a head say; nothing if they say nothing.
    pub(super) fn told_by(head: &str) -> Option<Self> {
        if field(head, "transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
        {
            return Some(Self::Chunked);
        }
        field(head, "content-length").and_then(|value| value.parse().ok()).map(Self::Length)
    }
}

/// The value of a field of a head.
pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Where in a message the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    UntilClose,
    /// Nothing is understood from here on.
    Lost,
}

/// Longest head or chunk line that is waited for, in bytes.
const LONGEST_HEAD: usize = 1 << 20;

/// Takes messages apart, however their bytes come.
#[derive(Debug)]
pub(super) struct Messages {
    at: At,
    /// The beginning of a head or line of which the end has not come.
    begun: Vec<u8>,
}

impl Messages {
    pub(super) fn new() -> Self {
        Self { at: At::Head, begun: Vec::new() }
    }

    /// Whether the end of the stream is the end of a message as well.
    pub(super) fn may_end(&self) -> bool {
        matches!(self.at, At::UntilClose) || (self.at == At::Head && self.begun.is_empty())
    }

    /// Goes through bytes; `see` answers a head with the framing of its body, and anything else with whatever it likes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], see: &mut dyn FnMut(Event<'_>) -> Framing) {
        while !bytes.is_empty() {
            match self.at {
                At::Lost => return,
                At::UntilClose => {
                    see(Event::Body(bytes));
                    return;
                }
                At::Length(left) => self.body(&mut bytes, left, At::Length, see),
                At::Chunk(left) => self.body(&mut bytes, left, At::Chunk, see),
                At::Head => self.head(&mut bytes, see),
                At::ChunkSize | At::ChunkEnd | At::Trailer => self.line(&mut bytes, see),
            }
        }
    }

    fn body(
        &mut self,
        bytes: &mut &[u8],
        left: u64,
        at: fn(u64) -> At,
        see: &mut dyn FnMut(Event<'_>) -> Framing,
    ) {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (part, rest) = bytes.split_at(count);
        *bytes = rest;
        see(Event::Body(part));
        let left = left - count as u64;
        self.at = match at(left) {
            At::Length(0) => {
                see(Event::End);
                At::Head
            }
            At::Chunk(0) => At::ChunkEnd,
            other => other,
        };
    }

    fn head(&mut self, bytes: &mut &[u8], see: &mut dyn FnMut(Event<'_>) -> Framing) {
        let Some(head) = self.until(bytes, b"\r\n\r\n") else { return };
        let Ok(head) = String::from_utf8(head) else {
            self.at = At::Lost;
            return;
        };
        self.at = match see(Event::Head(head.trim_start_matches("\r\n").trim_end())) {
            Framing::Length(0) => {
                see(Event::End);
                At::Head
            }
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::ChunkSize,
            Framing::UntilClose => At::UntilClose,
            Framing::Opaque => At::Lost,
        };
    }

    fn line(&mut self, bytes: &mut &[u8], see: &mut dyn FnMut(Event<'_>) -> Framing) {
        let Some(line) = self.until(bytes, b"\r\n") else { return };
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        self.at = match self.at {
            At::ChunkSize => match u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            {
                Ok(0) => At::Trailer,
                Ok(size) => At::Chunk(size),
                Err(_) => At::Lost,
            },
            At::Trailer if line.is_empty() => {
                see(Event::End);
                At::Head
            }
            At::Trailer => At::Trailer,
            _ => At::ChunkSize,
        };
    }

    /// What there is up to `end` and with it, if it has come.
    fn until(&mut self, bytes: &mut &[u8], end: &[u8]) -> Option<Vec<u8>> {
        let known = self.begun.len();
        self.begun.extend_from_slice(bytes);
        let from = known.saturating_sub(end.len());
        let found = self.begun[from..].windows(end.len()).position(|part| part == end);
        let Some(length) = found.map(|at| from + at + end.len()) else {
            *bytes = &[];
            if self.begun.len() > LONGEST_HEAD {
                self.at = At::Lost;
            }
            return None;
        };
        *bytes = &bytes[length - known..];
        self.begun.truncate(length);
        Some(std::mem::take(&mut self.begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: &[u8], size: usize) -> Vec<String> {
        let (mut messages, mut seen, mut body) = (Messages::new(), Vec::new(), Vec::new());
        for part in bytes.chunks(size) {
            messages.feed(part, &mut |event| {
                match event {
                    Event::Head(head) => {
                        seen.push(head.lines().next().unwrap_or_default().to_owned());
                        return Framing::told_by(head).unwrap_or(Framing::Length(0));
                    }
                    Event::Body(part) => body.extend_from_slice(part),
                    Event::End => seen.push(String::from_utf8(std::mem::take(&mut body)).unwrap()),
                }
                Framing::Length(0)
            });
        }
        assert!(messages.may_end());
        seen
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let bytes = b"GET /a HTTP/1.1\r\nHost: d\r\n\r\nPOST /b HTTP/1.1\r\ncontent-LENGTH:  5\r\n\r\nhello\
            POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nA: b\r\n\r\n\
            GET /d HTTP/1.1\r\n\r\n";
        let wanted = [
            "GET /a HTTP/1.1",
            "",
            "POST /b HTTP/1.1",
            "hello",
            "POST /c HTTP/1.1",
            "abc0123456789",
            "GET /d HTTP/1.1",
            "",
        ];
        for size in 1..bytes.len() {
            assert_eq!(seen(bytes, size), wanted, "{size}");
        }
    }
}
