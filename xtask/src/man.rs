//! The pages of the manual. They come from the command line's own definitions, through an example of the crate `cli`, so
//! that neither the program nor this one carries what writes them.

use std::ffi::OsString;
use std::process::Command;

pub(crate) fn run(directory: Option<OsString>) -> Result<(), String> {
    let directory = directory.ok_or("usage: cargo xtask man DIRECTORY")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["run", "--quiet", "--package", "coracle-cli", "--example", "man", "--"];
    let status = Command::new(cargo).args(arguments).arg(directory).status();
    match status.map_err(|error| format!("cannot run cargo: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("the pages were not written: {status}")),
    }
}
