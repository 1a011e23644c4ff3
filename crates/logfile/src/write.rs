//! Writing the log: lines put together, files rotated by size.

use crate::entry::{Stream, format_time, write_line};
use crate::{Error, Result, limits, rotated};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Write;
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
    /// Output that has not ended with a newline yet, of each stream.
    partial: [Vec<u8>; 2],
    batch: Vec<u8>,
}

impl Writer {
    /// Opens or makes the log at `path`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        let file = open(path)?;
        let size = file.metadata().map_err(|source| failed(path, "find its size", source))?.len();
        Ok(Self {
            path: path.to_owned(),
            limits,
            file,
            size,
            partial: [Vec::new(), Vec::new()],
            batch: Vec::new(),
        })
    }

    /// Takes `bytes` as they came from the container at `now`. Whole lines are written before this returns.
    ///
    /// # Errors
    /// When the file system is full or broken; what was not written is dropped.
    pub fn append(&mut self, stream: Stream, now: OffsetDateTime, bytes: &[u8]) -> Result<()> {
        let time = format_time(now);
        let mut partial = std::mem::take(&mut self.partial[stream as usize]);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            while partial.len() > limits::PIECE {
                let rest = partial.split_off(limits::PIECE);
                write_line(&mut self.batch, stream, &time, &partial);
                partial = rest;
            }
            if partial.last() == Some(&b'\n') {
                write_line(&mut self.batch, stream, &time, &partial);
                partial.clear();
            }
        }
        self.partial[stream as usize] = partial;
        self.write_batch()
    }

    /// Writes what has not ended with a newline, when no more will come.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn finish(&mut self, now: OffsetDateTime) -> Result<()> {
        let time = format_time(now);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() {
                write_line(&mut self.batch, stream, &time, &partial);
            }
        }
        self.write_batch()
    }

    fn write_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let room = self.room();
            let end = whole_lines(rest, room);
            self.file.write_all(&rest[..end]).map_err(|source| failed(&self.path, "append", source))?;
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

    /// Moves every file one number up; the oldest falls off.
    fn rotate(&mut self) -> Result<()> {
        for age in (1..self.limits.files.clamp(1, limits::FILES)).rev() {
            let (from, to) = (rotated(&self.path, age - 1), rotated(&self.path, age));
            match std::fs::rename(&from, &to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(&from, "rotate", error));
                }
                _ => {}
            }
        }
        if self.limits.files <= 1 {
            // Readers of the old file keep it; those that come see the new one.
            std::fs::remove_file(&self.path).map_err(|source| failed(&self.path, "remove", source))?;
        }
        self.file = open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// How many bytes of `lines` fit into `room`, in whole lines, but at least one line.
fn whole_lines(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    let newline = |part: &[u8]| part.iter().rposition(|byte| *byte == b'\n');
    newline(&lines[..room])
        .or_else(|| lines.iter().position(|byte| *byte == b'\n'))
        .map_or(lines.len(), |at| at + 1)
}

fn open(path: &Path) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))
        .map(File::from)
        .map_err(|error| failed(path, "open", error.into()))
}

fn failed(path: &Path, action: &'static str, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), action, source }
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
