//! The program `coracle`: the command line, or the engine.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use coracle_cli::Invocation;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // As services and scripts call the engine that ours takes the place of.
    if arguments.first().and_then(|program| Path::new(program).file_name()) == Some(OsStr::new("dockerd")) {
        return coracle_daemon::main(&arguments[1..]);
    }
    match coracle_cli::main(&arguments) {
        Invocation::Done(code) => code,
        Invocation::Daemon(arguments) => coracle_daemon::main(&arguments),
        // A pipe of the caller that an engine held open would never end for whoever reads it.
        Invocation::BecomeEngine => coracle_daemon::leave_descriptors_behind()
            .map_or_else(|code| code, |()| coracle_cli::become_engine()),
    }
}
