//! Content of the store becomes an image, and images get names.

use super::catalogue::{Known, KnownLayer};
use super::{Images, Inner, lookup, of_store};
use crate::error::{Error, Result};
use coracle_spec::image::ImageConfig;
use coracle_spec::{Digest, Reference};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An image whose configuration and layers are in the store.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// The digest of its configuration.
    pub id: Digest,
    /// What it is called from now on, besides the names that it has. Each has a tag or a digest.
    pub references: Vec<Reference>,
    /// The image here that it was made of.
    pub parent: Option<Digest>,
    /// Blobs that belong to it besides configuration and layers: its manifest as a registry has it.
    pub manifests: Vec<Digest>,
}

impl Images {
    /// Makes an image of what is in the store. Names that other images had move. Durable on return.
    ///
    /// The caller holds on ([`Images::hold`]) since before it stored the first piece.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the configuration is none, and when a layer is missing.
    #[cfg(test)]
    pub(crate) async fn adopt(&self, image: NewImage) -> Result<()> {
        self.run(move |inner| inner.adopt(image).map(drop)).await
    }

    /// Gives an image another name, with the tag `latest` where it has none.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the image, [`Error::Invalid`] for a name with a digest.
    pub async fn tag(&self, image: &str, name: Reference) -> Result<()> {
        let image = image.to_owned();
        self.run(move |inner| inner.tag(&image, name)).await
    }
}

/// What a change of names left behind.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    /// Names that another image had before, and its id.
    pub(super) moved: Vec<(Reference, Digest)>,
}

impl Inner {
    pub(super) fn adopt(&self, new: NewImage) -> Result<Adopted> {
        let adopting = || format!("add image {}", new.id);
        let config = self.store.config(&new.id).map_err(|error| of_store(error, adopting))?;
        let _change = self.change();
        let mut layers = Vec::new();
        for diff_id in &config.rootfs.diff_ids {
            let layer = self.store.layer(diff_id).map_err(|error| of_store(error, adopting))?;
            layers.push(KnownLayer { diff_id: *diff_id, size: layer.size });
        }
        let before = self.read().get(&new.id).cloned();
        let mut image = known(new.id, config, layers);
        image.parent = new.parent;
        image.manifests = new.manifests;
        if let Some(before) = before {
            image.references.clone_from(&before.references);
            image.last_tagged = before.last_tagged;
            image.parent = before.parent.or(image.parent);
            let more = before.manifests.iter().filter(|blob| !image.manifests.contains(blob)).copied();
            image.manifests =
                more.collect::<Vec<_>>().into_iter().chain(image.manifests.iter().copied()).collect();
        }
        self.put_named(image, new.references.into_iter().map(lookup::key).collect())
    }

    /// Gives `image` more names and writes it. The caller has begun a change.
    fn put_named(&self, mut image: Known, names: Vec<Reference>) -> Result<Adopted> {
        if names.iter().any(|name| name.tag().is_some()) {
            image.last_tagged = Some(OffsetDateTime::now_utc());
        }
        let mut losers: BTreeMap<Digest, Known> = BTreeMap::new();
        let mut adopted = Adopted::default();
        for name in &names {
            let holder = self.read().named(name).cloned();
            let Some(holder) = holder.filter(|holder| holder.id != image.id) else { continue };
            losers.entry(holder.id).or_insert_with(|| holder.as_ref().clone()).references.remove(name);
            adopted.moved.push((name.clone(), holder.id));
        }
        image.references.extend(names);
        let mut images: Vec<Known> = losers.into_values().collect();
        let id = image.id;
        images.push(image);
        self.put(images)?;
        self.note_use_now(&id);
        Ok(adopted)
    }

    fn tag(&self, image: &str, name: Reference) -> Result<()> {
        if name.digest().is_some() {
            return Err(Error::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        refuse_ambiguous(&name)?;
        let name = lookup::key(name);
        let _change = self.change();
        let known = self.find(image)?;
        self.put_named(known.as_ref().clone(), vec![name.clone()])?;
        self.tell(&known, "tag", &name.familiar());
        Ok(())
    }
}

/// Refuses `sha256:TAG`, which would look like an id.
pub(super) fn refuse_ambiguous(name: &Reference) -> Result<()> {
    if matches!(name.familiar_name().as_str(), "sha256" | "sha512") {
        let text = "refusing to create an ambiguous tag using digest algorithm as name";
        return Err(Error::Invalid(text.to_owned()));
    }
    Ok(())
}

/// What is known of an image that has no name yet.
fn known(id: Digest, config: ImageConfig, layers: Vec<KnownLayer>) -> Known {
    let created = config.created.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    Known {
        id,
        created,
        layers,
        labels: config.config.labels.clone(),
        parent: None,
        last_tagged: None,
        manifests: Vec::new(),
        references: BTreeSet::new(),
        config: OnceLock::from(Arc::new(config)),
    }
}
