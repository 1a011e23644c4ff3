//! The program `coracle`: the command line, or the engine.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use coracle_cli::Invocation;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match coracle_cli::main(&arguments) {
        Invocation::Done(code) => code,
        Invocation::Daemon(_) => no_engine(),
    }
}

/// Until the crate `daemon` has its entry point.
fn no_engine() -> ExitCode {
    // Nobody listening is no failure of its own.
    let _ = writeln!(std::io::stderr(), "coracle: this build has no engine");
    ExitCode::FAILURE
}
