//! `docker save`: an archive of images in the form that Docker 25 and later write, an OCI image layout with a
//! `manifest.json` in it, which every earlier version reads as well. The same images always give the same bytes.

use std::collections::BTreeMap;
use std::io::{BufWriter, Cursor, Write};

use coracle_spec::image::{Descriptor, Document, ImageConfig, Index, Manifest, media_type};
use coracle_spec::{Digest, Reference};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::archive::writer::Writer;
use crate::archive::{Entry, Kind, Time};
use crate::error::{Error, Result};
use crate::layout::blob_name;
use crate::{Layer, LeftOut, Store, limits};

/// An image to be saved.
#[derive(Clone, Debug)]
pub struct SavedImage {
    /// Digest of its configuration.
    pub config: Digest,
    /// What it is to be called.
    pub references: Vec<Reference>,
}

/// What is to be saved under some names.
#[derive(Clone, Debug)]
pub enum Saved {
    /// One image.
    Image(SavedVariant),
    /// Several platforms of one index, the one first that a reader without indexes is to load.
    Index {
        /// The index that they came with; they get a new one where there is none.
        index: Option<Digest>,
        /// The images.
        images: Vec<SavedVariant>,
    },
    /// Something else that a registry had.
    Artifact {
        /// Its manifest.
        manifest: Digest,
    },
}

/// An image, and the manifest that it came with.
#[derive(Clone, Debug)]
pub struct SavedVariant {
    /// Digest of its configuration.
    pub config: Digest,
    /// Saved with it if all of what it describes is there; otherwise it gets a new one.
    pub manifest: Option<Digest>,
}

