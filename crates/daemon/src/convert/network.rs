//! Networks between the wire and the engine. What of a request is not done is refused here, by name.

use crate::error::Failure;
use coracle_api::network as api;
use coracle_engine::containers::Description;
use coracle_engine::containers::settings::{FixedAddresses, Join, Link};
use coracle_engine::network::{Family, Network, Pool, Wanted, WantedPool, predefined_id};
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;

fn unsupported(field: &str, hint: &str) -> Failure {
    Failure::new(StatusCode::NOT_IMPLEMENTED, format!("{field} is not supported: {hint}"))
}

/// A network to make.
///
/// # Errors
/// 501 for what is not supported.
pub(crate) fn wanted(request: api::NetworkCreateRequest) -> Result<Wanted, Failure> {
    let refusals = [
        ("Ingress", request.ingress, "this engine is not part of a swarm"),
        ("ConfigOnly", request.config_only, "this engine is not part of a swarm"),
        (
            "ConfigFrom",
            request.config_from.is_some_and(|from| !from.network.is_empty()),
            "this engine is not part of a swarm",
        ),
        ("Scope", !matches!(request.scope.as_str(), "" | "local"), "this engine is not part of a swarm"),
    ];
    if let Some((field, _, hint)) = refusals.into_iter().find(|(_, asked, _)| *asked) {
        return Err(unsupported(field, hint));
    }
    Ok(Wanted {
        name: request.name,
        driver: request.driver,
        without_ipv4: request.enable_ipv4 == Some(false),
        ipv6: request.enable_ipv6 == Some(true),
        pools: pools(request.ipam.unwrap_or_default())?,
        internal: request.internal,
        attachable: request.attachable,
        options: request.options.unwrap_or_default(),
        labels: request.labels.unwrap_or_default(),
    })
}

fn pools(ipam: api::Ipam) -> Result<Vec<WantedPool>, Failure> {
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(unsupported("IPAM.Driver", "the engine manages addresses itself"));
    }
    if ipam.options.is_some_and(|options| !options.is_empty()) {
        return Err(unsupported("IPAM.Options", "the engine manages addresses itself"));
    }
    let wanted = |pool: api::IpamPool| WantedPool {
        subnet: pool.subnet,
        gateway: pool.gateway,
        range: pool.ip_range,
        reserved: pool.auxiliary_addresses.unwrap_or_default(),
    };
    Ok(ipam.config.unwrap_or_default().into_iter().map(wanted).collect())
}

/// `CONTAINER[:ALIAS]`, where names may have a slash in front, and an alias the way to it.
pub(crate) fn link(text: &str) -> Result<Link, Failure> {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    let container = container.strip_prefix('/').unwrap_or(container);
    let alias = alias.rsplit('/').next().unwrap_or_default();
    if container.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(Failure::invalid(format!("bad format for links: {text}")));
    }
    Ok(Link { container: container.to_owned(), alias: alias.to_owned() })
}

/// How a container is to join a network.
///
/// # Errors
/// 400 for what makes no sense, 501 for what is not supported.
pub(crate) fn join(endpoint: api::EndpointSettings) -> Result<Join, Failure> {
    refuse_unsupported(&endpoint)?;
    let links = endpoint.links.unwrap_or_default();
    let mut join = Join {
        links: links.iter().map(|text| link(text)).collect::<Result<_, _>>()?,
        aliases: endpoint.aliases.unwrap_or_default(),
        addresses: FixedAddresses::default(),
        mac_address: endpoint.mac_address,
    };
    if let Some(ipam) = endpoint.ipam_config {
        join.addresses = FixedAddresses {
            v4: address(Family::V4, &ipam.ipv4_address)?,
            v6: address(Family::V6, &ipam.ipv6_address)?,
        };
    }
    Ok(join)
}

/// An address of a family, unless there is no text.
fn address<T: std::str::FromStr>(family: Family, text: &str) -> Result<Option<T>, Failure> {
    let invalid = |_| Failure::invalid(format!("invalid {family} address: {text}"));
    (!text.is_empty()).then(|| text.parse().map_err(invalid)).transpose()
}

/// What can be asked of an endpoint in Docker and not here. The rest of its fields are what a running one has.
fn refuse_unsupported(endpoint: &api::EndpointSettings) -> Result<(), Failure> {
    let ipam = endpoint.ipam_config.clone().unwrap_or_default();
    let refusals = [
        (
            "DriverOpts",
            endpoint.driver_opts.as_ref().is_some_and(|map| !map.is_empty()),
            "the driver has no options for endpoints",
        ),
        ("GwPriority", endpoint.gw_priority != 0, "the first network by name leads out"),
        (
            "IPAMConfig.LinkLocalIPs",
            ipam.link_local_ips.is_some_and(|list| !list.is_empty()),
            "name an address of the network",
        ),
    ];
    match refusals.into_iter().find(|(_, asked, _)| *asked) {
        Some((field, _, hint)) => Err(unsupported(&format!("EndpointSettings.{field}"), hint)),
        None => Ok(()),
    }
}

