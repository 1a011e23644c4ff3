//! Bodies of `/containers/…`, `/exec/…` and `/commit`.

mod config;
mod create;
mod exec;
mod host_config;
mod inspect;
mod list;
mod mount;
mod operations;
mod port;
mod stats;

pub use config::{Config, HealthConfig};
pub use create::{CreateRequest, CreateResponse, NetworkingConfig};
pub use exec::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecProcess, ExecStartRequest};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice,
};
pub use inspect::{
    Address, ContainerInspect, DefaultBridge, GraphDriver, Health, HealthResult, NetworkSettings, State,
    StorageInfo, StorageRootFs, StorageSnapshot,
};
pub use list::{ContainerSummary, HealthSummary, HostConfigSummary, NetworkSettingsSummary, PortSummary};
pub use mount::{
    BindOptions, ImageMountOptions, Mount, MountPoint, TmpfsOptions, VolumeDriverConfig, VolumeOptions,
};
pub use operations::{
    ChangeKind, CommitResponse, FilesystemChange, PathStat, PruneResponse, TopResponse, UpdateRequest,
    UpdateResponse, WaitError, WaitResponse,
};
pub use port::{PortBinding, PortMap};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, StorageStats,
    ThrottlingData,
};
