//! What stands behind a name: its manifest, or its index with each manifest in it, and what of them is here.

use super::catalogue::Known;
use super::{Images, Inner};
use crate::error::Result;
use crate::limits::MANIFESTS;
use coracle_spec::image::{Descriptor, Document, Index, Manifest, media_type};
use coracle_spec::{Digest, Platform, limits};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a name stands for where it came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// The manifest or the index; nothing for what was made here and never pushed.
    pub descriptor: Option<Descriptor>,
    /// The manifests of the index, in its order, or the one manifest.
    pub manifests: Vec<ManifestSummary>,
}

/// One manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestSummary {
    /// The manifest itself.
    pub descriptor: Descriptor,
    /// Whether everything that it describes is here.
    pub available: bool,
    /// Bytes of the blobs here that belong to it.
    pub content: u64,
    /// What it is.
    pub kind: ManifestKind,
}

/// What a manifest is.
#[derive(Clone, Debug, PartialEq)]
pub enum ManifestKind {
    /// An image.
    Image {
        /// What it runs on.
        platform: Platform,
        /// Its id, if it is here.
        id: Option<Digest>,
        /// Bytes in the files of its layers.
        unpacked: u64,
    },
    /// What BuildKit says of how an image was made.
    Attestation {
        /// The manifest of that image.
        of: Option<Digest>,
    },
    /// Something else.
    Unknown,
}

impl Images {
    /// What the name or the id of an image stands for.
    ///
    /// # Errors
    /// As [`Images::resolve`]; and when a document that is here cannot be read.
    pub async fn target(&self, name: &str) -> Result<Target> {
        let name = name.to_owned();
        self.run(move |inner| inner.target(&name)).await
    }

    /// The same for several ids. One that goes meanwhile has nothing.
    ///
    /// # Errors
    /// When a document that is here cannot be read.
    pub async fn targets(&self, ids: Vec<Digest>) -> Result<BTreeMap<Digest, Target>> {
        self.run(move |inner| {
            let mut targets = BTreeMap::new();
            for id in ids {
                match inner.target(&id.to_string()) {
                    Ok(target) => drop(targets.insert(id, target)),
                    Err(crate::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(targets)
        })
        .await
    }
}

impl Inner {
    fn target(&self, name: &str) -> Result<Target> {
        let group = self.read().group(name)?;
        let Some(digest) = group.target else { return Ok(Target::default()) };
        let Some((descriptor, document)) = self.described(digest) else { return Ok(Target::default()) };
        let manifests = match &document {
            Document::Index(index) => self.entries(index, &digest, &group.images)?,
            Document::Manifest(manifest) => {
                let known = group
                    .images
                    .iter()
                    .find(|image| image.id == digest || image.id == manifest.config.digest);
                vec![self.summary(descriptor.clone(), known, None)?]
            }
        };
        Ok(Target { descriptor: Some(descriptor), manifests })
    }

    /// A manifest or an index of the store. One that is missing or damaged is found by a check, not here.
    pub(super) fn described(&self, digest: Digest) -> Option<(Descriptor, Document)> {
        let content = self.store.read_small_blob(&digest, limits::MANIFEST as u64).ok()?;
        let document = Document::parse(&content, None).ok()?;
        let own = match &document {
            Document::Index(index) => (&index.media_type, media_type::INDEX),
            Document::Manifest(manifest) => (&manifest.media_type, media_type::MANIFEST),
        };
        let kind = if own.0.is_empty() { own.1 } else { own.0.as_str() };
        Some((Descriptor::new(kind, digest, content.len() as u64), document))
    }

    fn entries(&self, index: &Index, digest: &Digest, here: &[Arc<Known>]) -> Result<Vec<ManifestSummary>> {
        let by_manifest: BTreeMap<Digest, &Arc<Known>> =
            here.iter().filter_map(|image| Some((image.indexes.get(digest)?.manifest, image))).collect();
        index
            .manifests
            .iter()
            .take(MANIFESTS)
            .map(|entry| match by_manifest.get(&entry.digest) {
                None if entry.attestation().is_some() => self.statement(entry, &by_manifest),
                image => self.summary(entry.clone(), image.copied(), Some(digest)),
            })
            .collect()
    }

    /// An attestation. Only what an image here has is looked for.
    fn statement(&self, entry: &Descriptor, here: &BTreeMap<Digest, &Arc<Known>>) -> Result<ManifestSummary> {
        let of = entry.attestation().and_then(|attestation| attestation.about);
        let image = of.and_then(|of| here.get(&of)).filter(|image| image.manifests.contains(&entry.digest));
        let parts = match image {
            Some(_) => self.whole_attestation(&entry.digest, limits::ATTESTED)?,
            None => None,
        };
        let content = parts.iter().flatten().fold(0, |sum: u64, part| sum.saturating_add(part.size));
        Ok(ManifestSummary {
            descriptor: entry.clone(),
            available: parts.is_some(),
            content,
            kind: ManifestKind::Attestation { of },
        })
    }

    fn summary(
        &self,
        descriptor: Descriptor,
        image: Option<&Arc<Known>>,
        index: Option<&Digest>,
    ) -> Result<ManifestSummary> {
        // Only what an image or an artifact here has is looked for: an index may name thousands that are not.
        let manifest = image.and_then(|_| match self.described(descriptor.digest)?.1 {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        });
        let content =
            manifest.map_or(0, |manifest| descriptor.size.saturating_add(self.content_size(&manifest)));
        let kind = match image {
            Some(image) if image.artifact.is_some() => ManifestKind::Unknown,
            Some(image) => ManifestKind::Image {
                platform: self.platform(image, index)?,
                id: Some(image.id),
                unpacked: image.size(),
            },
            None => kind_of(&descriptor),
        };
        Ok(ManifestSummary { available: image.is_some(), descriptor, content, kind })
    }

    /// Bytes of the blobs here that a manifest describes.
    fn content_size(&self, manifest: &Manifest) -> u64 {
        let here = |blob: &&Descriptor| matches!(self.store.has_blob(&blob.digest), Ok(Some(_)));
        let blobs = manifest.blobs().into_iter().filter(here);
        blobs.fold(0, |sum, blob| sum.saturating_add(blob.size))
    }
}

/// What an index says of a manifest that is not here.
fn kind_of(entry: &Descriptor) -> ManifestKind {
    match &entry.platform {
        Some(platform) if platform.os != "unknown" => {
            ManifestKind::Image { platform: platform.clone(), id: None, unpacked: 0 }
        }
        _ => ManifestKind::Unknown,
    }
}
