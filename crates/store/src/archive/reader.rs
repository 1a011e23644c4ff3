//! The reader: header blocks become entries, one at a time, from a stream that cannot seek.

use std::io::{self, Read};

use tar::Header;

use super::{BLOCK, Entry, Kind, Time, number, pax, sparse};
use crate::error::{Error, Result};
use crate::limits;

/// Reads entries from a stream. After each entry its content may be read with [`Reader::read`].
pub(crate) struct Reader<R> {
    input: R,
    /// Bytes of the current entry's content still in the stream.
    data: u64,
    /// Bytes of padding behind it.
    padding: u64,
    headers: u64,
    ended: bool,
}

/// What extension headers said about the entry to come.
#[derive(Default)]
struct Pending {
    pax: Option<pax::Overrides>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, data: 0, padding: 0, headers: 0, ended: false }
    }

    /// Headers read so far; 0 at the end of an archive that holds nothing at all.
    pub(crate) fn headers(&self) -> u64 {
        self.headers
    }

    /// The next entry, skipping what is left of the current one; `None` at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip(self.data)?;
        // Docker's command leaves the end of what it sends out with the padding before it (build -f - DIRECTORY).
        self.ended |= self.discard(self.padding)? < self.padding;
        (self.data, self.padding) = (0, 0);
        let mut pending = Pending::default();
        while let Some(block) = self.header_block()? {
            let header = Header::from_byte_slice(&block);
            match header.as_old().linkflag[0] {
                b'x' => {
                    let content = self.extension(header)?;
                    once(
                        &mut pending.pax,
                        pax::parse(&content).map_err(|reason| malformed(header, reason))?,
                        header,
                    )?;
                }
                b'g' => {
                    let content = self.extension(header)?;
                    pax::check_global(&content).map_err(|reason| malformed(header, reason))?;
                }
                b'L' => once(&mut pending.long_name, until_nul(&self.extension(header)?), header)?,
                b'K' => once(&mut pending.long_link, until_nul(&self.extension(header)?), header)?,
                _ => return self.entry(header, pending).map(Some),
            }
        }
        if pending.pax.is_some() || pending.long_name.is_some() || pending.long_link.is_some() {
            return Err(Error::archive(b"", "the archive ends behind an extension header"));
        }
        Ok(None)
    }

    /// Reads content of the current entry; 0 at its end. Holes of sparse files are not part of it.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.data).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = retry(|| self.input.read(&mut buffer[..wanted])).map_err(stream)?;
        if count == 0 {
            return Err(truncated());
        }
        self.data -= count as u64;
        Ok(count)
    }

    /// The next header block; `None` at the end, which is two blocks of zeros or, as many writers leave it, of nothing.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        self.headers += 1;
        if self.headers > limits::ENTRIES {
            return Err(Error::TooLarge { what: "number of entries of an archive", limit: limits::ENTRIES });
        }
        if block.iter().any(|byte| *byte != 0) {
            check_sum(&block)?;
            return Ok(Some(block));
        }
        self.ended = true;
        match self.block()? {
            Some(second) if second.iter().any(|byte| *byte != 0) => {
                Err(Error::archive(b"", "one block of zeros stands between entries"))
            }
            _ => Ok(None),
        }
    }

    /// A whole block; `None` when the stream ends in front of it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match retry(|| self.input.read(&mut block[filled..])).map_err(stream)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(truncated()),
                count => filled += count,
            }
        }
        Ok(Some(block))
    }

    /// The content of an extension header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header_size(header)?;
        if size > limits::PAX {
            return Err(Error::TooLarge {
                what: "extension header of an archive, in bytes",
                limit: limits::PAX,
            });
        }
        self.begin(size);
        let mut content = Vec::new();
        let mut chunk = [0; BLOCK];
        loop {
            match self.read(&mut chunk)? {
                0 => break,
                count => content.extend_from_slice(&chunk[..count]),
            }
        }
        self.skip(self.padding)?;
        self.padding = 0;
        Ok(content)
    }

    fn begin(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        if self.discard(count)? == count { Ok(()) } else { Err(truncated()) }
    }

    /// Reads as much to no purpose. Returns how much there was.
    fn discard(&mut self, count: u64) -> Result<u64> {
        io::copy(&mut self.input.by_ref().take(count), &mut io::sink()).map_err(stream)
    }

    fn entry(&mut self, header: &Header, pending: Pending) -> Result<Entry> {
        let pax = pending.pax.unwrap_or_default();
        let own_path = pending.long_name.unwrap_or_else(|| header.path_bytes().into_owned());
        let sparse_name = pax.sparse.as_ref().and_then(|sparse| sparse.name.clone());
        let path = sparse_name.or(pax.path.clone()).unwrap_or(own_path);
        let link = || {
            let own = || header.link_name_bytes().unwrap_or_default().into_owned();
            pax.link.clone().or(pending.long_link.clone()).unwrap_or_else(own)
        };
        let refuse = |reason| Error::archive(&path, reason);
        let size = agreed_size(header_size(header)?, pax.size).map_err(refuse)?;
        let flag = header.as_old().linkflag[0];
        let kind = match flag {
            b'0' | 0 | b'7' if path.ends_with(b"/") && (flag != 0 || size > 0) => {
                return Err(refuse("a file whose name ends in a slash"));
            }
            0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => {
                self.file(header, size, pax.sparse.as_ref()).map_err(|error| named(error, &path))?
            }
            b'1' => Kind::HardLink { target: link() },
            b'2' => Kind::Symlink { target: link() },
            b'3' => device(header).map(|(major, minor)| Kind::CharDevice { major, minor }).map_err(refuse)?,
            b'4' => {
                device(header).map(|(major, minor)| Kind::BlockDevice { major, minor }).map_err(refuse)?
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(refuse("an entry of an unknown type")),
        };
        // Some readers skip content of such entries, others take it for the next header.
        if !matches!(kind, Kind::File { .. } | Kind::HardLink { .. }) && size > 0 {
            return Err(refuse("an entry that cannot have content has a size"));
        }
        if pax.sparse.is_some() && !matches!(kind, Kind::File { .. }) {
            return Err(refuse("only a file can be sparse"));
        }
        let uid = owner(pax.uid, &header.as_old().uid).map_err(refuse)?;
        let gid = owner(pax.gid, &header.as_old().gid).map_err(refuse)?;
        let mode = number::field(&header.as_old().mode).ok_or_else(|| refuse("the mode is malformed"))?;
        let mode = u32::try_from(mode & 0o7777).expect("twelve bits");
        let mtime = time(pax.mtime, header).map_err(refuse)?;
        Ok(Entry { kind, mode, uid, gid, mtime, xattrs: pax.xattrs, path })
    }

    /// A regular file, whose content follows; reads the map of a sparse one.
    fn file(&mut self, header: &Header, size: u64, sparse: Option<&pax::Sparse>) -> Result<Kind> {
        self.begin(size);
        let (real, map) = match (header.as_old().linkflag[0], sparse) {
            (b'S', None) => self.gnu_map(header)?,
            (b'S', Some(_)) => return Err(Error::archive(b"", "the file is sparse in two ways")),
            (_, None) => {
                check_file_size(size)?;
                return Ok(Kind::File { size, segments: None });
            }
            (_, Some(sparse)) => {
                let real = sparse.size.ok_or_else(|| Error::archive(b"", "the sparse file has no size"))?;
                (real, if sparse.major == 1 { self.line_map()? } else { sparse.map.clone() })
            }
        };
        check_file_size(real)?;
        let segments = sparse::check(map, real, self.data).map_err(|reason| Error::archive(b"", reason))?;
        Ok(Kind::File { size: real, segments: Some(segments) })
    }

    /// The map of an old GNU sparse file: four segments in the header, more in blocks behind it.
    fn gnu_map(&mut self, header: &Header) -> Result<(u64, Vec<super::Segment>)> {
        let wrong = || Error::archive(b"", "the sparse map is malformed");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let mut numbers = Vec::new();
        let mut push = |slots: &[tar::GnuSparseHeader]| -> Result<()> {
            for slot in slots.iter().filter(|slot| !slot.is_empty()) {
                for field in [&slot.offset, &slot.numbytes] {
                    numbers.push(number::field(field).and_then(|n| u64::try_from(n).ok()).ok_or_else(wrong)?);
                }
            }
            if numbers.len() > 2 * limits::SPARSE_SEGMENTS { Err(wrong()) } else { Ok(()) }
        };
        push(&gnu.sparse)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut more = tar::GnuExtSparseHeader::new();
            *more.as_mut_bytes() = self.block()?.ok_or_else(truncated)?;
            push(more.sparse())?;
            extended = more.is_extended();
        }
        let real =
            number::field(&gnu.realsize).and_then(|size| u64::try_from(size).ok()).ok_or_else(wrong)?;
        let map = sparse::pairs(&numbers).map_err(|reason| Error::archive(b"", reason))?;
        Ok((real, map))
    }

    /// The map in front of the data of a sparse file of PAX format 1.0.
    fn line_map(&mut self) -> Result<Vec<super::Segment>> {
        let refuse = |reason| Error::archive(b"", reason);
        let mut map = sparse::LineMap::default();
        loop {
            self.data =
                self.data.checked_sub(BLOCK as u64).ok_or_else(|| refuse("the sparse map is incomplete"))?;
            let block = self.block()?.ok_or_else(truncated)?;
            if map.push(&block).map_err(refuse)? {
                return map.finish().map_err(refuse);
            }
        }
    }
}

