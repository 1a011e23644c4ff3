//! Something in a registry that is looked at, and of which parts are taken, and which becomes no image: the caches of builds.

use super::super::{Images, Inner, registries};
use super::choose::entry_for;
use super::downloads::Source;
use super::{Teller, of_registry, refused};
use crate::error::Result;
use coracle_registry::{Access, Credentials, Pick, Repository};
use coracle_spec::image::{Descriptor, Document, Index, Manifest};
use coracle_spec::{Digest, Platform, Reference, Tag};
use coracle_store::Layer;
use std::sync::Arc;

/// A name in a registry, for one client.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    inner: Arc<Inner>,
    repository: Repository,
    reference: Reference,
}

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum Looked {
    /// A manifest: the name's own, or that of the platform.
    Manifest(Box<Manifest>),
    /// An index that has none for the platform.
    Index(Index),
}

impl Images {
    /// A name in a registry. Nothing is asked yet.
    pub(crate) fn remote(&self, reference: Reference, credentials: Credentials) -> Remote {
        let inner = Arc::clone(&self.0);
        let repository = inner.registries().repository(&reference, credentials, Access::Pull);
        Remote { inner, repository, reference }
    }
}

impl Remote {
    /// What the name stands for on a platform.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub(crate) async fn look(&self, platform: &Platform) -> Result<Looked> {
        let pick = match self.reference.digest() {
            Some(digest) => Pick::Digest(digest),
            None => Pick::Tag(self.reference.tag().cloned().unwrap_or_else(Tag::latest)),
        };
        let index = match self.document(&pick).await? {
            Document::Manifest(manifest) => return Ok(Looked::Manifest(manifest)),
            Document::Index(index) => index,
        };
        let Some(entry) = entry_for(&index, platform) else { return Ok(Looked::Index(index)) };
        match self.document(&Pick::Digest(entry.digest)).await? {
            Document::Manifest(manifest) => Ok(Looked::Manifest(manifest)),
            Document::Index(_) => Err(refused(&self.reference, "its index names another index")),
        }
    }

    async fn document(&self, pick: &Pick) -> Result<Document> {
        let manifest = self.repository.manifest(pick).await;
        Ok(manifest.map_err(|error| of_registry(error, &self.reference))?.document)
    }

    /// A whole configuration, verified.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for what is too large or not what its digest says, and as [`Images::pull`].
    pub(crate) async fn config(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        if blob.size > coracle_spec::limits::CONFIG as u64 {
            return Err(refused(&self.reference, "its configuration is larger than any"));
        }
        let content = registries::small(&self.repository, blob).await;
        let content = content.map_err(|error| of_registry(error, &self.reference))?;
        registries::verify(&self.reference, blob, &content)?;
        Ok(content)
    }

    /// Brings a layer into the store, which must be the one that it is said to be. The caller holds on to it.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for one that is another, and as [`Images::pull`].
    pub(crate) async fn layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<Layer> {
        super::pull::check_layer(blob).map_err(|reason| refused(&self.reference, reason))?;
        let source = Source {
            repository: self.repository.clone(),
            reference: self.reference.clone(),
            blob: blob.clone(),
        };
        let downloads = &self.inner.downloads;
        let begun = downloads.begin(&self.inner, &source);
        // Nobody hears how far it is.
        let (told, _) = Teller::channel();
        let layer = downloads.finish(begun, &self.inner, &source, &told).await?;
        super::pull::check_diff_id(&self.reference, blob, &layer, diff_id)?;
        Ok(layer)
    }
}
