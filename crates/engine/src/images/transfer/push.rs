//! `docker push`: an image becomes content of a registry.
//!
//! An image that was pulled goes as it came, byte for byte; any other gets a manifest of its own. `push/index.rs` decides what
//! goes of a name that stands for several platforms. Layers go first, in
//! parallel, each only if the registry lacks it; then the configuration; then the manifest, which makes it an image there.

mod index;
mod prepared;

pub(crate) use prepared::Prepared;

use super::super::catalogue::Known;
use super::super::{Images, Inner, holds, lookup, of_store};
use super::{LayerStep, Step, Teller, of_registry};
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits::{MOUNT_SOURCES, TOLD_EVERY};
use bytes::Bytes;
use coracle_registry::{Access, Body, BodyFuture, Credentials, Pick, Repository};
use coracle_spec::image::{Descriptor, Document, Manifest, media_type};
use coracle_spec::{Digest, Platform, Reference, Tag};
use futures_util::{FutureExt, StreamExt};
use index::What;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What is to be pushed.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The name. Without a tag, all tags of the repository.
    pub reference: Reference,
    /// Only what is for this platform, as an image of its own.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

/// A tag that is in the registry now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The tag.
    pub tag: String,
    /// What it stands for.
    pub digest: Digest,
    /// The size of the manifest, in bytes.
    pub size: u64,
}

/// One tag on its way.
#[derive(Clone)]
struct Push {
    inner: Arc<Inner>,
    repository: Repository,
    reference: Reference,
    platform: Option<Platform>,
    told: Teller,
    slots: Arc<Semaphore>,
}

/// What is pushed of an image.
struct Plan {
    manifest: Manifest,
    content: Vec<u8>,
    /// What each layer is shown as: its digest as the configuration has it.
    shown: Vec<Digest>,
}

/// Whether the registry has the layers of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layers {
    /// It has.
    There,
    /// It lacks one that is not here in the form that the manifest names: it was here unpacked when the image came.
    NowhereToBeHad,
}

impl Images {
    /// Pushes an image under one name, or all images of a repository.
    ///
    /// # Errors
    /// [`Error::Missing`] where no image here has the name or the registry does not let this client, [`Error::Failed`] when it cannot be reached. Content that is there stays there; no tag changes then.
    pub async fn push(&self, request: PushRequest, told: &Teller) -> Result<Vec<Pushed>> {
        let inner = &self.0;
        let hold = inner.holds.everything();
        let names = inner.names_to_push(&request.reference)?;
        hold.only(inner.content_named(&names));
        told.tell(Step::Pushing { repository: request.reference.name() }).await;
        let mut all = Vec::new();
        for reference in names {
            let repository =
                inner.registries().repository(&reference, request.credentials.clone(), Access::Push);
            let push = Push {
                inner: Arc::clone(inner),
                repository,
                reference,
                platform: request.platform.clone(),
                told: told.clone(),
                slots: Arc::new(Semaphore::new(inner.registry_settings().uploads)),
            };
            let result = push.run().await;
            // Also of a push that failed, the registry may have begun uploads.
            push.repository.abandon().await;
            let pushed = result?;
            told.tell(Step::Pushed(pushed.clone())).await;
            all.push(pushed);
        }
        Ok(all)
    }
}

impl Inner {
    fn names_to_push(&self, reference: &Reference) -> Result<Vec<Reference>> {
        if reference.digest().is_some() {
            return Err(Error::Invalid("cannot push a digest reference".to_owned()));
        }
        if reference.tag().is_some() {
            self.find(&reference.canonical()).map_err(|_| none_to_push(reference))?;
            return Ok(vec![reference.clone()]);
        }
        let repository = reference.name();
        let catalogue = self.read();
        let of_it = |name: &&Reference| name.tag().is_some() && name.name() == repository;
        let mut names: Vec<Reference> =
            catalogue.all().flat_map(|image| image.references.iter().filter(of_it)).cloned().collect();
        if names.is_empty() {
            return Err(none_to_push(reference));
        }
        names.sort();
        Ok(names)
    }

