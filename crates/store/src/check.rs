//! Whether the disk still holds what was put there. Every blob is read and compared with its name, and every layer with
//! its tar: the tar is unpacked again in `tmp/` and both trees must be alike in names, kinds, modes, owners, extended
//! attributes, contents and whole seconds of the times of all but directories, which an archive need not describe. A
//! committed layer has no tar; it is packed again, which must give its digest.
//!
//! Not checked: what is unfinished (`partial/`, verified when it is whole) and what containers wrote, which has no digest.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use coracle_spec::Digest;
use coracle_spec::digest::{Algorithm, Hasher};
use rustix::io::Errno;

use crate::blob::Hashing;
use crate::error::{Error, Result};
use crate::layer::FS;
use crate::pack::{Form, pack};
use crate::{Layer, LayerBlob, Store, export};

/// Something with a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A blob, by its own digest.
    Blob(Digest),
    /// A layer, by the digest of its tar.
    Layer(Digest),
}

/// What a check found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is what its name says.
    Whole,
    /// It is not; how.
    Damaged(String),
    /// It may be: what it is to be compared with is damaged or missing.
    Unproven(String),
    /// It was removed before it could be looked at.
    Gone,
}

impl Store {
    /// Looks at every blob and then at every layer, telling what it finds until `told` has enough. Takes as long as
    /// reading everything once and unpacking every layer. Safe beside everything else; what arrives meanwhile is not
    /// looked at.
    ///
    /// # Errors
    /// When something cannot be compared for a reason that is not its own: a full disk, a lack of memory.
    pub fn check(&self, told: &mut dyn FnMut(Subject, Condition) -> ControlFlow<()>) -> Result<()> {
        for digest in self.blobs()? {
            if told(Subject::Blob(digest), self.check_blob(&digest)?).is_break() {
                return Ok(());
            }
        }
        for diff_id in self.layers()? {
            if told(Subject::Layer(diff_id), self.check_layer(&diff_id)?).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Moves something into the quarantine; `false` when it is gone. Whatever uses it by descriptor goes on using it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn quarantine(&self, subject: &Subject) -> Result<bool> {
        match subject {
            Subject::Blob(digest) => self.layout.set_aside(&self.layout.blob(digest), "blob", digest),
            Subject::Layer(diff_id) => self.layout.set_aside(&self.layout.layer(diff_id), "layer", diff_id),
        }
    }

    fn check_blob(&self, digest: &Digest) -> Result<Condition> {
        match std::fs::symlink_metadata(self.layout.blob(digest)) {
            Ok(metadata) if !metadata.is_file() => return Ok(Condition::Damaged("it is no file".to_owned())),
            _ => {}
        }
        judged(self.verify_blob(digest).map(|()| Condition::Whole))
    }

    fn check_layer(&self, diff_id: &Digest) -> Result<Condition> {
        judged(self.prove_layer(diff_id))
    }

    fn prove_layer(&self, diff_id: &Digest) -> Result<Condition> {
        let layer = self.recorded_layer(diff_id)?.ok_or(Error::LayerMissing { diff_id: *diff_id })?;
        let fs = self.layer_fs(diff_id);
        if !fs.is_dir() {
            return Ok(Condition::Damaged("its files are missing".to_owned()));
        }
        let Some(kept) = &layer.blob else { return self.prove_by_packing(diff_id, &fs) };
        let doubt = match self.check_blob(&kept.blob.digest)? {
            Condition::Whole => return self.prove_by_unpacking(&layer, kept, &fs),
            Condition::Gone => "missing",
            Condition::Damaged(_) | Condition::Unproven(_) => "damaged",
        };
        // Many archives are written as we write them; then the files prove themselves.
        match self.prove_by_packing(diff_id, &fs)? {
            Condition::Whole => Ok(Condition::Whole),
            _ => Ok(Condition::Unproven(format!("its archive, blob {}, is {doubt}", kept.blob.digest))),
        }
    }

    fn prove_by_packing(&self, diff_id: &Digest, fs: &Path) -> Result<Condition> {
        let computed = packed(fs, Form::Layer, diff_id.algorithm())?;
        Ok(if computed == *diff_id {
            Condition::Whole
        } else {
            Condition::Damaged(format!("its files are not what they were: packed again they give {computed}"))
        })
    }

    fn prove_by_unpacking(&self, layer: &Layer, kept: &LayerBlob, fs: &Path) -> Result<Condition> {
        let blob = self.read_blob(&kept.blob.digest)?;
        let (work, fresh) = match self.unpack_aside(blob, &layer.diff_id) {
            Err(error) if error.is_input() => {
                let text = coracle_spec::full_text(&error);
                return Ok(Condition::Damaged(format!(
                    "its record names an archive that is not its own: {text}"
                )));
            }
            result => result?,
        };
        let as_recorded = Layer { blob: layer.blob.clone(), ..fresh } == *layer;
        let alike = as_recorded
            && packed(fs, Form::Likeness, Algorithm::Sha256)?
                == packed(&work.path.join(FS), Form::Likeness, Algorithm::Sha256)?;
        work.remove()?;
        Ok(match (as_recorded, alike) {
            (false, _) => Condition::Damaged("its record is not what its archive says".to_owned()),
            (true, false) => Condition::Damaged("its files are not those of its archive".to_owned()),
            (true, true) => Condition::Whole,
        })
    }
}

/// The digest of a tree that is packed.
fn packed(fs: &Path, form: Form, algorithm: Algorithm) -> Result<Digest> {
    let mut hashing = Hashing { hasher: Hasher::new(algorithm) };
    let output = io::BufWriter::with_capacity(crate::limits::CHUNK, &mut hashing);
    pack(export::open(fs)?.as_fd(), form, output)?;
    Ok(hashing.hasher.finish())
}

/// Failures that say something about what was looked at are findings.
fn judged(result: Result<Condition>) -> Result<Condition> {
    match result {
        Err(Error::BlobMissing { .. } | Error::LayerMissing { .. }) => Ok(Condition::Gone),
        // Another engine can prove it.
        Err(error @ Error::NewerRecord { .. }) => Ok(Condition::Unproven(error.to_string())),
        Err(error) if error.is_input() || is_damage(&error) => {
            Ok(Condition::Damaged(coracle_spec::full_text(&error)))
        }
        result => result,
    }
}

/// What a medium or a file system answers that has lost something.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Record { .. } => true,
        Error::Kernel(error) => {
            matches!(
                error.errno(),
                Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN | Errno::NOTDIR | Errno::LOOP)
            )
        }
        _ => false,
    }
}
