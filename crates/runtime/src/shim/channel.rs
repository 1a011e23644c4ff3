//! The streams of one process: its output to the log and to whoever is attached, their input to it.
//!
//! A client that does not read fills its socket and then its backlog. The owner (who started the process in the
//! foreground) then stops the process's output, as a pipe would; anybody else is dropped after a while.

use super::client::{Client, Patience};
use crate::protocol::{Attachment, Mark, Stdin};
use coracle_logfile::{Limits, Stream, Writer};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use time::OffsetDateTime;

/// What a pipe holds at first, in bytes (pipe(7)).
const PIPE: usize = 64 * 1024;

/// What it holds for a process that writes faster than it is read, in bytes: each turn moves more then.
pub(super) const WIDE_PIPE: usize = 256 * 1024;

/// An output of the process.
#[derive(Debug)]
pub(super) struct Output {
    /// Read here.
    pub(super) descriptor: OwnedFd,
    /// What it is.
    stream: Stream,
    /// Whether it was made wider.
    is_wide: bool,
}

impl Output {
    pub(super) fn new(descriptor: OwnedFd, stream: Stream) -> Self {
        Self { descriptor, stream, is_wide: false }
    }

    /// Reads what is there. A pipe that was found full is made wider, once.
    fn read(&mut self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        let length = rustix::io::read(&self.descriptor, buffer)?;
        if length >= PIPE && !self.is_wide {
            self.is_wide = true;
            // It works as it is where that is too much for the user (pipe(7), `pipe-user-pages-soft`).
            let _ = rustix::pipe::fcntl_setpipe_size(&self.descriptor, WIDE_PIPE);
        }
        Ok(length)
    }
}

/// The input of the process.
#[derive(Debug)]
pub(super) struct Input {
    /// Written here; does not block.
    pub(super) descriptor: OwnedFd,
    /// Arrived from a client and not yet taken by the process.
    pending: Vec<u8>,
    /// Whether it ends once `pending` is written.
    ending: bool,
}

impl Input {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, pending: Vec::new(), ending: false }
    }
}

/// Names a channel: an exec, or the container itself.
pub(super) type Name = Option<String>;

/// The streams of one process.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: Name,
    pub(super) outputs: Vec<Output>,
    pub(super) input: Option<Input>,
    pub(super) clients: Vec<Client>,
    log: Option<Writer>,
    /// Whether output is framed, as it is without a terminal.
    framed: bool,
    /// Whether the end of a client's input ends the process's.
    ends_with_client: bool,
    /// Why the log has stopped, said once.
    log_failure: Option<String>,
}

impl Channel {
    pub(super) fn new(name: Name, outputs: Vec<Output>, input: Option<Input>, framed: bool) -> Self {
        Self {
            name,
            outputs,
            input,
            clients: Vec::new(),
            log: None,
            framed,
            ends_with_client: true,
            log_failure: None,
        }
    }

    pub(super) fn with_log(mut self, log: Option<Writer>, stdin: Stdin) -> Self {
        self.log = log;
        self.ends_with_client = stdin == Stdin::Once;
        self
    }

    pub(super) fn attach(&mut self, socket: OwnedFd, attachment: Attachment) {
        let mut client = Client::new(socket, attachment);
        if attachment.marked {
            self.mark(&mut client);
        }
        self.clients.push(client);
    }

    /// Tells a client where the log is, and gives it what is not in there yet.
    fn mark(&mut self, client: &mut Client) {
        let place = self.log.as_ref().map(|log| log.place(OffsetDateTime::now_utc())).transpose();
        let mark = place.map(|place| place.map_or(Mark::Complete, Mark::At)).unwrap_or_else(|error| {
            self.log_failure.get_or_insert_with(|| error.to_string());
            Mark::Complete
        });
        client.owe(&mark.to_bytes());
        let Some(log) = &self.log else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = log.partial(stream);
            if !partial.is_empty() {
                // One that is gone already is found out when it is served.
                client.give(stream, partial, self.framed);
            }
        }
    }

    /// Whether the process's output may be read now: not while its owner is behind.
    pub(super) fn is_open(&self) -> bool {
        !self.clients.iter().any(|client| client.is_full() && client.patience() == Patience::Endless)
    }

    /// Whether input may be taken from clients now.
    pub(super) fn takes_input(&self) -> bool {
        self.input.as_ref().is_some_and(|input| input.pending.is_empty() && !input.ending)
    }

    /// What the process waits for: the descriptor to write to when it is writable.
    pub(super) fn wants_to_write(&self) -> Option<BorrowedFd<'_>> {
        let input = self.input.as_ref()?;
        (!input.pending.is_empty()).then(|| input.descriptor.as_fd())
    }

    /// Reads once from output `index` and hands on what came. Returns whether the output has ended.
    pub(super) fn read_output(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let Some(output) = self.outputs.get_mut(index) else { return true };
        let stream = output.stream;
        let length = match output.read(buffer) {
            Ok(0) => return true,
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // A terminal whose last process is gone answers EIO.
            Err(_) => return true,
        };
        let bytes = &buffer[..length];
        if let Some(log) = &mut self.log
            && let Err(error) = log.append(stream, OffsetDateTime::now_utc(), bytes)
        {
            self.log_failure.get_or_insert_with(|| error.to_string());
        }
        let framed = self.framed;
        self.clients.retain_mut(|client| client.give(stream, bytes, framed));
        false
    }

    /// Keeps as much of the log from now on, where there is one.
    pub(super) fn bound_log(&mut self, limits: Limits) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.bound(limits)
        {
            self.log_failure.get_or_insert_with(|| error.to_string());
        }
    }

    /// Output has ended for good: what is half a line is logged.
    pub(super) fn finish_log(&mut self) {
        if let Some(mut log) = self.log.take()
            && let Err(error) = log.finish(OffsetDateTime::now_utc())
        {
            self.log_failure.get_or_insert_with(|| error.to_string());
        }
    }

    /// Why output is missing from the log, told once.
    pub(super) fn take_log_failure(&mut self) -> Option<String> {
        self.log_failure.take()
    }

    /// Takes input that client `index` has sent. One that has hung up is dropped after its last input.
    pub(super) fn read_client(&mut self, index: usize, hung_up: bool, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if !client.sends_input() {
            if hung_up {
                client.give_up();
            }
            return;
        }
        match rustix::io::read(client.socket(), &mut *buffer) {
            Ok(length) if length > 0 => {
                if let Some(input) = &mut self.input {
                    input.pending.extend_from_slice(&buffer[..length]);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => {
                client.input_ended();
                if hung_up {
                    client.give_up();
                }
                if let Some(input) = self.input.as_mut().filter(|_| self.ends_with_client && self.framed) {
                    input.ending = true;
                }
            }
        }
        self.write_input();
    }

    /// Writes pending input, and ends the input when that was asked for.
    pub(super) fn write_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !input.pending.is_empty() {
            match rustix::io::write(&input.descriptor, &input.pending) {
                Ok(length) => drop(input.pending.drain(..length)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // The process has closed its input.
                    self.input = None;
                    return;
                }
            }
        }
        if input.ending {
            self.input = None;
        }
    }

    /// Gives clients what they are still owed; those that are gone, or too late, are dropped.
    pub(super) fn serve_clients(&mut self, now: Instant) {
        let done = self.outputs.is_empty();
        self.clients.retain_mut(|client| client.flush(now) && !(done && client.is_served()));
    }
}
