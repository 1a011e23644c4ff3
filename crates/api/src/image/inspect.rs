//! `GET /images/{name}/json` and `GET /images/{name}/history`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::ManifestSummary;

use crate::container::{Config, GraphDriver};

/// Everything about one image. An engine sends the configuration as the version of the API has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound(deserialize = "C: serde::de::DeserializeOwned + Default"))]
pub struct ImageInspect<C = Config> {
    /// `sha256:…`.
    pub id: String,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Image it was built from; like all that follow as text, absent instead of empty since API 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What the author said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// RFC 3339; absent when the image does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Before API 1.45: container it was committed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Before API 1.45: configuration of that container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<Config>,
    /// Version of the engine that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What containers of it begin with; absent for what is no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<C>,
    /// Go's name of the architecture.
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system.
    pub os: String,
    /// Version of it, Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes in all.
    pub size: i64,
    /// Before API 1.44: as `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// The storage driver's own words; since API 1.52 only with a graph driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What this engine knows about it.
    pub metadata: ImageMetadata,
    /// Since API 1.48: what its name stands for, as OCI describes content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Value>,
    /// With `manifests=1`, since API 1.48: every manifest that its name stands for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
}

/// Layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What this engine knows about an image. Clients that compare descriptions leave it out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// When it last got a name, RFC 3339; absent when never here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_tag_time: Option<String>,
    /// When it was last used, RFC 3339. Docker does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
}

/// One step of an image's history, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    /// What was said about it.
    pub comment: String,
    /// Unix time in seconds.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// `sha256:…`, or `<missing>` for steps that are no image here.
    pub id: String,
    /// Bytes of its layer.
    pub size: i64,
    /// `name:tag`; `null` for none.
    pub tags: Option<Vec<String>>,
}
