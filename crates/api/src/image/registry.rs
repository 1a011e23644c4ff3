//! Bodies of what registries are asked through the daemon.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// The manifest or the index that the name stands for, as OCI describes content.
    pub descriptor: Value,
    /// What it runs on, as OCI has platforms.
    pub platforms: Vec<Value>,
}

/// A row of `GET /images/search`. The names are those of the first registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// How many like it.
    pub star_count: i64,
    /// Whether it is the registry's own.
    pub is_official: bool,
    /// The repository.
    pub name: String,
    /// Whether the registry builds it.
    pub is_automated: bool,
    /// What its owner says of it.
    pub description: String,
}

/// What `POST /images/{name}/push` tells programs when a tag is in the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PushResult {
    /// The tag.
    pub tag: String,
    /// What it stands for.
    pub digest: String,
    /// The size of the manifest, in bytes.
    pub size: i64,
}

/// What `POST /images/{name}/push` tells programs when only one platform went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PushedInsteadOfIndex {
    /// Always true: clients know it by that.
    pub manifest_pushed_instead_of_index: bool,
    /// What the name stands for here, as OCI describes content.
    pub original_index: Value,
    /// What went.
    pub selected_manifest: Value,
}

/// What `POST /images/{name}/push` tells programs when something of an index is nowhere to be had.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContentMissing {
    /// Always true: clients know it by that.
    pub content_missing: bool,
    /// What is missing, as OCI describes content.
    pub desc: Value,
}
