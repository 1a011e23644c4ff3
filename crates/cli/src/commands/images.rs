//! Commands on images.

use coracle_api::image::{HistoryItem, ImageSummary};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{
    App, Code, build, done, for_each_that_exists, inspect, moving, print, prune, pull, reclaim, registries,
    transfer, tree,
};
use crate::args::image::{HistoryArgs, ImageCommand, ImagesArgs, RemoveArgs, TagArgs, TopLevelCommand};
use crate::error::Result;
use crate::render::listing::{Layout, Row, ellipsis, short_id};
use crate::render::units;
use crate::resolve::image_name::ImageName;
use crate::resolve::{pairs, platform};

const NONE: &str = "<none>";

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const LAYOUT: Layout =
    Layout { table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}", headers: HEADERS };

const LAYOUT_WITH_DIGESTS: Layout = Layout {
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    headers: HEADERS,
};

const HISTORY_HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

const HISTORY: Layout = Layout {
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headers: HISTORY_HEADERS,
};

const HISTORY_FOR_PROGRAMS: Layout = Layout {
    table: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headers: HISTORY_HEADERS,
};

pub(super) async fn dispatch_top_level(app: &App, command: TopLevelCommand) -> Code {
    match command {
        TopLevelCommand::Build(args) => build::build(app, *args).await.map(done),
        TopLevelCommand::Images(args) => list(app, args).await.map(done),
        TopLevelCommand::Import(args) => transfer::import(app, args).await.map(done),
        TopLevelCommand::Load(args) => transfer::load(app, args).await.map(done),
        TopLevelCommand::Save(args) => transfer::save(app, args).await.map(done),
        TopLevelCommand::Tag(args) => tag(app, args).await.map(done),
        TopLevelCommand::Rmi(args) => remove(app, args).await.map(done),
        TopLevelCommand::History(args) => history(app, args).await.map(done),
        TopLevelCommand::Pull(args) => pull::pull(app, args).await.map(done),
        TopLevelCommand::Push(args) => registries::push(app, args).await.map(done),
        TopLevelCommand::Inspect(args) => inspect::any(app, args).await.map(done),
    }
}

pub(super) async fn dispatch(app: &App, command: ImageCommand) -> Code {
    match command {
        ImageCommand::Build(args) => build::build(app, *args).await.map(done),
        ImageCommand::Ls(args) => list(app, args).await.map(done),
        ImageCommand::Import(args) => transfer::import(app, args).await.map(done),
        ImageCommand::Load(args) => transfer::load(app, args).await.map(done),
        ImageCommand::Save(args) => transfer::save(app, args).await.map(done),
        ImageCommand::Tag(args) => tag(app, args).await.map(done),
        ImageCommand::Rm(args) => remove(app, args).await.map(done),
        ImageCommand::History(args) => history(app, args).await.map(done),
        ImageCommand::Pull(args) => pull::pull(app, args).await.map(done),
        ImageCommand::Push(args) => registries::push(app, args).await.map(done),
        ImageCommand::Send(args) => moving::send(app, args).await.map(done),
        ImageCommand::Receive => moving::receive(app).await.map(done),
        ImageCommand::Inspect(args) => inspect::images(app, args).await.map(done),
        ImageCommand::Pin(args) => reclaim::pin(app, args).await.map(done),
        ImageCommand::Prune(args) => prune::images(app, args).await.map(done),
        ImageCommand::Unpin(args) => reclaim::unpin(app, args).await.map(done),
    }
}

async fn list(app: &App, args: ImagesArgs) -> Result<()> {
    let mut filters = pairs::filters(&args.list.filter)?;
    if let Some(repository) = &args.repository {
        filters.add("reference", repository);
    }
    if args.tree {
        return tree::list(app, &args, &filters).await;
    }
    let images = app.client().await?.images(args.all, args.digests, &filters).await?;
    let short = !args.list.no_trunc;
    let format = app.format(args.list.format.as_deref(), "imagesFormat");
    let digests = args.digests || format.is_some_and(|format| format.contains(".Digest"));
    let rows = images.iter().flat_map(|image| rows(image, digests, short));
    let layout = if args.digests { &LAYOUT_WITH_DIGESTS } else { &LAYOUT };
    if !args.list.quiet {
        return print(layout.render(format, rows)?);
    }
    print(layout.render(Some("{{.ID}}"), rows)?)
}

/// A row for each name of an image; with digests, for each digest of a name too.
pub(super) fn rows(image: &ImageSummary, digests: bool, short: bool) -> Vec<Row> {
    let names = names(image, digests);
    names.into_iter().map(|(repository, tag, digest)| row(image, &repository, &tag, &digest, short)).collect()
}

