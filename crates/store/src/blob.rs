//! Blobs: content under its digest. It appears there only once it is verified and on the disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use coracle_spec::Digest;
use coracle_spec::digest::{Algorithm, Hasher};
use coracle_spec::image::ImageConfig;
use coracle_sys::atomic;
use coracle_sys::error::Context;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::{Store, layout, limits};

/// A blob in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its size, in bytes.
    pub size: u64,
}

/// Content on its way into the store. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    store: &'a Store,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    expected: Option<Digest>,
    finished: bool,
}

impl Store {
    /// Begins a blob. Where `expected` is known, only that content can be finished.
    ///
    /// # Errors
    /// The kernel's.
    pub fn blob_writer(&self, expected: Option<Digest>) -> Result<BlobWriter<'_>> {
        let path = self.layout.temporary_blob(expected.as_ref())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, layout::FILE).context("open", path.display())?;
        // Whatever the umask.
        rustix::fs::fchmod(&fd, layout::FILE).context("fchmod", path.display())?;
        let hasher = Hasher::new(expected.map_or(Algorithm::Sha256, |digest| digest.algorithm()));
        Ok(BlobWriter { store: self, path, file: fd.into(), hasher, size: 0, expected, finished: false })
    }

    /// Stores `content`, durably.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_blob(&self, content: &[u8]) -> Result<Blob> {
        self.put_blob_as(Digest::of(content), content)
    }

    /// Stores `content` under the digest that it was announced with, durably.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when it has another, and the kernel's.
    pub fn put_blob_as(&self, digest: Digest, content: &[u8]) -> Result<Blob> {
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(content);
        expect("blob", Some(digest), hasher.finish())?;
        self.arrivals.tell(&digest);
        if let Some(blob) = self.has_blob(&digest)? {
            return Ok(blob);
        }
        let mut writer = self.blob_writer(Some(digest))?;
        writer.write_all(content).map_err(|source| Error::Write { what: "blob", source })?;
        writer.finish()
    }

    /// Stores what a stream brings under the digest that it was announced with, durably. Where the stream breaks, what came of
    /// it is kept for the next attempt ([`Store::partial`]).
    ///
    /// # Errors
    /// [`Error::Stream`], [`Error::DigestMismatch`] when it was something else, of which nothing is kept, and the kernel's.
    pub fn keep_blob(&self, digest: Digest, mut content: impl Read) -> Result<Blob> {
        let mut writer = self.blob_writer(Some(digest))?;
        let mut chunk = vec![0; limits::CHUNK];
        loop {
            match content.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => writer
                    .write_all(&chunk[..count])
                    .map_err(|source| Error::Write { what: "blob", source })?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    writer.interrupt()?;
                    return Err(Error::Stream { what: "blob", source });
                }
            }
        }
        if let Err(error) = writer.verify() {
            self.discard_partial(&digest)?;
            return Err(error);
        }
        writer.finish()
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], and the kernel's.
    pub fn read_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.layout.blob(digest);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, rustix::fs::Mode::empty()) {
            Ok(fd) => Ok(fd.into()),
            Err(Errno::NOENT) => Err(Error::BlobMissing { digest: *digest }),
            Err(errno) => Err(errno).context("open", path.display()).map_err(Error::from),
        }
    }

    /// Reads a whole blob of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::TooLarge`], and the kernel's.
    pub fn read_small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.read_blob(digest)?.take(limit + 1).read_to_end(&mut content).context("read", digest)?;
        if content.len() as u64 > limit {
            return Err(Error::TooLarge { what: "blob, in bytes", limit });
        }
        Ok(content)
    }

    /// Whether a blob is there, and how large.
    ///
    /// # Errors
    /// The kernel's, other than its absence.
    pub fn has_blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        let path = self.layout.blob(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(Blob { digest: *digest, size: metadata.len() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("lstat", path.display()).map_err(Error::from),
        }
    }

    /// Reads a blob again and compares it with its name.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when the disk holds something else, [`Error::BlobMissing`], and the kernel's.
    pub fn verify_blob(&self, digest: &Digest) -> Result<()> {
        let mut file = self.read_blob(digest)?;
        let mut hashing = Hashing { hasher: Hasher::new(digest.algorithm()) };
        io::copy(&mut file, &mut hashing).context("read", digest)?;
        expect("blob", Some(*digest), hashing.hasher.finish()).map(drop)
    }

    /// Moves a blob into the trash; `false` when it was not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        self.layout.discard(&self.layout.blob(digest))
    }

    /// The digests of all blobs, in no order: what a garbage collection starts from.
    ///
    /// # Errors
    /// The kernel's.
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        crate::layer::digests_in(&self.layout.blobs())
    }

    /// Stores an image configuration, durably; its digest is the image's id.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_config(&self, config: &ImageConfig) -> Result<Digest> {
        Ok(self.put_blob(&config.to_json())?.digest)
    }

    /// The image configuration with this digest.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], and [`Error::Document`] when the blob is none.
    pub fn config(&self, digest: &Digest) -> Result<ImageConfig> {
        let content = self.read_small_blob(digest, coracle_spec::limits::CONFIG as u64)?;
        ImageConfig::parse(&content).map_err(|source| Error::Document { what: digest.to_string(), source })
    }
}

/// Limits of this crate are above those of the documents.
const _: () = assert!(limits::ARCHIVE_DOCUMENT >= coracle_spec::limits::CONFIG as u64);

impl BlobWriter<'_> {
    /// Verifies the content and puts it under its digest, durably.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], and the kernel's; nothing is left then.
    pub fn finish(self) -> Result<Blob> {
        rustix::fs::fsync(&self.file).context("fsync", self.path.display())?;
        self.finish_synced()
    }

    /// As [`BlobWriter::finish`], for a caller that has already synced the whole file system.
    pub(crate) fn finish_synced(mut self) -> Result<Blob> {
        let digest = self.verify()?;
        let path = self.store.layout.blob(&digest);
        self.store.arrivals.tell(&digest);
        match atomic::publish_durable(&self.path, &path) {
            Ok(()) => self.finished = true,
            // Verified by whoever was faster; this copy goes when `self` is dropped.
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if self.expected.is_some() {
            self.store.discard_partial(&digest)?;
        }
        Ok(Blob { digest, size: self.size })
    }

    /// Leaves what was written for a later attempt, if it is known what it was to become.
    pub(crate) fn interrupt(mut self) -> Result<()> {
        if let Some(expected) = self.expected {
            self.finished = self.store.layout.keep_partial(&self.path, &expected)?;
        }
        Ok(())
    }

    /// The digest of what was written.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when another was expected.
    pub(crate) fn verify(&self) -> Result<Digest> {
        expect("blob", self.expected, self.hasher.clone().finish())
    }

    /// By which algorithm the blob is named.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.expected.map_or(Algorithm::Sha256, |digest| digest.algorithm())
    }

    /// Bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // What stays behind is found when the store is opened next.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Only hashes what is written.
pub(crate) struct Hashing {
    pub(crate) hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The computed digest, if it is the one expected or none is.
pub(crate) fn expect(what: &'static str, expected: Option<Digest>, computed: Digest) -> Result<Digest> {
    match expected {
        Some(expected) if expected != computed => {
            Err(Error::DigestMismatch { what, expected: expected.into(), computed: computed.into() })
        }
        _ => Ok(computed),
    }
}
