//! Names and images go.

use super::catalogue::Known;
use super::holds::Closed;
use super::{ContainerUse, Images, InUse, Inner, lookup};
use crate::error::{Error, Result};
use coracle_spec::{Digest, Platform, Reference};
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
        self.removing(in_use, move |removal| removal.remove(&name, options)).await
    }

    /// Removes some platforms of what a name leads to, whatever else leads to them. The name stays as long as it leads to one.
    /// Durable on return.
    ///
    /// # Errors
    /// [`Error::Missing`] for a platform that is not here, [`Error::Conflict`] without force and while a container that runs
    /// or another image uses it; nothing is removed then.
    pub async fn remove_platforms(
        &self,
        name: &str,
        platforms: Vec<Platform>,
        options: RemoveOptions,
        in_use: Arc<dyn InUse>,
    ) -> Result<Vec<Deleted>> {
        let name = name.to_owned();
        self.removing(in_use, move |removal| removal.remove_platforms(&name, &platforms, options)).await
    }

    /// What `remove` removes, while nobody else changes anything.
    async fn removing(
        &self,
        in_use: Arc<dyn InUse>,
        remove: impl FnOnce(&mut Removal<'_>) -> Result<()> + Send + 'static,
    ) -> Result<Vec<Deleted>> {
        self.run(move |inner| {
            let _change = inner.change();
            let mut removal = Removal::new(inner, in_use.as_ref());
            remove(&mut removal)?;
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

/// Who uses an image.
enum User {
    Known(ContainerUse),
    /// A container that is being made.
    Begun,
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
        let variants = self.variants(&image);
        let _closed = self.close(std::iter::once(&image).chain(&variants));
        if !options.force && is_single(&image) {
            for image in std::iter::once(&image).chain(&variants) {
                self.refuse_used_name(image, &name)?;
            }
        }
        let rest = self.untag(&image, &name)?;
        // Only the name was to go: where something needs the image, or another name leads to it, it stays.
        let reached = !rest.references.is_empty() || self.inner.read().is_variant(&rest);
        if !reached && self.obstacle(&rest, options.force).is_none() {
            self.delete_one(&rest, options)?;
        }
        self.delete_stranded(&variants, options)
    }

    /// Removes an image with all its names and what only they lead to, and then the parents that nothing needs.
    pub(super) fn delete(&mut self, image: &Known, options: RemoveOptions) -> Result<()> {
        let variants = self.variants(image);
        let _closed = self.inner.holds.close(variants.iter().map(|variant| variant.id).chain([image.id]));
        self.refuse(image, options.force)?;
        for variant in &variants {
            self.refuse(variant, options.force)?;
        }
        self.delete_one(image, options)?;
        self.delete_stranded(&variants, options)
    }

    /// From now on no container is made of these.
    fn close<'i>(&self, images: impl IntoIterator<Item = &'i Arc<Known>>) -> Closed {
        self.inner.holds.close(images.into_iter().map(|image| image.id))
    }

    /// Images without a name of their own that the names of `image` lead to.
    fn variants(&self, image: &Known) -> Vec<Arc<Known>> {
        let catalogue = self.inner.read();
        let all = image.targets.values().flat_map(|target| catalogue.of_target(target));
        let mut variants: Vec<Arc<Known>> =
            all.filter(|other| other.id != image.id && other.references.is_empty()).collect();
        variants.sort_by_key(|variant| variant.id);
        variants.dedup_by_key(|variant| variant.id);
        variants
    }

    /// Removes those to which no name leads any more, unless something needs them.
    fn delete_stranded(&mut self, variants: &[Arc<Known>], options: RemoveOptions) -> Result<()> {
        for variant in variants {
            let reached = self.inner.read().is_variant(variant);
            if !reached && self.obstacle(variant, options.force).is_none() {
                self.delete_one(variant, options)?;
            }
        }
        Ok(())
    }

    fn delete_one(&mut self, image: &Known, options: RemoveOptions) -> Result<()> {
        self.delete_now(image)?;
        let mut parent = image.parent.filter(|_| !options.keep_parents);
        while let Some(known) = parent.and_then(|id| self.inner.read().get(&id).cloned()) {
            let _closed = self.close([&known]);
            let reached = !known.references.is_empty() || self.inner.read().is_variant(&known);
            if reached || self.obstacle(&known, false).is_some() {
                break;
            }
            self.delete_now(&known)?;
            parent = known.parent;
        }
        Ok(())
    }

    /// Removes an image with all its names that nothing needs, and nothing else.
    pub(super) fn reclaim(&mut self, image: &Known) -> Result<()> {
        let _closed = self.inner.holds.close([image.id]);
        if self.has_children(&image.id) || self.user(&image.id).is_some() || !self.variants(image).is_empty()
        {
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
        rest.lose(name);
        let repository = name.name();
        let of_it = |reference: &&Reference| reference.name() == repository;
        if name.digest().is_none()
            && !rest.references.iter().filter(of_it).any(|name| name.digest().is_none())
        {
            gone.extend(rest.references.iter().filter(of_it).cloned());
        }
        for name in &gone {
            rest.lose(name);
        }
        self.inner.put(vec![rest.clone()])?;
        let id = image.id.to_string();
        for reference in gone {
            self.deleted.push(Deleted::Untagged(reference));
            self.inner.tell(image, "untag", &id);
        }
        Ok(rest)
    }

    fn remove_platforms(
        &mut self,
        wanted: &str,
        platforms: &[Platform],
        options: RemoveOptions,
    ) -> Result<()> {
        let group = self.inner.read().group(wanted)?;
        let mut chosen: BTreeMap<Digest, Arc<Known>> = BTreeMap::new();
        for platform in platforms {
            let image = self.inner.pick(&group, platform)?;
            let image = image.ok_or_else(|| super::variants::none_for(wanted, platform))?;
            chosen.insert(image.id, image);
        }
        if !options.force {
            let text = "the content goes from all images that have this platform: use --force to remove it";
            return Err(Error::Conflict(text.to_owned()));
        }
        let _closed = self.close(chosen.values());
        for image in chosen.values() {
            self.refuse(image, true)?;
        }
        for image in chosen.values() {
            let rest = self.pass_on(image, &chosen)?;
            self.delete_one(&rest, options)?;
        }
        Ok(())
    }

    /// Gives the names of an image to another one that they lead to and that does not go; the image as it is then.
    fn pass_on(&mut self, image: &Known, going: &BTreeMap<Digest, Arc<Known>>) -> Result<Known> {
        // It may have got names from one that went before.
        let mut rest =
            self.inner.read().get(&image.id).map_or_else(|| image.clone(), |now| now.as_ref().clone());
        let mut heirs: BTreeMap<Digest, Known> = BTreeMap::new();
        for (name, target) in rest.targets.clone() {
            let mut others = self.inner.read().of_target(&target);
            others.retain(|other| !going.contains_key(&other.id));
            let Some(heir) = self.inner.first(&others, &target)? else { continue };
            let found = self.inner.read().get(&heir).cloned();
            let heir = heirs.entry(heir).or_insert_with(|| {
                found.expect("it was just found, and nobody else changes anything").as_ref().clone()
            });
            heir.gain(name.clone(), Some(target));
            rest.lose(&name);
        }
        if !heirs.is_empty() {
            let changed = heirs.into_values().chain([rest.clone()]).collect();
            self.inner.put(changed)?;
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
        let user = self.user(&image.id);
        if let Some(User::Known(ContainerUse { container, running: true })) = &user {
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
        let text = match user? {
            User::Known(ContainerUse { container, .. }) => {
                format!("image is being used by stopped container {container}")
            }
            User::Begun => "image is being used by a container that is being created".to_owned(),
        };
        Some(Obstacle { hard: false, text })
    }

    /// A container of an image that is closed; one that runs, where there is one.
    fn user(&self, id: &Digest) -> Option<User> {
        // In this order: one that is no longer being made is known by now.
        let begun = self.inner.holds.becomes_a_container(id).then_some(User::Begun);
        self.in_use.image(id).map(User::Known).or(begun)
    }

    fn refuse_used_name(&self, image: &Known, name: &Reference) -> Result<()> {
        let container = match self.user(&image.id) {
            None => return Ok(()),
            Some(User::Known(ContainerUse { container, .. })) => format!("container {container}"),
            Some(User::Begun) => "a container that is being created".to_owned(),
        };
        Err(Error::Conflict(format!(
            "conflict: unable to remove repository reference \"{}\" (must force) - {container} is using its \
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

#[cfg(test)]
mod tests;
