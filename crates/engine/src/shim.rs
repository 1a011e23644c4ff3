//! A connection to a shim: requests that wait for their replies, events that arrive in between.

use crate::error::{Attempt, Error, Result};
use coracle_runtime::channel;
use coracle_runtime::protocol::{
    self, CHANGES, DESCRIPTORS, Event, Failure, FailureKind, MANY, Message, Reply, Request, SOCKET,
};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with,
};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

type Answer = (Reply, Vec<OwnedFd>);
type Pending = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;

/// A connection. Its reader ends when the last handle is dropped or the shim ends.
#[derive(Debug)]
pub(crate) struct Shim {
    socket: Arc<AsyncFd<OwnedFd>>,
    pending: Arc<Pending>,
    next: AtomicU64,
    /// What the shim can do, as it has said last.
    features: Arc<AtomicU64>,
    reader: tokio::task::JoinHandle<()>,
}

/// A reply that is to come.
pub(crate) struct Awaited(oneshot::Receiver<Answer>);

impl Shim {
    /// Speaks over `socket`. The channel of events ends with the shim.
    pub(crate) fn new(socket: OwnedFd) -> Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        channel::set_nonblocking(&socket).attempt(|| "prepare the shim's socket".into())?;
        let socket = Arc::new(crate::watch::watch(socket).attempt(|| "watch the shim's socket".into())?);
        let pending = Arc::new(Pending::default());
        let (sender, events) = mpsc::unbounded_channel();
        let features = Arc::default();
        let reader =
            tokio::spawn(read(Arc::clone(&socket), Arc::clone(&pending), Arc::clone(&features), sender));
        Ok((Self { socket, pending, next: AtomicU64::new(1), features, reader }, events))
    }

    /// Finds the shim whose state directory this is.
    pub(crate) fn connect(directory: &Path) -> Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        let subject = || format!("connect to the shim in {}", directory.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty()).attempt(subject)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .attempt(subject)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        SocketAddrUnix::new(path).and_then(|address| connect(&socket, &address)).attempt(subject)?;
        Self::new(socket)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the container has ended, [`Error::Start`] and [`Error::Invalid`] for what the shim
    /// refused.
    pub(crate) async fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer> {
        self.begin(request, descriptors).await?.answer().await
    }

    /// Sends a request whose reply is waited for elsewhere.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the container has ended.
    pub(crate) async fn begin(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Awaited> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        self.send(id, request, descriptors).await?;
        Ok(Awaited(receiver))
    }

    /// The same for a request that shims of earlier releases do not know.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is one of them, and as [`Self::ask`].
    pub(crate) async fn ask_for_change(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Answer> {
        let needed = if descriptors.len() > DESCRIPTORS { CHANGES | MANY } else { CHANGES };
        if !self.can(needed).await? {
            let text = "the container was started by an earlier release, which cannot change this while it runs: restart it";
            return Err(Error::Conflict(text.to_owned()));
        }
        self.ask(request, descriptors).await
    }

    /// Whether the shim has features that earlier releases did not have.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the container has ended.
    pub(crate) async fn can(&self, features: u64) -> Result<bool> {
        let has = || self.features.load(Ordering::Relaxed) & features == features;
        if !has() {
            // Told in the first answer.
            self.ask(&Request::State, &[]).await?;
        }
        Ok(has())
    }

    /// Sends a request that is not answered.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the shim is gone.
    pub(crate) async fn tell(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.send(self.next.fetch_add(1, Ordering::Relaxed), request, descriptors).await
    }

    async fn send(&self, id: u64, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let (ahead, beside) = protocol::split(descriptors);
        for some in ahead {
            self.send_frame(id, &Request::Descriptors, some).await?;
        }
        self.send_frame(id, request, beside).await
    }

    async fn send_frame(&self, id: u64, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        loop {
            let mut ready = self.socket.writable().await.attempt(|| "wait for the shim".into())?;
            match protocol::send(self.socket.as_fd(), id, request, descriptors) {
                Err(error) if would_block(&error) => ready.clear_ready(),
                Err(coracle_runtime::Error::Protocol { source, .. })
                    if source.kind() == io::ErrorKind::BrokenPipe =>
                {
                    return Err(Error::Conflict("the container has just ended".to_owned()));
                }
                sent => return sent.attempt(|| "send a request to the shim".into()),
            }
        }
    }
}