/// Sets what may come once in front of an entry.
fn once<T>(slot: &mut Option<T>, value: T, header: &Header) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed(header, "two extension headers of one kind for one entry")),
    }
}

/// The size that header and extended header agree upon. The header's is 0 where it has no room for the number.
fn agreed_size(header: u64, pax: Option<u64>) -> std::result::Result<u64, &'static str> {
    match pax {
        Some(size) if header != 0 && header != size => {
            Err("the header and its extension disagree about the size")
        }
        Some(size) => Ok(size),
        None => Ok(header),
    }
}

fn header_size(header: &Header) -> Result<u64> {
    let size = number::field(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
    size.filter(|size| *size <= limits::LAYER)
        .ok_or_else(|| malformed(header, "the size is malformed or too large"))
}

fn check_file_size(size: u64) -> Result<()> {
    if size > limits::LAYER {
        return Err(Error::TooLarge { what: "file of an archive, in bytes", limit: limits::LAYER });
    }
    Ok(())
}

/// A user or group. 2^32-1 means "unchanged" to chown(2), so it is no owner.
fn owner(pax: Option<u64>, field: &[u8]) -> std::result::Result<u32, &'static str> {
    let own = || number::field(field).and_then(|id| u64::try_from(id).ok());
    let id = pax.or_else(own).and_then(|id| u32::try_from(id).ok());
    id.filter(|id| *id != u32::MAX).ok_or("the owner is no user or group id")
}

