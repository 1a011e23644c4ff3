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
use crate::images::AttestedImage;
use coracle_spec::{Digest, Reference};
use std::io::Write;
use std::sync::Arc;

/// A product with a statement beside it, ready to be kept or sent. It stays as long as the value does.
#[derive(Debug)]
pub struct Attested(AttestedImage);

impl Attested {
    /// The index of both.
    pub fn digest(&self) -> Digest {
        self.0.index
    }
}

impl Engine {
    /// Makes a statement about a product that will be called so, and an index of both. Layers that are not compressed yet
    /// are: what a statement is about is a manifest.
    ///
    /// # Errors
    /// The store's.
    pub async fn attest_product(
        &self,
        product: &Product,
        request: &ProvenanceRequest,
        names: &[Reference],
    ) -> Result<Attested> {
        let (request, names) = (request.clone(), names.to_vec());
        let (made_of, platform) = (product.ingredients().clone(), product.config().platform.clone());
        let tell =
            move |manifest: &Digest| statement::statement(&request, &made_of, &platform, (manifest, &names));
        let attested =
            self.shared.images.attest(product.config().clone(), statement::PREDICATE, tell).await?;
        Ok(Attested(attested))
    }

    /// As [`Engine::keep_product`], with the statement.
    ///
    /// # Errors
    /// As there.
    pub async fn keep_attested(&self, attested: &Attested, references: Vec<Reference>) -> Result<Digest> {
        self.shared.images.adopt_attested(&attested.0, references).await
    }

    /// As [`Engine::save_product`], with the statement.
    ///
    /// # Errors
    /// As there.
    pub async fn save_attested(
        &self,
        attested: Arc<Attested>,
        references: Vec<Reference>,
        output: impl Write + Send + 'static,
    ) -> Result<Digest> {
        self.shared.images.save_attested(&attested.0, references, output).await
    }
}