impl Awaited {
    /// Waits for the reply.
    ///
    /// # Errors
    /// As [`Shim::ask`].
    pub(crate) async fn answer(self) -> Result<Answer> {
        let ended = || Error::Conflict("the container has just ended".to_owned());
        let (reply, descriptors) = self.0.await.map_err(|_| ended())?;
        match reply {
            Reply::Failed(Failure { kind, text, verb }) => Err(match kind {
                FailureKind::NotFound => Error::Start { code: 127, text, verb },
                FailureKind::NotExecutable => Error::Start { code: 126, text, verb },
                FailureKind::Invalid => Error::Invalid(text),
                FailureKind::Gone => Error::Conflict(text),
                FailureKind::Other => Error::Start { code: 128, text, verb },
            }),
            reply => Ok((reply, descriptors)),
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Refuses the request whose answer was not received whole. Returns whether it is known whose it was.
fn answer_lost(pending: &Pending, beginning: &[u8]) -> bool {
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(waiting) = protocol::id_of(beginning).and_then(|id| pending.remove(&id)) else { return false };
    let text = "the answer of the container's shim was not received whole: has the engine descriptors left?";
    let failure = Failure { kind: FailureKind::Other, text: text.to_owned(), verb: None };
    // Who asked may have gone away meanwhile.
    let _ = waiting.send((Reply::Failed(failure), Vec::new()));
    true
}

fn would_block(error: &coracle_runtime::Error) -> bool {
    matches!(error, coracle_runtime::Error::Protocol { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

async fn read(
    socket: Arc<AsyncFd<OwnedFd>>,
    pending: Arc<Pending>,
    features: Arc<AtomicU64>,
    events: mpsc::UnboundedSender<Event>,
) {
    loop {
        let Ok(mut ready) = socket.readable().await else { break };
        match protocol::receive::<Message>(socket.as_fd()) {
            Err(error) if would_block(&error) => ready.clear_ready(),
            Ok(Some((frame, descriptors))) => match frame.body {
                Message::Reply(reply) => {
                    features.store(frame.features, Ordering::Relaxed);
                    let waiting = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.id);
                    if let Some(waiting) = waiting {
                        // Who asked may have gone away meanwhile.
                        let _ = waiting.send((reply, descriptors));
                    }
                }
                Message::Event(event) => {
                    if events.send(event).is_err() {
                        break;
                    }
                }
            },
            Err(coracle_runtime::Error::Truncated { beginning }) if answer_lost(&pending, &beginning) => {}
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(error = error.chain(), "a shim's connection is broken");
                break;
            }
        }
    }
    // Nothing would come of what is sent from here on; a shim that is gone is no reason to complain.
    let _ = shutdown(&*socket, Shutdown::Both);
    // Who still waits for a reply learns that there will be none.
    pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::mem::MaybeUninit;

    /// More than there is room for, alignment included.
    const TOO_MANY: usize = DESCRIPTORS + 16;

    /// Answers a request with more descriptors than fit.
    fn answer_with_too_much(shim: &OwnedFd) {
        let (frame, _) = protocol::receive::<Request>(shim.as_fd()).unwrap().unwrap();
        let bytes = serde_json::to_vec(&with_id(frame.id)).unwrap();
        let many = vec![rustix::stdio::stdin(); TOO_MANY];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOO_MANY))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        sendmsg(shim, &[io::IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    fn with_id(id: u64) -> protocol::Frame<Message> {
        let body = Message::Reply(Reply::Done);
        protocol::Frame { version: protocol::VERSION, features: protocol::FEATURES, id, body }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_received_whole_fails_its_request_alone() {
        let (ours, theirs) = channel::pair().unwrap();
        let (shim, _events) = Shim::new(ours).unwrap();
        let asked = shim.begin(&Request::Root, &[]).await.unwrap();
        answer_with_too_much(&theirs);
        let error = asked.answer().await.unwrap_err();
        assert!(error.to_string().contains("was not received whole"), "{error}");
        let asked = shim.begin(&Request::State, &[]).await.unwrap();
        let (frame, _) = protocol::receive::<Request>(theirs.as_fd()).unwrap().unwrap();
        protocol::send(theirs.as_fd(), frame.id, &Message::Reply(Reply::Done), &[]).unwrap();
        assert!(matches!(asked.answer().await.unwrap().0, Reply::Done), "the connection goes on");
    }

    #[tokio::test]
    async fn an_older_shim_is_not_sent_more_descriptors_than_it_takes() {
        let (ours, theirs) = channel::pair().unwrap();
        let (shim, _events) = Shim::new(ours).unwrap();
        let answering = std::thread::spawn(move || {
            let (frame, _) = protocol::receive::<Request>(theirs.as_fd()).unwrap().unwrap();
            let answer = protocol::Frame { features: CHANGES, ..with_id(frame.id) };
            channel::send(theirs.as_fd(), &serde_json::to_vec(&answer).unwrap(), &[]).unwrap();
            assert!(protocol::receive::<Request>(theirs.as_fd()).unwrap().is_none(), "nothing more came");
        });
        let many = vec![rustix::stdio::stdin(); DESCRIPTORS + 1];
        let request = Request::Ports { release: Vec::new(), relays: Vec::new() };
        let error = shim.ask_for_change(&request, &many).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict(text) if text.contains("earlier release")), "{error}");
        drop(shim);
        tokio::task::spawn_blocking(|| answering.join()).await.unwrap().unwrap();
    }
}
