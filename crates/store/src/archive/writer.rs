//! The writer: entries become ustar headers, with extended headers where those have no room. The same entries always
//! give the same bytes, since a layer's name is their digest.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::{BLOCK, Entry, Kind, Time, pax};
use crate::limits;

/// Largest number of an eight-byte field: seven octal digits.
const SMALL: u64 = 0o7_777_777;
/// Largest number of a twelve-byte field: eleven octal digits.
const LARGE: u64 = 0o77_777_777_777;
/// Name of extended headers, which readers ignore.
const PAX_NAME: &[u8] = b"PaxHeaders.0";

/// Writes an archive.
pub(crate) struct Writer<W> {
    output: W,
    written: u64,
    /// What content is copied through.
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, written: 0, buffer: Vec::new() }
    }

    /// Writes the header of an entry. The content of a file follows by [`Writer::content`].
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let mut records = Vec::new();
        let mut header = Header::new_ustar();
        header.set_entry_type(entry_type(&entry.kind));
        header.set_mode(entry.mode & 0o7777);
        set_text(&mut header.as_old_mut().name, &entry.path, "path", &mut records);
        let target = match &entry.kind {
            Kind::Symlink { target } | Kind::HardLink { target } => target.as_slice(),
            _ => &[],
        };
        set_text(&mut header.as_old_mut().linkname, target, "linkpath", &mut records);
        header.set_uid(number(entry.uid.into(), SMALL, "uid", &mut records));
        header.set_gid(number(entry.gid.into(), SMALL, "gid", &mut records));
        let size = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
        header.set_size(number(size, LARGE, "size", &mut records));
        header.set_mtime(time(entry.mtime, &mut records));
        set_device(&mut header, &entry.kind)?;
        for (name, value) in &entry.xattrs {
            pax::append(&mut records, &[pax::XATTR, name].concat(), value);
        }
        self.extension(&records)?;
        header.set_cksum();
        self.write(header.as_bytes())
    }

    /// Writes exactly `size` bytes of content: what `input` has, cut off or filled with zeros where a file changed its
    /// length meanwhile.
    pub(crate) fn content(&mut self, input: &mut dyn Read, size: u64) -> io::Result<()> {
        let copied = self.copy(&mut input.take(size))?;
        io::copy(&mut io::repeat(0).take(size - copied), &mut self.output)?;
        self.written += size;
        self.pad(size)
    }

    fn copy(&mut self, input: &mut impl Read) -> io::Result<u64> {
        self.buffer.resize(limits::CHUNK, 0);
        let mut copied = 0;
        loop {
            match input.read(&mut self.buffer) {
                Ok(0) => return Ok(copied),
                Ok(count) => {
                    self.output.write_all(&self.buffer[..count])?;
                    copied += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Has `write` write content that the caller knows to be `size` bytes.
    pub(crate) fn content_by(
        &mut self,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> crate::Result<()>,
    ) -> crate::Result<()> {
        let mut counted = Counted { output: &mut self.output, count: 0 };
        write(&mut counted)?;
        let failed = |source| crate::Error::Write { what: "the archive", source };
        if counted.count != size {
            return Err(failed(io::Error::other("the content does not have its recorded size")));
        }
        self.written += size;
        self.pad(size).map_err(failed)
    }

    /// Ends the archive; returns its size in bytes.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.write(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.written)
    }

    fn extension(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.as_old_mut().name[..PAX_NAME.len()].copy_from_slice(PAX_NAME);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.write(records)?;
        self.pad(records.len() as u64)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).expect("below the size of a block");
        self.write(&[0; BLOCK][..padding])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.output.write_all(bytes)
    }
}

struct Counted<W> {
    output: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn entry_type(kind: &Kind) -> EntryType {
    match kind {
        Kind::File { .. } => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink { .. } => EntryType::Symlink,
        Kind::HardLink { .. } => EntryType::Link,
        Kind::Fifo => EntryType::Fifo,
        Kind::CharDevice { .. } => EntryType::Char,
        Kind::BlockDevice { .. } => EntryType::Block,
    }
}

/// Puts a text into its field; one that is too long into a record as well.
fn set_text(field: &mut [u8; 100], text: &[u8], key: &str, records: &mut Vec<u8>) {
    let kept = text.len().min(field.len());
    field[..kept].copy_from_slice(&text[..kept]);
    if kept < text.len() {
        pax::append(records, key.as_bytes(), text);
    }
}

/// The number for its field: 0 when it only fits into a record.
fn number(value: u64, largest: u64, key: &str, records: &mut Vec<u8>) -> u64 {
    if value <= largest {
        return value;
    }
    pax::append(records, key.as_bytes(), value.to_string().as_bytes());
    0
}

/// The whole seconds for their field; fractions and what has no room become a record.
fn time(time: Time, records: &mut Vec<u8>) -> u64 {
    let field = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= LARGE);
    if field.is_none() || time.nanoseconds > 0 {
        pax::append(records, b"mtime", decimal(time).as_bytes());
    }
    field.unwrap_or(0)
}

fn decimal(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (false, nanoseconds) => ("", time.seconds.unsigned_abs(), nanoseconds),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, nanoseconds) => ("-", time.seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
    };
    if nanoseconds == 0 { format!("{sign}{seconds}") } else { format!("{sign}{seconds}.{nanoseconds:09}") }
}

fn set_device(header: &mut Header, kind: &Kind) -> io::Result<()> {
    let (major, minor) = match kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (*major, *minor),
        _ => (0, 0),
    };
    header.set_device_major(major)?;
    header.set_device_minor(minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Reader;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        let target = || proptest::collection::vec(1..=255_u8, 1..200);
        prop_oneof![
            (0..2000_u64).prop_map(|size| Kind::File { size, segments: None }),
            Just(Kind::Directory),
            Just(Kind::Fifo),
            target().prop_map(|target| Kind::Symlink { target }),
            target().prop_map(|target| Kind::HardLink { target }),
            (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
            (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        ]
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let path = "[a-zé]{1,60}(/[a-z]{1,60}){0,3}".prop_map(String::into_bytes);
        let xattrs = proptest::collection::btree_map(
            "user\\.[a-z]{1,9}",
            proptest::collection::vec(any::<u8>(), 0..99),
            0..3,
        );
        let owner = || prop_oneof![0..70_000_u32, Just(u32::MAX - 1)];
        let mtime = (-3_000_000_000_i64..1 << 40, prop_oneof![Just(0), 0..1_000_000_000_u32]);
        (path, kinds(), 0..0o10000_u32, owner(), owner(), mtime, xattrs).prop_map(
            |(path, kind, mode, uid, gid, (seconds, nanoseconds), xattrs)| Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime: Time { seconds, nanoseconds },
                xattrs: xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_read_back(entries in proptest::collection::vec(entries(), 0..8)) {
            let mut archive = Vec::new();
            let mut writer = Writer::new(&mut archive);
            for entry in &entries {
                writer.entry(entry).unwrap();
                if let Kind::File { size, .. } = entry.kind {
                    writer.content(&mut io::repeat(7), size).unwrap();
                }
            }
            let size = writer.finish().unwrap();
            prop_assert_eq!(size, archive.len() as u64);
            let mut reader = Reader::new(archive.as_slice());
            for entry in &entries {
                prop_assert_eq!(&reader.next_entry().unwrap().unwrap(), entry);
            }
            prop_assert!(reader.next_entry().unwrap().is_none());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(content in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut reader = Reader::new(content.as_slice());
            while let Ok(Some(_)) = reader.next_entry() {}
        }
    }
}
