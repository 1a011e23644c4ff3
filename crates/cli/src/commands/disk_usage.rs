//! `system df`: who uses how much disk.

use coracle_api::container::ContainerSummary;
use coracle_api::system::{BuildCache, ObjectLists};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{App, images, print, ps, volumes};
use crate::args::system::DfArgs;
use crate::error::Result;
use crate::render::listing::{Layout, Row, ellipsis, short_id};
use crate::render::units;
use crate::template::{Object, Template, Value};

const SUMMARY: Layout = Layout {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

pub(super) async fn disk_usage(app: &App, args: DfArgs) -> Result<()> {
    let usage = app.client().await?.disk_usage().await?;
    if args.verbose {
        return print(verbose(&usage, args.format.as_deref())?);
    }
    let rows = [image_line(&usage), container_line(&usage), volume_line(&usage), cache_line(&usage)];
    print(SUMMARY.render(args.format.as_deref(), rows)?)
}

fn line(kind: &str, total: usize, active: usize, size: i64, reclaimable: String) -> Row {
    Row::default()
        .with("Type", kind)
        .with("TotalCount", total.to_string())
        .with("Active", active.to_string())
        .with("Size", units::size(size))
        .with("Reclaimable", reclaimable)
}

/// `1.2MB (50%)`; without a percentage when there is nothing.
fn share(part: i64, whole: i64) -> String {
    match part.saturating_mul(100).checked_div(whole) {
        Some(percent) => format!("{} ({percent}%)", units::size(part)),
        None => units::size(part),
    }
}

fn image_line(usage: &ObjectLists) -> Row {
    let images = usage.images.as_deref().unwrap_or_default();
    let used: Vec<_> = images.iter().filter(|image| image.containers > 0).collect();
    let used_bytes: i64 = used.iter().map(|image| image.size - image.shared_size.max(0)).sum();
    // Layers shared with used images stay, and are not known here: the images' own bytes are a lower bound.
    let reclaimable = (usage.layers_size - used_bytes).max(0);
    let reclaimable = if used.len() == images.len() { 0 } else { reclaimable };
    line("Images", images.len(), used.len(), usage.layers_size, share(reclaimable, usage.layers_size))
}

fn container_line(usage: &ObjectLists) -> Row {
    let containers = usage.containers.as_deref().unwrap_or_default();
    let active = |container: &&ContainerSummary| {
        let state = container.state.as_str();
        ["running", "paused", "restarting"].contains(&state)
    };
    let size: i64 = containers.iter().map(|container| container.size_rw).sum();
    let idle: i64 =
        containers.iter().filter(|container| !active(container)).map(|container| container.size_rw).sum();
    line("Containers", containers.len(), containers.iter().filter(active).count(), size, share(idle, size))
}

fn volume_line(usage: &ObjectLists) -> Row {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let used = |count: i64| {
        let wanted = volumes.iter().filter_map(|volume| volume.usage_data.as_ref());
        wanted.filter(move |usage| (usage.ref_count > 0) == (count > 0)).map(|usage| usage.size.max(0))
    };
    let size: i64 = used(1).sum::<i64>() + used(0).sum::<i64>();
    line("Local Volumes", volumes.len(), used(1).count(), size, share(used(0).sum(), size))
}

fn cache_line(usage: &ObjectLists) -> Row {
    let records = usage.build_cache.as_deref().unwrap_or_default();
    let total: i64 = records.iter().map(|record| record.size).sum();
    let idle = records.iter().filter(|record| !record.in_use && !record.shared);
    let idle: i64 = idle.map(|record| record.size).sum();
    let active = records.iter().filter(|record| record.in_use).count();
    line("Build Cache", records.len(), active, total, units::size(idle))
}

const IMAGES: Layout = Layout {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
};

const CONTAINERS: Layout = Layout {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
};

const VOLUMES: Layout = Layout {
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    headers: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
};

const CACHE: Layout = Layout {
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
};

/// Everything that takes room, one by one.
struct Details {
    images: Vec<Row>,
    containers: Vec<Row>,
    volumes: Vec<Row>,
    cache: Vec<Row>,
    cache_size: i64,
}

impl Details {
    fn of(usage: &ObjectLists, short: bool) -> Self {
        // An image is in the list once, whatever it is called.
        let image =
            |image| images::rows(image, false, short).into_iter().next().map(|row| row.with("Digest", ""));
        let mut records: Vec<&BuildCache> = usage.build_cache.iter().flatten().collect();
        // What was not used for longest stands first, as in Docker's list.
        records.sort_by_key(|record| (record.last_used_at.as_deref(), record.id.as_str()));
        Self {
            images: usage.images.iter().flatten().filter_map(image).collect(),
            containers: usage
                .containers
                .iter()
                .flatten()
                .map(|container| container_row(container, short))
                .collect(),
            volumes: usage.volumes.iter().flatten().map(volumes::row).collect(),
            cache: records.iter().map(|record| cache_row(record, short)).collect(),
            cache_size: records.iter().filter(|record| !record.shared).map(|record| record.size).sum(),
        }
    }

    fn text(self) -> Result<String> {
        Ok(format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
            IMAGES.render(None, self.images)?,
            CONTAINERS.render(None, self.containers)?,
            VOLUMES.render(None, self.volumes)?,
            units::size(self.cache_size),
            CACHE.render(None, self.cache)?,
        ))
    }

    fn into_value(self) -> Value {
        let rows = |rows: Vec<Row>| rows.into_iter().map(Row::into_value).collect::<Value>();
        let mut object = Object::default();
        object.set("Images", rows(self.images));
        object.set("Containers", rows(self.containers));
        object.set("Volumes", rows(self.volumes));
        object.set("BuildCache", rows(self.cache));
        object.into()
    }
}

fn verbose(usage: &ObjectLists, format: Option<&str>) -> Result<String> {
    match format.map(str::trim) {
        None | Some("" | "table") => Details::of(usage, true).text(),
        Some("json") => Ok(Details::of(usage, false).into_value().to_json() + "\n"),
        Some(format) => Ok(Template::parse(format)?.render(&Details::of(usage, false).into_value())?),
    }
}

/// Of a container only what is its own.
fn container_row(container: &ContainerSummary, short: bool) -> Row {
    ps::row(Row::default(), container, short).with("Size", units::short_size(container.size_rw))
}

fn cache_row(record: &BuildCache, short: bool) -> Row {
    let seconds = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp);
    let created = seconds(&record.created_at);
    let used = record.last_used_at.as_deref().and_then(seconds);
    let at = |seconds: Option<i64>| seconds.map(units::timestamp).unwrap_or_default();
    let since = |seconds: Option<i64>| seconds.map(units::ago).unwrap_or_default();
    Row::default()
        .with("ID", if short { short_id(&record.id) } else { &record.id })
        .with("Parent", record.parent.as_str())
        .with("CacheType", record.kind.as_str())
        .with(
            "Description",
            if short { ellipsis(&record.description, 45) } else { record.description.clone() },
        )
        .with("InUse", record.in_use.to_string())
        .with("Shared", record.shared.to_string())
        .with("Size", units::short_size(record.size))
        .with("CreatedAt", at(created))
        .with("CreatedSince", since(created))
        .with("LastUsedAt", at(used))
        .with("LastUsedSince", since(used))
        .with("UsageCount", record.usage_count.to_string())
}
