//! The first thread of an import: what arrives becomes a blob and, decompressed, chunks for the second one. Or what is packed
//! becomes chunks alone.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use coracle_spec::Digest;
use coracle_spec::digest::{Algorithm, Hasher};

use crate::blob::BlobWriter;
use crate::compression::{Bounded, decoder};
use crate::error::{Error, Result};
use crate::{Compression, limits};

/// What the first thread has when the input is at its end.
pub(super) struct Fed<'a> {
    pub(super) blob: Option<BlobWriter<'a>>,
    pub(super) compression: Compression,
    /// The digest of what was packed.
    pub(super) packed: Option<Digest>,
}

/// Reads `input` to its end, storing it as it comes and sending it on decompressed. `None` when nobody listens any more.
pub(super) fn feed<'a>(
    input: impl Read + Send,
    blob: Option<BlobWriter<'a>>,
    sender: &SyncSender<Chunk>,
    broken: &AtomicBool,
) -> Result<Option<Fed<'a>>> {
    let count = AtomicU64::new(0);
    let mut raw = Tee { input, blob, count: &count, unwritten: None, broken };
    let pumped = pump(&mut raw, &count, sender);
    if let Some(source) = raw.unwritten {
        return Err(Error::Write { what: "the blob", source });
    }
    if broken.load(Ordering::Relaxed)
        && let Some(blob) = raw.blob.take()
    {
        blob.interrupt()?;
    }
    let compression = pumped.map_err(|source| Error::Stream { what: "the layer", source })?;
    Ok(compression.map(|compression| Fed { blob: raw.blob, compression, packed: None }))
}

/// Sends on what `pack` writes, hashing it by [`PACKED`]. `None` when nobody listens any more.
pub(super) fn feed_packed(
    pack: impl FnOnce(&mut Packed<'_>) -> Result<u64>,
    sender: &SyncSender<Chunk>,
) -> Result<Option<Fed<'static>>> {
    let mut packed = Packed { sender, hasher: Hasher::new(PACKED), chunk: Vec::new(), is_heard: true };
    packed.send(Chunk::Begin(Compression::None));
    let result = pack(&mut packed)
        .and_then(|_| packed.flush().map_err(|source| Error::Write { what: "the layer", source }));
    if result.is_ok() {
        packed.send(Chunk::End);
    }
    if !packed.is_heard {
        return Ok(None);
    }
    let digest = packed.hasher.finish();
    result.map(|()| Some(Fed { blob: None, compression: Compression::None, packed: Some(digest) }))
}

/// By which algorithm layers are named that are made here.
pub(super) const PACKED: Algorithm = Algorithm::Sha256;

/// Makes chunks of what is written.
pub(crate) struct Packed<'a> {
    sender: &'a SyncSender<Chunk>,
    hasher: Hasher,
    chunk: Vec<u8>,
    /// Whether anybody listens.
    is_heard: bool,
}

impl Packed<'_> {
    fn send(&mut self, chunk: Chunk) {
        self.is_heard = self.is_heard && self.sender.send(chunk).is_ok();
    }
}

