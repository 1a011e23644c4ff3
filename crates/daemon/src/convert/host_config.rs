//! `HostConfig`, both ways.

use super::mounts;
use crate::error::Failure;
use coracle_api::container as api;
use coracle_engine::containers::modes::{CgroupMode, IpcMode, NetworkMode, PidMode, UserMode, UtsMode};
use coracle_engine::containers::parse_port;
use coracle_engine::containers::settings as domain;
use coracle_engine::containers::settings::RestartPolicy;
use coracle_engine::network::{HostPort, PublishRequest};
use hyper::StatusCode;
use std::collections::BTreeMap;

/// The driver of devices that the Container Device Interface names.
const CDI: &str = "cdi";

/// The engine's settings.
///
/// # Errors
/// 400 for what makes no sense, 501 for what is not supported; each names the field.
pub(crate) fn host_settings(host: api::HostConfig) -> Result<domain::HostSettings, Failure> {
    refuse_unsupported(&host)?;
    let resources = resources(&host);
    let dns = host.dns.unwrap_or_default();
    let invalid = |what: &str, value: &str| Failure::invalid(format!("invalid {what}: {value}"));
    Ok(domain::HostSettings {
        network: network(&host.network_mode)?,
        // Said elsewhere in the request.
        joins: std::collections::BTreeMap::new(),
        endpoint_links: Vec::new(),
        // A matter of the version that is spoken.
        read_only_non_recursive: false,
        links: host
            .links
            .iter()
            .flatten()
            .map(|text| super::network::link(text))
            .collect::<Result<_, _>>()?,
        ports: ports(host.port_bindings.unwrap_or_default())?,
        publish_all: host.publish_all_ports,
        restart: restart(&host.restart_policy)?,
        pid: PidMode::parse(&host.pid_mode).ok_or_else(|| invalid("PID mode", &host.pid_mode))?,
        ipc: IpcMode::parse(&host.ipc_mode).ok_or_else(|| invalid("IPC mode", &host.ipc_mode))?,
        uts: UtsMode::parse(&host.uts_mode).ok_or_else(|| invalid("UTS mode", &host.uts_mode))?,
        user_namespace: UserMode::parse(&host.userns_mode)
            .ok_or_else(|| invalid("user namespace mode", &host.userns_mode))?,
        cgroupns: CgroupMode::parse(&host.cgroupns_mode)
            .ok_or_else(|| invalid("cgroup namespace mode", &host.cgroupns_mode))?,
        dns: dns
            .iter()
            .map(|text| text.parse().map_err(|_| invalid("DNS server", text)))
            .collect::<Result<_, _>>()?,
        oom_score_adj: i32::try_from(host.oom_score_adj)
            .ok()
            .filter(|score| (-1000..=1000).contains(score))
            .ok_or_else(|| {
                let score = host.oom_score_adj;
                Failure::invalid(format!("Invalid value {score}, range for oom score adj is [-1000, 1000]"))
            })?,
        binds: host.binds.unwrap_or_default(),
        mounts: host.mounts.unwrap_or_default().into_iter().map(mounts::read).collect::<Result<_, _>>()?,
        tmpfs: host.tmpfs.unwrap_or_default(),
        auto_remove: host.auto_remove,
        privileged: host.privileged,
        readonly_root: host.readonly_rootfs,
        init: host.init,
        cap_add: host.cap_add.unwrap_or_default(),
        cap_drop: host.cap_drop.unwrap_or_default(),
        devices: host.devices.unwrap_or_default().into_iter().map(device).collect(),
        device_requests: host
            .device_requests
            .unwrap_or_default()
            .into_iter()
            .map(device_request)
            .collect::<Result<_, _>>()?,
        device_cgroup_rules: host.device_cgroup_rules.unwrap_or_default(),
        ulimits: host.ulimits.unwrap_or_default().into_iter().map(ulimit).collect(),
        sysctls: host.sysctls.unwrap_or_default(),
        shm_size: u64::try_from(host.shm_size)
            .map(|_| host.shm_size)
            .map_err(|_| Failure::invalid("SHM size can not be less than 0"))?,
        group_add: host.group_add.unwrap_or_default(),
        resources,
        dns_search: host.dns_search.unwrap_or_default(),
        dns_options: host.dns_options.unwrap_or_default(),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        security_opt: host.security_opt.unwrap_or_default(),
        storage: host.storage_opt.unwrap_or_default(),
        log: domain::LogSettings {
            driver: host.log_config.driver,
            options: host.log_config.config.unwrap_or_default(),
        },
        masked_paths: host.masked_paths,
        readonly_paths: host.readonly_paths,
        cgroup_parent: host.cgroup_parent,
        volumes_from: host.volumes_from.unwrap_or_default(),
        annotations: host.annotations.unwrap_or_default(),
        runtime: host.runtime,
        volume_driver: host.volume_driver,
        isolation: host.isolation,
        aliases: Vec::new(),
        addresses: coracle_engine::containers::settings::FixedAddresses::default(),
        mac_address: String::new(),
    })
}

