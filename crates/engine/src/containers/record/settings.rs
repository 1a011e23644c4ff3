//! Containers as they stand on disk: JSON documents in the index.
//!
//! These types mirror the domain's and are private to this module: the domain can change without changing what is on
//! disk, and a document of an earlier release is read here. Unknown fields are ignored, missing ones have defaults.

use super::super::modes::{CgroupMode, IpcMode, NetworkMode, PidMode, UserMode, UtsMode};
use super::super::settings as domain;
use coracle_network::{HostPort, Protocol, PublishRequest};
use coracle_spec::image::Healthcheck;
use coracle_spec::runtime::ConsoleSize;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    image: String,
    hostname: String,
    domainname: String,
    user: String,
    attach: [bool; 3],
    tty: bool,
    network_disabled: bool,
    console_size: Option<ConsoleSize>,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    working_dir: String,
    labels: BTreeMap<String, String>,
    exposed_ports: BTreeSet<String>,
    volumes: BTreeSet<String>,
    stop_signal: String,
    stop_timeout: Option<i64>,
    healthcheck: Option<HealthCheck>,
    on_build: Vec<String>,
    shell: Option<Vec<String>>,
    host: HostSettings,
}

impl From<domain::Settings> for Settings {
    fn from(from: domain::Settings) -> Self {
        Self {
            image: from.image,
            hostname: from.hostname,
            domainname: from.domainname,
            user: from.user,
            attach: from.attach,
            tty: from.tty,
            network_disabled: from.network_disabled,
            console_size: from.console_size,
            open_stdin: from.open_stdin,
            stdin_once: from.stdin_once,
            env: from.env,
            cmd: from.cmd,
            entrypoint: from.entrypoint,
            working_dir: from.working_dir,
            labels: from.labels,
            exposed_ports: from.exposed_ports,
            volumes: from.volumes,
            stop_signal: from.stop_signal,
            stop_timeout: from.stop_timeout,
            healthcheck: from.healthcheck.map(Into::into),
            on_build: from.on_build,
            shell: from.shell,
            host: from.host.into(),
        }
    }
}

