//! What stands beside an image in its index and is here: statements about it. Each is a manifest and the blobs that this
//! describes, kept as they came and unpacked nowhere. They belong to the image's record, and go with the image.

use super::catalogue::Known;
use super::{Inner, of_store};
use crate::error::Result;
use coracle_spec::image::{Descriptor, Document, Index};
use coracle_spec::{Digest, limits};

impl Inner {
    /// The attestations of an image in an index of it, as far as its record has them: of each the manifest, and then what this
    /// describes. One that is not whole is none. Blocks.
    pub(super) fn attestations_of(&self, image: &Known, index: &Digest) -> Result<Vec<Descriptor>> {
        let Some(member) = image.indexes.get(index) else { return Ok(Vec::new()) };
        let Some((_, Document::Index(index))) = self.described(*index) else { return Ok(Vec::new()) };
        let of_record = |part: &Descriptor| image.manifests.contains(&part.digest);
        let mut all = self.attestations_here(&index, &member.manifest)?;
        all.retain(|attestation| attestation.iter().all(of_record));
        Ok(all.into_iter().flatten().collect())
    }

    /// The attestations of a manifest in an index all of whose parts are in the store. Blocks.
    pub(super) fn attestations_here(&self, index: &Index, manifest: &Digest) -> Result<Vec<Vec<Descriptor>>> {
        let (mut here, mut room) = (Vec::new(), limits::ATTESTED);
        for entry in index.attestations_of(manifest).take(limits::ATTESTATIONS) {
            let Some(parts) = self.whole_attestation(&entry.digest, room)? else { continue };
            room = parts[1..].iter().fold(room, |room, part| room.saturating_sub(part.size));
            here.push(parts);
        }
        Ok(here)
    }

    /// An attestation with everything that belongs to it, if all of that is in the store. Blocks.
    pub(super) fn whole_attestation(&self, digest: &Digest, room: u64) -> Result<Option<Vec<Descriptor>>> {
        let Some((manifest, document)) = self.described(*digest) else { return Ok(None) };
        let Ok(blobs) = document.attested(room) else { return Ok(None) };
        let mut parts = vec![manifest];
        for blob in blobs {
            let here = self.store.has_blob(&blob.digest);
            let here = here.map_err(|error| of_store(error, || format!("look for attestation {digest}")))?;
            if here.is_none_or(|here| here.size != blob.size) {
                return Ok(None);
            }
            parts.push(blob.clone());
        }
        Ok(Some(parts))
    }
}
