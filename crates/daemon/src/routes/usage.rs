//! `/system/df`: who uses how much of the disk.

use crate::answer::{self, Answer};
use crate::convert::{image, listing};
use crate::error::Failure;
use crate::server::Call;
use ::time::OffsetDateTime;
use coracle_api::ApiVersion;
use coracle_api::container::ContainerSummary;
use coracle_api::image::ImageSummary;
use coracle_api::system::{DiskUsage, ObjectLists, ObjectUsage};
use coracle_api::volume::{Volume, VolumeUsage};
use coracle_engine::Error;
use coracle_engine::volumes::VolumeFilter;

/// The kinds that a client can ask for.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

pub(super) async fn disk_usage(call: &Call) -> Answer {
    let asked: Vec<&str> = call.query.all("type").collect();
    if let Some(unknown) = asked.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(Failure::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let mut lists = ObjectLists::default();
    if wanted("image") {
        let (layers_size, images) = images(call)?;
        (lists.layers_size, lists.images) = (layers_size, Some(images));
    }
    if wanted("container") {
        lists.containers = Some(containers(call).await?);
    }
    if wanted("volume") {
        lists.volumes = Some(volumes(call).await?);
    }
    if wanted("build-cache") {
        lists.build_cache = Some(super::build::cache::records(call.engine()).await?);
    }
    answer::ok(&in_version(lists, call.version, call.query.is_on("verbose")))
}

/// What clients of this version read: lists, sums, or in 1.52 both unless it is `verbose`.
fn in_version(lists: ObjectLists, version: ApiVersion, verbose: bool) -> DiskUsage {
    let (first_with_sums, last_with_lists) = (ApiVersion::new(1, 52), ApiVersion::new(1, 52));
    if version < first_with_sums {
        return DiskUsage { lists: Some(lists), ..DiskUsage::default() };
    }
    let sums = summed_up(&lists, verbose);
    DiskUsage { lists: (version <= last_with_lists && !verbose).then_some(lists), ..sums }
}

/// Every image with the containers that use it, and the bytes of all layers.
fn images(call: &Call) -> Result<(i64, Vec<ImageSummary>), Error> {
    let engine = call.engine();
    let usage = engine.images().usage()?;
    let containers = engine.list();
    let rows = usage.images.iter().map(|summary| {
        let users = containers.iter().filter(|container| container.image == summary.id).count();
        let mut row = image::summary(summary, call.version);
        row.containers = i64::try_from(users).unwrap_or(0);
        row.shared_size = bytes(summary.shared_size);
        row
    });
    Ok((bytes(usage.layers_size), rows.collect()))
}

async fn containers(call: &Call) -> Result<Vec<ContainerSummary>, Error> {
    let mut rows = Vec::new();
    for container in &call.engine().list() {
        let mut row = listing::summary(container, OffsetDateTime::now_utc());
        row.health = (call.version >= ApiVersion::new(1, 52)).then(|| listing::health_summary(container));
        row.size_rw = bytes(call.engine().size_of(container).await?);
        rows.push(row);
    }
    Ok(rows)
}

async fn volumes(call: &Call) -> Result<Vec<Volume>, Error> {
    let engine = call.engine();
    let sizes = engine.volumes().sizes().await?;
    let volumes = engine.volumes().list(&VolumeFilter::default(), &|_| false);
    let rows = volumes.iter().map(|volume| {
        let mut row = super::volumes::shown(volume);
        row.usage_data = Some(VolumeUsage {
            ref_count: i64::try_from(engine.volume_users(&volume.name).len()).unwrap_or(0),
            size: sizes.get(&volume.name).map_or(-1, |size| bytes(*size)),
        });
        row
    });
    Ok(rows.collect())
}

fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The sums that clients of API 1.52 read instead of the lists.
fn summed_up(lists: &ObjectLists, verbose: bool) -> DiskUsage {
    let image_usage = lists.images.as_ref().map(|images| {
        let mut sum = summed(images, verbose, |image| image.containers > 0, |image| image.size);
        let own = |image: &ImageSummary| image.size - image.shared_size.max(0);
        // Layers are shared, so the images' sizes do not add up.
        sum.total_size = lists.layers_size;
        let used: i64 = images.iter().filter(|image| image.containers > 0).map(own).sum();
        sum.reclaimable =
            if sum.active_count == sum.total_count { 0 } else { (lists.layers_size - used).max(0) };
        sum
    });
    let container_usage = lists.containers.as_ref().map(|containers| {
        let active = |container: &ContainerSummary| {
            matches!(container.state.as_str(), "running" | "paused" | "restarting")
        };
        summed(containers, verbose, active, |container| container.size_rw)
    });
    let volume_usage = lists.volumes.as_ref().map(|volumes| {
        let data = |volume: &Volume| volume.usage_data.clone().unwrap_or_default();
        summed(volumes, verbose, |volume| data(volume).ref_count > 0, |volume| data(volume).size.max(0))
    });
    let build_cache_usage = lists.build_cache.as_ref().map(|records| {
        let mut sum = summed(records, verbose, |record| record.in_use, |record| record.size);
        // What an image has too stays when the record goes.
        sum.reclaimable =
            records.iter().filter(|record| !record.in_use && !record.shared).map(|record| record.size).sum();
        sum
    });
    DiskUsage { lists: None, image_usage, container_usage, volume_usage, build_cache_usage }
}

fn summed<T: Clone>(
    items: &[T],
    verbose: bool,
    active: impl Fn(&T) -> bool,
    size: impl Fn(&T) -> i64,
) -> ObjectUsage<T> {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    ObjectUsage {
        active_count: count(items.iter().filter(|item| active(item)).count()),
        total_count: count(items.len()),
        reclaimable: items.iter().filter(|item| !active(item)).map(&size).sum(),
        total_size: items.iter().map(&size).sum(),
        items: verbose.then(|| items.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: i64, shared_size: i64, containers: i64) -> ImageSummary {
        ImageSummary { size, shared_size, containers, ..ImageSummary::default() }
    }

    fn volume(size: i64, ref_count: i64) -> Volume {
        Volume { usage_data: Some(VolumeUsage { ref_count, size }), ..Volume::default() }
    }

    #[test]
    fn what_is_unused_is_reclaimable_and_shared_layers_count_once() {
        let lists = ObjectLists {
            layers_size: 100,
            images: Some(vec![image(70, 30, 2), image(60, 30, 0)]),
            volumes: Some(vec![volume(5, 1), volume(7, 0), volume(-1, 0)]),
            ..ObjectLists::default()
        };
        let usage = summed_up(&lists, false);
        let images = usage.image_usage.unwrap();
        assert_eq!((images.active_count, images.total_count), (1, 2));
        assert_eq!((images.total_size, images.reclaimable, images.items), (100, 60, None));
        let volumes = usage.volume_usage.unwrap();
        assert_eq!((volumes.active_count, volumes.total_count), (1, 3));
        assert_eq!((volumes.total_size, volumes.reclaimable), (12, 7));
        assert_eq!(usage.container_usage, None, "what was not asked for is not told");
    }

    #[test]
    fn the_objects_are_told_when_asked_for() {
        let lists = ObjectLists { volumes: Some(vec![volume(5, 1)]), ..ObjectLists::default() };
        let usage = summed_up(&lists, true);
        assert_eq!(usage.volume_usage.unwrap().items.unwrap().len(), 1);
    }

    #[test]
    fn older_versions_have_lists_and_newer_ones_sums() {
        for (minor, verbose, lists, sums) in [
            (51, false, true, false),
            (51, true, true, false),
            (52, false, true, true),
            (52, true, false, true),
            (53, false, false, true),
        ] {
            let all = ObjectLists { volumes: Some(vec![volume(5, 1)]), ..ObjectLists::default() };
            let usage = in_version(all, ApiVersion::new(1, minor), verbose);
            assert_eq!((usage.lists.is_some(), usage.volume_usage.is_some()), (lists, sums), "1.{minor}");
        }
    }
}
