//! `docker load`: an archive of images, read once from front to back.
//!
//! `manifest.json`, or the index of an OCI layout, says what is an image, and stands behind the layers. So every file that looks like a layer is
//! imported when it comes, under the digest that it turns out to have, and every other is kept if it is small; names
//! only connect them, within the archive (CVE-2014-9356: a name is never a path here). What no image refers to is garbage
//! in the store.

mod images;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::atomic::AtomicU64;

use coracle_spec::{Digest, Platform, Reference};

use crate::archive::name::Place;
use crate::archive::{BLOCK, Entry, Kind, Reader, is_header};
use crate::compression::{Bounded, decoder};
use crate::error::{Error, Result, shown};
use crate::{Blob, Compression, Expected, Layer, Store, limits};

/// Told how far a load has come.
pub trait Progress: Send {
    /// `done` of `total` bytes of a file of the archive have been read.
    fn advanced(&mut self, name: &str, done: u64, total: u64);
}

/// An image that was loaded. Its configuration and layers are in the store; naming it is the caller's.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// Digest of the configuration: the image's id.
    pub config: Digest,
    /// What the archive calls it.
    pub references: Vec<Reference>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// What it came with, in the store too: its manifest, and the index that names it.
    pub origin: LoadedOrigin,
}

/// What an image came with.
#[derive(Clone, Debug, Default)]
pub struct LoadedOrigin {
    /// Its manifest.
    pub manifest: Option<Digest>,
    /// The index that its names stand for, and what it runs on by that index's account.
    pub index: Option<(Digest, Option<Platform>)>,
    /// Everything that belongs to the statements about it in that index.
    pub beside: Vec<Digest>,
}

/// Something that is no image, with all its blobs in the store.
#[derive(Clone, Debug)]
pub struct LoadedArtifact {
    /// Its manifest.
    pub manifest: Digest,
    /// The type that its manifest gives.
    pub kind: String,
    /// What the archive calls it.
    pub references: Vec<Reference>,
    /// What its manifest describes.
    pub blobs: Vec<Blob>,
}

/// What an archive held.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// An image.
    Image(Box<LoadedImage>),
    /// Something else.
    Artifact(LoadedArtifact),
}

/// What the archive has under a name.
enum Item {
    Layer(Layer),
    Document(Vec<u8>),
    Link(Place),
    /// In the store under the digest that is its name, and no layer.
    Blob(Blob),
    /// Too large for a document, and nothing that has a digest for a name.
    Other,
}

impl Store {
    /// Loads every image of a `docker save` archive or of an archived OCI layout, compressed or not. Durable on return.
    ///
    /// # Errors
    /// [`Error::ImageArchive`] when it does not say what its images are, or contradicts itself, and as [`Store::import`].
    pub fn load(&self, input: impl Read + Send, progress: &mut dyn Progress) -> Result<Vec<LoadedImage>> {
        let image = |loaded| match loaded {
            Loaded::Image(image) => Some(*image),
            Loaded::Artifact(_) => None,
        };
        Ok(self.load_all(input, &[], progress)?.into_iter().filter_map(image).collect())
    }

    /// The same with everything that is no image; of images for several platforms only those for `platforms`, if any are given.
    ///
    /// # Errors
    /// As [`Store::load`]; [`Error::PlatformMissing`] when an image is not there for one of them.
    pub fn load_all(
        &self,
        input: impl Read + Send,
        platforms: &[Platform],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Loaded>> {
        let count = AtomicU64::new(0);
        let counted = Counted { input, count: &count };
        let (_, decoded) =
            decoder(counted).map_err(|source| Error::Stream { what: "the image archive", source })?;
        let mut reader = Reader::new(Bounded::new(decoded, &count));
        let mut contents = Contents { store: self, items: HashMap::new(), documents: 0 };
        while let Some(entry) = reader.next_entry()? {
            contents.take(&entry, &mut reader, progress)?;
        }
        contents.loaded(platforms)
    }
}

struct Contents<'a> {
    store: &'a Store,
    items: HashMap<Place, Item>,
    /// Bytes of documents kept in memory.
    documents: u64,
}

