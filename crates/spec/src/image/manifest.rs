//! Descriptor, manifest and index.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lenient::{is_default, nullable};
use crate::{Digest, Error, Platform, Result, limits};

/// Media types that this project reads or writes.
pub mod media_type {
    /// An image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An index of manifests.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed with zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, compressed with gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer, compressed with zstd, as containerd has it.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker's layer, uncompressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// What some content is, how large, and its digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The kind of content.
    #[serde(default, deserialize_with = "nullable")]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size, in bytes.
    pub size: u64,
    /// Where else it can be had. Kept, never followed: what a registry names is not where we go (CVE-2020-15157).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub urls: Vec<String>,
    /// Notes.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// What the content runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Fields this project does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The manifest of an image for one platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2, or 0 of some archives that say nothing.
    #[serde(default)]
    pub schema_version: u32,
    /// The manifest's own media type, which older OCI manifests leave out.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub media_type: String,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this project does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An index: one manifest for each platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2, or 0 of some archives that say nothing.
    #[serde(default)]
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub media_type: String,
    /// Manifests, and in an image layout also further indexes.
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this project does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a registry answers when asked for a manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// The manifest of one image.
    Manifest(Box<Manifest>),
    /// A choice of manifests.
    Index(Index),
}

impl Descriptor {
    /// Describes `content`.
    pub fn of(media_type: &str, content: &[u8]) -> Self {
        Self::new(media_type, Digest::of(content), content.len() as u64)
    }

    /// Describes content of `size` bytes with this digest.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            other: Map::new(),
        }
    }
}

impl Document {
    /// Reads a manifest or an index of at most [`limits::MANIFEST`] bytes.
    ///
    /// `served_as` is the media type that the server declared, where it did. It must agree with what the document says
    /// of itself and with what it holds, so that nobody else can read the same bytes as something different.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Json`], or [`Error::Document`] for a contradiction.
    pub fn parse(content: &[u8], served_as: Option<&str>) -> Result<Self> {
        let document = Self::parse_of_any_version(content, served_as)?;
        if document.schema_version() == 2 { Ok(document) } else { Err(other_version()) }
    }

    /// As [`Document::parse`] of what is in an archive of images, where some programs leave the version out or write 0,
    /// and Docker loads it.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_archived(content: &[u8]) -> Result<Self> {
        let document = Self::parse_of_any_version(content, None)?;
        if matches!(document.schema_version(), 0 | 2) { Ok(document) } else { Err(other_version()) }
    }

    fn parse_of_any_version(content: &[u8], served_as: Option<&str>) -> Result<Self> {
        let fields: Map<String, Value> = parse("manifest", content, limits::MANIFEST)?;
        let kind = kind(&fields)?;
        let own = fields.get("mediaType").and_then(Value::as_str);
        for declared in [own, served_as].into_iter().flatten() {
            let declared = declared.split(';').next().unwrap_or_default().trim();
            if of_media_type(declared).is_some_and(|declared| declared != kind) {
                return Err(contradiction("its media type and its content disagree"));
            }
        }
        let json = |source| Error::Json { what: "manifest", source };
        // From the bytes, not from `fields`: a map has already merged duplicate keys, a struct refuses them.
        let document = match kind {
            Kind::Manifest => Self::Manifest(Box::new(serde_json::from_slice(content).map_err(json)?)),
            Kind::Index => Self::Index(serde_json::from_slice(content).map_err(json)?),
        };
        match &document {
            Self::Manifest(manifest) if manifest.layers.len() > limits::LAYERS => {
                let size = manifest.layers.len();
                Err(Error::TooLarge { what: "list of layers", size, limit: limits::LAYERS })
            }
            _ => Ok(document),
        }
    }

    /// The schema version that it says it has; 2 of all that registries take.
    pub fn schema_version(&self) -> u32 {
        match self {
            Self::Manifest(manifest) => manifest.schema_version,
            Self::Index(index) => index.schema_version,
        }
    }
}

fn other_version() -> Error {
    contradiction("only schema version 2 is supported")
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Manifest,
    Index,
}

