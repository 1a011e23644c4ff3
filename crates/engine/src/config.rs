//! How an engine is set up; the daemon fills it from flags and files.

use coracle_network::Ipv4Net;
use coracle_spec::Digest;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where the default engine keeps its data.
pub const DEFAULT_DATA_ROOT: &str = "/var/lib/coracle";
/// Where the default engine keeps what does not outlive a boot.
pub const DEFAULT_EXEC_ROOT: &str = "/run/coracle";

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Images, containers, volumes.
    pub data_root: PathBuf,
    /// Sockets, and records of what runs.
    pub exec_root: PathBuf,
    /// The program that shims run.
    pub runtime: PathBuf,
    /// The default bridge's name; `none` for no default network. Derived from the data root if absent.
    pub bridge: Option<String>,
    /// The default bridge's address and network; chosen if absent.
    pub bip: Option<Ipv4Net>,
    /// Largest packet on the default bridge, in bytes.
    pub mtu: u32,
    /// Whether containers get a reaper unless they say otherwise.
    pub init: bool,
    /// The cgroup of all containers; derived from the data root if absent.
    pub cgroup_parent: Option<String>,
    /// Servers for names, for containers that name none.
    pub dns: Vec<IpAddr>,
    /// Domains to search, for containers that name none.
    pub dns_search: Vec<String>,
    /// Options of the resolver, for containers that name none.
    pub dns_options: Vec<String>,
    /// Size at which a log is rotated, in bytes.
    pub log_size: u64,
    /// Most files of a log.
    pub log_files: u32,
    /// What is configured of registries.
    pub registries: coracle_registry::Hosts,
    /// Labels of the engine.
    pub labels: Vec<String>,
}

impl Config {
    /// Eight digits that tell engines apart which share a machine.
    pub fn engine_id(&self) -> String {
        Digest::of(self.data_root.as_os_str().as_encoded_bytes()).hex()[..8].to_owned()
    }

    /// The default bridge's name.
    pub fn bridge_name(&self) -> String {
        match &self.bridge {
            Some(name) => name.clone(),
            None if self.data_root.as_os_str() == DEFAULT_DATA_ROOT => "coracle0".to_owned(),
            None => format!("co-{}", self.engine_id()),
        }
    }

    /// The cgroup above all containers.
    pub fn cgroup(&self) -> String {
        self.cgroup_parent.clone().unwrap_or_else(|| format!("coracle-{}", self.engine_id()))
    }
}
