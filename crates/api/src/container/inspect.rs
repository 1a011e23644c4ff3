//! `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::host_config::HostConfig;
use super::mount::MountPoint;
use super::port::PortMap;
use crate::network::EndpointSettings;

/// Everything about one container. Times are RFC 3339 with nanoseconds, `0001-01-01T00:00:00Z` for "never".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// Full id.
    pub id: String,
    /// When it was created.
    pub created: String,
    /// The executable.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How it is.
    pub state: State,
    /// Id of its image, `sha256:…`.
    pub image: String,
    /// Path of its `resolv.conf` on the host.
    pub resolv_conf_path: String,
    /// Path of its `hostname` on the host.
    pub hostname_path: String,
    /// Path of its `hosts` on the host.
    pub hosts_path: String,
    /// Path of its log, empty when there is no file.
    pub log_path: String,
    /// Name with a leading slash.
    pub name: String,
    /// How often the engine restarted it.
    pub restart_count: i64,
    /// Storage driver.
    pub driver: String,
    /// Operating system, `linux`.
    pub platform: String,
    /// SELinux label of its mounts.
    pub mount_label: String,
    /// SELinux label of its processes.
    pub process_label: String,
    /// AppArmor profile.
    pub app_armor_profile: String,
    /// Ids of running execs; `null` for none.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// How it sits on the host.
    pub host_config: HostConfig,
    /// The storage driver's own words; since API 1.52 only with a graph driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    /// Since API 1.52: the snapshotter of a root file system without a graph driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageInfo>,
    /// Bytes in its writable layer, with `size=1` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes in all, with `size=1` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
    /// What runs.
    pub config: Config,
    /// Where it is reached.
    pub network_settings: NetworkSettings,
}

/// How a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// Also true while paused or restarting.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Waiting for its next start.
    pub restarting: bool,
    /// The kernel killed it for lack of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Could not be removed.
    pub dead: bool,
    /// Pid as the host sees it, zero when not running.
    pub pid: i64,
    /// Of the last run.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// Beginning of the last run.
    pub started_at: String,
    /// End of the last run.
    pub finished_at: String,
    /// Absent without a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What the health check says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five runs, oldest first.
    pub log: Option<Vec<HealthResult>>,
}

/// One run of the health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthResult {
    /// Beginning.
    pub start: String,
    /// End.
    pub end: String,
    /// 0 healthy, 1 unhealthy, others did not run.
    pub exit_code: i64,
    /// The first 4096 bytes of its output.
    pub output: String,
}

/// The storage driver's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Directories and the like; `null` for a driver without any.
    pub data: Option<BTreeMap<String, String>>,
    /// Name of the driver.
    pub name: String,
}

/// Storage of a container without a graph driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageInfo {
    /// Its root file system.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<StorageRootFs>,
}

/// The root file system of [`StorageInfo`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StorageRootFs {
    /// The snapshot it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<StorageSnapshot>,
}

/// The snapshot of [`StorageRootFs`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StorageSnapshot {
    /// Name of the snapshotter.
    pub name: String,
}

/// Where a container is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Id of the network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace.
    pub sandbox_key: String,
    /// Published and exposed ports; `{}` when not running.
    pub ports: PortMap,
    /// Before API 1.52: the default bridge, beside its place among the networks.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub default_bridge: Option<DefaultBridge>,
    /// Endpoints by name of the network.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A container's endpoint on the default bridge, as clients read it before there were other networks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DefaultBridge {
    /// Always empty.
    pub bridge: String,
    /// Always false.
    pub hairpin_mode: bool,
    /// Always empty.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Always zero.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: i64,
    /// Always `null`.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<Address>>,
    /// Always `null`.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<Address>>,
    /// Its id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Its IPv4 gateway.
    pub gateway: String,
    /// Its IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Length of the IPv6 prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// Its IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of the IPv4 prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// Its IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Its hardware address.
    pub mac_address: String,
}

/// A secondary address; Docker has none any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Address {
    /// The address.
    pub addr: String,
    /// Its prefix.
    pub prefix_len: i64,
}
