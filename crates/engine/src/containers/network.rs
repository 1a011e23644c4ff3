//! A container's place on its network: the connection, and the three files that tell it who it is.

use super::memberships::Membership;
use super::modes::NetworkMode;
use super::settings::Settings;
use super::task::Task;
use super::{Description, links, oci_spec, partners};
use crate::config::Config;
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::network::{Live, Networks};
use coracle_network::files::{self, ExtraAddress, Hosts, Resolution};
use coracle_network::{
    DefaultRoute, Endpoint, EndpointRequest, Held, InterfaceName, Mac, Namespace, PublishRequest,
};
use coracle_network::{HostPort, Protocol, Published};
use coracle_runtime::protocol::{HeldPort, Names, RelayedPort};
use coracle_spec::{ContainerId, Owners};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What a container's network came to.
#[derive(Default)]
pub(super) struct Connected {
    /// The container's own namespace.
    pub(super) namespace: Option<Namespace>,
    /// Whether names are resolved there.
    pub(super) has_names: bool,
    /// Its networks, with its place on each.
    pub(super) networks: Vec<Membership>,
    /// Variables that tell of the containers that it is linked to.
    pub(super) links: Vec<String>,
    /// Its reserved ports.
    pub(super) held: Held,
    /// The namespace of another container.
    pub(super) joined: Option<OwnedFd>,
    /// Whether the shim has the namespace and its sockets already.
    pub(super) is_with_shim: bool,
    /// What is in the container's files already.
    pub(super) written: Texts,
    /// Who the container's users are outside, if it has a user namespace.
    pub(super) owners: Option<Owners>,
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`.
pub(super) type Texts = [String; 3];

/// What was made of a container's network before its start.
#[derive(Default)]
pub(super) struct Ahead {
    /// The container's own namespace.
    pub(super) namespace: Option<Namespace>,
    /// Whether its shim has it and its sockets already.
    pub(super) is_with_shim: bool,
    /// What was written into the container's files.
    pub(super) written: Texts,
    /// Who the container's users are outside, if it has a user namespace.
    pub(super) owners: Option<Owners>,
}

/// The namespace that a container with this network has of its own, not connected to anything yet.
pub(super) async fn namespace(network: &NetworkMode) -> Result<Option<Namespace>> {
    let make = match network {
        NetworkMode::Host | NetworkMode::Container(_) => return Ok(None),
        NetworkMode::None => Namespace::with_loopback_only,
        NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Named(_) => Namespace::create,
    };
    blocking(make).await?.attempt(|| "make a network namespace".to_owned()).map(Some)
}

/// Sets up the new namespace of a container with this network, not connected to anything yet.
pub(super) async fn set_up(network: &NetworkMode, netns: OwnedFd) -> Result<Namespace> {
    let set_up =
        if *network == NetworkMode::None { Namespace::set_up_loopback_only } else { Namespace::set_up };
    blocking(move || set_up(netns)).await?.attempt(|| "set up a network namespace".to_owned())
}

/// Connects the container of `task`; a part of that may have been done ahead.
pub(super) async fn connect(task: &Task, ahead: Option<Ahead>) -> Result<Connected> {
    let settings = &task.now.settings;
    let Ahead { namespace: made, is_with_shim, written, owners } = ahead.unwrap_or_default();
    let mode = &settings.host.network;
    if let NetworkMode::Container(other) = mode {
        let joined = Some(partners::network_of(&task.shared, other)?);
        return Ok(Connected { joined, is_with_shim, written, owners, ..Connected::default() });
    }
    let made = match made {
        Some(made) => Some(made),
        None => namespace(mode).await?,
    };
    let links = links::variables(&task.shared, &task.now)?;
    let connected = match made {
        Some(namespace) if is_on_networks(mode) => Connected { links, ..attach_all(task, namespace).await? },
        namespace => Connected { namespace, ..Connected::default() },
    };
    Ok(Connected { is_with_shim, written, owners, ..connected })
}

/// Whether a container with this mode is on networks, and resolves the names there.
fn is_on_networks(mode: &NetworkMode) -> bool {
    matches!(mode, NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Named(_))
}

/// Attaches a namespace to all networks of the container, or to none.
async fn attach_all(task: &Task, mut namespace: Namespace) -> Result<Connected> {
    let mut networks = super::memberships::found(&task.shared.networks, &task.now.networks)?;
    let way_out = way_out(&task.shared.networks, &networks)?;
    let outward = way_out.map(|nth| task.shared.networks.find(&networks[nth].network)).transpose()?;
    let ports = ports(&task.now.settings, &task.shared.config, outward.as_deref())?;
    let mut held = Held::default();
    for nth in 0..networks.len() {
        let is_way_out = way_out == Some(nth);
        let ports = if is_way_out { ports.clone() } else { Vec::new() };
        let attached = match interface(nth) {
            Ok(interface) => {
                attach_one(task, &networks[nth], Place { interface, is_way_out, ports }, namespace).await
            }
            Err(error) => Err(error),
        };
        let (same, endpoint, sockets) = match attached {
            Ok(attached) => attached,
            Err(error) => {
                give_back(&task.shared, &task.now.id, networks).await;
                return Err(with_name(error, task));
            }
        };
        namespace = same;
        if is_way_out {
            held = sockets;
        }
        networks[nth].endpoint = Some(endpoint);
        networks[nth].is_way_out = is_way_out;
    }
    Ok(Connected { namespace: Some(namespace), has_names: true, networks, held, ..Connected::default() })
}

/// How a container is attached to one of its networks.
pub(super) struct Place {
    /// Its interface there.
    pub(super) interface: InterfaceName,
    /// Whether the network is its way to everywhere.
    pub(super) is_way_out: bool,
    /// What it publishes there.
    pub(super) ports: Vec<PublishRequest>,
}

/// Interface number `nth` of a container.
pub(super) fn interface(nth: usize) -> Result<InterfaceName> {
    InterfaceName::new(format!("eth{nth}")).attempt(|| "name the interface".to_owned())
}

/// Attaches a namespace to one of the container's networks.
pub(super) async fn attach_one(
    task: &Task,
    membership: &Membership,
    place: Place,
    namespace: Namespace,
) -> Result<(Namespace, Endpoint, Held)> {
    let live = task.shared.networks.find(&membership.network)?;
    let request = EndpointRequest {
        container_id: task.now.id.to_string(),
        interface: place.interface,
        ips: membership.addresses.all().collect(),
        mac: membership.mac()?,
        default_route: if place.is_way_out { DefaultRoute::Here } else { DefaultRoute::Elsewhere },
        ports: place.ports,
    };
    live.bridge.attach(namespace, request).await
}

/// Which of a container's networks is its way to everywhere, and has its published ports: the first by name that is not
/// internal.
pub(super) fn way_out(networks: &Networks, memberships: &[Membership]) -> Result<Option<usize>> {
    let mut outward = Vec::new();
    for (nth, membership) in memberships.iter().enumerate() {
        if !networks.find(&membership.network)?.network.internal {
            outward.push((membership.name.as_str(), nth));
        }
    }
    Ok(outward.into_iter().min().map(|(_, nth)| nth))
}

/// Takes a container off networks. Its interfaces die with its namespace.
pub(super) async fn give_back(shared: &Shared, id: &ContainerId, networks: Vec<Membership>) {
    for Membership { network, endpoint, .. } in networks {
        let Some(endpoint) = endpoint else { continue };
        let detached = match shared.networks.find(&network) {
            Ok(live) => live.bridge.detach(endpoint).await,
            Err(error) => Err(error),
        };
        if let Err(error) = detached {
            tracing::error!(container = %id, error = error.chain(), "its network could not be taken down");
        }
    }
}

/// Where the container's names are resolved, if it is on a network.
pub(super) fn names(shared: &Shared, now: &Description) -> Names {
    Names {
        tables: now.networks.iter().map(|membership| shared.networks.names(&membership.network)).collect(),
        networks: now.networks.iter().map(|membership| membership.name.clone()).collect(),
        endpoint: now.id.to_string(),
        servers: servers(&shared.config, &now.settings),
        // What is not known to lead anywhere does not.
        is_internal: !way_out(&shared.networks, &now.networks).is_ok_and(|way_out| way_out.is_some()),
        aliases: links::aliases(shared, now),
    }
}

pub(super) fn with_name(error: Error, task: &Task) -> Error {
    match error {
        Error::Failed { action, source } => {
            Error::Failed { action: format!("{action} on endpoint {}", task.now.name), source }
        }
        other => other,
    }
}

/// What the container publishes through a network.
pub(super) fn ports(
    settings: &Settings,
    config: &Config,
    through: Option<&Live>,
) -> Result<Vec<PublishRequest>> {
    let mut ports = settings.host.ports.clone();
    if settings.host.publish_all {
        for exposed in &settings.exposed_ports {
            let (container_port, protocol) = parse_port(exposed)?;
            if !ports.iter().any(|p| p.container_port == container_port && p.protocol == protocol) {
                ports.push(PublishRequest {
                    protocol,
                    container_port,
                    host_ip: None,
                    host_port: HostPort::Random,
                });
            }
        }
    }
    let binding =
        through.and_then(|live| live.options.binding).map(IpAddr::V4).or(config.defaults.publish_address);
    for port in ports.iter_mut().filter(|port| port.host_ip.is_none()) {
        port.host_ip = binding;
    }
    Ok(ports)
}

/// What the shim relays of the ports of an endpoint.
pub(super) fn relays(endpoint: &Endpoint) -> Vec<RelayedPort> {
    let relayed = |(port, target): (Published, _)| RelayedPort { port: held(&port), target };
    endpoint.relays().map(relayed).collect()
}

/// What the shim knows a port by.
pub(super) fn held(port: &Published) -> HeldPort {
    HeldPort { protocol: port.protocol.number(), address: SocketAddr::new(port.host_ip, port.host_port) }
}

/// Parses `PORT[/PROTOCOL]`.
///
/// # Errors
/// [`Error::Invalid`] with Docker's words.
pub fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = port.parse::<u16>().ok().filter(|port| *port > 0);
    let number = number.ok_or_else(|| Error::Invalid(format!("invalid port number: {text:?}")))?;
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(Error::Invalid(format!("invalid proto: {other}"))),
    };
    Ok((number, protocol))
}

/// Parses six bytes in hexadecimal, separated by colons.
pub(crate) fn parse_mac(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next().filter(|part| part.len() == 2)?, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(bytes))
}

/// The servers that a container's names are asked of beyond its network; the host's own if none.
pub(super) fn servers(config: &Config, settings: &Settings) -> Vec<IpAddr> {
    let own = &settings.host.dns;
    if own.is_empty() { config.dns.clone() } else { own.clone() }
}

/// The files that are mounted over the image's: path on the host, path inside.
pub(crate) type Files = Vec<(PathBuf, &'static str)>;

/// Where those of a container with this state directory are that shares nobody's network, and what they are inside.
pub(super) fn own_files(directory: &Path) -> Files {
    [("hostname", "/etc/hostname"), ("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")]
        .map(|(name, inside)| (directory.join(name), inside))
        .into()
}

/// Writes (and blocks meanwhile) `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container, as far as they are
/// not `written` like that, or finds those of the container whose network it shares.
pub(super) fn write_files(
    shared: &Shared,
    now: &Description,
    networks: &[Membership],
    written: &Texts,
) -> Result<Files> {
    if matches!(now.settings.host.network, NetworkMode::Container(_)) {
        return Ok(own_files(&shared.state_directory(&partners::owner_of_network(shared, now)?)));
    }
    let files = own_files(&shared.state_directory(&now.id));
    let endpoints = networks.iter().filter_map(|network| network.endpoint.as_ref());
    let addresses: Vec<_> = endpoints.flat_map(Endpoint::ips).collect();
    let is_on_network = is_on_networks(&now.settings.host.network);
    let texts = texts(shared, now, is_on_network.then_some(&addresses))?;
    let mut missing =
        files.iter().zip(texts.iter().zip(written)).filter(|(_, (text, written))| text != written);
    missing.try_for_each(|((path, _), (text, _))| write(path, text))?;
    Ok(files)
}

/// Writes what the files are going to be as far as it is known before the container has an address.
pub(super) fn write_ahead(shared: &Shared, now: &Description) -> Result<Texts> {
    let is_on_network = is_on_networks(&now.settings.host.network);
    let mut texts = texts(shared, now, is_on_network.then_some(&[]))?;
    if is_on_network {
        // Its own address is missing.
        texts[1].clear();
    }
    let files = own_files(&shared.state_directory(&now.id));
    let mut known = files.iter().zip(&texts).filter(|(_, text)| !text.is_empty());
    known.try_for_each(|((path, _), text)| write(path, text))?;
    Ok(texts)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).attempt(|| format!("write {}", path.display()))
}

