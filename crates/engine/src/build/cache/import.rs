//! Caches of others that a build is given: read when the first step is looked for, and a layer brought only when its step
//! is found.
//!
//! A cache says which layer a step left, and that cannot be proved without doing the step: it is trusted as an image is
//! whose name somebody gives. So what it says counts for builds that name it, and for no other: it is remembered under a
//! key that has the cache in it. Content is proved, the blob by its digest and the layer by its own. A cache that fails
//! once is not asked again by the same build, which goes on without it.

use super::portable::{self, NoCache, Offer, Offers};
use super::{Inputs, Remembered};
use crate::build::inputs::Client;
use crate::build::stages::{Build, Left};
use crate::build::told::Told;
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::{BodyReader, Looked, Remote};
use crate::limits;
use coracle_spec::digest::Hasher;
use coracle_spec::image::{Descriptor, Document, Index};
use coracle_spec::{Digest, Platform, Reference};
use coracle_store::Expected;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use time::OffsetDateTime;
use tokio::sync::OnceCell;

/// Where a cache of others is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheSource {
    /// An image that is here and a cache as well, or else something in a registry.
    Named(Reference),
    /// With the client.
    Client {
        /// What the client calls the place.
        store: String,
        /// The manifest.
        manifest: Digest,
    },
}

impl fmt::Display for CacheSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(reference) => formatter.write_str(&reference.familiar()),
            Self::Client { store, .. } => formatter.write_str(store),
        }
    }
}

impl CacheSource {
    /// Whom a step is believed for, in the key that it is remembered under.
    fn identity(&self) -> String {
        match self {
            Self::Named(reference) => format!("named {}", reference.canonical()),
            Self::Client { store, manifest } => format!("client {store} {manifest}"),
        }
    }
}

/// The caches of one build.
pub(in crate::build) struct Imports(Vec<Import>);

/// One of them.
struct Import {
    source: CacheSource,
    /// What it offers, once it was read; nothing where that failed.
    offered: OnceCell<Option<Offered>>,
    is_out: AtomicBool,
}

struct Offered {
    offers: Offers,
    place: Place,
}

/// Where layers come from.
enum Place {
    /// They are here, as an image's.
    Here,
    Registry(Remote),
    Client(String),
}

impl Imports {
    /// # Errors
    /// [`Error::Invalid`] for more than a build may have.
    pub(in crate::build) fn new(sources: Vec<CacheSource>) -> Result<Self> {
        if sources.len() > limits::CACHES {
            let text = format!("a build may be given {} caches, not {}", limits::CACHES, sources.len());
            return Err(Error::Invalid(text));
        }
        let unread = |source| Import { source, offered: OnceCell::new(), is_out: AtomicBool::new(false) };
        Ok(Self(sources.into_iter().map(unread).collect()))
    }

    /// What the step of this key left where somebody else did it, from the first cache that has it.
    pub(in crate::build) async fn find(
        &self,
        build: &Build<'_>,
        step: usize,
        (text, depth): (&str, usize),
        inputs: &Inputs,
    ) -> Result<Option<Left>> {
        let key = inputs.key();
        for import in &self.0 {
            let Some(offered) = import.offered(build).await else { continue };
            let Some(offer) = offered.offers.get(&key) else { continue };
            if import.is_out.load(Ordering::Relaxed) {
                continue;
            }
            match bring(build, &offered.place, offer).await {
                Ok(size) => {
                    let step = Remembered {
                        depth,
                        layer: offer.layer.as_ref().map(|(layer, _)| *layer),
                        size,
                        created: offer.created,
                        text: text.to_owned(),
                        inputs: inputs.clone().into_vec(),
                    };
                    import.remember(build, inputs, step).await?;
                    let layer = offer.layer.as_ref().map(|(layer, _)| *layer);
                    return Ok(Some(Left { layer, created: offer.created, key: Some(key) }));
                }
                Err(error) => {
                    import.is_out.store(true, Ordering::Relaxed);
                    let (from, reason) = (import.source.to_string(), error.chain());
                    build.listener.tell(Told::NotUsed { step, from, reason }).await;
                }
            }
        }
        Ok(None)
    }
}

impl Import {
    async fn offered(&self, build: &Build<'_>) -> Option<&Offered> {
        self.offered.get_or_init(|| self.read(build)).await.as_ref()
    }

    async fn read(&self, build: &Build<'_>) -> Option<Offered> {
        let name = self.source.to_string();
        build.listener.tell(Told::Reading(name.clone(), OffsetDateTime::now_utc())).await;
        let read = match &self.source {
            CacheSource::Named(reference) => named(build, reference).await,
            CacheSource::Client { store, manifest } => of_client(build, store, *manifest).await,
        };
        let failure = read.as_ref().err().map(Error::chain);
        build.listener.tell(Told::Read(name, OffsetDateTime::now_utc(), failure)).await;
        read.ok()
    }

    /// Keeps the layer for the next build that names the same cache.
    async fn remember(&self, build: &Build<'_>, inputs: &Inputs, step: Remembered) -> Result<()> {
        let mut inputs = inputs.clone();
        inputs.add("the cache", &self.source.identity());
        let (key, built) = (inputs.key(), &build.shared().built);
        if built.find(&key).is_some_and(|known| known.layer == step.layer) {
            built.note_use(&key, build.begun);
            return Ok(());
        }
        built.remember(key, step, build.begun).await
    }
}

