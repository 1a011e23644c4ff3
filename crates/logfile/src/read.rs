//! Reading the log: from a point in time or the last lines on, across rotations, to the end and further.

use crate::entry::Entry;
use crate::{Error, Result, limits, rotated, search};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
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
    /// Files still to be read, newest first; the last one is read now.
    files: Vec<(File, u64)>,
    current: Option<BufReader<File>>,
    /// Identifies the newest file that was opened.
    newest: Option<u64>,
    line: Vec<u8>,
    until: Option<OffsetDateTime>,
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
            until: selection.until,
        };
        let mut wanted = match selection.tail {
            Tail::All => u64::MAX,
            Tail::Last(count) => count,
        };
        for age in 0..limits::FILES {
            let name = rotated(path, age);
            let file = match File::open(&name) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(source) => return Err(failed(&name, "open", source)),
            };
            if age == 0 {
                reader.newest = Some(file.metadata().map_err(|e| failed(&name, "inspect", e))?.ino());
            }
            let (start, found) =
                place(&file, wanted, selection.since).map_err(|e| failed(&name, "search", e))?;
            reader.files.push((file, start));
            wanted = wanted.saturating_sub(found);
            if wanted == 0 || start > 0 {
                break;
            }
        }
        Ok(reader)
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
        let (mut file, start) = match self.files.pop() {
            Some(next) => next,
            None => match File::open(&self.path) {
                Ok(file) => (file, 0),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(source) => return Err(failed(&self.path, "open", source)),
            },
        };
        if self.files.is_empty() {
            self.newest = Some(file.metadata().map_err(|e| failed(&self.path, "inspect", e))?.ino());
        }
        file.seek(SeekFrom::Start(start)).map_err(|source| failed(&self.path, "seek", source))?;
        self.current = Some(BufReader::new(file));
        Ok(true)
    }

    /// Whether the file that is being read is no longer the current one. Files between the two, after several
    /// rotations at once, are taken up too.
    fn was_rotated(&mut self) -> Result<bool> {
        for age in 0..limits::FILES {
            let name = rotated(&self.path, age);
            let file = match File::open(&name) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(source) => return Err(failed(&name, "open", source)),
            };
            let inode = file.metadata().map_err(|e| failed(&name, "inspect", e))?.ino();
            if Some(inode) == self.newest {
                break;
            }
            self.files.push((file, 0));
        }
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

fn failed(path: &Path, action: &'static str, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), action, source }
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
}