/// The files of a container that is on networks (with the addresses that it has so far) or on none.
fn texts(shared: &Shared, now: &Description, network: Option<&[IpAddr]>) -> Result<Texts> {
    let settings = &now.settings;
    let config = &shared.config;
    let facts = oci_spec::Host { hostname: shared.hostname.clone(), ..oci_spec::Host::default() };
    let hostname = oci_spec::hostname(&now.id, settings, &facts);
    let refused = |error: coracle_network::Error| Error::Invalid(error.to_string());
    let extra = extra_hosts(settings)?;
    let bridge = || shared.networks.default().network.subnets().next().map(|subnet| subnet.address());
    let gateway = config.defaults.host_gateway.or_else(bridge);
    let own =
        |list: &[String], default: &[String]| if list.is_empty() { default.to_vec() } else { list.to_vec() };
    let search = own(&settings.host.dns_search, &config.dns_search);
    let options = own(&settings.host.dns_options, &config.dns_options);
    let servers = servers(config, settings);
    let wanted = Resolution { servers: &servers, search: &search, options: &options };
    let host_resolv = files::read_resolv_conf(Path::new("/etc/resolv.conf")).unwrap_or_default();
    let (hosts, resolv) = if settings.host.network == NetworkMode::Host {
        let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        (files::hosts_of_host(&text, &extra, gateway), files::resolv_conf_of_host(&host_resolv, &wanted))
    } else {
        let hosts = Hosts {
            hostname: &hostname,
            domain: &settings.domainname,
            addresses: network.unwrap_or_default(),
            extra: &extra,
            gateway,
        };
        let resolv = match network {
            Some(_) => files::resolv_conf(&host_resolv, &wanted),
            None => files::resolv_conf_of_host(&host_resolv, &wanted),
        };
        (files::hosts(&hosts), resolv)
    };
    Ok([files::hostname(&hostname).map_err(refused)?, hosts.map_err(refused)?, resolv.map_err(refused)?])
}

