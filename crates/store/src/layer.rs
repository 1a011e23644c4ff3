//! Unpacked layers and their records.

pub(crate) mod apply;
pub(crate) mod attributes;
pub(crate) mod spot;

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use coracle_spec::Digest;
use coracle_sys::atomic;
use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::error::{Error, Result};
use crate::{Store, layout, limits};

const RECORD: &str = "layer.json";
const RECORD_VERSION: u32 = 1;
/// The directory that overlayfs stacks.
pub(crate) const FS: &str = "fs";

/// An unpacked layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed tar: the layer's name.
    pub diff_id: Digest,
    /// Bytes in its files, each hard-linked file counted once.
    pub size: u64,
    /// Size of the uncompressed tar, in bytes.
    pub tar_size: u64,
    /// The tar as it came, perhaps compressed. `None` for a committed layer, whose tar is made again when needed.
    pub blob: Option<LayerBlob>,
    /// Whether it hides everything below it.
    pub(crate) opaque_root: bool,
    /// Whether its archive described the root directory itself.
    pub(crate) root_entry: bool,
}

/// The tar of a layer as a registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// Name and size.
    pub blob: Blob,
    /// Its media type, which says how it is compressed.
    pub media_type: String,
}

/// The form on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u32,
    diff_id: Digest,
    size: u64,
    tar_size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<RecordedBlob>,
    opaque_root: bool,
    root_entry: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedBlob {
    digest: Digest,
    size: u64,
    media_type: String,
}

impl Store {
    /// The layer with this digest of its uncompressed tar, where it is in the store.
    ///
    /// # Errors
    /// [`Error::Record`] when its record is damaged, [`Error::NewerRecord`], and the kernel's.
    pub fn find_layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let Some(mut layer) = self.recorded_layer(diff_id)? else { return Ok(None) };
        if let Some(kept) = &layer.blob
            && self.has_blob(&kept.blob.digest)?.is_none()
        {
            layer.blob = None;
        }
        Ok(Some(layer))
    }

    /// Whether a layer is in the store, and its tar too where it has one.
    ///
    /// # Errors
    /// As [`Store::find_layer`].
    pub fn has_whole_layer(&self, diff_id: &Digest) -> Result<bool> {
        let Some(layer) = self.recorded_layer(diff_id)? else { return Ok(false) };
        layer.blob.map_or(Ok(true), |kept| Ok(self.has_blob(&kept.blob.digest)?.is_some()))
    }

    /// The layer as its record has it: its blob may be gone.
    ///
    /// # Errors
    /// As [`Store::find_layer`].
    pub fn recorded_layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let directory = self.layout.layer(diff_id);
        let root = match Root::open(&directory) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(None),
            result => result?,
        };
        let path = directory.join(RECORD);
        let damaged = |reason: String| Error::Record { path: path.clone(), reason };
        let content =
            root.read_bounded(RECORD, limits::RECORD).map_err(|error| damaged(error.to_string()))?;
        let record: Record = serde_json::from_slice(&content).map_err(|error| damaged(error.to_string()))?;
        if record.version > RECORD_VERSION {
            return Err(Error::NewerRecord { path });
        }
        if record.diff_id != *diff_id {
            return Err(damaged("it names another layer".to_owned()));
        }
        Ok(Some(record.into()))
    }

    /// The layer with this digest of its uncompressed tar.
    ///
    /// # Errors
    /// [`Error::LayerMissing`], and as [`Store::find_layer`].
    pub fn layer(&self, diff_id: &Digest) -> Result<Layer> {
        self.find_layer(diff_id)?.ok_or(Error::LayerMissing { diff_id: *diff_id })
    }

    /// Whether a layer hides everything below it. Read from its record once.
    pub(crate) fn is_opaque(&self, diff_id: &Digest) -> Result<bool> {
        let known = || self.opaque.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opaque) = known().get(diff_id) {
            return Ok(*opaque);
        }
        let opaque = self.layer(diff_id)?.opaque_root;
        known().insert(*diff_id, opaque);
        Ok(opaque)
    }

    /// The digests of all layers, in no order: what a garbage collection starts from.
    ///
    /// # Errors
    /// The kernel's.
    pub fn layers(&self) -> Result<Vec<Digest>> {
        digests_in(&self.layout.layers())
    }

    /// Moves a layer into the trash; `false` when it was not there. The caller knows that no image and no container
    /// uses it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_layer(&self, diff_id: &Digest) -> Result<bool> {
        // First, so that nobody is told of a layer that is gone.
        self.opaque.lock().unwrap_or_else(PoisonError::into_inner).remove(diff_id);
        self.layout.discard(&self.layout.layer(diff_id))
    }

    /// The directory that holds the files of a layer.
    pub(crate) fn layer_fs(&self, diff_id: &Digest) -> PathBuf {
        self.layout.layer(diff_id).join(FS)
    }
}

impl Layer {
    /// Writes the record into the layer's directory, which the caller syncs.
    pub(crate) fn write_record(&self, directory: &Path) -> Result<()> {
        Ok(atomic::write(directory.join(RECORD), &self.to_json(), layout::FILE)?)
    }

    /// Replaces the record of a layer in use.
    pub(crate) fn replace_record(&self, directory: &Path) -> Result<()> {
        Ok(atomic::write_durable(directory.join(RECORD), &self.to_json(), layout::FILE)?)
    }

    fn to_json(&self) -> Vec<u8> {
        let blob = self.blob.as_ref().map(|kept| RecordedBlob {
            digest: kept.blob.digest,
            size: kept.blob.size,
            media_type: kept.media_type.clone(),
        });
        let record = Record {
            version: RECORD_VERSION,
            diff_id: self.diff_id,
            size: self.size,
            tar_size: self.tar_size,
            blob,
            opaque_root: self.opaque_root,
            root_entry: self.root_entry,
        };
        serde_json::to_vec(&record).expect("a record is plain data")
    }
}

impl From<Record> for Layer {
    fn from(record: Record) -> Self {
        let blob = record.blob.map(|kept| LayerBlob {
            blob: Blob { digest: kept.digest, size: kept.size },
            media_type: kept.media_type,
        });
        Self {
            diff_id: record.diff_id,
            size: record.size,
            tar_size: record.tar_size,
            blob,
            opaque_root: record.opaque_root,
            root_entry: record.root_entry,
        }
    }
}

/// What is named by digests in `directory/<algorithm>/`.
pub(crate) fn digests_in(directory: &Path) -> Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let directory = directory.join(algorithm);
        for entry in std::fs::read_dir(&directory).context("readdir", directory.display())? {
            let name = entry.context("readdir", directory.display())?.file_name();
            // Whatever else lies there is not the store's.
            digests.extend(name.to_str().and_then(|hex| format!("{algorithm}:{hex}").parse::<Digest>().ok()));
        }
    }
    Ok(digests)
}
