//! Commands on volumes.

use clap::{Args, Subcommand};

use super::{InspectArgs, PruneArgs};

/// `volume …`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Create a volume
    Create(VolumeCreateArgs),
    /// List volumes
    #[command(alias = "list")]
    Ls(VolumeListArgs),
    /// Show everything about volumes
    Inspect(InspectArgs),
    /// Remove volumes
    #[command(alias = "remove")]
    Rm(VolumeRemoveArgs),
    /// Remove unused volumes
    Prune(VolumePruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCreateArgs {
    /// Volume driver
    #[arg(short, long, default_value = "local")]
    pub(crate) driver: String,
    /// Set labels
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Options of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) opt: Vec<String>,
    /// Its name, random unless given
    #[arg(value_name = "VOLUME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeListArgs {
    /// Filter output, name=value
    #[arg(short, long, value_name = "FILTER", value_parser = super::filter)]
    pub(crate) filter: Vec<String>,
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Only display names
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeRemoveArgs {
    /// Do not fail when one does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumePruneArgs {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) prune: PruneArgs,
}
