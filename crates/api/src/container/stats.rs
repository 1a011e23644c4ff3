//! `GET /containers/{id}/stats`. Keys are snake case here. Times in nanoseconds, sizes in bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// When it was taken, RFC 3339.
    pub read: String,
    /// When the sample before was taken.
    pub preread: String,
    /// Number of tasks.
    pub pids_stats: PidsStats,
    /// Block devices.
    pub blkio_stats: BlkioStats,
    /// Windows only.
    pub num_procs: u32,
    /// Windows only.
    pub storage_stats: StorageStats,
    /// Processor time.
    pub cpu_stats: CpuStats,
    /// Processor time of the sample before; zero with `one-shot=1`.
    pub precpu_stats: CpuStats,
    /// Memory; `{}` when not running.
    pub memory_stats: MemoryStats,
    /// Name with a leading slash.
    pub name: String,
    /// Full id.
    pub id: String,
    /// By interface; absent with the host's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeMap<String, NetworkStats>>,
}

/// Number of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub current: u64,
    /// At most.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub limit: u64,
}

/// Block devices; `null` on cgroup v2 for what it does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    /// Operations.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Requests waiting.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Nanoseconds in service.
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    /// Nanoseconds waiting.
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    /// Requests merged.
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    /// Milliseconds.
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    /// Sectors.
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

/// One counter of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `read`, `write`, …
    pub op: String,
    /// The counter.
    pub value: u64,
}

/// Windows only; `{}` elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStats {}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// Of the container.
    pub cpu_usage: CpuUsage,
    /// Of the whole host.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub system_cpu_usage: u64,
    /// Number of processors.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub online_cpus: u32,
    /// How often the quota bit.
    pub throttling_data: ThrottlingData,
}

/// Processor time of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// In all.
    pub total_usage: u64,
    /// By processor, cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percpu_usage: Option<Vec<u64>>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In programs.
    pub usage_in_usermode: u64,
}

/// How often the quota bit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    /// Periods so far.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting.
    pub throttled_time: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Now.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub usage: u64,
    /// At most so far, cgroup v1 only.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub max_usage: u64,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// How often the limit was reached, cgroup v1 only.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub failcnt: u64,
    /// The limit, or the host's memory.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub limit: u64,
}

/// One network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors while receiving.
    pub rx_errors: u64,
    /// Packets not received for lack of room.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors while sending.
    pub tx_errors: u64,
    /// Packets not sent for lack of room.
    pub tx_dropped: u64,
}
