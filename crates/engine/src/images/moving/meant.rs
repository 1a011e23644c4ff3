//! What is meant to go by a name: what `save` would write into an archive. Blocks.

use super::super::Inner;
use super::super::catalogue::Known;
use super::super::lookup;
use super::super::variants::Group;
use crate::error::Result;
use coracle_spec::{Digest, Platform, Reference, Tag};
use std::sync::Arc;

/// An image or an artifact that is to go.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) known: Arc<Known>,
    /// The name that it is meant by; nothing for an id.
    pub(super) name: Option<Reference>,
    /// Names of the same repository with a digest.
    pub(super) by_digest: Vec<Reference>,
    /// What the name stands for.
    pub(super) target: Option<Digest>,
    /// What people call it.
    pub(super) shown: String,
}

impl Inner {
    /// What somebody means: by an id one image, by a name with a tag or a digest everything that it leads to, by a name
    /// alone the same of all its tags; or only what is for the platforms, where any are given.
    pub(super) fn meant_to_go(&self, wanted: &str, platforms: &[Platform]) -> Result<Vec<Meant>> {
        let tags = self.tags_of(wanted);
        if tags.is_empty() {
            return self.meant_by(wanted, wanted, platforms);
        }
        let mut all = Vec::new();
        for tag in &tags {
            // As it was called, where nothing else could be meant.
            let is_default = tags.len() == 1 && tag.tag() == Some(&Tag::latest());
            let shown = if is_default { wanted.to_owned() } else { tag.familiar() };
            all.extend(self.meant_by(&tag.canonical(), &shown, platforms)?);
        }
        Ok(all)
    }

    fn meant_by(&self, wanted: &str, shown: &str, platforms: &[Platform]) -> Result<Vec<Meant>> {
        let mut group = self.read().group(wanted)?;
        let name = lookup::parse(wanted).ok().map(lookup::key);
        let name = name.filter(|name| group.first.references.contains(name));
        if name.is_none() {
            let first = Arc::clone(&group.first);
            group = Group { images: vec![Arc::clone(&first)], first, target: None };
        }
        let images = self.for_platforms(&group, wanted, platforms)?;
        let Group { first, target, images: all } = group;
        let is_digest_of_it = |other: &&Reference| {
            name.as_ref().is_some_and(|name| other.name() == name.name() && other.digest().is_some())
        };
        let by_digest: Vec<Reference> = first.references.iter().filter(is_digest_of_it).cloned().collect();
        let mut meant = Vec::new();
        for known in images {
            let shown = match all.len() {
                1 => shown.to_owned(),
                _ => format!("{shown} ({})", self.platform(&known, target.as_ref())?),
            };
            let (name, by_digest) = (name.clone(), by_digest.clone());
            meant.push(Meant { known, name, by_digest, target, shown });
        }
        Ok(meant)
    }
}
