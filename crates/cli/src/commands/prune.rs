//! The `prune` commands.

use coracle_api::Filters;
use coracle_api::system::BuildPruneResponse;
use coracle_client::{BuildPrune, Client};

use super::{App, confirmed, print};
use crate::args::PruneArgs;
use crate::args::build::BuilderPruneArgs;
use crate::args::image::ImagePruneArgs;
use crate::args::system::SystemPruneArgs;
use crate::args::volume::VolumePruneArgs;
use crate::error::Result;
use crate::render::units;
use crate::resolve::{Invalid, pairs, size};

/// What was removed.
#[derive(Default)]
struct Removed {
    text: String,
    bytes: u64,
}

impl Removed {
    fn list(title: &str, names: Option<Vec<String>>, bytes: u64) -> Self {
        let names = names.unwrap_or_default();
        let text =
            if names.is_empty() { String::new() } else { format!("{title}:\n{}\n\n", names.join("\n")) };
        Self { text, bytes }
    }

    fn report(&self) -> String {
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        format!("{}Total reclaimed space: {}\n", self.text, units::size(bytes))
    }
}

pub(super) async fn containers(app: &App, args: PruneArgs) -> Result<()> {
    let filters = pairs::filters(&args.filter)?;
    if !args.force && !confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(());
    }
    print(remove_containers(&app.client().await?, &filters).await?.report())
}

async fn remove_containers(client: &Client, filters: &Filters) -> Result<Removed> {
    let removed = client.prune_containers(filters).await?;
    Ok(Removed::list("Deleted Containers", removed.containers_deleted, removed.space_reclaimed))
}

pub(super) async fn images(app: &App, args: ImagePruneArgs) -> Result<()> {
    let warning = if args.all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    let filters = image_filters(&args.prune.filter, args.all)?;
    if !args.prune.force && !confirmed(warning)? {
        return Ok(());
    }
    print(remove_images(&app.client().await?, &filters).await?.report())
}

fn image_filters(texts: &[String], all: bool) -> Result<Filters> {
    let mut filters = pairs::filters(texts)?;
    filters.add("dangling", if all { "false" } else { "true" });
    Ok(filters)
}

async fn remove_images(client: &Client, filters: &Filters) -> Result<Removed> {
    let removed = client.prune_images(filters).await?;
    let lines = removed.images_deleted.map(|list| {
        let line = |item: coracle_api::image::DeletedImage| match item.deleted.as_str() {
            "" => format!("untagged: {}", item.untagged),
            id => format!("deleted: {id}"),
        };
        list.into_iter().map(line).collect()
    });
    Ok(Removed::list("Deleted Images", lines, removed.space_reclaimed))
}

pub(super) async fn volumes(app: &App, args: VolumePruneArgs) -> Result<()> {
    let warning = if args.all {
        "WARNING! This will remove all local volumes not used by at least one container."
    } else {
        "WARNING! This will remove anonymous local volumes not used by at least one container."
    };
    let mut filters = pairs::filters(&args.prune.filter)?;
    if args.all {
        filters.add("all", "true");
    }
    if !args.prune.force && !confirmed(warning)? {
        return Ok(());
    }
    print(remove_volumes(&app.client().await?, &filters).await?.report())
}

async fn remove_volumes(client: &Client, filters: &Filters) -> Result<Removed> {
    let removed = client.prune_volumes(filters).await?;
    Ok(Removed::list("Deleted Volumes", removed.volumes_deleted, removed.space_reclaimed))
}

pub(super) async fn networks(app: &App, args: PruneArgs) -> Result<()> {
    let filters = pairs::filters(&args.filter)?;
    if !args.force
        && !confirmed("WARNING! This will remove all custom networks not used by at least one container.")?
    {
        return Ok(());
    }
    print(remove_networks(&app.client().await?, &filters).await?.text)
}

async fn remove_networks(client: &Client, filters: &Filters) -> Result<Removed> {
    Ok(Removed::list("Deleted Networks", client.prune_networks(filters).await?.networks_deleted, 0))
}

pub(super) async fn system(app: &App, args: SystemPruneArgs) -> Result<()> {
    let filters = pairs::filters(&args.prune.filter)?;
    let images = image_filters(&args.prune.filter, args.all)?;
    if args.volumes && filters.has("until") {
        return Err(
            Invalid("the filter until says nothing about volumes: leave --volumes out".to_owned()).into()
        );
    }
    if !args.prune.force && !confirmed(&warning(&args))? {
        return Ok(());
    }
    let client = app.client().await?;
    let mut parts =
        vec![remove_containers(&client, &filters).await?, remove_networks(&client, &filters).await?];
    if args.volumes {
        parts.push(remove_volumes(&client, &filters).await?);
    }
    parts.push(remove_images(&client, &images).await?);
    let cache = BuildPrune { all: args.all, filters: build_filters(&args.prune.filter)?, keep: None };
    parts.push(remove_build_cache(&client, &cache).await?);
    let text = parts.iter().map(|part| part.text.as_str()).collect();
    print(Removed { text, bytes: parts.iter().map(|part| part.bytes).sum() }.report())
}

pub(super) async fn builds(app: &App, args: BuilderPruneArgs) -> Result<()> {
    let warning = match args.all {
        false => "WARNING! This will remove all dangling build cache.",
        true => "WARNING! This will remove all build cache.",
    };
    let keep = args.keep_storage.as_deref().map(size::bytes).transpose()?;
    let wanted = BuildPrune { all: args.all, filters: pairs::filters(&args.filter)?, keep };
    if !args.force && !confirmed(warning)? {
        return Ok(());
    }
    print(app.client().await?.prune_build_cache(&wanted).await.map(of_cache)?.report())
}

/// What `system prune` filters by and builds know too: Docker leaves labels and the like out for them.
fn build_filters(texts: &[String]) -> Result<Filters> {
    let until: Vec<String> = texts.iter().filter(|text| text.starts_with("until=")).cloned().collect();
    Ok(pairs::filters(&until)?)
}

fn of_cache(removed: BuildPruneResponse) -> Removed {
    Removed::list("Deleted build cache objects", removed.caches_deleted, removed.space_reclaimed)
}

async fn remove_build_cache(client: &Client, wanted: &BuildPrune) -> Result<Removed> {
    match client.prune_build_cache(wanted).await {
        Ok(removed) => Ok(of_cache(removed)),
        // An engine without a build cache.
        Err(error) if error.is_not_found() => Ok(Removed::default()),
        Err(error) => Err(error.into()),
    }
}

fn warning(args: &SystemPruneArgs) -> String {
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if args.volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if args.all { "all build cache" } else { "unused build cache" });
    let lines: Vec<_> = lines.iter().map(|line| format!("  - {line}")).collect();
    format!("WARNING! This will remove:\n{}\n", lines.join("\n"))
}
