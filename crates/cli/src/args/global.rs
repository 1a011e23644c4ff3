//! The flags that stand before a command.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Default, Args)]
pub(crate) struct Globals {
    /// Directory of the client's configuration
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) config: Option<PathBuf>,
    /// Context whose engine to talk to; before DOCKER_HOST and what `context use` chose
    #[arg(short, long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Say on stderr what the engine is asked
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// Engine to talk to: unix:///path, tcp://host:port or ssh://[user@]host[:port]
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    pub(crate) host: Vec<String>,
    /// How much is said on stderr: with debug as --debug does, with error and fatal no hints
    #[arg(short, long, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
    /// Speak TLS, with whoever answers; implied by --tlsverify
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = super::boolean)]
    pub(crate) tls: Option<bool>,
    /// Authorities that sign certificates of engines, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// Certificate of the client, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// Key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
    /// Speak TLS, and verify who answers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = super::boolean)]
    pub(crate) tlsverify: Option<bool>,
    /// Print the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    pub(crate) version: Option<bool>,
}

/// Docker's names of how much is said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    Fatal,
}
