//! Other containers by further names (`--link`), as it was done before networks had names.
//!
//! A link of the default network names a container that is there when this one is made, and that runs when it starts; the
//! container's environment tells of its address then. A link of another network is a name alone. Both names are answered
//! by the container's resolver, so that a container which comes back with another address is found again.

use super::Description;
use super::modes::NetworkMode;
use super::settings::{HostSettings, Link, Settings};
use super::task::{Command, Task};
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result};
use crate::index::Durability;
use crate::network::predefined_id;
use coracle_network::{Endpoint, Protocol};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Finds the containers that links name, by which they are known from then on.
///
/// # Errors
/// [`Error::Invalid`] for one that is not there, or whose network cannot be linked to.
pub(super) fn resolve(shared: &Shared, host: &mut HostSettings) -> Result<()> {
    if host.links.is_empty() {
        return Ok(());
    }
    let conflict = |mode: &str| {
        let text = format!(
            "conflicting options: {mode} can't be used with links. This would result in undefined behavior"
        );
        Err(Error::Invalid(text))
    };
    match host.network {
        NetworkMode::Host => return conflict("host type networking"),
        NetworkMode::Container(_) => return conflict("container type network"),
        // There whoever is called so later is meant.
        NetworkMode::Named(_) => return Ok(()),
        _ => {}
    }
    if shared.networks.default().options.isolated {
        let text =
            "links lead nowhere: containers on the default network do not reach each other (icc=false)";
        return Err(Error::Unsupported(text.to_owned()));
    }
    for link in &mut host.links {
        let missing =
            |error| Error::Invalid(format!("could not get container for {}: {error}", link.container));
        let mut found = shared.containers.find(&link.container).map_err(missing)?.describe();
        while let NetworkMode::Container(other) = &found.settings.host.network {
            found = shared.containers.find(other)?.describe();
        }
        if found.settings.host.network == NetworkMode::Host {
            return conflict("host type networking");
        }
        link.container = found.id.to_string();
    }
    Ok(())
}

/// What the container calls others, and how they are known on its networks.
pub(super) fn aliases(shared: &Shared, now: &Description) -> BTreeMap<String, String> {
    let by_name = now.networks.iter().flat_map(|on| &on.links);
    let named = by_name.map(|link| (link.alias.clone(), link.container.clone()));
    let found = linked(shared, now).map(|(link, other)| (link.alias.clone(), other.id.short().to_owned()));
    named.chain(found).collect()
}

/// The variables that tell of linked containers, which have to run.
///
/// # Errors
/// [`Error::Conflict`] when one does not, or is not on the default network.
pub(super) fn variables(shared: &Shared, now: &Description) -> Result<Vec<String>> {
    if now.settings.host.links.is_empty() {
        return Ok(Vec::new());
    }
    let default = predefined_id(crate::network::BRIDGE);
    let place = |of: &Description| of.networks.iter().find(|on| on.network == default).cloned();
    if place(now).is_none() {
        return Ok(Vec::new());
    }
    let mut variables = Vec::new();
    for (link, other) in linked(shared, now) {
        if !other.state.status.is_up() {
            return Err(Error::Conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{}",
                other.name, now.name, link.alias
            )));
        }
        let ip = |endpoint: Endpoint| endpoint.ips().next();
        let Some(ip) = place(&other).and_then(|on| on.endpoint).and_then(ip) else {
            return Err(Error::Conflict(format!(
                "container {} not attached to default bridge network",
                other.id
            )));
        };
        let path = format!("/{}/{}", now.name, link.alias);
        variables.extend(tell(&link.alias, &path, ip, &other.settings));
    }
    Ok(variables)
}

