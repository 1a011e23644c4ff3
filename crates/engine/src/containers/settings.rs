//! What a client asked for when it created a container, parsed and checked for form, but not yet decided upon.
//!
//! These are the engine's own types: the daemon makes them of what arrives on the wire, [`super::record`] of what
//! stands on disk.

use super::modes::{CgroupMode, IpcMode, NetworkMode, PidMode, UserMode, UtsMode};
use coracle_network::PublishRequest;
use coracle_spec::image::Healthcheck;
use coracle_spec::runtime::ConsoleSize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of `/dev/shm` unless a container wants another, in bytes: Docker's.
pub const DEFAULT_SHM_SIZE: i64 = 64 << 20;

/// The whole request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The image as the client named it.
    pub image: String,
    /// The host name; the id's first 12 digits if empty.
    pub hostname: String,
    /// The NIS domain name.
    pub domainname: String,
    /// `USER[:GROUP]`.
    pub user: String,
    /// Which streams the creating client wants: input, output, error output.
    pub attach: [bool; 3],
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Whether there was to be no network at all, whatever else was asked for. The network is none then.
    pub network_disabled: bool,
    /// The terminal's size at start.
    pub console_size: Option<ConsoleSize>,
    /// Whether the process has an input that stays open.
    pub open_stdin: bool,
    /// Whether the input ends with the first client's.
    pub stdin_once: bool,
    /// Variables, `NAME=value`, or `NAME` alone to remove one of the image's.
    pub env: Vec<String>,
    /// More variables, which are secrets: they are in no record and shown to nobody.
    pub secret_env: Concealed,
    /// Arguments, or program and arguments.
    pub cmd: Option<Vec<String>>,
    /// The program.
    pub entrypoint: Option<Vec<String>>,
    /// Where the process begins.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that the image listens on, `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// Paths that get an anonymous volume.
    pub volumes: BTreeSet<String>,
    /// The signal that stops the container; the image's, or SIGTERM, if empty.
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL; 10 if absent, for ever if negative.
    pub stop_timeout: Option<i64>,
    /// How health is checked.
    pub healthcheck: Option<Healthcheck>,
    /// `ONBUILD` triggers, which a commit carries on.
    pub on_build: Vec<String>,
    /// The shell of shell forms, which a commit carries on.
    pub shell: Option<Vec<String>>,
    /// What depends on the host.
    pub host: HostSettings,
}

/// Texts that no message shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Concealed(pub Vec<String>);

impl std::fmt::Debug for Concealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What depends on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSettings {
    /// `-v`: as the client wrote them, `SOURCE:TARGET[:OPTIONS]`.
    pub binds: Vec<String>,
    /// `--mount`.
    pub mounts: Vec<MountSetting>,
    /// Whether all read-only bind mounts leave what is mounted below them writable, until the container is made: so it was
    /// before API 1.44.
    pub read_only_non_recursive: bool,
    /// `--tmpfs`: options by path.
    pub tmpfs: BTreeMap<String, String>,
    /// The network.
    pub network: NetworkMode,
    /// Names besides the container's own, on the network.
    pub aliases: Vec<String>,
    /// Other containers by further names, on the default network.
    pub links: Vec<Link>,
    /// The same on the network that was chosen, until the container is made.
    pub endpoint_links: Vec<Link>,
    /// Further networks by name or id, until the container is made: from then on it knows itself where it is.
    pub joins: BTreeMap<String, Join>,
    /// Fixed addresses on the network.
    pub addresses: FixedAddresses,
    /// A fixed hardware address, as text.
    pub mac_address: String,
    /// Ports to publish.
    pub ports: Vec<PublishRequest>,
    /// Whether all exposed ports are published.
    pub publish_all: bool,
    /// What happens after an exit.
    pub restart: RestartPolicy,
    /// Whether the container is removed after its exit.
    pub auto_remove: bool,
    /// Whether nearly all confinement is off.
    pub privileged: bool,
    /// Whether the root is read-only.
    pub readonly_root: bool,
    /// Whether a reaper is the first process; the engine's default if absent.
    pub init: Option<bool>,
    /// Capabilities to add, with or without `CAP_`; `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Devices by name, of a driver.
    pub device_requests: Vec<DeviceRequest>,
    /// Rules of the device cgroup, as text.
    pub device_cgroup_rules: Vec<String>,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Size of `/dev/shm`, in bytes; 64 MiB if 0.
    pub shm_size: i64,
    /// Groups to add, names or numbers.
    pub group_add: Vec<String>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// Limits of the cgroup.
    pub resources: Resources,
    /// Servers for names.
    pub dns: Vec<IpAddr>,
    /// Domains to search.
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// `NAME:ADDRESS`.
    pub extra_hosts: Vec<String>,
    /// `seccomp=…`, `no-new-privileges` and so on.
    pub security_opt: Vec<String>,
    /// Options of what the container writes to, as the client wrote them.
    pub storage: BTreeMap<String, String>,
    /// Where the output goes.
    pub log: LogSettings,
    /// Paths hidden; the default ones if absent.
    pub masked_paths: Option<Vec<String>>,
    /// Paths read-only; the default ones if absent.
    pub readonly_paths: Option<Vec<String>>,
    /// The pid namespace.
    pub pid: PidMode,
    /// The ipc namespace.
    pub ipc: IpcMode,
    /// The uts namespace.
    pub uts: UtsMode,
    /// The user namespace.
    pub user_namespace: UserMode,
    /// The cgroup namespace.
    pub cgroupns: CgroupMode,
    /// The cgroup above the container's; the engine's own if empty.
    pub cgroup_parent: String,
    /// Containers whose mounts are shared.
    pub volumes_from: Vec<String>,
    /// Free-form metadata for the runtime; never policy.
    pub annotations: BTreeMap<String, String>,
    /// The OCI runtime as the client named it; the engine's own if empty.
    pub runtime: String,
    /// The driver of volumes that have none of their own; `local` if empty.
    pub volume_driver: String,
    /// How containers are isolated, which only Windows knows ways of: empty or `default`, as it was given.
    pub isolation: String,
}

