//! What a build has made, handed out without becoming an image: as an archive of its files, or of the image that it would
//! be.

use crate::build::Product;
use crate::containers::view_of_scratch;
use crate::engine::Engine;
use crate::error::{Attempt, Result, blocking};
use coracle_spec::{Digest, Reference};
use coracle_store::{SavedImage, Store};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

impl Engine {
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
            let exported = Store::export(view.tree.root().as_fd(), &mut output);
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
