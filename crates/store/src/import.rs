//! A tar stream becomes a layer while it arrives.
//!
//! ```text
//! thread 1: input ─► digest of the blob ─► blob file ─► decompress ─┐ chunks
//! thread 2:            unpack ◄─ read tar ◄─ digest of the layer ◄──┘
//! thread 3:            syncfs, now and then
//! ```
//!
//! A layer that is made here is packed by thread 1, and there is no blob.
//!
//! Nothing is visible before both digests are verified and everything is on the disk: a last syncfs, then two renames.

mod feed;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use coracle_spec::Digest;
use coracle_spec::digest::Algorithm;
use coracle_sys::atomic;
use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use rustix::io::Errno;

#[cfg(doc)]
use crate::Partial;
use crate::archive::Reader;
use crate::blob::expect;
use crate::error::{Error, Result};
use crate::layer::apply::{Unpacked, Unpacker};
use crate::layer::{FS, Layer, LayerBlob};
use crate::{Store, layout, limits};
pub(crate) use feed::Packed;
use feed::{Chunk, Chunks, Fed, PACKED, feed, feed_packed};

/// What a layer must be to be accepted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Digest of the stream as it comes.
    pub blob: Option<Digest>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<Digest>,
}

impl Expected {
    /// By which algorithm the layer is named.
    fn layer_algorithm(&self) -> Algorithm {
        self.diff_id.map_or(Algorithm::Sha256, |digest| digest.algorithm())
    }
}

impl Store {
    /// Unpacks a layer from a tar stream, compressed or not, and keeps the stream as a blob. Durable on return.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when it is not what was expected, [`Error::Archive`] and [`Error::TooLarge`] when it is
    /// malformed or hostile, [`Error::Stream`] when it breaks off, and then what came can be resumed, see [`Partial`].
    /// Returns once a read of `input` that is under way returns.
    pub fn import(&self, input: impl Read + Send, expected: &Expected) -> Result<Layer> {
        let broken = AtomicBool::new(false);
        let result = self.import_unless_broken(input, expected, &broken);
        if let (Err(error), Some(digest)) = (&result, &expected.blob)
            && error.is_input()
            && !broken.load(Ordering::Relaxed)
        {
            // It came to its end and is wrong, and so may be what was kept of it.
            self.discard_partial(digest)?;
        }
        result
    }

    fn import_unless_broken(
        &self,
        input: impl Read + Send,
        expected: &Expected,
        broken: &AtomicBool,
    ) -> Result<Layer> {
        let work = Temporary::new(self)?;
        let blob = self.blob_writer(expected.blob)?;
        let hashed = Some(blob.algorithm());
        let feed = |sender: &SyncSender<Chunk>| feed(input, Some(blob), sender, broken);
        let (fed, mut layer) = unpack_while_feeding(feed, hashed, &work, expected)?;
        if let Some(blob) = &fed.blob {
            blob.verify()?;
        }
        self.publish(work, &mut layer, fed)?;
        Ok(layer)
    }

    /// Makes a layer of the tar that `pack` writes, which is not stored: it is packed alike again when it is needed. Durable
    /// on return.
    ///
    /// # Errors
    /// Those of `pack`, and the kernel's.
    pub(crate) fn import_packed(
        &self,
        pack: impl FnOnce(&mut Packed<'_>) -> Result<u64> + Send,
    ) -> Result<Layer> {
        let work = Temporary::new(self)?;
        let feed = |sender: &SyncSender<Chunk>| feed_packed(pack, sender);
        let (fed, mut layer) = unpack_while_feeding(feed, Some(PACKED), &work, &Expected::default())?;
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
        let broken = AtomicBool::new(false);
        let feed = |sender: &SyncSender<Chunk>| feed(input, None, sender, &broken);
        let (_, layer) = unpack_while_feeding(feed, None, &work, &expected)?;
        Ok((work, layer))
    }

    /// Syncs everything once and renames blob and layer into place.
    fn publish(&self, work: Temporary<'_>, layer: &mut Layer, fed: Fed<'_>) -> Result<()> {
        if let Some(blob) = &fed.blob {
            let blob = crate::Blob { digest: blob.verify()?, size: blob.size() };
            layer.blob = Some(LayerBlob { blob, media_type: fed.compression.media_type().to_owned() });
        }
        layer.write_record(&work.path)?;
        work.sync()?;
        if let Some(blob) = fed.blob {
            blob.finish_synced()?;
        }
        let place = self.layout.layer(&layer.diff_id);
        self.arrivals.tell(&layer.diff_id);
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

/// Both threads: unpacks what `feed` sends into `work`, whose content goes to the disk meanwhile. `hashed` is the algorithm
/// by which `feed` hashes what it has before it decompresses it, if it does.
fn unpack_while_feeding<'a>(
    feed: impl FnOnce(&SyncSender<Chunk>) -> Result<Option<Fed<'a>>> + Send,
    hashed: Option<Algorithm>,
    work: &Temporary<'_>,
    expected: &Expected,
) -> Result<(Fed<'a>, Layer)> {
    let (fed, read, flushed) = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(limits::CHUNKS);
        let (due, dues) = sync_channel(1);
        let feeder = scope.spawn(move || feed(&sender));
        let flusher = scope.spawn(move || work.flush_when(&dues));
        let read = unpack(Chunks::new(receiver, hashed, expected.layer_algorithm()), work, due);
        let fed = feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let flushed = flusher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (fed, read, flushed)
    });
    // The cause comes first: where the input failed, the reader only saw it end.
    let fed = fed?;
    let (computed, tar_size, unpacked) = read?;
    let fed = fed.ok_or_else(|| Error::archive(b"", "the archive was not read to its end"))?;
    flushed?;
    let computed = match (computed.or(fed.packed), &fed.blob) {
        (Some(digest), _) => digest,
        (None, Some(blob)) => blob.verify()?,
        (None, None) => unreachable!("a digest is left to the other thread only if it computes one"),
    };
    let layer = Layer {
        diff_id: expect("layer", expected.diff_id, computed)?,
        size: unpacked.size,
        tar_size,
        blob: None,
        opaque_root: unpacked.opaque_root,
        root_entry: unpacked.root_entry,
    };
    Ok((fed, layer))
}

