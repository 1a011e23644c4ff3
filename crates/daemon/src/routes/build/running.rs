//! A build for one client: it ends with its result as an image, or with whoever waits for it.

use crate::peer::Watch;
use crate::server::Context;
use coracle_engine::build::{BuildError, BuildRequest, Listener, Told};
use coracle_spec::{Platform, Reference};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// See above.
pub(super) struct Running {
    /// Until its end was told.
    task: Option<JoinHandle<Result<(), BuildError>>>,
    told: mpsc::Receiver<Told>,
    context: Arc<Context>,
    client: Watch,
}

impl Running {
    /// Begins a build whose result gets these names.
    pub(super) fn begin(
        context: Arc<Context>,
        client: Watch,
        request: BuildRequest,
        platforms: Vec<Platform>,
        references: Vec<Reference>,
    ) -> Self {
        let (listener, told) = Listener::channel();
        let building = Arc::clone(&context);
        let task = tokio::spawn(async move {
            let engine = &building.engine;
            let products = engine.build_for(request, &platforms, &listener).await?;
            let products: Vec<_> = products.into_iter().map(Arc::new).collect();
            let image = match &products[..] {
                [product] => engine.keep_product(product, references).await?,
                products => engine.keep_products(products, references).await?,
            };
            listener.tell(Told::Built(image)).await;
            Ok(())
        });
        Self { task: Some(task), told, context, client }
    }

    /// What it tells next; `None` at its end, and when the client is gone.
    pub(super) async fn next(&mut self) -> Result<Option<Told>, BuildError> {
        let Some(task) = &mut self.task else { return Ok(None) };
        tokio::select! {
            told = self.told.recv() => {
                if told.is_some() {
                    return Ok(told);
                }
            }
            () = self.client.gone() => {
                task.abort();
                self.task = None;
                return Ok(None);
            }
        }
        let ended = task.await;
        self.task = None;
        ended.unwrap_or_else(|error| {
            let source = Box::new(error);
            Err(coracle_engine::Error::Failed { action: "build".to_owned(), source }.into())
        })?;
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        // Also of a build that failed or was given up, something may be left to delete.
        self.context.engine.tidy_soon();
    }
}
