//! Bodies of `/info`, `/version`, `/events`, `/system/df`, our own check and reclaim, and `/_ping` (whose answer is in its headers).

mod check;
mod df;
mod events;
mod info;
mod reclaim;
mod version;

pub use check::{CheckFinding, CheckMessage, CheckSummary};
pub use df::{BuildCache, BuildPruneResponse, DiskUsage, ObjectLists, ObjectUsage};
pub use events::{Actor, Event};
pub use info::{
    AddressPool, Commit, DiscoveredDevice, IndexInfo, Info, Nondistributable, Plugins, RegistryConfig,
    Runtime, SwarmInfo,
};
pub use reclaim::{ReclaimReport, ReclaimVerdict};
pub use version::{Component, PlatformName, Version};
