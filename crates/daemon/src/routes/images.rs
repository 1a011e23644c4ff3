//! `/images/…` and `/commit`

use super::containers::{earliest_until, filters, label_choice, truth, until};
use super::streams;
use super::{json_line, registries};
use crate::answer::{self, Answer};
use crate::convert::{image, platform, settings, time};
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use bytes::Bytes;
use coracle_api::container as wire;
use coracle_api::{ApiVersion, ProgressMessage, image as api};
use coracle_engine::images::{
    BodyWriter, CommitRequest, ImageFilter, ImportRequest, PruneRequest, RemoveOptions,
};
use coracle_engine::{Error, Progress};
use coracle_spec::{Digest, Platform, Reference, Tag};
use hyper::{Method, StatusCode};
use std::io;

pub(super) async fn route(call: Call, rest: &[&str]) -> Answer {
    let method = call.request.method().clone();
    match (&method, rest) {
        (&Method::GET, ["json"]) => list(&call).await,
        (&Method::GET, ["get"]) => {
            let names: Vec<String> = call.query.all("names").map(str::to_owned).collect();
            save(&call, names).await
        }
        (&Method::GET, ["search"]) => registries::search(&call).await,
        (&Method::POST, ["create"]) => create(call).await,
        (&Method::POST, ["load"]) => load(call).await,
        (&Method::POST, ["prune"]) => prune(&call).await,
        (&Method::GET, [name @ .., "json"]) => inspect(&call, &name.join("/")).await,
        (&Method::GET, [name @ .., "history"]) => {
            let platform = platform::one(&call, ApiVersion::new(1, 48))?;
            let steps = call.engine().images().history(&name.join("/"), platform).await?;
            answer::ok(&steps.iter().map(image::history).collect::<Vec<_>>())
        }
        (&Method::GET, [name @ .., "get"]) => save(&call, vec![name.join("/")]).await,
        (&Method::POST, [name @ .., "tag"]) => tag(&call, &name.join("/")).await,
        (&Method::POST, [name @ .., "push"]) => registries::push(&call, &name.join("/")).await,
        (&Method::DELETE, [_, ..]) => remove(&call, &rest.join("/")).await,
        _ => Err(super::not_found()),
    }
}

async fn inspect(call: &Call, name: &str) -> Answer {
    let platform = platform::one(call, ApiVersion::new(1, 49))?;
    let manifests = call.query.is_on("manifests") && call.version >= ApiVersion::new(1, 48);
    if manifests && platform.is_some() {
        return Err(Failure::invalid("conflicting options: manifests and platform cannot be used together"));
    }
    let images = call.engine().images();
    let found = images.resolve_for(name, platform.as_ref()).await?;
    let mut inspected = image::inspect(&found, call.version);
    inspected.metadata.last_used = images.last_used(&found.id).map(|at| time::write(Some(at)));
    if call.version >= ApiVersion::new(1, 48) {
        let target = images.target(name).await?;
        inspected.descriptor = image::descriptor(&target);
        if manifests {
            inspected.manifests = image::manifests(&target, &call.engine().list());
        }
    }
    answer::ok(&inspected)
}

