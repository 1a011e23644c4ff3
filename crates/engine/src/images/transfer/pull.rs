//! `docker pull`: what a registry has becomes an image here.
//!
//! Layers come in parallel, each unpacked while it comes. The image is there once all of them are; a pull that fails adds
//! none, and its finished layers and what came of the others wait for the next attempt.

use super::super::adopt::Origin;
use super::super::variants::Membership;
use super::super::{Hold, Images, Inner, NewImage, lookup, of_store, registries};
use super::choose::{Chosen, Question};
use super::downloads::{Begun, Source};
use super::{LayerStep, Step, Teller, of_registry, refused};
use crate::error::{Result, blocking};
use coracle_registry::{Access, Credentials, Repository};
use coracle_spec::image::{Descriptor, ImageConfig};
use coracle_spec::{Digest, Platform, Reference};
use coracle_store::Layer;
use futures_util::future::try_join;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What is to be pulled.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The name, with a tag or a digest.
    pub reference: Reference,
    /// What it is to run on; this machine if absent.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

/// What was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub id: Digest,
    /// What its name stands for in the registry.
    pub digest: Digest,
    /// Whether the name stood for something else here, or for nothing.
    pub newer: bool,
}

/// One pull under way.
pub(super) struct Pull<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) repository: Repository,
    pub(super) reference: Reference,
    pub(super) told: &'a Teller,
    pub(super) hold: Hold,
}

impl Images {
    /// Pulls an image, or an artifact. Durable on return. Another platform of what is here is added to it.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] for what the registry does not have or does not give to this client, [`crate::Error::Invalid`] for
    /// what is no image or not what its digest says, [`crate::Error::Failed`] when the registry cannot be reached. No image is
    /// added then.
    pub async fn pull(&self, request: PullRequest, told: &Teller) -> Result<Pulled> {
        let reference = lookup::key(request.reference);
        let platform = request.platform.unwrap_or_else(Platform::host);
        let inner = &self.0;
        // From before the first piece is stored.
        let hold = inner.arriving();
        let repository = inner.registries().repository(&reference, request.credentials, Access::Pull);
        let question =
            Question { inner, repository: &repository, reference: &reference, platform: &platform };
        let chosen = question.choose().await?;
        hold.only(chosen.content());
        let (repository_name, what) = (reference.familiar_name(), said(&reference));
        told.tell(Step::Pulling { repository: repository_name, what }).await;
        let pull = Pull { inner, repository, reference, told, hold };
        let pulled = match chosen.manifest.artifact_kind().map(str::to_owned) {
            Some(kind) => pull.artifact(chosen, kind).await?,
            None => pull.image(chosen).await?,
        };
        told.tell(Step::Done { reference: pull.reference.familiar(), newer: pulled.newer }).await;
        Ok(pulled)
    }
}

impl Images {
    /// Pulls an image of every tag that a repository has.
    ///
    /// # Errors
    /// As [`Images::pull`]; images that came before stay.
    pub async fn pull_all(&self, request: PullRequest, told: &Teller) -> Result<()> {
        let PullRequest { reference, credentials, .. } = &request;
        let repository = self.0.registries().repository(reference, credentials.clone(), Access::Pull);
        let tags = repository.tags().await.map_err(|error| of_registry(error, reference))?;
        for tag in tags {
            let reference = reference.clone().with_tag(tag);
            self.pull(PullRequest { reference, ..request.clone() }, told).await?;
        }
        Ok(())
    }
}

/// The tag or digest of a reference, as it is shown.
fn said(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_string(),
        (None, None) => coracle_spec::Tag::latest().to_string(),
    }
}

