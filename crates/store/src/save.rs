//! `docker save`: an archive of images in the form that Docker 25 and later write, an OCI image layout with a
//! `manifest.json` in it, which every earlier version reads as well. The same images always give the same bytes.

use std::collections::BTreeMap;
use std::io::{BufWriter, Cursor, Write};

use coracle_spec::image::{Descriptor, Index, Manifest, media_type};
use coracle_spec::{Digest, Reference};
use serde::Serialize;

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
        let mut plan = Plan { blobs: BTreeMap::new(), listed: Vec::new(), manifests: Vec::new(), left_out };
        for image in images {
            self.plan(image, &mut plan)?;
        }
        let mut writer = Writer::new(BufWriter::with_capacity(limits::CHUNK, output));
        for directory in ["blobs/", "blobs/sha256/"] {
            writer.entry(&entry(directory, Kind::Directory, 0o755)).map_err(write)?;
        }
        for (digest, (size, source)) in &plan.blobs {
            self.write_source(&mut writer, digest, *size, source)?;
        }
        for (name, content) in plan.documents() {
            small(&mut writer, name, &content)?;
        }
        writer.finish().map(drop).map_err(write)
    }

    /// Notes everything that an image consists of.
    fn plan(&self, image: &SavedImage, plan: &mut Plan) -> Result<()> {
        let content = self.read_small_blob(&image.config, coracle_spec::limits::CONFIG as u64)?;
        let config = self.config(&image.config)?;
        let mut layers = Vec::new();
        for diff_id in &config.rootfs.diff_ids {
            layers.push(plan.layer(&self.layer(diff_id)?));
        }
        plan.leave_out(&config.rootfs.diff_ids, &layers);
        let descriptor = Descriptor::new(media_type::CONFIG, image.config, content.len() as u64);
        plan.listed.push(Listed {
            config: blob_name(&image.config),
            repo_tags: Some(image.references.iter().map(Reference::familiar).collect::<Vec<_>>())
                .filter(|tags| !tags.is_empty()),
            layers: layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
        });
        plan.blobs.insert(image.config, (content.len() as u64, Source::Bytes(content)));
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: descriptor,
            layers,
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        };
        let manifest = json(&manifest);
        let mut descriptor = Descriptor::of(media_type::MANIFEST, &manifest);
        descriptor.platform = Some(config.platform);
        plan.blobs.insert(descriptor.digest, (descriptor.size, Source::Bytes(manifest)));
        plan.name(&descriptor, &image.references);
        Ok(())
    }

    fn write_source<W: Write>(
        &self,
        writer: &mut Writer<W>,
        digest: &Digest,
        size: u64,
        source: &Source,
    ) -> Result<()> {
        let kind = Kind::File { size, segments: None };
        writer.entry(&entry(&blob_name(digest), kind, 0o644)).map_err(write)?;
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
    listed: Vec<Listed>,
    manifests: Vec<Descriptor>,
    left_out: LeftOut,
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
