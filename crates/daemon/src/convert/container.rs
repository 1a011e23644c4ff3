//! A container as `inspect` shows it.

use super::host_config::host_config;
use super::time;
use coracle_api::ApiVersion;
use coracle_api::container as api;
use coracle_api::network::{EndpointIpamConfig, EndpointSettings};
use coracle_engine::Engine;
use coracle_engine::containers::health::{Health, Probe};
use coracle_engine::containers::modes::NetworkMode;
use coracle_engine::containers::settings::{FixedAddresses, Link, Settings};
use coracle_engine::containers::state::{State, Status};
use coracle_engine::containers::{Description, Membership, MountPoint};
use coracle_engine::network::{BRIDGE, Family, Published, predefined_id};
use coracle_spec::Digest;
use coracle_spec::image::Healthcheck;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a client of this version sees.
pub(crate) fn inspect(
    engine: &Engine,
    container: &Description,
    version: ApiVersion,
) -> api::ContainerInspect {
    let settings = &container.settings;
    let mut words = settings.entrypoint.iter().flatten().chain(settings.cmd.iter().flatten()).cloned();
    let execs = engine.execs_of(container);
    let paths = engine.paths_of(container);
    api::ContainerInspect {
        id: container.id.to_string(),
        created: time::write(Some(container.created)),
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        state: state(&container.state),
        image: container.image.to_string(),
        resolv_conf_path: paths.file("resolv.conf"),
        hostname_path: paths.file("hostname"),
        hosts_path: paths.file("hosts"),
        log_path: paths.log(),
        name: format!("/{}", container.name),
        restart_count: i64::from(container.state.restart_count),
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        exec_ids: (!execs.is_empty()).then_some(execs),
        host_config: api::HostConfig {
            links: Some(engine.links_of(container)).filter(|links| !links.is_empty()),
            ..host_config(&settings.host)
        },
        graph_driver: (version < ApiVersion::new(1, 52)).then(|| graph_driver(&paths.layers())),
        mounts: container.mounts.iter().map(mount).collect(),
        config: api::Config { mac_address: own_mac_address(container, version), ..config(container) },
        network_settings: network_settings(container, version),
        ..api::ContainerInspect::default()
    }
}

fn graph_driver(layers: &[(&str, String)]) -> api::GraphDriver {
    let data = layers.iter().map(|(name, path)| ((*name).to_owned(), path.clone())).collect();
    api::GraphDriver { name: "overlay2".to_owned(), data: Some(data) }
}

fn state(state: &State) -> api::State {
    api::State {
        status: state.status.to_string(),
        running: state.status.is_up() || state.status == Status::Restarting,
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: i64::from(state.pid),
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: time::write(state.started_at),
        finished_at: time::write(state.finished_at),
        health: state.health.as_deref().map(health_state),
    }
}

fn health_state(health: &Health) -> api::Health {
    let result = |probe: &Probe| api::HealthResult {
        start: time::write(Some(probe.start)),
        end: time::write(Some(probe.end)),
        exit_code: i64::from(probe.exit_code),
        output: probe.output.clone(),
    };
    api::Health {
        status: health.status.to_string(),
        failing_streak: i64::from(health.failing_streak),
        log: Some(health.log.iter().map(result).collect()),
    }
}

fn config(container: &Description) -> api::Config {
    let settings = &container.settings;
    api::Config {
        hostname: hostname(container, settings),
        domainname: settings.domainname.clone(),
        user: settings.user.clone(),
        attach_stdin: settings.attach[0],
        attach_stdout: settings.attach[1],
        attach_stderr: settings.attach[2],
        exposed_ports: filled(settings.exposed_ports.iter()),
        tty: settings.tty,
        network_disabled: settings.network_disabled,
        open_stdin: settings.open_stdin,
        stdin_once: settings.stdin_once,
        env: Some(settings.env.clone()),
        cmd: settings.cmd.clone(),
        healthcheck: settings.healthcheck.as_ref().map(health),
        image: settings.image.clone(),
        volumes: filled(settings.volumes.iter()),
        working_dir: settings.working_dir.clone(),
        entrypoint: settings.entrypoint.clone(),
        on_build: (!settings.on_build.is_empty()).then(|| settings.on_build.clone()),
        labels: Some(settings.labels.clone()),
        stop_signal: settings.stop_signal.clone(),
        stop_timeout: settings.stop_timeout,
        shell: settings.shell.clone(),
        ..api::Config::default()
    }
}

/// The address that was asked for on the container's first network, as long as the API had one for all of the container.
fn own_mac_address(container: &Description, version: ApiVersion) -> String {
    let first = container.networks.first().filter(|_| version < ApiVersion::new(1, 52));
    first.map(|network| network.mac_address.clone()).unwrap_or_default()
}

