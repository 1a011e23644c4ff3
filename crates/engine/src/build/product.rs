//! What a build has made, before anybody calls it an image.

use super::stages::Built;
use crate::engine::Engine;
use crate::error::Result;
use crate::images::Hold;
use coracle_spec::image::ImageConfig;
use coracle_spec::{Digest, Reference};
use std::collections::BTreeMap;

/// The result of a build. Its layers stay as long as the value does.
#[derive(Debug)]
pub struct Product {
    config: ImageConfig,
    layers: Vec<Digest>,
    _hold: Hold,
}

impl Product {
    pub(super) fn new(built: Built, labels: BTreeMap<String, String>, hold: Hold) -> Self {
        let mut config = built.config;
        config.config.labels.extend(labels);
        Self { config, layers: built.layers, _hold: hold }
    }

    /// The configuration of the image that it would be.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its layers, lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }
}

impl Engine {
    /// Makes an image of what was built, with these names. Durable on return; the id.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a name that no new image can have.
    pub async fn keep_product(&self, product: &Product, references: Vec<Reference>) -> Result<Digest> {
        self.shared.images.adopt_built(product.config.clone(), references).await
    }
}
