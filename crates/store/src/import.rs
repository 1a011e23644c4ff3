//! A tar stream becomes a layer while it arrives.
//!
//! ```text
//! thread 1: input ─► digest of the blob ─► blob file ─► decompress ─┐ chunks
//! thread 2:            unpack ◄─ read tar ◄─ digest of the layer ◄──┘
//! ```
//!
//! Nothing is visible before both digests are verified and everything is on the disk: one syncfs, then two renames.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use coracle_spec::Digest;
use coracle_spec::digest::{Algorithm, Hasher};
use coracle_sys::atomic;
use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use rustix::io::Errno;

#[cfg(doc)]
use crate::Partial;
use crate::archive::Reader;
use crate::blob::{BlobWriter, expect};
use crate::compression::{Bounded, decoder};
use crate::error::{Error, Result};
use crate::layer::apply::{Unpacked, Unpacker};
use crate::layer::{FS, Layer, LayerBlob};
use crate::{Compression, Store, layout, limits};

/// What a layer must be to be accepted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Digest of the stream as it comes.
    pub blob: Option<Digest>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<Digest>,
}

/// Whether the stream itself is stored too.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keep {
    /// As a blob: it could not be made again byte by byte.
    Blob,
    /// Not: the layer was packed here and is packed alike again.
    Nothing,
}

impl Store {
    /// Unpacks a layer from a tar stream, compressed or not, and keeps the stream as a blob. Durable on return.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when it is not what was expected, [`Error::Archive`] and [`Error::TooLarge`] when it is
    /// malformed or hostile, [`Error::Stream`] when it breaks off, and then what came can be resumed, see [`Partial`].
    /// Returns once a read of `input` that is under way returns.
    pub fn import(&self, input: impl Read + Send, expected: &Expected) -> Result<Layer> {
        self.ingest(input, expected, Keep::Blob)
    }

    pub(crate) fn ingest(&self, input: impl Read + Send, expected: &Expected, keep: Keep) -> Result<Layer> {
        let broken = AtomicBool::new(false);
        let result = self.ingest_unless_broken(input, expected, keep, &broken);
        if let (Err(error), Some(digest)) = (&result, &expected.blob)
            && error.is_input()
            && !broken.load(Ordering::Relaxed)
        {
            // It came to its end and is wrong, and so may be what was kept of it.
            self.discard_partial(digest)?;
        }
        result
    }

    fn ingest_unless_broken(
        &self,
        input: impl Read + Send,
        expected: &Expected,
        keep: Keep,
        broken: &AtomicBool,
    ) -> Result<Layer> {
        let work = Temporary::new(self)?;
        let blob = match keep {
            Keep::Blob => Some(self.blob_writer(expected.blob)?),
            Keep::Nothing => None,
        };
        let (fed, mut layer) = unpack_while_feeding(input, &work.path, blob, expected, broken)?;
        if let Some(blob) = &fed.blob {
            blob.verify()?;
        }
        self.publish(work, &mut layer, fed)?;
        Ok(layer)
    }

    /// Unpacks a layer's tar in `tmp` and leaves it there as long as the directory is kept.
    ///
    /// # Errors
    /// As [`Store::import`]; nothing of a broken stream is kept.
    pub(crate) fn unpack_aside(
        &self,
        input: impl Read + Send,
        diff_id: &Digest,
    ) -> Result<(Temporary<'_>, Layer)> {
        let work = Temporary::new(self)?;
        let expected = Expected { blob: None, diff_id: Some(*diff_id) };
        let (_, layer) = unpack_while_feeding(input, &work.path, None, &expected, &AtomicBool::new(false))?;
        Ok((work, layer))
    }

