//! A layer as registries take it: compressed.

use std::io::{BufWriter, Write};

use coracle_spec::Digest;
use flate2::write::GzEncoder;

use crate::error::{Error, Result};
use crate::layer::LayerBlob;
use crate::{Compression, Store, limits};

/// Between the fastest, which makes a base image a sixth larger, and the usual 6, which takes two and a half times as long.
const LEVEL: flate2::Compression = flate2::Compression::new(4);

impl Store {
    /// The compressed tar of a layer: as it came, or made now and kept from now on, also instead of an uncompressed one.
    /// Its time stamp is zero, so that the same layer always becomes the same blob. Durable on return.
    ///
    /// # Errors
    /// [`Error::LayerMissing`], [`Error::DigestMismatch`] when the layer's files no longer are what they were, and the
    /// kernel's.
    pub fn compressed(&self, diff_id: &Digest) -> Result<LayerBlob> {
        let mut layer = self.layer(diff_id)?;
        let usual = [Compression::Gzip, Compression::Zstd].map(Compression::media_type);
        if let Some(kept) = layer.blob.as_ref().filter(|kept| usual.contains(&kept.media_type.as_str())) {
            return Ok(kept.clone());
        }
        let write = |source| Error::Write { what: "the compressed layer", source };
        let mut blob = self.blob_writer(None)?;
        let mut output = BufWriter::with_capacity(limits::CHUNK, GzEncoder::new(&mut blob, LEVEL));
        self.write_layer(diff_id, &mut output)?;
        let encoder = output.into_inner().map_err(|error| write(error.into_error()))?;
        encoder.finish().and_then(Write::flush).map_err(write)?;
        let kept = LayerBlob { blob: blob.finish()?, media_type: Compression::Gzip.media_type().to_owned() };
        layer.blob = Some(kept.clone());
        layer.replace_record(&self.layout.layer(diff_id))?;
        Ok(kept)
    }
}
