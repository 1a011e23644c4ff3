//! Layers and blobs that nothing needs any more.
//!
//! What an image needs follows from the catalogue; containers keep the layers of images that are gone. While somebody
//! holds on, because content arrives that no image has yet, nothing is freed; the next collection sees to it. What a pull
//! had brought before it failed is leased, the beginnings of blobs included: the next attempt need not fetch it again. A
//! collection looks at everything there is, so it looks only if something may be left: the removal of a container asks for one each
//! time, and seldom leaves any.

use super::catalogue::Known;
use super::{Images, Inner};
use crate::error::{Attempt, Result};
use coracle_spec::Digest;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A container that uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUse {
    /// The beginning of its id, as clients show it.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// What containers use.
pub trait InUse: Send + Sync {
    /// A container of this image; one that runs, where there is one.
    fn image(&self, id: &Digest) -> Option<ContainerUse>;

    /// Whether the root of a container has this layer.
    fn layer(&self, diff_id: &Digest) -> bool;
}

/// How many hold on.
#[derive(Debug, Default)]
pub(super) struct Holds(AtomicUsize);

/// Keeps layers and blobs from being freed as long as it exists.
#[derive(Debug)]
pub struct Hold(Arc<Holds>);

impl Holds {
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.0.fetch_add(1, Ordering::SeqCst);
        Hold(Arc::clone(self))
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Images {
    /// Frees every layer and blob that no image and no container needs, if there may be any: at the start, when an
    /// earlier engine may have been killed, after content has arrived, and after an image went that was in use. Returns
    /// how many; none while somebody holds on.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn collect_garbage(&self, in_use: Arc<dyn InUse>) -> Result<usize> {
        self.run(move |inner| inner.collect_garbage(in_use.as_ref())).await
    }
}

impl Inner {
    /// Holds on for content that no image has yet, and of which something may be left.
    pub(super) fn arriving(&self) -> Hold {
        let hold = self.holds.hold();
        self.left.store(true, Ordering::SeqCst);
        hold
    }

    fn collect_garbage(&self, in_use: &dyn InUse) -> Result<usize> {
        if !self.left.swap(false, Ordering::SeqCst) {
            return Ok(0);
        }
        // Also of a collection that failed, something is left.
        self.look_for_garbage(in_use).inspect_err(|_| self.left.store(true, Ordering::SeqCst))
    }

    fn look_for_garbage(&self, in_use: &dyn InUse) -> Result<usize> {
        let _change = self.change();
        if self.holds.any() {
            self.left.store(true, Ordering::SeqCst);
            return Ok(0);
        }
        let collecting = || "collect garbage".to_owned();
        let leased = self.store.leased(crate::limits::LEASE).attempt(collecting)?;
        let mut freed = 0;
        let mut kept = HashSet::new();
        for diff_id in self.store.layers().attempt(collecting)? {
            let blob = self.store.layer(&diff_id).attempt(collecting)?.blob.map(|blob| blob.blob.digest);
            let needed = self.read().users_of(&diff_id) > 0;
            if !needed && !in_use.layer(&diff_id) && blob.is_none_or(|blob| !leased.contains(&blob)) {
                freed += usize::from(self.store.remove_layer(&diff_id).attempt(collecting)?);
                continue;
            }
            if !needed {
                self.left.store(true, Ordering::SeqCst);
            }
            kept.extend(blob);
        }
        for image in self.read().all() {
            kept.insert(image.id);
            kept.extend(image.manifests.iter().copied());
        }
        for blob in self.store.partials().attempt(collecting)? {
            // A load that was interrupted leaves one too, and begins anew.
            if leased.contains(&blob) {
                self.left.store(true, Ordering::SeqCst);
            } else {
                freed += usize::from(self.store.discard_partial(&blob).attempt(collecting)?);
            }
        }
        for blob in self.store.blobs().attempt(collecting)? {
            if !kept.contains(&blob) {
                freed += usize::from(self.store.remove_blob(&blob).attempt(collecting)?);
            }
        }
        Ok(freed)
    }

    /// Frees what a removed image alone had; the positions of the layers that are gone, the topmost first. The caller has begun a change
    /// and taken the image out of the catalogue.
    pub(super) fn free(&self, image: &Known, in_use: &dyn InUse) -> Result<Vec<usize>> {
        if self.holds.any() {
            self.left.store(true, Ordering::SeqCst);
            return Ok(Vec::new());
        }
        let freeing = || format!("free the content of image {}", image.id);
        let mut freed = Vec::new();
        for (position, layer) in image.layers.iter().enumerate().rev() {
            let diff_id = layer.diff_id;
            if self.read().users_of(&diff_id) > 0 {
                continue;
            }
            if in_use.layer(&diff_id) {
                self.left.store(true, Ordering::SeqCst);
                continue;
            }
            let blob = self.store.find_layer(&diff_id).attempt(freeing)?.and_then(|layer| layer.blob);
            if self.store.remove_layer(&diff_id).attempt(freeing)? {
                freed.push(position);
            }
            if let Some(blob) = blob {
                self.store.remove_blob(&blob.blob.digest).attempt(freeing)?;
            }
        }
        for blob in image.manifests.iter().filter(|blob| self.read().users_of(blob) == 0).chain([&image.id]) {
            self.store.remove_blob(blob).attempt(freeing)?;
        }
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Containers, Field};
    use std::fs;

    #[tokio::test]
    async fn beginnings_of_blobs_stay_only_for_pulls_that_may_go_on() {
        let field = Field::new().await;
        let (pulled, loaded) = (Digest::of(b"pulled"), Digest::of(b"loaded"));
        field.store.lease(&Digest::of(b"manifest"), &[pulled]).unwrap();
        for digest in [pulled, loaded] {
            fs::write(field.path("partial").join(format!("sha256-{}", digest.hex())), "beginning").unwrap();
        }
        let nothing = || Arc::new(Containers::default());
        assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 1);
        assert!(field.store.partial(&pulled).unwrap().is_some());
        assert!(field.store.partial(&loaded).unwrap().is_none());
        // It is looked for again, so that it goes when the pull has been given up.
        field.store.end_lease(&Digest::of(b"manifest")).unwrap();
        assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 1);
        assert!(field.store.partial(&pulled).unwrap().is_none());
    }
}
