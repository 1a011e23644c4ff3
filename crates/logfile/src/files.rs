//! The files of a log, seen whole while they are renamed.

use crate::{Result, failed, limits};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file that was current `age` rotations ago.
pub(crate) fn rotated(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    path.with_added_extension(age.to_string())
}

/// A file of the log, and its inode number.
pub(crate) type Numbered = (File, u64);

/// The files that came after the one with this inode number, or all; newest first.
///
/// # Errors
/// When one cannot be opened.
pub(crate) fn newer_than(path: &Path, known: Option<u64>) -> Result<Vec<Numbered>> {
    for _ in 0..limits::LISTINGS {
        let listing = list(path, known)?;
        if !listing.has_gap && listing.is_still(path) {
            return Ok(listing.files);
        }
        // A rotation takes microseconds, and the next is as far away as it takes to fill a file.
        std::thread::yield_now();
    }
    // What stays so is no rotation: one was cut off, or somebody has removed a file.
    Ok(list(path, known)?.files)
}

struct Listing {
    files: Vec<Numbered>,
    /// Whether one was missing, as while a rotation moves one after the other.
    has_gap: bool,
}

impl Listing {
    /// Whether nothing was rotated since the first was opened: otherwise one may be there twice.
    fn is_still(&self, path: &Path) -> bool {
        let first = self.files.first().map(|(_, inode)| *inode);
        self.files.is_empty() || std::fs::metadata(path).is_ok_and(|now| Some(now.ino()) == first)
    }
}

/// Opens one after the other.
fn list(path: &Path, known: Option<u64>) -> Result<Listing> {
    let mut listing = Listing { files: Vec::new(), has_gap: false };
    for age in 0..limits::FILES {
        match open(&rotated(path, age))? {
            Some((_, inode)) if Some(inode) == known => break,
            // A rotation begins with the oldest: it has moved this one here meanwhile.
            Some((_, inode)) if listing.files.last().is_some_and(|(_, last)| *last == inode) => {}
            Some(file) => listing.files.push(file),
            None if rotated(path, age + 1).exists() => listing.has_gap = true,
            None => break,
        }
    }
    Ok(listing)
}

fn open(path: &Path) -> Result<Option<Numbered>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(path, "open", source)),
    };
    let inode = file.metadata().map_err(|source| failed(path, "inspect", source))?.ino();
    Ok(Some((file, inode)))
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Reader, Selection, Stream, Writer};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use time::OffsetDateTime;

    fn read(reader: &mut Reader) -> Vec<usize> {
        std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| String::from_utf8(entry.bytes).unwrap().trim_end().parse().unwrap())
            .collect()
    }

    fn write(path: &Path, numbers: std::ops::Range<usize>) {
        let mut writer = Writer::open(path, Limits { size: 300, files: 1000 }).unwrap();
        for number in numbers {
            let line = format!("{number}\n");
            writer.append(Stream::Stdout, OffsetDateTime::UNIX_EPOCH, line.as_bytes()).unwrap();
        }
    }

    #[test]
    fn no_reader_misses_or_doubles_a_line_while_files_are_rotated() {
        const LINES: usize = 700;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                write(&path, 0..LINES);
                done.store(true, Ordering::Release);
            });
            let mut follower = Reader::open(&path, &Selection::default()).unwrap();
            let mut followed = Vec::new();
            while !done.load(Ordering::Acquire) {
                followed.extend(read(&mut follower));
                let found = read(&mut Reader::open(&path, &Selection::default()).unwrap());
                let wrong = found.iter().enumerate().find(|(at, number)| at != *number);
                assert_eq!(wrong, None, "of {}", found.len());
            }
            followed.extend(read(&mut follower));
            assert_eq!(followed, (0..LINES).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_missing_file_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write(&path, 0..100);
        let all = read(&mut Reader::open(&path, &Selection::default()).unwrap());
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        std::fs::remove_file(super::rotated(&path, 2)).unwrap();
        let rest = read(&mut Reader::open(&path, &Selection::default()).unwrap());
        assert_eq!((rest.first(), rest.last()), (Some(&0), Some(&99)));
        assert!(rest.len() < 100);
    }
}
