//! Names and images go.

use super::catalogue::Known;
use super::{ContainerUse, Images, InUse, Inner, lookup};
use crate::error::{Error, Result};
use coracle_spec::{Digest, Reference};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// One thing that a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// A name is gone.
    Untagged(Reference),
    /// An image is gone.
    Image(Digest),
    /// A layer is gone; its chain id (OCI image spec, "layer chain id").
    Layer(Digest),
}

/// How an image is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Also if it has several names, or a container that does not run uses it.
    pub force: bool,
    /// Whether images without a name stay, of which only it was made.
    pub keep_parents: bool,
}

impl Images {
    /// Takes a name from an image, and removes it if that was the last one; or removes it by its id. Durable on return.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Conflict`] while a container or another image uses it.
    pub async fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        in_use: Arc<dyn InUse>,
    ) -> Result<Vec<Deleted>> {
        let name = name.to_owned();
        self.run(move |inner| {
            let _change = inner.change();
            let mut removal = Removal::new(inner, in_use.as_ref());
            removal.remove(&name, options)?;
            Ok(removal.deleted)
        })
        .await
    }
}

/// A removal under way. Whoever has one has begun a change.
pub(super) struct Removal<'a> {
    inner: &'a Inner,
    in_use: &'a dyn InUse,
    pub(super) deleted: Vec<Deleted>,
    /// Bytes in the files of the layers that are gone.
    pub(super) bytes: u64,
}

/// Why an image cannot go.
struct Obstacle {
    /// Whether force does not help.
    hard: bool,
    text: String,
}

impl<'a> Removal<'a> {
    pub(super) fn new(inner: &'a Inner, in_use: &'a dyn InUse) -> Self {
        Self { inner, in_use, deleted: Vec::new(), bytes: 0 }
    }

    pub(super) fn remove(&mut self, wanted: &str, options: RemoveOptions) -> Result<()> {
        let image = self.inner.find(wanted)?;
        if lookup::is_beginning_of(&image.id, wanted) {
            return self.delete(&image, options);
        }
        let name = lookup::key(lookup::parse(wanted)?);
        if !options.force && is_single(&image) {
            self.refuse_used_name(&image, &name)?;
        }
        let rest = self.untag(&image, &name)?;
        if !rest.references.is_empty() {
            return Ok(());
        }
        // Only the name was to go: where something needs the image, it stays.
        if self.obstacle(&rest, options.force).is_some() {
            return Ok(());
        }
        self.delete(&rest, options)
    }

    /// Removes an image with all its names, and then the parents that nothing needs.
    fn delete(&mut self, image: &Known, options: RemoveOptions) -> Result<()> {
        self.refuse(image, options.force)?;
        self.delete_now(image)?;
        let mut parent = image.parent.filter(|_| !options.keep_parents);
        while let Some(known) = parent.and_then(|id| self.inner.read().get(&id).cloned()) {
            if !known.references.is_empty() || self.obstacle(&known, false).is_some() {
                break;
            }
            self.delete_now(&known)?;
            parent = known.parent;
        }
        Ok(())
    }

    /// Removes an image with all its names that nothing needs, and nothing else.
    pub(super) fn reclaim(&mut self, image: &Known) -> Result<()> {
        if self.has_children(&image.id) || self.in_use.image(&image.id).is_some() {
            return Err(Error::Conflict("it is used by now".to_owned()));
        }
        self.delete_now(image)
    }

    fn delete_now(&mut self, image: &Known) -> Result<()> {
        self.inner.index.remove_image(&image.id)?;
        self.inner.uses.forget(&image.id);
        let id = image.id.to_string();
        for reference in &image.references {
            self.deleted.push(Deleted::Untagged(reference.clone()));
            self.inner.tell(image, "untag", &id);
        }
        self.inner.catalogue.write().unwrap_or_else(PoisonError::into_inner).remove(&image.id);
        self.deleted.push(Deleted::Image(image.id));
        self.inner.tell(image, "delete", &id);
        let chain = chain_ids(image);
        for position in self.inner.free(image, self.in_use)? {
            self.bytes = self.bytes.saturating_add(image.layers[position].size);
            self.deleted.push(Deleted::Layer(chain[position]));
        }
        Ok(())
    }

    /// Takes a name away, and the digests of a repository with its last tag.
    fn untag(&mut self, image: &Known, name: &Reference) -> Result<Known> {
        let mut rest = image.clone();
        let mut gone = vec![name.clone()];
        rest.references.remove(name);
        let repository = name.name();
        let of_it = |reference: &&Reference| reference.name() == repository;
        if name.digest().is_none()
            && !rest.references.iter().filter(of_it).any(|name| name.digest().is_none())
        {
            gone.extend(rest.references.iter().filter(of_it).cloned());
            rest.references.retain(|reference| reference.name() != repository);
        }
        self.inner.put(vec![rest.clone()])?;
        let id = image.id.to_string();
        for reference in gone {
            self.deleted.push(Deleted::Untagged(reference));
            self.inner.tell(image, "untag", &id);
        }
        Ok(rest)
    }

    fn refuse(&self, image: &Known, force: bool) -> Result<()> {
        let Some(obstacle) = self.obstacle(image, force) else { return Ok(()) };
        let forced = if obstacle.hard { "cannot be forced" } else { "must be forced" };
        let short = image.id.short();
        Err(Error::Conflict(format!("conflict: unable to delete {short} ({forced}) - {}", obstacle.text)))
    }

    /// What keeps an image: others that were made of it, a container that runs; without force also several names and a
    /// container that does not run.
    fn obstacle(&self, image: &Known, force: bool) -> Option<Obstacle> {
        if self.has_children(&image.id) {
            let text = "image has dependent child images".to_owned();
            return Some(Obstacle { hard: true, text });
        }
        let user = self.in_use.image(&image.id);
        if let Some(ContainerUse { container, running: true }) = &user {
            let text = format!("image is being used by running container {container}");
            return Some(Obstacle { hard: true, text });
        }
        if force {
            return None;
        }
        if !is_single(image) {
            let text = "image is referenced in multiple repositories".to_owned();
            return Some(Obstacle { hard: false, text });
        }
        let ContainerUse { container, .. } = user?;
        let text = format!("image is being used by stopped container {container}");
        Some(Obstacle { hard: false, text })
    }

    fn refuse_used_name(&self, image: &Known, name: &Reference) -> Result<()> {
        let Some(ContainerUse { container, .. }) = self.in_use.image(&image.id) else { return Ok(()) };
        Err(Error::Conflict(format!(
            "conflict: unable to remove repository reference \"{}\" (must force) - container {container} is using its \
             referenced image {}",
            name.familiar(),
            image.id.short()
        )))
    }

    fn has_children(&self, id: &Digest) -> bool {
        self.inner.read().has_children(id)
    }
}

/// Whether all names are one tag and digests of the same repository.
fn is_single(image: &Known) -> bool {
    let tags = image.references.iter().filter(|reference| reference.digest().is_none()).count();
    let mut repositories: Vec<String> = image.references.iter().map(Reference::name).collect();
    repositories.dedup();
    image.references.len() <= 1 || (tags <= 1 && repositories.len() == 1)
}

/// The chain id of each layer, the lowest first.
fn chain_ids(image: &Known) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for layer in &image.layers {
        let id = match chain.last() {
            None => layer.diff_id,
            Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
        };
        chain.push(id);
    }
    chain
}

/// Tells how much a prune freed.
pub(super) fn tell_prune(inner: &Inner, bytes: u64) {
    let attributes = BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]);
    inner.events.tell("image", "prune", "", attributes);
}
