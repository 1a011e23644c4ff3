//! Content that is no image here and goes elsewhere: layers of this store under a configuration of another kind.

use super::super::super::{Hold, Images, Inner, of_store};
use super::super::Teller;
use super::{Layers, Plan, Push};
use crate::error::{Attempt, Error, Result, blocking};
use coracle_registry::{Access, Credentials, Pick};
use coracle_spec::image::{Descriptor, Manifest, media_type};
use coracle_spec::{Digest, Reference};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A manifest and everything that it describes, all in the store as long as the value exists.
#[derive(Debug)]
pub(crate) struct Prepared {
    descriptor: Descriptor,
    content: Vec<u8>,
    manifest: Manifest,
    /// What the layers are without compression.
    diff_ids: Vec<Digest>,
    _hold: Hold,
}

impl Prepared {
    /// Of the manifest.
    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Everything, the manifest last.
    pub(crate) fn blobs(&self) -> Vec<Descriptor> {
        let mut blobs: Vec<Descriptor> = self.manifest.blobs().into_iter().cloned().collect();
        blobs.push(self.descriptor.clone());
        blobs
    }
}

impl Images {
    /// Describes layers of the store by a configuration of some media type. Compresses layers that are not. The caller holds
    /// on to them.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn prepare(&self, kind: &str, config: Vec<u8>, layers: Vec<Digest>) -> Result<Prepared> {
        let hold = self.hold_what_comes();
        let (inner, kind) = (Arc::clone(&self.0), kind.to_owned());
        blocking(move || inner.prepare(&kind, &config, layers, hold)).await?
    }

    /// Opens a blob of the store, whose holder still holds on to it.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn open_blob(&self, digest: Digest) -> Result<File> {
        let reading = move || format!("read blob {digest}");
        self.run(move |inner| inner.store.read_blob(&digest).attempt(reading)).await
    }

    /// Brings it into a registry, under a name.
    ///
    /// # Errors
    /// As [`Images::push`].
    pub(crate) async fn push_prepared(
        &self,
        prepared: &Prepared,
        reference: Reference,
        credentials: Credentials,
    ) -> Result<()> {
        if reference.digest().is_some() {
            return Err(Error::Invalid("cannot push a digest reference".to_owned()));
        }
        let inner = &self.0;
        // Nobody hears how far it is.
        let (told, _) = Teller::channel();
        let push = Push {
            inner: Arc::clone(inner),
            repository: inner.registries().repository(&reference, credentials, Access::Push),
            reference,
            platform: None,
            told,
            slots: Arc::new(Semaphore::new(inner.registry_settings().uploads)),
        };
        let plan = Plan {
            manifest: prepared.manifest.clone(),
            content: prepared.content.clone(),
            shown: prepared.diff_ids.clone(),
        };
        let pushed = push.prepared(&plan).await;
        // Also of a push that failed, the registry may have begun uploads.
        push.repository.abandon().await;
        pushed
    }
}

impl Push {
    async fn prepared(&self, plan: &Plan) -> Result<()> {
        match self.layers(plan).await? {
            Layers::There => {}
            Layers::NowhereToBeHad => return Err(self.gone()),
        }
        self.config(plan).await?;
        self.put_manifest(&Pick::Tag(self.tag()), plan).await.map(drop)
    }
}

impl Inner {
    fn prepare(&self, kind: &str, config: &[u8], diff_ids: Vec<Digest>, hold: Hold) -> Result<Prepared> {
        let preparing = || "prepare content for elsewhere".to_owned();
        let failed = |error| of_store(error, preparing);
        let layers = self.compressed(&diff_ids).map_err(failed)?;
        let layers =
            layers.iter().map(|kept| Descriptor::new(&kept.media_type, kept.blob.digest, kept.blob.size));
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::of(kind, config),
            layers: layers.collect(),
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        self.store.put_blob(config).map_err(failed)?;
        let content = serde_json::to_vec(&manifest).attempt(preparing)?;
        self.store.put_blob(&content).map_err(failed)?;
        let descriptor = Descriptor::of(media_type::MANIFEST, &content);
        Ok(Prepared { descriptor, content, manifest, diff_ids, _hold: hold })
    }
}
