//! What the files of an image archive have to do with each other: `manifest.json`, or the index of an OCI layout.

use std::collections::{HashMap, HashSet};

use coracle_spec::digest::Hasher;
use coracle_spec::image::{Descriptor, Document, ImageConfig, Index, Manifest, media_type};
use coracle_spec::{Digest, Platform, Reference};
use serde::Deserialize;

use super::{
    Contents, Item, Loaded, LoadedArtifact, LoadedImage, LoadedOrigin, digest_of_name, invalid, place,
};
use crate::error::{Error, Result, shown};
use crate::layout::blob_name;
use crate::{Blob, Layer, limits, since};

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
    /// Everything in the archive, or what of it is for the platforms.
    pub(super) fn loaded(&self, platforms: &[Platform]) -> Result<Vec<Loaded>> {
        let loaded = self.all(platforms)?;
        for wanted in platforms {
            let mut found = false;
            for image in &loaded {
                found |= self.platform(image)?.is_some_and(|own| own.rank_on(wanted).is_some());
            }
            if !found {
                return Err(Error::PlatformMissing { platform: wanted.clone() });
            }
        }
        Ok(loaded)
    }

    /// What an image runs on, by its index's account or else by its own.
    fn platform(&self, loaded: &Loaded) -> Result<Option<Platform>> {
        let Loaded::Image(image) = loaded else { return Ok(None) };
        match &image.origin.index {
            Some((_, Some(platform))) => Ok(Some(platform.clone())),
            _ => Ok(Some(self.store.config(&image.config)?.platform)),
        }
    }

    /// The index of an OCI layout counts where it says anything, since it says more than
    /// `manifest.json`.
    fn all(&self, platforms: &[Platform]) -> Result<Vec<Loaded>> {
        let has = |name: &str| place(name).is_ok_and(|place| self.items.contains_key(&place));
        if has(INDEX)
            && let Some(index) = self.index(has(MANIFEST))?
        {
            return self.layout(&index, platforms);
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
        bounded(listed.len())?;
        let images: Result<Vec<LoadedImage>> = listed.iter().map(|listed| self.image(listed)).collect();
        self.chosen(images?, platforms)
    }

    /// The index of the layout; nothing if it is empty and there is something else.
    fn index(&self, has_other: bool) -> Result<Option<Index>> {
        let Item::Document(content) = self.find(INDEX)? else {
            return Err(invalid("it is no document", INDEX));
        };
        let Document::Index(index) = document(INDEX, content)? else {
            return Err(invalid("it is no index", INDEX));
        };
        Ok(Some(index).filter(|index| !has_other || !index.manifests.is_empty()))
    }

    /// Images that have no index: those for the platforms, where any are asked for.
    fn chosen(&self, images: Vec<LoadedImage>, platforms: &[Platform]) -> Result<Vec<Loaded>> {
        if platforms.is_empty() {
            return Ok(images.into_iter().map(|image| Loaded::Image(Box::new(image))).collect());
        }
        let mut chosen = Vec::new();
        for image in images {
            let own = self.store.config(&image.config)?.platform;
            if platforms.iter().any(|wanted| own.rank_on(wanted).is_some()) {
                chosen.push(Loaded::Image(Box::new(image)));
            }
        }
        Ok(chosen)
    }

    fn image(&self, listed: &Listed) -> Result<LoadedImage> {
        let Item::Document(document) = self.find(&listed.config)? else {
            return Err(invalid("the configuration is no document", &listed.config));
        };
        let config = ImageConfig::parse(document)
            .map_err(|source| Error::Document { what: shown(listed.config.as_bytes()), source })?;
        if !matches!(config.platform.os.as_str(), "" | "linux") {
            return Err(invalid("it is for another operating system", &listed.config));
        }
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
        Ok(LoadedImage { config: digest, references, layers, origin: LoadedOrigin::default() })
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

    /// What an OCI layout holds: for each entry of its index an image, the images of an index, or something else.
    fn layout(&self, index: &Index, platforms: &[Platform]) -> Result<Vec<Loaded>> {
        bounded(index.manifests.len())?;
        // An image with several names has an entry for each.
        let mut entries: Vec<&Descriptor> = Vec::new();
        let mut names: HashMap<Digest, Vec<String>> = HashMap::new();
        for descriptor in index.manifests.iter().filter(|descriptor| is_image(descriptor)) {
            let names = names.entry(descriptor.digest).or_insert_with(|| {
                entries.push(descriptor);
                Vec::new()
            });
            names.extend(name_of(descriptor));
        }
        let mut loaded = Vec::new();
        for descriptor in entries {
            let references = references(names.get(&descriptor.digest).map_or(&[], Vec::as_slice))?;
            self.entry(descriptor, &references, platforms, limits::ARCHIVE_INDEXES, &mut loaded)?;
        }
        if loaded.is_empty() && platforms.is_empty() {
            return Err(invalid("it holds no image", INDEX));
        }
        Ok(loaded)
    }

    /// What one entry stands for, looking into at most `depth` indexes inside each other.
    fn entry(
        &self,
        descriptor: &Descriptor,
        references: &[Reference],
        platforms: &[Platform],
        depth: usize,
        loaded: &mut Vec<Loaded>,
    ) -> Result<()> {
        let path = blob_name(&descriptor.digest);
        let (content, document) = self.document_of(descriptor)?;
        match document {
            Document::Manifest(manifest) => {
                let found = self.manifest(descriptor, content, &manifest, references)?;
                let images = match found {
                    Loaded::Image(image) => self.chosen(vec![*image], platforms)?,
                    artifact @ Loaded::Artifact(_) => vec![artifact],
                };
                loaded.extend(images);
                Ok(())
            }
            // It is kept as it came, and no registry takes it.
            Document::Index(index) if index.schema_version != 2 => {
                Err(invalid("an index of another schema version than 2", &path))
            }
            Document::Index(_) if depth == 0 => Err(invalid("indexes are nested too deep", &path)),
            Document::Index(index) => {
                bounded(index.manifests.len())?;
                let nested = |entry: &&Descriptor| {
                    matches!(self.document_of(entry), Ok((_, Document::Index(_)))) && is_image(entry)
                };
                let images = self.variants(descriptor, content, &index, references, platforms)?;
                if !images.is_empty() {
                    loaded.extend(images);
                    return Ok(());
                }
                match index.manifests.iter().find(nested) {
                    Some(inner) => self.entry(inner, references, platforms, depth - 1, loaded),
                    None if platforms.is_empty() => Err(invalid("it holds no image", &path)),
                    None => Ok(()),
                }
            }
        }
    }

    /// A document of the archive with the digest that is its name.
    fn document_of(&self, descriptor: &Descriptor) -> Result<(&[u8], Document)> {
        let path = blob_name(&descriptor.digest);
        let Item::Document(content) = self.find(&path)? else {
            return Err(invalid("it is no document", &path));
        };
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(content);
        if hasher.finish() != descriptor.digest {
            return Err(invalid("the content is not what its name says", &path));
        }
        let document = document(&path, content)?;
        let kind = descriptor.media_type.as_str();
        let other = match document {
            Document::Manifest(_) => [media_type::INDEX, media_type::DOCKER_INDEX],
            Document::Index(_) => [media_type::MANIFEST, media_type::DOCKER_MANIFEST],
        };
        if other.contains(&kind) {
            return Err(invalid("it is not what its index says", &path));
        }
        Ok((content, document))
    }

    /// The image or artifact of a manifest, which is kept as it came.
    fn manifest(
        &self,
        descriptor: &Descriptor,
        content: &[u8],
        manifest: &Manifest,
        references: &[Reference],
    ) -> Result<Loaded> {
        if let Some(kind) = manifest.artifact_kind() {
            let mut blobs = Vec::new();
            for blob in manifest.blobs() {
                blobs.push(self.kept(blob)?);
            }
            self.store.put_blob_as(descriptor.digest, content)?;
            return Ok(Loaded::Artifact(LoadedArtifact {
                manifest: descriptor.digest,
                kind: kind.to_owned(),
                references: references.to_vec(),
                blobs,
            }));
        }
        self.check_described(manifest)?;
        let path = |descriptor: &Descriptor| blob_name(&descriptor.digest);
        let mut image = self.image(&Listed {
            config: path(&manifest.config),
            repo_tags: None,
            layers: Some(manifest.layers.iter().map(path).collect()),
        })?;
        image.references = references.to_vec();
        // No registry takes another: such an image gets a new manifest.
        if manifest.schema_version == 2 {
            self.store.put_blob_as(descriptor.digest, content)?;
            image.origin.manifest = Some(descriptor.digest);
        }
        Ok(Loaded::Image(Box::new(image)))
    }

    /// Refuses an image whose manifest says something else of its parts than what they are, as a pull does.
    fn check_described(&self, manifest: &Manifest) -> Result<()> {
        if let Some(other) = manifest.layers.iter().find(|layer| !layer.is_layer()) {
            let reason = "a layer that is kept elsewhere or is of a type that images do not have";
            return Err(invalid(reason, &blob_name(&other.digest)));
        }
        for part in manifest.layers.iter().chain([&manifest.config]) {
            let path = blob_name(&part.digest);
            let size = match self.find(&path) {
                Ok(Item::Document(content)) => Some(content.len() as u64),
                Ok(Item::Layer(layer)) => layer.blob.as_ref().map(|kept| kept.blob.size),
                _ => None,
            };
            if size.is_some_and(|size| size != part.size) {
                return Err(invalid("its size is not what its manifest says", &path));
            }
        }
        Ok(())
    }

    /// A blob of an artifact, in the store.
    fn kept(&self, descriptor: &Descriptor) -> Result<Blob> {
        let path = blob_name(&descriptor.digest);
        let blob = match self.find(&path)? {
            Item::Blob(blob) => blob.clone(),
            Item::Document(content) => self.store.put_blob_as(descriptor.digest, content)?,
            // Unpacked as well, which is for nothing, and kept as it came.
            Item::Layer(_) => {
                self.store.has_blob(&descriptor.digest)?.ok_or_else(|| invalid("a file is missing", &path))?
            }
            Item::Link(_) | Item::Other => return Err(invalid("it has no digest for a name", &path)),
        };
        if blob.digest != descriptor.digest || blob.size != descriptor.size {
            return Err(invalid("the content is not what its manifest says", &path));
        }
        Ok(blob)
    }

    /// The images of an index all of whose content is in the archive: all of them, or the best for each platform.
    fn variants(
        &self,
        descriptor: &Descriptor,
        content: &[u8],
        index: &Index,
        references: &[Reference],
        platforms: &[Platform],
    ) -> Result<Vec<Loaded>> {
        let mut found: Vec<Loaded> = Vec::new();
        for entry in wanted(index, platforms) {
            let Ok((document, Document::Manifest(manifest))) = self.document_of(entry) else { continue };
            if manifest.schema_version != 2 || !self.is_whole(&manifest) {
                continue;
            }
            let mut loaded = self.manifest(entry, document, &manifest, references)?;
            if let Loaded::Image(image) = &mut loaded {
                image.origin.index = Some((descriptor.digest, entry.platform.clone()));
                image.origin.beside = self.attestations(index, &entry.digest)?;
            }
            found.push(loaded);
        }
        if !found.is_empty() {
            self.store.put_blob_as(descriptor.digest, content)?;
        }
        Ok(found)
    }

    /// The statements about an image, as far as the archive has them, in the store: everything that belongs to them. What is none
    /// is left out.
    fn attestations(&self, index: &Index, manifest: &Digest) -> Result<Vec<Digest>> {
        let (mut beside, mut room) = (Vec::new(), coracle_spec::limits::ATTESTED);
        for entry in index.attestations_of(manifest).take(coracle_spec::limits::ATTESTATIONS) {
            let Ok((content, document)) = self.document_of(entry) else { continue };
            if document.schema_version() != 2 {
                continue;
            }
            let Ok(parts) = document.attested(room) else { continue };
            let kept = match parts.iter().map(|part| self.kept(part)).collect::<Result<Vec<Blob>>>() {
                Err(error) if error.is_input() => continue,
                kept => kept?,
            };
            room = kept.iter().fold(room, |room, part| room.saturating_sub(part.size));
            self.store.put_blob_as(entry.digest, content)?;
            beside.push(entry.digest);
            beside.extend(kept.iter().map(|part| part.digest));
        }
        Ok(beside)
    }

    fn is_whole(&self, manifest: &Manifest) -> bool {
        let has = |blob: &Descriptor| self.find(&blob_name(&blob.digest)).is_ok();
        // What was left out is looked for when the image is made.
        has(&manifest.config) && (self.since().is_some() || manifest.layers.iter().all(has))
    }
}

/// The entries of an index that are looked at. An archive may hold a part of them.
fn wanted<'a>(index: &'a Index, platforms: &[Platform]) -> Vec<&'a Descriptor> {
    let images = || index.manifests.iter().filter(|entry| is_image(entry) && entry.is_manifest());
    if platforms.is_empty() {
        return images().collect();
    }
    let rank =
        |entry: &&Descriptor, wanted: &Platform| entry.platform.as_ref().and_then(|own| own.rank_on(wanted));
    let best = |wanted: &Platform| {
        let ranked = images().filter_map(|entry| Some((rank(&entry, wanted)?, entry)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    };
    let mut chosen: Vec<&Descriptor> = platforms.iter().filter_map(best).collect();
    chosen.dedup_by_key(|entry| entry.digest);
    chosen
}

fn bounded(images: usize) -> Result<()> {
    if images > limits::ARCHIVE_IMAGES {
        let limit = limits::ARCHIVE_IMAGES as u64;
        return Err(Error::TooLarge { what: "number of images in the image archive", limit });
    }
    Ok(())
}

fn document(name: &str, content: &[u8]) -> Result<Document> {
    Document::parse_archived(content)
        .map_err(|source| Error::Document { what: shown(name.as_bytes()), source })
}

/// Attestations stand beside images, mostly for a platform that does not exist.
fn is_image(descriptor: &Descriptor) -> bool {
    descriptor.attestation().is_none()
        && descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
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
