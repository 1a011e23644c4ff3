//! `/containers/…`

use super::streams;
use crate::answer::{self, Answer};
use crate::convert::update::Update;
use crate::convert::{container, listing, mounts, settings, time};
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use ::time::OffsetDateTime;
use coracle_api::container as api;
use coracle_api::{ApiVersion, Filters};
use coracle_engine::containers::settings::Settings;
use coracle_engine::containers::{Description, WaitCondition};
use coracle_engine::labels::LabelChoice;
use coracle_engine::{ChangeKind, Engine};
use coracle_spec::runtime::ConsoleSize;
use coracle_spec::{Digest, Platform};
use hyper::{Method, StatusCode};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

pub(super) async fn route(call: Call, rest: &[&str]) -> Answer {
    let method = call.request.method().clone();
    match (&method, rest) {
        (&Method::GET, ["json"]) => list(&call).await,
        (&Method::POST, ["create"]) => create(call).await,
        (&Method::POST, ["prune"]) => prune(&call).await,
        (&Method::DELETE, [name]) => remove(&call, name).await,
        (&Method::GET, [name, action]) => read(call, name, action).await,
        (&Method::POST, [name, action]) => change(call, name, action).await,
        (&Method::HEAD, [name, "archive"]) => super::archive::stat(&call, name).await,
        (&Method::PUT, [name, "archive"]) => super::archive::extract(call, name).await,
        (&Method::GET, [name, "attach", "ws"]) => super::attach::attach_by_websocket(call, name).await,
        // What a container calls another one: CONTAINER/ALIAS.
        (&Method::DELETE, [name, alias]) => remove(&call, &format!("{name}/{alias}")).await,
        (&Method::GET, [name, alias, action]) => read(call, &format!("{name}/{alias}"), action).await,
        (&Method::POST, [name, alias, action]) => change(call, &format!("{name}/{alias}"), action).await,
        _ => Err(super::not_found()),
    }
}

async fn read(call: Call, name: &str, action: &str) -> Answer {
    let engine = call.engine();
    match action {
        "json" => {
            let description = engine.inspect(name)?;
            let mut shown = container::inspect(engine, &description, call.version);
            if call.query.is_on("size") {
                let own = engine.size_of(&description).await?;
                shown.size_rw = Some(i64::try_from(own).unwrap_or(i64::MAX));
                let image = engine
                    .images()
                    .resolve(&description.image.to_string())
                    .await
                    .map_or(0, |image| image.size);
                shown.size_root_fs = Some(i64::try_from(image + own).unwrap_or(i64::MAX));
            }
            answer::ok(&shown)
        }
        "logs" => streams::logs(&call, name).await,
        "top" => {
            let top = engine.top(name, call.query.get("ps_args").unwrap_or("-ef")).await?;
            answer::ok(&api::TopResponse { titles: top.titles, processes: top.processes })
        }
        "changes" => changes(&call, name).await,
        "export" => streams::export(&call, name).await,
        "archive" => super::archive::archive(&call, name).await,
        "stats" => super::stats::stats(&call, name).await,
        _ => Err(super::not_found()),
    }
}

async fn change(call: Call, name: &str, action: &str) -> Answer {
    let query = call.query.clone();
    let engine = call.engine();
    let signal = query.get("signal");
    match action {
        "start" => start(&call, name).await,
        "stop" => answer::changed(engine.stop(name, seconds(&call)?, signal).await?),
        "restart" => {
            engine.restart(name, seconds(&call)?, signal).await?;
            answer::done()
        }
        "kill" => {
            engine.kill(name, signal.unwrap_or_default()).await?;
            answer::done()
        }
        "pause" => {
            engine.pause(name).await?;
            answer::done()
        }
        "unpause" => {
            engine.unpause(name).await?;
            answer::done()
        }
        "rename" => {
            let new = query.get("name").filter(|name| !name.is_empty());
            let missing = || Failure::invalid("Neither old nor new names may be empty");
            engine.rename(name, new.ok_or_else(missing)?).await?;
            answer::done()
        }
        "resize" => {
            engine.resize(name, size(&call)?).await?;
            answer::empty(StatusCode::OK)
        }
        "wait" => wait(&call, name),
        "attach" => super::attach::attach(call, name).await,
        "update" => update(call, name).await,
        "exec" => super::exec::create(call, name).await,
        "copy" => Err(super::not_found()),
        _ => Err(super::not_found()),
    }
}

async fn start(call: &Call, name: &str) -> Answer {
    input::none(
        &call.request,
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
    )?;
    if call.query.get("checkpoint").is_some_and(|name| !name.is_empty()) {
        return Err(super::later("starting from a checkpoint"));
    }
    answer::changed(call.engine().start(name).await?)
}

/// The time that a container has to stop; absent for its own.
fn seconds(call: &Call) -> Result<Option<i64>, Failure> {
    match call.query.get("t").filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Failure::invalid(format!("invalid number of seconds: {text:?}"))),
    }
}

