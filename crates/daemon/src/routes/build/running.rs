//! A build for one client: it ends with its result as an image, or with whoever waits for it.

use crate::peer::Watch;
use crate::server::Context;
use coracle_engine::Engine;
use coracle_engine::build::{
    BuildError, BuildRecord, BuildRequest, CacheMode, Listener, Recipe, RecordedOutput, Recording, Source,
    Told,
};
use coracle_spec::{ContainerId, Digest, Platform, Reference};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Length of the id of a build whose client gives it none: that of BuildKit's.
const ID: usize = 25;

/// A registry to which a cache of the build goes.
#[derive(Debug)]
pub(super) struct CacheTarget {
    pub(super) reference: Reference,
    pub(super) mode: CacheMode,
}

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
        caches: Vec<CacheTarget>,
    ) -> Self {
        let counting = Arc::default();
        let (listener, told) = Listener::channel(Arc::clone(&counting));
        let record = record(&request, &platforms, &references);
        let recording = context.engine.begin_build_record(record, counting);
        let building = Arc::clone(&context);
        let task = tokio::spawn(async move {
            let engine = &building.engine;
            let built = build(engine, request, &platforms, references, &caches, &listener).await;
            end(recording, &built).await;
            listener.tell(Told::Built(built?)).await;
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

/// Builds, makes an image of the result, and lets others find what was done.
async fn build(
    engine: &Engine,
    request: BuildRequest,
    platforms: &[Platform],
    references: Vec<Reference>,
    caches: &[CacheTarget],
    listener: &Listener,
) -> Result<Digest, BuildError> {
    let client = Arc::clone(&request.client);
    let products = engine.build_for(request, platforms, listener).await?;
    let products: Vec<_> = products.into_iter().map(Arc::new).collect();
    let image = match &products[..] {
        [product] => engine.keep_product(product, references).await?,
        products => engine.keep_products(products, references).await?,
    };
    for target in caches {
        let credentials = client.credentials(target.reference.domain()).await?;
        let cache = engine.export_cache(&products, target.mode).await?;
        engine.push_cache(&cache, target.reference.clone(), credentials).await?;
    }
    Ok(image)
}

/// The record of a build that begins, as BuildKit's protocol would name things.
fn record(request: &BuildRequest, platforms: &[Platform], references: &[Reference]) -> BuildRecord {
    let wanted = &request.wanted;
    let arguments = wanted.arguments.iter().map(|(name, value)| (format!("build-arg:{name}"), value.clone()));
    let labels = request.labels.iter().map(|(name, value)| (format!("label:{name}"), value.clone()));
    let target = wanted.target.clone().map(|target| ("target".to_owned(), target));
    let platforms: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    let platform = ("platform".to_owned(), platforms.join(","));
    let file = match &request.recipe {
        Recipe::InContext(path) | Recipe::Client { path, .. } => Some(path.clone()),
        Recipe::Text(_) => None,
    };
    let file = file.filter(|path| !path.is_empty()).map(|path| ("filename".to_owned(), path));
    let context = match &request.source {
        Source::Address(address) => Some(("context".to_owned(), address.clone())),
        _ => None,
    };
    let attributes =
        [platform].into_iter().chain(target).chain(file).chain(context).chain(labels).chain(arguments);
    let names: Vec<String> = references.iter().map(Reference::canonical).collect();
    let attributes_of_image = [("name".to_owned(), names.join(","))].into();
    let output = RecordedOutput { kind: "moby".to_owned(), attributes: attributes_of_image };
    let mut id = ContainerId::random().to_string();
    id.truncate(ID);
    BuildRecord::begin(id, "dockerfile.v0".to_owned(), attributes, vec![output])
}

async fn end(recording: Recording, built: &Result<Digest, BuildError>) {
    let outcome = match built {
        Ok(image) => Ok([("containerimage.config.digest".to_owned(), image.to_string())].into()),
        Err(error) => Err(error.chain()),
    };
    if let Err(error) = recording.end(outcome).await {
        tracing::warn!(error = error.chain(), "a build is missing in the history");
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
