//! `/networks/…`.

use super::containers::{filters, label_choice, meant_to_go, truth};
use crate::answer::{self, Answer};
use crate::convert::network as convert;
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use coracle_api::network as api;
use coracle_api::{ApiVersion, Filters};
use coracle_engine::Error;
use coracle_engine::network::{BRIDGE, PREDEFINED, predefined_id};
use hyper::{Method, StatusCode};
use std::collections::BTreeMap;

/// The filters that there are.
const KNOWN: [&str; 7] = ["driver", "id", "label", "name", "scope", "type", "dangling"];

pub(super) async fn route(call: Call, rest: &[&str]) -> Answer {
    let method = call.request.method().clone();
    match (&method, rest) {
        (&Method::GET, []) => list(&call),
        (&Method::POST, ["create"]) => create(call).await,
        (&Method::POST, ["prune"]) => prune(&call).await,
        (&Method::POST, [network, "connect"]) => connect(call, network).await,
        (&Method::POST, [network, "disconnect"]) => disconnect(call, network).await,
        (&Method::GET, [name]) => answer::ok(&find(&call, name)?),
        (&Method::DELETE, [name]) => {
            call.engine().remove_network(name).await?;
            answer::done()
        }
        _ => Err(super::not_found()),
    }
}

fn list(call: &Call) -> Answer {
    let filters = filters(call)?;
    if let Some(unknown) = filters.unknown(&KNOWN) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    if let Some(kind) = filters.values("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
        return Err(Failure::invalid(format!("invalid filter: 'type'='{kind}'")));
    }
    let dangling = truth(&filters, "dangling")?;
    let mut found = all(call);
    found.retain(|network| is_wanted(network, &filters, dangling));
    for network in &mut found {
        // Only one that is asked for alone shows who is on it.
        network.containers = (call.version < ApiVersion::new(1, 52)).then(BTreeMap::new);
    }
    answer::ok(&found)
}

fn is_wanted(network: &api::Network, filters: &Filters, dangling: Option<bool>) -> bool {
    let any = |name: &str, test: &dyn Fn(&str) -> bool| !filters.has(name) || filters.values(name).any(test);
    let builtin = PREDEFINED.contains(&network.name.as_str());
    let labels = network.labels.clone().unwrap_or_default();
    any("name", &|name| network.name.contains(name))
        && any("id", &|id| network.id.starts_with(id))
        && any("driver", &|driver| network.driver == driver)
        && any("type", &|kind| (kind == "builtin") == builtin)
        && any("scope", &|scope| scope == network.scope)
        // A network that is always there is never left over.
        && dangling.is_none_or(|wanted| wanted == (!builtin && is_unused(network)))
        && label_choice(filters).with.iter().all(|label| label.matches(&labels))
}

fn is_unused(network: &api::Network) -> bool {
    network.containers.as_ref().is_none_or(BTreeMap::is_empty)
}

async fn create(call: Call) -> Answer {
    let context = call.context;
    let request: api::NetworkCreateRequest = input::required(call.request).await?;
    let network = context.engine.create_network(convert::wanted(request)?).await?;
    answer::json(StatusCode::CREATED, &api::NetworkCreateResponse { id: network.id, warning: String::new() })
}

async fn prune(call: &Call) -> Answer {
    let (until, labels) = meant_to_go(call)?;
    let removed = call
        .engine()
        .prune_networks(|network| {
            until.is_none_or(|until| network.created.is_some_and(|created| created < until))
                && labels.matches(&network.labels)
        })
        .await?;
    answer::ok(&api::PruneResponse { networks_deleted: Some(removed) })
}

async fn connect(call: Call, network: &str) -> Answer {
    let context = call.context;
    let request: api::ConnectRequest = input::required(call.request).await?;
    let join = convert::join(request.endpoint_config.unwrap_or_default())?;
    context.engine.connect(network, &request.container, join).await?;
    answer::empty(StatusCode::OK)
}

async fn disconnect(call: Call, network: &str) -> Answer {
    let context = call.context;
    // Here a container that is gone is on no network: there is nothing that `Force` would do more.
    let request: api::DisconnectRequest = input::required(call.request).await?;
    context.engine.disconnect(network, &request.container).await?;
    answer::empty(StatusCode::OK)
}

fn find(call: &Call, name: &str) -> Result<api::Network, Failure> {
    let engine = call.engine();
    let is = |known: &&&str| **known == name || !name.is_empty() && predefined_id(known).starts_with(name);
    match engine.network(name) {
        Ok(network) => Ok(convert::shown(&network, &engine.list())),
        Err(missing @ Error::NotFound { .. }) => {
            let found = without_bridge().find(is);
            found.map(|known| convert::shown_without_bridge(known)).ok_or_else(|| missing.into())
        }
        Err(other) => Err(other.into()),
    }
}

/// The networks that every engine has, and that have no bridge.
fn without_bridge() -> impl Iterator<Item = &'static &'static str> {
    PREDEFINED.iter().filter(|name| **name != BRIDGE)
}

fn all(call: &Call) -> Vec<api::Network> {
    let engine = call.engine();
    let containers = engine.list();
    let mut all: Vec<_> =
        engine.networks().iter().map(|network| convert::shown(network, &containers)).collect();
    all.extend(without_bridge().map(|name| convert::shown_without_bridge(name)));
    all
}
