//! Whether all images are what they should be: every blob and layer of the store against its digest, every reference of
//! the catalogue against the store, and every record beside an image against the index.
//!
//! Nothing is freed while a check goes on, and images come and go as always. What is damaged is moved into the store's
//! quarantine if that was asked for; the images that need it stay, and pulling or loading them again brings it anew.

mod origins;
#[cfg(test)]
mod tests;

use super::catalogue::Known;
use super::{Images, Inner};
use crate::error::{Attempt, Result};
use coracle_spec::Digest;
use coracle_store::{Condition, Subject};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What becomes of what is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// It is told and stays.
    Report,
    /// It is moved into the quarantine, and a record beside an image is written anew.
    Quarantine,
}

/// What something is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// A blob, by its digest.
    Blob(Digest),
    /// A layer, by the digest of its tar.
    Layer(Digest),
    /// An image: what it refers to.
    Image(Digest),
    /// The record beside an image.
    Record(Digest),
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// With what.
    pub subject: Inspected,
    /// What.
    pub problem: String,
    /// The images that need it: their names, or else their ids.
    pub images: Vec<String>,
    /// Whether it was moved into the quarantine, or mended if it is a record.
    pub dealt_with: bool,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Blobs read.
    pub blobs: usize,
    /// Layers compared.
    pub layers: usize,
    /// Images whose references were followed.
    pub images: usize,
    /// How many findings there were.
    pub findings: usize,
}

/// What a check tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckStep {
    /// Something is wrong.
    Found(Finding),
    /// The end.
    Done(Checked),
}

impl Images {
    /// Checks everything. The receiver hears each finding and then how much was looked at; when it is dropped, the check
    /// ends early.
    ///
    /// # Errors
    /// When something could not be looked at.
    pub async fn check(&self, action: OnDamage, told: mpsc::Sender<CheckStep>) -> Result<()> {
        self.run(move |inner| {
            let mut check = Check::new(inner, action, told)?;
            check.contents()?;
            check.references()?;
            check.records()?;
            // Nobody listens any more.
            let _ = check.told.blocking_send(CheckStep::Done(check.checked));
            Ok(())
        })
        .await
    }

    /// A pair of ends for [`Images::check`].
    pub fn findings() -> (mpsc::Sender<CheckStep>, mpsc::Receiver<CheckStep>) {
        mpsc::channel(crate::limits::FINDINGS)
    }
}

/// A check under way.
struct Check<'a> {
    inner: &'a Inner,
    action: OnDamage,
    told: mpsc::Sender<CheckStep>,
    checked: Checked,
    /// Which layers have each blob as their archive.
    archives: HashMap<Digest, Vec<Digest>>,
}

impl<'a> Check<'a> {
    fn new(inner: &'a Inner, action: OnDamage, told: mpsc::Sender<CheckStep>) -> Result<Self> {
        let mut archives: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for diff_id in inner.store.layers().attempt(|| "list the layers".to_owned())? {
            // A record that cannot be read is found later.
            let layer = inner.store.recorded_layer(&diff_id).ok().flatten();
            if let Some(kept) = layer.and_then(|layer| layer.blob) {
                archives.entry(kept.blob.digest).or_default().push(diff_id);
            }
        }
        Ok(Self { inner, action, told, checked: Checked::default(), archives })
    }

    /// What is in the store.
    fn contents(&mut self) -> Result<()> {
        let store = Arc::clone(&self.inner.store);
        // What is removed meanwhile stays, and the next collection sees to it.
        let _hold = self.inner.arriving();
        let mut failure = None;
        let checked = store.check(&mut |subject, condition| match self.content(&subject, condition) {
            Ok(flow) => flow,
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        });
        checked.attempt(|| "check the store".to_owned())?;
        failure.map_or(Ok(()), Err)
    }

