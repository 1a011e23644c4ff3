//! The command `coracle`: arguments → client calls → rendering, with Docker's flags, output and exit codes.
//!
//! | module | what it holds |
//! |---|---|
//! | `archive` | tar streams of `cp` |
//! | `args` | the command line as typed |
//! | `resolve` | what it means: pure functions into API types |
//! | `commands` | one function per command |
//! | `render` | tables, sizes, times, progress |
//! | `template` | the Go templates of `--format` |
//! | `terminal` | raw mode, stdin, signals, sessions |
//! | `manifests` | lists of manifests that are not pushed yet |
//! | `engine_start` | starting an engine when none runs |
//!
//! What is not here: HTTP (`client`), the engine (`daemon`).
#![forbid(unsafe_code)]

mod archive;
mod args;
mod commands;
mod credentials;
pub mod engine_start;
mod error;
mod manifests;
mod render;
mod resolve;
mod template;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use args::Commands;
use coracle_spec::full_text;
use error::Error;

pub use engine_start::become_engine;
pub use error::Error as CommandError;
pub use resolve::Invalid;
pub use template::TemplateError;

/// Exit code of a mistake in the command line, as Docker's.
const USAGE: u8 = 125;

/// What the command line asks for.
pub enum Invocation {
    /// A command, which has run already; this is its exit code.
    Done(ExitCode),
    /// The engine, with these arguments (without the program's name and without `daemon`).
    Daemon(Vec<OsString>),
    /// This process is to call [`become_engine`], once it holds nothing of whoever started it.
    BecomeEngine,
}

/// Runs the command of `arguments`, the program's name first.
#[must_use]
pub fn main(arguments: &[OsString]) -> Invocation {
    let parsed = match args::parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return Invocation::Done(usage(&error)),
    };
    match parsed.command {
        Commands::Daemon { arguments } => Invocation::Daemon(arguments),
        Commands::EngineChild => Invocation::BecomeEngine,
        _ => Invocation::Done(run(parsed)),
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // Nobody listening is no failure of its own.
    let _ = error.print();
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        clap::error::ErrorKind::MissingRequiredArgument
        | clap::error::ErrorKind::InvalidSubcommand
        | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => ExitCode::FAILURE,
        _ => USAGE.into(),
    }
}

fn run(arguments: args::Arguments) -> ExitCode {
    // Two workers: a slow reader of our output must not keep a signal from being forwarded.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(commands::dispatch(arguments));
            runtime.shutdown_background();
            result
        }
        Err(source) => Err(Error::io("start the asynchronous runtime")(source)),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => report(&error),
    }
}

fn report(error: &Error) -> ExitCode {
    if error.is_broken_pipe() {
        return ExitCode::FAILURE;
    }
    if !matches!(error, Error::Reported) {
        let prefix = if matches!(error, Error::NotStarted { .. }) { "coracle: " } else { "" };
        commands::say(format!("{prefix}{}", full_text(error)));
        if let Some(hint) = error.hint() {
            commands::say(format!("hint: {hint}"));
        }
    }
    error.code().into()
}
