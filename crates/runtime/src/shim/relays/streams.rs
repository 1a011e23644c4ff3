//! Connections, each of two sockets: the client's and the one to the container. Either direction ends by itself, and nothing is
//! read that cannot be passed on yet.

use super::{Relays, connect};
use crate::limits::RELAY_TURNS;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use std::os::fd::OwnedFd;

/// A connection that is passed on.
pub(super) struct Stream {
    port: u64,
    client: End,
    server: End,
    /// Whether the container has not answered yet.
    is_connecting: bool,
}

/// One of its sockets, and what was read from the other and not written to it yet.
struct End {
    number: u64,
    socket: OwnedFd,
    pending: Vec<u8>,
    /// Nothing more comes from it.
    has_ended: bool,
    /// Nothing more is written to it.
    is_shut: bool,
    /// What the epoll tells of it; nothing, where it is not watched.
    watched: EventFlags,
}

/// What is heard of an end from which nothing more comes: that it failed, and that once.
const FAILURE: EventFlags = EventFlags::ET;

/// The connection is over.
struct Over;

impl From<Errno> for Over {
    fn from(_: Errno) -> Self {
        Self
    }
}

impl Stream {
    pub(super) fn port(&self) -> u64 {
        self.port
    }

    /// Whether the client has said that it says no more, and the container was told.
    #[cfg(test)]
    pub(super) fn is_half_shut(&self) -> bool {
        self.server.is_shut && !self.client.is_shut
    }

    /// Passes on what can be, both ways.
    fn go_on(&mut self, buffer: &mut [u8]) -> Result<(), Over> {
        if self.is_connecting {
            if !self.server.is_connected()? {
                return Ok(());
            }
            self.is_connecting = false;
        }
        pass(&mut self.client, &mut self.server, buffer)?;
        pass(&mut self.server, &mut self.client, buffer)?;
        if self.client.is_shut && self.server.is_shut { Err(Over) } else { Ok(()) }
    }

    /// What is to be heard of each.
    fn interests(&self) -> [EventFlags; 2] {
        if self.is_connecting {
            return [EventFlags::empty(), EventFlags::OUT];
        }
        [(&self.client, &self.server), (&self.server, &self.client)].map(|(own, other)| {
            let mut interest = EventFlags::empty();
            interest.set(EventFlags::IN, !own.has_ended && other.pending.is_empty());
            interest.set(EventFlags::OUT, !own.pending.is_empty());
            if own.has_ended && interest.is_empty() { FAILURE } else { interest }
        })
    }
}

/// Passes on what comes from one end, for a bounded time.
fn pass(from: &mut End, to: &mut End, buffer: &mut [u8]) -> Result<(), Over> {
    for _ in 0..RELAY_TURNS {
        if !to.flush()? {
            return Ok(());
        }
        if from.has_ended {
            break;
        }
        match rustix::net::recv(&from.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => from.has_ended = true,
            Ok((length, _)) => to.pending.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    if from.has_ended && to.flush()? && !to.is_shut {
        to.is_shut = true;
        // Who is gone need not be told.
        let _ = rustix::net::shutdown(&to.socket, Shutdown::Write);
    }
    Ok(())
}

impl End {
    fn new(number: u64, socket: OwnedFd) -> Self {
        // What arrives is sent on at once; without it, a little later. Who vanished without a word is found out; without it, never.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let _ = sockopt::set_socket_keepalive(&socket, true);
        let (has_ended, is_shut, watched) = (false, false, EventFlags::empty());
        Self { number, socket, pending: Vec::new(), has_ended, is_shut, watched }
    }

    /// Writes what is pending; `false` where the other side has to take something first.
    fn flush(&mut self) -> Result<bool, Over> {
        while !self.pending.is_empty() {
            match rustix::net::send(&self.socket, &self.pending, SendFlags::NOSIGNAL) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        // Connections that are silent need no room.
        self.pending = Vec::new();
        Ok(true)
    }

    /// Whether the connection that was begun is there.
    fn is_connected(&self) -> Result<bool, Over> {
        sockopt::socket_error(&self.socket)?.map_err(Over::from)?;
        match rustix::net::getpeername(&self.socket) {
            Ok(Some(_)) => Ok(true),
            Ok(None) | Err(Errno::NOTCONN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Relays {
    /// Accepts who waits at a port.
    pub(super) fn accept(&mut self, port: u64) {
        for _ in 0..RELAY_TURNS {
            let Some(listening) = self.ports.get(&port) else { return };
            if self.streams.len() >= self.most.streams {
                return self.pause();
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let client = match rustix::net::accept_with(&listening.socket, flags) {
                Ok(client) => client,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                // No descriptors, or no memory: it stays ready.
                Err(_) => return self.pause(),
            };
            // A client for whom there is no way is closed by being dropped, as if nobody listened.
            let Ok(server) = connect(SocketType::STREAM, listening.target) else { continue };
            let number = self.number();
            let (client, server) = (End::new(number, client), End::new(number | 1, server));
            self.streams.insert(number, Stream { port, client, server, is_connecting: true });
            self.serve(number);
        }
    }

    /// Goes on with a connection until it has to wait; one that is over is dropped.
    pub(super) fn serve(&mut self, number: u64) {
        let Some(mut stream) = self.streams.remove(&number) else { return };
        let goes_on = stream.go_on(&mut self.buffer).is_ok() && self.watch_both(&mut stream).is_ok();
        if goes_on {
            self.streams.insert(number, stream);
        } else {
            self.resume();
        }
    }

    /// An end has failed. Where nothing is left to be read from it or to be written to it, nobody else would find out.
    pub(super) fn fail(&mut self, number: u64) {
        let is_left = |stream: &Stream| {
            let end = if number & 1 == 0 { &stream.client } else { &stream.server };
            end.watched == FAILURE
        };
        if self.streams.get(&(number & !1)).is_some_and(is_left) {
            self.streams.remove(&(number & !1));
            self.resume();
        } else {
            self.serve(number & !1);
        }
    }

    /// Has the epoll tell what the connection waits for. An end that waits for nothing is not watched at all: that it was hung up
    /// would be told without end.
    fn watch_both(&self, stream: &mut Stream) -> Result<(), Errno> {
        let interests = stream.interests();
        for (end, wanted) in [&mut stream.client, &mut stream.server].into_iter().zip(interests) {
            let data = EventData::new_u64(end.number);
            match (end.watched.is_empty(), wanted.is_empty()) {
                _ if end.watched == wanted => continue,
                (true, _) => epoll::add(&self.epoll, &end.socket, data, wanted)?,
                (false, true) => epoll::delete(&self.epoll, &end.socket)?,
                (false, false) => epoll::modify(&self.epoll, &end.socket, data, wanted)?,
            }
            end.watched = wanted;
        }
        Ok(())
    }
}
