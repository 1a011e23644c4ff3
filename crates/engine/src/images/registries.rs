//! What registries are asked besides content: whether credentials are right, what a name stands for, what there is.

use super::transfer::of_registry;
use super::{Images, lookup};
use crate::error::{Attempt, Error, Result};
use coracle_registry::{Access, Credentials, Error as RegistryError, Pick, SearchResult, Secret};
use coracle_spec::image::{Descriptor, Document, media_type};
use coracle_spec::{Digest, Platform, Reference};

/// The result of signing in.
#[derive(Clone, Debug)]
pub struct Login {
    /// What to tell the user.
    pub status: String,
    /// What to use instead of the password from now on, where the registry gives one out.
    pub identity_token: Option<Secret>,
}

/// What a name stands for in its registry.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The manifest or the index.
    pub descriptor: Descriptor,
    /// What it runs on.
    pub platforms: Vec<Platform>,
}

/// What is searched for.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// Words, perhaps behind the host of a registry and a slash.
    pub term: String,
    /// Most results.
    pub limit: u32,
    /// Who asks.
    pub credentials: Credentials,
}

impl Images {
    /// Asks a registry whether it knows these credentials.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when it does not.
    pub async fn login(&self, registry: &str, credentials: Credentials) -> Result<Login> {
        let login = self.0.registries().login(registry, credentials).await.map_err(|error| match error {
            RegistryError::Unauthorized { .. } | RegistryError::Denied { .. } => {
                Error::Unauthorized(coracle_spec::full_text(&error))
            }
            RegistryError::Address { .. } => Error::Invalid(coracle_spec::full_text(&error)),
            error => Error::Failed { action: format!("sign in to {registry}"), source: error.into() },
        })?;
        Ok(Login { status: login.status, identity_token: login.identity_token })
    }

    /// Asks a registry what a name stands for, without fetching it.
    ///
    /// # Errors
    /// [`Error::Missing`], and as [`Images::pull`].
    pub async fn distribution(&self, reference: Reference, credentials: Credentials) -> Result<Distribution> {
        let reference = lookup::key(reference);
        let repository = self.0.registries().repository(&reference, credentials, Access::Pull);
        let pick = match reference.digest() {
            Some(digest) => Pick::Digest(digest),
            None => Pick::Tag(reference.tag().cloned().unwrap_or_else(coracle_spec::Tag::latest)),
        };
        let failed = |error| of_registry(error, &reference);
        let manifest = repository.manifest(&pick).await.map_err(failed)?;
        let platforms = match &manifest.document {
            Document::Index(index) => {
                index.manifests.iter().filter_map(|entry| entry.platform.clone()).collect()
            }
            // An artifact has a configuration of another kind, and no platform.
            Document::Manifest(image) if !is_config(&image.config) => Vec::new(),
            Document::Manifest(image) => {
                let content = small(&repository, &image.config).await.map_err(failed)?;
                verify(&reference, &image.config, &content)?;
                let config = coracle_spec::image::ImageConfig::parse(&content).ok();
                config.map(|config| config.platform).into_iter().collect()
            }
        };
        Ok(Distribution { descriptor: manifest.descriptor, platforms })
    }

    /// Searches a registry that can be searched.
    ///
    /// # Errors
    /// [`Error::Failed`] when the registry cannot be reached or is none that can.
    pub async fn search(&self, request: SearchRequest) -> Result<Vec<SearchResult>> {
        let SearchRequest { term, limit, credentials } = request;
        let (registry, words) = split_term(&term);
        let found = self.0.registries().search(registry, words, limit, credentials).await;
        found.attempt(|| format!("search {registry}"))
    }
}

pub(super) fn is_config(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type.as_str();
    let size = descriptor.size <= coracle_spec::limits::CONFIG as u64;
    matches!(kind, media_type::CONFIG | media_type::DOCKER_CONFIG) && size
}

/// The registry and the words of what is searched for.
fn split_term(term: &str) -> (&str, &str) {
    let is_host = |host: &str| term.parse::<Reference>().is_ok_and(|name| name.domain() == host);
    match term.split_once('/') {
        Some((host, words)) if is_host(host) => (host, words),
        _ => ("docker.io", term),
    }
}

/// All of a small blob.
pub(super) async fn small(
    repository: &coracle_registry::Repository,
    blob: &Descriptor,
) -> coracle_registry::Result<Vec<u8>> {
    let mut stream = repository.blob(blob, 0).await?;
    let mut content = Vec::new();
    // The stream ends at the size that was announced, which the manifest's reader has bounded.
    while let Some(bytes) = stream.next().await? {
        content.extend_from_slice(&bytes);
        if content.len() > coracle_spec::limits::CONFIG {
            break;
        }
    }
    Ok(content)
}

pub(super) fn verify(reference: &Reference, blob: &Descriptor, content: &[u8]) -> Result<()> {
    let mut hasher = coracle_spec::digest::Hasher::new(blob.digest.algorithm());
    hasher.update(content);
    let computed: Digest = hasher.finish();
    if computed == blob.digest {
        return Ok(());
    }
    let text = format!(
        "the configuration of {} does not match its digest: expected {}, computed {computed}",
        reference.familiar(),
        blob.digest
    );
    Err(Error::Invalid(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_names_its_registry_or_means_the_default_one() {
        for (term, expected) in [
            ("redis", ("docker.io", "redis")),
            ("bitnami/redis", ("docker.io", "bitnami/redis")),
            ("registry.test/redis", ("registry.test", "redis")),
            ("localhost/redis", ("localhost", "redis")),
            ("host:5000/a/b", ("host:5000", "a/b")),
            ("HOST/a", ("HOST", "a")),
        ] {
            assert_eq!(split_term(term), expected);
        }
    }
}
