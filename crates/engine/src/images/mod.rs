//! Images: which there are, what they are called, and how they come, go and change names.
//!
//! An image is a configuration and layers in the store, and a row in the index; its id is the digest of the
//! configuration. A name may lead to several, one for each platform (`variants.rs`). What a registry keeps that is no image
//! is kept as it came, under the digest of its manifest. All rows are in memory (`catalogue.rs`), so that finding an image costs no access to the disk; its
//! configuration is read once. Layers and blobs that nothing needs any more are freed by `garbage.rs`, images that nobody
//! uses by `reclaim.rs` when all take more room than they may, and `check.rs` proves that all of them are what they should be. What the bytes
//! of an archive mean is the store's business, and what a registry has the registry's.

mod adopt;
mod archives;
mod attested;
mod beside;
mod body;
mod built;
mod catalogue;
mod check;
mod commit;
mod fetch;
mod forward;
mod garbage;
mod history;
mod holds;
mod import;
mod list;
mod lists;
mod lookup;
mod manifests;
mod moving;
mod pins;
mod prune;
mod reclaim;
mod record;
mod registries;
mod remove;
#[cfg(test)]
mod tests;
mod transfer;
mod uses;
mod variants;

pub use adopt::NewImage;
pub use archives::{Loaded, Saving};
pub(crate) use attested::{AttestedImages, Tell};
pub(crate) use body::Patience;
pub use body::{BodyReader, BodySender, BodyWriter, Closed};
pub use check::{CheckStep, Checked, Finding, Inspected, OnDamage};
pub use commit::CommitRequest;
pub use garbage::{ContainerUse, InUse};
pub use history::HistoryStep;
pub use holds::Hold;
pub use import::ImportRequest;
pub(crate) use import::now;
pub use list::{ImageFilter, ImageSummary, ImageUsage};
pub use lists::{ManifestRequest, NewManifest, RegistryManifest, Security};
pub use manifests::{ManifestKind, ManifestSummary, Target};
pub use moving::{SendRequest, Sending};
pub use pins::{LABEL as PIN_LABEL, Pin};
pub use prune::{ImagesPruned, PruneRequest};
pub use reclaim::{Keep, Policy, Reclaimed, Verdict};
pub use registries::{Distribution, Login, SearchRequest};
pub use remove::{Deleted, RemoveOptions};
pub use transfer::{LayerStep, PullRequest, Pulled, PushRequest, Pushed, Reduced, Step, Teller};
pub(crate) use transfer::{Looked, Prepared, Remote};

use crate::config::RegistrySettings;
use crate::error::{Attempt, Error, Result, blocking};
use crate::events::Bus;
use crate::index::Index;
use catalogue::{Catalogue, Known};
use coracle_spec::image::ImageConfig;
use coracle_spec::{Digest, Reference};
use coracle_store::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use time::OffsetDateTime;
use tokio::sync::Notify;

/// An image as it was at one moment.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// What runs in a container of it, and how it was made.
    pub config: Arc<ImageConfig>,
    /// Its names, with a tag or with the digest of its manifest.
    pub references: Vec<Reference>,
    /// The digests of its uncompressed layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Bytes in the files of all its layers.
    pub size: u64,
    /// When it was made, by its own account.
    pub created: Option<OffsetDateTime>,
    /// When it last got a name here.
    pub last_tagged: Option<OffsetDateTime>,
    /// The image here that it was made of.
    pub parent: Option<Digest>,
    /// The type of what it is if it is no image: no container can be made of it then.
    pub artifact: Option<String>,
}

impl Image {
    /// Layers on which a container can be made, of an image that has no record.
    pub(crate) fn of_layers(layers: Vec<Digest>) -> Self {
        Self {
            id: Digest::of(b""),
            config: Arc::default(),
            references: Vec::new(),
            layers,
            size: 0,
            created: None,
            last_tagged: None,
            parent: None,
            artifact: None,
        }
    }
}

/// The images of an engine.
#[derive(Debug)]
pub struct Images(Arc<Inner>);

/// What operations on blocking threads share.
#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    index: Arc<Index>,
    events: Arc<Bus>,
    catalogue: RwLock<Catalogue>,
    /// Held by whoever changes the catalogue, the index or what is in the store, on a blocking thread.
    changing: Mutex<()>,
    holds: Arc<holds::Holds>,
    spoken_to: RwLock<SpokenTo>,
    downloads: transfer::Downloads,
    uses: uses::Uses,
    pins: pins::Pins,
}

/// How registries are spoken to.
#[derive(Clone, Debug)]
struct SpokenTo {
    client: coracle_registry::Client,
    settings: RegistrySettings,
}

impl SpokenTo {
    fn new(settings: RegistrySettings) -> Result<Self> {
        Ok(Self { client: settings.client()?, settings })
    }
}

impl Inner {
    /// The client of registries.
    fn registries(&self) -> coracle_registry::Client {
        self.spoken_to.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    /// How registries are spoken to.
    fn registry_settings(&self) -> RegistrySettings {
        self.spoken_to.read().unwrap_or_else(PoisonError::into_inner).settings.clone()
    }
}

impl Images {
    /// How registries are spoken to.
    pub fn registry_settings(&self) -> RegistrySettings {
        self.0.registry_settings()
    }

