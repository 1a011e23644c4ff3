//! How a process that is becoming a container tells its parent what went wrong, or hands over its terminal.
//!
//! The channel is close-on-exec: the end of it without a word means that the program was started.

use crate::channel;
use crate::error::{Error, Result};
use crate::limits;
use coracle_sys::process::Child;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Serialize, Deserialize)]
enum Message {
    Terminal,
    Process(i32),
    Failed { kind: Kind, program: String, text: String },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Kind {
    NotFound,
    NotExecutable,
    Other,
}

/// What the parent learned.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The master side of the terminal.
    pub(super) terminal: Option<OwnedFd>,
    /// A process that the child made in the parent's place, with its descriptor.
    pub(super) process: Option<(i32, OwnedFd)>,
}

/// Tells the parent why the program was not started. There is nobody to tell if this fails.
pub(super) fn fail(channel: BorrowedFd<'_>, error: &Error) {
    let (kind, program, text) = match error {
        Error::NotFound { program, reason } => (Kind::NotFound, program.clone(), (*reason).to_owned()),
        Error::NotExecutable { program, reason } => (Kind::NotExecutable, program.clone(), reason.clone()),
        other => (Kind::Other, String::new(), other.chain()),
    };
    let text = text.chars().take(limits::CHILD_REPORT / 4).collect();
    let program = program.chars().take(limits::CHILD_REPORT / 4).collect();
    // The parent may be dead already; this process ends in any case.
    let _ = send(channel, &Message::Failed { kind, program, text }, &[]);
}

/// Hands the master side of the container's terminal to the parent.
pub(super) fn hand_over(channel: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> Result<()> {
    send(channel, &Message::Terminal, &[terminal])
}

/// Hands a process that was made as the parent's child to it.
pub(super) fn introduce(channel: BorrowedFd<'_>, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
    send(channel, &Message::Process(pid), &[pidfd])
}

/// Waits for a process that was made in the parent's place, by one that ends. It may have failed by then, which is told as well.
///
/// # Errors
/// When none was made: why.
pub(super) fn introduced(channel: BorrowedFd<'_>) -> Result<(Child, Option<Error>)> {
    let mut failure = None;
    while let Some((bytes, mut descriptors)) = channel::receive(channel)? {
        match serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(error.to_string()))? {
            Message::Process(pid) => {
                let child = Pid::from_raw(pid).zip(descriptors.pop());
                let missing =
                    || Error::Malformed("a process was introduced without its descriptor".to_owned());
                let (pid, pidfd) = child.ok_or_else(missing)?;
                return Ok((Child { pid, pidfd }, failure));
            }
            Message::Failed { kind, program, text } => failure = Some(error_of(kind, program, text)),
            Message::Terminal => {}
        }
    }
    Err(failure.unwrap_or_else(|| Error::Child("the first process was not made".to_owned())))
}

fn send(channel: BorrowedFd<'_>, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|error| Error::Malformed(error.to_string()))?;
    channel::send(channel, &bytes, descriptors)
}

/// Waits until the program runs, or everybody who could have started it is gone. What was handed over comes back in
/// either case, beside the reason of a failure.
///
/// # Errors
/// When the channel fails.
pub(super) fn outcome(channel: &OwnedFd) -> Result<(Outcome, Option<Error>)> {
    let mut outcome = Outcome::default();
    let mut failure = None;
    while let Some((bytes, mut descriptors)) = channel::receive(channel.as_fd())? {
        match serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(error.to_string()))? {
            Message::Terminal => outcome.terminal = descriptors.pop(),
            Message::Process(pid) => outcome.process = descriptors.pop().map(|pidfd| (pid, pidfd)),
            Message::Failed { kind, program, text } => failure = Some(error_of(kind, program, text)),
        }
    }
    Ok((outcome, failure))
}

fn error_of(kind: Kind, program: String, text: String) -> Error {
    match kind {
        // The child's two reasons; anything else would be a broken child.
        Kind::NotFound if text.contains("$PATH") => {
            Error::NotFound { program, reason: "executable file not found in $PATH" }
        }
        Kind::NotFound => Error::NotFound { program, reason: "no such file or directory" },
        Kind::NotExecutable => Error::NotExecutable { program, reason: text },
        Kind::Other => Error::Child(text),
    }
}
