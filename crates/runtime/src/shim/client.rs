//! Somebody who is attached to a process's streams, over a socket that does not block.

use crate::channel::set_nonblocking;
use crate::protocol::Attachment;
use coracle_logfile::Stream;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Most output that waits for one client, in bytes.
const BACKLOG: usize = 256 * 1024;

/// How long a client that is no owner may take nothing while its backlog is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// The process waits for it.
    Endless,
    /// It is dropped after [`PATIENCE`].
    Bounded,
}

/// An attached socket.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    wants: Attachment,
    backlog: VecDeque<u8>,
    full_since: Option<Instant>,
    broken: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, wants: Attachment) -> Self {
        let broken = set_nonblocking(&socket).is_err();
        Self { socket, wants, backlog: VecDeque::new(), full_since: None, broken }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Owes it `bytes`, as they are.
    pub(super) fn owe(&mut self, bytes: &[u8]) {
        self.backlog.extend(bytes);
    }

    pub(super) fn sends_input(&self) -> bool {
        self.wants.stdin
    }

    pub(super) fn input_ended(&mut self) {
        self.wants.stdin = false;
    }

    /// Nobody is at the other end any more.
    pub(super) fn give_up(&mut self) {
        self.broken = true;
    }

    pub(super) fn patience(&self) -> Patience {
        if self.wants.owner { Patience::Endless } else { Patience::Bounded }
    }

    pub(super) fn is_full(&self) -> bool {
        self.backlog.len() >= BACKLOG
    }

    /// Whether nothing is owed to it.
    pub(super) fn is_served(&self) -> bool {
        self.backlog.is_empty()
    }

    /// When it will be dropped unless it takes something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.full_since.map(|since| since + PATIENCE).filter(|_| self.patience() == Patience::Bounded)
    }

    /// Gives output to the client. Returns whether it is still there.
    pub(super) fn give(&mut self, stream: Stream, bytes: &[u8], framed: bool) -> bool {
        let wanted = match stream {
            Stream::Stdout => self.wants.stdout,
            Stream::Stderr => self.wants.stderr,
        };
        if !wanted || self.broken {
            return !self.broken;
        }
        let header = if framed { &header(stream, bytes.len())[..] } else { &[] };
        // The usual case: what the socket takes at once is not copied.
        let sent = if self.backlog.is_empty() { self.write(header, bytes) } else { 0 };
        self.backlog.extend(header.iter().chain(bytes).skip(sent));
        self.flush(Instant::now())
    }

    /// Writes what is owed. Returns whether the client is to be kept.
    pub(super) fn flush(&mut self, now: Instant) -> bool {
        while !self.backlog.is_empty() && !self.broken {
            let (first, second) = self.backlog.as_slices();
            match write(&self.socket, first, second) {
                Ok(sent) => {
                    self.backlog.drain(..sent);
                    if sent == 0 {
                        break;
                    }
                }
                Err(_) => self.broken = true,
            }
        }
        if self.is_full() && self.patience() == Patience::Bounded {
            let since = *self.full_since.get_or_insert(now);
            return !self.broken && now.duration_since(since) < PATIENCE;
        }
        self.full_since = None;
        !self.broken
    }

    /// Sends the one and then the other; how much of both was taken.
    fn write(&mut self, first: &[u8], second: &[u8]) -> usize {
        write(&self.socket, first, second).unwrap_or_else(|_| {
            self.broken = true;
            0
        })
    }
}

fn write(socket: &OwnedFd, first: &[u8], second: &[u8]) -> rustix::io::Result<usize> {
    let parts = [IoSlice::new(first), IoSlice::new(second)];
    loop {
        let nothing = &mut SendAncillaryBuffer::default();
        match sendmsg(socket, &parts, nothing, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            done => return done,
        }
    }
}

/// The header before each piece of output: the stream, three zeros, the length in network order (Engine API,
/// "Stream format").
fn header(stream: Stream, length: usize) -> [u8; 8] {
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let length = u32::try_from(length).expect("pieces are smaller than a buffer").to_be_bytes();
    [number, 0, 0, 0, length[0], length[1], length[2], length[3]]
}
