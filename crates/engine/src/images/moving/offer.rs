//! What a sender says of an image before it sends it, and what can be said against it. No IO.

use super::super::adopt::refuse_ambiguous;
use super::super::lookup;
use crate::error::{Error, Result};
use crate::limits::{OFFERED_BESIDE, OFFERED_BLOBS, OFFERED_DOCUMENTS, OFFERED_NAMES};
use coracle_spec::image::{Descriptor, Document, ImageConfig};
use coracle_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An image or an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    /// The digest of its configuration; of its manifest, if it is an artifact.
    pub(super) id: Digest,
    /// What it is to be called, each with a tag or a digest.
    pub(super) names: Vec<String>,
    /// The lowest first.
    pub(super) layers: Vec<OfferedLayer>,
    /// Manifests and indexes that belong to it.
    pub(super) manifests: Vec<Digest>,
    /// Which of these a name without a digest stands for: an index leads to other platforms too.
    #[serde(default)]
    pub(super) target: Option<Digest>,
    /// What is kept as it comes: statements about the image, or what the artifact consists of. An engine that does not know of
    /// this takes the image without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) beside: Vec<OfferedBlob>,
    /// Whether it is an artifact. An engine that does not know of this finds no configuration in it, and refuses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) artifact: bool,
}

/// A layer as it would come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfferedLayer {
    /// The digest of its tar.
    pub(super) diff_id: Digest,
    /// The digest of what comes.
    pub(super) blob: Digest,
    /// The size of what comes, in bytes.
    pub(super) size: u64,
}

/// A blob as it would come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfferedBlob {
    /// Its digest.
    pub(super) digest: Digest,
    /// Its size, in bytes.
    pub(super) size: u64,
}

/// What comes in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// The digest of what comes.
    pub(super) blob: Digest,
    /// The size of what comes, in bytes.
    pub(super) size: u64,
    /// The digest of its tar, if it is a layer to be unpacked.
    pub(super) diff_id: Option<Digest>,
}

impl Item {
    /// What people see of it.
    pub(super) fn shown(&self) -> String {
        self.diff_id.unwrap_or(self.blob).short()
    }
}

/// A layer that a receiver lacks, or something else that comes in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// Its place in [`Offer::layers`] and, behind these, in [`Offer::beside`].
    pub(super) layer: usize,
    /// How many bytes of it the receiver has already.
    pub(super) offset: u64,
}

/// The end of an image's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// Names that another image had there, and its id.
    pub(super) moved: Vec<(String, Digest)>,
    /// Whether it knows of [`Offer::beside`], where there was anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) beside: bool,
}

impl Done {
    /// Refuses what is no list of names: it is shown to people.
    ///
    /// # Errors
    /// For what is no name, and for more names than were offered could be.
    pub(super) fn check(&self) -> Result<()> {
        let is_name = |name: &str| name.parse::<Reference>().is_ok();
        if self.moved.len() <= OFFERED_NAMES && self.moved.iter().all(|(name, _)| is_name(name)) {
            return Ok(());
        }
        Err(super::broken("it tells of names that are none"))
    }
}

impl Offer {
    /// How many documents follow: the configuration, then the manifests.
    ///
    /// # Errors
    /// When these are more than any image has.
    pub(super) fn documents(&self) -> Result<usize> {
        if self.manifests.len() >= OFFERED_DOCUMENTS || self.names.len() > OFFERED_NAMES {
            return Err(refused(&self.id, "more manifests or names than any image has"));
        }
        let beside = self.beside.iter().fold(0, |sum: u64, blob| sum.saturating_add(blob.size));
        if self.beside.len() > OFFERED_BLOBS || (!self.artifact && beside > OFFERED_BESIDE) {
            return Err(refused(&self.id, "more beside it than any image has"));
        }
        Ok(self.manifests.len() + 1)
    }