    fn content(&mut self, subject: &Subject, condition: Condition) -> Result<ControlFlow<()>> {
        let inspected = match subject {
            Subject::Blob(digest) => Inspected::Blob(*digest),
            Subject::Layer(diff_id) => Inspected::Layer(*diff_id),
        };
        *match subject {
            Subject::Blob(_) => &mut self.checked.blobs,
            Subject::Layer(_) => &mut self.checked.layers,
        } += 1;
        match condition {
            Condition::Whole | Condition::Gone => {}
            Condition::Unproven(problem) => self.found(inspected, problem, false),
            Condition::Damaged(problem) => {
                let moved = self.action == OnDamage::Quarantine && self.set_aside(subject)?;
                self.found(inspected, problem, moved);
            }
        }
        Ok(if self.told.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn set_aside(&self, subject: &Subject) -> Result<bool> {
        let _change = self.inner.change();
        self.inner.store.quarantine(subject).attempt(|| format!("move {subject:?} into the quarantine"))
    }

    /// What the images refer to.
    fn references(&mut self) -> Result<()> {
        let images: Vec<Arc<Known>> = self.inner.read().all().cloned().collect();
        for image in images {
            // No removal and no collection at the same time.
            let change = self.inner.change();
            if self.inner.read().get(&image.id).is_none() {
                continue;
            }
            let problems = self.problems_of(&image)?;
            drop(change);
            self.checked.images += 1;
            for problem in problems {
                self.found(Inspected::Image(image.id), problem, false);
            }
        }
        Ok(())
    }

    fn problems_of(&self, image: &Known) -> Result<Vec<String>> {
        let store = &self.inner.store;
        let mut problems = Vec::new();
        if image.artifact.is_none() {
            problems.extend(self.config_problem(image));
        }
        for layer in &image.layers {
            // One whose record cannot be read is there, and damaged.
            if matches!(store.find_layer(&layer.diff_id), Ok(None)) {
                problems.push(format!("its layer {} is missing", layer.diff_id));
            }
        }
        for manifest in &image.manifests {
            if store.has_blob(manifest).attempt(|| format!("look for manifest {manifest}"))?.is_none() {
                problems.push(format!("its manifest {manifest} is missing"));
            }
        }
        problems.extend(self.origin_problems(image));
        Ok(problems)
    }

    fn config_problem(&self, image: &Known) -> Option<String> {
        match self.inner.store.config(&image.id) {
            Err(error) => {
                let text = coracle_spec::full_text(&error);
                Some(format!("its configuration cannot be used: {text}"))
            }
            Ok(config) => {
                let layers = image.layers.iter().map(|layer| layer.diff_id);
                let same = config.rootfs.diff_ids.iter().copied().eq(layers);
                (!same).then(|| "its record has other layers than its configuration".to_owned())
            }
        }
    }

    /// What lies beside the images.
    fn records(&mut self) -> Result<()> {
        let mended = self.action == OnDamage::Quarantine;
        let differences = match self.action {
            OnDamage::Report => self.inner.index.image_differences()?,
            OnDamage::Quarantine => self.inner.index.mend_image_records()?,
        };
        for difference in differences {
            self.found(Inspected::Record(difference.id), difference.problem, mended);
        }
        Ok(())
    }

    fn found(&mut self, subject: Inspected, problem: String, dealt_with: bool) {
        self.checked.findings += 1;
        let images = self.users_of(&subject);
        // Nobody listens any more; the check ends at the next thing it looks at.
        let _ = self.told.blocking_send(CheckStep::Found(Finding { subject, problem, images, dealt_with }));
    }

    /// What the images that need something are called.
    fn users_of(&self, subject: &Inspected) -> Vec<String> {
        let needs = |image: &Known| match subject {
            Inspected::Blob(digest) => {
                let of_layers = self.archives.get(digest).map(Vec::as_slice).unwrap_or_default();
                image.id == *digest
                    || image.manifests.contains(digest)
                    || image.layers.iter().any(|layer| of_layers.contains(&layer.diff_id))
            }
            Inspected::Layer(diff_id) => image.layers.iter().any(|layer| layer.diff_id == *diff_id),
            Inspected::Image(id) | Inspected::Record(id) => image.id == *id,
        };
        let mut names = BTreeSet::new();
        let catalogue = self.inner.read();
        for image in catalogue.all().filter(|image| needs(image)) {
            let leading = image.indexes.keys().flat_map(|index| catalogue.names_of(index));
            let tags = image.references.iter().chain(leading).filter(|reference| reference.tag().is_some());
            let before = names.len();
            names.extend(tags.map(coracle_spec::Reference::familiar));
            if names.len() == before {
                names.insert(image.id.to_string());
            }
        }
        names.into_iter().collect()
    }
}