impl Contents<'_> {
    fn take<R: Read + Send>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<R>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let refuse = |reason| Error::archive(&entry.path, reason);
        let place = Place::parse(&entry.path).map_err(refuse)?;
        let item = match &entry.kind {
            Kind::Directory => return Ok(()),
            Kind::File { size, segments: None } => self.file(&place, *size, reader, progress)?,
            Kind::File { segments: Some(_), .. } => return Err(refuse("a sparse file in an image archive")),
            // Older versions of Docker link a layer that comes twice.
            Kind::Symlink { target } => Item::Link(relative(&place, target).map_err(refuse)?),
            Kind::HardLink { target } => Item::Link(Place::parse(target).map_err(refuse)?),
            _ => return Err(refuse("neither file nor link in an image archive")),
        };
        if self.items.len() >= limits::ARCHIVE_FILES {
            let limit = limits::ARCHIVE_FILES as u64;
            return Err(Error::TooLarge { what: "number of files in the image archive", limit });
        }
        self.items.insert(place, item);
        Ok(())
    }

    fn file<R: Read + Send>(
        &mut self,
        place: &Place,
        size: u64,
        reader: &mut Reader<R>,
        progress: &mut dyn Progress,
    ) -> Result<Item> {
        let name = shown(place.as_bytes());
        let mut content = Content { reader, progress, name, done: 0, total: size };
        let mut start = Vec::new();
        let stream = |source| Error::Stream { what: "the image archive", source };
        content.by_ref().take(BLOCK as u64).read_to_end(&mut start).map_err(stream)?;
        let named = digest_of_name(place);
        if named.is_some() && Compression::detect(&start) != Compression::None {
            content.by_ref().take(limits::ARCHIVE_PEEK).read_to_end(&mut start).map_err(stream)?;
        }
        let may_be_empty = size <= limits::EMPTY_ARCHIVE && start.len() == BLOCK && is_zero(&start);
        if may_be_empty {
            content.by_ref().read_to_end(&mut start).map_err(stream)?;
        }
        // What scratch was once made of, and steps that change nothing: an archive that ends at once.
        let is_empty = may_be_empty && is_zero(&start);
        if is_empty || looks_like_layer(&start, named.is_some()) {
            // A file under its digest must have it; any other name says nothing.
            let expected = Expected { blob: named, diff_id: None };
            let layer = self.store.import(io::Cursor::new(start).chain(content), &expected)?;
            return Ok(Item::Layer(layer));
        }
        // Documents of an image begin with a brace.
        let text = start.iter().find(|byte| !byte.is_ascii_whitespace());
        let document = size <= limits::ARCHIVE_DOCUMENT && matches!(text, Some(b'{' | b'['));
        if let Some(digest) = named.filter(|_| !document) {
            return self.blob(digest, io::Cursor::new(start).chain(content)).map(Item::Blob);
        }
        if size > limits::ARCHIVE_DOCUMENT {
            return Ok(Item::Other);
        }
        if self.documents + size > limits::ARCHIVE_DOCUMENTS {
            self.put_large_documents_aside()?;
        }
        self.documents += size;
        if self.documents > limits::ARCHIVE_DOCUMENTS {
            let limit = limits::ARCHIVE_DOCUMENTS;
            return Err(Error::TooLarge { what: "documents of the image archive, in bytes", limit });
        }
        content.read_to_end(&mut start).map_err(stream)?;
        Ok(Item::Document(start))
    }

    /// Moves the large documents that have a digest for a name from memory into the store: an attestation may hold lists of all
    /// packages, and what says what the images are is small.
    fn put_large_documents_aside(&mut self) -> Result<()> {
        for (place, item) in &mut self.items {
            let (Item::Document(content), Some(digest)) = (&*item, digest_of_name(place)) else { continue };
            let size = content.len() as u64;
            if size > limits::ARCHIVE_SMALL {
                let blob = self.store.put_blob_as(digest, content)?;
                self.documents -= size;
                *item = Item::Blob(blob);
            }
        }
        Ok(())
    }

    /// Keeps what is neither layer nor document: part of an artifact.
    fn blob(&self, digest: Digest, mut content: impl Read) -> Result<Blob> {
        let mut writer = self.store.blob_writer(Some(digest))?;
        let mut chunk = vec![0; limits::CHUNK];
        loop {
            let count = content.read(&mut chunk);
            let count = count.map_err(|source| Error::Stream { what: "the image archive", source })?;
            if count == 0 {
                break;
            }
            writer.write_all(&chunk[..count]).map_err(|source| Error::Write { what: "blob", source })?;
        }
        writer.finish()
    }
}

