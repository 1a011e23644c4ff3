//! The part of a container's configuration that belongs to the host: resources, mounts, namespaces, security.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mount::Mount;
use super::port::PortMap;
use crate::go::string_or_list;

/// How the container sits on its host. Unlike Go's, it holds the resources as direct fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfig {
    /// `source:destination[:options]`.
    pub binds: Option<Vec<String>>,
    /// File the client writes the id to; the daemon only keeps it.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where the log goes.
    pub log_config: LogConfig,
    /// `default`, `bridge`, `host`, `none`, `container:ID` or the name of a network.
    pub network_mode: String,
    /// Published ports by `port/protocol`.
    pub port_bindings: Option<PortMap>,
    /// What to do after an exit.
    pub restart_policy: RestartPolicy,
    /// Remove the container when it exits.
    pub auto_remove: bool,
    /// Driver of volumes made for this container.
    pub volume_driver: String,
    /// `container[:ro|rw]`.
    pub volumes_from: Option<Vec<String>>,
    /// Rows and columns of the terminal at the beginning.
    pub console_size: [u32; 2],
    /// Passed to the OCI runtime as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Capabilities beyond the default ones.
    #[serde(deserialize_with = "string_or_list")]
    pub cap_add: Option<Vec<String>>,
    /// Capabilities to take away.
    #[serde(deserialize_with = "string_or_list")]
    pub cap_drop: Option<Vec<String>>,
    /// `private`, `host` or empty for the daemon's default.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Options of `resolv.conf`.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:address` lines of `/etc/hosts`.
    pub extra_hosts: Option<Vec<String>>,
    /// Additional groups of the process.
    pub group_add: Option<Vec<String>>,
    /// `none`, `private`, `shareable`, `host`, `container:ID` or empty.
    pub ipc_mode: String,
    /// Never used by Docker on Linux.
    pub cgroup: String,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// `host`, `container:ID` or empty.
    pub pid_mode: String,
    /// Everything allowed.
    pub privileged: bool,
    /// Publish every exposed port on a port of the host's choice.
    pub publish_all_ports: bool,
    /// Root file system read-only.
    pub readonly_rootfs: bool,
    /// `seccomp=…`, `apparmor=…`, `label=…`, `no-new-privileges`, `systempaths=unconfined`.
    pub security_opt: Option<Vec<String>>,
    /// Options of the storage driver, such as `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_opt: Option<BTreeMap<String, String>>,
    /// Mount options by destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// `host` or empty.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host` or empty.
    pub userns_mode: String,
    /// Bytes of `/dev/shm`; zero for 64 MiB.
    pub shm_size: i64,
    /// Kernel parameters of the container's namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<BTreeMap<String, String>>,
    /// OCI runtime; empty for the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// Windows only.
    pub isolation: String,
    /// Relative weight, 1024 by default.
    pub cpu_shares: i64,
    /// Limit in bytes, zero for none.
    pub memory: i64,
    /// CPUs in units of 10⁻⁹.
    pub nano_cpus: i64,
    /// Cgroup under which the container's is made.
    pub cgroup_parent: String,
    /// 10 to 1000, zero for none.
    pub blkio_weight: u16,
    /// Weights by device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Bytes per second read.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Bytes per second written.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Reads per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Writes per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds per period.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds per period.
    pub cpu_realtime_runtime: i64,
    /// CPUs allowed, such as `0-2,7`.
    pub cpuset_cpus: String,
    /// Memory nodes allowed.
    pub cpuset_mems: String,
    /// Devices of the host.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Lines such as `c 13:* rwm`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices by capability, such as GPUs.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Obsolete kernel memory limit in bytes.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub kernel_memory: i64,
    /// Limit of kernel TCP memory in bytes, cgroup v1 only.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "crate::is_zero")]
    pub kernel_memory_tcp: i64,
    /// Soft limit in bytes.
    pub memory_reservation: i64,
    /// Memory and swap together in bytes, -1 for no limit.
    pub memory_swap: i64,
    /// 0 to 100; `-1` and `null` for the kernel's.
    pub memory_swappiness: Option<i64>,
    /// Do not kill when memory runs out, cgroup v1 only.
    pub oom_kill_disable: Option<bool>,
    /// Run an init as pid 1; `null` for the daemon's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Number of tasks; zero, -1 and `null` for no limit.
    pub pids_limit: Option<i64>,
    /// Resource limits of the process.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Windows only.
    pub cpu_count: i64,
    /// Windows only.
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    /// Mounts in the long form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Paths hidden from the container; `null` for the default ones, `[]` for none.
    pub masked_paths: Option<Vec<String>>,
    /// Paths it cannot write; `null` for the default ones, `[]` for none.
    pub readonly_paths: Option<Vec<String>>,
}

/// Where a container's output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    /// Log driver, empty for the daemon's default.
    #[serde(rename = "Type")]
    pub driver: String,
    /// Its options.
    pub config: Option<BTreeMap<String, String>>,
}

/// What to do after an exit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`, or empty for `no`.
    pub name: String,
    /// Tries of `on-failure`; zero for no limit.
    pub maximum_retry_count: i64,
}

/// A weight of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WeightDevice {
    /// Path of the device.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// Path of the device.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A device of the host in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Some of `rwm`.
    pub cgroup_permissions: String,
}

/// Devices asked for by capability.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// Driver, such as `nvidia` or `cdi`.
    pub driver: String,
    /// How many, -1 for all.
    pub count: i64,
    /// Ids the driver knows.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// Any of these sets of capabilities.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
}

/// One resource limit, see `setrlimit(2)`; -1 for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    /// Name without `RLIMIT_`, lower case.
    pub name: String,
    /// The hard limit.
    pub hard: i64,
    /// The soft limit.
    pub soft: i64,
}