    /// Everything that comes in pieces, layers first.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        let layer =
            |layer: &OfferedLayer| Item { blob: layer.blob, size: layer.size, diff_id: Some(layer.diff_id) };
        let blob = |blob: &OfferedBlob| Item { blob: blob.digest, size: blob.size, diff_id: None };
        self.layers.iter().map(layer).chain(self.beside.iter().map(blob))
    }

    /// What stands at a place of [`Offer::items`].
    pub(super) fn item(&self, place: usize) -> Option<Item> {
        self.items().nth(place)
    }

    /// Everything that the image consists of.
    pub(super) fn content(&self) -> impl Iterator<Item = Digest> {
        let items = self.items().flat_map(|item| [Some(item.blob), item.diff_id]).flatten();
        items.chain(self.manifests.iter().copied()).chain([self.id])
    }

    /// Holds the offer against its documents, whose digests are right.
    ///
    /// # Errors
    /// Where one contradicts another.
    pub(super) fn check(&self, documents: &[Vec<u8>]) -> Result<()> {
        let (first, manifests) =
            documents.split_first().ok_or_else(|| refused(&self.id, "no configuration"))?;
        if self.artifact {
            self.check_artifact(first)?;
        } else {
            self.check_config(first)?;
        }
        for manifest in manifests {
            self.check_manifest(manifest)?;
        }
        if self.target.is_some_and(|target| !self.manifests.contains(&target)) {
            return Err(refused(&self.id, "its name stands for something that does not come"));
        }
        Ok(())
    }

    /// What kind of artifact its manifest makes it.
    ///
    /// # Errors
    /// Where the manifest is that of an image, or describes what does not come.
    pub(super) fn check_artifact(&self, content: &[u8]) -> Result<String> {
        let document = Document::parse(content, None).map_err(|error| refused(&self.id, error))?;
        let Document::Manifest(manifest) = document else {
            return Err(refused(&self.id, "it is an index"));
        };
        let kind = manifest.artifact_kind().filter(|kind| !kind.is_empty());
        let kind = kind.ok_or_else(|| refused(&self.id, "its manifest is that of an image"))?;
        let comes = |blob: &&Descriptor| {
            self.beside.iter().any(|offered| offered.digest == blob.digest && offered.size == blob.size)
        };
        if !self.layers.is_empty() || !manifest.blobs().iter().all(comes) {
            return Err(refused(&self.id, "its parts are not those of its manifest"));
        }
        Ok(kind.to_owned())
    }

    fn check_config(&self, config: &[u8]) -> Result<()> {
        let config = ImageConfig::parse(config).map_err(|error| refused(&self.id, error))?;
        // Both have few fields that must be there, and some content is known by its manifest.
        if config.other.contains_key("schemaVersion") {
            return Err(refused(&self.id, "its configuration is a manifest"));
        }
        if !matches!(config.platform.os.as_str(), "" | "linux") {
            let text = format!("its operating system is {:?}", config.platform.os);
            return Err(refused(&self.id, text));
        }
        let offered: Vec<Digest> = self.layers.iter().map(|layer| layer.diff_id).collect();
        if offered != config.rootfs.diff_ids {
            return Err(refused(&self.id, "its layers are not those of its configuration"));
        }
        Ok(())
    }

    fn check_manifest(&self, content: &[u8]) -> Result<()> {
        let belongs = match Document::parse(content, None).map_err(|error| refused(&self.id, error))? {
            Document::Manifest(_) if self.artifact => Digest::of(content) == self.id,
            Document::Manifest(manifest) => manifest.config.digest == self.id,
            Document::Index(index) => {
                index.manifests.iter().any(|entry| self.manifests.contains(&entry.digest))
            }
        };
        if belongs { Ok(()) } else { Err(refused(&self.id, "one of its manifests is of another image")) }
    }

    /// What the image is to be called.
    ///
    /// # Errors
    /// For what is no name, and for a name with the digest of something that has not come.
    pub(super) fn references(&self) -> Result<Vec<Reference>> {
        let mut references = Vec::new();
        for name in &self.names {
            let reference = lookup::parse(name)?;
            refuse_ambiguous(&reference)?;
            if reference.digest().is_some_and(|digest| !self.manifests.contains(&digest)) {
                return Err(refused(&self.id, "a name has the digest of another image"));
            }
            references.push(lookup::key(reference));
        }
        Ok(references)
    }

    /// The names by what they stand for: one with a digest for that. There is one group at least, also without names.
    pub(super) fn by_target(&self, names: Vec<Reference>) -> BTreeMap<Option<Digest>, Vec<Reference>> {
        let mut groups = BTreeMap::new();
        for name in names {
            groups.entry(name.digest().or(self.target)).or_insert_with(Vec::new).push(name);
        }
        if groups.is_empty() {
            groups.insert(None, Vec::new());
        }
        groups
    }

    /// What a receiver's wishes are worth.
    ///
    /// # Errors
    /// For a layer that was not offered or is wanted twice, and for an offset behind its end.
    pub(super) fn check_wanted(&self, wanted: &[Wanted]) -> Result<()> {
        let rising = wanted.windows(2).all(|pair| pair[0].layer < pair[1].layer);
        let offered =
            |wanted: &Wanted| self.item(wanted.layer).is_some_and(|item| wanted.offset <= item.size);
        if rising && wanted.iter().all(offered) {
            return Ok(());
        }
        Err(super::broken("it wants what was not offered"))
    }
}

