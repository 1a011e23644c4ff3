//! A cache as it travels: which step left which layer. Pure; what holds the bytes is elsewhere.
//!
//! ```text
//! manifest (OCI image manifest)
//!   config  [`CONFIG`]: version, digests of the uncompressed layers, steps      layers  as an image has them
//! image configuration, field [`INLINE`]: the same, without the layers that it has already
//! ```
//!
//! Of a step it has the key alone, and of the inputs of the key nothing: they may be passwords, and digests of short ones
//! are guessed.

use crate::limits;
use coracle_spec::Digest;
use coracle_spec::image::{Descriptor, ImageConfig, Manifest, media_type};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use time::OffsetDateTime;

/// Media type of the configuration of a cache's manifest.
pub(crate) const CONFIG: &str = "application/vnd.coracle.build.cache.v1+json";
/// The field of an image's configuration that makes the image a cache as well.
const INLINE: &str = "coracle.build.cache.v1";
/// Media type of what describes a cache of BuildKit, as a configuration or as a part of an index.
const BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The field by which BuildKit makes an image a cache.
const BUILDKIT_INLINE: &str = "moby.buildkit.cache.v0";

const VERSION: u32 = 1;

/// A step that was done or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoneStep {
    pub(crate) key: Digest,
    /// The layer that it left, if it left any.
    pub(crate) layer: Option<Digest>,
    /// Seconds since 1970.
    pub(crate) created: i64,
}

/// What a cache says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Digests of the uncompressed layers, in the order of the manifest's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Digest>,
    steps: Vec<StepRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StepRecord {
    key: Digest,
    /// Which of the layers it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    /// Seconds since 1970.
    created: i64,
}

/// What a cache offers for a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    /// The layer, if the step left any, and the blob that it is to be had as; none of an image that is here.
    pub(crate) layer: Option<(Digest, Option<Descriptor>)>,
    /// Seconds since 1970.
    pub(crate) created: i64,
}

/// What a cache offers, by the keys of steps.
pub(crate) type Offers = HashMap<Digest, Offer>;

/// Why something is no cache that this engine reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoCache {
    /// Its keys are of another kind than ours.
    #[error("it is a cache of BuildKit, whose keys this engine cannot compute: let this engine export one")]
    BuildKits,
    /// An image, or something else.
    #[error("it holds no cache: build it with --cache-to type=inline, or name what --cache-to has written")]
    Nothing,
    /// It is one, but not as it should be.
    #[error("it is no cache that can be read: {0}")]
    Malformed(String),
}

/// The layers of some steps, each once, in order.
pub(crate) fn layers_of(steps: &[DoneStep]) -> Vec<Digest> {
    let mut layers = Vec::new();
    for layer in steps.iter().filter_map(|step| step.layer) {
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }
    layers
}

/// The configuration of a cache of these steps.
pub(crate) fn configuration(steps: &[DoneStep]) -> Vec<u8> {
    let layers = layers_of(steps);
    let record = Record { version: VERSION, steps: records(steps, &layers), layers };
    serde_json::to_vec(&record).expect("plain data")
}

/// Makes an image a cache of these steps, whose layers it has.
pub(crate) fn put_inline(config: &mut ImageConfig, steps: &[DoneStep]) {
    let steps = records(steps, &config.rootfs.diff_ids);
    let record = Record { version: VERSION, layers: Vec::new(), steps };
    config.other.insert(INLINE.to_owned(), serde_json::to_value(record).expect("plain data"));
}

fn records(steps: &[DoneStep], layers: &[Digest]) -> Vec<StepRecord> {
    let places: HashMap<&Digest, usize> =
        layers.iter().enumerate().rev().map(|(place, layer)| (layer, place)).collect();
    let mut seen = HashSet::new();
    let new = steps.iter().filter(|step| seen.insert(step.key));
    new.filter_map(|step| {
        let layer = match &step.layer {
            None => None,
            Some(layer) => Some(*places.get(layer)?),
        };
        Some(StepRecord { key: step.key, layer, created: step.created })
    })
    .collect()
}

