//! Images that nobody uses go when all take more room than they may, the longest unused first.
//!
//! ```text
//! sizes as they were recorded, last uses, pins, containers ─► plan.rs ─► one removal after the other
//! ```
//!
//! It runs after content has arrived, and when an image that was recent may have ceased to be. A container that goes leaves
//! its image recent, so that this is no reason to look; but for those who keep no recent ones.

mod plan;

pub use plan::{Keep, Policy};

use super::catalogue::Known;
use super::holds::content_of;
use super::remove::{Deleted, Removal};
use super::{Images, InUse, Inner};
use crate::error::{Attempt, Error, Result};
use coracle_spec::{Digest, Reference};
use plan::{Candidate, Decision, Part, Plan};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use time::OffsetDateTime;

/// What was, or would be, done about the room that images take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// What it was done by.
    pub policy: Policy,
    /// Bytes that all images took before.
    pub used: u64,
    /// What becomes of each, those that go first.
    pub verdicts: Vec<Verdict>,
    /// What was removed, one thing after the other.
    pub deleted: Vec<Deleted>,
    /// When more may go, if images take more than they may still.
    pub again: Option<OffsetDateTime>,
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The image.
    pub id: Digest,
    /// Its names.
    pub references: Vec<Reference>,
    /// Bytes of everything it consists of, whoever else has it.
    pub size: u64,
    /// When it was last used.
    pub last_used: Option<OffsetDateTime>,
    /// Why it stays; `None` when it goes.
    pub keep: Option<Keep>,
    /// Bytes that come free with it.
    pub freed: u64,
}

impl Reclaimed {
    /// Bytes that come free.
    pub fn freed(&self) -> u64 {
        self.verdicts.iter().fold(0, |sum, verdict| sum.saturating_add(verdict.freed))
    }
}

impl Images {
    /// What would go now.
    ///
    /// # Errors
    /// The store's.
    pub async fn plan_to_reclaim(&self, policy: Policy, in_use: Arc<dyn InUse>) -> Result<Reclaimed> {
        self.run(move |inner| Ok(inner.survey(policy, in_use.as_ref())?.report())).await
    }

    /// Removes what would go now. Durable on return.
    ///
    /// # Errors
    /// The first failure, after everything that can be removed is.
    pub async fn reclaim(&self, policy: Policy, in_use: Arc<dyn InUse>) -> Result<Reclaimed> {
        self.run(move |inner| inner.reclaim(policy, in_use.as_ref())).await
    }

    /// The same, unless nothing has arrived since it was looked last; `None` then.
    ///
    /// # Errors
    /// As [`Images::reclaim`].
    pub(crate) async fn reclaim_if_grown(
        &self,
        policy: Policy,
        in_use: Arc<dyn InUse>,
    ) -> Result<Option<Reclaimed>> {
        self.run(move |inner| inner.reclaim_if_grown(policy, in_use.as_ref())).await
    }
}

impl Images {
    /// Has [`Images::reclaim_if_grown`] look whether or not anything has arrived.
    pub(crate) fn look_again(&self) {
        self.0.holds.may_have_grown();
    }

    /// Has the collector look for layers that nothing needs any more.
    pub(crate) fn may_be_garbage(&self) {
        self.0.holds.something_is_left();
    }
}

/// Everything that a plan is made of, and the plan.
struct Survey {
    policy: Policy,
    images: HashMap<Digest, (Arc<Known>, Candidate)>,
    plan: Plan,
}

impl Survey {
    fn report(&self) -> Reclaimed {
        Reclaimed {
            policy: self.policy,
            used: self.plan.used,
            verdicts: self.plan.decisions.iter().map(|decision| self.verdict(decision)).collect(),
            deleted: Vec::new(),
            again: self.plan.again,
        }
    }

    fn verdict(&self, decision: &Decision) -> Verdict {
        let (image, candidate) = &self.images[&decision.id];
        Verdict {
            id: decision.id,
            references: image.references.iter().cloned().collect(),
            size: candidate.size(),
            last_used: candidate.last_used,
            keep: decision.keep.clone(),
            freed: decision.freed,
        }
    }
}

impl Inner {
    fn reclaim_if_grown(&self, policy: Policy, in_use: &dyn InUse) -> Result<Option<Reclaimed>> {
        if !self.holds.take_grown() {
            return Ok(None);
        }
        // What failed is tried again whenever there is something to do.
        let mut done = self.reclaim(policy, in_use).inspect_err(|_| self.holds.may_have_grown())?;
        if done.used.saturating_sub(done.freed()) > policy.budget {
            if policy.keep_recent.is_zero() {
                // What is in use now may go as soon as it is not.
                self.holds.may_have_grown();
            } else {
                // And here it is recent then: nothing can go earlier than this.
                let latest = policy.keep_recent.try_into().ok();
                let latest = latest.and_then(|span| OffsetDateTime::now_utc().checked_add(span));
                done.again = done.again.or(latest);
            }
        }
        Ok(Some(done))
    }

