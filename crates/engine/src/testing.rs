//! What the tests of images and volumes share: a store and an index in a directory that goes with the value, and
//! archives.

use crate::events::Bus;
use crate::images::{ContainerUse, Images, InUse};
use crate::index::Index;
use crate::volumes::Volumes;
use coracle_spec::Digest;
use coracle_spec::image::{ImageConfig, RunConfig};
use coracle_store::{Expected, Store};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// A data root with everything in it.
pub(crate) struct Field {
    pub(crate) store: Arc<Store>,
    pub(crate) events: Arc<Bus>,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    // Last, so that it goes when nothing uses it any more.
    pub(crate) dir: TempDir,
}

impl Field {
    pub(crate) async fn new() -> Self {
        Closed(tempfile::tempdir().unwrap()).open().await
    }

    /// Everything is closed, as when an engine ends.
    pub(crate) fn close(self) -> Closed {
        let Self { store, events, images, volumes, dir } = self;
        drop((images, volumes, events, store));
        Closed(dir)
    }

    /// The same data root as the next engine sees it.
    pub(crate) async fn reopen(self) -> Self {
        self.close().open().await
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Imports an archive as a layer.
    pub(crate) fn layer(&self, archive: &[u8]) -> Digest {
        self.store.import(archive, &Expected::default()).unwrap().diff_id
    }

    /// Stores a configuration of these layers.
    pub(crate) fn config(&self, layers: &[Digest], run: RunConfig) -> Digest {
        let mut config = ImageConfig { config: run, ..ImageConfig::default() };
        config.rootfs.diff_ids = layers.to_vec();
        self.store.put_config(&config).unwrap()
    }

    /// The actions of all events so far, with the name that each was told with.
    pub(crate) fn told(&self) -> Vec<(String, String)> {
        let (past, _) = self.events.listen();
        let name = |event: &crate::events::Event| event.attributes.get("name").cloned().unwrap_or_default();
        past.iter().map(|event| (event.action.clone(), name(event))).collect()
    }
}

/// A data root that nobody uses.
pub(crate) struct Closed(TempDir);

impl Closed {
    pub(crate) async fn open(self) -> Field {
        let dir = self.0;
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let index = Arc::new(Index::open(dir.path()).await.unwrap());
        let events = Arc::new(Bus::new());
        let images = Images::new(
            Arc::clone(&store),
            Arc::clone(&index),
            Arc::clone(&events),
            crate::config::RegistrySettings::default(),
            Arc::default(),
        )
        .await
        .unwrap();
        let volumes =
            Volumes::open(dir.path(), Arc::clone(&store), index, Arc::clone(&events)).await.unwrap();
        Field { store, events, images, volumes, dir }
    }
}

/// Containers by hand.
#[derive(Default)]
pub(crate) struct Containers {
    pub(crate) images: BTreeMap<Digest, ContainerUse>,
    pub(crate) layers: BTreeSet<Digest>,
}

impl InUse for Containers {
    fn image(&self, id: &Digest) -> Option<ContainerUse> {
        self.images.get(id).cloned()
    }

    fn layer(&self, diff_id: &Digest) -> bool {
        self.layers.contains(diff_id)
    }

    fn layers(&self) -> HashSet<Digest> {
        self.layers.iter().copied().collect()
    }
}

/// An archive with these files.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}