/// Content of the archive, under its digest.
enum Source {
    Bytes(Vec<u8>),
    Blob,
    /// A layer whose tar is packed on the way.
    Packed,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Writes an archive of `images` that [`Store::load`] and Docker load.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::LayerMissing`], [`Error::Write`], and the kernel's.
    pub fn save(&self, images: &[SavedImage], output: impl Write) -> Result<()> {
        self.save_without(images, LeftOut::default(), output)
    }

    /// As [`Store::save`], without the layers that `left_out` has. [`Store::load`] loads it where these are.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_without(&self, images: &[SavedImage], left_out: LeftOut, output: impl Write) -> Result<()> {
        let named = |image: &SavedImage| {
            let variant = SavedVariant { config: image.config, manifest: None };
            (Saved::Image(variant), image.references.clone())
        };
        self.save_all(&images.iter().map(named).collect::<Vec<_>>(), left_out, output)
    }

    /// The same of indexes and artifacts too. What came with a manifest is saved with it, byte for byte.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_all(
        &self,
        saved: &[(Saved, Vec<Reference>)],
        left_out: LeftOut,
        output: impl Write,
    ) -> Result<()> {
        let mut plan = Plan {
            blobs: BTreeMap::new(),
            made: BTreeMap::new(),
            listed: Vec::new(),
            manifests: Vec::new(),
            left_out,
        };
        for (saved, references) in saved {
            let descriptor = match saved {
                Saved::Image(image) => {
                    let planned = self.plan(image, &mut plan)?;
                    plan.listed.push(planned.listed(references));
                    planned.descriptor
                }
                Saved::Index { index, images } => {
                    self.plan_index(index.as_ref(), images, references, &mut plan)?
                }
                Saved::Artifact { manifest } => self.plan_artifact(manifest, &mut plan)?,
            };
            plan.name(&descriptor, references);
        }
        self.write_archive(plan, output)
    }

    fn write_archive(&self, plan: Plan, output: impl Write) -> Result<()> {
        let mut writer = Writer::new(BufWriter::with_capacity(limits::CHUNK, output));
        writer.entry(&entry("blobs/", Kind::Directory, 0o755)).map_err(write)?;
        let mut directories: Vec<_> = plan.blobs.keys().map(|digest| digest.algorithm().name()).collect();
        directories.dedup();
        for algorithm in directories {
            writer.entry(&entry(&format!("blobs/{algorithm}/"), Kind::Directory, 0o755)).map_err(write)?;
        }
        for (digest, (size, source)) in &plan.blobs {
            let made = plan.made.get(digest).copied().unwrap_or_default();
            self.write_source(&mut writer, (digest, made), *size, source)?;
        }
        for (name, content) in plan.documents() {
            small(&mut writer, name, &content)?;
        }
        writer.finish().map(drop).map_err(write)
    }

    /// Notes everything that an image consists of.
    fn plan(&self, image: &SavedVariant, plan: &mut Plan) -> Result<Planned> {
        let content = self.read_small_blob(&image.config, coracle_spec::limits::CONFIG as u64)?;
        let config = self.config(&image.config)?;
        let size = content.len() as u64;
        plan.blobs.insert(image.config, (size, Source::Bytes(content)));
        let came = match &image.manifest {
            Some(manifest) => self.whole(manifest)?,
            None => None,
        };
        let layers = config.rootfs.diff_ids.len();
        let is_of_it =
            |manifest: &Manifest| manifest.config.digest == image.config && manifest.layers.len() == layers;
        let came = came.filter(|(manifest, _)| is_of_it(manifest));
        let as_it_came = came.is_some();
        let (manifest, content) = match came {
            Some((manifest, content)) => {
                plan.blobs_of(&manifest);
                (manifest, content)
            }
            None => self.new_manifest(image.config, size, &config, plan)?,
        };
        plan.leave_out(&config.rootfs.diff_ids, &manifest.layers);
        let kind = if manifest.media_type.is_empty() { media_type::MANIFEST } else { &manifest.media_type };
        let mut descriptor = Descriptor::of(kind, &content);
        if let Some(digest) = image.manifest.filter(|_| as_it_came) {
            descriptor.digest = digest;
        }
        plan.date(&config, &descriptor, &manifest);
        descriptor.platform = Some(config.platform);
        plan.blobs.insert(descriptor.digest, (descriptor.size, Source::Bytes(content)));
        Ok(Planned { descriptor, manifest, as_it_came })
    }

    fn new_manifest(
        &self,
        digest: Digest,
        size: u64,
        config: &ImageConfig,
        plan: &mut Plan,
    ) -> Result<(Manifest, Vec<u8>)> {
        let mut layers = Vec::new();
        for diff_id in &config.rootfs.diff_ids {
            layers.push(plan.layer(&self.layer(diff_id)?));
        }

        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::new(media_type::CONFIG, digest, size),
            layers,
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        let content = json(&manifest);
        Ok((manifest, content))
    }

    fn small_if_there(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        match self.read_small_blob(digest, coracle_spec::limits::MANIFEST as u64) {
            Err(Error::BlobMissing { .. }) => Ok(None),
            content => content.map(Some),
        }
    }

    /// A manifest all of whose blobs are here.
    fn whole(&self, digest: &Digest) -> Result<Option<(Manifest, Vec<u8>)>> {
        let Some(content) = self.small_if_there(digest)? else { return Ok(None) };
        let Ok(Document::Manifest(manifest)) = Document::parse(&content, None) else { return Ok(None) };
        for blob in manifest.blobs() {
            if self.has_blob(&blob.digest)?.is_none_or(|here| here.size != blob.size) {
                return Ok(None);
            }
        }
        Ok(Some((*manifest, content)))
    }

    /// The index as it came if all its images do; otherwise a new one of these images.
    fn plan_index(
        &self,
        index: Option<&Digest>,
        images: &[SavedVariant],
        references: &[Reference],
        plan: &mut Plan,
    ) -> Result<Descriptor> {
        let mut planned = Vec::new();
        for image in images {
            planned.push(self.plan(image, plan)?);
        }
        if let Some(first) = planned.first() {
            plan.listed.push(first.listed(references));
        }
        let came = match index.filter(|_| planned.iter().all(|image| image.as_it_came)) {
            Some(index) => self.small_if_there(index)?.map(|content| (*index, content)),
            None => None,
        };
        if let Some((_, content)) = &came {
            self.plan_beside(content, &planned, plan)?;
        }
        let (digest, content) = came.unwrap_or_else(|| {
            let content = json(&Index {
                schema_version: 2,
                media_type: media_type::INDEX.to_owned(),
                manifests: planned.into_iter().map(|image| image.descriptor).collect(),
                annotations: BTreeMap::new(),
                other: serde_json::Map::new(),
            });
            (Digest::of(&content), content)
        });
        let own = Document::parse(&content, None);
        let kind = match &own {
            Ok(Document::Index(index)) if !index.media_type.is_empty() => index.media_type.as_str(),
            _ => media_type::INDEX,
        };
        let descriptor = Descriptor::new(kind, digest, content.len() as u64);
        plan.blobs.insert(digest, (descriptor.size, Source::Bytes(content)));
        Ok(descriptor)
    }

    /// Notes what an index has beside the images that are saved and is here: statements about them.
    fn plan_beside(&self, index: &[u8], images: &[Planned], plan: &mut Plan) -> Result<()> {
        let Ok(Document::Index(index)) = Document::parse(index, None) else { return Ok(()) };
        let about = images.iter().flat_map(|image| index.attestations_of(&image.descriptor.digest));
        for entry in about {
            if plan.blobs.contains_key(&entry.digest) {
                continue;
            }
            if let Some((manifest, content)) = self.whole(&entry.digest)? {
                plan.blobs_of(&manifest);
                plan.blobs.insert(entry.digest, (content.len() as u64, Source::Bytes(content)));
            }
        }
        Ok(())
    }

    fn plan_artifact(&self, digest: &Digest, plan: &mut Plan) -> Result<Descriptor> {
        let (manifest, content) = self.whole(digest)?.ok_or(Error::BlobMissing { digest: *digest })?;
        plan.blobs_of(&manifest);
        let kind = if manifest.media_type.is_empty() { media_type::MANIFEST } else { &manifest.media_type };
        let mut descriptor = Descriptor::new(kind, *digest, content.len() as u64);
        if let Some(kind) = manifest.other.get("artifactType") {
            descriptor.other.insert("artifactType".to_owned(), kind.clone());
        }
        plan.blobs.insert(*digest, (descriptor.size, Source::Bytes(content)));
        Ok(descriptor)
    }

    fn write_source<W: Write>(
        &self,
        writer: &mut Writer<W>,
        (digest, made): (&Digest, Time),
        size: u64,
        source: &Source,
    ) -> Result<()> {
        let kind = Kind::File { size, segments: None };
        let entry = Entry { mtime: made, ..entry(&blob_name(digest), kind, 0o644) };
        writer.entry(&entry).map_err(write)?;
        match source {
            Source::Bytes(content) => writer.content(&mut Cursor::new(content), size).map_err(write),
            Source::Blob => {
                let mut blob = self.read_blob(digest)?;
                writer.content_by(size, |output| crate::export::copy(&mut blob, output))
            }
            Source::Packed => writer.content_by(size, |output| self.write_layer(digest, output)),
        }
    }
}

/// What an archive will hold.
struct Plan {
    blobs: BTreeMap<Digest, (u64, Source)>,
    /// When images were made, of which blobs are parts. Others have no time.
    made: BTreeMap<Digest, Time>,
    listed: Vec<Listed>,
    manifests: Vec<Descriptor>,
    left_out: LeftOut,
}

/// An image of which everything is noted.
struct Planned {
    descriptor: Descriptor,
    manifest: Manifest,
    /// Whether its manifest is the one that it came with.
    as_it_came: bool,
}

impl Planned {
    fn listed(&self, references: &[Reference]) -> Listed {
        let tags: Vec<String> = references.iter().map(Reference::familiar).collect();
        Listed {
            config: blob_name(&self.manifest.config.digest),
            repo_tags: Some(tags).filter(|tags| !tags.is_empty()),
            layers: self.manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
        }
    }
}

impl Plan {
    /// Takes away the layers that are left out.
    fn leave_out(&mut self, diff_ids: &[Digest], layers: &[Descriptor]) {
        for (diff_id, layer) in diff_ids.iter().zip(layers) {
            if self.left_out.has(diff_id) {
                self.blobs.remove(&layer.digest);
            }
        }
    }

    /// Gives what an image consists of the time at which it was made, as Docker does; what several share, that of the first.
    fn date(&mut self, config: &ImageConfig, descriptor: &Descriptor, manifest: &Manifest) {
        let made = config.created.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let Some(made) = made.filter(|made| made.unix_timestamp() > 0) else { return };
        let made = Time { seconds: made.unix_timestamp(), nanoseconds: 0 };
        for part in manifest.layers.iter().chain([&manifest.config, descriptor]) {
            self.made.entry(part.digest).or_insert(made);
        }
    }

    /// Notes everything that a manifest describes, as it is here.
    fn blobs_of(&mut self, manifest: &Manifest) {
        for blob in manifest.blobs() {
            self.blobs.entry(blob.digest).or_insert((blob.size, Source::Blob));
        }
    }

    /// Notes a layer, as the blob that came or as a tar that is packed on the way.
    fn layer(&mut self, layer: &Layer) -> Descriptor {
        let (descriptor, source) = match &layer.blob {
            Some(kept) => (Descriptor::new(&kept.media_type, kept.blob.digest, kept.blob.size), Source::Blob),
            None => (Descriptor::new(media_type::LAYER, layer.diff_id, layer.tar_size), Source::Packed),
        };
        self.blobs.insert(descriptor.digest, (descriptor.size, source));
        descriptor
    }

    /// Lists a manifest once for each name, or once without.
    fn name(&mut self, descriptor: &Descriptor, references: &[Reference]) {
        if references.is_empty() {
            self.manifests.push(descriptor.clone());
        }
        for reference in references {
            let mut named = descriptor.clone();
            let full = reference.canonical();
            named.annotations.insert("io.containerd.image.name".to_owned(), full);
            if let Some(tag) = reference.tag() {
                named.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.to_string());
            }
            self.manifests.push(named);
        }
    }

    fn documents(self) -> [(&'static str, Vec<u8>); 3] {
        let mut index = Index {
            schema_version: 2,
            media_type: media_type::INDEX.to_owned(),
            manifests: self.manifests,
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        self.left_out.annotate(&mut index);
        [
            ("index.json", json(&index)),
            ("manifest.json", json(&self.listed)),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ]
    }
}

fn small<W: Write>(writer: &mut Writer<W>, name: &str, content: &[u8]) -> Result<()> {
    let size = content.len() as u64;
    writer.entry(&entry(name, Kind::File { size, segments: None }, 0o644)).map_err(write)?;
    writer.content(&mut Cursor::new(content), size).map_err(write)
}

fn entry(path: &str, kind: Kind, mode: u32) -> Entry {
    let path = path.as_bytes().to_vec();
    Entry { path, kind, mode, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

fn write(source: std::io::Error) -> Error {
    Error::Write { what: "the archive", source }
}