/// Unpacks a stream into `work`, saying so each time that much is due to go to the disk; returns the digest of the tar,
/// unless it is the blob's, and its size as well.
fn unpack(
    mut stream: Chunks,
    work: &Temporary<'_>,
    due: SyncSender<()>,
) -> Result<(Option<Digest>, u64, Unpacked)> {
    let fs = work.path.join(FS);
    atomic::create_dir(&fs, rustix::fs::Mode::from_raw_mode(0o755))?;
    let mut reader = Reader::new(Flushing { stream: &mut stream, at: limits::FLUSH, due });
    let unpacked = Unpacker::of_layer(Root::open(&fs)?).run(&mut reader)?;
    if reader.headers() == 0 {
        return Err(Error::archive(b"", "the archive is empty"));
    }
    drop(reader);
    // The digest is of the whole stream, also of what stands behind the end of the archive.
    let (digest, size) = stream.digest()?;
    Ok((digest, size, unpacked))
}

/// Says each time that [`limits::FLUSH`] bytes have been read, and when it goes.
struct Flushing<'a> {
    stream: &'a mut Chunks,
    at: u64,
    due: SyncSender<()>,
}

impl Read for Flushing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if self.stream.size() >= self.at {
            self.at = self.stream.size() + limits::FLUSH;
            // Still busy with what was due before: it takes this along or the last sync does.
            let _ = self.due.try_send(());
        }
        Ok(count)
    }
}

/// A directory in `tmp` that goes into the trash unless it is kept.
pub(crate) struct Temporary<'a> {
    store: &'a Store,
    pub(crate) path: PathBuf,
    /// Open from the beginning: a descriptor hears of every failure to write since it was opened.
    directory: File,
    kept: bool,
}

impl<'a> Temporary<'a> {
    fn new(store: &'a Store) -> Result<Self> {
        let path = store.layout.temporary()?;
        atomic::create_dir(&path, layout::PASSABLE)?;
        let directory = File::open(&path).context("open", path.display())?;
        Ok(Self { store, path, directory, kept: false })
    }

    /// Brings to the disk what was written so far each time that it is due, as long as somebody may say so. The last sync,
    /// which a client waits for, finds little left. One layer at a time: a sync takes along what belongs to others.
    fn flush_when(&self, due: &Receiver<()>) -> Result<()> {
        for () in due {
            if let Ok(_one) = self.store.flushing.try_lock() {
                self.sync()?;
            }
        }
        Ok(())
    }

    /// Brings everything to the disk (syncfs(2)).
    fn sync(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(&self.directory).context("syncfs", self.path.display())?)
    }

    fn keep(mut self) {
        self.kept = true;
    }

    /// Deletes it at once, for who makes many.
    pub(crate) fn remove(mut self) -> Result<()> {
        let name = self.path.file_name().expect("the layout gives it a name");
        let name = CString::new(name.as_encoded_bytes()).expect("a name of hex digits");
        let parent = self.path.parent().expect("it is in tmp");
        let tmp = File::open(parent).context("open", parent.display())?;
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
