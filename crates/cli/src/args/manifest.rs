//! `manifest …`.

use clap::{Args, Subcommand};

/// Commands on lists of manifests.
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Add what an image runs on to a list that is kept here
    Annotate(AnnotateArgs),
    /// Make a list that is kept here until it is pushed
    Create(CreateArgs),
    /// Show a manifest or a list
    Inspect(InspectArgs),
    /// Push a list to its registry
    Push(PushArgs),
    /// Remove lists that are kept here
    Rm(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AnnotateArgs {
    /// Architecture
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) arch: String,
    /// Operating system
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) os: String,
    /// Feature of the operating system
    #[arg(long, value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,
    /// Version of the operating system
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) os_version: String,
    /// Variant of the architecture
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) variant: String,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    pub(crate) list: String,
    /// The image in it
    pub(crate) manifest: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Add to a list that is there
    #[arg(short, long)]
    pub(crate) amend: bool,
    /// Speak to the registry without TLS that can be trusted
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    pub(crate) list: String,
    /// The images in it
    #[arg(required = true, value_name = "MANIFEST")]
    pub(crate) manifests: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Speak to the registry without TLS that can be trusted
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Show layers and platforms too
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// [MANIFEST_LIST] MANIFEST
    #[arg(required = true, num_args = 1..=2, value_name = "[MANIFEST_LIST] MANIFEST")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Speak to the registry without TLS that can be trusted
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Remove the list here once it is there
    #[arg(short, long)]
    pub(crate) purge: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    pub(crate) list: String,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The lists
    #[arg(required = true, value_name = "MANIFEST_LIST")]
    pub(crate) lists: Vec<String>,
}