fn network(mode: &str) -> Result<NetworkMode, Failure> {
    match NetworkMode::parse(mode) {
        NetworkMode::Container(other) if other.is_empty() => {
            Err(Failure::invalid("Invalid network mode: invalid container format container:<name|id>"))
        }
        mode => Ok(mode),
    }
}

/// Fields that mean something in Docker and nothing here are refused, never ignored.
fn refuse_unsupported(host: &api::HostConfig) -> Result<(), Failure> {
    let refusals = [
        ("Isolation", !matches!(host.isolation.as_str(), "" | "default"), "it is for Windows"),
        ("CpuCount", host.cpu_count != 0, "it is for Windows"),
        ("CpuPercent", host.cpu_percent != 0, "it is for Windows"),
        ("IOMaximumIOps", host.io_maximum_iops != 0, "it is for Windows"),
        ("IOMaximumBandwidth", host.io_maximum_bandwidth != 0, "it is for Windows"),
        ("KernelMemory", host.kernel_memory != 0, "the kernel has no such limit any more"),
        ("KernelMemoryTCP", host.kernel_memory_tcp != 0, "the kernel has no such limit any more"),
        ("Cgroup", !host.cgroup.is_empty(), "use --cgroup-parent"),
    ];
    match refusals.into_iter().find(|(_, asked, _)| *asked) {
        Some((field, _, hint)) => {
            let text = format!("HostConfig.{field} is not supported: {hint}");
            Err(Failure::new(StatusCode::NOT_IMPLEMENTED, text))
        }
        None => Ok(()),
    }
}

pub(super) fn restart(policy: &api::RestartPolicy) -> Result<RestartPolicy, Failure> {
    let count = policy.maximum_retry_count;
    if count < 0 {
        return Err(Failure::invalid("invalid restart policy: maximum retry count cannot be negative"));
    }
    if count > 0 && policy.name != "on-failure" {
        return Err(Failure::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    Ok(match policy.name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure(u32::try_from(count).unwrap_or(u32::MAX)),
        other => {
            return Err(Failure::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            )));
        }
    })
}

pub(super) fn ports(bindings: api::PortMap) -> Result<Vec<PublishRequest>, Failure> {
    let mut requests = Vec::new();
    for (port, bindings) in bindings {
        let (container_port, protocol) = parse_port(&port)?;
        for binding in bindings.unwrap_or_default() {
            let invalid = |what: &str, text: &str| Failure::invalid(format!("invalid {what}: {text:?}"));
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| invalid("host address", text))?),
            };
            let number = |text: &str| {
                text.parse::<u16>().map_err(|_| invalid("port specification", &binding.host_port))
            };
            let host_port = match binding.host_port.split_once('-') {
                _ if matches!(binding.host_port.as_str(), "" | "0") => HostPort::Random,
                Some((first, last)) => HostPort::Between(number(first)?, number(last)?),
                None => HostPort::Exactly(number(&binding.host_port)?),
            };
            requests.push(PublishRequest { protocol, container_port, host_ip, host_port });
        }
    }
    Ok(requests)
}

fn device(device: api::DeviceMapping) -> domain::DeviceMapping {
    let container = if device.path_in_container.is_empty() {
        device.path_on_host.clone()
    } else {
        device.path_in_container
    };
    domain::DeviceMapping { host: device.path_on_host, container, permissions: device.cgroup_permissions }
}

