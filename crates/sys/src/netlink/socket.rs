//! The socket: sends several messages in one system call and reads every answer.
//!
//! The kernel handles a request inside `send`, so that all acknowledgements wait in the socket when it returns:
//! reading stops when the last has come, or at `EAGAIN`, and never waits for an answer that is not coming. Only listings
//! (dumps) continue while they are read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::{Message, Reply, flags};
use crate::error::{Context, Error, Result};

/// Room for one batch and for its acknowledgements, in bytes; the kernel doubles it. A batch that publishes every
/// port of one protocol is about 3 MB.
const BUFFER: usize = 8 << 20;
/// The kernel sends listings in pieces of at most 32 KB, single messages in less than 64 KB.
const PIECE: usize = 64 << 10;
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// A listing was interrupted by a change (`NLM_F_DUMP_INTR`).
const INTERRUPTED: u16 = 0x10;
/// How often a listing that was interrupted by changes is begun again.
const DUMP_TRIES: usize = 16;

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `NETLINK_ROUTE`: interfaces, addresses, routes.
    Route,
    /// `NETLINK_NETFILTER`: nftables, conntrack.
    Netfilter,
}

/// A netlink socket of the network namespace it was opened in; stays there whichever thread uses it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// The next sequence number; holding it serialises requests, so that answers do not mix.
    sequence: Mutex<u32>,
    sent: AtomicU64,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no such protocol, or memory.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let socket = Self::open_for_little(protocol)?;
        // Needs CAP_NET_ADMIN in the first user namespace; without it the default size serves all but huge batches.
        let forced = sockopt::set_socket_send_buffer_size_force(&socket.fd, BUFFER)
            .and_then(|()| sockopt::set_socket_recv_buffer_size_force(&socket.fd, BUFFER));
        if forced.is_err() {
            sockopt::set_socket_send_buffer_size(&socket.fd, BUFFER)
                .context("setsockopt SO_SNDBUF", format_args!("{protocol:?}"))?;
        }
        Ok(socket)
    }

    /// Opens a socket as [`Socket::open`] does, whose buffers are the default ones: they have room for a few dozen
    /// messages.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open_for_little(protocol: Protocol) -> Result<Self> {
        let (name, number) = match protocol {
            Protocol::Route => ("NETLINK_ROUTE", None),
            Protocol::Netfilter => ("NETLINK_NETFILTER", Some(netlink::NETFILTER)),
        };
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)
                .context("socket", name)?;
        // It is bound by its first message.
        Ok(Self { fd, sequence: Mutex::new(1), sent: AtomicU64::new(0) })
    }

    /// How many times this socket has sent: the count that tests hold against a budget.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends all `messages` in one system call and returns what came back besides acknowledgements.
    ///
    /// rtnetlink carries out each message on its own, and later ones even when an earlier one failed; netfilter's
    /// batches are all or nothing.
    ///
    /// # Errors
    /// The first failure, under the name of the message that caused it; also when a message that asks for an
    /// acknowledgement got none.
    pub fn request(&self, messages: &[Message]) -> Result<Vec<Reply>> {
        let mut sequence = self.lock();
        let first = *sequence;
        let bytes = assemble(messages, first);
        *sequence =
            first.wrapping_add(u32::try_from(messages.len()).expect("a batch is bounded by the buffer"));
        self.send(&bytes, messages)?;
        let mut answers = Answers {
            first,
            messages,
            acknowledged: vec![false; messages.len()],
            failure: None,
            replies: vec![],
        };
        let mut piece = vec![0; PIECE];
        loop {
            match rustix::net::recv(&self.fd, &mut piece[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) => {
                    answers.read(piece.get(..length).ok_or_else(|| truncated(messages))?);
                    if answers.are_complete() {
                        return answers.finish();
                    }
                }
                Err(Errno::AGAIN) => return answers.finish(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("recv", describe(messages)),
            }
        }
    }

    /// Lists objects: sends `message` with `NLM_F_DUMP` and reads to the end, again when a change interrupted it.
    ///
    /// # Errors
    /// When the kernel refuses, or things change faster than they can be listed.
    pub fn dump(&self, message: &Message) -> Result<Vec<Reply>> {
        let mut message = message.clone();
        message.flags |= flags::DUMP;
        for _ in 0..DUMP_TRIES {
            if let Some(replies) = self.dump_once(&message)? {
                return Ok(replies);
            }
        }
        Err(Errno::INTR).context(message.call, message.subject)
    }

    fn dump_once(&self, message: &Message) -> Result<Option<Vec<Reply>>> {
        let mut sequence = self.lock();
        let ours = *sequence;
        *sequence = ours.wrapping_add(1);
        self.send(&assemble(std::slice::from_ref(message), ours), std::slice::from_ref(message))?;
        let (mut replies, mut whole) = (Vec::new(), true);
        let mut piece = vec![0; PIECE];
        loop {
            let length = match rustix::net::recv(&self.fd, &mut piece[..], RecvFlags::TRUNC) {
                Ok((_, length)) => length,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("recv", &message.subject),
            };
            let piece = piece.get(..length).ok_or_else(|| truncated(std::slice::from_ref(message)))?;
            for header in headers(piece).filter(|header| header.sequence == ours) {
                whole &= header.flags & INTERRUPTED == 0;
                match (header.kind, status(header.body)) {
                    (DONE, Some(0) | None) => return Ok(whole.then_some(replies)),
                    (DONE | ERROR, Some(errno)) if errno != 0 => {
                        return Err(Errno::from_raw_os_error(errno)).context(message.call, &message.subject);
                    }
                    (ERROR, _) => {}
                    _ => replies.push(Reply { kind: header.kind, body: header.body.to_vec() }),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8], messages: &[Message]) -> Result<()> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        rustix::io::retry_on_intr(|| {
            rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))
        })
        .context("sendto", describe(messages))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        // A panic elsewhere leaves at worst unread answers, which the next request skips by their number.
        self.sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What has been answered so far to one batch.
struct Answers<'a> {
    first: u32,
    messages: &'a [Message],
    acknowledged: Vec<bool>,
    failure: Option<Error>,
    replies: Vec<Reply>,
}