fn refused(id: &Digest, reason: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("cannot take image {}: {reason}", id.short()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str, size: u64) -> OfferedLayer {
        OfferedLayer { diff_id: Digest::of(text.as_bytes()), blob: Digest::of(b"blob"), size }
    }

    fn offer(config: &[u8]) -> Offer {
        Offer {
            id: Digest::of(config),
            names: Vec::new(),
            layers: vec![layer("a", 10), layer("b", 0)],
            manifests: Vec::new(),
            target: None,
            beside: Vec::new(),
            artifact: false,
        }
    }

    fn config() -> String {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{a}","{b}"]}}}}"#)
    }

    #[test]
    fn only_layers_that_were_offered_can_be_wanted_each_once_and_from_within() {
        let offer = offer(b"");
        for (wanted, expected) in [
            (vec![], true),
            (vec![(0, 0), (1, 0)], true),
            (vec![(0, 10)], true),
            (vec![(0, 11)], false),
            (vec![(1, 1)], false),
            (vec![(2, 0)], false),
            (vec![(usize::MAX, 0)], false),
            (vec![(0, 0), (0, 0)], false),
            (vec![(1, 0), (0, 0)], false),
        ] {
            let wishes: Vec<Wanted> =
                wanted.iter().map(|&(layer, offset)| Wanted { layer, offset }).collect();
            assert_eq!(offer.check_wanted(&wishes).is_ok(), expected, "{wanted:?}");
        }
    }

    #[test]
    fn an_offer_that_contradicts_its_documents_is_refused() {
        let config = config();
        let right = offer(config.as_bytes());
        let documents = |more: &[&str]| -> Vec<Vec<u8>> {
            [config.as_str()].iter().chain(more).map(|text| text.as_bytes().to_vec()).collect()
        };
        assert!(right.check(&documents(&[])).is_ok());
        let descriptor = |digest: Digest| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":1}}"#
            )
        };
        let manifest =
            |config: Digest| format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, descriptor(config));
        assert!(right.check(&documents(&[&manifest(right.id)])).is_ok());
        assert!(right.check(&documents(&[&manifest(Digest::of(b"other"))])).is_err());
        let index =
            format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(Digest::of(b"of nobody")));
        assert!(right.check(&documents(&[&index])).is_err());
        let mut fewer = right.clone();
        fewer.layers.pop();
        let mut other = right.clone();
        other.layers[1] = layer("c", 0);
        let mut elsewhere = right.clone();
        elsewhere.target = Some(Digest::of(b"does not come"));
        for wrong in [fewer, other, elsewhere] {
            assert!(wrong.check(&documents(&[])).is_err());
        }
        let windows = config.replace("linux", "windows").into_bytes();
        assert!(right.check(&[windows]).is_err());
        let artifact = format!("{{\"schemaVersion\":2,{}", &config[1..]).into_bytes();
        assert!(right.check(&[artifact]).is_err());
        assert!(right.check(&[b"{".to_vec()]).is_err());
        assert!(right.check(&[]).is_err());
    }

    #[test]
    fn names_are_names_and_only_digests_that_came_can_be_in_them() {
        let mut offer = offer(b"");
        offer.manifests = vec![Digest::of(b"manifest")];
        let ours = format!("app@{}", Digest::of(b"manifest"));
        let theirs = format!("app@{}", Digest::of(b"other"));
        for (name, expected) in [
            ("app:v1", true),
            ("app", true),
            (ours.as_str(), true),
            (theirs.as_str(), false),
            ("APP", false),
            ("../x", false),
            ("sha256:abc", false),
            ("", false),
        ] {
            offer.names = vec![name.to_owned()];
            assert_eq!(offer.references().is_ok(), expected, "{name}");
        }
        offer.names = vec!["app".to_owned(); OFFERED_NAMES + 1];
        assert!(offer.documents().is_err());
    }
}