/// A terminal's size in the query.
pub(super) fn size(call: &Call) -> Result<ConsoleSize, Failure> {
    let number = |name: &str| {
        let text = call.query.get(name).unwrap_or_default();
        text.parse::<u16>().map_err(|_| Failure::invalid(format!("invalid terminal size {name}={text:?}")))
    };
    Ok(ConsoleSize { height: number("h")?, width: number("w")? })
}

/// The filters of a query.
pub(super) fn filters(call: &Call) -> Result<Filters, Failure> {
    Filters::parse(call.query.get("filters").unwrap_or_default())
        .map_err(|error| Failure::invalid(format!("invalid filter: {error}")))
}

async fn list(call: &Call) -> Answer {
    let engine = call.engine();
    let filters = filters(call)?;
    let limit = match call.query.get("limit").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let number: i64 =
                text.parse().map_err(|_| Failure::invalid(format!("invalid limit: {text:?}")))?;
            usize::try_from(number).ok().filter(|limit| *limit > 0)
        }
    };
    let ancestors = descendants(engine, &filters).await;
    let of_image = |container: &Description, wanted: &str| {
        ancestors.get(wanted).is_some_and(|images| images.contains(&container.image))
    };
    let mut found = listing::select(engine.list(), &filters, &of_image)?;
    found.sort_by_key(|container| std::cmp::Reverse(container.created));
    if !call.query.is_on("all") && limit.is_none() && !filters.has("status") && !filters.has("exited") {
        found.retain(|container| {
            container.state.status.is_up() || container.state.status.to_string() == "restarting"
        });
    }
    found.truncate(limit.unwrap_or(usize::MAX));
    let now = OffsetDateTime::now_utc();
    let linked = engine.linked_names(&engine.list());
    let sizes = if call.query.is_on("size") { sizes(engine, &found).await? } else { Vec::new() };
    answer::list(found.iter().enumerate().map(|(at, container)| {
        let mut row = listing::summary(container, now);
        // As Docker: a name that has been given to another image says nothing any more.
        if engine.images().find_id(&row.image).map_or(true, |id| id != container.image) {
            row.image = container.image.to_string();
        }
        row.names.extend(linked.get(container.id.as_str()).into_iter().flatten().cloned());
        row.health = (call.version >= ApiVersion::new(1, 52)).then(|| listing::health_summary(container));
        if let Some((own, all)) = sizes.get(at) {
            (row.size_rw, row.size_root_fs) = (*own, *all);
        }
        row
    }))
}

/// The images that were made of those that the filter names, and these themselves.
async fn descendants(engine: &Engine, filters: &Filters) -> BTreeMap<String, HashSet<Digest>> {
    let mut found = BTreeMap::new();
    for wanted in filters.values("ancestor") {
        let Ok(ancestor) = engine.images().resolve(wanted).await else { continue };
        let mut images = HashSet::from([ancestor.id]);
        for container in engine.list() {
            // One whose image is gone is of no ancestor that is told.
            let Ok(image) = engine.images().resolve(&container.image.to_string()).await else { continue };
            if image.config.is_made_of(&ancestor.config) {
                images.insert(image.id);
            }
        }
        found.insert(wanted.to_owned(), images);
    }
    found
}

/// What each container has of its own, and what that is with its image, in bytes.
async fn sizes(engine: &Engine, containers: &[Arc<Description>]) -> Result<Vec<(i64, i64)>, Failure> {
    let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut sizes = Vec::with_capacity(containers.len());
    for container in containers {
        let own = engine.size_of(container).await?;
        let image = engine.images().resolve(&container.image.to_string()).await.map_or(0, |image| image.size);
        sizes.push((number(own), number(image + own)));
    }
    Ok(sizes)
}

