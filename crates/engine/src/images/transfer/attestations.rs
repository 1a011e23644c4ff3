//! Statements about an image come with it, those that its index has beside it. None of them ever keeps the image from coming:
//! what the registry lacks, or what is none, is told and left out.

use super::super::of_store;
use super::choose::Chosen;
use super::pull::Pull;
use super::{Step, of_registry};
use crate::error::{Error, Result, blocking};
use coracle_registry::Pick;
use coracle_spec::image::{Descriptor, Document};
use coracle_spec::{Digest, limits};
use std::sync::Arc;

impl Pull<'_> {
    /// Brings the attestations of what was chosen; everything that belongs to those that are here now. What is here already
    /// is not asked for.
    pub(super) async fn attestations(&self, chosen: &Chosen) -> Result<Vec<Digest>> {
        let (mut all, mut room) = (Vec::new(), limits::ATTESTED);
        for entry in chosen.attestations.iter().take(limits::ATTESTATIONS) {
            self.hold.and([entry.digest]);
            match self.attestation(entry, room).await {
                Ok(parts) => {
                    room = parts[1..].iter().fold(room, |room, part| room.saturating_sub(part.size));
                    all.extend(parts.iter().map(|part| part.digest));
                }
                Err(error) if is_of_this_machine(&error) => return Err(error),
                Err(error) => self.left_out(&entry.digest.to_string(), &error.chain()).await,
            }
        }
        if let Some(more) = chosen.attestations.len().checked_sub(limits::ATTESTATIONS + 1) {
            self.left_out(&format!("{} more", more + 1), "its index has more about it than is kept").await;
        }
        Ok(all)
    }

    /// One of them: its manifest, and then what this describes.
    async fn attestation(&self, entry: &Descriptor, room: u64) -> Result<Vec<Descriptor>> {
        let document = self.attestation_manifest(entry.digest).await?;
        let blobs = document.attested(room).map_err(|reason| Error::Invalid(reason.to_owned()))?;
        self.hold.and(blobs.iter().map(|blob| blob.digest));
        for blob in blobs {
            self.blob(blob).await?;
        }
        let (inner, digest) = (Arc::clone(self.inner), entry.digest);
        let parts = blocking(move || inner.whole_attestation(&digest, room)).await??;
        parts.ok_or_else(|| Error::Invalid("its parts are not as large as it says".to_owned()))
    }

    /// From the store or else from the registry.
    async fn attestation_manifest(&self, digest: Digest) -> Result<Document> {
        let inner = Arc::clone(self.inner);
        if let Some((_, document)) = blocking(move || inner.described(digest)).await? {
            return Ok(document);
        }
        let found = self.repository.manifest(&Pick::Digest(digest)).await;
        let found = found.map_err(|error| of_registry(error, &self.reference))?;
        let inner = Arc::clone(self.inner);
        let stored = blocking(move || inner.store.put_blob_as(digest, &found.content)).await?;
        stored.map_err(|error| of_store(error, || format!("store attestation {digest}")))?;
        Ok(found.document)
    }

    async fn left_out(&self, which: &str, reason: &str) {
        let text = format!("attestation {which} of {} is left out: {reason}", self.reference.familiar());
        self.told.tell(Step::Warning(text)).await;
    }
}

/// Whether it is no registry's fault.
fn is_of_this_machine(error: &Error) -> bool {
    matches!(error, Error::Failed { source, .. } if source.is::<coracle_store::Error>())
}