fn names(image: &ImageSummary, digests: bool) -> Vec<(String, String, String)> {
    let split = |text: &String| {
        let name = ImageName::parse(text);
        (name.repository, name.tag, name.digest)
    };
    let tagged: Vec<_> =
        image.repo_tags.iter().map(split).filter(|(repository, ..)| repository != NONE).collect();
    let by_digest: Vec<_> =
        image.repo_digests.iter().map(split).filter(|(repository, ..)| repository != NONE).collect();
    let digest_of = |repository: &str| {
        let found = by_digest.iter().find(|(name, ..)| name == repository);
        found.filter(|_| digests).and_then(|(.., digest)| digest.clone()).unwrap_or_else(|| NONE.into())
    };
    let mut names: Vec<(String, String, String)> = tagged
        .iter()
        .map(|(name, tag, _)| (name.clone(), tag.clone().unwrap_or_else(|| NONE.into()), digest_of(name)))
        .collect();
    for (name, _, digest) in &by_digest {
        let listed = tagged.iter().any(|(tagged, ..)| tagged == name);
        if !listed && (digests || names.is_empty()) {
            let digest = digest.clone().filter(|_| digests).unwrap_or_else(|| NONE.into());
            names.push((name.clone(), NONE.into(), digest));
        }
    }
    if names.is_empty() {
        names.push((NONE.into(), NONE.into(), NONE.into()));
    }
    names
}

fn row(image: &ImageSummary, repository: &str, tag: &str, digest: &str, short: bool) -> Row {
    let counted = |value: i64| if value < 0 { "N/A".to_owned() } else { value.to_string() };
    let measured = |value: i64| if value < 0 { "N/A".to_owned() } else { units::size(value) };
    let unique = if image.shared_size < 0 { -1 } else { image.size - image.shared_size };
    Row::default()
        .with("ID", if short { short_id(&image.id) } else { &image.id })
        .with("Repository", repository)
        .with("Tag", tag)
        .with("Digest", digest)
        .with("CreatedSince", units::ago(image.created))
        .with("CreatedAt", units::timestamp(image.created))
        .with("Size", units::short_size(image.size))
        .with("Containers", counted(image.containers))
        .with("VirtualSize", units::size(image.size))
        .with("SharedSize", measured(image.shared_size))
        .with("UniqueSize", measured(unique))
}

async fn tag(app: &App, args: TagArgs) -> Result<()> {
    let target = ImageName::parse(&args.target);
    Ok(app.client().await?.tag_image(&args.source, &target.repository, target.reference()).await?)
}

async fn remove(app: &App, args: RemoveArgs) -> Result<()> {
    let client = &app.client().await?;
    let platforms = &platform::documents(&args.platform);
    let remove = async |name: String| {
        let removed = client.remove_image(&name, args.force, args.no_prune, platforms).await?;
        let lines = removed.iter().map(|item| match item.deleted.as_str() {
            "" => format!("Untagged: {}", item.untagged),
            id => format!("Deleted: {id}"),
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    };
    match args.force {
        true => for_each_that_exists(&args.names, remove).await,
        false => super::for_each(&args.names, remove).await,
    }
}

async fn history(app: &App, args: HistoryArgs) -> Result<()> {
    let wanted = args.platform.as_ref().map(platform::document);
    let items = app.client().await?.image_history(&args.name, wanted.as_deref()).await?;
    let rows: Vec<Row> = items.iter().map(|item| history_row(item, &args)).collect();
    let format = if args.quiet { Some("{{.ID}}") } else { args.format.as_deref() };
    let layout = if args.human { &HISTORY } else { &HISTORY_FOR_PROGRAMS };
    print(layout.render(format, rows)?)
}

fn history_row(item: &HistoryItem, args: &HistoryArgs) -> Row {
    let short = !args.no_trunc;
    let created_at =
        OffsetDateTime::from_unix_timestamp(item.created).ok().and_then(|at| at.format(&Rfc3339).ok());
    let created_at = created_at.unwrap_or_else(|| item.created.to_string());
    let created_by = item.created_by.replace('\t', " ");
    Row::default()
        .with("ID", if short { short_id(&item.id) } else { &item.id })
        .with("CreatedSince", if args.human { units::ago(item.created) } else { created_at.clone() })
        .with("CreatedAt", created_at)
        .with("CreatedBy", if short { ellipsis(&created_by, 45) } else { created_by })
        .with("Size", if args.human { units::short_size(item.size) } else { item.size.to_string() })
        .with("Comment", item.comment.as_str())
}
