//! Commands on the engine: `events`, `df`, and where the others are.

use coracle_api::container::ContainerSummary;
use coracle_api::system::{DiskUsage, Event};
use serde_json::Value;

use super::logs::instant;
use super::{App, Code, check, dial, done, images, info, print, prune, ps, reclaim, volumes};
use crate::args::system::{DfArgs, EventsArgs, SystemCommand, TopLevelCommand};
use crate::error::Result;
use crate::render::listing::{Layout, Row};
use crate::render::units;
use crate::resolve::pairs;
use crate::template::Template;

pub(super) async fn dispatch_top_level(app: &App, command: TopLevelCommand) -> Code {
    match command {
        TopLevelCommand::Version(args) => info::version(app, args).await.map(done),
        TopLevelCommand::Info(args) => info::info(app, args).await.map(done),
        TopLevelCommand::Events(args) => events(app, args).await.map(done),
    }
}

pub(super) async fn dispatch(app: &App, command: SystemCommand) -> Code {
    match command {
        SystemCommand::Check(args) => check::check(app, args).await,
        SystemCommand::DialStdio => dial::dial(app).await.map(done),
        SystemCommand::Df(args) => disk_usage(app, args).await.map(done),
        SystemCommand::Events(args) => events(app, args).await.map(done),
        SystemCommand::Info(args) => info::info(app, args).await.map(done),
        SystemCommand::Prune(args) => prune::system(app, args).await.map(done),
        SystemCommand::Reclaim(args) => reclaim::reclaim(app, args).await.map(done),
    }
}

async fn events(app: &App, args: EventsArgs) -> Result<()> {
    let format = EventFormat::parse(args.format.as_deref())?;
    let filters = pairs::filters(&args.filter)?;
    let since = args.since.as_deref().map(|text| instant(Some(text), "since")).transpose()?;
    let until = args.until.as_deref().map(|text| instant(Some(text), "until")).transpose()?;
    let mut events = app.client().await?.events(since.as_deref(), until.as_deref(), &filters).await?;
    while let Some(event) = events.next().await? {
        print(format.line(&event)?)?;
    }
    Ok(())
}

enum EventFormat {
    People,
    Json,
    Template(Template),
}

impl EventFormat {
    fn parse(format: Option<&str>) -> Result<Self> {
        Ok(match format {
            None | Some("") => Self::People,
            Some("json") => Self::Json,
            Some(template) => Self::Template(Template::parse(template)?),
        })
    }

    fn line(&self, event: &Event) -> Result<String> {
        let value = || serde_json::to_value(event).expect("wire types hold nothing that JSON cannot");
        Ok(match self {
            Self::People => sentence(event),
            Self::Json => format!("{}\n", value()),
            Self::Template(template) => template.render(&for_template(event, value()))? + "\n",
        })
    }
}

/// `TIME TYPE ACTION ID (attribute=value, …)`
fn sentence(event: &Event) -> String {
    let attributes = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}"));
    let attributes = attributes.collect::<Vec<_>>().join(", ");
    let attributes = if attributes.is_empty() { attributes } else { format!(" ({attributes})") };
    let at = units::nanosecond_timestamp(event.time_nano);
    format!("{at} {} {} {}{attributes}\n", event.kind, event.action, event.actor.id)
}

/// Templates name the fields as Go's structure does.
fn for_template(event: &Event, value: Value) -> Value {
    let Value::Object(mut fields) = value else { return value };
    let named = [
        ("Status", Value::from(event.action.as_str())),
        ("ID", event.actor.id.as_str().into()),
        ("From", event.actor.attributes.get("image").cloned().unwrap_or_default().into()),
        ("Scope", event.scope.as_str().into()),
        ("Time", event.time.into()),
        ("TimeNano", event.time_nano.into()),
    ];
    fields.extend(named.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(fields)
}

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

async fn disk_usage(app: &App, args: DfArgs) -> Result<()> {
    let usage = app.client().await?.disk_usage().await?;
    if args.verbose && args.format.is_none() {
        return print(verbose(&usage)?);
    }
    let rows = [image_line(&usage), container_line(&usage), volume_line(&usage), cache_line(&usage)];
    print(SUMMARY.render(args.format.as_deref(), &rows)?)
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

fn image_line(usage: &DiskUsage) -> Row {
    let images = usage.images.as_deref().unwrap_or_default();
    let used: Vec<_> = images.iter().filter(|image| image.containers > 0).collect();
    let used_bytes: i64 = used.iter().map(|image| image.size - image.shared_size.max(0)).sum();
    // Layers shared with used images stay, and are not known here: the images' own bytes are a lower bound.
    let reclaimable = (usage.layers_size - used_bytes).max(0);
    let reclaimable = if used.len() == images.len() { 0 } else { reclaimable };
    line("Images", images.len(), used.len(), usage.layers_size, share(reclaimable, usage.layers_size))
}

fn container_line(usage: &DiskUsage) -> Row {
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

fn volume_line(usage: &DiskUsage) -> Row {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let used = |count: i64| {
        let wanted = volumes.iter().filter_map(|volume| volume.usage_data.as_ref());
        wanted.filter(move |usage| (usage.ref_count > 0) == (count > 0)).map(|usage| usage.size.max(0))
    };
    let size: i64 = used(1).sum::<i64>() + used(0).sum::<i64>();
    line("Local Volumes", volumes.len(), used(1).count(), size, share(used(0).sum(), size))
}

fn cache_line(usage: &DiskUsage) -> Row {
    let records = usage.build_cache.as_deref().unwrap_or_default();
    let total: i64 = records.iter().map(|record| record.size).sum();
    let idle = records.iter().filter(|record| !record.in_use && !record.shared);
    let idle: i64 = idle.map(|record| record.size).sum();
    let active = records.iter().filter(|record| record.in_use).count();
    line("Build Cache", records.len(), active, total, units::size(idle))
}

fn verbose(usage: &DiskUsage) -> Result<String> {
    const HEADERS: &[(&str, &str)] = &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
        ("Name", "VOLUME NAME"),
        ("Links", "LINKS"),
    ];
    let section = |title: &str, table: &'static str, rows: Vec<Row>| -> Result<String> {
        Ok(format!("{title} space usage:\n\n{}\n", Layout { table, headers: HEADERS }.render(None, &rows)?))
    };
    let images = usage.images.iter().flatten().flat_map(|image| images::rows(image, false, true)).collect();
    let containers = usage.containers.iter().flatten().map(|container| ps::row(container, true)).collect();
    let volumes = usage.volumes.iter().flatten().map(volumes::row).collect();
    Ok([
        section(
            "Images",
            "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
            images,
        )?,
        section(
            "Containers",
            "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
            containers,
        )?,
        section("Local Volumes", "{{.Name}}\t{{.Links}}\t{{.Size}}", volumes)?,
    ]
    .concat())
}
