//! Archives of images: `docker load` and `docker save`.

use super::adopt::{NewArtifact, Origin};
use super::catalogue::Known;
use super::variants::{Group, Membership};
use super::{Hold, Images, Inner, NewImage, holds, lookup, of_store};
use crate::error::{Error, Result, blocking};
use coracle_spec::image::Document;
use coracle_spec::{Digest, Platform, Reference, limits};
use coracle_store::{LeftOut, LoadedArtifact, LoadedImage, Progress, Saved, SavedVariant};
use std::io::{Read, Write};
use std::sync::Arc;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// What the archive calls it.
    pub references: Vec<Reference>,
    /// Of these names, those that another image here had, and its id.
    pub moved: Vec<(Reference, Digest)>,
}

/// Images chosen for an archive. What they consist of stays as long as this exists.
#[derive(Debug)]
pub struct Saving {
    inner: Arc<Inner>,
    saved: Vec<(Saved, Vec<Reference>)>,
    /// The images of each, the one first that the archive is told of by.
    ids: Vec<Vec<Digest>>,
    left_out: LeftOut,
    _hold: Hold,
}

impl Images {
    /// Loads everything of an archive; of images for several platforms only those for `platforms`, if any are given. Durable
    /// on return.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the archive is malformed, contradicts itself, breaks off or lacks a platform; no image is added
    /// then.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        platforms: Vec<Platform>,
        mut progress: impl Progress + 'static,
    ) -> Result<Vec<Loaded>> {
        self.run(move |inner| inner.load(archive, &platforms, &mut progress)).await
    }

    /// Chooses images to be saved: by a name with tag, by all tags of a name, or by an id and then without names. A name that
    /// leads to several platforms means all of them, or those that are given.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], and [`Error::Missing`] for a platform.
    pub async fn save(&self, names: Vec<String>, platforms: Vec<Platform>) -> Result<Saving> {
        let inner = Arc::clone(&self.0);
        let hold = self.hold();
        self.run(move |known| {
            let mut chosen: Vec<Choice> = Vec::new();
            for name in &names {
                for choice in known.meant(name, &platforms)? {
                    match chosen.iter_mut().find(|other| other.is_same(&choice)) {
                        Some(other) => other.also(choice.references),
                        None => chosen.push(choice),
                    }
                }
            }
            let images = chosen.iter().flat_map(|choice| &choice.images);
            hold.only(images.flat_map(|image| holds::content_of(image)));
            let ids = chosen.iter().map(|choice| choice.images.iter().map(|image| image.id).collect());
            let ids = ids.collect();
            let saved = chosen.into_iter().map(|choice| known.saved(choice)).collect::<Result<_>>()?;
            Ok(Saving { inner, saved, ids, left_out: LeftOut::default(), _hold: hold })
        })
        .await
    }

    /// As [`Images::save`], without the layers that the images `since` have, on all their platforms. Such an archive is loaded
    /// where these are.
    ///
    /// # Errors
    /// As [`Images::save`].
    pub async fn save_since(
        &self,
        names: Vec<String>,
        platforms: Vec<Platform>,
        since: Vec<String>,
    ) -> Result<Saving> {
        let mut saving = self.save(names, platforms).await?;
        for name in since {
            let group = self.0.read().group(&name)?;
            let layers = group.images.iter().flat_map(|image| image.layers.iter().map(|layer| layer.diff_id));
            saving.left_out.add(&format!("{name} ({})", group.first.id), layers);
        }
        Ok(saving)
    }
}

/// What is to be saved of one group, and under which names.
struct Choice {
    target: Option<Digest>,
    /// The first is what a reader without indexes loads.
    images: Vec<Arc<Known>>,
    references: Vec<Reference>,
}

impl Choice {
    fn is_same(&self, other: &Self) -> bool {
        self.target == other.target
            && self.images.iter().map(|image| image.id).eq(other.images.iter().map(|image| image.id))
    }

    fn also(&mut self, references: Vec<Reference>) {
        let new: Vec<Reference> =
            references.into_iter().filter(|reference| !self.references.contains(reference)).collect();
        self.references.extend(new);
    }
}

impl Saving {
    /// Writes the archive.
    ///
    /// # Errors
    /// When `output` cannot be written, or the store is damaged.
    pub async fn write(self, mut output: impl Write + Send + 'static) -> Result<()> {
        blocking(move || {
            let saving = || "save images".to_owned();
            let saved = self.inner.store.save_all(&self.saved, self.left_out, &mut output);
            saved.map_err(|error| of_store(error, saving))?;
            output
                .flush()
                .map_err(|source| crate::Error::Failed { action: saving(), source: source.into() })?;
            for id in self.ids.iter().flatten() {
                self.inner.note_use_now(id);
            }
            for id in self.ids.iter().filter_map(|ids| ids.first()) {
                self.inner.tell_by_id(id, "save");
            }
            Ok(())
        })
        .await?
    }
}

