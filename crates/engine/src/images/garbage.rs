//! Layers and blobs that nothing needs any more.
//!
//! What an image needs follows from the catalogue; containers keep the layers of images that are gone. What somebody
//! holds on to (`holds.rs`), because content arrives that no image has yet, is not freed; a collection that follows sees to
//! it. What a pull had brought before it failed is leased, the beginnings of blobs included: the next attempt need not fetch
//! it again. A collection looks at everything there is, so it looks only if something may be left: the removal of a
//! container asks for one each time, and seldom leaves any.

use super::catalogue::Known;
use super::holds::{Held, Hold};
use super::{Images, Inner};
use crate::error::{Attempt, Result};
use coracle_spec::Digest;
use coracle_spec::image::Document;
use coracle_store::{LayerBlob, Store};
use std::collections::HashSet;
use std::sync::Arc;

/// A container that uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUse {
    /// The beginning of its id, as clients show it.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// What containers and builds use.
pub trait InUse: Send + Sync {
    /// A container of this image; one that runs, where there is one.
    fn image(&self, id: &Digest) -> Option<ContainerUse>;

    /// Whether the root of a container has this layer.
    fn layer(&self, diff_id: &Digest) -> bool;

    /// Whether this layer stays until somebody says that it may go, and has the collector look then.
    fn remembers(&self, _diff_id: &Digest) -> bool {
        false
    }

    /// All layers that roots of containers have.
    fn layers(&self) -> HashSet<Digest>;
}

