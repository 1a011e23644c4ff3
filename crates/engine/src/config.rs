//! How an engine is set up; the daemon fills it from flags and files.

use crate::containers::LogDefaults;
use crate::error::{Attempt, Error, Result};
use crate::remap::Remap;
use crate::runtimes::Runtimes;
use coracle_network::{AddressPool, Family, Subnet};
use coracle_spec::Digest;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Where the default engine keeps its data.
pub const DEFAULT_DATA_ROOT: &str = "/var/lib/coracle";
/// Where the default engine keeps what does not outlive a boot.
pub const DEFAULT_EXEC_ROOT: &str = "/run/coracle";
/// Where Docker and its users keep the certificates of registries.
pub const DEFAULT_CERTIFICATES: &str = "/etc/docker/certs.d";
/// Where vendors put specifications of devices, as the Container Device Interface says.
pub const DEFAULT_CDI_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Layers that are fetched at once unless the configuration says otherwise: Docker's number.
pub const DEFAULT_DOWNLOADS: u32 = 3;
/// Layers that are sent at once unless the configuration says otherwise: Docker's number.
pub const DEFAULT_UPLOADS: u32 = 5;
/// How long images stay after their last use unless the configuration says otherwise: over a weekend.
pub const DEFAULT_KEEP_RECENT: Duration = Duration::from_secs(72 * 3600);

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
    /// Where containers on the default bridge get their addresses of IPv4.
    pub default_v4: DefaultAddressing,
    /// The same of IPv6, if they have any.
    pub default_v6: Option<DefaultAddressing>,
    /// Largest packet on the default bridge, in bytes.
    pub mtu: u32,
    /// What networks have that ask for nothing else.
    pub networks: NetworkDefaults,
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
    /// How the logs of containers are that say nothing of it.
    pub log: LogDefaults,
    /// How registries are spoken to.
    pub registries: RegistrySettings,
    /// Labels of the engine.
    pub labels: Vec<String>,
    /// How much room images may take, and which always stay.
    pub storage: StorageSettings,
    /// What builds may have.
    pub builds: BuildSettings,
    /// Directories of specifications of devices, the last of which counts most; none where containers get no such devices.
    pub cdi_directories: Vec<PathBuf>,
    /// What containers have that ask for nothing else.
    pub defaults: ContainerDefaults,
    /// OCI runtimes besides the engine's own.
    pub runtimes: Runtimes,
    /// Who the users of containers are outside, unless a container has the host's; who they are inside if absent.
    pub remap: Option<Remap>,
}

/// Where containers on the default bridge get their addresses of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultAddressing {
    /// The bridge's address and network; chosen if absent.
    pub subnet: Option<Subnet>,
    /// What of it is given out, `ADDRESS/LENGTH`; all if absent.
    pub range: Option<String>,
}

/// What networks have that ask for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDefaults {
    /// Where their addresses come from, in this order; a family that is not among them has the usual ones.
    pub pools: Vec<AddressPool>,
    /// Options of their driver.
    pub options: BTreeMap<String, String>,
    /// Whether containers on the default one reach each other.
    pub icc: bool,
    /// Whether what leaves the default one has the host's address.
    pub masquerade: bool,
}

impl Default for NetworkDefaults {
    fn default() -> Self {
        Self { pools: Vec::new(), options: BTreeMap::new(), icc: true, masquerade: true }
    }
}

/// What containers have that ask for nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDefaults {
    /// Whether their programs get no privileges by being executed.
    pub no_new_privileges: bool,
    /// Which system calls they may make.
    pub seccomp: DefaultFilter,
    /// The address of this machine that ports are published on; all if absent.
    pub publish_address: Option<IpAddr>,
    /// What `host-gateway` stands for in `/etc/hosts`; the default bridge if absent.
    pub host_gateway: Option<IpAddr>,
}

/// Which system calls containers may make that ask for no profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DefaultFilter {
    /// Those of the profile that the engine brings.
    #[default]
    BuiltIn,
    /// All.
    Unconfined,
    /// Those of another profile.
    Profile {
        /// The file that it was read from.
        path: PathBuf,
        /// The profile, a JSON document.
        text: String,
    },
}

/// What builds may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// Steps of all builds that are done at once; four for each processor if absent, and no less than sixteen.
    pub parallelism: Option<NonZeroUsize>,
    /// Whether clients may let commands leave their sandbox (`RUN --security=insecure`).
    pub insecure: bool,
    /// Whether clients may give commands devices (`RUN --device`).
    pub devices: bool,
}

impl BuildSettings {
    /// Steps of all builds that are done at once.
    pub(crate) fn steps_at_once(self) -> usize {
        let usual = || 4 * std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.parallelism.map_or_else(|| usual().max(crate::limits::STEPS_AT_ONCE), NonZeroUsize::get)
    }
}