    fn reclaim(&self, policy: Policy, in_use: &dyn InUse) -> Result<Reclaimed> {
        let _change = self.change();
        let survey = self.survey(policy, in_use)?;
        let mut done = survey.report();
        let mut removal = Removal::new(self, in_use);
        let mut failure = None;
        for verdict in done.verdicts.iter_mut().filter(|verdict| verdict.keep.is_none()) {
            let (image, _) = &survey.images[&verdict.id];
            if let Err(error) = self.reclaim_one(&mut removal, image, verdict) {
                verdict.keep = Some(Keep::Busy(error.chain()));
                verdict.freed = 0;
                // Whatever came in between may be used now; everything else is a failure.
                failure = failure.or(Some(error).filter(|error| !matches!(error, Error::Conflict(_))));
            }
        }
        done.deleted = removal.deleted;
        failure.map_or(Ok(done), Err)
    }

    fn reclaim_one(&self, removal: &mut Removal<'_>, image: &Known, verdict: &Verdict) -> Result<()> {
        if self.last_used(image) != verdict.last_used || self.holds.names(&image.id) {
            return Err(Error::Conflict("it was used meanwhile".to_owned()));
        }
        removal.reclaim(image)?;
        let last_used = verdict.last_used.map_or_else(|| "never".to_owned(), |at| at.to_string());
        tracing::info!(
            image = %image.id,
            name = image.references.first().map(Reference::familiar),
            bytes = verdict.freed,
            last_used,
            "removed: images take more room than the storage budget, and this one was not used for the longest time"
        );
        Ok(())
    }

    fn survey(&self, policy: Policy, in_use: &dyn InUse) -> Result<Survey> {
        let images: Vec<Arc<Known>> = self.read().all().cloned().collect();
        let mut sizes = Sizes::default();
        let mut all = HashMap::new();
        let mut candidates = Vec::new();
        for image in images {
            let candidate = self.candidate(&image, &mut sizes, in_use)?;
            candidates.push(candidate.clone());
            all.insert(image.id, (image, candidate));
        }
        let plan = plan::plan(&candidates, &in_use.layers(), policy, OffsetDateTime::now_utc());
        Ok(Survey { policy, images: all, plan })
    }

    fn candidate(&self, image: &Known, sizes: &mut Sizes, in_use: &dyn InUse) -> Result<Candidate> {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let size = layer.size.saturating_add(sizes.archive_of(self, &layer.diff_id));
            layers.push(Part { digest: layer.diff_id, size });
        }
        let is_layer: HashSet<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let mut documents = Vec::new();
        for digest in content_of(image).filter(|digest| !is_layer.contains(digest)) {
            documents.push(Part { digest, size: sizes.document(self, &digest)? });
        }
        if image.artifact.is_some() {
            // It has nothing but blobs, and they are what takes room.
            layers.append(&mut documents);
        }
        let (holders, names) = self.leading_to(image);
        let kept = in_use
            .image(&image.id)
            .map(Keep::Container)
            .or_else(|| self.pins.of(image).or_else(|| self.pins.of_names(&names)).map(Keep::Pinned))
            .or_else(|| self.holds.names(&image.id).then_some(Keep::Held));
        let needs = image.parent.into_iter().chain(holders).collect();
        Ok(Candidate { id: image.id, layers, documents, needs, last_used: self.last_used(image), kept })
    }

    /// The other images whose names lead to one, which may have names of its own, and the names that lead to it.
    fn leading_to(&self, image: &Known) -> (Vec<Digest>, Vec<Reference>) {
        let catalogue = self.read();
        let names: Vec<Reference> =
            image.indexes.keys().flat_map(|index| catalogue.names_of(index)).cloned().collect();
        let holders = names.iter().filter_map(|name| catalogue.named(name)).map(|holder| holder.id);
        (holders.filter(|holder| *holder != image.id).collect(), names)
    }
}

/// Sizes as they were recorded, each read once.
#[derive(Default)]
struct Sizes {
    layers: HashMap<Digest, u64>,
    documents: HashMap<Digest, u64>,
}

impl Sizes {
    /// Bytes of the tar of a layer, where it is kept.
    fn archive_of(&mut self, inner: &Inner, diff_id: &Digest) -> u64 {
        *self.layers.entry(*diff_id).or_insert_with(|| {
            // One whose record is damaged is found by a check.
            let layer = inner.store.find_layer(diff_id).ok().flatten();
            layer.and_then(|layer| layer.blob).map_or(0, |kept| kept.blob.size)
        })
    }

    fn document(&mut self, inner: &Inner, digest: &Digest) -> Result<u64> {
        if let Some(size) = self.documents.get(digest) {
            return Ok(*size);
        }
        let blob = inner.store.has_blob(digest).attempt(|| format!("look for {digest}"))?;
        let size = blob.map_or(0, |blob| blob.size);
        self.documents.insert(*digest, size);
        Ok(size)
    }
}

#[cfg(test)]
mod tests;