async fn create(call: Call) -> Answer {
    let (context, query) = (call.context, call.query);
    let mut request: api::CreateRequest = input::required(call.request).await?;
    if let Some(check) = request.config.healthcheck.as_mut().filter(|_| call.version < ApiVersion::new(1, 44))
    {
        // As Docker: clients of that time could not know it.
        check.start_interval = 0;
    }
    if request.config.image.is_empty() {
        return Err(Failure::invalid(what_is_missing(&request)));
    }
    let wanted = query.get("platform").filter(|text| !text.is_empty());
    let wanted: Option<Platform> = wanted
        .map(str::parse)
        .transpose()
        .map_err(|error: coracle_spec::Error| Failure::invalid(error.to_string()))?;
    if call.version < ApiVersion::new(1, 40)
        && let Some(host) = request.host_config.as_mut().filter(|host| host.ipc_mode.is_empty())
    {
        "shareable".clone_into(&mut host.ipc_mode);
    }
    let endpoints = request.networking_config.as_ref().and_then(|config| config.endpoints_config.as_ref());
    if let Some(names) = endpoints.filter(|endpoints| endpoints.len() > 1)
        && call.version < ApiVersion::new(1, 44)
    {
        let names: Vec<&str> = names.keys().map(String::as_str).collect();
        return Err(Failure::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    let host = request.host_config.get_or_insert_default();
    mounts::understand(host, call.version)?;
    context.requested().fill(host);
    let mut settings = settings::settings(request)?;
    settings.host.read_only_non_recursive = call.version < ApiVersion::new(1, 44);
    let created = context.engine.create_for(query.get("name"), settings, wanted.as_ref()).await?;
    let response = api::CreateResponse { id: created.id.to_string(), warnings: created.warnings };
    answer::json(StatusCode::CREATED, &response)
}

/// What a request lacks that names no image, in Docker's words as far as it has any.
fn what_is_missing(request: &api::CreateRequest) -> &'static str {
    let config = &request.config;
    if *config == api::Config::default() && request.host_config.is_none() {
        "config cannot be empty in order to create a container"
    } else if config.cmd.is_none() && config.entrypoint.is_none() {
        "no command specified"
    } else {
        "no image was named"
    }
}

async fn remove(call: &Call, name: &str) -> Answer {
    if call.query.is_on("link") {
        call.engine().unlink(name).await?;
        return answer::done();
    }
    call.engine().remove(name, call.query.is_on("force"), call.query.is_on("v")).await?;
    answer::done()
}

fn wait(call: &Call, name: &str) -> Answer {
    let condition = match call.query.get("condition").unwrap_or_default() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Failure::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiting = call.engine().wait(name, condition)?;
    // The head goes out at once: clients start the container when they have seen it.
    let body = futures_util::stream::once(async move {
        let last = waiting.done().await;
        let response = api::WaitResponse { status_code: i64::from(last.state.exit_code), error: None };
        Ok(serde_json::to_vec(&response).unwrap_or_default().into())
    });
    Ok(answer::stream("application/json", body))
}

async fn changes(call: &Call, name: &str) -> Answer {
    let changes = call.engine().changes(name).await?;
    let shown: Vec<api::FilesystemChange> = changes
        .iter()
        .map(|change| api::FilesystemChange {
            path: String::from_utf8_lossy(&change.path).into_owned(),
            kind: match change.kind {
                ChangeKind::Modified => api::ChangeKind::Modified,
                ChangeKind::Added => api::ChangeKind::Added,
                ChangeKind::Deleted => api::ChangeKind::Deleted,
            },
        })
        .collect();
    answer::ok(&shown)
}

async fn update(call: Call, name: &str) -> Answer {
    let context = call.context;
    let request: api::UpdateRequest = input::required(call.request).await?;
    let mut update = Update::read(request)?;
    if call.version < ApiVersion::new(1, 40) {
        // As Docker: clients of that time could not know it.
        update.resources.pids = None;
    }
    let change = move |settings: &mut Settings| {
        update.apply(settings);
        Ok(())
    };
    let warnings = context.engine.update(name, change).await?;
    answer::ok(&api::UpdateResponse { warnings: Some(warnings) })
}

async fn prune(call: &Call) -> Answer {
    let (until, labels) = meant_to_go(call)?;
    let pruned = call
        .engine()
        .prune_containers(|container| {
            until.is_none_or(|until| container.created < until) && labels.matches(&container.settings.labels)
        })
        .await?;
    answer::ok(&api::PruneResponse {
        containers_deleted: Some(pruned.removed),
        space_reclaimed: pruned.bytes,
    })
}

/// Before which moment something must have been made, and which labels it must have, to be pruned.
pub(super) fn meant_to_go(call: &Call) -> Result<(Option<OffsetDateTime>, LabelChoice), Failure> {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&["until", "label", "label!"]) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    Ok((until(&filters)?, label_choice(&filters)))
}

/// The moment of the one `until` filter that there may be.
pub(super) fn until(filters: &Filters) -> Result<Option<OffsetDateTime>, Failure> {
    if filters.values("until").nth(1).is_some() {
        return Err(Failure::invalid("more than one until filter specified"));
    }
    earliest_until(filters)
}

/// The earliest moment of all `until` filters, which is what all of them together say.
pub(super) fn earliest_until(filters: &Filters) -> Result<Option<OffsetDateTime>, Failure> {
    let now = OffsetDateTime::now_utc();
    let moments = filters.values("until").map(|text| {
        time::read_typed(text, now).ok_or_else(|| Failure::invalid(format!("invalid filter 'until={text}'")))
    });
    Ok(moments.collect::<Result<Vec<_>, _>>()?.into_iter().min())
}

/// What a filter says that is either so or not; nothing if it is not there.
pub(super) fn truth(filters: &Filters, name: &str) -> Result<Option<bool>, Failure> {
    let given: Vec<&str> = filters.values(name).collect();
    match given[..] {
        [] => Ok(None),
        ["1" | "true"] => Ok(Some(true)),
        ["0" | "false"] => Ok(Some(false)),
        _ => Err(Failure::invalid(format!("invalid filter '{name}=[{}]'", given.join(" ")))),
    }
}

/// The labels that are wanted and unwanted.
pub(super) fn label_choice(filters: &Filters) -> LabelChoice {
    let read = |name: &str| filters.values(name).filter_map(|text| text.parse().ok()).collect();
    LabelChoice { with: read("label"), without: read("label!") }
}
