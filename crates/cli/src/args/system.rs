//! Commands on the engine.

use clap::{Args, Subcommand};

use super::PruneArgs;

/// Commands that stand at the top.
#[derive(Debug, Subcommand)]
pub(crate) enum TopLevelCommand {
    /// Show versions
    Version(FormatArgs),
    /// Show information about the engine and its host
    Info(FormatArgs),
    /// Show what happens
    Events(EventsArgs),
}

/// `system …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Prove that all image content is whole
    Check(CheckArgs),
    /// Connect stdin and stdout with the engine, which is what an ssh:// address runs on the other machine
    #[command(name = "dial-stdio", hide = true)]
    DialStdio,
    /// Show disk usage
    Df(DfArgs),
    /// Show what happens
    Events(EventsArgs),
    /// Show information about the engine and its host
    Info(FormatArgs),
    /// Remove unused data
    Prune(SystemPruneArgs),
    /// Remove the images that were not used for the longest time until the rest fits
    Reclaim(ReclaimArgs),
    /// Stop all containers as for the end of the machine: restart policies wait for the next start of the engine
    Shutdown,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Move what is damaged into the quarantine, so that pulling or loading an image again replaces it
    #[arg(long)]
    pub(crate) quarantine: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Format with a Go template, or 'json'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Filter output, name=value
    #[arg(short, long, value_name = "FILTER", value_parser = super::filter)]
    pub(crate) filter: Vec<String>,
    /// Format with a Go template, or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Show events since a time or a span before now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Stop at a time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Show each image, container and volume
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SystemPruneArgs {
    /// Remove all unused images, not just those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Remove anonymous volumes too
    #[arg(long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) prune: PruneArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReclaimArgs {
    /// Only say what would go, what would stay, and why
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Room that images may take, as 20g; without it, what the daemon was told with --storage-budget
    #[arg(long, value_name = "SIZE")]
    pub(crate) budget: Option<String>,
    /// Keep images that were used within this time, as 72h; without it, what the daemon was told
    #[arg(long, value_name = "DURATION")]
    pub(crate) keep_recent: Option<String>,
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}