async fn list(call: &Call) -> Answer {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&["dangling", "label", "before", "since", "reference", "until"]) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    let filter = ImageFilter {
        all: call.query.is_on("all"),
        dangling: truth(&filters, "dangling")?,
        references: filters.values("reference").map(str::to_owned).collect(),
        labels: label_choice(&filters).with,
        before: filters.values("before").next().map(str::to_owned),
        since: filters.values("since").next().map(str::to_owned),
        until: earliest_until(&filters)?,
    };
    let found = call.engine().images().list(&filter)?;
    let mut rows: Vec<_> = found.iter().map(|summary| image::summary(summary, call.version)).collect();
    if call.query.is_on("shared-size") {
        let usage = call.engine().images().usage()?;
        for row in &mut rows {
            let known = usage.images.iter().find(|image| image.id.to_string() == row.id);
            row.shared_size = known.map_or(-1, |image| i64::try_from(image.shared_size).unwrap_or(i64::MAX));
        }
    }
    if call.version >= ApiVersion::new(1, 51) {
        let containers = call.engine().list();
        for row in &mut rows {
            let variants = found.iter().find(|summary| summary.id.to_string() == row.id);
            let is_meant = |id: &Digest| variants.is_some_and(|summary| summary.variants.contains(id));
            let users = containers.iter().filter(|container| is_meant(&container.image));
            row.containers = i64::try_from(users.count()).unwrap_or(0);
        }
    }
    if call.query.is_on("manifests") && call.version >= ApiVersion::new(1, 47) {
        let ids = found.iter().map(|summary| summary.id).collect();
        let targets = call.engine().images().targets(ids).await?;
        let containers = call.engine().list();
        for (row, summary) in rows.iter_mut().zip(&found) {
            let Some(target) = targets.get(&summary.id) else { continue };
            row.manifests = image::manifests(target, &containers);
            row.descriptor = image::descriptor(target).filter(|_| call.version >= ApiVersion::new(1, 48));
        }
    }
    answer::ok(&rows)
}

/// A name with a tag that stands apart, as several endpoints have it; nothing for an image without a name.
pub(crate) fn reference(name: Option<&str>, tag: Option<&str>) -> Result<Option<Reference>, Failure> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let invalid = |_| Failure::invalid("invalid reference format");
    let reference: Reference = name.parse().map_err(invalid)?;
    let reference = match tag.filter(|tag| !tag.is_empty()) {
        Some(tag) => reference.with_tag(tag.parse::<Tag>().map_err(invalid)?),
        None => reference.or_latest(),
    };
    Ok(Some(reference))
}

/// Whole names of an image, each once.
pub(crate) fn references<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Reference>, Failure> {
    let mut references = Vec::new();
    for name in names {
        references.extend(reference(Some(name), None)?.filter(|name| !references.contains(name)));
    }
    Ok(references)
}

async fn tag(call: &Call, name: &str) -> Answer {
    let reference = reference(call.query.get("repo"), call.query.get("tag"))?;
    let reference =
        reference.ok_or_else(|| Failure::invalid("invalid reference format: no name was given"))?;
    call.engine().images().tag(name, reference).await?;
    answer::empty(StatusCode::CREATED)
}

async fn remove(call: &Call, name: &str) -> Answer {
    let options =
        RemoveOptions { force: call.query.is_on("force"), keep_parents: call.query.is_on("noprune") };
    let platforms = platform::all(call, "platforms", ApiVersion::new(1, 50))?;
    let (images, users) = (call.engine().images(), call.engine().image_users());
    let deleted = if platforms.is_empty() {
        images.remove(name, options, users).await?
    } else {
        images.remove_platforms(name, platforms, options, users).await?
    };
    call.engine().tidy_soon();
    answer::ok(&deleted.iter().map(image::deleted).collect::<Vec<_>>())
}

async fn prune(call: &Call) -> Answer {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&["dangling", "until", "label", "label!"]) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    let request = PruneRequest {
        // Only images without a name are meant, unless the client says otherwise.
        all: truth(&filters, "dangling")? == Some(false),
        until: until(&filters)?,
        labels: label_choice(&filters),
    };
    let pruned = call.engine().images().prune(request, call.engine().image_users()).await?;
    call.engine().tidy_soon();
    let deleted = pruned.deleted.iter().map(image::deleted).collect();
    answer::ok(&api::PruneResponse { images_deleted: Some(deleted), space_reclaimed: pruned.bytes })
}

