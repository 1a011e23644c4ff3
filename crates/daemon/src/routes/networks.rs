//! `/networks/…`: the three that every engine has.

use super::containers::truth;
use crate::answer::{self, Answer};
use crate::error::Failure;
use crate::server::Call;
use coracle_api::network as api;
use coracle_engine::Error;
use coracle_spec::Digest;
use hyper::Method;

/// The filters that there are.
const KNOWN: [&str; 7] = ["driver", "id", "label", "name", "scope", "type", "dangling"];

pub(super) async fn route(call: Call, rest: &[&str]) -> Answer {
    let method = call.request.method().clone();
    match (&method, rest) {
        (&Method::GET, []) => {
            let filters = super::containers::filters(&call)?;
            if let Some(unknown) = filters.unknown(&KNOWN) {
                return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
            }
            let dangling = truth(&filters, "dangling")?;
            let wanted = |network: &api::Network| {
                let any = |name: &str, test: &dyn Fn(&str) -> bool| {
                    !filters.has(name) || filters.values(name).any(test)
                };
                any("name", &|name| network.name.contains(name))
                    && any("id", &|id| network.id.starts_with(id))
                    && any("driver", &|driver| network.driver == driver)
                    && any("type", &|kind| kind == "builtin")
                    && any("scope", &|scope| scope == network.scope)
                    // A network that is always there is never left over.
                    && dangling != Some(true)
                    && !filters.has("label")
            };
            let found: Vec<api::Network> = all(&call).into_iter().filter(wanted).collect();
            answer::ok(&found)
        }
        (&Method::POST, ["create"]) => Err(super::later("making networks")),
        (&Method::POST, ["prune"]) => answer::ok(&api::PruneResponse { networks_deleted: Some(Vec::new()) }),
        (&Method::POST, [_, "connect" | "disconnect"]) => {
            Err(super::later("connecting containers to further networks"))
        }
        (&Method::GET, [name]) => answer::ok(&find(&call, name)?),
        (&Method::DELETE, [name]) => {
            let network = find(&call, name)?;
            let text = format!("{} is a pre-defined network and cannot be removed", network.name);
            Err(Failure::new(hyper::StatusCode::FORBIDDEN, text))
        }
        _ => Err(super::not_found()),
    }
}

fn find(call: &Call, name: &str) -> Result<api::Network, Failure> {
    let named = all(call)
        .into_iter()
        .find(|network| network.name == name || (name.len() >= 3 && network.id.starts_with(name)));
    named.ok_or_else(|| Error::NotFound { kind: "network", name: name.to_owned() }.into())
}

/// The id of a network: the same in every engine, as there is one of each name.
pub(crate) fn id_of(name: &str) -> String {
    Digest::of(format!("network {name}").as_bytes()).hex()
}

fn all(call: &Call) -> Vec<api::Network> {
    ["bridge", "host", "none"].map(|name| shown(call, name)).to_vec()
}

fn shown(call: &Call, name: &str) -> api::Network {
    let engine = call.engine();
    let (bridge, subnet) = engine.bridge();
    let mut network = api::Network {
        name: name.to_owned(),
        id: id_of(name),
        created: crate::convert::time::write(None),
        scope: "local".to_owned(),
        driver: if name == "none" { "null" } else { name }.to_owned(),
        enable_ipv4: Some(true),
        ipam: api::Ipam { driver: "default".to_owned(), options: None, config: Some(Vec::new()) },
        options: Some(std::collections::BTreeMap::new()),
        labels: Some(std::collections::BTreeMap::new()),
        ..api::Network::default()
    };
    if name == "bridge" {
        if let Some(subnet) = subnet {
            network.ipam.config = Some(vec![api::IpamPool {
                subnet: format!("{}/{}", subnet.network(), subnet.length()),
                gateway: subnet.address().to_string(),
                ..api::IpamPool::default()
            }]);
        }
        network.options = Some(
            [
                ("com.docker.network.bridge.default_bridge", "true"),
                ("com.docker.network.bridge.name", bridge),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        );
    }
    for container in engine.list() {
        let Some(endpoint) = container.endpoint.as_ref().filter(|_| name == "bridge") else { continue };
        let member = api::NetworkContainer {
            name: container.name.to_string(),
            endpoint_id: container.id.to_string(),
            mac_address: endpoint.mac.to_string(),
            ipv4_address: format!("{}/{}", endpoint.ip, endpoint.prefix_length),
            ipv6_address: String::new(),
        };
        network.containers.insert(container.id.to_string(), member);
    }
    network
}
