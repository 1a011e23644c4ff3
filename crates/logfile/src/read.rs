//! Reading the log: from a point in time or the last lines on, across rotations, to the end and further.

use crate::entry::Entry;
use crate::{Result, failed, files, limits, search};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
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

/// A place between two entries of a log: what is before it was written when something else happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The inode number of the file that was the newest.
    pub file: u64,
    /// How long it was, in bytes.
    pub length: u64,
    /// When that was.
    pub time: OffsetDateTime,
}

/// Reads entries in order. At the end of what is written it returns nothing, and goes on when called again later.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Files still to be read, newest first.
    files: Vec<Part>,
    current: Option<Current>,
    /// Identifies the newest file that was opened. Nobody else gets its number while it is held open.
    newest: Option<u64>,
    line: Vec<u8>,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    end: End,
}

/// A file that is to be read, and where to begin in it.
#[derive(Debug)]
struct Part {
    file: File,
    inode: u64,
    start: u64,
}

impl Part {
    /// Whether a place is in this file, and not in one that is gone and had the same inode number.
    fn holds(&self, place: &Place) -> std::io::Result<bool> {
        if self.inode != place.file {
            return Ok(false);
        }
        let began = search::first_time(&self.file)?;
        Ok(began.is_none_or(|began| began <= place.time))
    }
}

/// The file that is being read.
#[derive(Debug)]
struct Current {
    file: BufReader<File>,
    inode: u64,
    /// Where the next line begins, in bytes.
    at: u64,
}

/// What is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Whatever comes is wanted.
    Open,
    /// What begins from here on.
    At(Place),
    /// Anything.
    Reached,
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
            end: End::Open,
        };
        let mut wanted = match selection.tail {
            Tail::All => u64::MAX,
            Tail::Last(count) => count,
        };
        let files = files::newer_than(path, None)?;
        reader.newest = files.first().map(|(_, inode)| *inode);
        for (file, inode) in files {
            let (start, found) =
                place(&file, wanted, selection.since).map_err(|e| failed(path, "search", e))?;
            reader.files.push(Part { file, inode, start });
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
    /// As [`Self::end_now`].
    pub fn up_to_now(mut self) -> Result<Self> {
        self.end_now()?;
        Ok(self)
    }

    /// What is written from now on does not belong to it; what was written since an earlier end does.
    ///
    /// # Errors
    /// When the newest file's length cannot be read.
    pub fn end_now(&mut self) -> Result<()> {
        self.take_up()?;
        let newest = match (self.files.first(), &self.current) {
            (Some(part), _) => Some((&part.file, part.inode)),
            (None, Some(current)) => Some((current.file.get_ref(), current.inode)),
            (None, None) => None,
        };
        self.end = match newest {
            Some((file, inode)) => {
                let metadata = file.metadata().map_err(|source| failed(&self.path, "measure", source))?;
                End::At(Place { file: inode, length: metadata.len(), time: OffsetDateTime::now_utc() })
            }
            None => End::Reached,
        };
        Ok(())
    }

    /// It ends at a place that is not before the one it ended at so far.
    pub fn end_at(&mut self, place: Place) {
        self.end = End::At(place);
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
            let Some(current) = self.current.as_mut().filter(|current| !self.end.is_before(current)) else {
                return Ok(None);
            };
            let room = (limits::LINE + 1).saturating_sub(self.line.len()) as u64;
            let read = current.file.by_ref().take(room).read_until(b'\n', &mut self.line);
            read.map_err(|source| failed(&self.path, "read", source))?;
            if self.line.last() == Some(&b'\n') || self.line.len() > limits::LINE {
                current.at += self.line.len() as u64;
                let entry = Entry::parse(&self.line);
                self.line.clear();
                match entry {
                    Some(entry) if self.until.is_some_and(|until| entry.time > until) => return Ok(None),
                    // Written after the reader began, and before what is wanted.
                    Some(entry) if self.since.is_some_and(|since| entry.time < since) => {}
                    Some(entry) => return Ok(Some(entry)),
                    None => {}
                }
            } else if self.files.is_empty() && !self.was_rotated()? {
                return Ok(None);
            } else {
                // An older file ends here for ever.
                self.line.clear();
                self.current = None;
            }
        }
    }

    fn open_next(&mut self) -> Result<bool> {
        if self.files.is_empty() && !self.was_rotated()? {
            return Ok(false);
        }
        let Some(Part { mut file, inode, start }) = self.files.pop() else { return Ok(false) };
        file.seek(SeekFrom::Start(start)).map_err(|source| failed(&self.path, "seek", source))?;
        self.current = Some(Current { file: BufReader::new(file), inode, at: start });
        Ok(true)
    }

    /// Whether the file that is being read, if any, is no longer the newest, and those that came after it are wanted.
    fn was_rotated(&mut self) -> Result<bool> {
        let is_last = |current: &Current| matches!(self.end, End::At(end) if end.file == current.inode);
        if self.end == End::Reached || self.current.as_ref().is_some_and(is_last) {
            return Ok(false);
        }
        self.take_up()?;
        if let End::At(end) = self.end {
            let mut is_there = false;
            for part in &self.files {
                is_there |= part.holds(&end).map_err(|source| failed(&self.path, "search", source))?;
            }
            if !is_there {
                // So much was written meanwhile that what was to be read last is not kept any more.
                self.end = End::Reached;
                return Ok(false);
            }
        }
        Ok(!self.files.is_empty())
    }

    /// Takes up all files that came after the newest that is known, however many.
    fn take_up(&mut self) -> Result<()> {
        let newer = files::newer_than(&self.path, self.newest)?;
        self.newest = newer.first().map(|(_, inode)| *inode).or(self.newest);
        self.files.splice(0..0, newer.into_iter().map(|(file, inode)| Part { file, inode, start: 0 }));
        Ok(())
    }
}

