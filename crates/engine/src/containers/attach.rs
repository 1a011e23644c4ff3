//! Attaching a client to a container's streams: a socket pair, one end of which the shim gets.

use super::task::Command;
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result};
use coracle_runtime::protocol::Attachment;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::OwnedFd;
use tokio::net::UnixStream;

/// A client's end of a process's streams.
///
/// Without a terminal, output arrives framed as Docker frames it. Shutting down the sending half ends the input.
#[derive(Debug)]
pub struct Attached {
    /// The streams.
    pub stream: UnixStream,
    /// Whether the process has a terminal, and output is raw.
    pub tty: bool,
    /// Whether the process reads what is sent.
    pub stdin: bool,
}

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachSettings {
    /// Whether it sends input.
    pub stdin: bool,
    /// Whether it wants the output.
    pub stdout: bool,
    /// Whether it wants the error output.
    pub stderr: bool,
}

/// A socket pair: ours for tokio, theirs for the shim.
pub(super) fn pair() -> Result<(UnixStream, OwnedFd)> {
    let subject = || "make a socket pair".to_owned();
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .attempt(subject)?;
    let ours = UnixStream::from_std(std::os::unix::net::UnixStream::from(ours)).attempt(subject)?;
    Ok((ours, theirs))
}

impl Engine {
    /// Attaches to a container's streams. One that does not run yet is waited for.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for a paused container.
    pub async fn attach(&self, container: &str, wanted: AttachSettings) -> Result<Attached> {
        let container = self.shared.containers.find(container)?;
        let description = container.describe();
        if description.state.status == super::state::Status::Paused {
            return Err(Error::Conflict(format!(
                "Container {} is paused, unpause the container before attaching.",
                description.id
            )));
        }
        let settings = &description.settings;
        let (stream, socket) = pair()?;
        let attachment = Attachment {
            stdin: wanted.stdin && settings.open_stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
            // Who is there before the start has started it in the foreground, and is waited for like a pipe.
            owner: !description.state.status.is_up(),
        };
        container.ask(|reply| Command::Attach { attachment, socket, reply }).await?;
        self.shared.tell_of(&description, "attach", &[]);
        Ok(Attached { stream, tty: settings.tty, stdin: attachment.stdin })
    }
}