    /// Speaks to registries like this from now on; what has begun ends as it began.
    ///
    /// # Errors
    /// When that cannot be prepared; then nothing changes.
    pub(crate) fn speak_to_registries(&self, settings: RegistrySettings) -> Result<()> {
        let new = SpokenTo::new(settings)?;
        *self.0.spoken_to.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The images that `index` has. `collector` is told when there is something to collect.
    ///
    /// # Errors
    /// When the index cannot be read, or a newer engine wrote it.
    pub(crate) async fn new(
        store: Arc<Store>,
        index: Arc<Index>,
        events: Arc<Bus>,
        registries: RegistrySettings,
        collector: Arc<Notify>,
    ) -> Result<Self> {
        let rows = Arc::clone(&index);
        let reading = move || {
            let catalogue = rows.images().and_then(Catalogue::read)?;
            Ok::<_, Error>((catalogue, uses::Uses::read(&rows)?, pins::Pins::open(&rows)?))
        };
        let (catalogue, uses, pins) = blocking(reading).await??;
        let catalogue = RwLock::new(catalogue);
        let holds = Arc::new(holds::Holds::new(collector));
        let told = Arc::clone(&holds);
        store.listen_to_arrivals(move |digest| told.arrived(digest));
        Ok(Self(Arc::new(Inner {
            store,
            index,
            events,
            catalogue,
            changing: Mutex::default(),
            holds,
            spoken_to: RwLock::new(SpokenTo::new(registries)?),
            downloads: transfer::Downloads::default(),
            uses,
            pins,
        })))
    }

    /// Finds an image by a name, with `latest` where it has no tag, by an id, or by the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Invalid`] for what can be no name.
    pub async fn resolve(&self, name: &str) -> Result<Image> {
        let known = self.0.find(name)?;
        if let Some(config) = known.cached_config() {
            return Ok(known.image(config));
        }
        let inner = Arc::clone(&self.0);
        blocking(move || inner.image(&known)).await?
    }

    /// The id of an image, named as in [`Images::resolve`], from memory.
    ///
    /// # Errors
    /// As [`Images::resolve`].
    pub fn find_id(&self, name: &str) -> Result<Digest> {
        self.0.find(name).map(|known| known.id)
    }

    /// As long as the value is kept, nothing that arrives from now on is freed, nor what is named to [`Hold::and`].
    pub(crate) fn hold_what_comes(&self) -> Hold {
        self.0.holds.arrivals()
    }

    /// Whether somebody holds on to this by its name.
    pub(crate) fn is_held(&self, digest: &Digest) -> bool {
        self.0.holds.names(digest)
    }

    /// Whether an image has this layer.
    pub(crate) fn have_layer(&self, diff_id: &Digest) -> bool {
        self.0.read().users_of(diff_id) > 0
    }

    /// As long as the value is kept, no layer or blob is freed: for whoever makes something of them.
    pub(crate) fn hold(&self) -> Hold {
        self.0.holds.everything()
    }

    /// From now on only this image is held on to, and a container is being made of it: it is not removed without force. Waits
    /// while somebody tries to.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is gone then.
    pub(crate) async fn hold_for_container(&self, hold: &Hold, image: &Image) -> Result<()> {
        let known = self.0.find(&image.id.to_string())?;
        hold.only(holds::content_of(&known));
        hold.becomes_a_container_of(image.id).await;
        self.0.find(&image.id.to_string()).map(drop)
    }

    /// Runs `work` on a blocking thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await?
    }
}

impl Inner {
    fn find(&self, name: &str) -> Result<Arc<Known>> {
        self.read().find(name).cloned()
    }

    /// The whole image, its configuration read if need be. Blocks.
    fn image(&self, known: &Known) -> Result<Image> {
        let config = known.config(|| {
            if known.artifact.is_some() {
                return Ok(Arc::default());
            }
            self.store.config(&known.id).map(Arc::new).attempt(|| format!("read image {}", known.id))
        })?;
        Ok(known.image(config))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Catalogue> {
        // A panic elsewhere does not leave the catalogue half changed: every change is one assignment.
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a change. Blocks while another is under way.
    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts rows into the index and the catalogue. The caller has begun a change.
    fn put(&self, images: Vec<Known>) -> Result<()> {
        self.index.put_images(images.iter().map(Known::row).collect())?;
        let mut catalogue = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        for image in images {
            catalogue.put(image);
        }
        Ok(())
    }

    /// Tells of something that happened to an image. `name` is what it was called.
    fn tell(&self, image: &Known, action: &str, name: &str) {
        let mut attributes: BTreeMap<String, String> = image.labels.clone();
        attributes.insert("name".to_owned(), name.to_owned());
        self.events.tell("image", action, &image.id.to_string(), attributes);
    }
}

/// Failures of the store: what was handed in is at fault, or this machine.
fn of_store(error: coracle_store::Error, action: impl FnOnce() -> String) -> Error {
    if !error.is_input() {
        return Error::Failed { action: action(), source: Box::new(error) };
    }
    let failed = Error::Failed { action: action(), source: Box::new(error) };
    Error::Invalid(failed.chain())
}
