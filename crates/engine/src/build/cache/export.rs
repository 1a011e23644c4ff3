//! What a build did and found, for caches elsewhere.

use super::portable::{self, DoneStep};
use crate::build::Product;
use crate::engine::Engine;
use crate::error::Result;
use crate::images::Prepared;
use coracle_registry::Credentials;
use coracle_spec::image::Descriptor;
use coracle_spec::{Digest, Reference};
use std::fs::File;
use std::sync::Arc;

/// Which steps go into a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those of the stages that the result stands on.
    #[default]
    Min,
    /// Those of all stages.
    Max,
}

/// A cache that is ready to go: a manifest, and what it describes. All of it stays as long as the value does.
#[derive(Debug)]
pub struct ExportedCache(Prepared);

impl ExportedCache {
    /// Of the manifest.
    pub fn descriptor(&self) -> &Descriptor {
        self.0.descriptor()
    }

    /// Everything that belongs to it, the manifest last.
    pub fn blobs(&self) -> Vec<Descriptor> {
        self.0.blobs()
    }
}

impl Engine {
    /// Makes a cache of the steps of products. Layers that are not compressed yet are.
    ///
    /// # Errors
    /// The store's.
    pub async fn export_cache(&self, products: &[Arc<Product>], mode: CacheMode) -> Result<ExportedCache> {
        let steps: Vec<DoneStep> = products.iter().flat_map(|product| product.steps(mode)).cloned().collect();
        let (config, layers) = (portable::configuration(&steps), portable::layers_of(&steps));
        let prepared = self.shared.images.prepare(portable::CONFIG, config, layers).await?;
        Ok(ExportedCache(prepared))
    }

    /// Brings a cache into a registry.
    ///
    /// # Errors
    /// As a push of an image.
    pub async fn push_cache(
        &self,
        cache: &ExportedCache,
        reference: Reference,
        credentials: Credentials,
    ) -> Result<()> {
        self.shared.images.push_prepared(&cache.0, reference, credentials).await
    }

    /// Opens one of the blobs of a cache.
    ///
    /// # Errors
    /// The store's.
    pub async fn open_cache_blob(&self, _of: &ExportedCache, digest: Digest) -> Result<File> {
        self.shared.images.open_blob(digest).await
    }
}
