//! Which images there are, and how much room they take.

use super::Images;
use super::catalogue::{Catalogue, Known};
use crate::error::Result;
use crate::labels::LabelFilter;
use coracle_spec::{Digest, Reference};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use time::OffsetDateTime;

/// Which images are listed. What is empty or absent lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFilter {
    /// Whether images without a name of which others were made are listed too.
    pub all: bool,
    /// Whether an image has no name, or has one.
    pub dangling: Option<bool>,
    /// Patterns, one of which a name has to match.
    pub references: Vec<String>,
    /// All of these are among the labels.
    pub labels: Vec<LabelFilter>,
    /// Made earlier than this image.
    pub before: Option<String>,
    /// Made later than this image.
    pub since: Option<String>,
    /// Made earlier than this.
    pub until: Option<OffsetDateTime>,
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its id.
    pub id: Digest,
    /// The image here that it was made of.
    pub parent: Option<Digest>,
    /// Its names, those that match where patterns were given.
    pub references: Vec<Reference>,
    /// When it was made.
    pub created: Option<OffsetDateTime>,
    /// Bytes in the files of all layers of what its names lead to, each counted once.
    pub size: u64,
    /// Bytes of it that other images have too.
    pub shared_size: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Every image that its names lead to, itself included.
    pub variants: Vec<Digest>,
}

/// How much room images take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes in the files of all layers, each counted once.
    pub layers_size: u64,
    /// All images.
    pub images: Vec<ImageSummary>,
}

impl Images {
    /// The images that pass a filter, the newest first.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for an image that `before` or `since` names.
    pub fn list(&self, filter: &ImageFilter) -> Result<Vec<ImageSummary>> {
        let catalogue = self.0.read();
        let made = |name: &Option<String>| -> Result<Option<OffsetDateTime>> {
            name.as_ref()
                .map(|name| catalogue.find(name))
                .transpose()
                .map(|image| image.and_then(|image| image.created))
        };
        let (before, since) = (made(&filter.before)?, made(&filter.since)?);
        let mut found: Vec<ImageSummary> = catalogue
            .all()
            .filter(|image| before.is_none() || image.created < before)
            .filter(|image| since.is_none() || image.created > since)
            .filter_map(|image| summary(&catalogue, image, filter))
            .collect();
        found.sort_by_key(|image| Reverse(image.created));
        Ok(found)
    }

    /// How much room images take, from what was recorded when they came.
    ///
    /// # Errors
    /// As [`Images::list`].
    pub fn usage(&self) -> Result<ImageUsage> {
        let images = self.list(&ImageFilter { all: true, ..ImageFilter::default() })?;
        let catalogue = self.0.read();
        let layers: HashMap<Digest, u64> = catalogue
            .all()
            .flat_map(|image| image.layers.iter().map(|layer| (layer.diff_id, layer.size)))
            .collect();
        Ok(ImageUsage { layers_size: layers.values().fold(0, |sum, size| sum.saturating_add(*size)), images })
    }
}

fn summary(catalogue: &Catalogue, image: &Arc<Known>, filter: &ImageFilter) -> Option<ImageSummary> {
    if catalogue.is_variant(image) {
        return None;
    }
    if filter.until.is_some_and(|until| image.since().is_some_and(|since| since >= until))
        || !filter.labels.iter().all(|label| label.matches(&image.labels))
    {
        return None;
    }
    let matches = |reference: &&Reference| {
        filter.references.is_empty() || filter.references.iter().any(|pattern| is_match(pattern, reference))
    };
    let references: Vec<Reference> = image.references.iter().filter(matches).cloned().collect();
    let listed = if references.is_empty() {
        let inner = !filter.all && catalogue.has_children(&image.id);
        filter.references.is_empty() && filter.dangling != Some(false) && !inner
    } else {
        filter.dangling != Some(true)
    };
    let variants = led_to(catalogue, image);
    listed.then(|| ImageSummary {
        id: image.id,
        variants: variants.keys().copied().collect(),
        parent: image.parent,
        references,
        created: image.created,
        size: size(&variants),
        shared_size: shared_size(catalogue, image),
        labels: image.labels.clone(),
    })
}

/// The images that the names of an image lead to, with itself.
fn led_to(catalogue: &Catalogue, image: &Arc<Known>) -> BTreeMap<Digest, Arc<Known>> {
    let targets = image.targets.values().flat_map(|target| catalogue.of_target(target));
    targets.chain([Arc::clone(image)]).map(|image| (image.id, image)).collect()
}

/// Bytes in the files of all their layers, each counted once.
fn size(images: &BTreeMap<Digest, Arc<Known>>) -> u64 {
    let layers: HashMap<Digest, u64> = images
        .values()
        .flat_map(|image| image.layers.iter().map(|layer| (layer.diff_id, layer.size)))
        .collect();
    let artifacts = images.values().filter(|image| image.artifact.is_some()).map(|image| image.size());
    layers.values().copied().chain(artifacts).fold(0, u64::saturating_add)
}

/// A pattern is compared with the name alone and with all of it.
fn is_match(pattern: &str, reference: &Reference) -> bool {
    coracle_build::matches_name(pattern, &reference.familiar())
        || coracle_build::matches_name(pattern, &reference.familiar_name())
}

fn shared_size(catalogue: &Catalogue, image: &Known) -> u64 {
    let shared = image.layers.iter().filter(|layer| catalogue.users_of(&layer.diff_id) > 1);
    shared.fold(0, |sum, layer| sum.saturating_add(layer.size))
}
