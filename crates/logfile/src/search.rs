//! Finding a place in a log file without reading all of it: entries are in the order of their times.

use crate::entry::Entry;
use crate::limits;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use time::OffsetDateTime;

/// Where the last `count` lines of `file` begin, and how many lines that are. What comes after the last end of a line is no
/// line yet: it is being written, or is taken back because there was no room for it.
pub(crate) fn last_lines(file: &File, count: u64) -> io::Result<(u64, u64)> {
    let mut at = file.metadata()?.len();
    if count == 0 {
        return Ok((at, 0));
    }
    let (mut ends, mut block) = (0, vec![0; limits::BLOCK]);
    while at > 0 {
        let start = at.saturating_sub(limits::BLOCK as u64);
        let length = usize::try_from(at - start).expect("at most a block");
        let length = read_at(file, &mut block[..length], start)?;
        for (index, _) in block[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // One closes the last line, and each one before it opens a line.
            if ends == count {
                return Ok((start + index as u64 + 1, count));
            }
            ends += 1;
        }
        at = start;
    }
    Ok((0, ends))
}

/// Reads until the buffer is full, or where the file has become shorter meanwhile.
fn read_at(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], start + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The time of the first entry, if there is a whole one.
pub(crate) fn first_time(file: &File) -> io::Result<Option<OffsetDateTime>> {
    Ok(line_at(file, 0)?.and_then(|(_, _, time)| time))
}

/// Where the first line begins whose time is not before `since`.
pub(crate) fn first_since(file: &File, since: OffsetDateTime) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let (mut low, mut high) = (0, end);
    // Every line that begins before `low` is too early; the one at `high`, if any, is late enough.
    while low < high {
        let middle = low + (high - low) / 2;
        match line_after(file, middle)? {
            Some((start, next, time)) if start < high => {
                if time.is_some_and(|time| time >= since) {
                    high = high.min(start).max(low);
                    if middle <= low {
                        return first_in(file, low, high, since);
                    }
                    high = middle;
                } else {
                    low = next;
                }
            }
            _ => high = middle,
        }
    }
    first_in(file, low, end, since)
}

/// The same by reading on from `low`, where little is left to read.
fn first_in(file: &File, low: u64, end: u64, since: OffsetDateTime) -> io::Result<u64> {
    let mut at = low;
    while at < end {
        let Some((start, next, time)) = line_at(file, at)? else { break };
        if time.is_some_and(|time| time >= since) {
            return Ok(start);
        }
        at = next;
    }
    Ok(end)
}

/// The first line that begins after the one that covers `offset`: its start, its end, its time.
fn line_after(file: &File, offset: u64) -> io::Result<Option<(u64, u64, Option<OffsetDateTime>)>> {
    if offset == 0 {
        return line_at(file, 0);
    }
    let mut block = vec![0; limits::LINE];
    let length = file.read_at(&mut block, offset - 1)?;
    match block[..length].iter().position(|byte| *byte == b'\n') {
        Some(newline) => line_at(file, offset + newline as u64),
        None => Ok(None),
    }
}

fn line_at(file: &File, start: u64) -> io::Result<Option<(u64, u64, Option<OffsetDateTime>)>> {
    let mut block = vec![0; limits::LINE];
    let length = file.read_at(&mut block, start)?;
    let Some(newline) = block[..length].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let time = Entry::parse(&block[..newline]).map(|entry| entry.time);
    Ok(Some((start, start + newline as u64 + 1, time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Stream, line_end, write_line};
    use std::io::Write;

    fn log(lines: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..lines {
            let mut line = Vec::new();
            let time = OffsetDateTime::from_unix_timestamp(i64::try_from(number).unwrap() * 10).unwrap();
            // Of uneven lengths, so that places cannot be computed.
            let text = "x".repeat(number * 7 % 50);
            write_line(&mut line, text.as_bytes(), &line_end(Stream::Stdout, "", time));
            file.write_all(&line).unwrap();
        }
        file
    }

    #[test]
    fn a_search_by_time_finds_what_reading_everything_finds() {
        for lines in [0, 1, 2, 3, 10, 101] {
            let file = log(lines);
            let end = file.metadata().unwrap().len();
            for seconds in [-5, 0, 1, 5, 10, 11, 500, 999, 1000, 1001, 5000] {
                let since = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
                let expected = first_in(&file, 0, end, since).unwrap();
                assert_eq!(first_since(&file, since).unwrap(), expected, "{lines} lines, since {seconds}");
            }
        }
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        let file = log(5000);
        let end = file.metadata().unwrap().len();
        for count in [0, 1, 2, 4999, 5000, 6000] {
            let (start, found) = last_lines(&file, count).unwrap();
            assert_eq!(found, count.min(5000));
            let mut rest = vec![0; usize::try_from(end - start).unwrap()];
            file.read_exact_at(&mut rest, start).unwrap();
            assert_eq!(rest.iter().filter(|byte| **byte == b'\n').count() as u64, found);
        }
    }

    #[test]
    fn half_a_line_is_none_yet() {
        let mut file = log(3);
        let end = file.metadata().unwrap().len();
        let whole: Vec<_> = (0..5).map(|count| last_lines(&file, count).unwrap()).collect();
        file.write_all(b"{\"log\":\"half").unwrap();
        assert_eq!((1..5).map(|count| last_lines(&file, count).unwrap()).collect::<Vec<_>>(), whole[1..]);
        file.set_len(end).unwrap();
        assert_eq!(read_at(&file, &mut [0; 64], end - 10).unwrap(), 10, "what is gone is not read");
    }
}
