//! Commands on contexts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `context …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Create a context
    Create(ContextCreateArgs),
    /// Write a context to a tar archive, with the keys that belong to it
    Export(ContextExportArgs),
    /// Create a context from a tar or zip archive
    Import(ContextImportArgs),
    /// Show everything about contexts, of the current one unless named
    Inspect(ContextInspectArgs),
    /// List contexts
    #[command(alias = "list")]
    Ls(ContextListArgs),
    /// Remove contexts
    #[command(alias = "remove")]
    Rm(ContextRemoveArgs),
    /// Print the name of the current context
    Show,
    /// Change a context
    Update(ContextUpdateArgs),
    /// Choose the context of commands that name none
    Use(ContextUseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ContextCreateArgs {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The engine: host=ADDRESS, and with TLS ca=FILE, cert=FILE, key=FILE and skip-tls-verify=BOOL; or from=CONTEXT
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(crate) docker: Vec<String>,
    /// Copy another context
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) from: Option<String>,
    /// Its name
    #[arg(value_name = "CONTEXT")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ContextExportArgs {
    /// Its name
    #[arg(value_name = "CONTEXT")]
    pub(crate) name: String,
    /// The archive, NAME.dockercontext unless given, or - for stdout
    #[arg(value_name = "[FILE|-]")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ContextImportArgs {
    /// Its name here
    #[arg(value_name = "CONTEXT")]
    pub(crate) name: String,
    /// The archive, or - for stdin
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ContextInspectArgs {
    /// Format with a Go template, or 'json'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Names
    #[arg(value_name = "CONTEXT")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContextListArgs {
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Only display names
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ContextRemoveArgs {
    /// Also the current one, and do not fail when one does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names
    #[arg(required = true, value_name = "CONTEXT")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContextUpdateArgs {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The engine, as `create` takes it
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(crate) docker: Vec<String>,
    /// Its name
    #[arg(value_name = "CONTEXT")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ContextUseArgs {
    /// Its name, or default
    #[arg(value_name = "CONTEXT")]
    pub(crate) name: String,
}
