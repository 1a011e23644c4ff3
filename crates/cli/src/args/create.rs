//! The flags that `run` and `create` share, and those of resources, which `update` has too.

use clap::Args;

/// What to create.
#[derive(Debug, Args, Default)]
pub(crate) struct CreateArgs {
    /// Print usage
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Add a host-to-IP mapping, host:ip
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Add an annotation for the OCI runtime
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Parent cgroup
    #[arg(long, default_value = "")]
    pub(crate) cgroup_parent: String,
    /// Cgroup namespace, host or private
    #[arg(long, default_value = "")]
    pub(crate) cgroupns: String,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<String>,
    /// Only true, which it is: there are no signatures of Notary to verify
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = super::only_true)]
    disable_content_trust: Option<bool>,
    /// Add a device of the host
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Add a rule to the list of allowed devices
    #[arg(long, value_name = "RULE")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Set DNS servers
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Set DNS search domains
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// NIS domain name
    #[arg(long, default_value = "")]
    pub(crate) domainname: String,
    /// Overwrite the image's entry point
    #[arg(long)]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT")]
    pub(crate) expose: Vec<String>,
    /// GPU devices to add, 'all' for all
    #[arg(long)]
    pub(crate) gpus: Option<String>,
    /// Add groups to join
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    #[command(flatten)]
    pub(crate) health: HealthArgs,
    /// What is done once it is unhealthy (not in Docker): "none", "restart", "stop" or "kill"
    #[arg(long, value_name = "ACTION", value_parser = ["none", "restart", "stop", "kill"])]
    pub(crate) on_unhealthy: Option<String>,
    /// Host name
    #[arg(short = 'h', long)]
    pub(crate) hostname: Option<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// IPv4 address
    #[arg(long)]
    pub(crate) ip: Option<String>,
    /// IPv6 address
    #[arg(long)]
    pub(crate) ip6: Option<String>,
    /// IPC mode
    #[arg(long, default_value = "")]
    pub(crate) ipc: String,
    /// Isolation technology
    #[arg(long, default_value = "")]
    pub(crate) isolation: String,
    /// Set labels
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Read a file of labels
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<String>,
    /// Add a link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub(crate) link: Vec<String>,
    /// Link-local addresses
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) link_local_ip: Vec<String>,
    /// Log driver
    #[arg(long, default_value = "")]
    pub(crate) log_driver: String,
    /// Options of the log driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// MAC address
    #[arg(long, default_value = "")]
    pub(crate) mac_address: String,
    /// Attach a file system mount
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Vec<String>,
    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Connect to a network
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Vec<String>,
    /// Add an alias on the network
    #[arg(long, alias = "net-alias", value_name = "ALIAS")]
    pub(crate) network_alias: Vec<String>,
    /// Never kill when memory runs out
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// OOM score adjustment, -1000 to 1000
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) oom_score_adj: i64,
    /// PID namespace
    #[arg(long, default_value = "")]
    pub(crate) pid: String,
    /// Platform of the image
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
    /// Give extended privileges
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Publish ports, [[ADDRESS:]HOST_PORT:]PORT[/PROTOCOL]
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Pull the image: always, missing or never
    #[arg(long, default_value = "missing")]
    pub(crate) pull: String,
    /// Suppress the output of the pull
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Mount the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// Restart policy
    #[arg(long, default_value = "no")]
    pub(crate) restart: String,
    /// Remove the container and its anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// OCI runtime
    #[arg(long, default_value = "")]
    pub(crate) runtime: String,
    /// Security options
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Signal to stop the container
    #[arg(long, default_value = "")]
    pub(crate) stop_signal: String,
    /// Seconds to wait before killing
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// Options of the storage driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) storage_opt: Vec<String>,
    /// Kernel parameters
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// Mount a tmpfs, PATH[:OPTIONS]
    #[arg(long, value_name = "PATH")]
    pub(crate) tmpfs: Vec<String>,
    /// Allocate a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Resource limits, NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// User, name|uid[:group|gid]
    #[arg(short, long, default_value = "")]
    pub(crate) user: String,
    /// User namespace
    #[arg(long, default_value = "")]
    pub(crate) userns: String,
    /// UTS namespace
    #[arg(long, default_value = "")]
    pub(crate) uts: String,
    /// Mount a volume, [SOURCE:]PATH[:OPTIONS]
    #[arg(short, long, value_name = "VOLUME")]
    pub(crate) volume: Vec<String>,
    /// Volume driver
    #[arg(long, default_value = "")]
    pub(crate) volume_driver: String,
    /// Mount the volumes of other containers
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) volumes_from: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, default_value = "")]
    pub(crate) workdir: String,
    /// Image, command and arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    pub(crate) image_and_command: Vec<String>,
}

/// How to find out whether the container works.
#[derive(Debug, Args, Default)]
pub(crate) struct HealthArgs {
    /// Command that checks health
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between checks
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_interval: Option<String>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) health_retries: Option<i64>,
    /// Time between checks in the start period
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_start_interval: Option<String>,
    /// Time in which failures do not count
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_start_period: Option<String>,
    /// Longest time of one check
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_timeout: Option<String>,
    /// Disable the health check
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
}

/// Limits.
#[derive(Debug, Args, Default)]
pub(crate) struct ResourceArgs {
    /// Block IO weight, 10 to 1000
    #[arg(long, default_value_t = 0)]
    pub(crate) blkio_weight: u16,
    /// Block IO weight of a device, PATH:WEIGHT
    #[arg(long, value_name = "DEVICE")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// CPU period in microseconds
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu_period: i64,
    /// CPU quota in microseconds
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) cpu_quota: i64,
    /// Real-time period in microseconds
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu_rt_period: i64,
    /// Real-time runtime in microseconds
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu_rt_runtime: i64,
    /// CPU shares (relative weight)
    #[arg(short, long, default_value_t = 0)]
    pub(crate) cpu_shares: i64,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    pub(crate) cpus: Option<String>,
    /// CPUs allowed (0-3, 0,1)
    #[arg(long, default_value = "")]
    pub(crate) cpuset_cpus: String,
    /// Memory nodes allowed (0-3, 0,1)
    #[arg(long, default_value = "")]
    pub(crate) cpuset_mems: String,
    /// Limit bytes per second read from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_read_bps: Vec<String>,
    /// Limit reads per second from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_read_iops: Vec<String>,
    /// Limit bytes per second written to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_write_bps: Vec<String>,
    /// Limit writes per second to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_write_iops: Vec<String>,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// Memory and swap together, -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Memory swappiness, 0 to 100
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Limit of the number of tasks, -1 for none
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
}
