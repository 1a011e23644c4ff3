//! What an image consists of, made ready to be sent. Blocks.

use super::super::catalogue::Known;
use super::super::{Inner, lookup, of_store};
use super::offer::{Offer, OfferedLayer};
use crate::error::{Attempt, Error, Result};
use crate::limits::OFFERED_DOCUMENTS;
use coracle_spec::image::{Document, Manifest};
use coracle_spec::{Digest, Reference};
use coracle_store::LayerBlob;
use std::fs::File;
use std::io::{Seek, SeekFrom};

/// An image, ready to go.
pub(super) struct Parcel {
    pub(super) offer: Offer,
    /// The configuration, then the manifests.
    pub(super) documents: Vec<Vec<u8>>,
    /// What people call it.
    pub(super) shown: String,
}

impl Inner {
    /// Everything about an image, meant by `image`, that goes before its layers. Compresses layers that are not. Blocks.
    pub(super) fn parcel(&self, known: &Known, image: &str, name: Option<Reference>) -> Result<Parcel> {
        if known.artifact.is_some() {
            return Err(Error::Unsupported(format!(
                "{image} is no image: save and load it, or push it to a registry, instead of sending it"
            )));
        }
        let sending = || format!("prepare {image} to be sent");
        let manifests = self.manifests_here(known)?;
        let layers = match self.as_it_came(known, &manifests)? {
            Some(layers) => layers,
            None => self.packed(known)?,
        };
        let limit = coracle_spec::limits::CONFIG as u64;
        let config =
            self.store.read_small_blob(&known.id, limit).map_err(|error| of_store(error, sending))?;
        let names = names(known, image, name, &manifests);
        let (digests, contents): (Vec<Digest>, Vec<Vec<u8>>) = manifests.into_iter().unzip();
        let target = target(known, image).filter(|target| digests.contains(target));
        let offer = Offer { id: known.id, names, layers, manifests: digests, target };
        let documents = std::iter::once(config).chain(contents).collect();
        Ok(Parcel { offer, documents, shown: image.to_owned() })
    }

    /// The manifests of an image that are here, the newest of very many.
    fn manifests_here(&self, known: &Known) -> Result<Vec<(Digest, Vec<u8>)>> {
        let limit = coracle_spec::limits::MANIFEST as u64;
        let mut here = Vec::new();
        for digest in known.manifests.iter().rev() {
            match self.store.read_small_blob(digest, limit) {
                Ok(content) => here.push((*digest, content)),
                Err(coracle_store::Error::BlobMissing { .. }) => {}
                Err(error) => return Err(of_store(error, || format!("read manifest {digest}"))),
            }
            if here.len() + 1 == OFFERED_DOCUMENTS {
                break;
            }
        }
        here.reverse();
        Ok(here)
    }

    /// The layers as one of the manifests has them, if all of them are here in that form.
    fn as_it_came(
        &self,
        known: &Known,
        manifests: &[(Digest, Vec<u8>)],
    ) -> Result<Option<Vec<OfferedLayer>>> {
        for (_, content) in manifests {
            let Ok(Document::Manifest(manifest)) = Document::parse(content, None) else { continue };
            if manifest.config.digest == known.id
                && manifest.layers.len() == known.layers.len()
                && self.has_layers_of(&manifest)?
            {
                let layers = known.layers.iter().zip(&manifest.layers).map(|(layer, blob)| OfferedLayer {
                    diff_id: layer.diff_id,
                    blob: blob.digest,
                    size: blob.size,
                });
                return Ok(Some(layers.collect()));
            }
        }
        Ok(None)
    }

    fn has_layers_of(&self, manifest: &Manifest) -> Result<bool> {
        for layer in &manifest.layers {
            let here = self.store.has_blob(&layer.digest);
            let here = here.map_err(|error| of_store(error, || "look for layers".to_owned()))?;
            if here.is_none_or(|blob| blob.size != layer.size) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The layers as a push would make them, the same each time.
    fn packed(&self, known: &Known) -> Result<Vec<OfferedLayer>> {
        let diff_ids: Vec<Digest> = known.layers.iter().map(|layer| layer.diff_id).collect();
        let kept =
            self.compressed(&diff_ids).map_err(|error| of_store(error, || "pack layers".to_owned()))?;
        let offered = |(diff_id, kept): (Digest, LayerBlob)| OfferedLayer {
            diff_id,
            blob: kept.blob.digest,
            size: kept.blob.size,
        };
        Ok(diff_ids.into_iter().zip(kept).map(offered).collect())
    }

    pub(super) fn blob_from(&self, digest: &Digest, offset: u64) -> Result<File> {
        let reading = || format!("read layer {digest}");
        let mut file = self.store.read_blob(digest).map_err(|error| of_store(error, reading))?;
        file.seek(SeekFrom::Start(offset)).attempt(reading)?;
        Ok(file)
    }
}

/// What the name stands for that an image was meant by.
fn target(known: &Known, image: &str) -> Option<Digest> {
    let meant = lookup::parse(image).ok().map(lookup::key)?;
    known.targets.get(&meant).copied()
}

/// What an image is to be called there: what was asked for; else the name that it was meant by, and that name with the
/// digest of a manifest that goes along.
fn names(
    known: &Known,
    image: &str,
    name: Option<Reference>,
    manifests: &[(Digest, Vec<u8>)],
) -> Vec<String> {
    if let Some(name) = name {
        return vec![lookup::key(name).canonical()];
    }
    let meant = lookup::parse(image).ok().map(lookup::key);
    let Some(meant) = meant.filter(|name| known.references.contains(name)) else { return Vec::new() };
    let goes = |digest: &Digest| manifests.iter().any(|(manifest, _)| manifest == digest);
    let by_digest = known
        .references
        .iter()
        .filter(|name| name.name() == meant.name() && name.digest().is_some_and(|digest| goes(&digest)));
    let mut names = vec![meant.canonical()];
    names.extend(by_digest.map(Reference::canonical).filter(|name| *name != meant.canonical()));
    names.truncate(crate::limits::OFFERED_NAMES);
    names
}
