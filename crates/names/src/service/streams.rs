//! Clients that ask by TCP, one question at a time each, and their questions forwarded by TCP.
//!
//! On a stream every message has two bytes of length in front (RFC 1035, 4.2.2).

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Attempts, Reply, Service, connect, failure, random_number};
use crate::limits::{DATAGRAMS_PER_TURN, MESSAGE, QUESTION, SERVER_PATIENCE, STREAM_PATIENCE, STREAMS};
use crate::message::{Verdict, judge};

/// Bytes of the length in front of a message.
const PREFIX: usize = 2;

/// A client's connection.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
    /// Read and not yet handled.
    input: Vec<u8>,
    /// To be written.
    output: Vec<u8>,
    forwarded: Option<Forwarded>,
    pub(super) deadline: Instant,
}

/// The question that a server is being asked for a client.
#[derive(Debug)]
struct Forwarded {
    token: u64,
    socket: OwnedFd,
    number: [u8; 2],
    /// As sent, with a number of ours.
    question: Vec<u8>,
    /// The framed question, what is left of it to write.
    output: Vec<u8>,
    answer: Vec<u8>,
    attempts: Attempts,
}

/// What became of reading or writing.
enum Progress {
    Done,
    Blocked,
    Ended,
}

impl Service {
    pub(super) fn accept_streams(&mut self) {
        for _ in 0..DATAGRAMS_PER_TURN {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                // Nobody more, or no descriptors: the listener stays ready.
                Err(_) => return,
            };
            // One too many is closed by being dropped, so that it does not wait for an answer.
            if self.streams.len() < STREAMS {
                let token = self.token();
                let watched = epoll::add(&self.epoll, &socket, EventData::new_u64(token), EventFlags::IN);
                if watched.is_ok() {
                    self.streams.insert(token, Stream::new(socket));
                }
            }
        }
    }

    pub(super) fn stream_ready(&mut self, token: u64) {
        if let Some(stream) = self.streams.remove(&token) {
            self.serve(token, stream);
        }
    }

    /// Goes on with a client until it has to wait; a client that ended is dropped.
    fn serve(&mut self, token: u64, mut stream: Stream) {
        // While a server is asked nothing is watched; what is reported all the same is that the client is gone.
        let kept = stream.forwarded.is_none() && self.converse(token, &mut stream);
        let watched = kept && {
            let interest = stream.interest();
            epoll::modify(&self.epoll, &stream.socket, EventData::new_u64(token), interest).is_ok()
        };
        if watched {
            self.streams.insert(token, stream);
        } else if let Some(forwarded) = stream.forwarded {
            self.forwarded.remove(&forwarded.token);
        }
    }

    /// Reads questions and writes answers; false when the client ended.
    fn converse(&mut self, token: u64, stream: &mut Stream) -> bool {
        for _ in 0..DATAGRAMS_PER_TURN {
            match write(&stream.socket, &mut stream.output) {
                Progress::Done => {}
                Progress::Blocked => return true,
                Progress::Ended => return false,
            }
            let Some(message) = stream.take_message() else {
                match stream.read() {
                    Progress::Done => continue,
                    Progress::Blocked => return true,
                    Progress::Ended => return false,
                }
            };
            stream.deadline = Instant::now() + STREAM_PATIENCE;
            match self.reply(&message, MESSAGE) {
                Reply::Answer(answer) => stream.queue(&answer),
                Reply::Nothing => return false,
                Reply::Forward => {
                    self.forward_stream(token, stream, &message);
                    if stream.forwarded.is_some() {
                        return true;
                    }
                }
            }
        }
        true
    }

    fn forward_stream(&mut self, client: u64, stream: &mut Stream, message: &[u8]) {
        let attempts = Attempts::new(self.upstream.current());
        self.ask_server(client, stream, message.to_vec(), attempts);
    }

    /// Connects to the next server that can be connected to, or tells the client that there is none.
    fn ask_server(&mut self, client: u64, stream: &mut Stream, message: Vec<u8>, mut attempts: Attempts) {
        while let Some(server) = attempts.next() {
            let token = self.token();
            let connected = random_number().and_then(|number| {
                let socket = connect(SocketType::STREAM, server)?;
                epoll::add(&self.epoll, &socket, EventData::new_u64(token), EventFlags::OUT)?;
                Ok((number, socket))
            });
            let Ok((ours, socket)) = connected else { continue };
            let mut question = message;
            let number = [question[0], question[1]];
            question[..2].copy_from_slice(&ours);
            let output = framed(&question);
            self.forwarded.insert(token, client);
            stream.deadline = Instant::now() + SERVER_PATIENCE;
            stream.forwarded =
                Some(Forwarded { token, socket, number, question, output, answer: Vec::new(), attempts });
            return;
        }
        if let Some(answer) = failure(&message) {
            stream.queue(&answer);
        }
    }

    pub(super) fn server_ready(&mut self, client: u64) {
        let Some(stream) = self.streams.get_mut(&client) else { return };
        let Some(forwarded) = &mut stream.forwarded else { return };
        match forwarded.advance() {
            Progress::Blocked => {
                let interest = if forwarded.output.is_empty() { EventFlags::IN } else { EventFlags::OUT };
                let token = EventData::new_u64(forwarded.token);
                if epoll::modify(&self.epoll, &forwarded.socket, token, interest).is_err() {
                    self.server_failed(client);
                }
            }
            Progress::Ended => self.server_failed(client),
            Progress::Done => match judge(&forwarded.question, &forwarded.answer[PREFIX..]) {
                Verdict::Foreign => self.server_failed(client),
                Verdict::Failed if forwarded.attempts.has_untried() => self.server_failed(client),
                Verdict::Failed | Verdict::Answered => self.server_done(client),
            },
        }
    }

    /// The server did not answer: the next, or the client is told that there is none.
    fn server_failed(&mut self, client: u64) {
        let Some(mut stream) = self.streams.remove(&client) else { return };
        if let Some(forwarded) = stream.forwarded.take() {
            self.forwarded.remove(&forwarded.token);
            let mut message = forwarded.question;
            message[..2].copy_from_slice(&forwarded.number);
            self.ask_server(client, &mut stream, message, forwarded.attempts);
        }
        self.resume(client, stream);
    }

    fn server_done(&mut self, client: u64) {
        let Some(mut stream) = self.streams.remove(&client) else { return };
        if let Some(mut forwarded) = stream.forwarded.take() {
            self.forwarded.remove(&forwarded.token);
            forwarded.answer[PREFIX..PREFIX + 2].copy_from_slice(&forwarded.number);
            stream.output.extend_from_slice(&forwarded.answer);
            stream.deadline = Instant::now() + STREAM_PATIENCE;
        }
        self.resume(client, stream);
    }

    /// Goes on with a client, unless a server is being asked for it again.
    fn resume(&mut self, client: u64, stream: Stream) {
        if stream.forwarded.is_some() {
            self.streams.insert(client, stream);
        } else {
            self.serve(client, stream);
        }
    }

    /// A client was silent for too long, or its server was.
    pub(super) fn stream_late(&mut self, token: u64) {
        if self.streams.get(&token).is_some_and(|stream| stream.forwarded.is_some()) {
            self.server_failed(token);
        } else {
            self.streams.remove(&token);
        }
    }
}

