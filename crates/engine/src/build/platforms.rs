//! A build for one platform or several: one for each, all at once and of the same contexts. What does not depend on the
//! platform is done by one of them, and found by the others.

use super::cache::Imports;
use super::context;
use super::stages::{Build, Built, Request, Shares};
use super::{BuildRequest, BuildResult, Listener, Product, Told, read};
use crate::engine::{Engine, Shared};
use crate::error::{Attempt, Error, Result, blocking};
use coracle_spec::Platform;
use std::sync::Arc;

impl Engine {
    /// Builds for the platform that the request names. The result is kept as long as the value is;
    /// [`Engine::keep_product`] makes an image of it.
    ///
    /// # Errors
    /// [`super::BuildError::Command`] for a command that fails, [`Error::Invalid`] for a Dockerfile or a context that cannot be used.
    pub async fn build(&self, request: BuildRequest, listener: &Listener) -> BuildResult<Product> {
        let platforms = [request.wanted.platform.clone()];
        let products = self.build_for(request, &platforms, listener).await?;
        products.into_iter().next().ok_or_else(|| none().into())
    }

    /// Builds for each of these platforms; the results in the same order.
    ///
    /// # Errors
    /// As [`Engine::build`]: whatever fails first ends all.
    pub async fn build_for(
        &self,
        request: BuildRequest,
        platforms: &[Platform],
        listener: &Listener,
    ) -> BuildResult<Vec<Product>> {
        if platforms.is_empty() {
            return Err(none().into());
        }
        let BuildRequest {
            source,
            recipe,
            contexts,
            client,
            mut wanted,
            labels,
            pull,
            anew,
            host,
            caches,
            inline_cache,
            squash,
            allowed,
        } = request;
        wanted.contexts = contexts.keys().cloned().collect();
        // Before anything arrives.
        let holds: Vec<_> = platforms.iter().map(|_| self.shared.images.hold_what_comes()).collect();
        let epoch = super::stages::epoch(&wanted)?;
        let (text, contexts) = context::open(&self.shared, source, &recipe, contexts, &client).await?;
        let (text, shares) = (Arc::<str>::from(text), Arc::new(Shares::new(contexts)));
        let mut builds = Vec::new();
        for (platform, hold) in platforms.iter().zip(holds) {
            wanted.platform = platform.clone();
            let (text, asked) = (Arc::clone(&text), wanted.clone());
            // A hostile file may take a while.
            let (read, warnings) = blocking(move || read(&text, &asked)).await??;
            if builds.is_empty() {
                for warning in warnings {
                    listener.tell(Told::Warning(warning)).await;
                }
            }
            let request = Request {
                client: Arc::clone(&client),
                wanted: wanted.clone(),
                pull,
                anew: anew.clone(),
                host: host.clone(),
                allowed: allowed.clone(),
                epoch,
                // What a name stands for may depend on the platform.
                caches: Imports::new(caches.clone())?,
                is_one_of_several: platforms.len() > 1,
            };
            builds.push(Build::new(self, request, read, listener, hold, Arc::clone(&shares)));
        }
        listener.tell(Told::Steps(builds.iter().flat_map(Build::steps).collect())).await;
        let built = futures_util::future::try_join_all(builds.iter().map(Build::all)).await?;
        let mut products = Vec::new();
        for (build, built) in builds.into_iter().zip(built) {
            let mut built = built.as_ref().clone();
            if squash {
                built = squashed(&self.shared, built).await?;
            }
            let (all, made_of) = (build.done_steps(), build.ingredients(&text));
            let mut product = Product::new(built, all, made_of, labels.clone(), build.into_hold());
            if inline_cache {
                product.become_cache();
            }
            products.push(product);
        }
        Ok(products)
    }
}

/// With one layer instead of those that are not its base image's.
async fn squashed(shared: &Arc<Shared>, built: Built) -> Result<Built> {
    let layers = built.layers.clone();
    let (base, store) = (built.base, Arc::clone(&shared.store));
    let squashing = move || store.squash(&layers[..base], &layers[base..]);
    let layer = blocking(squashing).await?.attempt(|| "make one layer of several".to_owned())?;
    Ok(built.squashed(layer.map(|layer| layer.diff_id)))
}

fn none() -> Error {
    Error::Invalid("a build needs a platform".to_owned())
}
