//! Commands on containers.

use clap::{Args, Subcommand};

use super::create::{CreateArgs, HealthArgs, ResourceArgs};
use super::{InspectArgs, ListArgs, PruneArgs};

/// Commands that stand at the top as well as under `container`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// Create and run a new container from an image
    #[command(disable_help_flag = true)]
    Run(RunArgs),
    /// Create a new container
    #[command(disable_help_flag = true)]
    Create(CreateArgs),
    /// Start stopped containers
    Start(StartArgs),
    /// Show what containers use, as it changes
    Stats(StatsArgs),
    /// Stop running containers
    Stop(StopArgs),
    /// Restart containers
    Restart(StopArgs),
    /// Kill running containers
    Kill(KillArgs),
    /// Remove containers
    #[command(alias = "remove")]
    Rm(RemoveArgs),
    /// List containers
    Ps(PsArgs),
    /// Fetch the logs of a container
    Logs(LogsArgs),
    /// Attach to a running container
    Attach(AttachArgs),
    /// Execute a command in a running container
    Exec(ExecArgs),
    /// Block until containers stop, then print their exit codes
    Wait(NamesArgs),
    /// Display the running processes of a container
    Top(TopArgs),
    /// List port mappings of a container
    Port(PortArgs),
    /// Rename a container
    Rename(RenameArgs),
    /// Pause all processes within containers
    Pause(NamesArgs),
    /// Unpause all processes within containers
    Unpause(NamesArgs),
    /// Update the configuration of containers
    Update(UpdateArgs),
    /// Inspect changes to a container's file system
    Diff(NameArgs),
    /// Create an image from a container's changes
    Commit(CommitArgs),
    /// Copy files between a container and this machine
    Cp(CopyArgs),
    /// Export a container's file system as a tar archive
    Export(ExportArgs),
}

/// `container …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerGroup {
    #[command(flatten)]
    Shared(Box<ContainerCommand>),
    /// List containers
    #[command(alias = "list")]
    Ls(PsArgs),
    /// Show everything about containers
    Inspect(ContainerInspectArgs),
    /// Remove all stopped containers
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Proxy received signals to the process
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub(crate) detach_keys: String,
    #[command(flatten)]
    pub(crate) create: CreateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Attach output and forward signals
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Attach input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub(crate) detach_keys: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Signal to send
    #[arg(short, long)]
    pub(crate) signal: Option<String>,
    /// Seconds to wait before killing, -1 for ever
    #[arg(short, long, alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal to send
    #[arg(short, long)]
    pub(crate) signal: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Kill it first if it runs
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove the link, not the container
    #[arg(short, long)]
    pub(crate) link: bool,
    /// Remove its anonymous volumes
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Show all containers, not just running ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show the last N created containers
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) last: Option<i64>,
    /// Show the latest created container
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Display sizes
    #[arg(short, long)]
    pub(crate) size: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Show all containers, not just running ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Show what is so now, and end
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Names or ids; all that run, and those that start meanwhile, unless given
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Show extra attributes
    #[arg(long)]
    pub(crate) details: bool,
    /// Follow the log
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show logs since a time or a span before now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Show logs before a time or a span before now
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Number of lines from the end
    #[arg(short = 'n', long, value_name = "N", default_value = "all", allow_negative_numbers = true)]
    pub(crate) tail: String,
    /// Show timestamps
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub(crate) detach_keys: String,
    /// Do not attach input
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Proxy received signals to the process
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that detach from the command
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub(crate) detach_keys: String,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give extended privileges
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// User, name|uid[:group|gid]
    #[arg(short, long, default_value = "")]
    pub(crate) user: String,
    /// Working directory inside the container
    #[arg(short, long, default_value = "")]
    pub(crate) workdir: String,
    /// Container and command
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND [ARG...]")]
    pub(crate) container_and_command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Container and options of ps
    #[arg(required = true, trailing_var_arg = true, value_name = "CONTAINER [PS_OPTION...]")]
    pub(crate) container_and_options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
    /// PORT[/PROTOCOL]
    #[arg(value_name = "[PRIVATE_PORT[/PROTO]]")]
    pub(crate) port: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
    /// The new name
    pub(crate) new_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// Restart policy
    #[arg(long)]
    pub(crate) restart: Option<String>,
    #[command(flatten)]
    pub(crate) health: HealthArgs,
    /// Option of the log (not in Docker); without a value it is taken away
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Publish a further port of the container (not in Docker)
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Publish no more: what --publish was given, or a port of the container (not in Docker)
    #[arg(long, value_name = "PORT")]
    pub(crate) publish_rm: Vec<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Author
    #[arg(short, long, default_value = "")]
    pub(crate) author: String,
    /// Instructions of a Dockerfile to apply
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Message
    #[arg(short, long, default_value = "")]
    pub(crate) message: String,
    /// Pause the container meanwhile
    #[arg(short, long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) pause: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
    /// REPOSITORY[:TAG]
    #[arg(value_name = "[REPOSITORY[:TAG]]")]
    pub(crate) image: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Give what is copied into a container to the user that it runs as
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a symbolic link leads to
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Suppress the progress report
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// CONTAINER:PATH, a local path, or - for a tar archive on stdin
    pub(crate) source: String,
    /// CONTAINER:PATH, a local path, or - for a tar archive on stdout
    pub(crate) destination: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ContainerInspectArgs {
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
    /// Display sizes
    #[arg(short, long)]
    pub(crate) size: bool,
}
