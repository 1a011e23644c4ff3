//! Commands on images.

use clap::{Args, Subcommand};
use coracle_spec::Platform;

use super::build::BuildArgs;
use super::{InspectArgs, ListArgs, PruneArgs};

/// Commands that stand at the top.
#[derive(Debug, Subcommand)]
pub(crate) enum TopLevelCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// List images
    Images(ImagesArgs),
    /// Create an image from a tar archive of a file system
    Import(ImportArgs),
    /// Load images from a tar archive
    Load(LoadArgs),
    /// Save images to a tar archive
    Save(SaveArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    Rmi(RemoveArgs),
    /// Show the history of an image
    History(HistoryArgs),
    /// Download an image from a registry
    Pull(PullArgs),
    /// Upload an image to a registry
    Push(PushArgs),
    /// Show everything about containers, images, networks and volumes
    Inspect(AnyInspectArgs),
}

/// `image …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// List images
    #[command(alias = "list")]
    Ls(ImagesArgs),
    /// Create an image from a tar archive of a file system
    Import(ImportArgs),
    /// Load images from a tar archive
    Load(LoadArgs),
    /// Save images to a tar archive
    Save(SaveArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    #[command(alias = "remove")]
    Rm(RemoveArgs),
    /// Show the history of an image
    History(HistoryArgs),
    /// Download an image from a registry
    Pull(PullArgs),
    /// Upload an image to a registry
    Push(PushArgs),
    /// Send images to the engine of another machine, over ssh
    Send(SendArgs),
    /// Receive the images that `image send` sends, on stdin and stdout
    Receive,
    /// Show everything about images
    Inspect(ImageInspectArgs),
    /// Never remove images to reclaim room
    Pin(PinArgs),
    /// Remove unused images
    Prune(ImagePruneArgs),
    /// Take pins back
    Unpin(PinArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// Names, which stay pinned whatever has them, or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Show all images, also intermediate ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Show what each name stands for, platform by platform
    #[arg(long)]
    pub(crate) tree: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// REPOSITORY[:TAG]
    #[arg(value_name = "[REPOSITORY[:TAG]]")]
    pub(crate) repository: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Instructions of a Dockerfile to apply
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Message
    #[arg(short, long, default_value = "")]
    pub(crate) message: String,
    /// Platform of the image
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
    /// File, URL, or - for stdin
    pub(crate) source: String,
    /// REPOSITORY[:TAG]
    #[arg(value_name = "[REPOSITORY[:TAG]]")]
    pub(crate) image: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Read from a file instead of stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<String>,
    /// Load only these platforms
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Suppress the output
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<String>,
    /// Save only these platforms
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Leave out the layers of this image: the archive is loaded where it is
    #[arg(long, value_name = "IMAGE")]
    pub(crate) since: Vec<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    pub(crate) source: String,
    /// The new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Remove even if in use or named more than once
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep unnamed parents
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// Remove only these platforms
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Print sizes and dates for people
    #[arg(short = 'H', long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only show ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Show the history of this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// Name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Push all tags of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Suppress the output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only true, which it is: there are no signatures of Notary to make
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = super::only_true)]
    pub(crate) disable_content_trust: Option<bool>,
    /// Push only this platform, as an image of its own
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// NAME[:TAG]
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Send only these platforms
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Suppress the output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// ssh://[USER@]HOST[:PORT][/NAME[:TAG]]; with a name, the image is called that there
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Pull all tags of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Platform of the image
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
    /// Suppress the output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only true, which it is: there are no signatures of Notary to verify
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = super::only_true)]
    disable_content_trust: Option<bool>,
    /// NAME[:TAG|@DIGEST]
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImageInspectArgs {
    /// Show this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImagePruneArgs {
    /// Remove all unused images, not just those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) prune: PruneArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AnyInspectArgs {
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
    /// Display sizes of containers
    #[arg(short, long)]
    pub(crate) size: bool,
    /// container, image, network or volume
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}