/// Another container by a further name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The container as the client names it; for a link of the default network its id, once the container is made.
    pub container: String,
    /// The further name.
    pub alias: String,
}

/// The addresses that a container is to have on a network; the engine chooses those that are not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedAddresses {
    /// That of IPv4.
    pub v4: Option<Ipv4Addr>,
    /// That of IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl FixedAddresses {
    /// Those that are said.
    pub fn all(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from))
    }
}

/// How a container joins a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// Other containers by further names.
    pub links: Vec<Link>,
    /// Names besides the container's own.
    pub aliases: Vec<String>,
    /// Fixed addresses.
    pub addresses: FixedAddresses,
    /// A fixed hardware address, as text.
    pub mac_address: String,
}

/// One `--mount`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountSetting {
    /// `bind`, `volume`, `image` or `tmpfs`.
    pub kind: String,
    /// Whether what is bound is the engine's own, which belongs to users of containers; in no record.
    pub is_engines: bool,
    /// The host's path, the volume's name, or the image.
    pub source: String,
    /// What of a volume or image is mounted, a path in it; all of it if empty.
    pub subpath: String,
    /// Where, inside the container.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Propagation of a bind mount; `rprivate` if empty.
    pub propagation: String,
    /// Whether a bind mount leaves out what is mounted below it.
    pub non_recursive: bool,
    /// Whether a read-only bind mount leaves what is mounted below it writable.
    pub read_only_non_recursive: bool,
    /// Whether it is an error if what is mounted below cannot be made read-only, which it always can.
    pub read_only_force_recursive: bool,
    /// Whether a missing source of a bind mount is made.
    pub create_source: bool,
    /// Whether a new volume is left empty.
    pub no_copy: bool,
    /// Labels of a new volume.
    pub labels: BTreeMap<String, String>,
    /// The driver of a new volume; `local` if empty.
    pub driver: String,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
    /// Size of a tmpfs, in bytes.
    pub tmpfs_size: i64,
    /// Mode of a tmpfs.
    pub tmpfs_mode: u32,
}

/// What happens after an exit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again, and at every start of the engine.
    Always,
    /// The same, unless somebody stopped it.
    UnlessStopped,
    /// It is started again after a failure, so many times; without end if 0.
    OnFailure(u32),
}

/// A device of the host inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceMapping {
    /// On the host.
    pub host: String,
    /// Inside the container.
    pub container: String,
    /// Letters of `rwm`.
    pub permissions: String,
}

/// Devices that a driver knows: `cdi`, by names of the Container Device Interface, or one of graphics processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRequest {
    /// The driver; any if empty.
    pub driver: String,
    /// How many; all if negative.
    pub count: i64,
    /// Names, each `vendor/class=name`; of other drivers numbers and the like.
    pub ids: Option<Vec<String>>,
    /// Sets of capabilities, of which the devices must have one; those of `cdi` have none, and they are shown again.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Options, of which no driver has any; shown again.
    pub options: Option<BTreeMap<String, String>>,
}

/// A resource limit of processes, by its name in ulimit(1), for instance `nofile`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// The name.
    pub name: String,
    /// The soft limit; -1 for none.
    pub soft: i64,
    /// The hard limit; -1 for none.
    pub hard: i64,
}

/// Limits of the cgroup. 0 and empty leave the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes of memory and swap together; -1 without limit.
    pub memory_swap: i64,
    /// Soft limit, in bytes.
    pub memory_reservation: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Whether the out-of-memory killer is off.
    pub oom_kill_disable: bool,
    /// Relative weight.
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds per period.
    pub cpu_quota: i64,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// For instance `0-2,7`.
    pub cpuset_cpus: String,
    /// For instance `0`.
    pub cpuset_mems: String,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// Tasks; none if absent, 0 or negative.
    pub pids: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// Weights by device path.
    pub blkio_weight_device: Vec<DeviceRate>,
    /// Bytes per second by device path.
    pub blkio_read_bps: Vec<DeviceRate>,
    /// Bytes per second by device path.
    pub blkio_write_bps: Vec<DeviceRate>,
    /// Operations per second by device path.
    pub blkio_read_iops: Vec<DeviceRate>,
    /// Operations per second by device path.
    pub blkio_write_iops: Vec<DeviceRate>,
}

/// A number for one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRate {
    /// The device's path on the host.
    pub path: String,
    /// The weight or rate.
    pub rate: u64,
}

/// Where the output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// `json-file`, `local` or `none`; the engine's default if empty.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}