/// How much room images and containers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// Bytes of layers, archives of layers and documents; as much as there is if absent.
    pub budget: Option<u64>,
    /// Bytes of layers that builds remember and no image has; 0 for as much as there is, a tenth of the file system if
    /// absent.
    pub build_cache: Option<u64>,
    /// Bytes that a container may write into its own layer that does not say how many; as much as there is if absent.
    pub container: Option<u64>,
    /// Images that were used within this time stay.
    pub keep_recent: Duration,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self { budget: None, build_cache: None, container: None, keep_recent: DEFAULT_KEEP_RECENT }
    }
}

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// Mirrors, and registries without trusted TLS.
    pub hosts: coracle_registry::Hosts,
    /// A directory of certificates for each registry.
    pub certificates: PathBuf,
    /// Proxies on the way to them.
    pub proxies: coracle_registry::Proxies,
    /// Most layers that are fetched at once.
    pub downloads: usize,
    /// Most layers of one push that are sent at once.
    pub uploads: usize,
    /// How often something is tried that brings no progress.
    pub attempts: u32,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            hosts: coracle_registry::Hosts::default(),
            certificates: DEFAULT_CERTIFICATES.into(),
            proxies: coracle_registry::Proxies::default(),
            downloads: DEFAULT_DOWNLOADS as usize,
            uploads: DEFAULT_UPLOADS as usize,
            attempts: coracle_registry::Timing::default().tries,
        }
    }
}

impl RegistrySettings {
    pub(crate) fn client(&self) -> Result<coracle_registry::Client> {
        self.client_of(self.hosts.clone())
    }

    /// A client that needs no TLS that can be trusted for one registry, and remembers nothing of earlier ones.
    pub(crate) fn insecure_client(&self, registry: &str) -> Result<coracle_registry::Client> {
        let with_it = [self.hosts.insecure(), &[registry.to_owned()]].concat();
        let hosts = coracle_registry::Hosts::new(&[], &with_it);
        self.client_of(hosts.map_err(|error| Error::Invalid(coracle_spec::full_text(&error)))?)
    }

    fn client_of(&self, hosts: coracle_registry::Hosts) -> Result<coracle_registry::Client> {
        let options = coracle_registry::Options {
            user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")).to_owned(),
            certificates: self.certificates.clone(),
            proxy: self.proxies.clone(),
        };
        let timing = coracle_registry::Timing { tries: self.attempts, ..coracle_registry::Timing::default() };
        let client = coracle_registry::Client::with_timing(hosts, options, timing);
        client.attempt(|| "prepare for speaking to registries".to_owned())
    }
}

impl Config {
    /// Eight digits that tell engines apart which share a machine.
    pub fn engine_id(&self) -> String {
        Digest::of(self.data_root.as_os_str().as_encoded_bytes()).hex()[..8].to_owned()
    }

    /// Where the subnets of networks come from that are given none.
    pub(crate) fn pools(&self) -> Vec<AddressPool> {
        let mut pools = self.networks.pools.clone();
        let has = |family| self.networks.pools.iter().any(|pool| pool.family() == family);
        if !has(Family::V4) {
            pools.extend(AddressPool::usual());
        }
        if !has(Family::V6) {
            pools.push(AddressPool::unique_local(self.site()));
        }
        pools
    }

    /// The number of this engine among all sites that have unique local addresses (RFC 4193, 3.2.1): always the same here, and
    /// nobody else's as good as always.
    fn site(&self) -> [u8; 5] {
        let read = |path| std::fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty());
        let machine =
            read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or_default();
        let digest = Digest::of(format!("site {} {}", machine.trim(), self.data_root.display()).as_bytes());
        let octet =
            |nth: usize| u8::from_str_radix(&digest.hex()[2 * nth..2 * nth + 2], 16).unwrap_or_default();
        [0, 1, 2, 3, 4].map(octet)
    }

    /// The default bridge's name.
    pub fn bridge_name(&self) -> String {
        match &self.bridge {
            Some(name) => name.clone(),
            None if self.data_root.as_os_str() == DEFAULT_DATA_ROOT => "coracle0".to_owned(),
            None => format!("co-{}", self.engine_id()),
        }
    }

    /// The cgroup of shims, beside those of containers. Without a cgroup that was given they are with the engine, whose end then
    /// ends nothing; a service manager's idea of what belongs to a service is another.
    pub(crate) fn group_of_shims(&self) -> Option<PathBuf> {
        self.cgroup_parent.as_ref().map(|parent| PathBuf::from(parent).join("shims"))
    }

    /// The cgroup above all containers.
    pub fn cgroup(&self) -> String {
        self.cgroup_parent.clone().unwrap_or_else(|| format!("coracle-{}", self.engine_id()))
    }
}
