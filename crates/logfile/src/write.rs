//! Writing the log: lines put together, files rotated by size.

use crate::entry::{Stream, line_end, write_line};
use crate::files::rotated;
use crate::read::Place;
use crate::{Error, Result, failed, limits};
use memchr::{memchr, memrchr};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size at which a file is rotated, in bytes; never if 0.
    pub size: u64,
    /// Most files, the current one included; at least 1.
    pub files: u32,
}

/// Appends to a log. There is one writer of a log at a time.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    limits: Limits,
    file: File,
    size: u64,
    /// What stands in every line.
    attributes: String,
    /// Output that has not ended with a newline yet, of each stream.
    partial: [Vec<u8>; 2],
    batch: Vec<u8>,
}

impl Writer {
    /// Opens or makes the log at `path`. Files that are too many, as more were allowed when it was written last, go.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        let file = open(path)?;
        remove_old(path, limits.files)?;
        let size = file.metadata().map_err(|source| failed(path, "find its size", source))?.len();
        Ok(Self {
            path: path.to_owned(),
            limits,
            file,
            size,
            attributes: String::new(),
            partial: [Vec::new(), Vec::new()],
            batch: Vec::new(),
        })
    }

    /// Marks every line with `attributes`, a JSON document of at most [`crate::ATTRIBUTES`] bytes, or with nothing if it is
    /// empty.
    #[must_use]
    pub fn marking(self, attributes: &str) -> Self {
        Self { attributes: attributes.to_owned(), ..self }
    }

    /// Takes `bytes` as they came from the container at `now`. Whole lines are written before this returns.
    ///
    /// # Errors
    /// When the file system is full or broken; what was not written is dropped.
    pub fn append(&mut self, stream: Stream, now: OffsetDateTime, bytes: &[u8]) -> Result<()> {
        let end = line_end(stream, &self.attributes, now);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
            rest = others;
            self.take(stream, piece, &end);
            if self.batch.len() >= limits::BATCH {
                self.write_batch()?;
            }
        }
        self.write_batch()
    }

    /// Adds a line, or a part of one, to its stream. What is whole goes to the batch.
    fn take(&mut self, stream: Stream, mut piece: &[u8], end: &str) {
        let partial = &mut self.partial[stream as usize];
        while partial.len() + piece.len() > limits::PIECE {
            let (first, rest) = piece.split_at(limits::PIECE - partial.len());
            partial.extend_from_slice(first);
            write_line(&mut self.batch, partial, end);
            partial.clear();
            piece = rest;
        }
        match (partial.is_empty(), piece.ends_with(b"\n")) {
            // The usual case is not copied.
            (true, true) => write_line(&mut self.batch, piece, end),
            (_, ended) => {
                partial.extend_from_slice(piece);
                if ended {
                    write_line(&mut self.batch, partial, end);
                    partial.clear();
                }
            }
        }
    }

    /// Writes what has not ended with a newline, when no more will come.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn finish(&mut self, now: OffsetDateTime) -> Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() {
                write_line(&mut self.batch, &partial, &line_end(stream, &self.attributes, now));
            }
        }
        self.write_batch()
    }

    /// Where the next entry will be, which comes after `now`.
    ///
    /// # Errors
    /// When the file cannot be asked which it is.
    pub fn place(&self, now: OffsetDateTime) -> Result<Place> {
        let metadata = self.file.metadata().map_err(|source| failed(&self.path, "inspect", source))?;
        Ok(Place { file: metadata.ino(), length: self.size, time: now })
    }

    /// What has come of a stream since its last entry.
    pub fn partial(&self, stream: Stream) -> &[u8] {
        &self.partial[stream as usize]
    }

    /// Keeps as much from now on. Files that are too many go at once, one that is too large when it is written to.
    ///
    /// # Errors
    /// When a file cannot be removed; the bounds hold all the same.
    pub fn bound(&mut self, limits: Limits) -> Result<()> {
        self.limits = limits;
        remove_old(&self.path, limits.files)
    }

    fn write_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let room = self.room();
            let end = whole_lines(rest, room);
            if let Err(source) = self.file.write_all(&rest[..end]) {
                // The beginning of a line would take the next one with it. Nothing else can be done if that fails too.
                let _ = self.file.set_len(self.size);
                return Err(failed(&self.path, "append", source));
            }
            self.size += end as u64;
            rest = &rest[end..];
            if self.limits.size > 0 && self.size >= self.limits.size {
                self.rotate()?;
            }
        }
        self.batch = batch;
        self.batch.clear();
        Ok(())
    }

    fn room(&self) -> usize {
        match self.limits.size {
            0 => usize::MAX,
            size => usize::try_from(size.saturating_sub(self.size)).unwrap_or(usize::MAX),
        }
    }

    /// Moves every file one number up; the oldest falls off. Where there is no room for another file, nothing moves.
    fn rotate(&mut self) -> Result<()> {
        let next = self.path.with_added_extension("next");
        let file = open(&next)?;
        for age in (1..self.limits.files.clamp(1, limits::FILES)).rev() {
            match rename(&rotated(&self.path, age - 1), &rotated(&self.path, age)) {
                Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                done => done?,
            }
        }
        // Readers of an only file keep it; those that come see the new one.
        rename(&next, &self.path)?;
        self.file = file;
        self.size = 0;
        Ok(())
    }
}