impl Write for Packed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(limits::CHUNK);
        }
        let count = bytes.len().min(limits::CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == limits::CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            self.hasher.update(&chunk);
            self.send(Chunk::Data(chunk));
        }
        if self.is_heard { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

/// Decompresses everything and sends it on; `None` when nobody listens any more.
fn pump(
    mut raw: impl Read + Send,
    count: &AtomicU64,
    sender: &SyncSender<Chunk>,
) -> io::Result<Option<Compression>> {
    let (compression, decoded) = decoder(&mut raw)?;
    if sender.send(Chunk::Begin(compression)).is_err() {
        return Ok(None);
    }
    let mut decoded = Bounded::new(decoded, count);
    loop {
        let mut chunk = vec![0; limits::CHUNK];
        let filled = fill(&mut decoded, &mut chunk)?;
        chunk.truncate(filled);
        let end = filled == 0;
        if sender.send(if end { Chunk::End } else { Chunk::Data(chunk) }).is_err() {
            return Ok(None);
        }
        if end {
            break;
        }
    }
    drop(decoded);
    // What stands behind the last compressed part belongs to the blob.
    io::copy(&mut raw, &mut io::sink())?;
    Ok(Some(compression))
}

/// Passes on what is read, writing it to the blob and counting it.
struct Tee<'a, 'b, R> {
    input: R,
    blob: Option<BlobWriter<'b>>,
    count: &'a AtomicU64,
    /// Why the blob could not be written, which is not the input's fault.
    unwritten: Option<io::Error>,
    /// Whether the input failed, so that what came so far may be right.
    broken: &'a AtomicBool,
}

impl<R: Read> Read for Tee<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.input.read(buffer) {
            Err(error) => {
                self.broken.store(error.kind() != io::ErrorKind::Interrupted, Ordering::Relaxed);
                return Err(error);
            }
            Ok(count) => count,
        };
        if let Some(blob) = &mut self.blob
            && let Err(error) = blob.write_all(&buffer[..count])
        {
            let kind = error.kind();
            self.unwritten = Some(error);
            return Err(kind.into());
        }
        let total = self.count.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if total > limits::LAYER {
            return Err(io::Error::other("it is larger than a layer may be"));
        }
        Ok(count)
    }
}

/// What goes from thread to thread. A channel that closes without [`Chunk::End`] is a failure, not an end.
pub(super) enum Chunk {
    /// How what follows was compressed.
    Begin(Compression),
    Data(Vec<u8>),
    End,
}

/// Reads what the other thread sends, and hashes it unless that thread has done so.
pub(super) struct Chunks {
    receiver: Receiver<Chunk>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
    hashing: Hashing,
    size: u64,
}

/// Which digest is the layer's.
enum Hashing {
    /// Not known before the first chunk: that of what is sent, by this algorithm, if the layer is not compressed, or else one
    /// of the other algorithm's.
    Undecided {
        sent: Option<Algorithm>,
        layer: Algorithm,
    },
    /// The other thread computes it.
    There,
    Here(Box<Hasher>),
}

impl Chunks {
    /// The stream of a layer of which another digest than one of `layer`'s algorithm is of no use. `sent` is that by which
    /// the other thread hashes what it was given, if it does.
    pub(super) fn new(receiver: Receiver<Chunk>, sent: Option<Algorithm>, layer: Algorithm) -> Self {
        let hashing = Hashing::Undecided { sent, layer };
        Self { receiver, chunk: Vec::new(), at: 0, ended: false, hashing, size: 0 }
    }

    /// Bytes that were read so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The digest of everything, which is read to its end; `None` if the other thread has it.
    pub(super) fn digest(mut self) -> Result<(Option<Digest>, u64)> {
        io::copy(&mut self, &mut io::sink()).map_err(|source| Error::Stream { what: "the layer", source })?;
        let digest = match self.hashing {
            Hashing::Here(hasher) => Some(hasher.finish()),
            Hashing::There | Hashing::Undecided { .. } => None,
        };
        Ok((digest, self.size))
    }

    fn begin(&mut self, compression: Compression) {
        if let Hashing::Undecided { sent, layer } = self.hashing {
            let same = compression == Compression::None && sent == Some(layer);
            self.hashing = if same { Hashing::There } else { Hashing::Here(Box::new(Hasher::new(layer))) };
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.ended {
            match self.receiver.recv() {
                Ok(Chunk::Begin(compression)) => self.begin(compression),
                Ok(Chunk::Data(chunk)) => {
                    if let Hashing::Here(hasher) = &mut self.hashing {
                        hasher.update(&chunk);
                    }
                    self.size += chunk.len() as u64;
                    (self.chunk, self.at) = (chunk, 0);
                }
                Ok(Chunk::End) => self.ended = true,
                Err(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Fills `buffer` as far as the reader goes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
