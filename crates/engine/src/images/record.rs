//! An image's record: what the index keeps of it besides its id and names.

use super::catalogue::{Known, KnownLayer};
use crate::error::{Attempt, Error, Result};
use crate::index::ImageRow;
use coracle_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use time::OffsetDateTime;

/// The version of the documents written here.
const VERSION: u32 = 1;

/// The form on disk. Times are nanoseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    created: Option<i128>,
    layers: Vec<LayerRecord>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    parent: Option<Digest>,
    #[serde(default)]
    last_tagged: Option<i128>,
    #[serde(default)]
    manifests: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct LayerRecord {
    diff_id: Digest,
    size: u64,
}

/// The row of an image.
pub(super) fn write(image: &Known) -> ImageRow {
    let layer = |layer: &KnownLayer| LayerRecord { diff_id: layer.diff_id, size: layer.size };
    let record = Record {
        version: VERSION,
        created: image.created.map(OffsetDateTime::unix_timestamp_nanos),
        layers: image.layers.iter().map(layer).collect(),
        labels: image.labels.clone(),
        parent: image.parent,
        last_tagged: image.last_tagged.map(OffsetDateTime::unix_timestamp_nanos),
        manifests: image.manifests.clone(),
    };
    ImageRow {
        id: image.id,
        record: serde_json::to_string(&record).expect("plain data has a document"),
        references: image.references.iter().map(Reference::canonical).collect(),
    }
}

/// The image of a row.
pub(super) fn read(row: &ImageRow) -> Result<Known> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let reading = || format!("read the record of image {}", row.id);
    let head: Head = serde_json::from_str(&row.record).attempt(reading)?;
    if head.version > VERSION {
        let text = format!("the record of image {} has version {}", row.id, head.version);
        return Err(Error::Unsupported(format!(
            "{text} and this engine knows {VERSION}: start the newer one"
        )));
    }
    let record: Record = serde_json::from_str(&row.record).attempt(reading)?;
    let references: std::result::Result<_, _> = row.references.iter().map(|name| name.parse()).collect();
    let layer = |layer: LayerRecord| KnownLayer { diff_id: layer.diff_id, size: layer.size };
    Ok(Known {
        id: row.id,
        created: record.created.map(moment),
        layers: record.layers.into_iter().map(layer).collect(),
        labels: record.labels,
        parent: record.parent,
        last_tagged: record.last_tagged.map(moment),
        manifests: record.manifests,
        references: references.attempt(reading)?,
        config: OnceLock::new(),
    })
}

fn moment(nanoseconds: i128) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
