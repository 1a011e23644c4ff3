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
//! | `configuration`, `credentials`, `contexts` | the files of Docker's client, which are ours too |
//! | `manifests` | lists of manifests that are not pushed yet |
//! | `engine_start` | starting an engine when none runs |
//!
//! What is not here: HTTP (`client`), the engine (`daemon`).
#![forbid(unsafe_code)]

mod archive;
mod args;
mod commands;
mod configuration;
mod contexts;
mod credentials;
pub mod engine_start;
mod error;
mod manifests;
mod render;
mod resolve;
mod template;
mod terminal;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use args::Commands;
use coracle_spec::full_text;
use error::Error;

pub use engine_start::become_engine;
pub use error::Error as CommandError;
pub use resolve::Invalid;
pub use template::TemplateError;

/// The whole command line, for what describes it elsewhere: pages of the manual.
#[must_use]
pub fn command() -> clap::Command {
    args::command()
}

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
        Err(error) => return Invocation::Done(usage(arguments, &error)),
    };
    if let Some(directory) = &parsed.globals.config {
        configuration::choose(directory.clone());
    }
    match parsed.command {
        Commands::Completion { shell } => {
            args::complete(shell, &mut std::io::stdout());
            Invocation::Done(ExitCode::SUCCESS)
        }
        Commands::Daemon { arguments } => Invocation::Daemon(arguments),
        Commands::EngineChild => Invocation::BecomeEngine,
        _ => Invocation::Done(run(parsed)),
    }
}

/// Answers a command line that is none: with help where that was asked for, else with what is wrong.
fn usage(arguments: &[OsString], error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let is_version = error.kind() == ErrorKind::DisplayVersion;
            let text = if is_version { error.render().to_string() } else { args::help(arguments) };
            // Nobody listening is no failure of its own.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        _ => {
            let mistake = args::mistake(arguments, error);
            commands::say(mistake.text);
            mistake.code.into()
        }
    }
}

fn run(arguments: args::Arguments) -> ExitCode {
    // Two workers: a slow reader of our output must not keep a signal from being forwarded.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let hints = arguments.globals.log_level < args::LogLevel::Error;
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
        Err(error) => report(&error, hints),
    }
}

fn report(error: &Error, hints: bool) -> ExitCode {
    if error.is_broken_pipe() {
        return ExitCode::FAILURE;
    }
    if !matches!(error, Error::Reported) {
        let prefix = if matches!(error, Error::NotStarted { .. }) { "coracle: " } else { "" };
        commands::say(format!("{prefix}{}", full_text(error)));
        if let Error::NotStarted { help: Some(command), .. } = error {
            commands::say(format!("\nRun 'coracle {command} --help' for more information"));
        }
        if let Some(hint) = error.hint().filter(|_| hints) {
            commands::say(format!("hint: {hint}"));
        }
    }
    error.code().into()
}
