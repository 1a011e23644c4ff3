//! `volume save`, `load` and `clone`: what Docker has no commands for.

use coracle_api::Query;
use coracle_api::volume::VolumeCreateRequest;

use super::transfer::{Destination, archive_of};
use super::{App, print_line};
use crate::args::volume::{VolumeCloneArgs, VolumeLoadArgs, VolumeSaveArgs, WritersArgs};
use crate::error::Result;
use crate::resolve::pairs;

pub(super) async fn save(app: &App, args: VolumeSaveArgs) -> Result<()> {
    let destination = Destination::choose(args.output.as_deref(), "volume")?;
    let body = app.client().await?.save_volume(&args.name, writers(&args.writers)).await?;
    destination.receive(body).await
}

pub(super) async fn load(app: &App, args: VolumeLoadArgs) -> Result<()> {
    let archive = archive_of(args.input.as_deref()).await?;
    let query = Query::new().with_some("name", args.name);
    let query = args.label.iter().fold(query, |query, pair| query.with("label", pair));
    let query = args.opt.iter().fold(query, |query, pair| query.with("opt", pair));
    print_line(app.client().await?.load_volume(query, archive).await?.name)
}

pub(super) async fn clone(app: &App, args: VolumeCloneArgs) -> Result<()> {
    let request = VolumeCreateRequest {
        name: args.target.unwrap_or_default(),
        driver: String::new(),
        driver_opts: Some(pairs::map(&args.opt)),
        labels: Some(pairs::map(&args.label)),
    };
    let client = app.client().await?;
    print_line(client.copy_volume(&args.source, writers(&args.writers), &request).await?.name)
}

/// As the engine calls it.
fn writers(args: &WritersArgs) -> &'static str {
    match (args.pause, args.live) {
        (true, _) => "pause",
        (_, true) => "live",
        _ => "",
    }
}
