//! The reaper that `--init` asks for: it passes signals to its only child, collects orphans, and ends as its child does.
//!
//! It is this very program, which stays where it would have called execve(2): nothing of the host is mounted into
//! the container for it, and its executable is a sealed memory file. A container that another runtime makes gets a copy of
//! it as its first program.

use super::program;
use crate::error::{Error, Result};
use coracle_sys::process::{close_from, exit_now, fork};
use coracle_sys::signal;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setpgid, wait};
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// Runs the program of `words` as the child of a reaper, which the calling process becomes.
///
/// # Errors
/// In the child: [`Error::NotFound`] and [`Error::NotExecutable`] for the program.
pub fn reap_for(words: impl Iterator<Item = OsString>) -> Result<Infallible> {
    let text = |word: OsString| {
        CString::new(word.into_vec())
            .map_err(|_| Error::Invalid("an argument contains a zero byte".to_owned()))
    };
    let arguments = words.map(text).collect::<Result<Vec<_>>>()?;
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        text(name)
    };
    let environment = std::env::vars_os().map(variable).collect::<Result<Vec<_>>>()?;
    leave_to_reaper()?;
    program::run(&arguments, &environment)
}

/// Splits the calling process: the child returns and becomes the program, the caller becomes the reaper.
pub(super) fn leave_to_reaper() -> Result<()> {
    // A fork, as the filter that is loaded by now denies clone3.
    match fork()? {
        None => {
            // A group of its own, so that the terminal's signals reach the program alone.
            setpgid(None, None).map_err(super::failed("start a process group"))?;
            let _ = foreground();
            Ok(())
        }
        Some(program) => {
            // The parent waits for the end of the report channel, and nothing else is needed.
            close_from(3);
            exit_now(reap_until_gone(program))
        }
    }
}

/// Makes the calling process's group the terminal's foreground one, where the input is a terminal.
fn foreground() -> rustix::io::Result<()> {
    let input = rustix::stdio::stdin();
    if rustix::termios::isatty(input) {
        signal::ignoring_terminal_output(|| rustix::termios::tcsetpgrp(input, rustix::process::getpgrp()))?;
    }
    Ok(())
}

fn reap_until_gone(program: Pid) -> i32 {
    signal::block_all();
    loop {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == program {
                return status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|s| 128 + s))
                    .unwrap_or(255);
            }
        }
        let number = signal::wait_any();
        if let Some(signal) = Signal::from_named_raw(number).filter(|signal| *signal != Signal::CHILD) {
            // A program that is gone already is reaped on the next turn.
            let _ = kill_process(program, signal);
        }
    }
}
