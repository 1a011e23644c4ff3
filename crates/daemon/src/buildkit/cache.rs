//! What is kept of builds, for `docker buildx du` and `prune`.

use coracle_buildkit::proto::moby::buildkit::v1::{PruneRequest, UsageRecord};
use coracle_buildkit::timestamp;
use coracle_engine::Engine;
use coracle_engine::build::{CACHE_MOUNT, CacheMount, CachedStep, StepFilter};
use std::collections::HashSet;
use std::time::Duration;
use time::OffsetDateTime;
use tonic::Status;

/// Every record.
///
/// # Errors
/// The kernel's.
pub(super) async fn records(engine: &Engine) -> Result<Vec<UsageRecord>, Status> {
    let mounts = engine.cache_mounts().await.map_err(failed)?;
    Ok(engine.cached_steps().iter().map(record).chain(mounts.iter().map(mount)).collect())
}

/// What commands keep.
fn mount(mount: &CacheMount) -> UsageRecord {
    let moment = |seconds| {
        timestamp(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH).into())
    };
    UsageRecord {
        id: mount.key.clone(),
        in_use: mount.in_use,
        size: i64::try_from(mount.size).unwrap_or(i64::MAX),
        created_at: Some(moment(mount.created)),
        last_used_at: Some(moment(mount.last_used)),
        description: format!("cache mount {}", mount.id),
        record_type: CACHE_MOUNT.to_owned(),
        ..UsageRecord::default()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn failed(error: coracle_engine::Error) -> Status {
    Status::unknown(error.chain())
}

fn record(step: &CachedStep) -> UsageRecord {
    UsageRecord {
        id: step.id.hex(),
        in_use: step.in_use,
        size: i64::try_from(step.size).unwrap_or(i64::MAX),
        created_at: Some(timestamp(step.created.into())),
        last_used_at: Some(timestamp(step.last_used.into())),
        usage_count: step.uses.into(),
        description: step.description.clone(),
        record_type: step.kind.to_owned(),
        shared: step.shared,
        ..UsageRecord::default()
    }
}

/// Forgets what is asked for, and says what that was.
///
/// # Errors
/// For a filter that is not known, and the index's.
pub(super) async fn prune(engine: &Engine, request: &PruneRequest) -> Result<Vec<UsageRecord>, Status> {
    let filter = filter(request)?;
    let before = engine.cached_steps();
    let pruned = engine.prune_cached_steps(&filter).await.map_err(failed)?;
    let gone: HashSet<_> = pruned.ids.into_iter().collect();
    let steps = before.iter().filter(|step| gone.contains(&step.id)).map(record);
    Ok(steps.chain(pruned.mounts.iter().map(mount)).collect())
}

fn filter(request: &PruneRequest) -> Result<StepFilter, Status> {
    if request.max_used_space != 0 || request.min_free_space != 0 {
        return Err(Status::unimplemented(
            "max-used-space and min-free-space are not supported yet by this engine: use reserved-space",
        ));
    }
    let mut filter = StepFilter {
        all: request.all,
        keep: u64::try_from(request.reserved_space).unwrap_or(0),
        ..StepFilter::default()
    };
    if let Ok(nanoseconds @ 1..) = u64::try_from(request.keep_duration) {
        filter.until = Some(OffsetDateTime::now_utc() - Duration::from_nanos(nanoseconds));
    }
    for expression in request.filter.iter().flat_map(|all| all.split(',')).filter(|part| !part.is_empty()) {
        let exact = expression.split_once("==").map(|(name, value)| (name, value, true));
        let parts = exact.or_else(|| expression.split_once("~=").map(|(name, value)| (name, value, false)));
        match parts.map(|(name, value, exact)| (name, value.trim_matches('"').to_owned(), exact)) {
            Some(("id", value, _)) => filter.ids.push(value),
            Some(("type", value, true)) => filter.kinds.push(value),
            Some(("description", value, false)) => filter.descriptions.push(value),
            _ => return Err(Status::invalid_argument(format!("invalid filter {expression:?}"))),
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_containerd() {
        let request = PruneRequest {
            all: true,
            reserved_space: 5,
            keep_duration: 3_600_000_000_000,
            filter: vec!["id~=abc,type==regular".into(), "description~=RUN".into()],
            ..PruneRequest::default()
        };
        let filter = filter(&request).unwrap();
        assert!(filter.all && filter.until.unwrap() < OffsetDateTime::now_utc());
        assert_eq!(
            (filter.keep, &filter.ids[..], &filter.kinds[..]),
            (5, &["abc".into()][..], &["regular".into()][..])
        );
        assert_eq!(filter.descriptions, ["RUN"]);
        for request in [
            PruneRequest { filter: vec!["color==red".into()], ..PruneRequest::default() },
            PruneRequest { filter: vec!["type".into()], ..PruneRequest::default() },
            PruneRequest { max_used_space: 1, ..PruneRequest::default() },
        ] {
            assert!(self::filter(&request).is_err(), "{request:?}");
        }
    }
}
