//! Writes the pages of the manual, one for each command, into a directory: `cargo xtask man DIRECTORY`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else { return told("usage: man DIRECTORY") };
    let directory = Path::new(&directory);
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(coracle_cli::command(), directory));
    written.map_or_else(
        |error| told(&format!("cannot write {}: {error}", directory.display())),
        |()| ExitCode::SUCCESS,
    )
}

#[expect(clippy::print_stderr, reason = "a command for people")]
fn told(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}
