//! Reading the log: from a point in time or the last lines on, across rotations, to the end and further.

use crate::entry::Entry;
use crate::{Result, failed, files, limits, search};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// How many lines to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// All there are.
    #[default]
    All,
    /// The last so many.
    Last(u64),
}

/// Which entries are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection {
    /// The last lines only.
    pub tail: Tail,
    /// Not before.
    pub since: Option<OffsetDateTime>,
    /// Not after.
    pub until: Option<OffsetDateTime>,
}

/// Reads entries in order. At the end of what is written it returns nothing, and goes on when called again later.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Files still to be read, newest first, and where to begin in each.
    files: Vec<(File, u64)>,
    current: Option<BufReader<Take<File>>>,
    /// Identifies the newest file that was opened. Nobody else gets its number while it is held open.
    newest: Option<u64>,
    line: Vec<u8>,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    /// Where the newest file ended, if what came after that is not wanted.
    end: Option<u64>,
}

impl Reader {
    /// Opens the log at `path`, which need not exist yet.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(path: &Path, selection: &Selection) -> Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            files: Vec::new(),
            current: None,
            newest: None,
            line: Vec::new(),
            since: selection.since,
            until: selection.until,
            end: None,
        };
        let mut wanted = match selection.tail {
            Tail::All => u64::MAX,
            Tail::Last(count) => count,
        };
        let files = files::newer_than(path, None)?;
        reader.newest = files.first().map(|(_, inode)| *inode);
        for (file, _) in files {
            let (start, found) =
                place(&file, wanted, selection.since).map_err(|e| failed(path, "search", e))?;
            reader.files.push((file, start));
            wanted = wanted.saturating_sub(found);
            if wanted == 0 || start > 0 {
                break;
            }
        }
        Ok(reader)
    }

    /// The same, but what is written from now on does not belong to it: a log can grow as fast as it is read.
    ///
    /// # Errors
    /// When the newest file's length cannot be read.
    pub fn up_to_now(mut self) -> Result<Self> {
        let length = |(file, _): &(File, u64)| file.metadata().map(|metadata| metadata.len());
        let end = self.files.first().map_or(Ok(0), length);
        self.end = Some(end.map_err(|source| failed(&self.path, "measure", source))?);
        Ok(self)
    }

    /// The next entry, or nothing when all that is written so far was read, or the end of the selection reached.
    ///
    /// # Errors
    /// When a file cannot be read. Damaged lines are skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(file) = &mut self.current else { return Ok(None) };
            let room = (limits::LINE + 1).saturating_sub(self.line.len()) as u64;
            let read = file.by_ref().take(room).read_until(b'\n', &mut self.line);
            read.map_err(|source| failed(&self.path, "read", source))?;
            if self.line.last() == Some(&b'\n') || self.line.len() > limits::LINE {
                let entry = Entry::parse(&self.line);
                self.line.clear();
                match entry {
                    Some(entry) if self.until.is_some_and(|until| entry.time > until) => return Ok(None),
                    // Written after the reader began, and before what is wanted.
                    Some(entry) if self.since.is_some_and(|since| entry.time < since) => {}
                    Some(entry) => return Ok(Some(entry)),
                    None => {}
                }
            } else if self.files.is_empty() && (self.end.is_some() || !self.was_rotated()?) {
                return Ok(None);
            } else {
                // An older file ends here for ever.
                self.line.clear();
                self.current = None;
            }
        }
    }

    fn open_next(&mut self) -> Result<bool> {
        if self.files.is_empty() && (self.end.is_some() || !self.was_rotated()?) {
            return Ok(false);
        }
        let Some((mut file, start)) = self.files.pop() else { return Ok(false) };
        file.seek(SeekFrom::Start(start)).map_err(|source| failed(&self.path, "seek", source))?;
        // The last of them is the newest.
        let end = self.end.filter(|_| self.files.is_empty());
        let length = end.map_or(u64::MAX, |end| end.saturating_sub(start));
        self.current = Some(BufReader::new(file.take(length)));
        Ok(true)
    }

    /// Whether the file that is being read is no longer the newest. All that came after it are taken up, however many.
    fn was_rotated(&mut self) -> Result<bool> {
        let files = files::newer_than(&self.path, self.newest)?;
        self.newest = files.first().map(|(_, inode)| *inode).or(self.newest);
        self.files = files.into_iter().map(|(file, _)| (file, 0)).collect();
        Ok(!self.files.is_empty())
    }
}

