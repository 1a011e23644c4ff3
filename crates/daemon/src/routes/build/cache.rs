//! What builds need not do again: listed for `/system/df`, and forgotten by `POST /build/prune`.

use super::super::containers::{filters, until};
use crate::answer::{self, Answer};
use crate::convert::time::write;
use crate::error::Failure;
use crate::server::Call;
use ::time::OffsetDateTime;
use coracle_api::system::{BuildCache, BuildPruneResponse};
use coracle_engine::Engine;
use coracle_engine::build::{CACHE_MOUNT, CacheMount, CachedStep, StepFilter};

/// Every record.
pub(in crate::routes) async fn records(engine: &Engine) -> Result<Vec<BuildCache>, Failure> {
    let mounts = engine.cache_mounts().await?;
    Ok(engine.cached_steps().iter().map(record).chain(mounts.iter().map(mount)).collect())
}

/// What commands keep is no step, but the same kind of thing to clients.
fn mount(mount: &CacheMount) -> BuildCache {
    let moment = |seconds| write(OffsetDateTime::from_unix_timestamp(seconds).ok());
    BuildCache {
        id: mount.key.clone(),
        kind: CACHE_MOUNT.to_owned(),
        description: format!("cache mount {}", mount.id),
        in_use: mount.in_use,
        size: i64::try_from(mount.size).unwrap_or(i64::MAX),
        created_at: moment(mount.created),
        last_used_at: Some(moment(mount.last_used)),
        ..BuildCache::default()
    }
}

fn record(step: &CachedStep) -> BuildCache {
    BuildCache {
        id: step.id.to_string(),
        kind: step.kind.to_owned(),
        description: step.description.clone(),
        in_use: step.in_use,
        shared: step.shared,
        size: i64::try_from(step.size).unwrap_or(i64::MAX),
        created_at: write(Some(step.created)),
        last_used_at: Some(write(Some(step.last_used))),
        usage_count: step.uses.into(),
        ..BuildCache::default()
    }
}

pub(in crate::routes) async fn prune(call: &Call) -> Answer {
    let pruned = call.engine().prune_cached_steps(&filter(call)?).await?;
    answer::ok(&BuildPruneResponse {
        caches_deleted: Some(
            pruned
                .ids
                .iter()
                .map(ToString::to_string)
                .chain(pruned.mounts.into_iter().map(|mount| mount.key))
                .collect(),
        ),
        space_reclaimed: pruned.bytes,
    })
}

fn filter(call: &Call) -> Result<StepFilter, Failure> {
    let filters = filters(call)?;
    if let Some(unknown) =
        filters.unknown(&["until", "unused-for", "id", "type", "description", "label", "label!"])
    {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    for name in ["max-used-space", "min-free-space"] {
        if call.query.get(name).is_some_and(|text| !matches!(text, "" | "0")) {
            return Err(Failure::new(
                hyper::StatusCode::NOT_IMPLEMENTED,
                format!("{name} is not supported yet by this engine: use reserved-space"),
            ));
        }
    }
    // Its name before API 1.48 was another one.
    let keep = ["reserved-space", "keep-storage"].into_iter().find_map(|name| call.query.get(name));
    let keep = keep.filter(|text| !text.is_empty()).map(str::parse::<u64>).transpose();
    let keep = keep.map_err(|_| Failure::invalid("invalid reserved-space: it is no number of bytes"))?;
    let until = until(&filters)?;
    let owned = |name: &str| filters.values(name).map(str::to_owned).collect::<Vec<_>>();
    if filters.values("label").next().is_some() {
        // Nothing that is remembered has a label.
        return Ok(StepFilter { kinds: vec![String::new()], ..StepFilter::default() });
    }
    Ok(StepFilter {
        all: call.query.is_on("all"),
        until,
        ids: owned("id"),
        descriptions: owned("description"),
        keep: keep.unwrap_or(0),
        kinds: owned("type"),
    })
}
