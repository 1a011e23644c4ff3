//! Attaching a client to a container's streams: a socket pair, one end of which the shim gets.

use super::Description;
use super::state::Status;
use super::task::Command;
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result};
use coracle_runtime::protocol::Attachment;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
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
    /// Keeps the place among those who wait for the start.
    pub(super) _seat: Option<Arc<Seat>>,
}

impl Attached {
    /// The end of a process that is there.
    pub fn to(stream: UnixStream, tty: bool, stdin: bool) -> Self {
        Self { stream, tty, stdin, _seat: None }
    }
}

/// The other end of a client's streams, until a shim gets it.
pub(super) type Seat = Mutex<Option<OwnedFd>>;

/// Clients that wait for a container to start. Those that go before that leave nothing open.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(Attachment, Weak<Seat>)>);

impl Waiting {
    pub(super) fn push(&mut self, attachment: Attachment, seat: &Arc<Seat>) {
        // Not each time: nobody who comes is to pay for all who were there.
        if self.0.len().is_power_of_two() {
            self.0.retain(|(_, seat)| seat.strong_count() > 0);
        }
        self.0.push((attachment, Arc::downgrade(seat)));
    }

    /// Those that are there still.
    pub(super) fn take(&mut self) -> Vec<(Attachment, OwnedFd)> {
        let taken = std::mem::take(&mut self.0).into_iter();
        taken.filter_map(|(attachment, seat)| Some((attachment, leave(&*seat.upgrade()?)?))).collect()
    }
}

/// What was kept in a place, once.
pub(super) fn leave(seat: &Seat) -> Option<OwnedFd> {
    seat.lock().unwrap_or_else(PoisonError::into_inner).take()
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

fn refuse_paused(container: &Description) -> Result<()> {
    if container.state.status == Status::Paused {
        return Err(Error::Conflict(format!(
            "Container {} is paused, unpause the container before attaching.",
            container.id
        )));
    }
    Ok(())
}

impl Engine {
    /// Whether a client can be attached to a container now.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for a paused container.
    pub fn can_be_attached_to(&self, container: &str) -> Result<()> {
        refuse_paused(&self.shared.containers.find(container)?.describe())
    }

    /// Attaches to a container's streams. One that does not run yet is waited for.
    ///
    /// # Errors
    /// As [`Engine::can_be_attached_to`] has them.
    pub async fn attach(&self, container: &str, wanted: AttachSettings) -> Result<Attached> {
        let container = self.shared.containers.find(container)?;
        let description = container.describe();
        refuse_paused(&description)?;
        let settings = &description.settings;
        let (stream, socket) = pair()?;
        let attachment = Attachment {
            stdin: wanted.stdin && settings.open_stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
            // Who is there before the start has started it in the foreground, and is waited for like a pipe.
            owner: !description.state.status.is_up(),
        };
        let seat = Arc::new(Mutex::new(Some(socket)));
        let theirs = Arc::clone(&seat);
        container.ask(|reply| Command::Attach { attachment, seat: theirs, reply }).await?;
        self.shared.tell_of(&description, "attach", &[]);
        Ok(Attached { stream, tty: settings.tty, stdin: attachment.stdin, _seat: Some(seat) })
    }
}
