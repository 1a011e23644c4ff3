//! What a build for several platforms has made, before anybody calls it an image: an index of images, an archive of that, or
//! a directory of files for each platform.

use super::product::Product;
use crate::containers::view_of_scratch;
use crate::engine::Engine;
use crate::error::{Attempt, Result, blocking};
use coracle_spec::{Digest, Reference};
use coracle_store::{LeftOut, Saved, SavedVariant, Store};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

impl Engine {
    /// Makes an image of each product, and an index of them that these names stand for. Durable on return; the digest of the
    /// index.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a name that no new image can have.
    pub async fn keep_products(
        &self,
        products: &[Arc<Product>],
        references: Vec<Reference>,
    ) -> Result<Digest> {
        let configs = products.iter().map(|product| product.config().clone()).collect();
        self.shared.images.adopt_index(configs, references).await
    }

    /// Writes an archive of the index that products would be, with these names: as [`Engine::save_product`] of one image,
    /// which readers that know no index find to be the first.
    ///
    /// # Errors
    /// When `output` cannot be written, or the store is damaged.
    pub async fn save_products(
        &self,
        products: Vec<Arc<Product>>,
        references: Vec<Reference>,
        mut output: impl Write + Send + 'static,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let hold = self.shared.images.hold_what_comes();
        blocking(move || {
            let saving = || "save the images of a build".to_owned();
            let mut images = Vec::new();
            for product in &products {
                let config = shared.store.put_config(product.config()).attempt(saving)?;
                images.push(SavedVariant { config, manifest: None });
            }
            let index = Saved::Index { index: None, images };
            shared.store.save_all(&[(index, references)], LeftOut::default(), &mut output).attempt(saving)?;
            drop(hold);
            output.flush().attempt(saving)
        })
        .await?
    }

    /// Writes an archive of the files of products, each in a directory of this name.
    ///
    /// # Errors
    /// As [`Engine::export_product`].
    pub async fn export_products(
        &self,
        products: Vec<(String, Arc<Product>)>,
        mut output: impl Write + Send + 'static,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let exporting = || "export the files of a build".to_owned();
            let mut scratches = Vec::new();
            for (_, product) in &products {
                scratches.push(shared.store.scratch(product.layers()).attempt(exporting)?);
            }
            let views = scratches.iter().map(|scratch| view_of_scratch(scratch.snapshot()));
            let views: Vec<_> = views.collect::<Result<_>>()?;
            let names = products.iter().map(|(name, _)| name.as_bytes());
            let roots: Vec<_> =
                names.zip(&views).map(|(name, view)| (name, view.tree.root().as_fd())).collect();
            let exported = Store::export_each(&roots, &mut output);
            // Before the directories that are mounted there.
            drop(views);
            exported.attempt(exporting)?;
            output.flush().attempt(exporting)
        })
        .await?
    }
}
