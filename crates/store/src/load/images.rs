//! What the files of an image archive have to do with each other: `manifest.json`, or the index of an OCI layout.

use std::collections::HashSet;

use coracle_spec::image::{Descriptor, Document, ImageConfig, Index, Manifest};
use coracle_spec::{Digest, Platform, Reference};
use serde::Deserialize;

use super::{Contents, Item, LoadedImage, digest_of_name, invalid, place};
use crate::error::{Error, Result, shown};
use crate::layout::blob_name;
use crate::{Layer, limits, since};

const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";

/// An image as `manifest.json` lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Contents<'_> {
    /// Every image of the archive. `manifest.json` counts where there is one, as for Docker.
    pub(super) fn images(&self) -> Result<Vec<LoadedImage>> {
        let has = |name: &str| place(name).is_ok_and(|place| self.items.contains_key(&place));
        if !has(MANIFEST) && has(INDEX) {
            return self.layout();
        }
        let Item::Document(manifest) = self.find(MANIFEST)? else {
            return Err(invalid("it is no document", MANIFEST));
        };
        let source = |source| coracle_spec::Error::Json { what: "list of images", source };
        let listed: Vec<Listed> = serde_json::from_slice(manifest)
            .map_err(|error| Error::Document { what: MANIFEST.to_owned(), source: source(error) })?;
        if listed.is_empty() {
            return Err(invalid("it holds no image", MANIFEST));
        }
        listed.iter().map(|listed| self.image(listed)).collect()
    }

    fn image(&self, listed: &Listed) -> Result<LoadedImage> {
        let Item::Document(document) = self.find(&listed.config)? else {
            return Err(invalid("the configuration is no document", &listed.config));
        };
        let config = ImageConfig::parse(document)
            .map_err(|source| Error::Document { what: shown(listed.config.as_bytes()), source })?;
        let mut layers = Vec::new();
        for (number, name) in listed.layers.iter().flatten().enumerate() {
            layers.push(self.layer(name, config.rootfs.diff_ids.get(number))?);
        }
        let found: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        if found != config.rootfs.diff_ids {
            return Err(invalid("layers are not those of the configuration", &listed.config));
        }
        let references = references(listed.repo_tags.as_deref().unwrap_or_default())?;
        let digest = self.store.put_blob(document)?.digest;
        if digest_of_name(&place(&listed.config)?).is_some_and(|named| named != digest) {
            return Err(invalid("the configuration is not what its name says", &listed.config));
        }
        Ok(LoadedImage { config: digest, references, layers })
    }

    /// A layer of the archive, or one that it leaves out because it was saved since an image that has it.
    fn layer(&self, name: &str, diff_id: Option<&Digest>) -> Result<Layer> {
        if !self.items.contains_key(&place(name)?)
            && let (Some(images), Some(diff_id)) = (self.since(), diff_id)
        {
            return self.store.layer_left_out(diff_id, &images);
        }
        match self.find(name)? {
            Item::Layer(layer) => Ok(layer.clone()),
            _ => Err(invalid("it is no layer", name)),
        }
    }

    /// The images since which the archive was saved.
    fn since(&self) -> Option<String> {
        match self.find(INDEX) {
            Ok(Item::Document(content)) => since::images(content),
            _ => None,
        }
    }

    fn find(&self, name: &str) -> Result<&Item> {
        let mut at = place(name)?;
        for _ in 0..limits::ARCHIVE_LINKS {
            match self.items.get(&at) {
                Some(Item::Link(target)) => at = target.clone(),
                Some(item) => return Ok(item),
                None => return Err(invalid("a file is missing", name)),
            }
        }
        Err(invalid("links lead in circles", name))
    }

    /// The images of an OCI layout: for each entry of its index the manifest that runs here, or else the first.
    fn layout(&self) -> Result<Vec<LoadedImage>> {
        let Item::Document(content) = self.find(INDEX)? else {
            return Err(invalid("it is no document", INDEX));
        };
        let Document::Index(index) = document(INDEX, content)? else {
            return Err(invalid("it is no index", INDEX));
        };
        let mut images = Vec::new();
        for descriptor in index.manifests.iter().filter(|descriptor| is_image(descriptor)) {
            let manifest = self.manifest(descriptor, limits::ARCHIVE_INDEXES)?;
            let path = |descriptor: &Descriptor| blob_name(&descriptor.digest);
            images.push(self.image(&Listed {
                config: path(&manifest.config),
                repo_tags: name_of(descriptor).map(|name| vec![name]),
                layers: Some(manifest.layers.iter().map(path).collect()),
            })?);
        }
        if images.is_empty() { Err(invalid("it holds no image", INDEX)) } else { Ok(images) }
    }

    /// The manifest that `descriptor` stands for, choosing from at most `depth` indexes inside each other.
    fn manifest(&self, descriptor: &Descriptor, depth: usize) -> Result<Manifest> {
        let path = blob_name(&descriptor.digest);
        let Item::Document(content) = self.find(&path)? else {
            return Err(invalid("it is no document", &path));
        };
        if Digest::of(content) != descriptor.digest {
            return Err(invalid("the content is not what its name says", &path));
        }
        match document(&path, content)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) if depth == 0 => Err(invalid("indexes are nested too deep", &path)),
            Document::Index(index) => {
                let chosen = choose(&index).ok_or_else(|| invalid("it holds no image", &path))?;
                self.manifest(chosen, depth - 1)
            }
        }
    }
}

fn document(name: &str, content: &[u8]) -> Result<Document> {
    Document::parse(content, None).map_err(|source| Error::Document { what: shown(name.as_bytes()), source })
}

/// The image that runs here best, or else the first.
fn choose(index: &Index) -> Option<&Descriptor> {
    let host = Platform::host();
    let rank = |descriptor: &&Descriptor| {
        let rank = descriptor.platform.as_ref().and_then(|platform| platform.rank_on(&host));
        rank.unwrap_or(u32::MAX)
    };
    index.manifests.iter().filter(|descriptor| is_image(descriptor)).min_by_key(rank)
}

/// Attestations stand beside images, for a platform that does not exist.
fn is_image(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// The name of an image with its tag, where the index gives one.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    let names = keys.iter().filter_map(|key| descriptor.annotations.get(*key));
    let tagged = |name: &&String| name.parse::<Reference>().is_ok_and(|reference| reference.tag().is_some());
    names.into_iter().find(tagged).cloned()
}

fn references(tags: &[String]) -> Result<Vec<Reference>> {
    let mut seen = HashSet::new();
    let mut references = Vec::new();
    for tag in tags {
        let reference: Reference =
            tag.parse().map_err(|source| Error::Document { what: "manifest.json".to_owned(), source })?;
        if reference.tag().is_none() || reference.digest().is_some() {
            return Err(invalid("a name without tag", tag));
        }
        if seen.insert(reference.clone()) {
            references.push(reference);
        }
    }
    Ok(references)
}