/// A network as clients see it, with the containers of `all` that are on it now.
pub(crate) fn shown(network: &Network, all: &[Arc<Description>]) -> api::Network {
    api::Network {
        name: network.name.clone(),
        id: network.id.clone(),
        created: super::time::write(network.created),
        scope: "local".to_owned(),
        driver: "bridge".to_owned(),
        // One that the engine was started without would have addresses of IPv4.
        enable_ipv4: Some(network.pools.is_empty() || network.has(Family::V4)),
        enable_ipv6: network.has(Family::V6),
        ipam: api::Ipam {
            driver: "default".to_owned(),
            options: None,
            config: Some(network.pools.iter().map(pool).collect()),
        },
        internal: network.internal,
        attachable: network.attachable,
        containers: Some(all.iter().filter_map(|container| member(network, container)).collect()),
        options: Some(network.options.clone()),
        labels: Some(network.labels.clone()),
        ..api::Network::default()
    }
}

fn pool(pool: &Pool) -> api::IpamPool {
    let subnet = pool.subnet;
    api::IpamPool {
        subnet: format!("{}/{}", subnet.network(), subnet.length()),
        gateway: if pool.shows_gateway { subnet.address().to_string() } else { String::new() },
        ip_range: pool.range.clone().unwrap_or_default(),
        auxiliary_addresses: (!pool.reserved.is_empty()).then(|| {
            pool.reserved.iter().map(|(name, address)| (name.clone(), address.to_string())).collect()
        }),
    }
}

/// `host` or `none`, which have no bridge.
pub(crate) fn shown_without_bridge(name: &str) -> api::Network {
    api::Network {
        name: name.to_owned(),
        id: predefined_id(name),
        created: super::time::write(None),
        scope: "local".to_owned(),
        driver: if name == "none" { "null" } else { name }.to_owned(),
        enable_ipv4: Some(true),
        ipam: api::Ipam { driver: "default".to_owned(), options: None, config: Some(Vec::new()) },
        containers: Some(BTreeMap::new()),
        options: Some(BTreeMap::new()),
        labels: Some(BTreeMap::new()),
        ..api::Network::default()
    }
}

fn member(network: &Network, container: &Description) -> Option<(String, api::NetworkContainer)> {
    let membership = container.networks.iter().find(|on| on.network == network.id)?;
    let endpoint = membership.endpoint.as_ref()?;
    let address = |family| {
        let address = endpoint.address(family)?;
        Some(format!("{}/{}", address.ip, address.prefix_length))
    };
    let member = api::NetworkContainer {
        name: container.name.to_string(),
        endpoint_id: super::container::endpoint_id(container, &network.id),
        mac_address: endpoint.mac.to_string(),
        ipv4_address: address(Family::V4).unwrap_or_default(),
        ipv6_address: address(Family::V6).unwrap_or_default(),
    };
    Some((container.id.to_string(), member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_of_a_request_is_kept_or_refused() {
        let request = |body: serde_json::Value| wanted(coracle_api::go::from_value(&body).unwrap());
        for (field, refused) in [
            ("Ingress", json!({"Ingress": true})),
            ("ConfigOnly", json!({"ConfigOnly": true})),
            ("ConfigFrom", json!({"ConfigFrom": {"Network": "a"}})),
            ("Scope", json!({"Scope": "swarm"})),
            ("IPAM.Driver", json!({"IPAM": {"Driver": "dhcp"}})),
            ("IPAM.Options", json!({"IPAM": {"Options": {"a": "b"}}})),
        ] {
            let failure = request(refused).unwrap_err();
            assert!(failure.status == 501 && failure.message.contains(field), "{field}: {}", failure.message);
        }
        let kept = request(json!({
            "Name": "n", "CheckDuplicate": true, "Driver": "bridge", "Internal": true, "Attachable": true,
            "EnableIPv4": false, "EnableIPv6": true, "Options": {"a": "b"}, "Labels": {"c": "d"},
            "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.9", "IPRange": "10.0.0.64/26",
                "AuxiliaryAddresses": {"router": "10.0.0.7"}}, {"Subnet": "fd00::/64"}]}
        }));
        let expected = Wanted {
            name: "n".to_owned(),
            driver: "bridge".to_owned(),
            without_ipv4: true,
            ipv6: true,
            pools: vec![
                WantedPool {
                    subnet: "10.0.0.0/24".to_owned(),
                    gateway: "10.0.0.9".to_owned(),
                    range: "10.0.0.64/26".to_owned(),
                    reserved: BTreeMap::from([("router".to_owned(), "10.0.0.7".to_owned())]),
                },
                WantedPool { subnet: "fd00::/64".to_owned(), ..WantedPool::default() },
            ],
            internal: true,
            attachable: true,
            options: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            labels: BTreeMap::from([("c".to_owned(), "d".to_owned())]),
        };
        assert_eq!(kept.unwrap(), expected);
    }
}
