//! All images in memory, found by name and by id. Nothing here waits or touches the disk.

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

impl Known {
    pub(super) fn size(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
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
        Some(image)
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

fn distinct(image: &Known) -> BTreeSet<Digest> {
    image.layers.iter().map(|layer| layer.diff_id).chain(image.manifests.iter().copied()).collect()
}