fn kind(fields: &Map<String, Value>) -> Result<Kind> {
    let manifest = fields.contains_key("layers") || fields.contains_key("config");
    match (manifest, fields.contains_key("manifests")) {
        (true, false) => Ok(Kind::Manifest),
        (false, true) => Ok(Kind::Index),
        (true, true) => Err(contradiction("it is both a manifest and an index")),
        (false, false) => Err(contradiction("it is neither a manifest nor an index")),
    }
}

fn of_media_type(media_type: &str) -> Option<Kind> {
    match media_type {
        media_type::MANIFEST | media_type::DOCKER_MANIFEST => Some(Kind::Manifest),
        media_type::INDEX | media_type::DOCKER_INDEX => Some(Kind::Index),
        _ => None,
    }
}

fn contradiction(reason: &'static str) -> Error {
    Error::Document { what: "manifest", reason }
}

/// Reads a JSON document of at most `limit` bytes.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    what: &'static str,
    content: &'a [u8],
    limit: usize,
) -> Result<T> {
    if content.len() > limit {
        return Err(Error::TooLarge { what, size: content.len(), limit });
    }
    serde_json::from_slice(content).map_err(|source| Error::Json { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_may_leave_the_schema_version_out() {
        let index =
            |version: &str| format!(r#"{{{version}"mediaType":"{}","manifests":[]}}"#, media_type::INDEX);
        for (version, archived, served) in [
            (r#""schemaVersion":2,"#, true, true),
            (r#""schemaVersion":0,"#, true, false),
            ("", true, false),
            (r#""schemaVersion":1,"#, false, false),
        ] {
            let content = index(version);
            assert_eq!(Document::parse_archived(content.as_bytes()).is_ok(), archived, "{version}");
            assert_eq!(Document::parse(content.as_bytes(), None).is_ok(), served, "{version}");
        }
    }

    fn descriptor(media_type: &str) -> Value {
        serde_json::json!({"mediaType": media_type, "digest": Digest::of(b"x"), "size": 1})
    }

    #[test]
    fn a_manifest_survives_the_round_trip_with_fields_we_do_not_know() {
        let text = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": descriptor(media_type::CONFIG),
            "layers": [descriptor(media_type::LAYER_GZIP)], "subject": descriptor("x"), "annotations": {"a": "b"},
        });
        let Document::Manifest(manifest) = Document::parse(text.to_string().as_bytes(), None).unwrap() else {
            panic!("it is a manifest");
        };
        assert_eq!(serde_json::to_value(&*manifest).unwrap(), text);
    }

    #[test]
    fn contradictions_and_malformed_descriptors_are_refused() {
        let config = descriptor(media_type::CONFIG).to_string();
        let digest = Digest::of(b"x");
        let cases: Vec<(String, Option<&str>)> = vec![
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#), None),
            (r#"{"schemaVersion":2}"#.to_owned(), None),
            (format!(r#"{{"schemaVersion":1,"config":{config},"layers":[]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config}}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#), Some(media_type::INDEX)),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::MANIFEST), None),
            (
                r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
                Some("application/vnd.docker.distribution.manifest.v2+json; q=1"),
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":-1}},"layers":[]}}"#),
                None,
            ),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1},"layers":[]}"#.to_owned(),
                None,
            ),
            (r#"{"schemaVersion":2,"manifests":[{"digest":"","size":1}]}"#.to_owned(), None),
            (
                format!(
                    r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
                    vec![config.as_str(); 501].join(",")
                ),
                None,
            ),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"layers":[]}}"#), None),
            ("[]".to_owned(), None),
            ("[".repeat(100_000), None),
            (" ".repeat(limits::MANIFEST + 1), None),
        ];
        for (text, served_as) in cases {
            assert!(Document::parse(text.as_bytes(), served_as).is_err(), "{text:.200}");
        }
    }

    #[test]
    fn an_index_names_platforms() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":9,"platform":{{"os":"linux","architecture":"arm64","variant":null}}}}]}}"#,
            Digest::of(b"y")
        );
        let Document::Index(index) =
            Document::parse(text.as_bytes(), Some(media_type::DOCKER_INDEX)).unwrap()
        else {
            panic!("it is an index");
        };
        assert_eq!(index.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm64");
    }
}
