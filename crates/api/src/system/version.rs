//! `GET /version`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Versions of the engine and of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Version {
    /// The product.
    pub platform: PlatformName,
    /// The parts, the engine first.
    pub components: Vec<Component>,
    /// Version of the engine.
    pub version: String,
    /// Newest API version.
    pub api_version: String,
    /// Oldest API version.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Commit it was built from.
    pub git_commit: String,
    /// Version of the compiler; clients print it.
    pub go_version: String,
    /// Operating system.
    pub os: String,
    /// Go's name of the architecture.
    pub arch: String,
    /// Release of the kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// Whether experimental features are on.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub experimental: bool,
    /// When it was built, RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// The product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PlatformName {
    /// Its name.
    pub name: String,
}

/// A part of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What else is known: `ApiVersion`, `GitCommit`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<BTreeMap<String, String>>,
}