fn time(pax: Option<Time>, header: &Header) -> std::result::Result<Time, &'static str> {
    let own = || number::field(&header.as_old().mtime).map(|seconds| Time { seconds, nanoseconds: 0 });
    pax.or_else(own).ok_or("the time is malformed")
}

/// Major and minor number, within what Linux has: 12 and 20 bits.
fn device(header: &Header) -> std::result::Result<(u32, u32), &'static str> {
    let number = |field: &[u8], bits: u32| {
        number::field(field).and_then(|n| u32::try_from(n).ok()).filter(|n| *n < 1 << bits)
    };
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        _ => return Err("a device in a header that has no room for its number"),
    };
    number(major, 12).zip(number(minor, 20)).ok_or("the device number is malformed")
}

/// The sum of all bytes, with the field itself as spaces; old writers took the bytes as signed.
fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    let stored = number::field(&block[148..156]);
    let counted =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let (unsigned, signed) =
        counted.fold((0, 0), |(u, s), byte| (u + i64::from(byte), s + i64::from(byte.cast_signed())));
    if stored == Some(unsigned) || stored == Some(signed) {
        return Ok(());
    }
    Err(Error::archive(b"", "a header's checksum is wrong"))
}

/// Whether `block` is a plausible header: what tells a tar from other content.
pub(crate) fn is_header(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0) || check_sum(block).is_ok()
}

fn until_nul(text: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Puts the entry's name into an error that was made without it.
fn named(error: Error, path: &[u8]) -> Error {
    match error {
        Error::Archive { entry, reason } if entry.is_empty() => Error::archive(path, reason),
        other => other,
    }
}

fn malformed(header: &Header, reason: &'static str) -> Error {
    Error::archive(&header.path_bytes(), reason)
}

fn truncated() -> Error {
    Error::archive(b"", "the archive ends early")
}

fn stream(source: io::Error) -> Error {
    Error::Stream { what: "the archive", source }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