/// A request of devices by name, which has nothing but names, or of graphics processors, of which there are some or certain
/// ones.
fn device_request(request: api::DeviceRequest) -> Result<domain::DeviceRequest, Failure> {
    let is_named = request.driver == CDI;
    let has_ids = request.device_ids.as_ref().is_some_and(|ids| !ids.is_empty());
    if is_named && request.count != 0 {
        return Err(Failure::invalid("unexpected count in CDI device request"));
    }
    if request.count != 0 && has_ids {
        return Err(Failure::invalid("cannot set both Count and DeviceIDs on device request"));
    }
    if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
        let kind = if is_named { "CDI device request" } else { "device request: its driver has none" };
        return Err(Failure::invalid(format!("unexpected options in {kind}")));
    }
    Ok(domain::DeviceRequest {
        driver: request.driver,
        count: request.count,
        ids: request.device_ids,
        capabilities: request.capabilities,
        options: request.options,
    })
}

fn ulimit(ulimit: api::Ulimit) -> domain::Ulimit {
    domain::Ulimit { name: ulimit.name, soft: ulimit.soft, hard: ulimit.hard }
}

/// The limits, which `update` has as well.
pub(crate) fn resources(host: &api::HostConfig) -> domain::Resources {
    let rates = |list: &Option<Vec<api::ThrottleDevice>>| {
        list.iter().flatten().map(|d| domain::DeviceRate { path: d.path.clone(), rate: d.rate }).collect()
    };
    let weights = host.blkio_weight_device.iter().flatten();
    domain::Resources {
        memory: host.memory,
        memory_swap: host.memory_swap,
        memory_reservation: host.memory_reservation,
        memory_swappiness: host.memory_swappiness.filter(|value| *value != -1),
        oom_kill_disable: host.oom_kill_disable.unwrap_or(false),
        cpu_shares: host.cpu_shares,
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        nano_cpus: host.nano_cpus,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        cpu_realtime_period: host.cpu_realtime_period,
        cpu_realtime_runtime: host.cpu_realtime_runtime,
        pids: host.pids_limit,
        blkio_weight: host.blkio_weight,
        blkio_weight_device: weights
            .map(|d| domain::DeviceRate { path: d.path.clone(), rate: u64::from(d.weight) })
            .collect(),
        blkio_read_bps: rates(&host.blkio_device_read_bps),
        blkio_write_bps: rates(&host.blkio_device_write_bps),
        blkio_read_iops: rates(&host.blkio_device_read_iops),
        blkio_write_iops: rates(&host.blkio_device_write_iops),
    }
}

/// What `inspect` shows: the settings as they were asked for, with Docker's defaults filled in.
pub(crate) fn host_config(host: &domain::HostSettings) -> api::HostConfig {
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let map = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
    let default = |own: &Option<Vec<String>>, default: &[&str]| {
        let default = || default.iter().map(ToString::to_string).collect();
        Some(own.clone().unwrap_or_else(|| if host.privileged { Vec::new() } else { default() }))
    };
    let shown_mounts: Vec<api::Mount> = host.mounts.iter().map(mounts::show).collect();
    let devices = host.devices.iter().map(|device| api::DeviceMapping {
        path_on_host: device.host.clone(),
        path_in_container: device.container.clone(),
        cgroup_permissions: device.permissions.clone(),
    });
    let device_requests: Vec<api::DeviceRequest> = host
        .device_requests
        .iter()
        .map(|request| api::DeviceRequest {
            driver: request.driver.clone(),
            count: request.count,
            device_ids: request.ids.clone(),
            capabilities: request.capabilities.clone(),
            options: request.options.clone(),
        })
        .collect();
    let ulimits: Vec<api::Ulimit> = host
        .ulimits
        .iter()
        .map(|u| api::Ulimit { name: u.name.clone(), hard: u.hard, soft: u.soft })
        .collect();
    let mut config = api::HostConfig {
        binds: list(&host.binds),
        log_config: api::LogConfig {
            driver: if host.log.driver.is_empty() { "json-file".into() } else { host.log.driver.clone() },
            config: Some(host.log.options.clone()),
        },
        network_mode: match &host.network {
            // Docker shows which network the default is.
            NetworkMode::Default => NetworkMode::Bridge.to_string(),
            chosen => chosen.to_string(),
        },
        port_bindings: Some(port_bindings(&host.ports)),
        restart_policy: restart_policy(&host.restart),
        auto_remove: host.auto_remove,
        volumes_from: list(&host.volumes_from),
        annotations: map(&host.annotations),
        cap_add: list(&host.cap_add),
        cap_drop: list(&host.cap_drop),
        cgroupns_mode: host.cgroupns.to_string(),
        userns_mode: host.user_namespace.to_string(),
        dns: Some(host.dns.iter().map(ToString::to_string).collect()),
        dns_options: Some(host.dns_options.clone()),
        dns_search: Some(host.dns_search.clone()),
        extra_hosts: list(&host.extra_hosts),
        group_add: list(&host.group_add),
        ipc_mode: host.ipc.to_string(),
        oom_score_adj: i64::from(host.oom_score_adj),
        pid_mode: host.pid.to_string(),
        privileged: host.privileged,
        publish_all_ports: host.publish_all,
        readonly_rootfs: host.readonly_root,
        security_opt: list(&host.security_opt),
        storage_opt: map(&host.storage),
        tmpfs: map(&host.tmpfs),
        uts_mode: host.uts.to_string(),
        shm_size: if host.shm_size == 0 { domain::DEFAULT_SHM_SIZE } else { host.shm_size },
        sysctls: map(&host.sysctls),
        runtime: if host.runtime.is_empty() { "coracle".into() } else { host.runtime.clone() },
        volume_driver: host.volume_driver.clone(),
        isolation: host.isolation.clone(),
        cgroup_parent: host.cgroup_parent.clone(),
        devices: Some(devices.collect()),
        device_requests: (!device_requests.is_empty()).then_some(device_requests),
        device_cgroup_rules: list(&host.device_cgroup_rules),
        init: host.init,
        ulimits: Some(ulimits),
        mounts: (!shown_mounts.is_empty()).then_some(shown_mounts),
        masked_paths: default(&host.masked_paths, &coracle_engine::containers::MASKED_PATHS),
        readonly_paths: default(&host.readonly_paths, &coracle_engine::containers::READONLY_PATHS),
        ..api::HostConfig::default()
    };
    show_resources(&mut config, &host.resources);
    config
}

