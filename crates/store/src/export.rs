//! Archives that are made from what is in the store: a layer's tar, an upper directory as a new layer, a whole root.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use coracle_spec::digest::Hasher;
use coracle_spec::{ContainerId, Digest, Owners};
use coracle_sys::error::Context;

use crate::blob::expect;
use crate::compression::decoder;
use crate::error::{Error, Result};
use crate::pack::{Form, pack, pack_each, pack_root};
use crate::{Layer, Store, limits};

impl Store {
    /// Writes a tar of everything below `root`, a descriptor of a container's whole root, which shows its users as these others
    /// if it does. Other mounts are left out.
    ///
    /// # Errors
    /// [`Error::Write`], and the kernel's.
    pub fn export(root: BorrowedFd<'_>, owners: Option<&Owners>, output: impl Write) -> Result<()> {
        pack_root(root, owners, BufWriter::with_capacity(limits::CHUNK, output))
    }

    /// The same of several roots, each in a directory of this name.
    ///
    /// # Errors
    /// As [`Store::export`].
    pub fn export_each(roots: &[(&[u8], BorrowedFd<'_>)], output: impl Write) -> Result<()> {
        pack_each(roots, BufWriter::with_capacity(limits::CHUNK, output))
    }

    /// Makes a layer of what a container wrote. The caller keeps the container from writing meanwhile.
    ///
    /// The same files always give the same layer. Its tar is not stored: it is packed again when it is needed.
    ///
    /// # Errors
    /// [`Error::Archive`] for a file that a layer cannot hold (a name that begins with `.wh.`), and the kernel's.
    pub fn commit(&self, container: &ContainerId) -> Result<Layer> {
        let upper = open(&self.upper(container))?;
        self.import_packed(|output| pack(upper.as_fd(), Form::Layer, output))
    }

    /// Writes the uncompressed tar of a layer, verified while it is written.
    ///
    /// # Errors
    /// [`Error::LayerMissing`], [`Error::DigestMismatch`] when the files no longer are what they were, [`Error::Write`].
    pub fn write_layer(&self, diff_id: &Digest, output: &mut dyn Write) -> Result<()> {
        let layer = self.layer(diff_id)?;
        let mut output = Verified { output, hasher: Hasher::new(diff_id.algorithm()) };
        match &layer.blob {
            Some(kept) => {
                let blob = self.read_blob(&kept.blob.digest)?;
                let (_, mut decoded) = decoder(blob).context("read", kept.blob.digest)?;
                copy(&mut decoded, &mut output)?;
            }
            None => {
                pack(open(&self.layer_fs(diff_id))?.as_fd(), Form::Layer, &mut output)?;
            }
        }
        expect("layer", Some(*diff_id), output.hasher.finish()).map(drop)
    }
}

/// Copies, telling failures to read from failures to write.
pub(crate) fn copy(input: &mut dyn Read, output: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0; limits::CHUNK];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("read", "blob").map_err(Error::from),
        };
        output.write_all(&buffer[..count]).map_err(|source| Error::Write { what: "the archive", source })?;
    }
}

struct Verified<'a> {
    output: &'a mut dyn Write,
    hasher: Hasher,
}

impl Write for Verified<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).context("open", path.display()).map_err(Error::from)
}