/// Reads the content of one entry.
struct Content<'a, R> {
    reader: &'a mut Reader<R>,
    progress: &'a mut dyn Progress,
    name: String,
    done: u64,
    total: u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer).map_err(io::Error::other)?;
        self.done += count as u64;
        self.progress.advanced(&self.name, self.done, self.total);
        Ok(count)
    }
}

struct Counted<'a, R> {
    input: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(count)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether a file that begins so is an archive. What is compressed is one by its name in old archives; behind the name of
/// its digest anything may stand, so it is looked at, as far as the beginning goes.
fn looks_like_layer(start: &[u8], named_by_digest: bool) -> bool {
    let is_header = |start: &[u8]| {
        let block = start.get(..BLOCK).and_then(|block| <&[u8; BLOCK]>::try_from(block).ok());
        block.is_some_and(|block| is_header(block) || *block == [0; BLOCK])
    };
    if Compression::detect(start) == Compression::None {
        return start.get(..BLOCK).is_some_and(|block| !is_zero(block)) && is_header(start);
    }
    if !named_by_digest {
        return true;
    }
    let Ok((_, mut decoded)) = decoder(start) else { return false };
    let (mut block, mut filled) = ([0; BLOCK], 0);
    loop {
        match decoded.read(&mut block[filled..]) {
            Ok(0) => return filled == BLOCK && is_header(&block),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It goes on behind what was looked at.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return filled == 0 || is_header(&block);
            }
            Err(_) => return false,
        }
        if filled == BLOCK {
            return is_header(&block);
        }
    }
}

/// The digest that `blobs/<algorithm>/<hex>` stands for.
fn digest_of_name(place: &Place) -> Option<Digest> {
    let path = std::str::from_utf8(place.as_bytes()).ok()?;
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Where a symbolic link at `place` leads within the archive.
fn relative(place: &Place, target: &[u8]) -> std::result::Result<Place, &'static str> {
    let mut path: Vec<&[u8]> = Vec::new();
    let (parent, _) = place.split().ok_or("the root is no link")?;
    if !target.starts_with(b"/") && !parent.is_root() {
        path.extend(parent.as_bytes().split(|byte| *byte == b'/'));
    }
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                path.pop().ok_or("the link leads out of the archive")?;
            }
            _ => path.push(component),
        }
    }
    Place::parse(&path.join(&b'/'))
}

fn place(name: &str) -> Result<Place> {
    Place::parse(name.as_bytes()).map_err(|reason| invalid(reason, name))
}

fn invalid(reason: &'static str, subject: &str) -> Error {
    Error::ImageArchive { reason, subject: shown(subject.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_within_the_archive() {
        let at = |name: &str| Place::parse(name.as_bytes()).unwrap();
        let cases = [
            ("b/layer.tar", "../a/layer.tar", Some("a/layer.tar")),
            ("b", "a", Some("a")),
            ("b/c", "/a", Some("a")),
            ("b/c", "d", Some("b/d")),
            ("b/c", "../../a", None),
            ("b", "..", None),
            ("b/c", "..", None),
        ];
        for (place, target, expected) in cases {
            assert_eq!(relative(&at(place), target.as_bytes()).ok(), expected.map(at), "{place} -> {target}");
        }
    }
}
