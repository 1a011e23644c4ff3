//! All images in memory, found by name and by id. Nothing here waits or touches the disk.

use super::variants::Membership;
use super::{Image, record};
use crate::error::Result;
use crate::index::ImageRow;
use coracle_spec::image::ImageConfig;
use coracle_spec::{Digest, Reference};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use time::OffsetDateTime;

/// What is known of an image without its configuration.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: Digest,
    pub(super) created: Option<OffsetDateTime>,
    /// The lowest first.
    pub(super) layers: Vec<KnownLayer>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) parent: Option<Digest>,
    pub(super) last_tagged: Option<OffsetDateTime>,
    /// Blobs that belong to it besides configuration and layers.
    pub(super) manifests: Vec<Digest>,
    pub(super) references: BTreeSet<Reference>,
    /// What its names stand for where they came from: a manifest, or an index of several.
    pub(super) targets: BTreeMap<Reference, Digest>,
    /// What it is in the indexes that have it.
    pub(super) indexes: BTreeMap<Digest, Membership>,
    /// What it is if it is no image.
    pub(super) artifact: Option<Artifact>,
    /// Its configuration, once it was read.
    pub(super) config: OnceLock<Arc<ImageConfig>>,
}

/// A layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownLayer {
    pub(super) diff_id: Digest,
    /// Bytes in its files.
    pub(super) size: u64,
}

/// Content of another kind than an image's. Its id is the digest of its manifest, since many have the same configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Artifact {
    /// The type that its manifest gives.
    pub(super) kind: String,
    /// Bytes of all its blobs.
    pub(super) size: u64,
}

impl Known {
    pub(super) fn size(&self) -> u64 {
        let layers = self.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        self.artifact.as_ref().map_or(layers, |artifact| artifact.size)
    }

    /// Since when it is; of an artifact, which does not say when it was made, since when it is here.
    pub(super) fn since(&self) -> Option<OffsetDateTime> {
        self.created.or_else(|| self.artifact.as_ref().and(self.last_tagged))
    }

    /// Takes a name away.
    pub(super) fn lose(&mut self, name: &Reference) {
        self.references.remove(name);
        self.targets.remove(name);
    }

    /// Gives it a name, and what that stands for.
    pub(super) fn gain(&mut self, name: Reference, target: Option<Digest>) {
        match target {
            Some(target) => self.targets.insert(name.clone(), target),
            None => self.targets.remove(&name),
        };
        self.references.insert(name);
    }

    pub(super) fn cached_config(&self) -> Option<Arc<ImageConfig>> {
        self.config.get().cloned()
    }

    /// The configuration, read by `read` if it was not before.
    pub(super) fn config(&self, read: impl FnOnce() -> Result<Arc<ImageConfig>>) -> Result<Arc<ImageConfig>> {
        match self.config.get() {
            Some(config) => Ok(Arc::clone(config)),
            None => {
                let config = read()?;
                Ok(Arc::clone(self.config.get_or_init(|| config)))
            }
        }
    }

    pub(super) fn image(&self, config: Arc<ImageConfig>) -> Image {
        Image {
            id: self.id,
            config,
            references: self.references.iter().cloned().collect(),
            layers: self.layers.iter().map(|layer| layer.diff_id).collect(),
            size: self.size(),
            created: self.created,
            last_tagged: self.last_tagged,
            parent: self.parent,
            artifact: self.artifact.as_ref().map(|artifact| artifact.kind.clone()),
        }
    }

    pub(super) fn row(&self) -> ImageRow {
        record::write(self)
    }
}

/// All images.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    images: BTreeMap<Digest, Arc<Known>>,
    names: BTreeMap<Reference, Digest>,
    /// Ids by their hex digits, for looking up beginnings.
    hex: BTreeMap<String, Digest>,
    /// How many images are made of each.
    children: HashMap<Digest, usize>,
    /// How many images have each layer, and each blob of a manifest.
    content: HashMap<Digest, usize>,
    /// The images of each index.
    members: HashMap<Digest, BTreeSet<Digest>>,
    /// The names that stand for each manifest or index.
    targets: HashMap<Digest, BTreeSet<Reference>>,
}

impl Catalogue {
    pub(super) fn read(rows: Vec<ImageRow>) -> Result<Self> {
        let mut catalogue = Self::default();
        for row in rows {
            catalogue.put(record::read(&row)?);
        }
        Ok(catalogue)
    }

