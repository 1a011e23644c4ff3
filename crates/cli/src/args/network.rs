//! Commands on networks.

use clap::{Args, Subcommand};

use super::{InspectArgs, ListArgs, PruneArgs};

/// `network …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// List networks
    #[command(alias = "list")]
    Ls(ListArgs),
    /// Show everything about networks
    Inspect(InspectArgs),
    /// Create a network
    Create(NetworkCreateArgs),
    /// Remove networks
    #[command(alias = "remove")]
    Rm(NetworkRemoveArgs),
    /// Connect a container to a network
    Connect(ConnectArgs),
    /// Disconnect a container from a network
    Disconnect(DisconnectArgs),
    /// Remove unused networks
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetworkCreateArgs {
    /// Let containers be attached by hand
    #[arg(long)]
    pub(crate) attachable: bool,
    /// Addresses not to give out, NAME=ADDRESS
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub(crate) aux_address: Vec<String>,
    /// Network driver
    #[arg(short, long, default_value = "bridge")]
    pub(crate) driver: String,
    /// Gateway of the subnet
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Vec<String>,
    /// No way out
    #[arg(long)]
    pub(crate) internal: bool,
    /// Give out addresses from this range
    #[arg(long, value_name = "CIDR")]
    pub(crate) ip_range: Vec<String>,
    /// IP address management driver
    #[arg(long, default_value = "default")]
    pub(crate) ipam_driver: String,
    /// Options of that driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) ipam_opt: Vec<String>,
    /// Give out IPv4 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) ipv4: Option<bool>,
    /// Give out IPv6 addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) ipv6: Option<bool>,
    /// Set labels
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Options of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) opt: Vec<String>,
    /// Subnet
    #[arg(long, value_name = "CIDR")]
    pub(crate) subnet: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkRemoveArgs {
    /// Do not fail when one does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Add an alias
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    /// Options of the driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) driver_opt: Vec<String>,
    /// Priority of its gateway
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) gw_priority: i64,
    /// IPv4 address
    #[arg(long)]
    pub(crate) ip: Option<String>,
    /// IPv6 address
    #[arg(long)]
    pub(crate) ip6: Option<String>,
    /// Add a link to another container
    #[arg(long)]
    pub(crate) link: Vec<String>,
    /// Link-local addresses
    #[arg(long)]
    pub(crate) link_local_ip: Vec<String>,
    /// Network
    pub(crate) network: String,
    /// Container
    pub(crate) container: String,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    /// Disconnect by force
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Network
    pub(crate) network: String,
    /// Container
    pub(crate) container: String,
}
