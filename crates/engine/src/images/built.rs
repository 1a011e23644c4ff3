//! What builds have made becomes images: one, or one for each of several platforms under an index.
//!
//! The index and its manifests are made here, of layers as registries have them: a push sends them byte for byte. Names are
//! given last, all at once, so that an engine that is killed leaves either the whole or nothing that has a name.

use super::adopt::{NewImage, Origin};
use super::import::check_name;
use super::variants::Membership;
use super::{Images, Inner, lookup, of_store};
use crate::error::{Attempt, Result};
use coracle_spec::image::{Descriptor, ImageConfig, Index, media_type};
use coracle_spec::{Digest, Platform, Reference};
use std::collections::BTreeMap;

/// An image of an index.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Digest,
    pub(super) manifest: Descriptor,
    pub(super) platform: Platform,
    /// What belongs to the statements about it.
    pub(super) beside: Vec<Digest>,
}

impl Images {
    /// Makes an image of a configuration whose layers are in the store. Durable on return; the id.
    ///
    /// # Errors
    /// For a name that no image can have.
    pub(crate) async fn adopt_built(
        &self,
        config: ImageConfig,
        references: Vec<Reference>,
    ) -> Result<Digest> {
        references.iter().try_for_each(|reference| check_name(Some(reference)))?;
        self.run(move |inner| inner.adopt_built(&config, references)).await
    }

    /// Makes images of several configurations whose layers are in the store, and an index of them that the names stand for.
    /// Durable on return; the digest of the index.
    ///
    /// # Errors
    /// As [`Images::adopt_built`].
    pub(crate) async fn adopt_index(
        &self,
        configs: Vec<ImageConfig>,
        references: Vec<Reference>,
    ) -> Result<Digest> {
        references.iter().try_for_each(|reference| check_name(Some(reference)))?;
        self.run(move |inner| inner.adopt_index(&configs, references)).await
    }
}

impl Inner {
    fn adopt_built(&self, config: &ImageConfig, references: Vec<Reference>) -> Result<Digest> {
        let id = self.put_config(config)?;
        let references: Vec<Reference> = references.into_iter().map(lookup::key).collect();
        self.adopt(NewImage { id, references: references.clone(), parent: None, manifests: Vec::new() })?;
        self.tell_names(&id, &references);
        Ok(id)
    }

    fn put_config(&self, config: &ImageConfig) -> Result<Digest> {
        let storing = || "store the configuration of the image".to_owned();
        self.store.put_config(config).map_err(|error| of_store(error, storing))
    }

    fn tell_names(&self, id: &Digest, names: &[Reference]) {
        for name in names {
            if let Some(image) = self.read().get(id) {
                self.tell(image, "tag", &name.familiar());
            }
        }
    }

    fn adopt_index(&self, configs: &[ImageConfig], references: Vec<Reference>) -> Result<Digest> {
        // Manifests and the index are no image's before the end.
        let _hold = self.holds.arrivals();
        let members: Vec<Member> = configs.iter().map(|config| self.member(config)).collect::<Result<_>>()?;
        let index = self.put_index(&members, &[])?;
        self.adopt_members(&members, index, references)?;
        Ok(index)
    }

    /// Makes images of what an index has, with what stands beside them there. The names stand for the index.
    pub(super) fn adopt_members(
        &self,
        members: &[Member],
        index: Digest,
        references: Vec<Reference>,
    ) -> Result<()> {
        let references: Vec<Reference> = references.into_iter().map(lookup::key).collect();
        for (member, names) in members.iter().zip(names_last(&references, members.len())) {
            let mut manifests = vec![member.manifest.digest, index];
            manifests.extend(&member.beside);
            let new = NewImage { id: member.id, references: names.to_vec(), parent: None, manifests };
            let membership =
                Membership { manifest: member.manifest.digest, platform: member.platform.clone() };
            self.adopt_from(new, &Origin { target: Some(index), member: Some(membership) })?;
        }
        if let Some(last) = members.last() {
            self.tell_names(&last.id, &references);
        }
        Ok(())
    }

    /// Stores configuration and manifest of an image.
    pub(super) fn member(&self, config: &ImageConfig) -> Result<Member> {
        let storing = || "store the manifest of the image".to_owned();
        let id = self.put_config(config)?;
        let manifest = self.new_manifest(id, &config.rootfs.diff_ids)?;
        let content = serde_json::to_vec(&manifest).attempt(storing)?;
        self.store.put_blob(&content).map_err(|error| of_store(error, storing))?;
        let mut descriptor = Descriptor::of(media_type::MANIFEST, &content);
        descriptor.platform = Some(config.platform.clone());
        Ok(Member { id, manifest: descriptor, platform: config.platform.clone(), beside: Vec::new() })
    }

    /// Stores an index of images and of what stands beside them.
    pub(super) fn put_index(&self, members: &[Member], beside: &[Descriptor]) -> Result<Digest> {
        let storing = || "store the index of the image".to_owned();
        let index = Index {
            schema_version: 2,
            media_type: media_type::INDEX.to_owned(),
            manifests: members.iter().map(|member| &member.manifest).chain(beside).cloned().collect(),
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        let content = serde_json::to_vec(&index).attempt(storing)?;
        let stored = self.store.put_blob(&content).map_err(|error| of_store(error, storing))?;
        Ok(stored.digest)
    }
}

/// Which names each of `count` images is given: the last one all, the others none.
fn names_last(names: &[Reference], count: usize) -> impl Iterator<Item = &[Reference]> {
    (1..=count).map(move |number| if number == count { names } else { &[] })
}