fn show_resources(config: &mut api::HostConfig, resources: &domain::Resources) {
    let rates = |list: &[domain::DeviceRate]| {
        let rate = |d: &domain::DeviceRate| api::ThrottleDevice { path: d.path.clone(), rate: d.rate };
        Some(list.iter().map(rate).collect())
    };
    let weight = |d: &domain::DeviceRate| api::WeightDevice {
        path: d.path.clone(),
        weight: u16::try_from(d.rate).unwrap_or(u16::MAX),
    };
    config.memory = resources.memory;
    config.memory_swap = resources.memory_swap;
    config.memory_reservation = resources.memory_reservation;
    config.memory_swappiness = resources.memory_swappiness;
    config.oom_kill_disable = Some(resources.oom_kill_disable);
    config.cpu_shares = resources.cpu_shares;
    config.cpu_period = resources.cpu_period;
    config.cpu_quota = resources.cpu_quota;
    config.nano_cpus = resources.nano_cpus;
    config.cpuset_cpus.clone_from(&resources.cpuset_cpus);
    config.cpuset_mems.clone_from(&resources.cpuset_mems);
    config.cpu_realtime_period = resources.cpu_realtime_period;
    config.cpu_realtime_runtime = resources.cpu_realtime_runtime;
    config.pids_limit = resources.pids;
    config.blkio_weight = resources.blkio_weight;
    config.blkio_weight_device = Some(resources.blkio_weight_device.iter().map(weight).collect());
    config.blkio_device_read_bps = rates(&resources.blkio_read_bps);
    config.blkio_device_write_bps = rates(&resources.blkio_write_bps);
    config.blkio_device_read_iops = rates(&resources.blkio_read_iops);
    config.blkio_device_write_iops = rates(&resources.blkio_write_iops);
}

fn restart_policy(policy: &RestartPolicy) -> api::RestartPolicy {
    let (name, count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure(count) => ("on-failure", i64::from(*count)),
    };
    api::RestartPolicy { name: name.to_owned(), maximum_retry_count: count }
}

