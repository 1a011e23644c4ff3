//! Caches of a build on their way to registries and to the client.

use super::builds::Build;
use super::cache_options::{Export, Place};
use super::client::Caller;
use super::outputs::Shown;
use super::steps::digest_of;
use crate::server::Context;
use bytes::Bytes;
use coracle_buildkit::content::{Blob, Store};
use coracle_buildkit::proto::moby::buildkit::v1::VertexWarning;
use coracle_buildkit::{Event, Session};
use coracle_engine::build::{CacheMode, Client, ExportedCache, Product};
use coracle_spec::image::Descriptor;
use coracle_spec::{Reference, full_text};
use futures_util::{Stream, stream};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use tonic::Status;

/// What a client is told of a cache: with it, it writes down which of its blobs is the cache.
const TOLD: &str = "cache.manifest";
/// Bytes of a blob that are read at once.
const PIECE: usize = 256 << 10;

/// Writes the caches that are wanted, and says what clients want to know of them.
///
/// # Errors
/// What cannot be written, unless that is no matter.
pub(super) async fn write(
    context: &Context,
    build: &Build,
    products: &[Arc<Product>],
    exports: &[Export],
) -> Result<HashMap<String, String>, Status> {
    let mut told = HashMap::new();
    for export in exports {
        // An image that is a cache as well was made so.
        let Export::Elsewhere { place, mode, is_optional } = export else { continue };
        match one(context, build, products, place, *mode).await {
            Ok(descriptor) => drop(told.insert(TOLD.to_owned(), descriptor)),
            Err(failure) if *is_optional => warn(build, place, &failure),
            Err(failure) => return Err(failure),
        }
    }
    Ok(told)
}

fn label(place: &Place) -> &'static str {
    match place {
        Place::Registry(_) => "exporting cache to registry",
        Place::Client(_) => "exporting cache to client directory",
    }
}

async fn one(
    context: &Context,
    build: &Build,
    products: &[Arc<Product>],
    place: &Place,
    mode: CacheMode,
) -> Result<String, Status> {
    let name = match place {
        Place::Registry(reference) => reference.familiar(),
        Place::Client(store) => store.clone(),
    };
    // Two caches of the same kind are two parts of the work.
    let shown = format!("{} {name}", label(place));
    let vertex = digest_of(&build.id, &shown);
    let work = async {
        let session = context.door.sessions.get(&build.session).await;
        let session = session.map_err(|error| Status::unknown(full_text(&error)))?;
        let cache = context.engine.export_cache(products, mode).await.map_err(failed)?;
        let descriptor = cache.descriptor();
        Shown::note(build, &vertex, &format!("writing cache manifest {}", descriptor.digest));
        match place {
            Place::Registry(reference) => push(context, build, session, &cache, reference).await?,
            Place::Client(store) => send(context, &session, &cache, store).await?,
        }
        serde_json::to_string(&described(descriptor)).map_err(|error| Status::internal(error.to_string()))
    };
    Shown::run(build, &shown, work).await
}

fn described(descriptor: &Descriptor) -> serde_json::Value {
    serde_json::json!({
        "mediaType": descriptor.media_type, "digest": descriptor.digest.to_string(), "size": descriptor.size,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn failed(error: coracle_engine::Error) -> Status {
    Status::unknown(error.chain())
}

async fn push(
    context: &Context,
    build: &Build,
    session: Arc<Session>,
    cache: &ExportedCache,
    reference: &Reference,
) -> Result<(), Status> {
    let caller = Caller::bare(session, build);
    let credentials = caller.credentials(reference.domain()).await.map_err(failed)?;
    context.engine.push_cache(cache, reference.clone(), credentials).await.map_err(failed)
}

/// The manifest comes last: a directory that has it has all.
async fn send(
    context: &Context,
    session: &Session,
    cache: &ExportedCache,
    store: &str,
) -> Result<(), Status> {
    let failed_there = |error: coracle_buildkit::Error| Status::unknown(full_text(&error));
    let store = Store::of(session, store).map_err(failed_there)?;
    for blob in cache.blobs() {
        let file = context.engine.open_cache_blob(cache, blob.digest).await.map_err(failed)?;
        let blob = Blob { digest: blob.digest.to_string(), size: blob.size };
        store.write(&blob, parts(file)).await.map_err(failed_there)?;
    }
    Ok(())
}

fn parts(file: File) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(file, |mut file| async move {
        let reading = move || {
            let mut part = Vec::with_capacity(PIECE);
            file.by_ref().take(PIECE as u64).read_to_end(&mut part)?;
            Ok((!part.is_empty()).then(|| (part.into(), file)))
        };
        tokio::task::spawn_blocking(reading).await.map_err(io::Error::other)?
    })
}

fn warn(build: &Build, place: &Place, failure: &Status) {
    let short = format!("{} failed, which is no matter: {}", label(place), failure.message());
    build.progress.tell(Event::Warning(VertexWarning {
        level: 1,
        short: short.into_bytes(),
        ..VertexWarning::default()
    }));
}
