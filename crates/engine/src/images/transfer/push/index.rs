//! Which manifest a push sends: an index goes as it came if all of it is here or there already; where only one platform
//! is here and the registry lacks others, that one goes alone, and the client hears so.

use super::super::super::catalogue::Known;
use super::super::super::variants::none_for;
use super::super::super::{Inner, of_store};
use super::super::{Reduced, Step, of_registry};
use super::{Layers, Plan, Push, Pushed};
use crate::error::{Error, Result};
use crate::limits::MANIFESTS_ASKED;
use coracle_registry::{Error as RegistryError, Pick};
use coracle_spec::image::{Descriptor, Document, Index, Manifest};
use coracle_spec::{Digest, Platform, Reference};
use std::sync::Arc;

/// What is to be pushed under a name.
pub(super) enum What {
    /// One image or artifact.
    One(Arc<Known>),
    /// Several platforms.
    Index(Box<Whole>),
}

/// An index, with what is here of it.
pub(super) struct Whole {
    descriptor: Descriptor,
    /// Its bytes.
    content: Vec<u8>,
    /// Every manifest in it.
    entries: Vec<Descriptor>,
    /// The images of it that are here, each with its manifest.
    here: Vec<(Digest, Arc<Known>)>,
    /// The one that the name belongs to.
    first: Arc<Known>,
}

impl Inner {
    /// What a name stands for, as a push sees it. Blocks.
    pub(super) fn what_to_push(&self, reference: &Reference, platform: Option<&Platform>) -> Result<What> {
        let group = self.read().group(&reference.canonical())?;
        if let Some(platform) = platform {
            let image = self.pick(&group, platform)?;
            return image.map(What::One).ok_or_else(|| none_for(&reference.familiar(), platform));
        }
        let index = group.target.and_then(|target| match self.described(target)? {
            (descriptor, Document::Index(index)) => Some((descriptor, index)),
            (_, Document::Manifest(_)) => None,
        });
        let Some((descriptor, Index { manifests, .. })) = index else { return Ok(What::One(group.first)) };
        let reading = || format!("read the index of {}", reference.familiar());
        let limit = coracle_spec::limits::MANIFEST as u64;
        let content = self.store.read_small_blob(&descriptor.digest, limit);
        let content = content.map_err(|error| of_store(error, reading))?;
        let manifest_of =
            |image: &Arc<Known>| Some((image.indexes.get(&descriptor.digest)?.manifest, Arc::clone(image)));
        let here = group.images.iter().filter_map(manifest_of).collect();
        Ok(What::Index(Box::new(Whole { descriptor, content, entries: manifests, here, first: group.first })))
    }

    /// The plan of exactly this manifest. Blocks.
    pub(super) fn plan_of(&self, known: &Known, digest: Digest) -> Result<Option<Plan>> {
        let limit = coracle_spec::limits::MANIFEST as u64;
        let Ok(content) = self.store.read_small_blob(&digest, limit) else { return Ok(None) };
        let Ok(Document::Manifest(manifest)) = Document::parse(&content, None) else { return Ok(None) };
        let shown = self.shown(known, &manifest)?;
        Ok(Some(Plan { manifest: *manifest, content, shown }))
    }

    /// The plan of a manifest all of whose blobs are here. Blocks.
    fn whole_plan(&self, digest: &Digest) -> Result<Option<Plan>> {
        let limit = coracle_spec::limits::MANIFEST as u64;
        let Ok(content) = self.store.read_small_blob(digest, limit) else { return Ok(None) };
        let Ok(Document::Manifest(manifest)) = Document::parse(&content, None) else { return Ok(None) };
        for blob in manifest.blobs() {
            let found = self.store.has_blob(&blob.digest);
            if found.map_err(|error| of_store(error, || "look for blobs".to_owned()))?.is_none() {
                return Ok(None);
            }
        }
        let shown = manifest.layers.iter().map(|layer| layer.digest).collect();
        Ok(Some(Plan { manifest: *manifest, content, shown }))
    }

    /// What the layers of a manifest are shown as: by their content, where that is known.
    fn shown(&self, known: &Known, manifest: &Manifest) -> Result<Vec<Digest>> {
        let diff_ids = self.image(known)?.config.rootfs.diff_ids.clone();
        if diff_ids.len() == manifest.layers.len() {
            return Ok(diff_ids);
        }
        Ok(manifest.layers.iter().map(|layer| layer.digest).collect())
    }

