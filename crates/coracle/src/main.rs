//! The program `coracle`: the command line, or the engine.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use coracle_cli::Invocation;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match coracle_cli::main(&arguments) {
        Invocation::Done(code) => code,
        Invocation::Daemon(arguments) => coracle_daemon::main(&arguments),
    }
}
