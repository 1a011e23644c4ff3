//! An image's record: what the index keeps of it besides its id and names.
//!
//! Version 2 says what names stand for, which indexes have the image, and whether it is one. A record of version 1 does not;
//! what a name with a digest stands for is that digest, and a tag beside a single such name came with it.

use super::catalogue::{Artifact, Known, KnownLayer};
use super::variants::Membership;
use crate::error::{Attempt, Error, Result};
use crate::index::ImageRow;
use coracle_spec::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use time::OffsetDateTime;

/// The version of the documents written here.
const VERSION: u32 = 2;

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
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    targets: BTreeMap<String, Digest>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    indexes: BTreeMap<Digest, MembershipRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<ArtifactRecord>,
}

#[derive(Serialize, Deserialize)]
struct MembershipRecord {
    manifest: Digest,
    platform: Platform,
}

#[derive(Serialize, Deserialize)]
struct ArtifactRecord {
    kind: String,
    size: u64,
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
        targets: image.targets.iter().map(|(name, target)| (name.canonical(), *target)).collect(),
        indexes: image.indexes.iter().map(|(index, member)| (*index, membership(member))).collect(),
        artifact: image
            .artifact
            .as_ref()
            .map(|artifact| ArtifactRecord { kind: artifact.kind.clone(), size: artifact.size }),
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
    let references: std::result::Result<BTreeSet<Reference>, _> =
        row.references.iter().map(|name| name.parse()).collect();
    let references = references.attempt(reading)?;
    let targets = match record.version {
        1 => supposed_targets(&references),
        _ => targets(&references, &record.targets),
    };
    let member = |(index, member): (Digest, MembershipRecord)| {
        (index, Membership { manifest: member.manifest, platform: member.platform })
    };
    let layer = |layer: LayerRecord| KnownLayer { diff_id: layer.diff_id, size: layer.size };
    Ok(Known {
        id: row.id,
        created: record.created.map(moment),
        layers: record.layers.into_iter().map(layer).collect(),
        labels: record.labels,
        parent: record.parent,
        last_tagged: record.last_tagged.map(moment),
        manifests: record.manifests,
        references,
        targets,
        indexes: record.indexes.into_iter().map(member).collect(),
        artifact: record.artifact.map(|artifact| Artifact { kind: artifact.kind, size: artifact.size }),
        config: OnceLock::new(),
    })
}

fn membership(member: &Membership) -> MembershipRecord {
    MembershipRecord { manifest: member.manifest, platform: member.platform.clone() }
}

/// Names that the image does not have any more stand for nothing.
fn targets(
    references: &BTreeSet<Reference>,
    recorded: &BTreeMap<String, Digest>,
) -> BTreeMap<Reference, Digest> {
    let target = |name: &Reference| Some((name.clone(), *recorded.get(&name.canonical())?));
    references.iter().filter_map(target).collect()
}

/// What names stand for of which it was not written down.
fn supposed_targets(references: &BTreeSet<Reference>) -> BTreeMap<Reference, Digest> {
    let target = |name: &Reference| {
        let of_it = |other: &&Reference| other.name() == name.name();
        let mut digests = references.iter().filter(of_it).filter_map(Reference::digest);
        let target = match name.digest() {
            Some(digest) => digest,
            None => digests.next().filter(|_| digests.next().is_none())?,
        };
        Some((name.clone(), target))
    };
    references.iter().filter_map(target).collect()
}

fn moment(nanoseconds: i128) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
