//! Attaching a client to a container's streams: a socket pair, one end of which the shim gets.

use super::state::Status;
use super::task::Command;
use super::{Description, LogStream};
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result, blocking};
use crate::shim::Shim;
use coracle_runtime::protocol::{Attachment, Mark, Request};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::io::AsyncReadExt;
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

/// Has a shim connect what was kept in a place, if that is not left.
pub(super) async fn seated(shim: &Shim, attachment: Attachment, seat: &Seat) -> Result<()> {
    let socket = leave(seat);
    let descriptors: Vec<BorrowedFd<'_>> = socket.iter().map(AsFd::as_fd).collect();
    shim.ask(&Request::Attach(attachment), &descriptors).await.map(drop)
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

/// Streams of a container, and the place where a shim finds its end of them.
fn seat(container: &Description, wanted: AttachSettings) -> Result<(Attached, Arc<Seat>)> {
    let (stream, socket) = pair()?;
    let seat = Arc::new(Mutex::new(Some(socket)));
    let settings = &container.settings;
    let stdin = wanted.stdin && settings.open_stdin;
    let attached = Attached { stream, tty: settings.tty, stdin, _seat: Some(Arc::clone(&seat)) };
    Ok((attached, seat))
}

fn attachment(container: &Description, wanted: AttachSettings) -> Attachment {
    Attachment {
        stdin: wanted.stdin && container.settings.open_stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        ..Attachment::default()
    }
}

/// Whether a process is ending, or has ended. The kernel closes what a process has open only after it has marked it as one
/// that ends (`PF_EXITING` of include/linux/sched.h, shown by proc_pid_stat(5)).
fn is_ending(pid: i32) -> bool {
    const ENDING: u64 = 4;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // Behind the name, which may contain anything, there are the state and five numbers.
    let flags =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & ENDING != 0)
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
        let (attached, seat) = seat(&description, wanted)?;
        let attachment = Attachment {
            // Who is there before the start has started it in the foreground, and is waited for like a pipe.
            owner: !description.state.status.is_up(),
            ..attachment(&description, wanted)
        };
        container.ask(|reply| Command::Attach { attachment, seat, reply }).await?;
        self.shared.tell_of(&description, "attach", &[]);
        Ok(attached)
    }

    /// Attaches to the streams of a container whose log was read to the end of `past`. Of what was written since then a part
    /// is in `past` afterwards, which goes on to there, and the rest comes over the streams: no byte in both, and none in
    /// neither. Nothing is attached to where the container has ended: then all of it is in `past`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; when the log cannot be read.
    pub async fn attach_behind(
        &self,
        container: &str,
        wanted: AttachSettings,
        past: &mut LogStream,
    ) -> Result<Option<Attached>> {
        let container = self.shared.containers.find(container)?;
        let description = container.describe();
        let (mut attached, seat) = seat(&description, wanted)?;
        let attachment = attachment(&description, wanted);
        let marked = match container.ask(|reply| Command::AttachMarked { attachment, seat, reply }).await {
            Ok(marked) => marked,
            Err(Error::Conflict(_)) => {
                past.go_on(None).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.shared.tell_of(&description, "attach", &[]);
        // A shim of an earlier release cannot tell; what comes between the two is lost then.
        if marked {
            let mut mark = [0; Mark::LENGTH];
            if attached.stream.read_exact(&mut mark).await.is_err() {
                // The shim has ended without a word for those who came last.
                past.go_on(None).await?;
                return Ok(None);
            }
            match Mark::from_bytes(&mark) {
                Mark::At(place) => past.go_on(Some(place)).await?,
                Mark::Complete => past.go_on(None).await?,
            }
        }
        Ok(Some(attached))
    }

    /// Waits until the end of a container is on record, if its output has ended because its first process ends: that comes a
    /// moment before. One that has closed its output and goes on is not waited for.
    pub async fn end_is_on_record(&self, container: &str) {
        let Ok(container) = self.shared.containers.find(container) else { return };
        let mut view = container.watch();
        if !view.borrow().state.status.is_up()
            && container.ask(|reply| Command::Pass { reply }).await.is_err()
        {
            // It is removed.
            return;
        }
        // One that ends at once may have ended before its start is on record, which has come by now.
        let run = Arc::clone(&view.borrow_and_update());
        let (pid, started) = (run.state.pid, run.state.started_at);
        if run.state.status.is_up() && blocking(move || is_ending(pid)).await.unwrap_or(false) {
            let is_over =
                |now: &Arc<Description>| !now.state.status.is_up() || now.state.started_at != started;
            // One that is gone has ended as well.
            let _ = view.wait_for(is_over).await;
        }
    }
}