/// Whether a manifest is that of a cache, or may be.
///
/// # Errors
/// [`NoCache::BuildKits`], [`NoCache::Nothing`] for an artifact.
pub(crate) fn check(manifest: &Manifest) -> Result<(), NoCache> {
    match manifest.config.media_type.as_str() {
        CONFIG | media_type::CONFIG | media_type::DOCKER_CONFIG => Ok(()),
        BUILDKIT => Err(NoCache::BuildKits),
        _ => Err(NoCache::Nothing),
    }
}

/// Whether an entry of an index describes a cache of BuildKit.
pub(crate) fn is_buildkits(entry: &Descriptor) -> bool {
    entry.media_type == BUILDKIT
}

/// What a cache offers whose manifest passed [`check`].
///
/// # Errors
/// [`NoCache`].
pub(crate) fn offers(manifest: &Manifest, config: &[u8]) -> Result<Offers, NoCache> {
    if manifest.config.media_type != CONFIG {
        let config = ImageConfig::parse(config).map_err(|error| NoCache::Malformed(error.to_string()))?;
        return inline_offers(&config, Some(manifest));
    }
    let record: Record =
        serde_json::from_slice(config).map_err(|error| NoCache::Malformed(error.to_string()))?;
    let layers = layers(&record.layers, Some(manifest))?;
    of_record(&record, &layers)
}

/// What an image offers; one that is here has its layers here, too.
///
/// # Errors
/// [`NoCache`].
pub(crate) fn inline_offers(config: &ImageConfig, manifest: Option<&Manifest>) -> Result<Offers, NoCache> {
    let Some(record) = config.other.get(INLINE) else {
        let is_buildkits = config.other.contains_key(BUILDKIT_INLINE);
        return Err(if is_buildkits { NoCache::BuildKits } else { NoCache::Nothing });
    };
    let record = Record::deserialize(record).map_err(|error| NoCache::Malformed(error.to_string()))?;
    let layers = layers(&config.rootfs.diff_ids, manifest)?;
    of_record(&record, &layers)
}

type Layers = Vec<(Digest, Option<Descriptor>)>;

fn layers(diff_ids: &[Digest], manifest: Option<&Manifest>) -> Result<Layers, NoCache> {
    let Some(manifest) = manifest else { return Ok(diff_ids.iter().map(|layer| (*layer, None)).collect()) };
    let blobs = &manifest.layers;
    if blobs.len() != diff_ids.len() {
        let text =
            format!("its manifest has {} layers and its configuration {}", blobs.len(), diff_ids.len());
        return Err(NoCache::Malformed(text));
    }
    Ok(diff_ids.iter().copied().zip(blobs.iter().cloned().map(Some)).collect())
}

