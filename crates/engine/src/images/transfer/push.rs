//! `docker push`: an image becomes content of a registry.
//!
//! An image that was pulled goes as it came, byte for byte; any other gets a manifest of its own. Layers go first, in
//! parallel, each only if the registry lacks it; then the configuration; then the manifest, which makes it an image there.

use super::super::catalogue::Known;
use super::super::{Hold, Images, Inner, NewImage, lookup, of_store};
use super::{LayerStep, Step, Teller, of_registry};
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits::{MOUNT_SOURCES, TOLD_EVERY};
use bytes::Bytes;
use coracle_registry::{Access, Body, BodyFuture, Credentials, Pick, Repository};
use coracle_spec::image::{Descriptor, Document, Manifest, media_type};
use coracle_spec::{Digest, Reference};
use futures_util::{FutureExt, StreamExt};
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
    told: Teller,
    slots: Arc<Semaphore>,
}

/// What is pushed of an image.
struct Plan {
    manifest: Manifest,
    content: Vec<u8>,
    /// For each layer, its digest as the configuration has it.
    diff_ids: Vec<Digest>,
}

impl Images {
    /// Pushes an image under one name, or all images of a repository.
    ///
    /// # Errors
    /// [`Error::NotFound`] where no image here has the name, [`Error::NotInRegistry`] when the registry does not let this
    /// client, [`Error::Failed`] when it cannot be reached. Content that is there stays there; no tag changes then.
    pub async fn push(&self, request: PushRequest, told: &Teller) -> Result<Vec<Pushed>> {
        let inner = &self.0;
        let _hold: Hold = inner.arriving();
        let names = inner.names_to_push(&request.reference)?;
        told.tell(Step::Pushing { repository: request.reference.name() }).await;
        let mut all = Vec::new();
        for reference in names {
            let repository =
                inner.registries.repository(&reference, request.credentials.clone(), Access::Push);
            let push = Push {
                inner: Arc::clone(inner),
                repository,
                reference,
                told: told.clone(),
                slots: Arc::new(Semaphore::new(inner.uploads)),
            };
            let pushed = push.run().await?;
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
            self.find(&reference.canonical())?;
            return Ok(vec![reference.clone()]);
        }
        let repository = reference.name();
        let catalogue = self.read();
        let of_it = |name: &&Reference| name.tag().is_some() && name.name() == repository;
        let mut names: Vec<Reference> =
            catalogue.all().flat_map(|image| image.references.iter().filter(of_it)).cloned().collect();
        if names.is_empty() {
            return Err(Error::NotFound { kind: "image", name: reference.familiar_name() });
        }
        names.sort();
        Ok(names)
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

    /// What to push of an image. Compresses layers that are not. Blocks.
    fn plan_push(&self, known: &Known, reference: &Reference) -> Result<Plan> {
        let pushing = || format!("prepare {} for a registry", reference.familiar());
        let config = self.image(known)?.config;
        let diff_ids = config.rootfs.diff_ids.clone();
        if let Some((manifest, content)) = self.manifest_as_it_came(known, reference)? {
            return Ok(Plan { manifest, content, diff_ids });
        }
        let mut layers = Vec::new();
        for diff_id in &diff_ids {
            let kept = self.store.compressed(diff_id).map_err(|error| of_store(error, pushing))?;
            layers.push(Descriptor::new(&kept.media_type, kept.blob.digest, kept.blob.size));
        }
        let size = self.store.has_blob(&known.id).map_err(|error| of_store(error, pushing))?;
        let size = size.map_or(0, |blob| blob.size);
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::new(media_type::CONFIG, known.id, size),
            layers,
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        let content = serde_json::to_vec(&manifest).attempt(pushing)?;
        Ok(Plan { manifest, content, diff_ids })
    }

    /// The manifest that the image was pulled or pushed with before, if all that it names is here: best the one of the
    /// same repository.
    fn manifest_as_it_came(
        &self,
        known: &Known,
        reference: &Reference,
    ) -> Result<Option<(Manifest, Vec<u8>)>> {
        let mut candidates = known.manifests.clone();
        let here =
            |digest: &Digest| known.references.contains(&lookup::key(reference.clone().with_digest(*digest)));
        candidates.sort_by_key(|digest| !here(digest));
        for digest in candidates {
            let limit = coracle_spec::limits::MANIFEST as u64;
            let Ok(content) = self.store.read_small_blob(&digest, limit) else { continue };
            let Ok(Document::Manifest(manifest)) = Document::parse(&content, None) else { continue };
            if manifest.config.digest == known.id && self.has_all(&manifest)? {
                return Ok(Some((*manifest, content)));
            }
        }
        Ok(None)
    }

    fn has_all(&self, manifest: &Manifest) -> Result<bool> {
        for layer in &manifest.layers {
            let found = self.store.has_blob(&layer.digest);
            if found.map_err(|error| of_store(error, || "look for layers".to_owned()))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Push {
    async fn run(&self) -> Result<Pushed> {
        let known = self.inner.find(&self.reference.canonical())?;
        let id = known.id;
        let plan = {
            let (inner, reference) = (Arc::clone(&self.inner), self.reference.clone());
            blocking(move || inner.plan_push(&known, &reference)).await??
        };
        self.layers(&plan).await?;
        if self.there(&plan.manifest.config.digest).await?.is_none() {
            self.upload(&plan.manifest.config, |_| ()).await?;
        }
        let pushed = self.manifest(plan).await?;
        let (inner, reference) = (Arc::clone(&self.inner), self.reference.clone());
        blocking(move || inner.remember_pushed(id, &reference, pushed)).await?
    }

    async fn layers(&self, plan: &Plan) -> Result<()> {
        let mut going = JoinSet::new();
        for (layer, diff_id) in plan.manifest.layers.iter().zip(&plan.diff_ids).rev() {
            self.told.layer(&diff_id.short(), LayerStep::Preparing).await;
            let (push, layer, diff_id) = (self.clone(), layer.clone(), *diff_id);
            going.spawn(async move { push.layer(&layer, diff_id).await });
        }
        while let Some(result) = going.join_next().await {
            super::joined(result)?;
        }
        Ok(())
    }

    async fn layer(&self, layer: &Descriptor, diff_id: Digest) -> Result<()> {
        let id = diff_id.short();
        self.told.layer(&id, LayerStep::Waiting).await;
        let _slot = self.slots.acquire().await.attempt(|| "wait for an upload to begin".to_owned())?;
        if self.there(&layer.digest).await?.is_some() {
            self.told.layer(&id, LayerStep::PresentThere).await;
            return Ok(());
        }
        for source in self.inner.mount_sources(&self.reference, &diff_id) {
            let mounted = self.repository.mount(&layer.digest, &source).await;
            if mounted.map_err(|error| of_registry(error, &self.reference))? {
                let from = source.path().to_owned();
                self.told.layer(&id, LayerStep::Mounted(from)).await;
                return Ok(());
            }
        }
        let (told, total) = (self.told.clone(), layer.size);
        let progress = move |done| {
            // Best effort: the next one says more.
            let state = LayerStep::Sending { done, total };
            let _ = told.0.try_send(Step::Layer { id: id.clone(), state });
        };
        self.upload(layer, progress).await?;
        self.told.layer(&diff_id.short(), LayerStep::Sent).await;
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

    async fn manifest(&self, plan: Plan) -> Result<(Pushed, Vec<u8>)> {
        let tag = self.reference.tag().cloned().unwrap_or_else(coracle_spec::Tag::latest);
        let kind = if plan.manifest.media_type.is_empty() {
            media_type::MANIFEST
        } else {
            plan.manifest.media_type.as_str()
        };
        let content = Bytes::from(plan.content.clone());
        let digest = self.repository.put_manifest(&Pick::Tag(tag.clone()), kind, content).await;
        let digest = digest.map_err(|error| of_registry(error, &self.reference))?;
        let size = plan.content.len() as u64;
        Ok((Pushed { tag: tag.to_string(), digest, size }, plan.content))
    }
}

impl Inner {
    /// The image has a name with a digest now. Blocks.
    fn remember_pushed(
        &self,
        id: Digest,
        reference: &Reference,
        (pushed, content): (Pushed, Vec<u8>),
    ) -> Result<Pushed> {
        let storing = || format!("store the manifest of {}", reference.familiar());
        self.store.put_blob_as(pushed.digest, &content).map_err(|error| of_store(error, storing))?;
        let by_digest = lookup::key(reference.clone().with_digest(pushed.digest));
        let known = self.read().get(&id).cloned();
        let complete = known.is_some_and(|image| {
            image.references.contains(&by_digest) && image.manifests.contains(&pushed.digest)
        });
        if !complete {
            let manifests = vec![pushed.digest];
            self.adopt(NewImage { id, references: vec![by_digest], parent: None, manifests })?;
        }
        self.tell_transfer(&id, "push", reference);
        Ok(pushed)
    }
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
