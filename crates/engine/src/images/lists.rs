//! Manifests in registries, on behalf of a client that makes lists of them. Nothing of it is kept here.

use super::registries::{is_config, small, verify};
use super::transfer::of_registry;
use super::{Images, Inner, lookup};
use crate::error::{Error, Result};
use bytes::Bytes;
use coracle_registry::{Access, Body, BodyFuture, Client, Credentials, Pick, Repository};
use coracle_spec::image::{Descriptor, Document, Manifest};
use coracle_spec::{Digest, Platform, Reference, Tag};
use futures_util::{FutureExt, StreamExt};
use std::io;

/// How a registry is spoken to for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// As the engine is configured.
    Configured,
    /// Without TLS that can be trusted, because whoever asks says so.
    Insecure,
}

/// Which manifest, who asks, and how.
#[derive(Clone, Debug)]
pub struct ManifestRequest {
    /// The name, with a tag or a digest.
    pub reference: Reference,
    /// Who asks.
    pub credentials: Credentials,
    /// How the registry is spoken to.
    pub security: Security,
}

/// A manifest or an index as a registry has it.
#[derive(Clone, Debug)]
pub struct RegistryManifest {
    /// Its type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub content: Vec<u8>,
    /// What the image runs on; nothing for an index, and for what is no image.
    pub platform: Option<Platform>,
}

/// A manifest or an index for a registry.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// Its type.
    pub media_type: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// The repository in the same registry that has its blobs, where it is not the target's.
    pub from: Option<Reference>,
}

impl Images {
    /// A manifest or an index from a registry.
    ///
    /// # Errors
    /// [`Error::Missing`], and as [`Images::pull`].
    pub async fn registry_manifest(&self, request: ManifestRequest) -> Result<RegistryManifest> {
        let (client, reference) = (self.0.client(&request)?, lookup::key(request.reference));
        let repository = client.repository(&reference, request.credentials, Access::Pull);
        let failed = |error| of_registry(error, &reference);
        let found = repository.manifest(&pick(&reference)).await.map_err(failed)?;
        let platform = match &found.document {
            Document::Manifest(manifest) if is_config(&manifest.config) => {
                let content = small(&repository, &manifest.config).await.map_err(failed)?;
                verify(&reference, &manifest.config, &content)?;
                coracle_spec::image::ImageConfig::parse(&content).ok().map(|config| config.platform)
            }
            _ => None,
        };
        Ok(RegistryManifest { descriptor: found.descriptor, content: found.content.into(), platform })
    }

    /// Puts a manifest or an index into a registry, and the blobs of a manifest before it, if they are in another
    /// repository there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no manifest, and as [`Images::push`].
    pub async fn put_registry_manifest(&self, request: ManifestRequest, new: NewManifest) -> Result<Digest> {
        let (client, reference) = (self.0.client(&request)?, lookup::key(request.reference));
        let document = Document::parse(&new.content, Some(&new.media_type));
        let document = document.map_err(|error| Error::Invalid(coracle_spec::full_text(&error)))?;
        let target = client.repository(&reference, request.credentials.clone(), Access::Push);
        if let (Document::Manifest(manifest), Some(from)) = (&document, &new.from) {
            let source = client.repository(from, request.credentials, Access::Pull);
            let brought = bring(&target, &source, from, manifest).await;
            // What was begun and not finished takes room there.
            target.abandon().await;
            brought.map_err(|error| of_registry(error, &reference))?;
        }
        let put = target.put_manifest(&pick(&reference), &new.media_type, Bytes::from(new.content)).await;
        put.map_err(|error| of_registry(error, &reference))
    }
}

impl Inner {
    fn client(&self, request: &ManifestRequest) -> Result<Client> {
        match request.security {
            Security::Configured => Ok(self.registries()),
            Security::Insecure => self.registry_settings().insecure_client(request.reference.domain()),
        }
    }
}

fn pick(reference: &Reference) -> Pick {
    match reference.digest() {
        Some(digest) => Pick::Digest(digest),
        None => Pick::Tag(reference.tag().cloned().unwrap_or_else(Tag::latest)),
    }
}

/// Makes the blobs of a manifest those of another repository: by a word to the registry, or else by way of here.
async fn bring(
    target: &Repository,
    source: &Repository,
    from: &Reference,
    manifest: &Manifest,
) -> coracle_registry::Result<()> {
    let kept_there = |blob: &&Descriptor| blob.urls.is_empty();
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers).filter(kept_there) {
        if target.has_blob(&blob.digest).await?.is_some() || target.mount(&blob.digest, from).await? {
            continue;
        }
        let (source, descriptor) = (source.clone(), blob.clone());
        let open = move || through(source.clone(), descriptor.clone());
        target.upload(blob, &open).await?;
    }
    Ok(())
}

fn through(source: Repository, blob: Descriptor) -> BodyFuture {
    async move {
        let stream = source.blob(&blob, 0).await.map_err(io::Error::other)?;
        let pieces = futures_util::stream::try_unfold(stream, |mut stream| async move {
            let piece = stream.next().await.map_err(io::Error::other)?;
            Ok(piece.map(|piece| (piece, stream)))
        });
        let body: Body = pieces.boxed();
        Ok(body)
    }
    .boxed()
}
