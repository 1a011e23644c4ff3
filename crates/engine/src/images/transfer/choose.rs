//! From a name to the manifest of one platform. What was asked for by digest before is in the store and not asked for
//! again.

use super::super::{Inner, of_store};
use super::{of_registry, refused};
use crate::error::{Result, blocking};
use coracle_registry::{Pick, Repository};
use coracle_spec::image::{Descriptor, Document, Index, Manifest};
use coracle_spec::{Digest, Platform, Reference};
use std::sync::Arc;

/// The manifest that a name stands for.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// What the name stands for: a manifest, or an index of them.
    pub(super) named: Digest,
    /// The manifest for the platform.
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    /// What the index says that the manifest is for; nothing where the name stands for the manifest itself.
    pub(super) entry: Option<Descriptor>,
    /// What the index says that stands beside the manifest.
    pub(super) attestations: Vec<Descriptor>,
}

impl Chosen {
    /// The digests of everything that it names, and its own.
    pub(super) fn content(&self) -> impl Iterator<Item = Digest> {
        let layers = self.manifest.layers.iter().map(|layer| layer.digest);
        layers.chain([self.named, self.digest, self.manifest.config.digest])
    }
}

/// Who asks, for what.
pub(super) struct Question<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) repository: &'a Repository,
    pub(super) reference: &'a Reference,
    pub(super) platform: &'a Platform,
}

impl Question<'_> {
    /// Finds the manifest. A name that is known already is asked for with one request that brings no content.
    pub(super) async fn choose(&self) -> Result<Chosen> {
        let (named, document) = match self.reference.digest() {
            Some(digest) => (digest, self.document(digest).await?),
            None => self.document_of_tag().await?,
        };
        match document {
            Document::Manifest(manifest) => {
                let attestations = Vec::new();
                Ok(Chosen { named, digest: named, manifest: *manifest, entry: None, attestations })
            }
            Document::Index(index) => {
                let entry = self.entry(&index)?.clone();
                let digest = entry.digest;
                let attestations = index.attestations_of(&digest).cloned().collect();
                match self.document(digest).await? {
                    Document::Manifest(manifest) => {
                        Ok(Chosen { named, digest, manifest: *manifest, entry: Some(entry), attestations })
                    }
                    Document::Index(_) => Err(refused(self.reference, "its index names another index")),
                }
            }
        }
    }

    async fn document_of_tag(&self) -> Result<(Digest, Document)> {
        let tag = self.reference.tag().cloned().unwrap_or_else(coracle_spec::Tag::latest);
        let pick = Pick::Tag(tag);
        if self.inner.read().named(self.reference).is_some() {
            let there =
                self.repository.describe(&pick).await.map_err(|error| of_registry(error, self.reference))?;
            return Ok((there.digest, self.document(there.digest).await?));
        }
        let manifest =
            self.repository.manifest(&pick).await.map_err(|error| of_registry(error, self.reference))?;
        let digest = manifest.descriptor.digest;
        self.keep(digest, manifest.content).await?;
        Ok((digest, manifest.document))
    }

    /// The document with a digest, from the store or else from the registry.
    async fn document(&self, digest: Digest) -> Result<Document> {
        let inner = Arc::clone(self.inner);
        let stored = blocking(move || {
            let limit = coracle_spec::limits::MANIFEST as u64;
            inner.store.read_small_blob(&digest, limit).ok()
        })
        .await?;
        if let Some(document) = stored.and_then(|content| Document::parse(&content, None).ok()) {
            return Ok(document);
        }
        let manifest = self.repository.manifest(&Pick::Digest(digest)).await;
        let manifest = manifest.map_err(|error| of_registry(error, self.reference))?;
        self.keep(digest, manifest.content).await?;
        Ok(manifest.document)
    }

    async fn keep(&self, digest: Digest, content: bytes::Bytes) -> Result<()> {
        let (inner, name) = (Arc::clone(self.inner), self.reference.familiar());
        blocking(move || inner.store.put_blob_as(digest, &content))
            .await?
            .map(drop)
            .map_err(|error| of_store(error, || format!("store the manifest of {name}")))
    }

    fn entry<'a>(&self, index: &'a Index) -> Result<&'a Descriptor> {
        entry_for(index, self.platform).ok_or_else(|| {
            let text = format!("no matching manifest for {} in the manifest list entries", self.platform);
            crate::Error::Missing(format!("{text} of {}", self.reference.familiar()))
        })
    }
}

/// The entry of an index that runs best on a platform; of several that run as well, the first.
pub(super) fn entry_for<'a>(index: &'a Index, platform: &Platform) -> Option<&'a Descriptor> {
    let is_image = |entry: &&Descriptor| entry.is_manifest() && entry.attestation().is_none();
    let candidates = index.manifests.iter().filter(is_image);
    let ranked = candidates.filter_map(|entry| {
        let rank = entry.platform.as_ref()?.rank_on(platform)?;
        Some((rank, entry))
    });
    let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry);
    // An entry need not say what it runs on.
    best.or_else(|| index.manifests.iter().filter(is_image).find(|entry| entry.platform.is_none()))
}
