//! Which images go when all take more room than they may. Pure: no clock, no store, no locks.
//!
//! The one that was not used for the longest time goes first, until the rest fits. What several images have counts once,
//! and as freed only when the last of them goes.

use crate::images::ContainerUse;
use crate::images::pins::Pin;
use coracle_spec::Digest;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use time::OffsetDateTime;

/// How much room images may take, and which are never taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of all layers, of their archives and of the documents of images.
    pub budget: u64,
    /// Images that were used within this time stay.
    pub keep_recent: Duration,
}

/// An image as the plan sees it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: Digest,
    /// Layers, with their archives.
    pub(super) layers: Vec<Part>,
    /// Documents: the configuration, manifests.
    pub(super) documents: Vec<Part>,
    /// Images that stay as long as this one: what it was made of, and the one whose name leads to it.
    pub(super) needs: Vec<Digest>,
    pub(super) last_used: Option<OffsetDateTime>,
    /// What keeps it whatever its age is.
    pub(super) kept: Option<Keep>,
}

/// A piece of content, which several images may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
}

/// Why an image stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// A container was made of it.
    Container(ContainerUse),
    /// It is pinned.
    Pinned(Pin),
    /// It is being pulled, loaded, pushed, saved or sent, or a container is being made of it.
    Held,
    /// It was used within the time in which images stay.
    Recent,
    /// This image stays, which was made of it, or is another platform to which its name leads.
    Needed(Digest),
    /// All its layers belong to images that stay, too: nothing would be freed.
    Shared,
    /// Everything fits without its removal.
    Fits,
    /// It was used, or could not be removed, while others went.
    Busy(String),
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) id: Digest,
    /// `None` when it goes.
    pub(super) keep: Option<Keep>,
    /// Bytes that come free when it goes after those before it.
    pub(super) freed: u64,
}

/// What becomes of all of them, those that go first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) decisions: Vec<Decision>,
    /// Bytes that all take now.
    pub(super) used: u64,
    /// When an image that stays only because it is recent may go, if the rest does not fit.
    pub(super) again: Option<OffsetDateTime>,
}

impl Candidate {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.layers.iter().chain(&self.documents)
    }

    pub(super) fn size(&self) -> u64 {
        self.parts().fold(0, |sum, part| sum.saturating_add(part.size))
    }
}

/// Decides about every image. `in_containers` are layers that do not go with their images.
pub(super) fn plan(
    images: &[Candidate],
    in_containers: &HashSet<Digest>,
    policy: Policy,
    now: OffsetDateTime,
) -> Plan {
    let protection = |image: &Candidate| {
        let recent = || is_recent(image.last_used, policy.keep_recent, now).then_some(Keep::Recent);
        image.kept.clone().or_else(recent)
    };
    let protected: BTreeMap<Digest, Keep> =
        images.iter().filter_map(|image| Some((image.id, protection(image)?))).collect();
    let mut room = Room::new(images, in_containers);
    let used = room.used;
    let staying: HashSet<Digest> = images
        .iter()
        .filter(|image| protected.contains_key(&image.id))
        .flat_map(|image| image.layers.iter().map(|layer| layer.digest))
        .chain(in_containers.iter().copied())
        .collect();
    let mut dependents = Dependents::new(images);
    let (mut going, mut kept) = (Vec::new(), Vec::new());
    for image in in_order(images) {
        let keep = protected
            .get(&image.id)
            .cloned()
            .or_else(|| (room.used <= policy.budget).then_some(Keep::Fits))
            .or_else(|| dependents.one_of(&image.id).map(Keep::Needed))
            .or_else(|| {
                image.layers.iter().all(|layer| staying.contains(&layer.digest)).then_some(Keep::Shared)
            });
        match keep {
            Some(keep) => kept.push(Decision { id: image.id, keep: Some(keep), freed: 0 }),
            None => {
                dependents.gone(image);
                going.push(Decision { id: image.id, keep: None, freed: room.remove(image) });
            }
        }
    }
    let over = room.used > policy.budget;
    let expiring = images.iter().filter(|image| protected.get(&image.id) == Some(&Keep::Recent));
    let expiry = |image: &Candidate| {
        image.last_used.and_then(|used| used.checked_add(policy.keep_recent.try_into().ok()?))
    };
    let again = expiring.filter_map(expiry).min().filter(|_| over);
    going.append(&mut kept);
    Plan { decisions: going, used, again }
}