/// Where to begin in a file, and how many of the wanted lines it has.
fn place(file: &File, wanted: u64, since: Option<OffsetDateTime>) -> std::io::Result<(u64, u64)> {
    let (mut start, found) = if wanted == u64::MAX { (0, 0) } else { search::last_lines(file, wanted)? };
    if let Some(since) = since {
        start = start.max(search::first_since(file, since)?);
    }
    Ok((start, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Stream, Writer};

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn all(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| String::from_utf8(entry.bytes).unwrap().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn what_is_written_while_it_is_read_belongs_to_what_follows_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 200, files: 9 }).unwrap();
        writer.append(Stream::Stdout, at(0), b"one\ntwo\n").unwrap();
        let texts = |mut reader: Reader| {
            let mut texts = Vec::new();
            while let Some(entry) = reader.next_entry().unwrap() {
                texts.push(String::from_utf8(entry.bytes).unwrap());
            }
            texts
        };
        let open = || Reader::open(&path, &Selection::default()).unwrap();
        let (bounded, following) = (open().up_to_now().unwrap(), open());
        // Enough for a rotation as well.
        for number in 0..5 {
            writer.append(Stream::Stdout, at(1), format!("later {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(texts(bounded), ["one\n", "two\n"]);
        assert_eq!(texts(following).len(), 7);
    }

    #[test]
    fn the_last_lines_since_and_until_are_selected_across_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 300, files: 10 }).unwrap();
        for number in 0..20 {
            writer.append(Stream::Stdout, at(number), format!("{number}\n").as_bytes()).unwrap();
        }
        let select = |selection: Selection| all(&mut Reader::open(&path, &selection).unwrap());
        let numbers = |range: std::ops::Range<u32>| range.map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(select(Selection::default()), numbers(0..20));
        assert_eq!(select(Selection { tail: Tail::Last(7), ..Selection::default() }), numbers(13..20));
        assert_eq!(select(Selection { tail: Tail::Last(0), ..Selection::default() }), numbers(0..0));
        assert_eq!(select(Selection { since: Some(at(5)), ..Selection::default() }), numbers(5..20));
        let window = Selection { since: Some(at(5)), until: Some(at(8)), tail: Tail::All };
        assert_eq!(select(window), numbers(5..9));
        let ahead = Selection { since: Some(at(22)), ..Selection::default() };
        let mut reader = Reader::open(&path, &ahead).unwrap();
        for number in 20..24 {
            writer.append(Stream::Stdout, at(number), format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(all(&mut reader), numbers(22..24));
    }

    #[test]
    fn a_reader_at_the_end_goes_on_with_what_is_written_later_even_after_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut reader = Reader::open(&path, &Selection::default()).unwrap();
        assert_eq!(all(&mut reader), [""; 0]);
        let mut writer = Writer::open(&path, Limits { size: 200, files: 10 }).unwrap();
        let mut seen = Vec::new();
        for number in 0..30 {
            writer.append(Stream::Stdout, at(number), format!("{number}\n").as_bytes()).unwrap();
            if number % 7 == 0 {
                seen.extend(all(&mut reader));
            }
        }
        seen.extend(all(&mut reader));
        assert_eq!(seen, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    /// Bytes that this thread has read from files so far (proc_pid_io(5)).
    fn bytes_read() -> u64 {
        let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    #[test]
    fn the_last_lines_of_a_log_sixteen_times_as_large_cost_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let cost = |lines: i64, selection: Selection| {
            let path = dir.path().join(lines.to_string());
            let mut writer = Writer::open(&path, Limits { size: 0, files: 1 }).unwrap();
            for number in 0..lines {
                writer.append(Stream::Stdout, at(number), format!("{number:100}\n").as_bytes()).unwrap();
            }
            let before = bytes_read();
            let found = all(&mut Reader::open(&path, &selection).unwrap()).len();
            assert_eq!(found, 10);
            std::fs::remove_file(&path).unwrap();
            bytes_read() - before
        };
        let (small, large) = (5_000, 80_000);
        let tail = Selection { tail: Tail::Last(10), ..Selection::default() };
        // The counters' own text counts, and has more digits.
        let own = 1000;
        let (few, many) = (cost(small, tail), cost(large, tail));
        assert!(many <= few + own, "{few} and {many} bytes");
        let since = |lines| Selection { since: Some(at(lines - 10)), ..Selection::default() };
        let halvings = 4;
        // To look at a line is to read past the one before it.
        let look = 2 * limits::LINE as u64;
        let (few, many) = (cost(small, since(small)), cost(large, since(large)));
        assert!(many <= few + (halvings + 1) * look + own, "{few} and {many} bytes");
    }
}
