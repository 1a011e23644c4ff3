//! One entry of the log, and its line in the file.

use serde::Deserialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which stream an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The standard output, or a terminal.
    Stdout,
    /// The standard error output.
    Stderr,
}

/// A line of output, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bytes, with the newline that ended them, if one did.
    pub bytes: Vec<u8>,
    /// Where they came from.
    pub stream: Stream,
    /// When they were read from the container.
    pub time: OffsetDateTime,
    /// What the line is marked with.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    stream: Stream,
    time: &'a str,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

impl Entry {
    /// Parses a line of the file; `None` for one that is damaged, as after a loss of power.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let time = OffsetDateTime::parse(line.time, &Rfc3339).ok()?;
        let bytes = line.log.into_owned().into_bytes();
        Some(Self { bytes, stream: line.stream, time, attributes: line.attrs })
    }
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What follows the text in the line of every entry that was read from `stream` at once, and is marked with the document
/// `attributes`, if that is not empty.
pub(crate) fn line_end(stream: Stream, attributes: &str, time: OffsetDateTime) -> String {
    let (key, comma) = if attributes.is_empty() { ("", "") } else { ("\"attrs\":", ",") };
    let (stream, time) = (stream.name(), format_time(time));
    format!("\",\"stream\":\"{stream}\",{key}{attributes}{comma}\"time\":\"{time}\"}}\n")
}

/// Appends the line of an entry. Bytes that are no UTF-8 become replacement characters, as Docker's do.
pub(crate) fn write_line(into: &mut Vec<u8>, bytes: &[u8], line_end: &str) {
    let (text, newline) = match bytes.strip_suffix(b"\n") {
        Some(text) => (text, &b"\\n"[..]),
        None => (bytes, &b""[..]),
    };
    into.extend_from_slice(b"{\"log\":\"");
    if stands_for_itself(text) {
        into.extend_from_slice(text);
    } else {
        let begin = into.len();
        serde_json::to_writer(&mut *into, &String::from_utf8_lossy(text))
            .expect("a string and a vector do not fail");
        // Its quotes.
        into.pop();
        into.remove(begin);
    }
    into.extend_from_slice(newline);
    into.extend_from_slice(line_end.as_bytes());
}

/// Whether text is the same in a JSON string (RFC 8259, section 7).
fn stands_for_itself(text: &[u8]) -> bool {
    // Without a way out in the middle, so that many bytes are looked at at once.
    let escaped =
        text.iter().fold(false, |any, byte| any | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'));
    !escaped && std::str::from_utf8(text).is_ok()
}

/// The time as it stands in the file: always nine digits of a second, in UTC.
fn format_time(time: OffsetDateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.nanosecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_line_reads_back_and_a_damaged_one_is_skipped() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_000_000_007).unwrap();
        let mut line = Vec::new();
        write_line(&mut line, "a \"quote\" \x1b[0m\n".as_bytes(), &line_end(Stream::Stderr, "", time));
        let entry = Entry::parse(&line).unwrap();
        assert_eq!(entry.bytes, "a \"quote\" \x1b[0m\n".as_bytes());
        assert_eq!((entry.stream, entry.time), (Stream::Stderr, time));
        assert_eq!((Entry::parse(&line[..line.len() - 3]), entry.attributes.len()), (None, 0));
        let mut line = Vec::new();
        write_line(&mut line, b"x", &line_end(Stream::Stdout, r#"{"a":"\"b"}"#, time));
        assert_eq!(Entry::parse(&line).unwrap().attributes, [("a".to_owned(), "\"b".to_owned())].into());
        assert_eq!(Entry::parse(b"\0\0\0\0"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_as_it_was_but_for_what_is_no_text(bytes in vec(any::<u8>(), 0..60)) {
            let mut line = Vec::new();
            write_line(&mut line, &bytes, &line_end(Stream::Stdout, "", OffsetDateTime::UNIX_EPOCH));
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let entry = Entry::parse(&line).unwrap();
            prop_assert_eq!(entry.bytes, String::from_utf8_lossy(&bytes).into_owned().into_bytes());
        }

        #[test]
        fn text_is_read_as_it_was(text in any::<String>()) {
            let mut line = Vec::new();
            write_line(&mut line, text.as_bytes(), &line_end(Stream::Stdout, "", OffsetDateTime::UNIX_EPOCH));
            prop_assert_eq!(Entry::parse(&line).unwrap().bytes, text.into_bytes());
        }
    }

    #[test]
    fn lines_of_docker_are_read() {
        let line = br#"{"log":"hi\u003e\n","stream":"stdout","time":"2024-01-02T03:04:05.678901234Z"}"#;
        let entry = Entry::parse(line).unwrap();
        assert_eq!((entry.bytes.as_slice(), entry.time.nanosecond()), (b"hi>\n".as_slice(), 678_901_234));
    }
}
