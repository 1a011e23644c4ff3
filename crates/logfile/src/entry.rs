//! One entry of the log, and its line in the file.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which stream an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    stream: Stream,
    time: &'a str,
}

impl Entry {
    /// Parses a line of the file; `None` for one that is damaged, as after a loss of power.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let time = OffsetDateTime::parse(line.time, &Rfc3339).ok()?;
        Some(Self { bytes: line.log.into_owned().into_bytes(), stream: line.stream, time })
    }
}

/// Appends the line of an entry. Bytes that are no UTF-8 become replacement characters, as Docker's do.
pub(crate) fn write_line(into: &mut Vec<u8>, stream: Stream, time: &str, bytes: &[u8]) {
    let line = Line { log: String::from_utf8_lossy(bytes), stream, time };
    serde_json::to_writer(&mut *into, &line).expect("strings and vectors do not fail");
    into.push(b'\n');
}

/// The time as it stands in the file: always nine digits of a second, in UTC.
pub(crate) fn format_time(time: OffsetDateTime) -> String {
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

    #[test]
    fn a_line_reads_back_and_a_damaged_one_is_skipped() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_000_000_007).unwrap();
        let mut line = Vec::new();
        write_line(&mut line, Stream::Stderr, &format_time(time), "a \"quote\" \x1b[0m\n".as_bytes());
        let entry = Entry::parse(&line).unwrap();
        assert_eq!(entry.bytes, "a \"quote\" \x1b[0m\n".as_bytes());
        assert_eq!((entry.stream, entry.time), (Stream::Stderr, time));
        assert_eq!(Entry::parse(&line[..line.len() - 3]), None);
        assert_eq!(Entry::parse(b"\0\0\0\0"), None);
    }

    #[test]
    fn lines_of_docker_are_read() {
        let line = br#"{"log":"hi\u003e\n","stream":"stdout","time":"2024-01-02T03:04:05.678901234Z"}"#;
        let entry = Entry::parse(line).unwrap();
        assert_eq!((entry.bytes.as_slice(), entry.time.nanosecond()), (b"hi>\n".as_slice(), 678_901_234));
    }
}