impl Pull<'_> {
    async fn image(&self, chosen: Chosen) -> Result<Pulled> {
        self.check(&chosen)?;
        let config = self.config(&chosen).await?;
        self.hold.and(config.rootfs.diff_ids.iter().copied());
        self.check_config(&chosen, &config)?;
        let ((), beside) = try_join(self.layers(&chosen, &config), self.attestations(&chosen)).await?;
        self.told.tell(Step::Pulled(chosen.named)).await;
        self.adopt(chosen, config.platform, beside).await
    }

    /// Refuses what cannot be unpacked, before anything of it is fetched.
    fn check(&self, chosen: &Chosen) -> Result<()> {
        for layer in &chosen.manifest.layers {
            check_layer(layer).map_err(|reason| refused(&self.reference, reason))?;
        }
        Ok(())
    }

    /// The configuration, from the store or else from the registry, verified.
    async fn config(&self, chosen: &Chosen) -> Result<ImageConfig> {
        let descriptor = chosen.manifest.config.clone();
        let (inner, digest) = (Arc::clone(self.inner), descriptor.digest);
        let stored = blocking(move || inner.store.config(&digest)).await?;
        if let Ok(config) = stored {
            return Ok(config);
        }
        if descriptor.size > coracle_spec::limits::CONFIG as u64 {
            return Err(refused(&self.reference, "its configuration is larger than any"));
        }
        let (inner, name) = (Arc::clone(self.inner), self.reference.familiar());
        let storing = move || format!("store the configuration of {name}");
        loop {
            let content = registries::small(&self.repository, &descriptor).await;
            let content = content.map_err(|error| of_registry(error, &self.reference))?;
            let inner = Arc::clone(&inner);
            let stored = blocking(move || {
                inner.store.put_blob_as(digest, &content)?;
                inner.store.config(&digest)
            });
            match stored.await? {
                // Only a mirror may be wrong.
                Err(coracle_store::Error::DigestMismatch { .. })
                    if self.repository.distrust(&self.repository.host()) => {}
                stored => return stored.map_err(|error| of_store(error, storing)),
            }
        }
    }

    fn check_config(&self, chosen: &Chosen, config: &ImageConfig) -> Result<()> {
        let (layers, diff_ids) = (chosen.manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            let text = format!("its manifest has {layers} layers and its configuration {diff_ids}");
            return Err(refused(&self.reference, text));
        }
        if !matches!(config.platform.os.as_str(), "" | "linux") {
            let text =
                format!("its operating system {:?} is not the one of this machine", config.platform.os);
            return Err(refused(&self.reference, text));
        }
        Ok(())
    }

    /// Brings what is missing.
    async fn layers(&self, chosen: &Chosen, config: &ImageConfig) -> Result<()> {
        let mut wanted: Vec<(Descriptor, Digest)> = Vec::new();
        for (layer, diff_id) in chosen.manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            if self.has(*diff_id).await? {
                self.told.layer(&layer.digest.short(), LayerStep::Present).await;
                continue;
            }
            self.told.layer(&layer.digest.short(), LayerStep::Wanted).await;
            wanted.push((layer.clone(), *diff_id));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.lease(chosen).await?;
        let mut coming = JoinSet::new();
        for (blob, diff_id) in wanted {
            let source =
                Source { repository: self.repository.clone(), reference: self.reference.clone(), blob };
            let begun = self.inner.downloads.begin(self.inner, &source);
            coming.spawn(layer(Arc::clone(self.inner), begun, source, diff_id, self.told.clone()));
        }
        // The first failure ends the others, which keep what they have.
        while let Some(result) = coming.join_next().await {
            super::joined(result)?;
        }
        Ok(())
    }

    async fn has(&self, diff_id: Digest) -> Result<bool> {
        // Also of an image that is here: a check may have taken its layer or blob away because it was damaged.
        let (inner, name) = (Arc::clone(self.inner), self.reference.familiar());
        let found = blocking(move || inner.store.has_whole_layer(&diff_id)).await?;
        found.map_err(|error| of_store(error, || format!("look for the layers of {name}")))
    }

    async fn lease(&self, chosen: &Chosen) -> Result<()> {
        let (inner, name, digest) = (Arc::clone(self.inner), self.reference.familiar(), chosen.digest);
        let blobs: Vec<Digest> = chosen.manifest.layers.iter().map(|layer| layer.digest).collect();
        let leased = blocking(move || inner.store.lease(&digest, &blobs)).await?;
        leased.map_err(|error| of_store(error, || format!("begin to pull {name}")))
    }

    /// The image and its names, and the end of the lease.
    async fn adopt(&self, chosen: Chosen, platform: Platform, beside: Vec<Digest>) -> Result<Pulled> {
        let (inner, reference) = (Arc::clone(self.inner), self.reference.clone());
        blocking(move || {
            let id = chosen.manifest.config.digest;
            let origin = origin(&chosen, platform);
            let references = names(&reference, chosen.named);
            let newer = !inner.leads_to(&reference, &id, &origin);
            let mut manifests = vec![chosen.named, chosen.digest];
            manifests.dedup();
            manifests.extend(beside);
            if !inner.is_known(&id, &references, &manifests, &origin) {
                inner.adopt_from(NewImage { id, references, parent: None, manifests }, &origin)?;
            } else {
                // Layers may have come anew: a collection that has not seen them ends before the hold does.
                drop(inner.change());
            }
            let ending = || format!("end the pull of {}", reference.familiar());
            inner.store.end_lease(&chosen.digest).map_err(|error| of_store(error, ending))?;
            inner.tell_transfer(&id, "pull", &reference);
            Ok(Pulled { id, digest: chosen.named, newer })
        })
        .await?
    }
}

