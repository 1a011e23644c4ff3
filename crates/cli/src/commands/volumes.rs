//! Commands on volumes.

use coracle_api::volume::{Volume, VolumeCreateRequest};

use super::{App, Code, done, for_each, inspect, print, print_line, prune, volume_copies};
use crate::args::volume::{VolumeCommand, VolumeCreateArgs, VolumeListArgs, VolumeRemoveArgs};
use crate::error::Result;
use crate::render::listing::{Layout, Row};
use crate::render::units;
use crate::resolve::pairs;

const LAYOUT: Layout = Layout {
    table: "{{.Driver}}\t{{.Name}}",
    headers: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
};

pub(super) async fn dispatch(app: &App, command: VolumeCommand) -> Code {
    match command {
        VolumeCommand::Create(args) => create(app, args).await.map(done),
        VolumeCommand::Ls(args) => list(app, args).await.map(done),
        VolumeCommand::Inspect(args) => inspect::of_kind(app, args, inspect::Kind::Volume).await.map(done),
        VolumeCommand::Rm(args) => remove(app, args).await.map(done),
        VolumeCommand::Prune(args) => prune::volumes(app, args).await.map(done),
        VolumeCommand::Save(args) => volume_copies::save(app, args).await.map(done),
        VolumeCommand::Load(args) => volume_copies::load(app, args).await.map(done),
        VolumeCommand::Clone(args) => volume_copies::clone(app, args).await.map(done),
    }
}

async fn create(app: &App, args: VolumeCreateArgs) -> Result<()> {
    let request = VolumeCreateRequest {
        name: args.name.unwrap_or_default(),
        driver: args.driver,
        driver_opts: Some(pairs::map(&args.opt)),
        labels: Some(pairs::map(&args.label)),
    };
    print_line(app.client().await?.create_volume(&request).await?.name)
}

async fn list(app: &App, args: VolumeListArgs) -> Result<()> {
    let filters = pairs::filters(&args.filter)?;
    let list = app.client().await?.volumes(&filters).await?;
    let mut volumes = list.volumes.unwrap_or_default();
    volumes.sort_by(|left, right| left.name.cmp(&right.name));
    let rows: Vec<Row> = volumes.iter().map(row).collect();
    let format =
        if args.quiet { Some("{{.Name}}") } else { app.format(args.format.as_deref(), "volumesFormat") };
    print(LAYOUT.render(format, rows)?)
}

pub(super) fn row(volume: &Volume) -> Row {
    let usage = volume.usage_data.as_ref();
    let counted = |value: Option<i64>, show: fn(i64) -> String| match value {
        Some(value) if value >= 0 => show(value),
        _ => "N/A".to_owned(),
    };
    let labels = volume.labels.clone().unwrap_or_default();
    Row::default()
        .with("Driver", volume.driver.as_str())
        .with("Name", volume.name.as_str())
        .with("Scope", volume.scope.as_str())
        .with("Mountpoint", volume.mountpoint.as_str())
        .with_labels(&labels)
        .with("Links", counted(usage.map(|usage| usage.ref_count), |count| count.to_string()))
        .with("Size", counted(usage.map(|usage| usage.size), units::size))
        .with("Availability", "N/A")
        .with("Group", "N/A")
        .with("Status", "N/A")
}

async fn remove(app: &App, args: VolumeRemoveArgs) -> Result<()> {
    let client = &app.client().await?;
    for_each(&args.names, async |name: String| {
        client.remove_volume(&name, args.force).await?;
        Ok(name)
    })
    .await
}
