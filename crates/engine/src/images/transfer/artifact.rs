//! What a registry keeps besides images: charts, signatures, policies, models. It comes as it is: every blob that the manifest
//! describes is verified and kept, and nothing is unpacked.

use super::super::adopt::NewArtifact;
use super::super::body::BodyReader;
use super::super::forward::forward;
use super::super::{Inner, of_store};
use super::choose::Chosen;
use super::pull::{Pull, Pulled, names, origin};
use super::{LayerStep, Step, of_registry, refused};
use crate::error::{Result, blocking};
use coracle_spec::image::Descriptor;
use coracle_spec::{Digest, Platform};
use std::io::{self, Write};
use std::sync::Arc;

impl Pull<'_> {
    /// Pulls what is no image.
    pub(super) async fn artifact(&self, chosen: Chosen, kind: String) -> Result<Pulled> {
        if kind.is_empty() {
            return Err(refused(&self.reference, "its configuration has no type"));
        }
        let blobs: Vec<Descriptor> = chosen.manifest.blobs().into_iter().cloned().collect();
        if let Some(blob) = blobs.iter().find(|blob| !blob.urls.is_empty()) {
            let text =
                format!("blob {} is kept elsewhere than in the registry, which is not fetched", blob.digest);
            return Err(refused(&self.reference, text));
        }
        for blob in &blobs {
            self.blob(blob).await?;
        }
        self.told.tell(Step::Pulled(chosen.named)).await;
        self.adopt_artifact(chosen, kind, blobs).await
    }

    /// Brings a blob that is not here.
    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<()> {
        let id = blob.digest.short();
        let (inner, digest) = (Arc::clone(self.inner), blob.digest);
        let here = blocking(move || inner.store.has_blob(&digest)).await?;
        if here.map_err(|error| of_store(error, || format!("look for blob {digest}")))?.is_some() {
            self.told.layer(&id, LayerStep::Present).await;
            return Ok(());
        }
        self.told.layer(&id, LayerStep::Wanted).await;
        loop {
            let (result, host) = self.fetch(blob).await?;
            match result {
                // Only a mirror may be wrong.
                Err(coracle_store::Error::DigestMismatch { .. }) if self.repository.distrust(&host) => {}
                Err(error) => {
                    let name = self.reference.familiar();
                    return Err(of_store(error, || format!("store blob {} of {name}", blob.digest)));
                }
                Ok(()) => break,
            }
        }
        self.told.layer(&id, LayerStep::Complete).await;
        Ok(())
    }

    /// One attempt, and which host gave the content.
    async fn fetch(&self, blob: &Descriptor) -> Result<(coracle_store::Result<()>, String)> {
        let failed = |error| of_registry(error, &self.reference);
        let mut stream = self.repository.blob(blob, 0).await.map_err(failed)?;
        let (sender, reader) = BodyReader::channel();
        let (inner, digest) = (Arc::clone(self.inner), blob.digest);
        let storing = tokio::task::spawn_blocking(move || store(&inner, digest, reader));
        let (id, total) = (blob.digest.short(), blob.size);
        let tell = |done| self.told.layer(&id, LayerStep::Downloading { done, total });
        let came = forward(&mut stream, sender, tell).await;
        // If no more comes, this ends for the same reason.
        let stored = storing.await;
        came.map_err(failed)?;
        let host = stream.host();
        Ok((super::joined(stored.map(Ok))?, host))
    }

    async fn adopt_artifact(&self, chosen: Chosen, kind: String, blobs: Vec<Descriptor>) -> Result<Pulled> {
        let (inner, reference) = (Arc::clone(self.inner), self.reference.clone());
        blocking(move || {
            let id = chosen.digest;
            let origin = origin(&chosen, Platform::default());
            let newer = !inner.leads_to(&reference, &id, &origin);
            let mut all = vec![chosen.named, chosen.digest];
            all.dedup();
            all.extend(blobs.iter().map(|blob| blob.digest));
            let new = NewArtifact {
                id,
                references: names(&reference, chosen.named),
                kind,
                blobs: all,
                size: blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size)),
            };
            inner.adopt_artifact(new, &origin)?;
            inner.tell_transfer(&id, "pull", &reference);
            Ok(Pulled { id, digest: chosen.named, newer })
        })
        .await?
    }
}

/// Writes a blob, which must be the one that was announced. Blocks.
fn store(inner: &Inner, digest: Digest, mut content: BodyReader) -> coracle_store::Result<()> {
    // It goes on for a moment when the pull is given up.
    let _hold = inner.holds.arriving_blob(digest);
    let mut writer = inner.store.blob_writer(Some(digest))?;
    io::copy(&mut content, &mut writer)
        .and_then(|_| writer.flush())
        .map_err(|source| coracle_store::Error::Write { what: "blob", source })?;
    writer.finish().map(drop)
}
