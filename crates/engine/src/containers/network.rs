//! A container's place on its network: the connection, and the three files that tell it who it is.

use super::modes::NetworkMode;
use super::settings::Settings;
use super::task::Task;
use super::{Description, host, oci_spec};
use crate::config::Config;
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_network::files::{self, ExtraAddress, Hosts, Resolution};
use coracle_network::{
    DefaultRoute, Endpoint, EndpointRequest, Held, InterfaceName, Mac, Namespace, PublishRequest,
};
use coracle_network::{HostPort, Protocol};
use coracle_runtime::protocol::Names;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What a container's network came to.
#[derive(Default)]
pub(super) struct Connected {
    /// The container's own namespace.
    pub(super) namespace: Option<Namespace>,
    /// Its place on the network.
    pub(super) endpoint: Option<Endpoint>,
    /// Its reserved ports.
    pub(super) held: Held,
    /// The namespace of another container.
    pub(super) joined: Option<OwnedFd>,
    /// Whether the shim has the namespace and its sockets already.
    pub(super) is_with_shim: bool,
    /// What is in the container's files already.
    pub(super) written: Texts,
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`.
pub(super) type Texts = [String; 3];

/// What was made of a container's network before its start.
pub(super) struct Ahead {
    /// The container's own namespace, which its shim has.
    pub(super) namespace: Option<Namespace>,
    /// What was written into the container's files.
    pub(super) written: Texts,
}

/// The namespace that a container with this network has of its own, not connected to anything yet.
pub(super) async fn namespace(shared: &Shared, network: &NetworkMode) -> Result<Option<Namespace>> {
    match network {
        NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Named(_) => Ok(None),
        NetworkMode::None => {
            let made = blocking(Namespace::with_loopback_only).await?;
            made.attempt(|| "make a network namespace".to_owned()).map(Some)
        }
        NetworkMode::Default | NetworkMode::Bridge => shared.network.namespace().await.map(Some),
    }
}

/// Connects the container of `task`; a part of that may have been done ahead.
pub(super) async fn connect(task: &Task, ahead: Option<Ahead>) -> Result<Connected> {
    let settings = &task.now.settings;
    let is_with_shim = ahead.is_some();
    let (made, written) = ahead.map_or_else(Default::default, |ahead| (ahead.namespace, ahead.written));
    let connected = match &settings.host.network {
        NetworkMode::Host => Connected::default(),
        NetworkMode::None => {
            let namespace = match made {
                Some(made) => Some(made),
                None => namespace(&task.shared, &settings.host.network).await?,
            };
            Connected { namespace, ..Connected::default() }
        }
        NetworkMode::Container(other) => {
            let joined = host::namespace_of(&task.shared, other, "net")?;
            Connected { joined: Some(joined), ..Connected::default() }
        }
        NetworkMode::Default | NetworkMode::Bridge => {
            let request = request(task.now.id.as_str(), settings)?;
            let attached = task.shared.network.attach(request, made).await;
            let (namespace, endpoint, held) = attached.map_err(|error| with_name(error, task))?;
            Connected { namespace: Some(namespace), endpoint: Some(endpoint), held, ..Connected::default() }
        }
        NetworkMode::Named(name) => return Err(Error::NotFound { kind: "network", name: name.clone() }),
    };
    Ok(Connected { is_with_shim, written, ..connected })
}

/// Where the container's names are resolved, if it is on a network.
pub(super) fn names(shared: &Shared, now: &Description) -> Names {
    Names {
        tables: vec![shared.network.names().to_owned()],
        endpoint: now.id.to_string(),
        servers: servers(&shared.config, &now.settings),
    }
}

fn with_name(error: Error, task: &Task) -> Error {
    match error {
        Error::Failed { action, source } => {
            Error::Failed { action: format!("{action} on endpoint {}", task.now.name), source }
        }
        other => other,
    }
}

fn request(id: &str, settings: &Settings) -> Result<EndpointRequest> {
    let mac = match settings.host.mac_address.as_str() {
        "" => None,
        text => {
            let invalid = || Error::Invalid(format!("invalid MAC address: {text}"));
            Some(parse_mac(text).ok_or_else(invalid)?)
        }
    };
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
    Ok(EndpointRequest {
        container_id: id.to_owned(),
        interface: InterfaceName::new("eth0").attempt(|| "name the interface".to_owned())?,
        ip: settings.host.address,
        mac,
        default_route: DefaultRoute::Here,
        ports,
    })
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
    endpoint: Option<&Endpoint>,
    written: &Texts,
) -> Result<Files> {
    if let NetworkMode::Container(other) = &now.settings.host.network {
        return Ok(own_files(&shared.state_directory(shared.containers.find(other)?.id())));
    }
    let files = own_files(&shared.state_directory(&now.id));
    let texts = texts(shared, now, endpoint.map(|endpoint| Some(endpoint.ip)))?;
    let mut missing =
        files.iter().zip(texts.iter().zip(written)).filter(|(_, (text, written))| text != written);
    missing.try_for_each(|((path, _), (text, _))| write(path, text))?;
    Ok(files)
}

/// Writes what the files are going to be as far as it is known before the container has an address.
pub(super) fn write_ahead(shared: &Shared, now: &Description) -> Result<Texts> {
    let is_on_network = matches!(now.settings.host.network, NetworkMode::Default | NetworkMode::Bridge);
    let mut texts = texts(shared, now, is_on_network.then_some(None))?;
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

/// The files of a container that is on a network (with an address, if it has one yet) or on none.
fn texts(shared: &Shared, now: &Description, network: Option<Option<Ipv4Addr>>) -> Result<Texts> {
    let settings = &now.settings;
    let config = &shared.config;
    let facts = oci_spec::Host { hostname: shared.hostname.clone(), ..oci_spec::Host::default() };
    let hostname = oci_spec::hostname(&now.id, settings, &facts);
    let refused = |error: coracle_network::Error| Error::Invalid(error.to_string());
    let extra = extra_hosts(settings)?;
    let gateway = shared.network.subnet().map(|subnet| IpAddr::V4(subnet.address()));
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
        let addresses: Vec<_> = network.flatten().into_iter().collect();
        let hosts = Hosts {
            hostname: &hostname,
            domain: &settings.domainname,
            addresses: &addresses,
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