impl Answers<'_> {
    fn read(&mut self, piece: &[u8]) {
        for header in headers(piece) {
            let index = header.sequence.wrapping_sub(self.first) as usize;
            let Some(message) = self.messages.get(index) else { continue };
            match (header.kind, status(header.body)) {
                (ERROR, Some(0)) => self.acknowledged[index] = true,
                (ERROR, errno) => {
                    let errno = Errno::from_raw_os_error(errno.unwrap_or(libc::EPROTO));
                    self.failure.get_or_insert_with(|| Error::Call {
                        call: message.call,
                        subject: message.subject.clone(),
                        source: errno.into(),
                    });
                }
                (DONE, _) => {}
                _ => self.replies.push(Reply { kind: header.kind, body: header.body.to_vec() }),
            }
        }
    }

    /// Whether every message asked for an acknowledgement and got one, which comes after its other replies.
    fn are_complete(&self) -> bool {
        let told =
            |(message, &acknowledged): (&Message, &bool)| acknowledged && message.flags & flags::ACK != 0;
        self.messages.iter().zip(&self.acknowledged).all(told)
    }

    fn finish(self) -> Result<Vec<Reply>> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let silent =
            |(message, &acknowledged): (&Message, &bool)| message.flags & flags::ACK != 0 && !acknowledged;
        match self.messages.iter().zip(&self.acknowledged).find(|&pair| silent(pair)) {
            None => Ok(self.replies),
            Some((message, _)) => Err(Error::Unexpected {
                subject: format!("{} {}", message.call, message.subject),
                expected: "acknowledged by the kernel",
            }),
        }
    }
}

struct Header<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

fn headers(mut bytes: &[u8]) -> impl Iterator<Item = Header<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let body = bytes.get(HEADER..length)?;
        let header = Header {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            flags: u16::from_ne_bytes([bytes[6], bytes[7]]),
            sequence: u32::from_ne_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(header)
    })
}

/// The error number, positive, of an `NLMSG_ERROR` or `NLMSG_DONE`; zero is success.
fn status(body: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?).wrapping_neg())
}

fn assemble(messages: &[Message], first: u32) -> Vec<u8> {
    let size = messages.iter().map(|m| HEADER + m.body.as_bytes().len()).sum();
    let mut bytes = Vec::with_capacity(size);
    let mut sequence = first;
    for message in messages {
        let body = message.body.as_bytes();
        let length = u32::try_from(HEADER + body.len()).expect("a message is far below 4 GB");
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&message.kind.to_ne_bytes());
        bytes.extend_from_slice(&(message.flags | flags::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        sequence = sequence.wrapping_add(1);
    }
    bytes
}

fn describe(messages: &[Message]) -> String {
    let Some(first) = messages.first() else { return String::from("an empty batch") };
    match messages.len() {
        1 => format!("{} {}", first.call, first.subject),
        count => format!("{} {} and {} more", first.call, first.subject, count - 1),
    }
}

fn truncated(messages: &[Message]) -> Error {
    Error::Unexpected { subject: format!("the answer to {}", describe(messages)), expected: "below 64 KB" }
}