    /// What the images of these names consist of.
    fn content_named(&self, names: &[Reference]) -> Vec<Digest> {
        let catalogue = self.read();
        let groups = names.iter().filter_map(|name| catalogue.group(&name.canonical()).ok());
        groups
            .flat_map(|group| {
                group.images.iter().flat_map(|image| holds::content_of(image)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Names of other repositories of the same registry that may have a layer.
    fn mount_sources(&self, reference: &Reference, diff_id: &Digest) -> Vec<Reference> {
        let catalogue = self.read();
        let having =
            catalogue.all().filter(|image| image.layers.iter().any(|layer| layer.diff_id == *diff_id));
        let mut names: Vec<Reference> = having
            .flat_map(|image| &image.references)
            .filter(|name| name.domain() == reference.domain() && name.path() != reference.path())
            // Only what was pulled from there or pushed there has a name with a digest.
            .filter(|name| name.digest().is_some())
            .cloned()
            .collect();
        names.dedup_by_key(|name| name.name());
        names.truncate(MOUNT_SOURCES);
        names
    }

    /// What is pushed of an image that has no manifest yet. Compresses layers that are not. Blocks.
    fn new_plan(&self, known: &Known, reference: &Reference) -> Result<Plan> {
        let pushing = || format!("prepare {} for a registry", reference.familiar());
        let diff_ids = self.image(known)?.config.rootfs.diff_ids.clone();
        let manifest = self.new_manifest(known.id, &diff_ids)?;
        let content = serde_json::to_vec(&manifest).attempt(pushing)?;
        Ok(Plan { manifest, content, shown: diff_ids })
    }

    /// The manifest of an image that has none yet. Compresses layers that are not. Blocks.
    pub(in super::super) fn new_manifest(&self, id: Digest, diff_ids: &[Digest]) -> Result<Manifest> {
        let preparing = || format!("prepare image {} for elsewhere", id.short());
        let kept = self.compressed(diff_ids).map_err(|error| of_store(error, preparing))?;
        let layers = kept
            .iter()
            .map(|kept| Descriptor::new(&kept.media_type, kept.blob.digest, kept.blob.size))
            .collect();
        let size = self.store.has_blob(&id).map_err(|error| of_store(error, preparing))?;
        let size = size.map_or(0, |blob| blob.size);
        Ok(Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::new(media_type::CONFIG, id, size),
            layers,
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        })
    }

    /// What the image was pulled or pushed with before: first what the same repository has, then that of which all is
    /// here. Blocks.
    fn plans_as_it_came(&self, known: &Known, reference: &Reference) -> Result<Vec<Plan>> {
        let diff_ids = self.image(known)?.config.rootfs.diff_ids.clone();
        let mut plans = Vec::new();
        for digest in &known.manifests {
            let limit = coracle_spec::limits::MANIFEST as u64;
            let Ok(content) = self.store.read_small_blob(digest, limit) else { continue };
            let Ok(Document::Manifest(manifest)) = Document::parse(&content, None) else { continue };
            if manifest.config.digest == known.id && manifest.layers.len() == diff_ids.len() {
                let there = known.references.contains(&lookup::key(reference.clone().with_digest(*digest)));
                let lacking = self.lacking(&manifest)?;
                let plan = Plan { manifest: *manifest, content, shown: diff_ids.clone() };
                plans.push(((!there, lacking), plan));
            }
        }
        plans.sort_by_key(|(order, _)| *order);
        Ok(plans.into_iter().map(|(_, plan)| plan).collect())
    }

    /// Whether a blob is here, or is what becomes of a layer that is here and was not compressed before: of one that another
    /// engine has sent, or whose build is repeated. Blocks.
    fn has_packed(&self, blob: &Digest, diff_id: &Digest) -> coracle_store::Result<bool> {
        if self.store.has_blob(blob)?.is_some() {
            return Ok(true);
        }
        if self.store.find_layer(diff_id)?.is_none() {
            return Ok(false);
        }
        Ok(self.compressed(&[*diff_id])?.iter().any(|kept| kept.blob.digest == *blob))
    }

    /// How many layers of a manifest are not here as it has them.
    fn lacking(&self, manifest: &Manifest) -> Result<usize> {
        let mut lacking = 0;
        for layer in &manifest.layers {
            let found = self.store.has_blob(&layer.digest);
            lacking += usize::from(
                found.map_err(|error| of_store(error, || "look for layers".to_owned()))?.is_none(),
            );
        }
        Ok(lacking)
    }
}

impl Push {
    async fn run(&self) -> Result<Pushed> {
        let platform = self.platform.clone();
        let what = self.blocking(move |inner, name| inner.what_to_push(name, platform.as_ref())).await?;
        match what {
            What::One(known) => self.one(known).await,
            What::Index(index) => self.index(&index).await,
        }
    }

    /// Pushes one image or artifact.
    async fn one(&self, known: Arc<Known>) -> Result<Pushed> {
        let id = known.id;
        if known.artifact.is_some() {
            let plan = self.blocking(move |inner, reference| inner.artifact_plan(&known, reference)).await?;
            return match self.layers(&plan).await? {
                Layers::There => self.finish(id, plan).await,
                Layers::NowhereToBeHad => Err(self.gone()),
            };
        }
        let plans = self.blocking({
            let known = Arc::clone(&known);
            move |inner, reference| inner.plans_as_it_came(&known, reference)
        });
        for plan in plans.await? {
            if self.layers(&plan).await? == Layers::There {
                return self.finish(id, plan).await;
            }
        }
        let plan = self.blocking(move |inner, reference| inner.new_plan(&known, reference)).await?;
        match self.layers(&plan).await? {
            Layers::There => self.finish(id, plan).await,
            Layers::NowhereToBeHad => Err(self.gone()),
        }
    }

    fn gone(&self) -> Error {
        let name = self.reference.familiar();
        Error::Conflict(format!("layers of {name} went while it was pushed: push it again"))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &Reference) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (inner, reference) = (Arc::clone(&self.inner), self.reference.clone());
        blocking(move || work(&inner, &reference)).await?
    }

    /// Brings the layers into the registry.
    async fn layers(&self, plan: &Plan) -> Result<Layers> {
        let mut going = JoinSet::new();
        for (layer, diff_id) in plan.manifest.layers.iter().zip(&plan.shown).rev() {
            self.told.layer(&diff_id.short(), LayerStep::Preparing).await;
            let (push, layer, diff_id) = (self.clone(), layer.clone(), *diff_id);
            going.spawn(async move { push.layer(&layer, diff_id).await });
        }
        let mut all = Layers::There;
        while let Some(result) = going.join_next().await {
            if super::joined(result)? == Layers::NowhereToBeHad {
                all = Layers::NowhereToBeHad;
            }
        }
        Ok(all)
    }

    async fn layer(&self, layer: &Descriptor, diff_id: Digest) -> Result<Layers> {
        let id = diff_id.short();
        self.told.layer(&id, LayerStep::Waiting).await;
        let _slot = self.slots.acquire().await.attempt(|| "wait for an upload to begin".to_owned())?;
        if self.there(&layer.digest).await?.is_some() {
            self.told.layer(&id, LayerStep::PresentThere).await;
            return Ok(Layers::There);
        }
        for source in self.inner.mount_sources(&self.reference, &diff_id) {
            // A mount only saves an upload: a registry that fails at it may well take one.
            if self.repository.mount(&layer.digest, &source).await.unwrap_or(false) {
                let from = source.path().to_owned();
                self.told.layer(&id, LayerStep::Mounted(from)).await;
                return Ok(Layers::There);
            }
        }
        let digest = layer.digest;
        let here = self.blocking(move |inner, _| {
            let here = inner.has_packed(&digest, &diff_id);
            here.map_err(|error| of_store(error, || format!("look for {digest}")))
        });
        if !here.await? {
            return Ok(Layers::NowhereToBeHad);
        }
        let (told, total, shown) = (self.told.clone(), layer.size, id.clone());
        let progress = move |done| {
            // Best effort: the next one says more.
            let state = LayerStep::Sending { done, total };
            let _ = told.0.try_send(Step::Layer { id: shown.clone(), state });
        };
        self.upload(layer, progress).await?;
        self.told.layer(&id, LayerStep::Sent).await;
        Ok(Layers::There)
    }

    /// The configuration, and the manifest that makes an image of all.
    async fn finish(&self, id: Digest, plan: Plan) -> Result<Pushed> {
        self.config(&plan).await?;
        let pushed = self.put_manifest(&Pick::Tag(self.tag()), &plan).await?;
        let content = plan.content;
        self.blocking(move |inner, reference| inner.remember_pushed(id, reference, pushed, &content)).await
    }

    async fn config(&self, plan: &Plan) -> Result<()> {
        if self.there(&plan.manifest.config.digest).await?.is_none() {
            self.upload(&plan.manifest.config, |_| ()).await?;
        }
        Ok(())
    }

    async fn there(&self, digest: &Digest) -> Result<Option<u64>> {
        self.repository.has_blob(digest).await.map_err(|error| of_registry(error, &self.reference))
    }

    async fn upload(&self, blob: &Descriptor, progress: impl Fn(u64) + Send + Sync + 'static) -> Result<()> {
        let progress: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(progress);
        let (inner, digest) = (Arc::clone(&self.inner), blob.digest);
        let open = move || open(Arc::clone(&inner), digest, Arc::clone(&progress));
        self.repository.upload(blob, &open).await.map_err(|error| of_registry(error, &self.reference))
    }

    fn tag(&self) -> Tag {
        self.reference.tag().cloned().unwrap_or_else(Tag::latest)
    }

    async fn put_manifest(&self, pick: &Pick, plan: &Plan) -> Result<Pushed> {
        let own = plan.manifest.media_type.as_str();
        let kind = if own.is_empty() { media_type::MANIFEST } else { own };
        self.put(pick, kind, plan.content.clone()).await
    }

    /// Sends a manifest or an index.
    async fn put(&self, pick: &Pick, kind: &str, content: Vec<u8>) -> Result<Pushed> {
        let size = content.len() as u64;
        let digest = self.repository.put_manifest(pick, kind, Bytes::from(content)).await;
        let digest = digest.map_err(|error| of_registry(error, &self.reference))?;
        Ok(Pushed { tag: self.tag().to_string(), digest, size })
    }
}

impl Inner {
    /// The image has a name with a digest now, if the name that was pushed is its own. Blocks.
    fn remember_pushed(
        &self,
        id: Digest,
        reference: &Reference,
        pushed: Pushed,
        content: &[u8],
    ) -> Result<Pushed> {
        let storing = || format!("store the manifest of {}", reference.familiar());
        let _hold = self.arriving();
        self.store.put_blob_as(pushed.digest, content).map_err(|error| of_store(error, storing))?;
        let change = self.change();
        // Otherwise it was removed while it went, or is one platform of several: it is in the registry, and called by their
        // name here.
        let known = self
            .read()
            .get(&id)
            .filter(|image| image.references.contains(&lookup::key(reference.clone())))
            .cloned();
        if let Some(known) = known {
            self.note_pushed(&known, reference, pushed.digest)?;
        }
        drop(change);
        self.tell_transfer(&id, "push", reference);
        Ok(pushed)
    }

    /// The caller has begun a change.
    fn note_pushed(&self, known: &Known, reference: &Reference, digest: Digest) -> Result<()> {
        let by_digest = lookup::key(reference.clone().with_digest(digest));
        let has_target = known.targets.contains_key(&lookup::key(reference.clone()));
        if has_target && known.manifests.contains(&digest) && known.references.contains(&by_digest) {
            return Ok(());
        }
        let mut image = known.clone();
        if !image.manifests.contains(&digest) {
            image.manifests.push(digest);
        }
        image.gain(by_digest, Some(digest));
        if !has_target {
            image.gain(lookup::key(reference.clone()), Some(digest));
        }
        self.put(vec![image])
    }
}

fn none_to_push(reference: &Reference) -> Error {
    Error::Missing(format!("An image does not exist locally with the tag: {}", reference.name()))
}

/// A blob's bytes, counted as they go.
fn open(inner: Arc<Inner>, digest: Digest, progress: Arc<dyn Fn(u64) + Send + Sync>) -> BodyFuture {
    async move {
        let file = tokio::task::spawn_blocking(move || inner.store.read_blob(&digest));
        let file = file.await.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
        let sent = Counted { done: AtomicU64::new(0), last: Mutex::new(Instant::now()), progress };
        let chunks = futures_util::stream::try_unfold(file, |file| async move {
            tokio::task::spawn_blocking(move || next_chunk(file)).await.map_err(std::io::Error::other)?
        });
        let body: Body = chunks.inspect(move |chunk| sent.count(chunk)).boxed();
        Ok(body)
    }
    .boxed()
}

fn next_chunk(mut file: File) -> std::io::Result<Option<(Bytes, File)>> {
    let mut chunk = Vec::with_capacity(crate::limits::UPLOAD_CHUNK);
    file.by_ref().take(crate::limits::UPLOAD_CHUNK as u64).read_to_end(&mut chunk)?;
    Ok((!chunk.is_empty()).then(|| (chunk.into(), file)))
}

struct Counted {
    done: AtomicU64,
    last: Mutex<Instant>,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Counted {
    fn count(&self, chunk: &std::io::Result<Bytes>) {
        let Ok(chunk) = chunk else { return };
        let done = self.done.fetch_add(chunk.len() as u64, Ordering::Relaxed) + chunk.len() as u64;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= TOLD_EVERY {
            *last = Instant::now();
            (self.progress)(done);
        }
    }
}
