//! An image with a statement about it beside it, in an index, in the form that BuildKit gives it and Docker reads: the
//! statement is a layer of a manifest that refers to the image's by annotations.

use super::adopt::Origin;
use super::variants::Membership;
use super::{Hold, Images, Inner, NewImage, import, of_store};
use crate::error::{Attempt, Result, blocking};
use coracle_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use coracle_spec::{Digest, Platform, Reference};
use coracle_store::{LeftOut, Saved, SavedVariant};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

/// Media type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The annotation that says what kind of statement it is.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// The annotations that say about which manifest it is, and that it is one.
const ABOUT: &str = "vnd.docker.reference.digest";
const KIND: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");

/// Everything that belongs to it is in the store as long as the value exists.
#[derive(Debug)]
pub(crate) struct AttestedImage {
    /// The index of both.
    pub(crate) index: Digest,
    /// The image.
    id: Digest,
    manifest: Digest,
    platform: Platform,
    /// Index, manifests, and what belongs to the statement.
    blobs: Vec<Digest>,
    _hold: Hold,
}

impl Images {
    /// Makes one of a configuration whose layers are in the store, and of what `tell` says of the image's manifest.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn attest(
        &self,
        config: ImageConfig,
        predicate: &'static str,
        tell: impl FnOnce(&Digest) -> Vec<u8> + Send + 'static,
    ) -> Result<AttestedImage> {
        let hold = self.hold_what_comes();
        self.run(move |inner| inner.attest(&config, predicate, tell, hold)).await
    }

    /// Makes it an image here, with these names. Durable on return; its id.
    ///
    /// # Errors
    /// For a name that no image can have.
    pub(crate) async fn adopt_attested(
        &self,
        image: &AttestedImage,
        references: Vec<Reference>,
    ) -> Result<Digest> {
        for reference in &references {
            import::check_name(Some(reference))?;
        }
        let new = NewImage { id: image.id, references, parent: None, manifests: image.blobs.clone() };
        let member = Some(Membership { manifest: image.manifest, platform: image.platform.clone() });
        let origin = Origin { target: Some(image.index), member };
        self.run(move |inner| inner.adopt_new(new, &origin)).await
    }

    /// Writes an archive of it, with these names; its id.
    ///
    /// # Errors
    /// When `output` cannot be written, or the store is damaged.
    pub(crate) async fn save_attested(
        &self,
        image: &AttestedImage,
        references: Vec<Reference>,
        mut output: impl Write + Send + 'static,
    ) -> Result<Digest> {
        let saving = || "save the image of a build".to_owned();
        let images = vec![SavedVariant { config: image.id, manifest: Some(image.manifest) }];
        let saved = Saved::Index { index: image.index, images };
        let (inner, id) = (Arc::clone(&self.0), image.id);
        blocking(move || {
            inner.store.save_all(&[(saved, references)], LeftOut::default(), &mut output).attempt(saving)?;
            output.flush().attempt(saving)
        })
        .await??;
        Ok(id)
    }
}

impl Inner {
    fn attest(
        &self,
        config: &ImageConfig,
        predicate: &str,
        tell: impl FnOnce(&Digest) -> Vec<u8>,
        hold: Hold,
    ) -> Result<AttestedImage> {
        let storing = || "store the provenance of an image".to_owned();
        let put = |content: &[u8]| self.store.put_blob(content).map_err(|error| of_store(error, storing));
        let id = put(&config.to_json())?.digest;
        let image = self.new_manifest(id, &config.rootfs.diff_ids)?;
        let image = put_document(media_type::MANIFEST, &image, put)?;
        let mut statement = Descriptor::of(IN_TOTO, &[]);
        let told = put(&tell(&image.digest))?;
        (statement.digest, statement.size) = (told.digest, told.size);
        statement.annotations.insert(PREDICATE.to_owned(), predicate.to_owned());
        let about = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [statement.digest]},
        });
        let about = put_document(media_type::CONFIG, &about, put)?;
        let (about_id, statement_id) = (about.digest, statement.digest);
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: about,
            layers: vec![statement],
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        let mut beside = put_document(media_type::MANIFEST, &manifest, put)?;
        beside.annotations.insert(ABOUT.to_owned(), image.digest.to_string());
        beside.annotations.insert(KIND.0.to_owned(), KIND.1.to_owned());
        let unknown = || "unknown".to_owned();
        beside.platform = Some(Platform { os: unknown(), architecture: unknown(), ..Platform::default() });
        let platform = config.platform.clone();
        let (manifest, beside_id) = (image.digest, beside.digest);
        let index = Index {
            schema_version: 2,
            media_type: media_type::INDEX.to_owned(),
            manifests: vec![Descriptor { platform: Some(platform.clone()), ..image }, beside],
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        let index = put_document(media_type::INDEX, &index, put)?.digest;
        let blobs = vec![index, manifest, beside_id, about_id, statement_id];
        Ok(AttestedImage { index, id, manifest, platform, blobs, _hold: hold })
    }
}

fn put_document(
    kind: &str,
    document: &impl serde::Serialize,
    put: impl Fn(&[u8]) -> Result<coracle_store::Blob>,
) -> Result<Descriptor> {
    let content = serde_json::to_vec(document).attempt(|| "write a manifest".to_owned())?;
    let blob = put(&content)?;
    Ok(Descriptor::new(kind, blob.digest, blob.size))
}