impl End {
    /// Whether the next line of a file is not wanted.
    fn is_before(self, current: &Current) -> bool {
        match self {
            Self::Open => false,
            Self::At(end) => end.file == current.inode && current.at >= end.length,
            Self::Reached => true,
        }
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
    fn an_end_is_moved_to_a_place_that_the_writer_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 300, files: 9 }).unwrap();
        let mut reader = Reader::open(&path, &Selection::default()).unwrap().up_to_now().unwrap();
        let mut seen = Vec::new();
        let mut write = |numbers: std::ops::Range<i64>| {
            for number in numbers {
                writer.append(Stream::Stdout, at(number), format!("{number}\n").as_bytes()).unwrap();
            }
            writer.append(Stream::Stderr, at(0), b"half").unwrap();
            assert!(writer.partial(Stream::Stderr).ends_with(b"half"));
            writer.place(at(200)).unwrap()
        };
        // In the file that is read, in one that came after several others, and twice in the same place.
        for (first, last) in [(0, 2), (2, 3), (3, 20), (20, 20)] {
            let place = write(first..last);
            write(100..103);
            reader.end_at(place);
            seen.extend(all(&mut reader));
            assert_eq!(all(&mut reader), [""; 0], "what comes after it is not wanted");
            let later = write(103..104);
            reader.end_at(later);
            assert_eq!(all(&mut reader), ["100", "101", "102", "103"]);
        }
        assert_eq!(seen, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        reader.end_now().unwrap();
        write(104..105);
        assert_eq!(all(&mut reader), [""; 0]);
        reader.end_now().unwrap();
        assert_eq!(all(&mut reader), ["104"]);
    }

    #[test]
    fn an_end_that_is_not_kept_any_more_doubles_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 200, files: 2 }).unwrap();
        writer.append(Stream::Stdout, at(0), b"first\n").unwrap();
        let mut reader = Reader::open(&path, &Selection::default()).unwrap().up_to_now().unwrap();
        assert_eq!(all(&mut reader), ["first"]);
        writer.append(Stream::Stdout, at(0), b"second\nthird\nfourth\n").unwrap();
        let place = writer.place(at(1)).unwrap();
        for number in 2..22 {
            writer.append(Stream::Stdout, at(number), format!("{number}\n").as_bytes()).unwrap();
        }
        reader.end_at(place);
        let rest = all(&mut reader);
        assert!(rest.iter().all(|line| ["second", "third", "fourth"].contains(&line.as_str())), "{rest:?}");
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