pub(super) fn health(check: &Healthcheck) -> api::HealthConfig {
    api::HealthConfig {
        test: Some(check.test.clone()),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

fn hostname(container: &Description, settings: &Settings) -> String {
    if settings.hostname.is_empty() && !matches!(settings.host.network, NetworkMode::Container(_)) {
        return container.id.short().to_owned();
    }
    settings.hostname.clone()
}

/// A set as Go writes one: a map to nothing, or null.
pub(crate) fn filled<'a>(
    names: impl ExactSizeIterator<Item = &'a String>,
) -> Option<BTreeMap<String, coracle_api::Empty>> {
    (names.len() > 0).then(|| names.map(|name| (name.clone(), coracle_api::Empty::default())).collect())
}

/// A mount point as both `inspect` and `ps` show it.
pub(crate) fn mount(mount: &MountPoint) -> api::MountPoint {
    api::MountPoint {
        kind: mount.kind.clone(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: if mount.kind == "volume" { mount.driver.clone() } else { String::new() },
        mode: mount.mode.clone(),
        writable: mount.writable,
        propagation: mount.propagation.clone(),
    }
}

fn network_settings(container: &Description, version: ApiVersion) -> api::NetworkSettings {
    let networks = networks(container);
    let default_bridge = (version < ApiVersion::new(1, 52))
        .then(|| default_bridge(networks.get(BRIDGE).filter(|_| container.endpoints().next().is_some())));
    if container.endpoints().next().is_none() {
        return api::NetworkSettings { networks, default_bridge, ..api::NetworkSettings::default() };
    }
    let published: Vec<Published> =
        container.endpoints().flat_map(|endpoint| endpoint.ports.iter().copied()).collect();
    api::NetworkSettings {
        sandbox_id: container.id.to_string(),
        sandbox_key: format!("/proc/{}/ns/net", container.state.pid),
        ports: ports(container, &published),
        default_bridge,
        networks,
    }
}

fn default_bridge(endpoint: Option<&EndpointSettings>) -> api::DefaultBridge {
    let endpoint = endpoint.cloned().unwrap_or_default();
    api::DefaultBridge {
        endpoint_id: endpoint.endpoint_id,
        gateway: endpoint.gateway,
        ip_address: endpoint.ip_address,
        ip_prefix_len: endpoint.ip_prefix_len,
        ipv6_gateway: endpoint.ipv6_gateway,
        global_ipv6_address: endpoint.global_ipv6_address,
        global_ipv6_prefix_len: endpoint.global_ipv6_prefix_len,
        mac_address: endpoint.mac_address,
        ..api::DefaultBridge::default()
    }
}

/// Every exposed port, with where it is published.
fn ports(container: &Description, published: &[Published]) -> api::PortMap {
    let settings = &container.settings;
    let exposed = settings.exposed_ports.iter().map(|port| match port.contains('/') {
        true => port.clone(),
        false => format!("{port}/tcp"),
    });
    let mut ports: api::PortMap = exposed.map(|port| (port, None)).collect();
    for port in published {
        let binding =
            api::PortBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() };
        let key = format!("{}/{}", port.container_port, port.protocol);
        ports.entry(key).or_default().get_or_insert_default().push(binding);
    }
    ports
}

/// The networks of a container by name.
pub(crate) fn networks(container: &Description) -> BTreeMap<String, EndpointSettings> {
    if let mode @ (NetworkMode::Host | NetworkMode::None) = &container.settings.host.network {
        let name = mode.to_string();
        let network_id = predefined_id(&name);
        return [(name, EndpointSettings { network_id, ..EndpointSettings::default() })].into();
    }
    let shown = |membership: &Membership| (membership.name.clone(), endpoint(container, membership));
    container.networks.iter().map(shown).collect()
}

fn link(link: &Link) -> String {
    format!("{}:{}", link.container, link.alias)
}

fn endpoint(container: &Description, membership: &Membership) -> EndpointSettings {
    let mut shown = EndpointSettings {
        links: (!membership.links.is_empty()).then(|| membership.links.iter().map(link).collect()),
        aliases: (!membership.aliases.is_empty()).then(|| membership.aliases.clone()),
        ipam_config: ipam_config(membership.addresses),
        mac_address: membership.mac_address.clone(),
        network_id: membership.network.clone(),
        ..EndpointSettings::default()
    };
    if let Some(found) = &membership.endpoint {
        shown.endpoint_id = endpoint_id(container, &membership.network);
        if let Some(address) = found.address(Family::V4) {
            shown.gateway = address.gateway.to_string();
            shown.ip_address = address.ip.to_string();
            shown.ip_prefix_len = i64::from(address.prefix_length);
        }
        if let Some(address) = found.address(Family::V6) {
            shown.ipv6_gateway = address.gateway.to_string();
            shown.global_ipv6_address = address.ip.to_string();
            shown.global_ipv6_prefix_len = i64::from(address.prefix_length);
        }
        shown.mac_address = found.mac.to_string();
        shown.dns_names = Some(membership.names(container));
    }
    shown
}

/// The addresses that were asked for, if any.
fn ipam_config(asked: FixedAddresses) -> Option<EndpointIpamConfig> {
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    (asked != FixedAddresses::default()).then(|| EndpointIpamConfig {
        ipv4_address: text(asked.v4.map(IpAddr::V4)),
        ipv6_address: text(asked.v6.map(IpAddr::V6)),
        ..EndpointIpamConfig::default()
    })
}

/// The id of a container's place on a network: the same for as long as it is there.
pub(crate) fn endpoint_id(container: &Description, network: &str) -> String {
    Digest::of(format!("endpoint {} {network}", container.id).as_bytes()).hex()
}
