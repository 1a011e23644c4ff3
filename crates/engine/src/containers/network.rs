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
use std::net::IpAddr;
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
}

/// Connects the container of `task`.
pub(super) async fn connect(task: &Task) -> Result<Connected> {
    let settings = &task.now.settings;
    match &settings.host.network {
        NetworkMode::Host => Ok(Connected::default()),
        NetworkMode::None => {
            let made = blocking(Namespace::with_loopback_only).await?;
            let namespace = made.attempt(|| "make a network namespace".to_owned())?;
            Ok(Connected { namespace: Some(namespace), ..Connected::default() })
        }
        NetworkMode::Container(other) => {
            let joined = host::namespace_of(&task.shared, other, "net")?;
            Ok(Connected { joined: Some(joined), ..Connected::default() })
        }
        NetworkMode::Default | NetworkMode::Bridge => {
            let request = request(task.now.id.as_str(), settings)?;
            let (namespace, endpoint, held) =
                task.shared.network.attach(request).await.map_err(|error| with_name(error, task))?;
            Ok(Connected { namespace: Some(namespace), endpoint: Some(endpoint), held, joined: None })
        }
        NetworkMode::Named(name) => Err(Error::NotFound { kind: "network", name: name.clone() }),
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

/// Writes (and blocks meanwhile) `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container, or finds those of the container whose
/// network it shares.
pub(super) fn write_files(shared: &Shared, now: &Description, endpoint: Option<&Endpoint>) -> Result<Files> {
    let names = [("hostname", "/etc/hostname"), ("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")];
    let directory = match &now.settings.host.network {
        NetworkMode::Container(other) => shared.state_directory(shared.containers.find(other)?.id()),
        _ => {
            let directory = shared.state_directory(&now.id);
            let texts = texts(shared, now, endpoint)?;
            names.iter().zip(texts).try_for_each(|((name, _), text)| write(&directory.join(name), &text))?;
            directory
        }
    };
    Ok(names.iter().map(|(name, inside)| (directory.join(name), *inside)).collect())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).attempt(|| format!("write {}", path.display()))
}

fn texts(shared: &Shared, now: &Description, endpoint: Option<&Endpoint>) -> Result<[String; 3]> {
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
        let addresses: Vec<_> = endpoint.iter().map(|endpoint| endpoint.ip).collect();
        let hosts = Hosts {
            hostname: &hostname,
            domain: &settings.domainname,
            addresses: &addresses,
            extra: &extra,
            gateway,
        };
        let resolv = match endpoint {
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
