//! Mounts as asked for (`Mount`) and as they are (`MountPoint`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A mount in the long form (`--mount`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Path on the host, name of the volume, or image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Path in the container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Whether it cannot be written.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub read_only: bool,
    /// Ignored on Linux.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// For `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// For `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// For `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageMountOptions>,
    /// For `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    /// `[r]private`, `[r]shared`, `[r]slave` or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Leave mounts below the source out.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub non_recursive: bool,
    /// Make the source when it is missing.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub create_mountpoint: bool,
    /// Read-only for the top mount alone.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub read_only_non_recursive: bool,
    /// Refuse when the mounts below cannot be made read-only.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    /// Do not fill an empty volume with the image's content.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub no_copy: bool,
    /// Labels of a volume made for this mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Directory within the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Driver of a volume made for this mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<VolumeDriverConfig>,
}

/// A volume driver with its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeDriverConfig {
    /// Name of the driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<BTreeMap<String, String>>,
}

/// Options of an image mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMountOptions {
    /// Directory within the image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
}

/// Options of a tmpfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    /// Size in bytes, zero for no limit.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub size_bytes: i64,
    /// Permission bits of its root.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub mode: u32,
    /// Mount options: `[flag]` or `[key, value]` each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<Vec<String>>>,
}

/// A mount of a container as inspect and list report it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    /// As [`Mount::kind`].
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path on the host, empty for a tmpfs.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Driver of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options as they were given; `z` for volumes.
    pub mode: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// As [`BindOptions::propagation`].
    pub propagation: String,
}
