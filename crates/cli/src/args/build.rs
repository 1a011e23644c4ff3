//! `build`.

use clap::{Args, Subcommand, ValueEnum};

use super::only_true;

/// `builder …`.
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Remove what builds have left
    Prune(BuilderPruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BuilderPruneArgs {
    /// Remove also what was used of late, and what images share
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Filter what is removed, name=value
    #[arg(long, value_name = "FILTER", value_parser = super::filter)]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Room that what is kept may take
    #[arg(long, value_name = "BYTES")]
    pub(crate) keep_storage: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Add a line to /etc/hosts of commands, host:ip
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Let commands have what they ask for: network.host
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Set an argument of the build; without a value it comes from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Put something in the place of an image or a stage: a directory, docker-image://IMAGE, or the address of a repository
    /// or a file
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_context: Vec<String>,
    /// Look for what was done in an image or a cache of others too
    #[arg(long, value_name = "NAME")]
    pub(crate) cache_from: Vec<String>,
    /// Let others find what was done: in a registry, NAME or type=registry,ref=NAME[,mode=max], or in the image, type=inline
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// Parent cgroup of commands
    #[arg(long, default_value = "")]
    pub(crate) cgroup_parent: String,
    /// CPU period of commands in microseconds
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu_period: i64,
    /// CPU quota of commands in microseconds
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu_quota: i64,
    /// CPUs that a command may use
    #[arg(long)]
    pub(crate) cpus: Option<String>,
    /// Weight of a command's CPU time
    #[arg(short, long, default_value_t = 0)]
    pub(crate) cpu_shares: i64,
    /// CPUs on which commands may run, 0-3 or 0,1
    #[arg(long, default_value = "")]
    pub(crate) cpuset_cpus: String,
    /// Only true, which it is: there are no signatures of Notary to verify
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = only_true)]
    disable_content_trust: Option<bool>,
    /// Memory nodes that commands may use, 0-3 or 0,1
    #[arg(long, default_value = "")]
    pub(crate) cpuset_mems: String,
    /// Say of steps that are done again what has changed
    #[arg(long)]
    pub(crate) explain_cache: bool,
    /// Dockerfile: a path below PATH or elsewhere, - for stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Only true, which it is: no step leaves a container behind
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = only_true)]
    force_rm: Option<bool>,
    /// Write the id of the image to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<std::path::PathBuf>,
    /// Set a label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Only true, which it is: the image is here when it is built
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = only_true)]
    load: Option<bool>,
    /// Memory that a command may use
    #[arg(short, long)]
    pub(crate) memory: Option<String>,
    /// Memory and swap together that a command may use, -1 for unlimited swap
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_swap: Option<String>,
    /// Network of commands: default, none, host or the name of one
    #[arg(long, default_value = "")]
    pub(crate) network: String,
    /// Use nothing that was done before
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Use nothing that was done before for these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Write the files of the result: to a directory, or to an archive, type=tar,dest=FILE (- is stdout)
    #[arg(short, long, value_name = "DIR | type=local,dest=DIR | type=tar,dest=FILE")]
    pub(crate) output: Vec<String>,
    /// Platform of the image, or several with commas between them: an index of an image for each
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
    /// Make one layer of what the steps leave on the base image
    #[arg(long)]
    pub(crate) squash: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,
    /// Pull base images although they are here
    #[arg(long)]
    pub(crate) pull: bool,
    /// Push the image to the registries of its names
    #[arg(long)]
    pub(crate) push: bool,
    /// Print the id of the image, and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only true, which it is: no step leaves a container behind
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = only_true)]
    rm: Option<bool>,
    /// Give commands a secret that stays in no layer
    #[arg(long, value_name = "id=ID[,src=FILE|,env=VARIABLE]")]
    pub(crate) secret: Vec<String>,
    /// Size of /dev/shm of commands
    #[arg(long)]
    pub(crate) shm_size: Option<String>,
    /// Let commands use an SSH agent: default, which is that of SSH_AUTH_SOCK, or another
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// What the image is called, NAME[:TAG]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Stage that is wanted
    #[arg(long, default_value = "")]
    pub(crate) target: String,
    /// Limits of processes of commands
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Directory of the context, or - for an archive or a Dockerfile on stdin
    #[arg(value_name = "PATH|-")]
    pub(crate) context: String,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// As suits where it goes.
    Auto,
    /// Line after line.
    Plain,
    /// On a terminal, in place.
    Tty,
    /// Not.
    Quiet,
}