fn extra_hosts(settings: &Settings) -> Result<Vec<(String, ExtraAddress)>> {
    settings
        .host
        .extra_hosts
        .iter()
        .map(|entry| {
            let invalid = || Error::Invalid(format!("bad format for add-host: {entry:?}"));
            let (name, address) =
                entry.split_once(':').or_else(|| entry.split_once('=')).ok_or_else(invalid)?;
            let address = match address {
                "host-gateway" => ExtraAddress::HostGateway,
                text => ExtraAddress::Ip(text.trim_matches(['[', ']']).parse().map_err(|_| invalid())?),
            };
            Ok((name.to_owned(), address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_hardware_addresses_parse_or_are_refused() {
        assert_eq!(parse_port("80").unwrap(), (80, Protocol::Tcp));
        assert_eq!(parse_port("53/UDP").unwrap(), (53, Protocol::Udp));
        for text in ["", "0", "65536", "-1", "80/", "80/icmp", "a/tcp"] {
            assert!(parse_port(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_mac("02:42:ac:11:00:02").unwrap().0, [2, 0x42, 0xac, 0x11, 0, 2]);
        for text in ["", "02:42", "02:42:ac:11:00:02:03", "g2:42:ac:11:00:02", "2:42:ac:11:00:02"] {
            assert!(parse_mac(text).is_none(), "{text:?}");
        }
    }
}
