//! A volume's record.

use super::Volume;
use crate::error::{Attempt, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use time::OffsetDateTime;

/// The version of the documents written here.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    name: String,
    /// Nanoseconds since 1970.
    created: i128,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

pub(super) fn write(volume: &Volume) -> String {
    let record = Record {
        version: VERSION,
        name: volume.name.clone(),
        created: volume.created.unix_timestamp_nanos(),
        labels: volume.labels.clone(),
        options: volume.options.clone(),
    };
    serde_json::to_string(&record).expect("plain data has a document")
}

/// The volume of a record, below the data root `root`.
pub(super) fn read(root: &Path, text: &str) -> Result<Volume> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let reading = || "read the record of a volume".to_owned();
    let head: Head = serde_json::from_str(text).attempt(reading)?;
    if head.version > VERSION {
        return Err(Error::Unsupported(format!(
            "the record of a volume has version {} and this engine knows {VERSION}: start the newer one",
            head.version
        )));
    }
    let record: Record = serde_json::from_str(text).attempt(reading)?;
    let name = record.name.parse::<coracle_spec::Name>().attempt(reading)?.to_string();
    Ok(Volume {
        mountpoint: super::directory(root, &name).join(super::DATA),
        name,
        created: OffsetDateTime::from_unix_timestamp_nanos(record.created)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        labels: record.labels,
        options: record.options,
    })
}
