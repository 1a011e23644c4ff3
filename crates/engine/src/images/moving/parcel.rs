//! What an image consists of, made ready to be sent. Blocks.

use super::super::catalogue::Known;
use super::super::{Inner, lookup, of_store};
use super::meant::Meant;
use super::offer::{Offer, OfferedBlob, OfferedLayer};
use crate::error::{Attempt, Error, Result};
use crate::limits::OFFERED_DOCUMENTS;
use coracle_spec::image::{Descriptor, Document, Index, Manifest};
use coracle_spec::{Digest, Reference};
use coracle_store::LayerBlob;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Seek, SeekFrom};

/// An image, ready to go.
pub(super) struct Parcel {
    pub(super) offer: Offer,
    /// The configuration, or the manifest of an artifact; then the manifests.
    pub(super) documents: Vec<Vec<u8>>,
    /// What people call it.
    pub(super) shown: String,
}

impl Inner {
    /// Everything about what is meant that goes before its layers; `rename` is what it is called there instead. Compresses layers
    /// that are not. Blocks.
    pub(super) fn parcel(&self, meant: &Meant, rename: Option<Reference>) -> Result<Parcel> {
        let Meant { known, shown, .. } = meant;
        let sending = || format!("prepare {shown} to be sent");
        let manifests = self.manifests_here(meant)?;
        let limit = coracle_spec::limits::CONFIG as u64;
        let first = self.store.read_small_blob(&known.id, limit).map_err(|error| of_store(error, sending))?;
        let artifact = known.artifact.is_some();
        let (layers, beside) = if artifact {
            (Vec::new(), parts_of(&first).ok_or_else(|| no_manifest(shown))?)
        } else {
            let layers = self.as_it_came(known, &manifests)?;
            (layers.map_or_else(|| self.packed(known), Ok)?, self.statements(meant)?)
        };
        let (digests, contents): (Vec<Digest>, Vec<Vec<u8>>) = manifests.into_iter().unzip();
        let names = names(meant, rename, &digests);
        let target = meant.target.filter(|target| digests.contains(target));
        let offer = Offer { id: known.id, names, layers, manifests: digests, target, beside, artifact };
        let documents = std::iter::once(first).chain(contents).collect();
        Ok(Parcel { offer, documents, shown: shown.clone() })
    }

    /// The manifests and indexes that are here: what its name stands for, and then the newest of very many.
    fn manifests_here(&self, meant: &Meant) -> Result<Vec<(Digest, Vec<u8>)>> {
        let known = &meant.known;
        let members = known.indexes.values().map(|member| member.manifest);
        let own = meant.target.into_iter().chain(members).filter(|digest| known.manifests.contains(digest));
        let mut manifests: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
        let mut indexes: Vec<(Digest, Vec<u8>, Index)> = Vec::new();
        for digest in own.chain(known.manifests.iter().rev().copied()) {
            if manifests.len() + indexes.len() + 1 == OFFERED_DOCUMENTS {
                break;
            }
            if manifests.contains_key(&digest) || indexes.iter().any(|(index, ..)| *index == digest) {
                continue;
            }
            let Some(content) = self.document(&digest)? else { continue };
            match Document::parse(&content, None) {
                Ok(Document::Manifest(manifest))
                    if manifest.config.digest == known.id || digest == known.id =>
                {
                    drop(manifests.insert(digest, content));
                }
                Ok(Document::Index(index)) => indexes.push((digest, content, index)),
                // Part of a statement.
                _ => {}
            }
        }
        // An index that names none of them leads nowhere.
        let leads = |index: &Index| index.manifests.iter().any(|entry| manifests.contains_key(&entry.digest));
        indexes.retain(|(.., index)| leads(index));
        let mut here: Vec<(Digest, Vec<u8>)> =
            indexes.into_iter().map(|(digest, content, _)| (digest, content)).chain(manifests).collect();
        here.sort_by_key(|(digest, _)| known.manifests.iter().position(|manifest| manifest == digest));
        Ok(here)
    }

    /// A blob that is small enough for a document, if it is here.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        match self.store.read_small_blob(digest, coracle_spec::limits::MANIFEST as u64) {
            Ok(content) => Ok(Some(content)),
            Err(coracle_store::Error::BlobMissing { .. } | coracle_store::Error::TooLarge { .. }) => Ok(None),
            Err(error) => Err(of_store(error, || format!("read manifest {digest}"))),
        }
    }

    /// What is said of an image in the index that its name stands for.
    fn statements(&self, meant: &Meant) -> Result<Vec<OfferedBlob>> {
        let Some(index) = meant.target else { return Ok(Vec::new()) };
        let mut parts = self.attestations_of(&meant.known, &index)?;
        let mut seen = BTreeSet::new();
        parts.retain(|part| seen.insert(part.digest));
        Ok(parts.iter().map(offered).collect())
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
        let reading = || format!("read {digest}");
        let mut file = self.store.read_blob(digest).map_err(|error| of_store(error, reading))?;
        file.seek(SeekFrom::Start(offset)).attempt(reading)?;
        Ok(file)
    }
}

/// What an artifact consists of besides its manifest.
fn parts_of(manifest: &[u8]) -> Option<Vec<OfferedBlob>> {
    match Document::parse(manifest, None) {
        Ok(Document::Manifest(manifest)) => Some(manifest.blobs().into_iter().map(offered).collect()),
        _ => None,
    }
}

fn offered(blob: &Descriptor) -> OfferedBlob {
    OfferedBlob { digest: blob.digest, size: blob.size }
}

fn no_manifest(shown: &str) -> Error {
    Error::Conflict(format!("the manifest of {shown} is damaged: pull it again"))
}

/// What it is to be called there: what was asked for; else the name that it was meant by, and that name with the digest of a
/// manifest that goes along.
fn names(meant: &Meant, rename: Option<Reference>, manifests: &[Digest]) -> Vec<String> {
    if let Some(name) = rename {
        return vec![lookup::key(name).canonical()];
    }
    let Some(name) = &meant.name else { return Vec::new() };
    let goes = |name: &&Reference| name.digest().is_some_and(|digest| manifests.contains(&digest));
    let mut names = vec![name.canonical()];
    names
        .extend(meant.by_digest.iter().filter(goes).filter(|other| *other != name).map(Reference::canonical));
    names.truncate(crate::limits::OFFERED_NAMES);
    names
}
