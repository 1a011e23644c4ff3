//! What a build has made, before anybody calls it an image: it becomes one, or is handed out as an archive of its files or of the
//! image that it would be.

use super::cache::{CacheMode, DoneStep, put_inline};
use super::provenance::Ingredients;
use super::stages::Built;
use crate::containers::view_of_scratch;
use crate::engine::Engine;
use crate::error::{Attempt, Result, blocking};
use crate::images::Hold;
use coracle_spec::image::ImageConfig;
use coracle_spec::{Digest, Reference};
use coracle_store::{SavedImage, Store};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The result of a build. Its layers stay as long as the value does.
#[derive(Debug)]
pub struct Product {
    config: ImageConfig,
    layers: Vec<Digest>,
    /// What was done or found for the stages that it stands on.
    own_steps: Vec<DoneStep>,
    /// The same for all stages.
    all_steps: Vec<DoneStep>,
    /// Whether its image is a cache as well.
    is_cache: bool,
    made_of: Ingredients,
    hold: Arc<Hold>,
}

impl Product {
    pub(super) fn new(
        built: Built,
        all_steps: Vec<DoneStep>,
        made_of: Ingredients,
        labels: BTreeMap<String, String>,
        hold: Hold,
    ) -> Self {
        let mut config = built.config;
        config.config.labels.extend(labels);
        let (layers, own_steps, hold) = (built.layers, built.steps, Arc::new(hold));
        Self { config, layers, own_steps, all_steps, is_cache: false, made_of, hold }
    }

    /// Makes a cache of the image that it would be.
    pub(super) fn become_cache(&mut self) {
        put_inline(&mut self.config, &self.own_steps);
        self.is_cache = true;
    }

    /// The same files as an image that says something else of itself. Its layers stay what they are, and what was done for
    /// them where nothing else is said of that.
    #[must_use]
    pub fn with_config(&self, config: ImageConfig) -> Self {
        let history = if config.history.is_empty() { self.config.history.clone() } else { config.history };
        let config = ImageConfig { rootfs: self.config.rootfs.clone(), history, ..config };
        let mut other = Self {
            config,
            layers: self.layers.clone(),
            own_steps: self.own_steps.clone(),
            all_steps: self.all_steps.clone(),
            is_cache: self.is_cache,
            made_of: self.made_of.clone(),
            hold: Arc::clone(&self.hold),
        };
        if other.is_cache {
            other.become_cache();
        }
        other
    }

    pub(super) fn steps(&self, mode: CacheMode) -> &[DoneStep] {
        match mode {
            CacheMode::Min => &self.own_steps,
            CacheMode::Max => &self.all_steps,
        }
    }

    /// The configuration of the image that it would be.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// What it was made of.
    pub fn ingredients(&self) -> &Ingredients {
        &self.made_of
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

    /// Writes an archive of a product's files. The product stays until that is done.
    ///
    /// # Errors
    /// When `output` cannot be written, and the kernel's.
    pub async fn export_product(
        &self,
        product: Arc<Product>,
        mut output: impl Write + Send + 'static,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let exporting = || "export the files of a build".to_owned();
            let scratch = shared.store.scratch(product.layers()).attempt(exporting)?;
            let view = view_of_scratch(scratch.snapshot())?;
            let exported = Store::export(view.tree.root().as_fd(), None, &mut output);
            // Before the directories that are mounted there.
            drop(view);
            exported.attempt(exporting)?;
            output.flush().attempt(exporting)
        })
        .await?
    }

    /// Writes an archive of the image that a product would be, with these names: one that `docker load` loads, and an OCI
    /// image layout. The image's id.
    ///
    /// # Errors
    /// When `output` cannot be written, or the store is damaged.
    pub async fn save_product(
        &self,
        product: Arc<Product>,
        references: Vec<Reference>,
        mut output: impl Write + Send + 'static,
    ) -> Result<Digest> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let saving = || "save the image of a build".to_owned();
            let config = shared.store.put_config(product.config()).attempt(saving)?;
            shared.store.save(&[SavedImage { config, references }], &mut output).attempt(saving)?;
            output.flush().attempt(saving)?;
            Ok(config)
        })
        .await?
    }
}