    /// What is pushed of an artifact: its manifest. Blocks.
    pub(super) fn artifact_plan(&self, known: &Known, reference: &Reference) -> Result<Plan> {
        self.plan_of(known, known.id)?.ok_or_else(|| {
            Error::Conflict(format!("the manifest of {} is missing: pull it again", reference.familiar()))
        })
    }
}

impl Push {
    /// Pushes an index as it came, or what of it can be.
    pub(super) async fn index(&self, index: &Whole) -> Result<Pushed> {
        let is_here = |entry: &&Descriptor| index.here.iter().any(|(manifest, _)| *manifest == entry.digest);
        let (beside, missing) = self.beside(index.entries.iter().filter(|entry| !is_here(entry))).await?;
        if let Some(lacking) = self.first_lacking(&missing).await? {
            return self.reduced(index, lacking).await;
        }
        for (digest, image) in &index.here {
            let (digest, image) = (*digest, Arc::clone(image));
            let plan = self.blocking(move |inner, _| inner.plan_of(&image, digest)).await?;
            let sent = match &plan {
                Some(plan) => self.content(plan).await? == Layers::There,
                None => false,
            };
            let Some(plan) = plan.filter(|_| sent) else {
                let lacking = index.entries.iter().find(|entry| entry.digest == digest);
                return self.reduced(index, lacking.unwrap_or(&index.descriptor)).await;
            };
            self.put_manifest(&Pick::Digest(digest), &plan).await?;
        }
        for (digest, plan) in &beside {
            if self.content(plan).await? == Layers::NowhereToBeHad {
                return Err(self.gone());
            }
            self.put_manifest(&Pick::Digest(*digest), plan).await?;
        }
        let (id, content) = (index.first.id, index.content.clone());
        let pushed = self.put(&Pick::Tag(self.tag()), &index.descriptor.media_type, content.clone()).await?;
        self.blocking(move |inner, reference| inner.remember_pushed(id, reference, pushed, &content)).await
    }

    /// What of an index is no image and is here all the same, as statements about its images are, and what is not here.
    async fn beside<'a>(
        &self,
        entries: impl Iterator<Item = &'a Descriptor>,
    ) -> Result<(Vec<(Digest, Plan)>, Vec<&'a Descriptor>)> {
        let (mut beside, mut missing) = (Vec::new(), Vec::new());
        for entry in entries {
            let digest = entry.digest;
            let kept = self.blocking(move |inner, _| inner.whole_plan(&digest)).await?;
            match kept {
                Some(plan) => beside.push((digest, plan)),
                None => missing.push(entry),
            }
        }
        Ok((beside, missing))
    }

    /// The first of several manifests that the registry does not have.
    async fn first_lacking<'a>(&self, manifests: &[&'a Descriptor]) -> Result<Option<&'a Descriptor>> {
        if manifests.len() > MANIFESTS_ASKED {
            return Ok(manifests.first().copied());
        }
        for entry in manifests {
            match self.repository.describe(&Pick::Digest(entry.digest)).await {
                Ok(_) => {}
                Err(RegistryError::ManifestUnknown { .. }) => return Ok(Some(*entry)),
                Err(error) => return Err(of_registry(error, &self.reference)),
            }
        }
        Ok(None)
    }

    /// The one platform that is here, where others are nowhere to be had.
    async fn reduced(&self, index: &Whole, lacking: &Descriptor) -> Result<Pushed> {
        if index.here.len() > 1 {
            self.told.tell(Step::ContentMissing(Box::new(lacking.clone()))).await;
            return Err(Error::Missing(format!(
                "{} has several platforms here, and manifest {} of its index is neither here nor in the registry: pull \
                 that too, or push one with --platform",
                self.reference.familiar(),
                lacking.digest
            )));
        }
        let pushed = self.one(Arc::clone(&index.first)).await?;
        let (digest, size) = (pushed.digest, pushed.size);
        let found =
            self.blocking(move |inner, _| Ok(inner.described(digest).map(|(found, _)| found.media_type)));
        let kind = found.await?.unwrap_or_default();
        let manifest = Descriptor::new(&kind, digest, size);
        let reduced = Reduced { index: index.descriptor.clone(), manifest };
        self.told.tell(Step::Reduced(Box::new(reduced))).await;
        Ok(pushed)
    }

    /// Brings everything that a manifest describes into the registry.
    async fn content(&self, plan: &Plan) -> Result<Layers> {
        if self.layers(plan).await? == Layers::NowhereToBeHad {
            return Ok(Layers::NowhereToBeHad);
        }
        self.config(plan).await?;
        Ok(Layers::There)
    }
}
