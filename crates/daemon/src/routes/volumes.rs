//! `/volumes/…`

use super::containers::{filters, label_choice, truth};
use crate::answer::{self, Answer};
use crate::convert::time;
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use coracle_api::volume as api;
use coracle_engine::volumes::{Creation, Volume, VolumeFilter};
use hyper::{Method, StatusCode};

pub(super) async fn route(call: Call, rest: &[&str]) -> Answer {
    let method = call.request.method().clone();
    match (&method, rest) {
        (&Method::GET, []) => list(&call),
        (&Method::POST, ["create"]) => create(call).await,
        (&Method::POST, ["prune"]) => prune(&call).await,
        (&Method::GET, [name]) => answer::ok(&shown(&call.engine().volumes().get(name).await?)),
        (&Method::DELETE, [name]) => {
            let users = call.engine().volume_users(name);
            call.engine().volumes().remove(name, call.query.is_on("force"), &users).await?;
            call.engine().tidy_soon();
            answer::done()
        }
        // Volumes of a cluster alone can be changed.
        (&Method::PUT, [_]) => Err(super::swarm::refuse("PUT", "volumes", rest)),
        _ => Err(super::not_found()),
    }
}

/// A volume as clients see it.
pub(super) fn shown(volume: &Volume) -> api::Volume {
    api::Volume {
        created_at: time::write(Some(volume.created)),
        driver: "local".to_owned(),
        labels: Some(volume.labels.clone()),
        mountpoint: volume.mountpoint.display().to_string(),
        name: volume.name.clone(),
        options: (!volume.options.is_empty()).then(|| volume.options.clone()),
        scope: "local".to_owned(),
        ..api::Volume::default()
    }
}

fn list(call: &Call) -> Answer {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&["name", "label", "dangling", "driver"]) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    let filter = VolumeFilter {
        names: filters.values("name").map(str::to_owned).collect(),
        labels: label_choice(&filters).with,
        drivers: filters.values("driver").map(str::to_owned).collect(),
        dangling: truth(&filters, "dangling")?,
    };
    let engine = call.engine();
    let found = engine.volumes().list(&filter, &|name| !engine.volume_users(name).is_empty());
    answer::ok(&api::VolumeList { volumes: Some(found.iter().map(shown).collect()), warnings: None })
}

async fn create(call: Call) -> Answer {
    let context = call.context;
    let request: api::VolumeCreateRequest = input::document(call.request).await?;
    let volume = context.engine.volumes().create(creation(request)).await?;
    answer::json(StatusCode::CREATED, &shown(&volume))
}

/// What a client asks for.
pub(super) fn creation(request: api::VolumeCreateRequest) -> Creation {
    Creation {
        name: (!request.name.is_empty()).then_some(request.name),
        driver: request.driver,
        labels: request.labels.unwrap_or_default(),
        options: request.driver_opts.unwrap_or_default(),
    }
}

async fn prune(call: &Call) -> Answer {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&["all", "label", "label!"]) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    // Before 1.42 every unused volume was meant, not only those without a name.
    let all = truth(&filters, "all")? == Some(true) || call.version < coracle_api::ApiVersion::new(1, 42);
    let engine = call.engine();
    let used = |name: &str| !engine.volume_users(name).is_empty();
    let pruned = engine.volumes().prune(all, &label_choice(&filters), &used).await?;
    engine.tidy_soon();
    answer::ok(&api::PruneResponse { volumes_deleted: Some(pruned.volumes), space_reclaimed: pruned.bytes })
}