fn port_bindings(requests: &[PublishRequest]) -> api::PortMap {
    let mut map = api::PortMap::default();
    for request in requests {
        let host_port = match request.host_port {
            HostPort::Random => String::new(),
            HostPort::Exactly(port) => port.to_string(),
            HostPort::Between(first, last) => format!("{first}-{last}"),
        };
        let host_ip = request.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let key = format!("{}/{}", request.container_port, request.protocol);
        map.entry(key).or_default().get_or_insert_default().push(api::PortBinding { host_ip, host_port });
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a field.
    enum Becomes {
        /// `inspect` shows it again.
        Shown,
        /// It is refused.
        Refused,
        /// It is kept, and shown with what the engine knows besides.
        Linked,
        /// It is not for the host's settings.
        Elsewhere,
    }

    /// Every field with a value that is not its default, in the order of the type.
    fn fields() -> Vec<(&'static str, serde_json::Value, Becomes)> {
        use Becomes::{Elsewhere, Linked, Refused, Shown};
        use serde_json::json;
        let rate = json!([{"Path": "/dev/sda", "Rate": 5}]);
        vec![
            ("Binds", json!(["/a:/b"]), Shown),
            // A file of the client's.
            ("ContainerIDFile", json!("/tmp/id"), Elsewhere),
            ("LogConfig", json!({"Type": "local", "Config": {"max-size": "1m"}}), Shown),
            ("NetworkMode", json!("host"), Shown),
            ("PortBindings", json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}), Shown),
            ("RestartPolicy", json!({"Name": "on-failure", "MaximumRetryCount": 2}), Shown),
            ("AutoRemove", json!(true), Shown),
            ("VolumeDriver", json!("nfs"), Shown),
            ("VolumesFrom", json!(["other:ro"]), Shown),
            ("ConsoleSize", json!([24, 80]), Elsewhere),
            ("Annotations", json!({"a": "b"}), Shown),
            ("CapAdd", json!(["NET_ADMIN"]), Shown),
            ("CapDrop", json!(["ALL"]), Shown),
            ("CgroupnsMode", json!("host"), Shown),
            ("Dns", json!(["10.0.0.1"]), Shown),
            ("DnsOptions", json!(["ndots:2"]), Shown),
            ("DnsSearch", json!(["example.org"]), Shown),
            ("ExtraHosts", json!(["a:10.0.0.1"]), Shown),
            ("GroupAdd", json!(["audio"]), Shown),
            ("IpcMode", json!("host"), Shown),
            ("Cgroup", json!("x"), Refused),
            // Shown with the names that the containers have now.
            ("Links", json!(["a:b"]), Linked),
            ("OomScoreAdj", json!(5), Shown),
            ("PidMode", json!("host"), Shown),
            ("Privileged", json!(true), Shown),
            ("PublishAllPorts", json!(true), Shown),
            ("ReadonlyRootfs", json!(true), Shown),
            ("SecurityOpt", json!(["no-new-privileges"]), Shown),
            ("StorageOpt", json!({"size": "1G"}), Shown),
            ("Tmpfs", json!({"/tmp": "size=1m"}), Shown),
            ("UTSMode", json!("host"), Shown),
            ("UsernsMode", json!("host"), Shown),
            ("ShmSize", json!(1 << 20), Shown),
            ("Sysctls", json!({"net.ipv4.ip_forward": "1"}), Shown),
            ("Runtime", json!("other"), Shown),
            ("Isolation", json!("process"), Refused),
            ("CpuShares", json!(5), Shown),
            ("Memory", json!(64 << 20), Shown),
            ("NanoCpus", json!(5), Shown),
            ("CgroupParent", json!("x"), Shown),
            ("BlkioWeight", json!(100), Shown),
            ("BlkioWeightDevice", json!([{"Path": "/dev/sda", "Weight": 100}]), Shown),
            ("BlkioDeviceReadBps", rate.clone(), Shown),
            ("BlkioDeviceWriteBps", rate.clone(), Shown),
            ("BlkioDeviceReadIOps", rate.clone(), Shown),
            ("BlkioDeviceWriteIOps", rate, Shown),
            ("CpuPeriod", json!(5000), Shown),
            ("CpuQuota", json!(5000), Shown),
            ("CpuRealtimePeriod", json!(5000), Shown),
            ("CpuRealtimeRuntime", json!(5000), Shown),
            ("CpusetCpus", json!("0"), Shown),
            ("CpusetMems", json!("0"), Shown),
            (
                "Devices",
                json!([{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}]),
                Shown,
            ),
            ("DeviceCgroupRules", json!(["c 13:* rwm"]), Shown),
            ("DeviceRequests", named_devices(), Shown),
            ("KernelMemory", json!(5), Refused),
            ("KernelMemoryTCP", json!(5), Refused),
            ("MemoryReservation", json!(5), Shown),
            ("MemorySwap", json!(-1), Shown),
            ("MemorySwappiness", json!(7), Shown),
            ("OomKillDisable", json!(true), Shown),
            ("Init", json!(true), Shown),
            ("PidsLimit", json!(7), Shown),
            ("Ulimits", json!([{"Name": "nofile", "Hard": 2, "Soft": 1}]), Shown),
            ("CpuCount", json!(1), Refused),
            ("CpuPercent", json!(1), Refused),
            ("IOMaximumIOps", json!(1), Refused),
            ("IOMaximumBandwidth", json!(1), Refused),
            ("Mounts", json!([{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}]), Shown),
            ("MaskedPaths", json!(["/x"]), Shown),
            ("ReadonlyPaths", json!([]), Shown),
        ]
    }

    fn named_devices() -> serde_json::Value {
        serde_json::json!([{
            "Driver": "cdi", "Count": 0, "DeviceIDs": ["v.com/c=a"], "Capabilities": [["x"]], "Options": null,
        }])
    }

    #[test]
    fn requests_of_devices_have_names_or_numbers() {
        let with = |driver: &str, key: &str, value: serde_json::Value| {
            let mut requests = named_devices();
            requests[0]["Driver"] = driver.into();
            requests[0][key] = value;
            let body = serde_json::json!({"DeviceRequests": requests}).to_string();
            host_settings(coracle_api::from_slice(body.as_bytes()).unwrap()).unwrap_err()
        };
        for (driver, key, value, words) in [
            ("cdi", "Count", (-1).into(), "unexpected count in CDI device request"),
            ("cdi", "Options", serde_json::json!({"a": "b"}), "unexpected options in CDI device request"),
            ("nvidia", "Options", serde_json::json!({"a": "b"}), "its driver has none"),
            ("", "Count", 1.into(), "cannot set both Count and DeviceIDs on device request"),
        ] {
            let failure = with(driver, key, value);
            assert_eq!(failure.status.as_u16(), 400);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn every_field_is_kept_or_refused_by_name() {
        let fields = fields();
        let names: Vec<&str> = fields.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, crate::convert::fields::of::<api::HostConfig>());
        for (name, value, becomes) in fields {
            let body = serde_json::to_vec(&serde_json::json!({name: &value})).unwrap();
            let settings = host_settings(coracle_api::from_slice(&body).unwrap());
            match becomes {
                Becomes::Shown => {
                    let shown = serde_json::to_value(host_config(&settings.unwrap())).unwrap();
                    assert_eq!(shown[name], value, "{name}");
                }
                Becomes::Refused => {
                    let failure = settings.unwrap_err();
                    assert_eq!(failure.status, StatusCode::NOT_IMPLEMENTED, "{name}");
                    assert!(failure.message.contains(&format!("HostConfig.{name} ")), "{}", failure.message);
                }
                Becomes::Linked => {
                    let links = settings.unwrap().links;
                    assert_eq!((links[0].container.as_str(), links[0].alias.as_str()), ("a", "b"));
                }
                Becomes::Elsewhere => {
                    assert_eq!(settings.unwrap(), host_settings(api::HostConfig::default()).unwrap());
                }
            }
        }
    }

    #[test]
    fn what_was_asked_for_is_shown_again() {
        let host = api::HostConfig {
            binds: Some(vec!["/a:/b".into()]),
            network_mode: "host".into(),
            restart_policy: api::RestartPolicy { name: "on-failure".into(), maximum_retry_count: 2 },
            memory: 64 << 20,
            pids_limit: Some(7),
            ..api::HostConfig::default()
        };
        let shown = host_config(&host_settings(host.clone()).unwrap());
        assert_eq!(
            (shown.binds, shown.network_mode, shown.restart_policy),
            (host.binds, host.network_mode, host.restart_policy)
        );
        assert_eq!((shown.memory, shown.pids_limit, shown.shm_size), (host.memory, Some(7), 64 << 20));
    }

    #[test]
    fn impossible_values_are_refused_with_dockers_words() {
        let policy = |name: &str, count: i64| {
            restart(&api::RestartPolicy { name: name.into(), maximum_retry_count: count })
                .unwrap_err()
                .message
        };
        assert!(policy("sometimes", 0).contains("unknown policy 'sometimes'"));
        assert!(policy("always", 3).contains("on-failure"));
        let bindings = |port: &str, host_port: &str| {
            let binding = api::PortBinding { host_ip: String::new(), host_port: host_port.into() };
            ports([(port.to_owned(), Some(vec![binding]))].into_iter().collect())
        };
        for (port, host_port) in [("0/tcp", "1"), ("80/tcp", "65536"), ("80/nothing", "1"), ("80/tcp", "a")] {
            assert!(bindings(port, host_port).is_err(), "{port} {host_port}");
        }
    }
}
