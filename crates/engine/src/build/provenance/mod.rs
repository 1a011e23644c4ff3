//! Where a result comes from, as a statement beside the image that anybody can read.
//!
//! ```text
//! ingredients.rs  noted while the build goes on ─► statement.rs  the document ─► images  an index of image and statement
//! ```

mod ingredients;
mod statement;

pub(super) use ingredients::Notes;
pub use ingredients::{Ingredients, Material};
pub use statement::{ProvenanceMode, ProvenanceRequest};

use super::Product;
use crate::engine::Engine;
use crate::error::Result;
use crate::images::{AttestedImages, Tell};
use coracle_spec::{Digest, Reference};
use std::io::Write;
use std::sync::Arc;

/// Products with statements beside them, ready to be kept or sent. They stay as long as the value does.
#[derive(Clone, Debug)]
pub struct Attested(Arc<AttestedImages>);

impl Attested {
    /// The index of all.
    pub fn digest(&self) -> Digest {
        self.0.index
    }

    /// The image, where it is one.
    pub fn only_image(&self) -> Option<Digest> {
        let mut ids = self.0.ids();
        ids.next().filter(|_| ids.next().is_none())
    }
}

impl Engine {
    /// Makes statements about products that will be called so, and an index of all. Layers that are not compressed yet are:
    /// what a statement is about is a manifest.
    ///
    /// # Errors
    /// The store's.
    pub async fn attest_products(
        &self,
        products: &[Arc<Product>],
        request: &ProvenanceRequest,
        names: &[Reference],
    ) -> Result<Attested> {
        let about = |product: &Arc<Product>| {
            let (request, names, told) = (request.clone(), names.to_vec(), Arc::clone(product));
            let tell: Tell = Box::new(move |manifest| {
                let platform = &told.config().platform;
                statement::statement(&request, told.ingredients(), platform, (manifest, &names))
            });
            (product.config().clone(), tell)
        };
        let images = products.iter().map(about).collect();
        Ok(Attested(Arc::new(self.shared.images.attest(images, statement::PREDICATE).await?)))
    }

    /// As [`Engine::keep_products`], with the statements.
    ///
    /// # Errors
    /// As there.
    pub async fn keep_attested(&self, attested: &Attested, references: Vec<Reference>) -> Result<()> {
        self.shared.images.adopt_attested(Arc::clone(&attested.0), references).await
    }

    /// As [`Engine::save_products`], with the statements.
    ///
    /// # Errors
    /// As there.
    pub async fn save_attested(
        &self,
        attested: &Attested,
        references: Vec<Reference>,
        output: impl Write + Send + 'static,
    ) -> Result<()> {
        self.shared.images.save_attested(Arc::clone(&attested.0), references, output).await
    }
}
