//! When images were last used: when a container was made of them, started or removed, when a build took them, and when they came, went somewhere
//! or got a name. All times are in memory; `index/image_uses.rs` keeps them.

use super::catalogue::Known;
use super::{Images, Inner};
use crate::error::Result;
use crate::index::Index;
use coracle_spec::Digest;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use time::OffsetDateTime;

/// The last use of each image.
#[derive(Debug)]
pub(super) struct Uses(Mutex<HashMap<Digest, OffsetDateTime>>);

impl Uses {
    pub(super) fn read(index: &Index) -> Result<Self> {
        Ok(Self(Mutex::new(index.image_uses()?.into_iter().collect())))
    }

    pub(super) fn forget(&self, id: &Digest) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, OffsetDateTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    /// Notes that a container uses an image, or did so at some time. Costs no system call; survives the end of this process
    /// together with the container's own record.
    pub(crate) fn note_use(&self, id: &Digest, at: OffsetDateTime) {
        self.0.note_use(id, at);
    }

    /// When an image was last used, as far as is known.
    pub fn last_used(&self, id: &Digest) -> Option<OffsetDateTime> {
        let image = self.0.read().get(id).cloned();
        image.and_then(|image| self.0.last_used(&image))
    }
}

impl Inner {
    /// Notes a use that survives the end of this process by itself.
    pub(super) fn note_use_now(&self, id: &Digest) {
        self.note_use(id, OffsetDateTime::now_utc());
        self.index.write_image_uses();
    }

    fn note_use(&self, id: &Digest, at: OffsetDateTime) {
        if self.read().get(id).is_none() {
            return;
        }
        let mut uses = self.uses.lock();
        let last = uses.entry(*id).or_insert(at);
        if *last <= at {
            *last = at;
            self.index.note_image_use(*id, at);
        }
    }

    /// A name is given to what is used.
    pub(super) fn last_used(&self, image: &Known) -> Option<OffsetDateTime> {
        self.uses.lock().get(&image.id).copied().max(image.last_tagged)
    }
}