/// Removes the files that are too many where there may be `files`. They follow each other without a gap.
fn remove_old(path: &Path, files: u32) -> Result<()> {
    for age in files.clamp(1, limits::FILES).. {
        let path = rotated(path, age);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(source) if source.kind() == ErrorKind::NotFound => break,
            Err(source) => return Err(failed(&path, "remove", source)),
        }
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|source| failed(from, "rotate", source))
}

/// How many bytes of `lines` fit into `room`, in whole lines, but at least one line.
fn whole_lines(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    memrchr(b'\n', &lines[..room]).or_else(|| memchr(b'\n', lines)).map_or(lines.len(), |at| at + 1)
}

fn open(path: &Path) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))
        .map(File::from)
        .map_err(|error| failed(path, "open", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reader, Selection};

    fn entries(path: &Path) -> Vec<String> {
        let mut reader = Reader::open(path, &Selection::default()).unwrap();
        std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| String::from_utf8(entry.bytes).unwrap())
            .collect()
    }

    #[test]
    fn lines_are_put_together_and_streams_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 0, files: 1 }).unwrap();
        let now = OffsetDateTime::UNIX_EPOCH;
        writer.append(Stream::Stdout, now, b"one\ntw").unwrap();
        writer.append(Stream::Stderr, now, b"error\n").unwrap();
        writer.append(Stream::Stdout, now, b"o\nthree").unwrap();
        assert_eq!(entries(&path), ["one\n", "error\n", "two\n"]);
        writer.finish(now).unwrap();
        assert_eq!(entries(&path), ["one\n", "error\n", "two\n", "three"]);
    }

    #[test]
    fn a_line_without_end_is_cut_into_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 0, files: 1 }).unwrap();
        let long = vec![b'x'; limits::PIECE * 2 + 5];
        writer.append(Stream::Stdout, OffsetDateTime::UNIX_EPOCH, &long).unwrap();
        writer.append(Stream::Stdout, OffsetDateTime::UNIX_EPOCH, b"\n").unwrap();
        let lengths: Vec<usize> = entries(&path).iter().map(String::len).collect();
        assert_eq!(lengths, [limits::PIECE, limits::PIECE, 6]);
    }

    #[test]
    fn other_bounds_hold_from_the_next_line_on_and_lose_none_of_what_they_keep() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 200, files: 5 }).unwrap();
        let now = OffsetDateTime::UNIX_EPOCH;
        let write = |writer: &mut Writer, numbers: std::ops::Range<u32>| {
            for number in numbers {
                writer.append(Stream::Stdout, now, format!("line {number:03}\n").as_bytes()).unwrap();
            }
        };
        write(&mut writer, 0..40);
        writer.append(Stream::Stdout, now, b"half").unwrap();
        writer.bound(Limits { size: 100_000, files: 2 }).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let kept = entries(&path);
        writer.append(Stream::Stdout, now, b" a line\n").unwrap();
        write(&mut writer, 40..100);
        let expected: Vec<String> = kept
            .into_iter()
            .chain(["half a line\n".to_owned()])
            .chain((40..100).map(|number| format!("line {number:03}\n")))
            .collect();
        assert_eq!(entries(&path), expected);
        writer.bound(Limits { size: 200, files: 3 }).unwrap();
        write(&mut writer, 100..103);
        assert_eq!(entries(&path).len(), expected.len() + 3, "what is there already is rotated as it is");
        write(&mut writer, 103..120);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        drop(writer);
        Writer::open(&path, Limits { size: 200, files: 1 }).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "also while nobody has written");
    }

    #[test]
    fn rotation_keeps_the_newest_lines_in_order_and_never_more_files_than_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, Limits { size: 400, files: 3 }).unwrap();
        for number in 0..40 {
            let line = format!("line {number:03}\n");
            writer.append(Stream::Stdout, OffsetDateTime::UNIX_EPOCH, line.as_bytes()).unwrap();
        }
        let kept = entries(&path);
        assert_eq!(kept.last().unwrap(), "line 039\n");
        let first: usize = kept[0][5..8].parse().unwrap();
        let expected: Vec<String> = (first..40).map(|number| format!("line {number:03}\n")).collect();
        assert_eq!(kept, expected);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
