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
    /// Save the files of a volume as a tar archive (Coracle's own)
    Save(VolumeSaveArgs),
    /// Make a volume of a tar archive (Coracle's own)
    Load(VolumeLoadArgs),
    /// Make a volume with the files of another one (Coracle's own)
    Clone(VolumeCloneArgs),
}

/// What becomes of containers that run and can write to the volume; without any of these, they are in the way.
#[derive(Debug, Args)]
pub(crate) struct WritersArgs {
    /// Pause containers that can write to it meanwhile
    #[arg(short, long)]
    pub(crate) pause: bool,
    /// Take what is there although running containers change it
    #[arg(long, conflicts_with = "pause")]
    pub(crate) live: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeSaveArgs {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<String>,
    #[command(flatten)]
    pub(crate) writers: WritersArgs,
    /// Its name
    #[arg(value_name = "VOLUME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeLoadArgs {
    /// Read from a file instead of stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<String>,
    /// Set labels
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Options of the driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) opt: Vec<String>,
    /// Its name, random unless given
    #[arg(value_name = "VOLUME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCloneArgs {
    /// Set labels besides those of the other one
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Options of the driver besides those of the other one
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) opt: Vec<String>,
    #[command(flatten)]
    pub(crate) writers: WritersArgs,
    /// The volume that is there
    #[arg(value_name = "VOLUME")]
    pub(crate) source: String,
    /// Name of the new one, random unless given
    #[arg(value_name = "NEW")]
    pub(crate) target: Option<String>,
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