/// Where what was chosen comes from. What an index does not say of a platform, the configuration does.
pub(super) fn origin(chosen: &Chosen, own: Platform) -> Origin {
    let member = chosen
        .entry
        .as_ref()
        .map(|entry| Membership { manifest: entry.digest, platform: entry.platform.clone().unwrap_or(own) });
    Origin { target: Some(chosen.named), member }
}

/// What something is called that was pulled: as it was asked for, and by what that stands for.
pub(super) fn names(reference: &Reference, named: Digest) -> Vec<Reference> {
    vec![reference.clone(), lookup::key(reference.clone().with_digest(named))]
}

impl Inner {
    /// Whether a name leads to an image already.
    pub(super) fn leads_to(&self, reference: &Reference, id: &Digest, origin: &Origin) -> bool {
        let catalogue = self.read();
        let Some(holder) = catalogue.named(reference) else { return false };
        let target = holder.targets.get(reference);
        let member = || {
            let of = catalogue.get(id).and_then(|image| image.indexes.get(target?));
            of.is_some() && of == origin.member.as_ref() && target == origin.target.as_ref()
        };
        holder.id == *id || member()
    }

    /// Whether a pull has nothing to add to what is known.
    fn is_known(&self, id: &Digest, names: &[Reference], manifests: &[Digest], origin: &Origin) -> bool {
        let catalogue = self.read();
        let Some(image) = catalogue.get(id) else { return false };
        let target = |name: &Reference| catalogue.named(name)?.targets.get(name).copied();
        let member = origin.target.and_then(|index| image.indexes.get(&index));
        names.iter().all(|name| target(name) == origin.target)
            && names.iter().all(|name| image.references.contains(name) || member.is_some())
            && member == origin.member.as_ref()
            && manifests.iter().all(|blob| image.manifests.contains(blob))
    }
}

/// Brings one layer, which must be the one that the configuration names.
async fn layer(inner: Arc<Inner>, begun: Begun, source: Source, diff_id: Digest, told: Teller) -> Result<()> {
    let layer = inner.downloads.finish(begun, &inner, &source, &told).await?;
    check_diff_id(&source.reference, &source.blob, &layer, &diff_id)?;
    told.layer(&source.blob.digest.short(), LayerStep::Complete).await;
    Ok(())
}

/// Refuses a layer that is another than it was said to be.
pub(super) fn check_diff_id(
    reference: &Reference,
    blob: &Descriptor,
    layer: &Layer,
    diff_id: &Digest,
) -> Result<()> {
    if layer.diff_id == *diff_id {
        return Ok(());
    }
    let text = format!(
        "layer {} is not the one that its configuration names: expected {diff_id}, computed {}",
        blob.digest, layer.diff_id
    );
    Err(refused(reference, text))
}

/// What may be unpacked, by what the manifest says of it. What it really is shows when it comes.
pub(super) fn check_layer(layer: &Descriptor) -> std::result::Result<(), String> {
    let kind = layer.media_type.as_str();
    if !layer.urls.is_empty() || kind.contains("nondistributable") || kind.contains(".foreign.") {
        return Err(format!(
            "layer {} is a foreign layer, kept elsewhere than in the registry, which is not fetched",
            layer.digest
        ));
    }
    if !layer.is_layer() {
        return Err(format!(
            "layer {} has the type {kind:?}, which is none that can be unpacked",
            layer.digest
        ));
    }
    Ok(())
}

impl Inner {
    /// Tells of a pull or a push, as Docker does: about the name.
    pub(super) fn tell_transfer(&self, id: &Digest, action: &str, reference: &Reference) {
        self.note_use_now(id);
        let labels = self.read().get(id).map(|image| image.labels.clone());
        let mut attributes = labels.unwrap_or_default();
        attributes.insert("name".to_owned(), reference.familiar_name());
        self.events.tell("image", action, &reference.familiar(), attributes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_spec::image::media_type;

    #[test]
    fn layers_that_are_kept_elsewhere_or_are_none_are_refused() {
        let of = |kind: &str| Descriptor::new(kind, Digest::of(b"x"), 1);
        let mut elsewhere = of(media_type::LAYER_GZIP);
        elsewhere.urls.push("https://elsewhere.test/x".to_owned());
        for (layer, accepted) in [
            (of(media_type::LAYER_GZIP), true),
            (of(media_type::DOCKER_LAYER_GZIP), true),
            (of(media_type::LAYER_ZSTD), true),
            (elsewhere, false),
            (of("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), false),
            (of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), false),
            (of("application/vnd.in-toto+json"), false),
            (of(""), false),
        ] {
            assert_eq!(check_layer(&layer).is_ok(), accepted, "{layer:?}");
        }
    }
}
