//! Content of the store becomes an image, and images get names.

use super::catalogue::{Artifact, Known, KnownLayer};
use super::variants::Membership;
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

/// Where something came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// What its names stand for there: a manifest, or an index of several.
    pub(super) target: Option<Digest>,
    /// What it is in that index.
    pub(super) member: Option<Membership>,
}

/// Content that is no image, with all its blobs in the store.
#[derive(Clone, Debug)]
pub(super) struct NewArtifact {
    /// The digest of its manifest.
    pub(super) id: Digest,
    /// What it is called from now on, besides the names that it has.
    pub(super) references: Vec<Reference>,
    /// The type that its manifest gives.
    pub(super) kind: String,
    /// Everything that belongs to it: the manifest, the index that names it, what they describe.
    pub(super) blobs: Vec<Digest>,
    /// Bytes of what the manifest describes.
    pub(super) size: u64,
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
        self.adopt_from(new, &Origin::default())
    }

    /// The same, of something that came from elsewhere.
    pub(super) fn adopt_from(&self, new: NewImage, origin: &Origin) -> Result<Adopted> {
        let adopting = || format!("add image {}", new.id);
        let config = self.store.config(&new.id).map_err(|error| of_store(error, adopting))?;
        let _change = self.change();
        let mut layers = Vec::new();
        for diff_id in &config.rootfs.diff_ids {
            let layer = self.store.layer(diff_id).map_err(|error| of_store(error, adopting))?;
            layers.push(KnownLayer { diff_id: *diff_id, size: layer.size });
        }
        let mut image = known(new.id, config, layers);
        image.parent = new.parent;
        image.manifests = new.manifests;
        self.keep_known(&mut image);
        self.belong(&mut image, origin);
        self.put_named(image, new.references, origin.target)
    }

    /// Keeps an artifact. The caller holds on since before it stored the first blob.
    pub(super) fn adopt_artifact(&self, new: NewArtifact, origin: &Origin) -> Result<Adopted> {
        let _change = self.change();
        let mut artifact = known(new.id, ImageConfig::default(), Vec::new());
        artifact.artifact = Some(Artifact { kind: new.kind, size: new.size });
        artifact.manifests = new.blobs;
        self.keep_known(&mut artifact);
        self.belong(&mut artifact, origin);
        self.put_named(artifact, new.references, origin.target)
    }

    /// What is known of an image already stays known.
    fn keep_known(&self, image: &mut Known) {
        let Some(before) = self.read().get(&image.id).cloned() else { return };
        image.references.clone_from(&before.references);
        image.targets.clone_from(&before.targets);
        image.indexes.clone_from(&before.indexes);
        image.last_tagged = before.last_tagged;
        image.parent = before.parent.or(image.parent);
        let mut manifests = before.manifests.clone();
        manifests.extend(image.manifests.iter().filter(|blob| !before.manifests.contains(blob)));
        image.manifests = manifests;
    }

    /// Notes which index has the image. Indexes that no name stands for any more are forgotten.
    fn belong(&self, image: &mut Known, origin: &Origin) {
        let catalogue = self.read();
        image.indexes.retain(|index, _| catalogue.names_of(index).next().is_some());
        if let (Some(index), Some(member)) = (origin.target, &origin.member) {
            image.indexes.insert(index, member.clone());
        }
    }

    /// Writes `image`, and gives names to it; or to another image of the same index, where that runs better here. All
    /// names that stand for an index belong to the same image. The caller has begun a change.
    fn put_named(&self, image: Known, names: Vec<Reference>, target: Option<Digest>) -> Result<Adopted> {
        let names: BTreeSet<Reference> = names.into_iter().map(lookup::key).collect();
        let (holder, following) = self.holder(&image, target)?;
        let id = image.id;
        let mut changed = BTreeMap::from([(id, image)]);
        let mut adopted = Adopted::default();
        for name in names.union(&following) {
            let Some(before) = self.read().named(name).cloned() else { continue };
            let same = target.is_some() && before.targets.get(name) == target.as_ref();
            if before.id != holder {
                changed.entry(before.id).or_insert_with(|| before.as_ref().clone()).lose(name);
                adopted.moved.extend((!same).then(|| (name.clone(), before.id)));
            }
        }
        let holding = self.read().get(&holder).cloned();
        let holding = changed
            .entry(holder)
            .or_insert_with(|| holding.expect("a holder is the image or one that is known").as_ref().clone());
        if names.iter().any(|name| name.tag().is_some()) {
            holding.last_tagged = Some(OffsetDateTime::now_utc());
        }
        for name in names.into_iter().chain(following) {
            holding.gain(name, target);
        }
        self.put(changed.into_values().collect())?;
        self.note_use_now(&id);
        Ok(adopted)
    }

    /// To which image names go that stand for `target`, and which other names stand for it.
    fn holder(&self, image: &Known, target: Option<Digest>) -> Result<(Digest, BTreeSet<Reference>)> {
        let Some(target) = target else { return Ok((image.id, BTreeSet::new())) };
        let (mut images, following) = {
            let catalogue = self.read();
            (catalogue.of_target(&target), catalogue.names_of(&target).cloned().collect())
        };
        images.retain(|other| other.id != image.id);
        images.push(Arc::new(image.clone()));
        Ok((self.first(&images, &target)?.unwrap_or(image.id), following))
    }

    fn tag(&self, image: &str, name: Reference) -> Result<()> {
        if name.digest().is_some() {
            return Err(Error::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        refuse_ambiguous(&name)?;
        let name = lookup::key(name);
        let _change = self.change();
        let (known, target) = self.named_for_tag(image)?;
        self.put_named(known.as_ref().clone(), vec![name.clone()], target)?;
        self.tell(&known, "tag", &name.familiar());
        Ok(())
    }
}

impl Inner {
    /// What another name is to lead to: what the name leads to that was given, with all its platforms; an id leads to one
    /// image.
    fn named_for_tag(&self, wanted: &str) -> Result<(Arc<Known>, Option<Digest>)> {
        let known = self.find(wanted)?;
        if lookup::is_beginning_of(&known.id, wanted) {
            return Ok((known, None));
        }
        let target =
            lookup::parse(wanted).ok().and_then(|name| known.targets.get(&lookup::key(name)).copied());
        Ok((known, target))
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
        targets: BTreeMap::new(),
        indexes: BTreeMap::new(),
        artifact: None,
        config: OnceLock::from(Arc::new(config)),
    }
}
