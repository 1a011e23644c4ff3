//! Images with statements about them beside them, in an index, in the form that BuildKit gives it and Docker reads: the
//! statement is a layer of a manifest that refers to the image's by annotations.

use super::built::Member;
use super::import::check_name;
use super::{Hold, Images, Inner, of_store};
use crate::error::{Attempt, Result};
use coracle_spec::image::{Descriptor, ImageConfig, attestation, media_type};
use coracle_spec::{Digest, Platform, Reference};
use coracle_store::{LeftOut, Saved, SavedVariant};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

/// Media type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The annotation that says what kind of statement it is.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// What is said of an image, by its manifest.
pub(crate) type Tell = Box<dyn Fn(&Digest) -> Vec<u8> + Send>;

/// Everything that belongs to it is in the store as long as the value exists.
#[derive(Debug)]
pub(crate) struct AttestedImages {
    /// The index of all.
    pub(crate) index: Digest,
    members: Vec<Member>,
    _hold: Hold,
}

impl AttestedImages {
    /// The images.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Digest> {
        self.members.iter().map(|member| member.id)
    }
}

impl Images {
    /// Makes one of configurations whose layers are in the store, and of what is said of each.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn attest(
        &self,
        images: Vec<(ImageConfig, Tell)>,
        predicate: &'static str,
    ) -> Result<AttestedImages> {
        let hold = self.hold_what_comes();
        self.run(move |inner| inner.attest(&images, predicate, hold)).await
    }

    /// Makes images of it here; the names stand for the index. Durable on return.
    ///
    /// # Errors
    /// For a name that no image can have.
    pub(crate) async fn adopt_attested(
        &self,
        images: Arc<AttestedImages>,
        references: Vec<Reference>,
    ) -> Result<()> {
        references.iter().try_for_each(|reference| check_name(Some(reference)))?;
        self.run(move |inner| inner.adopt_members(&images.members, images.index, references)).await
    }

    /// Writes an archive of it, with these names.
    ///
    /// # Errors
    /// When `output` cannot be written, or the store is damaged.
    pub(crate) async fn save_attested(
        &self,
        images: Arc<AttestedImages>,
        references: Vec<Reference>,
        mut output: impl Write + Send + 'static,
    ) -> Result<()> {
        self.run(move |inner| {
            let saving = || "save the images of a build".to_owned();
            let variant =
                |member: &Member| SavedVariant { config: member.id, manifest: Some(member.manifest.digest) };
            let variants = images.members.iter().map(variant).collect();
            let saved = Saved::Index { index: Some(images.index), images: variants };
            inner.store.save_all(&[(saved, references)], LeftOut::default(), &mut output).attempt(saving)?;
            output.flush().attempt(saving)
        })
        .await
    }
}

impl Inner {
    fn attest(&self, images: &[(ImageConfig, Tell)], predicate: &str, hold: Hold) -> Result<AttestedImages> {
        let (mut members, mut entries) = (Vec::new(), Vec::new());
        for (config, tell) in images {
            let mut member = self.member(config)?;
            let about = member.manifest.digest;
            entries.push(self.put_statement(&about, predicate, &tell(&about), &mut member.beside)?);
            members.push(member);
        }
        let index = self.put_index(&members, &entries)?;
        Ok(AttestedImages { index, members, _hold: hold })
    }

    /// Stores a statement about a manifest; its entry in the index. `blobs` gets everything that belongs to it.
    fn put_statement(
        &self,
        about: &Digest,
        predicate: &str,
        statement: &[u8],
        blobs: &mut Vec<Digest>,
    ) -> Result<Descriptor> {
        let storing = || "store the provenance of an image".to_owned();
        let mut put = |kind: &str, content: &[u8]| {
            let blob = self.store.put_blob(content).map_err(|error| of_store(error, storing))?;
            blobs.push(blob.digest);
            Ok::<_, crate::Error>(Descriptor::new(kind, blob.digest, blob.size))
        };
        let mut layer = put(IN_TOTO, statement)?;
        layer.annotations.insert(PREDICATE.to_owned(), predicate.to_owned());
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        });
        let config = put(media_type::CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [layer],
        });
        let mut entry = put(media_type::MANIFEST, manifest.to_string().as_bytes())?;
        entry.annotations.insert(attestation::ABOUT.to_owned(), about.to_string());
        entry.annotations.insert(attestation::KIND.to_owned(), attestation::ATTESTATION.to_owned());
        let unknown = || "unknown".to_owned();
        entry.platform = Some(Platform { os: unknown(), architecture: unknown(), ..Platform::default() });
        Ok(entry)
    }
}