impl Inner {
    fn load(
        &self,
        archive: impl Read + Send,
        platforms: &[Platform],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Loaded>> {
        let _hold = self.holds.arrivals();
        let loading = || "load the image archive".to_owned();
        let found =
            self.store.load_all(archive, platforms, progress).map_err(|error| of_store(error, loading))?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for found in found {
            let one = match found {
                coracle_store::Loaded::Image(image) => self.adopt_loaded(*image)?,
                coracle_store::Loaded::Artifact(artifact) => self.adopt_loaded_artifact(artifact)?,
            };
            self.tell_by_id(&one.id, "load");
            // Of several platforms under the same name, the name is told once.
            match loaded
                .iter_mut()
                .find(|other| !one.references.is_empty() && other.references == one.references)
            {
                Some(other) => other.moved.extend(one.moved),
                None => loaded.push(one),
            }
        }
        Ok(loaded)
    }

    fn adopt_loaded(&self, image: LoadedImage) -> Result<Loaded> {
        let LoadedImage { config: id, references, origin, .. } = image;
        let index = origin.index.as_ref().map(|(index, _)| *index);
        let target = index.or(origin.manifest);
        let mut manifests: Vec<Digest> = target.into_iter().chain(origin.manifest).collect();
        manifests.dedup();
        manifests.extend(&origin.beside);
        let member = match (origin.manifest, origin.index) {
            (Some(manifest), Some((_, platform))) => {
                let own = || self.store.config(&id).map(|config| config.platform);
                let platform = platform.map_or_else(own, Ok);
                let platform = platform.map_err(|error| of_store(error, || format!("add image {id}")))?;
                Some(Membership { manifest, platform })
            }
            _ => None,
        };
        let new = NewImage { id, references: references.clone(), parent: None, manifests };
        let adopted = self.adopt_from(new, &Origin { target, member })?;
        Ok(Loaded { id, references, moved: adopted.moved })
    }

    fn adopt_loaded_artifact(&self, artifact: LoadedArtifact) -> Result<Loaded> {
        let LoadedArtifact { manifest: id, kind, references, blobs } = artifact;
        let new = NewArtifact {
            id,
            references: references.clone(),
            kind,
            size: blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size)),
            blobs: std::iter::once(id).chain(blobs.iter().map(|blob| blob.digest)).collect(),
        };
        let adopted = self.adopt_artifact(new, &Origin { target: Some(id), member: None })?;
        Ok(Loaded { id, references, moved: adopted.moved })
    }

    /// What a name stands for in `save`.
    fn meant(&self, name: &str, platforms: &[Platform]) -> Result<Vec<Choice>> {
        let tags = self.tags_of(name);
        if !tags.is_empty() {
            let choice = |tag: Reference| self.choice(&tag.canonical(), vec![tag], platforms);
            return tags.into_iter().map(choice).collect();
        }
        let image = self.find(name)?;
        let named = lookup::parse(name).ok().map(lookup::key);
        let named = named.filter(|name| name.digest().is_none() && image.references.contains(name));
        Ok(vec![self.choice(name, named.into_iter().collect(), platforms)?])
    }

    /// All tags of a name that has neither tag nor digest.
    pub(super) fn tags_of(&self, name: &str) -> Vec<Reference> {
        let bare = lookup::parse(name).ok();
        let Some(bare) = bare.filter(|parsed| parsed.tag().is_none() && parsed.digest().is_none()) else {
            return Vec::new();
        };
        let repository = bare.name();
        let of_it = |reference: &&Reference| reference.tag().is_some() && reference.name() == repository;
        let catalogue = self.read();
        let mut tags: Vec<Reference> =
            catalogue.all().flat_map(|image| image.references.iter().filter(of_it).cloned()).collect();
        tags.sort();
        tags
    }

    fn choice(&self, name: &str, references: Vec<Reference>, platforms: &[Platform]) -> Result<Choice> {
        let group = self.read().group(name)?;
        let images = self.for_platforms(&group, name, platforms)?;
        // One platform that was asked for is an image of its own.
        let target = group.target.filter(|_| platforms.is_empty() || images.len() > 1);
        Ok(Choice { target, images, references })
    }

    /// The images of a group, the one first that its names belong to; or the best for each platform, where any are given.
    pub(super) fn for_platforms(
        &self,
        group: &Group,
        name: &str,
        platforms: &[Platform],
    ) -> Result<Vec<Arc<Known>>> {
        if platforms.is_empty() {
            let others = group.images.iter().filter(|image| image.id != group.first.id);
            return Ok(std::iter::once(&group.first).chain(others).cloned().collect());
        }
        let mut chosen: Vec<Arc<Known>> = Vec::new();
        for platform in platforms {
            let image = self.pick(group, platform)?.ok_or_else(|| {
                Error::Missing(format!("no suitable export target found for platform {platform} in {name}"))
            })?;
            if !chosen.iter().any(|other| other.id == image.id) {
                chosen.push(image);
            }
        }
        Ok(chosen)
    }

    fn saved(&self, choice: Choice) -> Result<(Saved, Vec<Reference>)> {
        let Choice { target, images, references } = choice;
        let first = &images[0];
        if first.artifact.is_some() {
            return Ok((Saved::Artifact { manifest: first.id }, references));
        }
        let index = target.filter(|target| first.indexes.contains_key(target));
        let saved = match index {
            Some(index) if images.iter().all(|image| image.artifact.is_none()) => {
                let variant = |image: &Arc<Known>| SavedVariant {
                    config: image.id,
                    manifest: image.indexes.get(&index).map(|member| member.manifest),
                };
                Saved::Index { index: Some(index), images: images.iter().map(variant).collect() }
            }
            _ => Saved::Image(SavedVariant { config: first.id, manifest: self.manifest_of(first, target) }),
        };
        Ok((saved, references))
    }

    /// The manifest that an image came with, or was pushed with: the one that its name stands for, or else the last.
    fn manifest_of(&self, image: &Known, target: Option<Digest>) -> Option<Digest> {
        let is_its = |digest: &Digest| {
            let content = self.store.read_small_blob(digest, limits::MANIFEST as u64).ok();
            let document = content.and_then(|content| Document::parse(&content, None).ok());
            matches!(document, Some(Document::Manifest(manifest)) if manifest.config.digest == image.id)
        };
        let members = image.indexes.values().map(|member| member.manifest);
        target.into_iter().chain(members).chain(image.manifests.iter().rev().copied()).find(is_its)
    }
}
