//! Where files of a step come from.

use super::context::Files;
use super::named::{Found, NOTHING};
use super::product::Product;
use super::sources::Supply;
use super::stages::Build;
use super::workshop::Bench;
use crate::engine::Shared;
use crate::error::Result;
use coracle_build::Origin;
use coracle_spec::Digest;
use std::sync::Arc;

/// See above. Dropped on threads that may block.
#[derive(Clone)]
pub(super) enum Origins {
    Context(Arc<Files>),
    /// A stage or an image, by its layers, lowest first.
    Layers(Vec<Digest>),
}

impl Origins {
    /// Whether it is read where somebody else may change it.
    pub(super) fn is_in_place(&self) -> bool {
        matches!(self, Self::Context(files) if files.is_in_place())
    }

    /// Opens it for as long as `work` takes. Blocks.
    pub(super) fn with<T>(&self, shared: &Shared, work: impl FnOnce(Supply<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Context(files) => {
                work(Supply { tree: &files.tree, left_out: &|path| files.leaves_out(path) })
            }
            Self::Layers(layers) => {
                let bench = Bench::open(shared, layers)?;
                work(Supply { tree: bench.tree(), left_out: &|_| false })
            }
        }
    }
}

impl Build<'_> {
    /// Opens what `--from` names, or the context where it names nothing.
    pub(super) async fn origin(&self, from: Option<&Origin>) -> Result<Origins> {
        let platform = &self.request.wanted.platform;
        Ok(match from {
            None => Origins::Context(self.shares.contexts.main().await?),
            Some(Origin::Stage(stage)) => Origins::Layers(self.built(*stage).await?.layers.clone()),
            Some(Origin::Image(name)) => Origins::Layers(self.image(name, platform).await?.layers),
            Some(Origin::Context(name)) => match self.shares.contexts.named(name).await? {
                Found::Files(files) => Origins::Context(files),
                Found::Image(NOTHING) => Origins::Layers(Vec::new()),
                Found::Image(image) => Origins::Layers(self.image(image, platform).await?.layers),
                Found::Product(product, _) => Origins::Layers(self.layers_of(product)),
            },
        })
    }

    /// The layers of what another build has made, which may end before this one.
    pub(super) fn layers_of(&self, product: &Product) -> Vec<Digest> {
        self.hold.and(product.layers().iter().copied());
        product.layers().to_vec()
    }
}