impl Images {
    /// Frees every layer and blob that no image and no container needs, if there may be any: at the start, when an
    /// earlier engine may have been killed, after content has arrived, and after an image went that was in use. Returns
    /// how many.
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
        self.holds.arriving()
    }

    /// The compressed archives of layers; those that there are not yet are made. Blocks, also while others change anything:
    /// a collection that has looked at a layer before knows nothing of its new archive, so it ends before the hold does.
    pub(super) fn compressed(&self, diff_ids: &[Digest]) -> coracle_store::Result<Vec<LayerBlob>> {
        let hold = self.arriving();
        let compressed = diff_ids.iter().map(|diff_id| self.store.compressed(diff_id)).collect();
        let _change = self.change();
        drop(hold);
        compressed
    }

    fn collect_garbage(&self, in_use: &dyn InUse) -> Result<usize> {
        if !self.holds.take_left() {
            return Ok(0);
        }
        // Also of a collection that failed, something is left.
        self.look_for_garbage(in_use).inspect_err(|_| self.holds.something_is_left())
    }

    fn look_for_garbage(&self, in_use: &dyn InUse) -> Result<usize> {
        let _change = self.change();
        let collecting = || "collect garbage".to_owned();
        let leased = self.store.leased(crate::limits::LEASE).attempt(collecting)?;
        let mut freed = 0;
        let mut kept = HashSet::new();
        for diff_id in self.store.layers().attempt(collecting)? {
            let blob = self.store.layer(&diff_id).attempt(collecting)?.blob.map(|blob| blob.blob.digest);
            let needed = self.read().users_of(&diff_id) > 0;
            if !needed && !in_use.layer(&diff_id) && blob.is_none_or(|blob| !leased.contains(&blob)) {
                match self.free_layer(&diff_id, blob).attempt(collecting)? {
                    Some(gone) => freed += usize::from(gone),
                    None => kept.extend(blob),
                }
                continue;
            }
            if !needed && !in_use.remembers(&diff_id) {
                self.holds.something_is_left();
            }
            kept.extend(blob);
        }
        if !leased.is_empty() {
            // A pull that goes on unpacks what is whole, and a lease ends by itself.
            self.holds.something_is_left();
            kept.extend(leased.iter().copied());
        }
        for image in self.read().all() {
            kept.insert(image.id);
            kept.extend(image.manifests.iter().copied());
        }
        freed += self.free_partials(&leased).attempt(collecting)?;
        for blob in self.store.blobs().attempt(collecting)? {
            if !kept.contains(&blob) {
                let gone = self.free_one(&[blob], |store| store.remove_blob(&blob)).attempt(collecting)?;
                freed += usize::from(gone == Some(true));
            }
        }
        Ok(freed)
    }

    /// Frees the beginnings of blobs that nobody will go on with; how many.
    fn free_partials(&self, leased: &HashSet<Digest>) -> coracle_store::Result<usize> {
        let mut freed = 0;
        for blob in self.store.partials()? {
            // A load that was interrupted leaves one too, and begins anew.
            if leased.contains(&blob) {
                self.holds.something_is_left();
                continue;
            }
            freed += usize::from(self.free_one(&[blob], |store| store.discard_partial(&blob))? == Some(true));
        }
        Ok(freed)
    }

    /// Frees a layer, unless somebody holds on to it or to its archive.
    fn free_layer(&self, diff_id: &Digest, blob: Option<Digest>) -> coracle_store::Result<Option<bool>> {
        let digests: Vec<Digest> = blob.into_iter().chain([*diff_id]).collect();
        self.free_one(&digests, |store| store.remove_layer(diff_id))
    }

    /// Frees one thing, and says whether it was there; nothing if somebody holds on to it, and a later collection sees to it.
    fn free_one(
        &self,
        digests: &[Digest],
        free: impl FnOnce(&Store) -> coracle_store::Result<bool>,
    ) -> coracle_store::Result<Option<bool>> {
        match self.holds.free(digests, || free(&self.store)) {
            Ok(freed) => freed.map(Some),
            Err(Held) => Ok(None),
        }
    }

    /// Frees what a removed image alone had; the positions of the layers that are gone, the topmost first. The caller has
    /// begun a change and taken the image out of the catalogue.
    pub(super) fn free(&self, image: &Known, in_use: &dyn InUse) -> Result<Vec<usize>> {
        if image.artifact.is_some() {
            // A blob of it may be one of an image's layers too: a collection knows.
            self.holds.something_is_left();
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
                self.holds.something_is_left();
                continue;
            }
            let layer = self.store.find_layer(&diff_id).attempt(freeing)?;
            let blob = layer.and_then(|layer| layer.blob).map(|blob| blob.blob.digest);
            let Some(gone) = self.free_layer(&diff_id, blob).attempt(freeing)? else { continue };
            freed.extend(gone.then_some(position));
            // As below.
            if let Some(blob) = blob.filter(|blob| self.read().users_of(blob) == 0) {
                self.free_one(&[blob], |store| store.remove_blob(&blob)).attempt(freeing)?;
            }
        }
        for blob in image.manifests.iter().chain([&image.id]) {
            let needed = self.read().users_of(blob) > 0 || self.read().get(blob).is_some();
            if needed {
                continue;
            }
            if !self.is_of(blob, image) {
                // Part of a statement about it, or by now of something else as well: a collection knows.
                self.holds.something_is_left();
                continue;
            }
            self.free_one(&[*blob], |store| store.remove_blob(blob)).attempt(freeing)?;
        }
        Ok(freed)
    }

    /// Whether a blob is the configuration, a manifest or an index of an image, which is no part of anything else.
    fn is_of(&self, blob: &Digest, image: &Known) -> bool {
        *blob == image.id
            || match self.described(*blob) {
                Some((_, Document::Manifest(manifest))) => manifest.config.digest == image.id,
                Some((_, Document::Index(_))) => true,
                None => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Containers, Field};
    use std::fs;
    use std::sync::Mutex;

    /// While the collection asks for a layer, content arrives.
    struct Arriving {
        images: Images,
        hold: Mutex<Option<Hold>>,
    }

    impl InUse for Arriving {
        fn image(&self, _: &Digest) -> Option<ContainerUse> {
            None
        }

        fn layer(&self, _: &Digest) -> bool {
            *self.hold.lock().unwrap() = Some(self.images.hold());
            self.images.0.store.put_blob(b"arrives").unwrap();
            false
        }

        fn layers(&self) -> HashSet<Digest> {
            HashSet::new()
        }
    }

    #[tokio::test]
    async fn what_arrives_during_a_collection_stays() {
        let field = Field::new().await;
        let archive = crate::testing::archive(&[("file", "content")]);
        let layer = field.store.import(archive.as_slice(), &coracle_store::Expected::default()).unwrap();
        let images = Images(Arc::clone(&field.images.0));
        let arriving = Arc::new(Arriving { images, hold: Mutex::default() });
        assert_eq!(field.images.collect_garbage(Arc::clone(&arriving) as Arc<dyn InUse>).await.unwrap(), 0);
        assert!(field.store.has_blob(&Digest::of(b"arrives")).unwrap().is_some());
        assert!(field.store.find_layer(&layer.diff_id).unwrap().is_some(), "it may be what arrives");
        // Nobody holds on any more: what did not become an image goes.
        *arriving.hold.lock().unwrap() = None;
        assert!(field.images.collect_garbage(Arc::new(Containers::default())).await.unwrap() > 0);
        assert!(field.store.has_blob(&Digest::of(b"arrives")).unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_compressed_during_a_collection_is_held_until_that_has_ended() {
        let field = Field::new().await;
        let archive = crate::testing::archive(&[("file", "content")]);
        let layer = field.store.import(archive.as_slice(), &coracle_store::Expected::default()).unwrap();
        let inner = Arc::clone(&field.images.0);
        // A collection is a change.
        let collection = inner.change();
        let (ended, end) = std::sync::mpsc::channel();
        let (packer, diff_id) = (Arc::clone(&inner), layer.diff_id);
        let packing = std::thread::spawn(move || {
            let packed = packer.compressed(&[diff_id]);
            ended.send(()).unwrap();
            packed
        });
        assert!(end.recv_timeout(std::time::Duration::from_secs(1)).is_err(), "it has let go already");
        let blob = field.store.layer(&layer.diff_id).unwrap().blob.unwrap().blob.digest;
        assert!(blob != layer.diff_id && inner.holds.covers(&blob));
        drop(collection);
        assert_eq!(packing.join().unwrap().unwrap()[0].blob.digest, blob);
        assert!(!inner.holds.covers(&blob));
    }

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
