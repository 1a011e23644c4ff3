//! Which networks a container is on, and how it is called there.

use super::Description;
use super::modes::NetworkMode;
use super::settings::{FixedAddresses, Join, Link, Settings};
use crate::error::{Error, Result};
use crate::network::{BRIDGE, Live, Networks, predefined_id};
use coracle_network::{Endpoint, Mac};

/// One network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The network's id; its name as long as there was none. The network may be gone by now.
    pub network: String,
    /// The network's name.
    pub name: String,
    /// Names of the container there, besides its own.
    pub aliases: Vec<String>,
    /// Other containers there by further names.
    pub links: Vec<Link>,
    /// The addresses that it is to have there.
    pub addresses: FixedAddresses,
    /// The hardware address that it is to have there, as text; empty for one that derives from its address.
    pub mac_address: String,
    /// Where it is on the network, while it runs.
    pub endpoint: Option<Endpoint>,
    /// Whether it is the container's way to everywhere, and has its published ports, while it runs.
    pub is_way_out: bool,
}

impl Membership {
    /// On a network as `join` asks.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a hardware address that is none, or an address that the network does not have.
    pub(crate) fn new(live: &Live, join: Join) -> Result<Self> {
        let is_there = |address| {
            let mut subnets = live.network.subnets();
            subnets.any(|subnet| subnet.is_host(address) && address != subnet.address())
        };
        if let Some(address) =
            join.addresses.all().find(|address| live.bridge.exists() && !is_there(*address))
        {
            return Err(Error::Invalid(format!(
                "invalid config for network {}: invalid endpoint settings:\nno configured subnet contains the IP address \
                 {address}",
                live.network.name
            )));
        }
        Self::checked(&live.network.id, &live.network.name, join)
    }

    fn checked(network: &str, name: &str, join: Join) -> Result<Self> {
        parse_mac(&join.mac_address)?;
        Ok(Self {
            network: network.to_owned(),
            name: name.to_owned(),
            aliases: join.aliases,
            links: join.links,
            addresses: join.addresses,
            mac_address: join.mac_address,
            endpoint: None,
            is_way_out: false,
        })
    }

    /// The hardware address that it is to have.
    pub(super) fn mac(&self) -> Result<Option<Mac>> {
        parse_mac(&self.mac_address)
    }

    /// Every name that the container has on this network.
    pub fn names(&self, container: &Description) -> Vec<String> {
        let mut names = vec![container.name.to_string()];
        names.extend(self.aliases.iter().cloned());
        names.push(container.id.short().to_owned());
        let hostname = &container.settings.hostname;
        if !hostname.is_empty() {
            names.push(hostname.clone());
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

fn parse_mac(text: &str) -> Result<Option<Mac>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::Invalid(format!("invalid MAC address: {text}"));
    super::network::parse_mac(text).map(Some).ok_or_else(invalid)
}

impl Description {
    /// Where it is on its networks, while it runs.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.networks.iter().filter_map(|membership| membership.endpoint.as_ref())
    }
}

/// The networks that a container with these settings is on from its beginning.
pub(super) fn of(networks: &Networks, settings: &Settings) -> Result<Vec<Membership>> {
    let host = &settings.host;
    let main = match &host.network {
        NetworkMode::Default | NetworkMode::Bridge => BRIDGE,
        NetworkMode::Named(name) => name.as_str(),
        NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => {
            return match host.joins.keys().next() {
                None => Ok(Vec::new()),
                Some(other) => Err(Error::Invalid(format!(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes: {other} \
                     and {}",
                    host.network
                ))),
            };
        }
    };
    let join = Join {
        links: host.endpoint_links.clone(),
        aliases: host.aliases.clone(),
        addresses: host.addresses,
        mac_address: host.mac_address.clone(),
    };
    let mut memberships = Vec::new();
    // As Docker: where there is no default network, who wants it has a loopback.
    if main != BRIDGE || networks.default().bridge.exists() {
        memberships.push(found_or_named(networks, main, join)?);
    }
    for (name, join) in &host.joins {
        let membership = found_or_named(networks, name, join.clone())?;
        if memberships.iter().any(|other| other.network == membership.network) {
            return Err(Error::Invalid(format!("network {name} is named twice")));
        }
        memberships.push(membership);
    }
    Ok(memberships)
}

/// On the network of that name; one that is not there yet is looked for at each start, as Docker does.
fn found_or_named(networks: &Networks, name: &str, join: Join) -> Result<Membership> {
    match networks.find(name) {
        Ok(live) => Membership::new(&live, join),
        Err(Error::NotFound { .. }) => Membership::checked(name, name, join),
        Err(other) => Err(other),
    }
}

/// The same at a start, when all of them have to be there.
///
/// # Errors
/// [`Error::NotFound`] for one that is not.
pub(super) fn found(networks: &Networks, memberships: &[Membership]) -> Result<Vec<Membership>> {
    let found = |membership: &Membership| {
        let live = networks.find(&membership.network)?;
        Ok(Membership { network: live.network.id.clone(), ..membership.clone() })
    };
    memberships.iter().map(found).collect()
}

/// Those of a container that was made by an engine with one network only.
pub(super) fn of_old(settings: &Settings, endpoint: Option<Endpoint>) -> Vec<Membership> {
    let host = &settings.host;
    if !host.network.is_bridge() {
        return Vec::new();
    }
    vec![Membership {
        network: predefined_id(BRIDGE),
        name: BRIDGE.to_owned(),
        aliases: host.aliases.clone(),
        links: Vec::new(),
        addresses: host.addresses,
        mac_address: host.mac_address.clone(),
        is_way_out: endpoint.is_some(),
        endpoint,
    }]
}