    /// Adds an image or replaces what is known of it. Its names are its own from now on.
    pub(super) fn put(&mut self, image: Known) {
        let before = self.remove(&image.id);
        if let Some(config) = before.and_then(|before| before.cached_config()) {
            // The same content has the same id: it stays read. Where it is there already, it is the same.
            let _ = image.config.set(config);
        }
        for reference in &image.references {
            self.names.insert(reference.clone(), image.id);
        }
        self.hex.insert(image.id.hex(), image.id);
        if let Some(parent) = image.parent {
            *self.children.entry(parent).or_default() += 1;
        }
        for content in distinct(&image) {
            *self.content.entry(content).or_default() += 1;
        }
        for index in image.indexes.keys() {
            self.members.entry(*index).or_default().insert(image.id);
        }
        for (name, target) in &image.targets {
            self.targets.entry(*target).or_default().insert(name.clone());
        }
        self.images.insert(image.id, Arc::new(image));
    }

    pub(super) fn remove(&mut self, id: &Digest) -> Option<Arc<Known>> {
        let image = self.images.remove(id)?;
        for reference in &image.references {
            if self.names.get(reference) == Some(id) {
                self.names.remove(reference);
            }
        }
        self.hex.remove(&id.hex());
        if let Some(parent) = &image.parent {
            release(&mut self.children, parent);
        }
        for content in distinct(&image) {
            release(&mut self.content, &content);
        }
        for index in image.indexes.keys() {
            forget(&mut self.members, index, id);
        }
        for (name, target) in &image.targets {
            // It may be another image's already, and stand for the same.
            let holder = self.names.get(name).and_then(|id| self.images.get(id));
            if holder.is_none_or(|holder| holder.targets.get(name) != Some(target)) {
                forget(&mut self.targets, target, name);
            }
        }
        Some(image)
    }

    /// The images here that an index has, and those that have a name that stands for it, in the order of their ids.
    pub(super) fn of_target(&self, target: &Digest) -> Vec<Arc<Known>> {
        let holders = self.names_of(target).filter_map(|name| self.names.get(name));
        let ids: BTreeSet<Digest> =
            self.members.get(target).into_iter().flatten().chain(holders).copied().collect();
        ids.iter().filter_map(|id| self.images.get(id)).cloned().collect()
    }

    /// The names that stand for a manifest or an index.
    pub(super) fn names_of(&self, target: &Digest) -> impl Iterator<Item = &Reference> {
        self.targets.get(target).into_iter().flatten()
    }

    /// Whether an image has no name of its own and is reached by that of another: it is one platform of several.
    pub(super) fn is_variant(&self, image: &Known) -> bool {
        image.references.is_empty() && image.indexes.keys().any(|index| self.targets.contains_key(index))
    }

    pub(super) fn get(&self, id: &Digest) -> Option<&Arc<Known>> {
        self.images.get(id)
    }

    pub(super) fn named(&self, reference: &Reference) -> Option<&Arc<Known>> {
        self.names.get(reference).and_then(|id| self.images.get(id))
    }

    /// The one image whose id begins with these hex digits.
    pub(super) fn beginning_with(&self, hex: &str) -> Option<&Arc<Known>> {
        let mut matching = self.hex.range(hex.to_owned()..).take_while(|(id, _)| id.starts_with(hex));
        match (matching.next(), matching.next()) {
            (Some((_, id)), None) => self.images.get(id),
            _ => None,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Known>> {
        self.images.values()
    }

    pub(super) fn has_children(&self, id: &Digest) -> bool {
        self.children.contains_key(id)
    }

    /// How many images have a layer, or the blob of a manifest.
    pub(super) fn users_of(&self, content: &Digest) -> usize {
        self.content.get(content).copied().unwrap_or(0)
    }
}

fn release(counts: &mut HashMap<Digest, usize>, of: &Digest) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

fn forget<T: Ord>(sets: &mut HashMap<Digest, BTreeSet<T>>, of: &Digest, what: &T) {
    if let Some(set) = sets.get_mut(of) {
        set.remove(what);
        if set.is_empty() {
            sets.remove(of);
        }
    }
}

fn distinct(image: &Known) -> BTreeSet<Digest> {
    image.layers.iter().map(|layer| layer.diff_id).chain(image.manifests.iter().copied()).collect()
}