/// The links of the default network, with the containers that are there still.
fn linked<'a>(
    shared: &'a Shared,
    now: &'a Description,
) -> impl Iterator<Item = (&'a Link, Arc<Description>)> + 'a {
    now.settings.host.links.iter().filter_map(|link| {
        let other = shared.containers.find(&link.container).ok()?;
        Some((link, other.describe()))
    })
}

/// The variables of one linked container, in Docker's order.
fn tell(alias: &str, path: &str, ip: IpAddr, other: &Settings) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let mut ports: Vec<_> =
        other.exposed_ports.iter().filter_map(|port| super::parse_port(port).ok()).collect();
    ports.sort_by_key(|(port, protocol)| (*protocol != Protocol::Tcp, *port));
    let mut variables = Vec::new();
    if let Some((port, protocol)) = ports.first() {
        variables.push(format!("{prefix}_PORT={protocol}://{ip}:{port}"));
    }
    for (port, protocol) in ports {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_string().to_uppercase());
        variables.push(format!("{name}={protocol}://{ip}:{port}"));
        variables.push(format!("{name}_ADDR={ip}"));
        variables.push(format!("{name}_PORT={port}"));
        variables.push(format!("{name}_PROTO={protocol}"));
    }
    variables.push(format!("{prefix}_NAME={path}"));
    for (name, value) in other.env.iter().filter_map(|entry| entry.split_once('=')) {
        if !matches!(name, "HOME" | "PATH") {
            variables.push(format!("{prefix}_ENV_{name}={value}"));
        }
    }
    variables
}

impl Engine {
    /// The links of a container, as Docker writes them: `/OTHER:/CONTAINER/ALIAS`.
    pub fn links_of(&self, now: &Description) -> Vec<String> {
        let shown = |(link, other): (&Link, Arc<Description>)| {
            format!("/{}:/{}/{}", other.name, now.name, link.alias)
        };
        linked(&self.shared, now).map(shown).collect()
    }

    /// By which further names others know each of `all`, by id: `/CONTAINER/ALIAS`.
    pub fn linked_names(&self, all: &[Arc<Description>]) -> BTreeMap<String, Vec<String>> {
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for one in all {
            for link in &one.settings.host.links {
                names
                    .entry(link.container.clone())
                    .or_default()
                    .push(format!("/{}/{}", one.name, link.alias));
            }
        }
        names
    }

    /// Forgets a link, by the way to it: `CONTAINER/ALIAS`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the container, [`Error::Invalid`] for a link that it does not have.
    pub async fn unlink(&self, way: &str) -> Result<()> {
        let way = way.strip_prefix('/').unwrap_or(way);
        let no_link =
            || Error::Invalid(format!("cannot get parent / for name {way}: name a link as CONTAINER/ALIAS"));
        let (container, alias) = way.split_once('/').ok_or_else(no_link)?;
        let container = self.shared.containers.find(container)?;
        let alias = alias.to_owned();
        container.ask(|reply| Command::Unlink { alias, reply }).await
    }
}

impl Task {
    /// Forgets a link.
    pub(super) async fn unlink(&mut self, alias: &str) -> Result<()> {
        let mut settings = self.now.settings.as_ref().clone();
        let links = &mut settings.host.links;
        let Some(nth) = links.iter().position(|link| link.alias == alias) else {
            return Err(Error::Invalid(format!("container {} has no link {alias}", self.now.name)));
        };
        links.remove(nth);
        self.now.settings = Arc::new(settings);
        self.save(Durability::Durable).await?;
        self.publish();
        if self.live.is_some() { self.tell_resolver().await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_tell_of_ports_names_and_environment() {
        let other = Settings {
            exposed_ports: ["53/udp", "5433/tcp", "5432"].map(str::to_owned).into(),
            env: ["PATH=/bin", "USER=sea", "NOTHING"].map(str::to_owned).into(),
            ..Settings::default()
        };
        let told = tell("my-db", "/web/my-db", "10.0.0.2".parse().unwrap(), &other);
        let expected = [
            "MY_DB_PORT=tcp://10.0.0.2:5432",
            "MY_DB_PORT_5432_TCP=tcp://10.0.0.2:5432",
            "MY_DB_PORT_5432_TCP_ADDR=10.0.0.2",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_PORT_5433_TCP=tcp://10.0.0.2:5433",
            "MY_DB_PORT_5433_TCP_ADDR=10.0.0.2",
            "MY_DB_PORT_5433_TCP_PORT=5433",
            "MY_DB_PORT_5433_TCP_PROTO=tcp",
            "MY_DB_PORT_53_UDP=udp://10.0.0.2:53",
            "MY_DB_PORT_53_UDP_ADDR=10.0.0.2",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_USER=sea",
        ];
        assert_eq!(told, expected);
    }
}
