//! What an index has beside its images: statements about them, in the form that BuildKit gives them and Docker reads. A statement is
//! a layer of a manifest of its own, whose entry in the index says by annotations which manifest it is about.

use std::collections::BTreeSet;

use super::{Descriptor, Document, Index};
use crate::{Digest, limits};

/// The annotation that says what stands beside an image.
pub const KIND: &str = "vnd.docker.reference.type";
/// The only kind of it that there is.
pub const ATTESTATION: &str = "attestation-manifest";
/// The annotation that says beside which manifest of the same index it stands.
pub const ABOUT: &str = "vnd.docker.reference.digest";

/// A statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// The manifest that it is about; nothing where the index names none.
    pub about: Option<Digest>,
}

impl Descriptor {
    /// What an index says of an attestation; nothing of anything else.
    #[must_use]
    pub fn attestation(&self) -> Option<Attestation> {
        self.annotations.get(KIND).filter(|kind| *kind == ATTESTATION)?;
        let about = self.annotations.get(ABOUT).and_then(|digest| digest.parse().ok());
        Some(Attestation { about })
    }
}

impl Index {
    /// The attestations of one manifest, each once. What says that it is about itself, or is an image by another entry, is none.
    pub fn attestations_of<'a>(&'a self, manifest: &'a Digest) -> impl Iterator<Item = &'a Descriptor> {
        let is_image = |entry: &&Descriptor| entry.attestation().is_none();
        let images = self.manifests.iter().filter(is_image).map(|entry| entry.digest);
        let mut seen: BTreeSet<Digest> = images.chain([*manifest]).collect();
        let is_about = |entry: &&Descriptor| {
            entry.is_manifest() && entry.attestation().is_some_and(|found| found.about == Some(*manifest))
        };
        self.manifests.iter().filter(is_about).filter(move |entry| seen.insert(entry.digest))
    }
}

impl Document {
    /// What belongs to an attestation besides this, its manifest. All of one image may have [`limits::ATTESTED`] bytes together,
    /// of which `room` are left.
    ///
    /// # Errors
    /// The reason why it is none that is kept: it has more or larger content than that, or content that is elsewhere.
    pub fn attested(&self, room: u64) -> std::result::Result<Vec<&Descriptor>, &'static str> {
        let Self::Manifest(manifest) = self else { return Err("it is an index") };
        let blobs = manifest.blobs();
        if blobs.len() > limits::ATTESTATION_BLOBS {
            return Err("it has more parts than statements have");
        }
        if blobs.iter().fold(0, |sum: u64, blob| sum.saturating_add(blob.size)) > room {
            return Err("it is larger than statements may be");
        }
        if blobs.iter().any(|blob| !blob.urls.is_empty()) {
            return Err("part of it is kept elsewhere than in the registry");
        }
        Ok(blobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media_type;
    use serde_json::{Value, json};

    fn entry(name: &str, annotations: &Value) -> Value {
        let digest = Digest::of(name.as_bytes());
        json!({"mediaType": media_type::MANIFEST, "digest": digest, "size": 1, "annotations": annotations})
    }

    #[test]
    fn an_attestation_is_about_the_manifest_that_it_names_and_about_no_other() {
        let image = Digest::of(b"image");
        let about = |digest: &str| json!({KIND: ATTESTATION, ABOUT: digest});
        let of_it = about(&image.to_string());
        let mut nested = entry("nested", &of_it);
        nested["mediaType"] = media_type::INDEX.into();
        let index = json!({"schemaVersion": 2, "manifests": [
            entry("image", &json!({})),
            entry("first", &of_it),
            entry("first", &of_it),
            entry("image", &of_it),
            entry("another image", &json!({})),
            entry("another image", &of_it),
            entry("other's", &about(&Digest::of(b"other").to_string())),
            entry("nobody's", &about("sha256:short")),
            entry("no kind", &json!({ABOUT: image})),
            entry("another kind", &json!({KIND: "signature", ABOUT: image})),
            nested,
            entry("second", &of_it),
        ]});
        let index: Index = serde_json::from_value(index).unwrap();
        let found: Vec<Digest> = index.attestations_of(&image).map(|entry| entry.digest).collect();
        assert_eq!(found, [Digest::of(b"first"), Digest::of(b"second")]);
        let kinds: Vec<bool> = index.manifests.iter().map(|entry| entry.attestation().is_some()).collect();
        assert_eq!(kinds, [false, true, true, true, false, true, true, true, false, false, true, true]);
    }

    #[test]
    fn what_is_larger_than_a_statement_is_refused_before_it_comes() {
        let blob = |number: usize, size: u64| {
            let digest = Digest::of(number.to_string().as_bytes());
            json!({"mediaType": "application/vnd.in-toto+json", "digest": digest, "size": size})
        };
        let with = |layers: Vec<Value>| {
            let document = json!({"schemaVersion": 2, "config": blob(0, 2), "layers": layers}).to_string();
            Document::parse(document.as_bytes(), None).unwrap()
        };
        let many = |count: usize| with((1..=count).map(|number| blob(number, 1)).collect());
        assert_eq!(many(2).attested(10).unwrap().len(), 3);
        assert!(many(limits::ATTESTATION_BLOBS).attested(1000).is_err());
        assert!(with(vec![blob(1, 8)]).attested(10).is_ok());
        assert!(with(vec![blob(1, 9)]).attested(10).is_err());
        assert!(with(vec![blob(1, u64::MAX), blob(2, u64::MAX)]).attested(u64::MAX - 1).is_err());
        let mut elsewhere = blob(1, 1);
        elsewhere["urls"] = json!(["https://elsewhere.test/x"]);
        assert!(with(vec![elsewhere]).attested(10).is_err());
        let index = Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap();
        assert!(index.attested(10).is_err());
    }
}