/// An image that is here, or what a registry has.
async fn named(build: &Build<'_>, reference: &Reference) -> Result<Offered> {
    let platform = &build.request.wanted.platform;
    if let Some(offers) = here(build, reference, platform).await? {
        return Ok(Offered { offers, place: Place::Here });
    }
    let credentials = build.request.client.credentials(reference.domain()).await?;
    let remote = build.shared().images.remote(reference.clone(), credentials);
    let manifest = match remote.look(platform).await? {
        Looked::Manifest(manifest) => manifest,
        Looked::Index(index) => return Err(unreadable(reference, of_index(&index))),
    };
    portable::check(&manifest).map_err(|reason| unreadable(reference, reason))?;
    let config = remote.config(&manifest.config).await?;
    let offers = portable::offers(&manifest, &config).map_err(|reason| unreadable(reference, reason))?;
    Ok(Offered { offers, place: Place::Registry(remote) })
}

async fn here(build: &Build<'_>, reference: &Reference, platform: &Platform) -> Result<Option<Offers>> {
    let image = match build.shared().images.resolve_for(&reference.canonical(), Some(platform)).await {
        Ok(image) => image,
        Err(Error::NotFound { .. } | Error::Missing(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Whatever is wrong with it, the registry may have another.
    let offers = portable::inline_offers(&image.config, None).ok();
    if offers.is_some() {
        build.hold.and(image.layers);
    }
    Ok(offers)
}

fn of_index(index: &Index) -> NoCache {
    if index.manifests.iter().any(portable::is_buildkits) { NoCache::BuildKits } else { NoCache::Nothing }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unreadable(name: impl fmt::Display, reason: NoCache) -> Error {
    Error::Invalid(format!("cannot use the cache {name}: {reason}"))
}

async fn of_client(build: &Build<'_>, store: &str, digest: Digest) -> Result<Offered> {
    let refused = |reason| unreadable(store, reason);
    let client = &build.request.client;
    let content = small(client, store, digest, coracle_spec::limits::MANIFEST).await?;
    let document = Document::parse(&content, None);
    let manifest = match document.map_err(|error| refused(NoCache::Malformed(error.to_string())))? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => return Err(refused(of_index(&index))),
    };
    portable::check(&manifest).map_err(refused)?;
    let config = small(client, store, manifest.config.digest, coracle_spec::limits::CONFIG).await?;
    let offers = portable::offers(&manifest, &config).map_err(refused)?;
    Ok(Offered { offers, place: Place::Client(store.to_owned()) })
}

/// A whole blob of the client's, of so many bytes at most, verified.
async fn small(client: &Arc<dyn Client>, store: &str, digest: Digest, limit: usize) -> Result<Vec<u8>> {
    let reader = client.blob(store, &digest).await?;
    let name = store.to_owned();
    let reading = move || {
        let mut content = Vec::new();
        reader
            .take(limit as u64 + 1)
            .read_to_end(&mut content)
            .attempt(|| format!("read blob {digest} of {name}"))?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&content);
        let computed = hasher.finish();
        if content.len() > limit || computed != digest {
            let text =
                format!("blob {digest} of {name} is not what its digest says, or larger than {limit} bytes");
            return Err(Error::Invalid(text));
        }
        Ok(content)
    };
    blocking(reading).await?
}

/// Brings the layer that is offered, unless it is here; the bytes in its files.
async fn bring(build: &Build<'_>, place: &Place, offer: &Offer) -> Result<u64> {
    let Some((diff_id, blob)) = &offer.layer else { return Ok(0) };
    // First, so that it is not freed between the look and the use.
    build.hold.and([*diff_id]);
    let shared = build.shared();
    if let Some(size) = size_here(shared, *diff_id).await? {
        return Ok(size);
    }
    match (place, blob) {
        (Place::Registry(remote), Some(blob)) => Ok(remote.layer(blob, diff_id).await?.size),
        (Place::Client(store), Some(blob)) => {
            let content = build.request.client.blob(store, &blob.digest).await?;
            from_client(shared, content, blob.clone(), *diff_id).await
        }
        _ => Err(Error::Missing(format!("layer {diff_id} of it is not here any more"))),
    }
}

async fn size_here(shared: &Arc<Shared>, diff_id: Digest) -> Result<Option<u64>> {
    let store = Arc::clone(&shared.store);
    let found = blocking(move || {
        if store.has_whole_layer(&diff_id)? {
            store.layer(&diff_id).map(|layer| Some(layer.size))
        } else {
            Ok(None)
        }
    });
    found.await?.attempt(|| format!("look for layer {diff_id}"))
}

async fn from_client(
    shared: &Arc<Shared>,
    content: BodyReader,
    blob: Descriptor,
    diff_id: Digest,
) -> Result<u64> {
    let shared = Arc::clone(shared);
    blocking(move || {
        let expected = Expected { blob: Some(blob.digest), diff_id: Some(diff_id) };
        // One byte more is another blob.
        let layer = shared.store.import(content.take(blob.size.saturating_add(1)), &expected);
        let layer = layer.map_err(|error| {
            crate::build::context::of_input(error, || format!("unpack layer {}", blob.digest.short()))
        })?;
        Ok(layer.size)
    })
    .await?
}