    /// Syncs everything once and renames blob and layer into place.
    fn publish(&self, work: Temporary<'_>, layer: &mut Layer, fed: Fed<'_>) -> Result<()> {
        if let Some(blob) = &fed.blob {
            let blob = crate::Blob { digest: blob.verify()?, size: blob.size() };
            layer.blob = Some(LayerBlob { blob, media_type: fed.compression.media_type().to_owned() });
        }
        layer.write_record(&work.path)?;
        let directory = std::fs::File::open(&work.path).context("open", work.path.display())?;
        rustix::fs::syncfs(&directory).context("syncfs", work.path.display())?;
        if let Some(blob) = fed.blob {
            blob.finish_synced()?;
        }
        let place = self.layout.layer(&layer.diff_id);
        match atomic::publish_durable(&work.path, &place) {
            Ok(()) => work.keep(),
            Err(error) if error.errno() == Some(Errno::EXIST) => self.merge_with(&place, layer)?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The layer was there already: what is new is its blob, if it had none.
    fn merge_with(&self, place: &Path, layer: &mut Layer) -> Result<()> {
        let present = self.layer(&layer.diff_id)?;
        let new = layer.blob.take();
        *layer = present;
        if layer.blob.is_none() && new.is_some() {
            layer.blob = new;
            layer.replace_record(place)?;
        }
        Ok(())
    }
}

/// Both threads: reads `input` to its end and unpacks it below `work`.
fn unpack_while_feeding<'a>(
    input: impl Read + Send,
    work: &Path,
    blob: Option<BlobWriter<'a>>,
    expected: &Expected,
    broken: &AtomicBool,
) -> Result<(Fed<'a>, Layer)> {
    let (fed, read) = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(limits::CHUNKS);
        let feeder = scope.spawn(move || feed(input, blob, &sender, broken));
        let read = unpack(receiver, work, expected);
        let fed = feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (fed, read)
    });
    // The cause comes first: where the input failed, the reader only saw it end.
    let fed = fed?;
    let (diff_id, tar_size, unpacked) = read?;
    let fed = fed.ok_or_else(|| Error::archive(b"", "the archive was not read to its end"))?;
    let layer = Layer {
        diff_id,
        size: unpacked.size,
        tar_size,
        blob: None,
        opaque_root: unpacked.opaque_root,
        root_entry: unpacked.root_entry,
    };
    Ok((fed, layer))
}

/// What the first thread has when the input is at its end.
struct Fed<'a> {
    blob: Option<BlobWriter<'a>>,
    compression: Compression,
}

/// Reads `input` to its end, storing it as it comes and sending it on decompressed. `None` when nobody listens any more.
fn feed<'a>(
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
    Ok(compression.map(|compression| Fed { blob: raw.blob, compression }))
}

/// Decompresses everything and sends it on; `None` when nobody listens any more.
fn pump(
    mut raw: impl Read + Send,
    count: &AtomicU64,
    sender: &SyncSender<Chunk>,
) -> io::Result<Option<Compression>> {
    let (compression, decoded) = decoder(&mut raw)?;
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

/// Unpacks what is received below `work`; returns the digest and size of the tar as well.
fn unpack(receiver: Receiver<Chunk>, work: &Path, expected: &Expected) -> Result<(Digest, u64, Unpacked)> {
    let fs = work.join(FS);
    atomic::create_dir(&fs, rustix::fs::Mode::from_raw_mode(0o755))?;
    let algorithm = expected.diff_id.map_or(Algorithm::Sha256, |digest| digest.algorithm());
    let mut stream =
        Chunks { receiver, chunk: Vec::new(), at: 0, ended: false, hasher: Hasher::new(algorithm), size: 0 };
    let mut reader = Reader::new(&mut stream);
    let unpacked = Unpacker::of_layer(Root::open(&fs)?).run(&mut reader)?;
    if reader.headers() == 0 {
        return Err(Error::archive(b"", "the archive is empty"));
    }
    // The digest is of the whole stream, also of what stands behind the end of the archive.
    io::copy(&mut stream, &mut io::sink()).map_err(|source| Error::Stream { what: "the layer", source })?;
    let diff_id = expect("layer", expected.diff_id, stream.hasher.finish())?;
    Ok((diff_id, stream.size, unpacked))
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
enum Chunk {
    Data(Vec<u8>),
    End,
}

/// Reads what the other thread sends, and hashes it.
struct Chunks {
    receiver: Receiver<Chunk>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
    hasher: Hasher,
    size: u64,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.ended {
            match self.receiver.recv() {
                Ok(Chunk::Data(chunk)) => {
                    self.hasher.update(&chunk);
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

/// A directory in `tmp` that goes into the trash unless it is kept.
pub(crate) struct Temporary<'a> {
    store: &'a Store,
    pub(crate) path: PathBuf,
    kept: bool,
}

impl<'a> Temporary<'a> {
    fn new(store: &'a Store) -> Result<Self> {
        let path = store.layout.temporary()?;
        atomic::create_dir(&path, layout::PASSABLE)?;
        Ok(Self { store, path, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }

    /// Deletes it at once, for who makes many.
    pub(crate) fn remove(mut self) -> Result<()> {
        let name = self.path.file_name().expect("the layout gives it a name");
        let name = CString::new(name.as_encoded_bytes()).expect("a name of hex digits");
        let parent = self.path.parent().expect("it is in tmp");
        let tmp = std::fs::File::open(parent).context("open", parent.display())?;
        coracle_sys::tree::remove(tmp.as_fd(), &name)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What stays behind is found when the store is opened next.
            let _ = self.store.layout.discard(&self.path);
        }
    }
}