impl From<Settings> for domain::Settings {
    fn from(from: Settings) -> Self {
        Self {
            image: from.image,
            hostname: from.hostname,
            domainname: from.domainname,
            user: from.user,
            attach: from.attach,
            tty: from.tty,
            network_disabled: from.network_disabled,
            console_size: from.console_size,
            open_stdin: from.open_stdin,
            stdin_once: from.stdin_once,
            env: from.env,
            secret_env: domain::Concealed::default(),
            cmd: from.cmd,
            entrypoint: from.entrypoint,
            working_dir: from.working_dir,
            labels: from.labels,
            exposed_ports: from.exposed_ports,
            volumes: from.volumes,
            stop_signal: from.stop_signal,
            stop_timeout: from.stop_timeout,
            healthcheck: from.healthcheck.map(Into::into),
            on_build: from.on_build,
            shell: from.shell,
            host: from.host.into(),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct HealthCheck {
    test: Vec<String>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

impl From<Healthcheck> for HealthCheck {
    fn from(from: Healthcheck) -> Self {
        Self {
            test: from.test,
            interval: from.interval,
            timeout: from.timeout,
            start_period: from.start_period,
            start_interval: from.start_interval,
            retries: from.retries,
        }
    }
}

impl From<HealthCheck> for Healthcheck {
    fn from(from: HealthCheck) -> Self {
        Self {
            test: from.test,
            interval: from.interval,
            timeout: from.timeout,
            start_period: from.start_period,
            start_interval: from.start_interval,
            retries: from.retries,
            other: serde_json::Map::new(),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct HostSettings {
    binds: Vec<String>,
    mounts: Vec<MountSetting>,
    tmpfs: BTreeMap<String, String>,
    network: String,
    aliases: Vec<String>,
    links: Vec<Link>,
    address: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_v6: Option<Ipv6Addr>,
    mac_address: String,
    ports: Vec<Publish>,
    publish_all: bool,
    restart: Restart,
    auto_remove: bool,
    privileged: bool,
    readonly_root: bool,
    init: Option<bool>,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    devices: Vec<DeviceMapping>,
    device_requests: Vec<DeviceRequest>,
    device_cgroup_rules: Vec<String>,
    ulimits: Vec<Ulimit>,
    sysctls: BTreeMap<String, String>,
    shm_size: i64,
    group_add: Vec<String>,
    oom_score_adj: i32,
    resources: Resources,
    dns: Vec<IpAddr>,
    dns_search: Vec<String>,
    dns_options: Vec<String>,
    extra_hosts: Vec<String>,
    security_opt: Vec<String>,
    storage: BTreeMap<String, String>,
    log: LogSettings,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    pid: String,
    ipc: String,
    uts: String,
    cgroupns: String,
    user_namespace: String,
    cgroup_parent: String,
    volumes_from: Vec<String>,
    annotations: BTreeMap<String, String>,
    runtime: String,
    volume_driver: String,
    isolation: String,
}

impl From<domain::HostSettings> for HostSettings {
    fn from(from: domain::HostSettings) -> Self {
        Self {
            binds: from.binds,
            mounts: from.mounts.into_iter().map(Into::into).collect(),
            tmpfs: from.tmpfs,
            network: from.network.to_string(),
            aliases: from.aliases,
            links: from.links.into_iter().map(Into::into).collect(),
            address: from.addresses.v4,
            address_v6: from.addresses.v6,
            mac_address: from.mac_address,
            ports: from.ports.into_iter().map(Into::into).collect(),
            publish_all: from.publish_all,
            restart: from.restart.into(),
            auto_remove: from.auto_remove,
            privileged: from.privileged,
            readonly_root: from.readonly_root,
            init: from.init,
            cap_add: from.cap_add,
            cap_drop: from.cap_drop,
            devices: from.devices.into_iter().map(Into::into).collect(),
            device_requests: from.device_requests.into_iter().map(Into::into).collect(),
            device_cgroup_rules: from.device_cgroup_rules,
            ulimits: from.ulimits.into_iter().map(Into::into).collect(),
            sysctls: from.sysctls,
            shm_size: from.shm_size,
            group_add: from.group_add,
            oom_score_adj: from.oom_score_adj,
            resources: from.resources.into(),
            dns: from.dns,
            dns_search: from.dns_search,
            dns_options: from.dns_options,
            extra_hosts: from.extra_hosts,
            security_opt: from.security_opt,
            storage: from.storage,
            log: from.log.into(),
            masked_paths: from.masked_paths,
            readonly_paths: from.readonly_paths,
            pid: from.pid.to_string(),
            ipc: from.ipc.to_string(),
            uts: from.uts.to_string(),
            cgroupns: from.cgroupns.to_string(),
            user_namespace: from.user_namespace.to_string(),
            cgroup_parent: from.cgroup_parent,
            volumes_from: from.volumes_from,
            annotations: from.annotations,
            runtime: from.runtime,
            volume_driver: from.volume_driver,
            isolation: from.isolation,
        }
    }
}

impl From<HostSettings> for domain::HostSettings {
    fn from(from: HostSettings) -> Self {
        Self {
            binds: from.binds,
            mounts: from.mounts.into_iter().map(Into::into).collect(),
            tmpfs: from.tmpfs,
            network: NetworkMode::parse(&from.network),
            joins: BTreeMap::new(),
            read_only_non_recursive: false,
            aliases: from.aliases,
            links: from.links.into_iter().map(Into::into).collect(),
            endpoint_links: Vec::new(),
            addresses: domain::FixedAddresses { v4: from.address, v6: from.address_v6 },
            mac_address: from.mac_address,
            ports: from.ports.into_iter().map(Into::into).collect(),
            publish_all: from.publish_all,
            restart: from.restart.into(),
            auto_remove: from.auto_remove,
            privileged: from.privileged,
            readonly_root: from.readonly_root,
            init: from.init,
            cap_add: from.cap_add,
            cap_drop: from.cap_drop,
            devices: from.devices.into_iter().map(Into::into).collect(),
            device_requests: from.device_requests.into_iter().map(Into::into).collect(),
            device_cgroup_rules: from.device_cgroup_rules,
            ulimits: from.ulimits.into_iter().map(Into::into).collect(),
            sysctls: from.sysctls,
            shm_size: from.shm_size,
            group_add: from.group_add,
            oom_score_adj: from.oom_score_adj,
            resources: from.resources.into(),
            dns: from.dns,
            dns_search: from.dns_search,
            dns_options: from.dns_options,
            extra_hosts: from.extra_hosts,
            security_opt: from.security_opt,
            storage: from.storage,
            log: from.log.into(),
            masked_paths: from.masked_paths,
            readonly_paths: from.readonly_paths,
            pid: PidMode::parse(&from.pid).unwrap_or_default(),
            ipc: IpcMode::parse(&from.ipc).unwrap_or_default(),
            uts: UtsMode::parse(&from.uts).unwrap_or_default(),
            cgroupns: CgroupMode::parse(&from.cgroupns).unwrap_or_default(),
            user_namespace: UserMode::parse(&from.user_namespace).unwrap_or_default(),
            cgroup_parent: from.cgroup_parent,
            volumes_from: from.volumes_from,
            annotations: from.annotations,
            runtime: from.runtime,
            volume_driver: from.volume_driver,
            isolation: from.isolation,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    container: String,
    alias: String,
}

impl From<domain::Link> for Link {
    fn from(from: domain::Link) -> Self {
        Self { container: from.container, alias: from.alias }
    }
}

impl From<Link> for domain::Link {
    fn from(from: Link) -> Self {
        Self { container: from.container, alias: from.alias }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct MountSetting {
    kind: String,
    source: String,
    subpath: String,
    target: String,
    read_only: bool,
    propagation: String,
    non_recursive: bool,
    read_only_non_recursive: bool,
    read_only_force_recursive: bool,
    create_source: bool,
    no_copy: bool,
    labels: BTreeMap<String, String>,
    driver: String,
    driver_options: BTreeMap<String, String>,
    tmpfs_size: i64,
    tmpfs_mode: u32,
}

impl From<domain::MountSetting> for MountSetting {
    fn from(from: domain::MountSetting) -> Self {
        Self {
            kind: from.kind,
            source: from.source,
            subpath: from.subpath,
            target: from.target,
            read_only: from.read_only,
            propagation: from.propagation,
            non_recursive: from.non_recursive,
            read_only_non_recursive: from.read_only_non_recursive,
            read_only_force_recursive: from.read_only_force_recursive,
            create_source: from.create_source,
            no_copy: from.no_copy,
            labels: from.labels,
            driver: from.driver,
            driver_options: from.driver_options,
            tmpfs_size: from.tmpfs_size,
            tmpfs_mode: from.tmpfs_mode,
        }
    }
}

impl From<MountSetting> for domain::MountSetting {
    fn from(from: MountSetting) -> Self {
        Self {
            kind: from.kind,
            is_engines: false,
            source: from.source,
            subpath: from.subpath,
            target: from.target,
            read_only: from.read_only,
            propagation: from.propagation,
            non_recursive: from.non_recursive,
            read_only_non_recursive: from.read_only_non_recursive,
            read_only_force_recursive: from.read_only_force_recursive,
            create_source: from.create_source,
            no_copy: from.no_copy,
            labels: from.labels,
            driver: from.driver,
            driver_options: from.driver_options,
            tmpfs_size: from.tmpfs_size,
            tmpfs_mode: from.tmpfs_mode,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct DeviceMapping {
    host: String,
    container: String,
    permissions: String,
}

impl From<domain::DeviceMapping> for DeviceMapping {
    fn from(from: domain::DeviceMapping) -> Self {
        Self { host: from.host, container: from.container, permissions: from.permissions }
    }
}

impl From<DeviceMapping> for domain::DeviceMapping {
    fn from(from: DeviceMapping) -> Self {
        Self { host: from.host, container: from.container, permissions: from.permissions }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct DeviceRequest {
    driver: String,
    count: i64,
    ids: Option<Vec<String>>,
    capabilities: Option<Vec<Vec<String>>>,
    options: Option<BTreeMap<String, String>>,
}

impl From<domain::DeviceRequest> for DeviceRequest {
    fn from(from: domain::DeviceRequest) -> Self {
        Self {
            driver: from.driver,
            count: from.count,
            ids: from.ids,
            capabilities: from.capabilities,
            options: from.options,
        }
    }
}

impl From<DeviceRequest> for domain::DeviceRequest {
    fn from(from: DeviceRequest) -> Self {
        Self {
            driver: from.driver,
            count: from.count,
            ids: from.ids,
            capabilities: from.capabilities,
            options: from.options,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}

impl From<domain::Ulimit> for Ulimit {
    fn from(from: domain::Ulimit) -> Self {
        Self { name: from.name, soft: from.soft, hard: from.hard }
    }
}

impl From<Ulimit> for domain::Ulimit {
    fn from(from: Ulimit) -> Self {
        Self { name: from.name, soft: from.soft, hard: from.hard }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Resources {
    memory: i64,
    memory_swap: i64,
    memory_reservation: i64,
    memory_swappiness: Option<i64>,
    oom_kill_disable: bool,
    cpu_shares: i64,
    cpu_period: i64,
    cpu_quota: i64,
    nano_cpus: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    pids: Option<i64>,
    blkio_weight: u16,
    blkio_weight_device: Vec<DeviceRate>,
    blkio_read_bps: Vec<DeviceRate>,
    blkio_write_bps: Vec<DeviceRate>,
    blkio_read_iops: Vec<DeviceRate>,
    blkio_write_iops: Vec<DeviceRate>,
}

impl From<domain::Resources> for Resources {
    fn from(from: domain::Resources) -> Self {
        Self {
            memory: from.memory,
            memory_swap: from.memory_swap,
            memory_reservation: from.memory_reservation,
            memory_swappiness: from.memory_swappiness,
            oom_kill_disable: from.oom_kill_disable,
            cpu_shares: from.cpu_shares,
            cpu_period: from.cpu_period,
            cpu_quota: from.cpu_quota,
            nano_cpus: from.nano_cpus,
            cpuset_cpus: from.cpuset_cpus,
            cpuset_mems: from.cpuset_mems,
            cpu_realtime_period: from.cpu_realtime_period,
            cpu_realtime_runtime: from.cpu_realtime_runtime,
            pids: from.pids,
            blkio_weight: from.blkio_weight,
            blkio_weight_device: from.blkio_weight_device.into_iter().map(Into::into).collect(),
            blkio_read_bps: from.blkio_read_bps.into_iter().map(Into::into).collect(),
            blkio_write_bps: from.blkio_write_bps.into_iter().map(Into::into).collect(),
            blkio_read_iops: from.blkio_read_iops.into_iter().map(Into::into).collect(),
            blkio_write_iops: from.blkio_write_iops.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Resources> for domain::Resources {
    fn from(from: Resources) -> Self {
        Self {
            memory: from.memory,
            memory_swap: from.memory_swap,
            memory_reservation: from.memory_reservation,
            memory_swappiness: from.memory_swappiness,
            oom_kill_disable: from.oom_kill_disable,
            cpu_shares: from.cpu_shares,
            cpu_period: from.cpu_period,
            cpu_quota: from.cpu_quota,
            nano_cpus: from.nano_cpus,
            cpuset_cpus: from.cpuset_cpus,
            cpuset_mems: from.cpuset_mems,
            cpu_realtime_period: from.cpu_realtime_period,
            cpu_realtime_runtime: from.cpu_realtime_runtime,
            pids: from.pids,
            blkio_weight: from.blkio_weight,
            blkio_weight_device: from.blkio_weight_device.into_iter().map(Into::into).collect(),
            blkio_read_bps: from.blkio_read_bps.into_iter().map(Into::into).collect(),
            blkio_write_bps: from.blkio_write_bps.into_iter().map(Into::into).collect(),
            blkio_read_iops: from.blkio_read_iops.into_iter().map(Into::into).collect(),
            blkio_write_iops: from.blkio_write_iops.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct DeviceRate {
    path: String,
    rate: u64,
}

impl From<domain::DeviceRate> for DeviceRate {
    fn from(from: domain::DeviceRate) -> Self {
        Self { path: from.path, rate: from.rate }
    }
}

impl From<DeviceRate> for domain::DeviceRate {
    fn from(from: DeviceRate) -> Self {
        Self { path: from.path, rate: from.rate }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct LogSettings {
    driver: String,
    options: BTreeMap<String, String>,
}

impl From<domain::LogSettings> for LogSettings {
    fn from(from: domain::LogSettings) -> Self {
        Self { driver: from.driver, options: from.options }
    }
}

impl From<LogSettings> for domain::LogSettings {
    fn from(from: LogSettings) -> Self {
        Self { driver: from.driver, options: from.options }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Restart {
    #[default]
    No,
    Always,
    UnlessStopped,
    OnFailure(u32),
}

impl From<domain::RestartPolicy> for Restart {
    fn from(from: domain::RestartPolicy) -> Self {
        match from {
            domain::RestartPolicy::No => Self::No,
            domain::RestartPolicy::Always => Self::Always,
            domain::RestartPolicy::UnlessStopped => Self::UnlessStopped,
            domain::RestartPolicy::OnFailure(times) => Self::OnFailure(times),
        }
    }
}

impl From<Restart> for domain::RestartPolicy {
    fn from(from: Restart) -> Self {
        match from {
            Restart::No => Self::No,
            Restart::Always => Self::Always,
            Restart::UnlessStopped => Self::UnlessStopped,
            Restart::OnFailure(times) => Self::OnFailure(times),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Publish {
    protocol: Transport,
    container_port: u16,
    host_ip: Option<IpAddr>,
    /// The first and the last port of the range; none for a random one.
    host_ports: Option<(u16, u16)>,
}

impl From<PublishRequest> for Publish {
    fn from(from: PublishRequest) -> Self {
        let host_ports = match from.host_port {
            HostPort::Random => None,
            HostPort::Exactly(port) => Some((port, port)),
            HostPort::Between(first, last) => Some((first, last)),
        };
        Self {
            protocol: from.protocol.into(),
            container_port: from.container_port,
            host_ip: from.host_ip,
            host_ports,
        }
    }
}

impl From<Publish> for PublishRequest {
    fn from(from: Publish) -> Self {
        let host_port = match from.host_ports {
            None => HostPort::Random,
            Some((first, last)) if first == last => HostPort::Exactly(first),
            Some((first, last)) => HostPort::Between(first, last),
        };
        Self {
            protocol: from.protocol.into(),
            container_port: from.container_port,
            host_ip: from.host_ip,
            host_port,
        }
    }
}

/// A transport protocol on disk.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl From<Protocol> for Transport {
    fn from(from: Protocol) -> Self {
        match from {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

impl From<Transport> for Protocol {
    fn from(from: Transport) -> Self {
        match from {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
            Transport::Sctp => Self::Sctp,
        }
    }
}