/// Import or pull.
async fn create(call: Call) -> Answer {
    if let Some(image) = call.query.get("fromImage") {
        return registries::pull(&call, image).await;
    }
    let platform = call.query.get("platform").filter(|text| !text.is_empty());
    let platform = platform.map(str::parse::<Platform>).transpose();
    let request = ImportRequest {
        reference: reference(call.query.get("repo"), call.query.get("tag"))?,
        message: call.query.get("message").unwrap_or_default().to_owned(),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        platform: platform.map_err(|error| Failure::invalid(error.to_string()))?,
    };
    match call.query.get("fromSrc") {
        Some("-") => {}
        None | Some("") => {
            return Err(Failure::invalid("neither fromImage nor fromSrc says what is to be created"));
        }
        Some(address) => return registries::import(&call, address.to_owned(), request).await,
    }
    let context = call.context;
    let id = context.engine.images().import(input::reader(call.request), request).await?;
    let line = ProgressMessage { status: id.to_string(), ..ProgressMessage::default() };
    Ok(answer::stream(
        "application/json",
        futures_util::stream::once(std::future::ready(Ok(json_line(&line)))),
    ))
}

/// The platforms that an archive is to hold: one since API 1.48, several since 1.52.
fn archive_platforms(call: &Call) -> Result<Vec<Platform>, Failure> {
    let platforms = platform::all(call, "platform", ApiVersion::new(1, 48))?;
    if platforms.len() > 1 && call.version < ApiVersion::new(1, 52) {
        return Err(Failure::invalid("multiple platform parameters are supported since API version 1.52"));
    }
    Ok(platforms)
}

/// Nothing is told of the way, only of the end.
struct Quiet;

impl Progress for Quiet {
    fn advanced(&mut self, _: &str, _: u64, _: u64) {}
}

async fn load(call: Call) -> Answer {
    let platforms = archive_platforms(&call)?;
    let context = call.context;
    let loaded = match context.engine.images().load(input::reader(call.request), platforms, Quiet).await {
        Ok(loaded) => loaded,
        // As with Docker, whose clients look for it there.
        Err(error) => {
            let line = json_line(&ProgressMessage::failure(Failure::from(error).message));
            return Ok(answer::stream("application/json", futures_util::stream::iter([Ok(line)])));
        }
    };
    let mut lines = Vec::new();
    for image in &loaded {
        for (reference, before) in &image.moved {
            let text = format!(
                "The image {} already exists, renaming the old one with ID {before} to empty string\n",
                reference.familiar()
            );
            lines.push(ProgressMessage::stream(text));
        }
        for reference in &image.references {
            lines.push(ProgressMessage::stream(format!("Loaded image: {}\n", reference.familiar())));
        }
        if image.references.is_empty() {
            lines.push(ProgressMessage::stream(format!("Loaded image ID: {}\n", image.id)));
        }
    }
    let lines: Vec<io::Result<Bytes>> = lines.iter().map(|line| Ok(json_line(line))).collect();
    Ok(answer::stream("application/json", futures_util::stream::iter(lines)))
}

async fn save(call: &Call, names: Vec<String>) -> Answer {
    let platforms = archive_platforms(call)?;
    // Ours: what these images have is left out.
    let since: Vec<String> = call.query.all("since").map(str::to_owned).collect();
    let saving = call.engine().images().save_since(names, platforms, since).await?;
    let (writer, receiver) = BodyWriter::channel();
    Ok(streams::archive(receiver, tokio::spawn(saving.write(writer))))
}

/// `POST /commit`
pub(super) async fn commit(call: Call) -> Answer {
    let (context, query) = (call.context, call.query);
    let config: wire::Config = input::document(call.request).await?;
    let name = query.get("container").unwrap_or_default();
    let container = context.engine.inspect(name)?;
    let changes =
        query.all("changes").flat_map(str::lines).map(str::to_owned).filter(|line| !line.is_empty());
    let request = CommitRequest {
        container: container.as_ref().clone(),
        reference: reference(query.get("repo"), query.get("tag"))?,
        author: query.get("author").unwrap_or_default().to_owned(),
        comment: query.get("comment").unwrap_or_default().to_owned(),
        changes: changes.collect(),
        settings: (config != wire::Config::default()).then(|| settings::config(config)),
    };
    let id = context.engine.commit(name, query.is_on_or_absent("pause"), request).await;
    let id = id.map_err(|error: Error| Failure::from(error))?;
    answer::json(StatusCode::CREATED, &wire::CommitResponse { id: id.to_string() })
}
