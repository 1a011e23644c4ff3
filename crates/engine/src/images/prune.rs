//! Images that nobody needs go, all at once.

use super::catalogue::Known;
use super::remove::{Deleted, Removal, RemoveOptions, tell_prune};
use super::{Images, InUse, Inner};
use crate::error::{Attempt, Error, Result};
use crate::labels::LabelChoice;
use std::sync::Arc;
use time::OffsetDateTime;

/// Which images go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// Those with a name too.
    pub all: bool,
    /// Made earlier than this.
    pub until: Option<OffsetDateTime>,
    /// With and without these labels.
    pub labels: LabelChoice,
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesPruned {
    /// One thing after the other.
    pub deleted: Vec<Deleted>,
    /// Bytes in the files of the layers that are gone.
    pub bytes: u64,
}

impl Images {
    /// Removes the images that no container uses and the request means, and what pulls that failed have left. Durable on
    /// return.
    ///
    /// # Errors
    /// The first failure, after everything that can be removed is.
    pub async fn prune(&self, request: PruneRequest, in_use: Arc<dyn InUse>) -> Result<ImagesPruned> {
        self.run(move |inner| inner.prune(&request, in_use.as_ref())).await
    }
}

impl Inner {
    fn prune(&self, request: &PruneRequest, in_use: &dyn InUse) -> Result<ImagesPruned> {
        let _change = self.change();
        let chosen: Vec<Arc<Known>> = {
            let catalogue = self.read();
            let is_meant = |image: &&Arc<Known>| {
                let inner = image.references.is_empty() && catalogue.has_children(&image.id);
                let tagged = image.references.iter().any(|reference| reference.tag().is_some());
                (request.all || !tagged)
                    && !inner
                    // It goes with the names that lead to it.
                    && !catalogue.is_variant(image)
                    && request.until.is_none_or(|until| image.since().is_none_or(|since| since < until))
                    && request.labels.matches(&image.labels)
                    && in_use.image(&image.id).is_none()
            };
            catalogue.all().filter(is_meant).cloned().collect()
        };
        let mut removal = Removal::new(self, in_use);
        let mut failure = None;
        for image in chosen {
            match prune_one(&mut removal, &image) {
                // Gone with another one, or needed by one that stays.
                Ok(()) | Err(Error::NotFound { .. } | Error::Conflict(_)) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if let Err(error) = self.forget_pulls() {
            failure = failure.or(Some(error));
        }
        tell_prune(self, removal.bytes);
        let pruned = ImagesPruned { deleted: removal.deleted, bytes: removal.bytes };
        failure.map_or(Ok(pruned), Err)
    }
}

impl Inner {
    /// What pulls that failed have left for the next attempt is content that nobody needs, too: the collection that follows
    /// frees it. A pull that goes on holds on to its manifest.
    fn forget_pulls(&self) -> Result<()> {
        let forgetting = || "forget pulls that failed".to_owned();
        for manifest in self.store.leases().attempt(forgetting)? {
            if !self.holds.covers(&manifest) {
                self.store.end_lease(&manifest).attempt(forgetting)?;
                self.holds.something_is_left();
            }
        }
        Ok(())
    }
}

/// Name by name, so that one of which others were made only loses its names.
fn prune_one(removal: &mut Removal<'_>, image: &Known) -> Result<()> {
    let options = RemoveOptions::default();
    if image.references.is_empty() {
        return removal.remove(&image.id.to_string(), options);
    }
    for reference in &image.references {
        match removal.remove(&reference.canonical(), options) {
            // A digest went with the last tag.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
