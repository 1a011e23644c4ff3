//! What a name stands for, manifest by manifest: `manifests=1` of `GET /images/json` and `GET /images/{name}/json`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One manifest, of an index or alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// Its digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// The manifest, as OCI describes content.
    pub descriptor: Value,
    /// Whether everything that it describes is here.
    pub available: bool,
    /// Bytes.
    pub size: ContentSize,
    /// What it is.
    pub kind: ManifestKind,
    /// Of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageData>,
    /// Of an attestation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationData>,
}

/// What a manifest is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestKind {
    /// An image, of which containers can be made.
    Image,
    /// What BuildKit says of how an image was made.
    Attestation,
    /// Something else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Bytes of what is here of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContentSize {
    /// Blobs and files.
    pub total: i64,
    /// Blobs.
    pub content: i64,
}

/// What is known of an image besides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageData {
    /// What it runs on, as OCI has platforms.
    pub platform: Value,
    /// Ids of the containers of it.
    pub containers: Vec<String>,
    /// Bytes of its files.
    pub size: UnpackedSize,
}

/// Bytes in the files of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    /// All of them.
    pub unpacked: i64,
}

/// What is known of an attestation besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AttestationData {
    /// The digest of the manifest that it is about.
    #[serde(rename = "For")]
    pub of: String,
}
