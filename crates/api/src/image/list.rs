//! `GET /images/json`, `DELETE /images/{name}`, `POST /images/prune`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::ManifestSummary;

/// One image of the list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageSummary {
    /// Containers that use it, -1 when not counted.
    pub containers: i64,
    /// Unix time in seconds.
    pub created: i64,
    /// `sha256:…`.
    pub id: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Image it was built from, or empty.
    pub parent_id: String,
    /// `name@sha256:…`.
    pub repo_digests: Vec<String>,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images, -1 when not counted.
    pub shared_size: i64,
    /// Bytes in all.
    pub size: i64,
    /// Before API 1.44: as `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// With `manifests=1`, since API 1.47: every manifest that its name stands for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
    /// With `manifests=1`, since API 1.48: what its name stands for, as OCI describes content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Value>,
}

/// One thing that `DELETE /images/{name}` did; exactly one of the two is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeletedImage {
    /// A name that was taken away.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
    /// An image or a layer that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
}

/// `POST /images/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneResponse {
    /// What was done; `null` for nothing.
    pub images_deleted: Option<Vec<DeletedImage>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
