//! Tasks of development: `cargo xtask demo`, `cargo xtask man`, `cargo xtask tidy`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod demo;
mod man;
mod metadata;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let done = match task.as_deref() {
        Some("demo") => demo::run(),
        Some("man") => man::run(std::env::args_os().nth(2)),
        Some("tidy") => tidy::run(),
        _ => Err("usage: cargo xtask demo | man DIRECTORY | tidy".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