impl Stream {
    fn new(socket: OwnedFd) -> Self {
        let deadline = Instant::now() + STREAM_PATIENCE;
        Self { socket, input: Vec::new(), output: Vec::new(), forwarded: None, deadline }
    }

    /// What to watch the client for. One whose next question is here already is watched for being writable, which it is.
    fn interest(&self) -> EventFlags {
        if self.forwarded.is_some() {
            EventFlags::empty()
        } else if !self.output.is_empty() || self.message_end().is_some() {
            EventFlags::OUT
        } else {
            EventFlags::IN
        }
    }

    fn message_end(&self) -> Option<usize> {
        message_end(&self.input).filter(|&end| end <= self.input.len())
    }

    fn take_message(&mut self) -> Option<Vec<u8>> {
        let end = self.message_end()?;
        let message = self.input[PREFIX..end].to_vec();
        self.input.drain(..end);
        Some(message)
    }

    /// Reads more; ends also a client whose question is too long.
    fn read(&mut self) -> Progress {
        if message_end(&self.input).is_some_and(|end| end > PREFIX + QUESTION) {
            return Progress::Ended;
        }
        read(&self.socket, &mut self.input)
    }

    fn queue(&mut self, answer: &[u8]) {
        self.output.extend_from_slice(&framed(answer));
    }
}

impl Forwarded {
    /// Writes the question, then reads the answer.
    fn advance(&mut self) -> Progress {
        match write(&self.socket, &mut self.output) {
            Progress::Done => {}
            other => return other,
        }
        loop {
            if message_end(&self.answer).is_some_and(|end| end <= self.answer.len()) {
                self.answer.truncate(message_end(&self.answer).unwrap_or_default());
                return Progress::Done;
            }
            match read(&self.socket, &mut self.answer) {
                Progress::Done => {}
                other => return other,
            }
        }
    }
}

/// Where the first message of a stream ends.
fn message_end(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|&length| PREFIX + usize::from(u16::from_be_bytes(length)))
}

fn framed(message: &[u8]) -> Vec<u8> {
    // Longer than 64 KB is no message, ours or a client's; both are bounded below.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&message[..usize::from(length)]);
    framed
}

/// Writes as much as the socket takes.
fn write(socket: &OwnedFd, output: &mut Vec<u8>) -> Progress {
    while !output.is_empty() {
        match rustix::net::send(socket, output, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(written) => drop(output.drain(..written)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Progress::Blocked,
            Err(_) => return Progress::Ended,
        }
    }
    Progress::Done
}

/// Reads what is there, at most one question's worth.
fn read(socket: &OwnedFd, input: &mut Vec<u8>) -> Progress {
    let mut buffer = [0; QUESTION];
    loop {
        match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Progress::Ended,
            Ok((_, length)) => {
                input.extend_from_slice(&buffer[..length]);
                return Progress::Done;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Progress::Blocked,
            Err(_) => return Progress::Ended,
        }
    }
}
