//! Commands on registries.

use clap::{Args, Subcommand};

/// Commands that stand at the top.
#[derive(Debug, Subcommand)]
pub(crate) enum TopLevelCommand {
    /// Sign in to a registry
    Login(LoginArgs),
    /// Forget the credentials of a registry
    Logout(LogoutArgs),
    /// Search a registry
    Search(SearchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Username
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password or personal access token
    #[arg(short, long)]
    pub(crate) password: Option<String>,
    /// Take the password from stdin
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The registry; the default one if absent
    pub(crate) server: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry; the default one if absent
    pub(crate) server: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Filter output, name=value
    #[arg(short, long, value_name = "FILTER", value_parser = super::filter)]
    pub(crate) filter: Vec<String>,
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Most results
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) limit: u32,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Words, perhaps behind the host of a registry and a slash
    pub(crate) term: String,
}
