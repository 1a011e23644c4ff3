//! One name, several images: an index has one for each platform, and any number of them are here.
//!
//! A name belongs to one image, the one that runs best on this machine; what it stands for says which other images it leads
//! to. They need no names of their own, and go with the last name that leads to them.

#[cfg(test)]
mod tests;

use super::catalogue::{Catalogue, Known};
use super::{Image, Images, Inner, lookup};
use crate::error::{Error, Result};
use coracle_spec::{Digest, Platform};
use std::sync::Arc;

/// What an image is in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Its manifest there.
    pub(super) manifest: Digest,
    /// What it runs on, by the index's account or else by its own.
    pub(super) platform: Platform,
}

/// What a name leads to.
#[derive(Debug)]
pub(super) struct Group {
    /// The image that the name belongs to.
    pub(super) first: Arc<Known>,
    /// What the name stands for where it came from: a manifest or an index.
    pub(super) target: Option<Digest>,
    /// Every image that it leads to, the first among them.
    pub(super) images: Vec<Arc<Known>>,
}

impl Catalogue {
    /// What a name or an id leads to. An id leads where the names of its image do, or else to that image alone.
    pub(super) fn group(&self, wanted: &str) -> Result<Group> {
        let first = Arc::clone(self.find(wanted)?);
        let by_name = lookup::parse(wanted).ok().map(lookup::key);
        let target = by_name.filter(|name| first.references.contains(name)).map_or_else(
            || first.targets.values().find(|target| first.indexes.contains_key(target)).copied(),
            |name| first.targets.get(&name).copied(),
        );
        let target = target.or_else(|| first.targets.values().next().copied());
        let images = match &target {
            Some(target) => self.of_target(target),
            None => vec![Arc::clone(&first)],
        };
        Ok(Group { first, target, images })
    }
}

impl Images {
    /// Finds an image as [`Images::resolve`] does, and of those for several platforms the one for this platform.
    ///
    /// # Errors
    /// As [`Images::resolve`]; [`Error::Missing`] when none of them is for this platform.
    pub async fn resolve_for(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let Some(platform) = platform.cloned() else { return self.resolve(name).await };
        let name = name.to_owned();
        self.run(move |inner| inner.find_for(&name, Some(&platform)).and_then(|known| inner.image(&known)))
            .await
    }
}

impl Inner {
    /// Finds an image, for a platform if one is given. Blocks.
    pub(super) fn find_for(&self, name: &str, platform: Option<&Platform>) -> Result<Arc<Known>> {
        let group = self.read().group(name)?;
        match platform {
            None => Ok(group.first),
            Some(platform) => self.pick(&group, platform)?.ok_or_else(|| none_for(name, platform)),
        }
    }

    /// The image of a group that runs best on a platform.
    pub(super) fn pick(&self, group: &Group, platform: &Platform) -> Result<Option<Arc<Known>>> {
        let mut best: Option<(u32, &Arc<Known>)> = None;
        for image in &group.images {
            let Some(rank) = self.platform(image, group.target.as_ref())?.rank_on(platform) else { continue };
            if best.is_none_or(|(found, _)| rank < found) {
                best = Some((rank, image));
            }
        }
        Ok(best.map(|(_, image)| Arc::clone(image)))
    }

    /// Of several images, the one that a name of theirs belongs to: the one that runs here best. One that has it stays
    /// before one that runs as well.
    pub(super) fn first(&self, images: &[Arc<Known>], target: &Digest) -> Result<Option<Digest>> {
        let host = Platform::host();
        let mut best = None;
        for image in images {
            let rank = self.platform(image, Some(target))?.rank_on(&host).unwrap_or(u32::MAX);
            let stands = image.targets.values().any(|of| of == target);
            let order = (rank, !stands, image.id);
            if best.is_none_or(|found| order < found) {
                best = Some(order);
            }
        }
        Ok(best.map(|(.., id)| id))
    }

    /// What an image runs on. Blocks.
    pub(super) fn platform(&self, image: &Known, index: Option<&Digest>) -> Result<Platform> {
        if let Some(member) = index.and_then(|index| image.indexes.get(index)) {
            return Ok(member.platform.clone());
        }
        Ok(self.image(image)?.config.platform.clone())
    }
}

pub(super) fn none_for(name: &str, platform: &Platform) -> Error {
    Error::Missing(format!(
        "image with reference {name} was found but does not provide the specified platform ({platform})"
    ))
}