/// A use in the future is recent: a clock that was set back makes nothing old.
fn is_recent(last_used: Option<OffsetDateTime>, keep_recent: Duration, now: OffsetDateTime) -> bool {
    !keep_recent.is_zero() && last_used.is_some_and(|used| now - used < keep_recent)
}

/// The longest unused first; an image is used whenever one is that needs it, which comes before it.
fn in_order(images: &[Candidate]) -> Vec<&Candidate> {
    let known: HashMap<Digest, &Candidate> = images.iter().map(|image| (image.id, image)).collect();
    let mut used: HashMap<Digest, (Option<OffsetDateTime>, usize)> = HashMap::new();
    for image in images {
        let (mut distance, mut reached) = (0, vec![image]);
        // Chains are as long as there are images at most, also where a damaged record makes a circle of them.
        while !reached.is_empty() && distance <= images.len() {
            for needed in &reached {
                let entry = used.entry(needed.id).or_default();
                *entry = (entry.0.max(image.last_used), entry.1.max(distance));
            }
            let next: BTreeMap<Digest, &Candidate> = reached
                .iter()
                .flat_map(|needing| &needing.needs)
                .filter_map(|id| known.get(id).map(|image| (*id, *image)))
                .collect();
            reached = next.into_values().collect();
            distance += 1;
        }
    }
    let mut order: Vec<&Candidate> = images.iter().collect();
    order.sort_by_key(|image| (used.get(&image.id).copied(), image.id));
    order
}

/// How much room the images take that have not gone.
struct Room {
    /// Of each piece, how many have it.
    users: HashMap<Digest, usize>,
    used: u64,
}

impl Room {
    fn new(images: &[Candidate], in_containers: &HashSet<Digest>) -> Self {
        let mut room = Self { users: HashMap::new(), used: 0 };
        for part in images.iter().flat_map(distinct) {
            let users = room.users.entry(part.digest).or_insert(0);
            *users += 1;
            if *users == 1 {
                room.used = room.used.saturating_add(part.size);
                *users += usize::from(in_containers.contains(&part.digest));
            }
        }
        room
    }

    /// Bytes that come free.
    fn remove(&mut self, image: &Candidate) -> u64 {
        let mut freed: u64 = 0;
        for part in distinct(image) {
            let Some(users) = self.users.get_mut(&part.digest) else { continue };
            *users -= 1;
            if *users == 0 {
                self.users.remove(&part.digest);
                freed = freed.saturating_add(part.size);
            }
        }
        self.used = self.used.saturating_sub(freed);
        freed
    }
}

/// An image may have a layer twice.
fn distinct(image: &Candidate) -> impl Iterator<Item = Part> {
    let parts: BTreeMap<Digest, Part> = image.parts().map(|part| (part.digest, *part)).collect();
    parts.into_values()
}

/// Which images need which, of those that have not gone.
struct Dependents(HashMap<Digest, Vec<Digest>>);

impl Dependents {
    fn new(images: &[Candidate]) -> Self {
        let mut dependents: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for image in images {
            for needed in &image.needs {
                dependents.entry(*needed).or_default().push(image.id);
            }
        }
        Self(dependents)
    }

    fn one_of(&self, id: &Digest) -> Option<Digest> {
        self.0.get(id)?.first().copied()
    }

    fn gone(&mut self, image: &Candidate) {
        for needed in &image.needs {
            if let Some(others) = self.0.get_mut(needed) {
                others.retain(|id| *id != image.id);
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