fn of_record(record: &Record, layers: &Layers) -> Result<Offers, NoCache> {
    let malformed = |text: String| NoCache::Malformed(text);
    if record.version != VERSION {
        return Err(malformed(format!("it has version {}, and this engine knows {VERSION}", record.version)));
    }
    if record.steps.len() > limits::CACHE_STEPS {
        return Err(malformed(format!("it has more than {} steps", limits::CACHE_STEPS)));
    }
    let mut offers = Offers::new();
    for step in &record.steps {
        let layer = match step.layer {
            None => None,
            Some(place) => Some(layers.get(place).cloned().ok_or_else(|| {
                malformed(format!("a step left layer {place}, and there are {}", layers.len()))
            })?),
        };
        // It becomes a time of an image.
        OffsetDateTime::from_unix_timestamp(step.created)
            .map_err(|_| malformed(format!("a step was done at {}, which is no time", step.created)))?;
        offers.insert(step.key, Offer { layer, created: step.created });
    }
    Ok(offers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn step(key: &str, layer: Option<&str>) -> DoneStep {
        DoneStep { key: digest(key), layer: layer.map(digest), created: 7 }
    }

    fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Manifest {
        let value = json!({"schemaVersion": 2, "config": config, "layers": layers});
        serde_json::from_value(value).unwrap()
    }

    fn blob(text: &str) -> Descriptor {
        Descriptor::new(media_type::LAYER_GZIP, digest(text), 3)
    }

    #[test]
    fn what_is_written_is_read() {
        let steps = [step("a", Some("x")), step("b", None), step("c", Some("y")), step("d", Some("x"))];
        assert_eq!(layers_of(&steps), [digest("x"), digest("y")]);
        let config = configuration(&steps);
        let manifest = manifest(&Descriptor::of(CONFIG, &config), &[blob("bx"), blob("by")]);
        assert_eq!(check(&manifest), Ok(()));
        let offers = offers(&manifest, &config).unwrap();
        let offer =
            |layer: &str, bytes: &str| Offer { layer: Some((digest(layer), Some(blob(bytes)))), created: 7 };
        assert_eq!(offers.len(), 4);
        assert_eq!(offers[&digest("a")], offer("x", "bx"));
        assert_eq!(offers[&digest("b")], Offer { layer: None, created: 7 });
        assert_eq!(offers[&digest("c")], offer("y", "by"));
        assert_eq!(offers[&digest("d")], offer("x", "bx"));
    }

    #[test]
    fn an_image_that_is_a_cache_says_so_in_its_configuration() {
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![digest("base"), digest("x")];
        put_inline(&mut config, &[step("a", Some("x")), step("b", Some("of no layer of it"))]);
        assert_eq!(config.other[INLINE]["steps"][0]["layer"], 1);
        let here = inline_offers(&config, None).unwrap();
        assert_eq!(here[&digest("a")].layer, Some((digest("x"), None)));
        let manifest =
            manifest(&Descriptor::new(media_type::CONFIG, digest("c"), 1), &[blob("0"), blob("1")]);
        let there = offers(&manifest, &config.to_json()).unwrap();
        assert_eq!(there[&digest("a")].layer, Some((digest("x"), Some(blob("1")))));
        config.other.clear();
        assert_eq!(inline_offers(&config, None), Err(NoCache::Nothing));
        config.other.insert(BUILDKIT_INLINE.to_owned(), json!("e30="));
        assert_eq!(inline_offers(&config, None), Err(NoCache::BuildKits));
    }

    #[test]
    fn what_is_hostile_is_no_cache() {
        let good = json!({"version": 1, "layers": [digest("x")], "steps": [{"key": digest("k"), "layer": 0, "created": 1}]});
        let read = |value: &Value, blobs: usize| {
            let config = serde_json::to_vec(value).unwrap();
            let manifest = manifest(&Descriptor::of(CONFIG, &config), &vec![blob("b"); blobs]);
            offers(&manifest, &config)
        };
        assert!(read(&good, 1).is_ok());
        assert!(matches!(read(&good, 0), Err(NoCache::Malformed(_))), "fewer blobs than layers");
        for (field, value) in [
            ("version", json!(2)),
            ("layers", json!(["nonsense"])),
            ("steps", json!([{"key": digest("k"), "layer": 1, "created": 1}])),
            ("steps", json!([{"key": digest("k"), "layer": -1, "created": 1}])),
            ("steps", json!([{"key": digest("k"), "created": i64::MAX}])),
            ("steps", json!([{"key": "sha256:../../x", "created": 1}])),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert!(matches!(read(&bad, 1), Err(NoCache::Malformed(_))), "{bad}");
        }
        let other = |kind: &str| check(&manifest(&Descriptor::new(kind, digest("c"), 1), &[]));
        assert_eq!(other(BUILDKIT), Err(NoCache::BuildKits));
        assert_eq!(other("application/vnd.oci.empty.v1+json"), Err(NoCache::Nothing));
        assert!(is_buildkits(&Descriptor::new(BUILDKIT, digest("c"), 1)));
    }
}
