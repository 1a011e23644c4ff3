//! `GET /system/df` and `POST /build/prune`.

use serde::{Deserialize, Serialize};

use crate::container::ContainerSummary;
use crate::image::ImageSummary;
use crate::volume::Volume;

/// `POST /build/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildPruneResponse {
    /// Ids of cache records; `null` for none.
    pub caches_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// A step of a build that need not be done again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildCache {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Up to API 1.41, see `Parents`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// Ids of the records that it was made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// `regular` for a step, `exec.cachemount` for the content of a cache mount.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The instruction.
    pub description: String,
    /// Whether a build that goes on has it.
    pub in_use: bool,
    /// Whether an image has its content too.
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; `null` for never.
    pub last_used_at: Option<String>,
    /// How often it was used.
    pub usage_count: i64,
}

/// All objects that use the disk. A list is `null` when `type` did not ask for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ObjectLists {
    /// Bytes of all layers, each counted once.
    pub layers_size: i64,
    /// With `Containers` and `SharedSize`.
    pub images: Option<Vec<ImageSummary>>,
    /// With `SizeRw` and `SizeRootFs`.
    pub containers: Option<Vec<ContainerSummary>>,
    /// With `UsageData`.
    pub volumes: Option<Vec<Volume>>,
    /// Records of the build cache.
    pub build_cache: Option<Vec<BuildCache>>,
}

/// Who uses how much.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", from = "Told")]
pub struct DiskUsage {
    /// Before API 1.53: everything.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lists: Option<ObjectLists>,
    /// From API 1.52 on, as the three below, which say the same as the lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<ObjectUsage<ImageSummary>>,
    /// Of containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<ObjectUsage<ContainerSummary>>,
    /// Of volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<ObjectUsage<Volume>>,
    /// Of the build cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<ObjectUsage<BuildCache>>,
}

/// The same as it is read, field by field: what is flattened is read by another reader, which knows nothing of Go's habits, and
/// takes what it cannot read for absent.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Told {
    layers_size: i64,
    images: Option<Vec<ImageSummary>>,
    containers: Option<Vec<ContainerSummary>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<BuildCache>>,
    image_usage: Option<ObjectUsage<ImageSummary>>,
    container_usage: Option<ObjectUsage<ContainerSummary>>,
    volume_usage: Option<ObjectUsage<Volume>>,
    build_cache_usage: Option<ObjectUsage<BuildCache>>,
}

impl From<Told> for DiskUsage {
    fn from(told: Told) -> Self {
        let Told { layers_size, images, containers, volumes, build_cache, .. } = told;
        Self {
            lists: Some(ObjectLists { layers_size, images, containers, volumes, build_cache }),
            image_usage: told.image_usage,
            container_usage: told.container_usage,
            volume_usage: told.volume_usage,
            build_cache_usage: told.build_cache_usage,
        }
    }
}

impl DiskUsage {
    /// All objects, whichever version of the API told them; from 1.52 on only if `verbose` asked for them.
    #[must_use]
    pub fn into_lists(self) -> ObjectLists {
        let lists = self.lists.unwrap_or_default();
        ObjectLists {
            layers_size: self.image_usage.as_ref().map_or(lists.layers_size, |usage| usage.total_size),
            images: self.image_usage.map_or(lists.images, |usage| usage.items),
            containers: self.container_usage.map_or(lists.containers, |usage| usage.items),
            volumes: self.volume_usage.map_or(lists.volumes, |usage| usage.items),
            build_cache: self.build_cache_usage.map_or(lists.build_cache, |usage| usage.items),
        }
    }
}

/// What all objects of a kind use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound(deserialize = "T: serde::de::DeserializeOwned + Default"))]
pub struct ObjectUsage<T> {
    /// How many are in use.
    pub active_count: i64,
    /// How many there are.
    pub total_count: i64,
    /// Bytes that come back when those that are not in use go.
    pub reclaimable: i64,
    /// Bytes of all.
    pub total_size: i64,
    /// The objects themselves, when `verbose` asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<T>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_engine_tells_is_read_with_its_nulls() {
        let told = br#"{"LayersSize": 7, "Images": [{"Id": "a", "Labels": null, "RepoTags": null}], "Containers": null,
            "Volumes": [{"Name": "v", "Labels": null, "Options": null}], "BuildCache": null}"#;
        let lists = crate::from_slice::<DiskUsage>(told).unwrap().into_lists();
        assert_eq!((lists.layers_size, lists.images.map(|images| images.len())), (7, Some(1)));
        assert_eq!(lists.volumes.map(|volumes| volumes.len()), Some(1));
    }
}
