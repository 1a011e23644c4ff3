//! `GET /info`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The engine and its host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Info {
    /// Stays the same for one data root.
    #[serde(rename = "ID")]
    pub id: String,
    /// Containers in all.
    pub containers: i64,
    /// Those running.
    pub containers_running: i64,
    /// Those paused.
    pub containers_paused: i64,
    /// The others.
    pub containers_stopped: i64,
    /// Images.
    pub images: i64,
    /// Storage driver.
    pub driver: String,
    /// What it says about itself.
    pub driver_status: Vec<[String; 2]>,
    /// Drivers by what they drive.
    pub plugins: Plugins,
    /// The kernel limits memory.
    pub memory_limit: bool,
    /// The kernel limits swap.
    pub swap_limit: bool,
    /// The kernel limits kernel memory; absent since it is obsolete.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub kernel_memory: bool,
    /// The kernel limits TCP memory.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "crate::is_zero")]
    pub kernel_memory_tcp: bool,
    /// CPU periods can be set.
    pub cpu_cfs_period: bool,
    /// CPU quotas can be set.
    pub cpu_cfs_quota: bool,
    /// CPU shares can be set.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// CPU sets can be given.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// The number of tasks can be limited.
    pub pids_limit: bool,
    /// The host forwards IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Before API 1.50: bridged IPv4 passes the firewall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_iptables: Option<bool>,
    /// Before API 1.50: bridged IPv6 passes the firewall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_ip6tables: Option<bool>,
    /// The daemon logs more.
    pub debug: bool,
    /// Open descriptors of the daemon.
    #[serde(rename = "NFd")]
    pub file_descriptors: i64,
    /// The OOM killer can be kept away.
    pub oom_kill_disable: bool,
    /// Tasks of the daemon.
    #[serde(rename = "NGoroutines")]
    pub tasks: i64,
    /// RFC 3339.
    pub system_time: String,
    /// Default log driver.
    pub logging_driver: String,
    /// `cgroupfs`, `systemd` or `none`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_version: String,
    /// Clients that read events.
    #[serde(rename = "NEventsListener")]
    pub event_listeners: i64,
    /// Release of the kernel.
    pub kernel_version: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// Its version.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// As `uname -m`.
    pub architecture: String,
    /// Registry of names without one.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: Option<RegistryConfig>,
    /// Processors.
    #[serde(rename = "NCPU")]
    pub cpus: i64,
    /// Bytes.
    pub mem_total: i64,
    /// For services.
    pub generic_resources: Option<Vec<Value>>,
    /// The data root.
    pub docker_root_dir: String,
    /// Proxy of the daemon.
    pub http_proxy: String,
    /// Proxy of the daemon.
    pub https_proxy: String,
    /// Hosts reached without it.
    pub no_proxy: String,
    /// Host name.
    pub name: String,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Whether experimental features are on.
    pub experimental_build: bool,
    /// Version of the engine.
    pub server_version: String,
    /// OCI runtimes by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The one that is used unless another is named.
    pub default_runtime: String,
    /// Whether the node is part of a swarm.
    pub swarm: SwarmInfo,
    /// Containers survive the daemon.
    pub live_restore_enabled: bool,
    /// Windows only.
    pub isolation: String,
    /// Name of the init of `--init`.
    pub init_binary: String,
    /// Version of containerd.
    pub containerd_commit: Commit,
    /// Version of the OCI runtime.
    pub runc_commit: Commit,
    /// Version of the init.
    pub init_commit: Commit,
    /// `name=…,key=value`.
    pub security_options: Vec<String>,
    /// A commercial licence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_license: String,
    /// Pools that networks get subnets from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    /// Devices that a driver knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovered_devices: Vec<DiscoveredDevice>,
    /// Directories of CDI specifications.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Option<Vec<String>>,
    /// Sentences for the user; `null` for none.
    pub warnings: Option<Vec<String>>,
}

/// A device that a driver knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DiscoveredDevice {
    /// The driver: `cdi`.
    pub source: String,
    /// What `--device` calls it.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Drivers by what they drive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Plugins {
    /// Volume drivers.
    pub volume: Vec<String>,
    /// Network drivers.
    pub network: Vec<String>,
    /// Authorisation plugins.
    pub authorization: Option<Vec<String>>,
    /// Log drivers.
    pub log: Vec<String>,
}

/// Registries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RegistryConfig {
    /// Before API 1.49, and obsolete then.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub nondistributable: Option<Nondistributable>,
    /// Networks reached without verified TLS.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// By host.
    pub index_configs: BTreeMap<String, IndexInfo>,
    /// Mirrors of the default registry; `null` for none.
    pub mirrors: Option<Vec<String>>,
}

/// Registries that may have what is not to be distributed: all, so that neither list says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Nondistributable {
    /// `null`.
    #[serde(rename = "AllowNondistributableArtifactsCIDRs")]
    pub allow_nondistributable_artifacts_cidrs: Option<Vec<String>>,
    /// `null`.
    pub allow_nondistributable_artifacts_hostnames: Option<Vec<String>>,
}

/// One registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IndexInfo {
    /// Its host.
    pub name: String,
    /// Its mirrors.
    pub mirrors: Vec<String>,
    /// Reached by verified TLS.
    pub secure: bool,
    /// The default registry.
    pub official: bool,
}

/// One OCI runtime; Docker's keys are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Runtime {
    /// The executable.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Arguments before the runtime's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
    /// What it says about itself, such as its features.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<String, String>,
}

/// Whether the node is part of a swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// Empty outside a swarm.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Empty outside a swarm.
    pub node_addr: String,
    /// `inactive` outside a swarm.
    pub local_node_state: String,
    /// Whether it manages.
    pub control_available: bool,
    /// Why it failed.
    pub error: String,
    /// `null` outside a swarm.
    pub remote_managers: Option<Vec<Value>>,
}

/// Version of a part. Older daemons send `Expected` too, which nobody reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// Version or commit.
    #[serde(rename = "ID")]
    pub id: String,
    /// Until API 1.48: the version that was expected.
    #[serde(rename = "Expected", skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// A pool that networks get subnets from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AddressPool {
    /// In CIDR notation.
    pub base: String,
    /// Prefix length of each subnet.
    pub size: i64,
}
