//! The engines that are connected: the one that started the shim, and those that find its socket later.

use super::arriving::{Arrived, Arriving};
use super::foreign::Asker;
use crate::error::{Error, Result};
use crate::protocol::{self, Event, Failure, Message, Reply, SOCKET};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with, sockopt,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The state directory, the socket in it, and who has connected.
pub(super) struct Connections {
    directory: OwnedFd,
    listener: OwnedFd,
    connected: Vec<Connection>,
}

struct Connection {
    socket: OwnedFd,
    arriving: Arriving,
}

impl Connection {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, arriving: Arriving::default() }
    }

    fn send(&self, id: u64, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        protocol::send(self.socket.as_fd(), id, message, descriptors)
    }
}

impl Connections {
    /// Binds the socket in `directory`, through a descriptor of it: paths may be longer than socket addresses.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let failed = |action| move |error: Errno| Error::Protocol { action, source: error.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(directory, flags, Mode::empty()).map_err(failed("open the state directory"))?;
        let listener = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(failed("make a socket"))?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let address = SocketAddrUnix::new(path).map_err(failed("name the socket"))?;
        // The file that bind(2) makes has the mode that the socket has.
        rustix::fs::fchmod(&listener, Mode::from_raw_mode(0o600))
            .map_err(failed("close the socket to others"))?;
        match bind(&listener, &address) {
            Err(Errno::ADDRINUSE) => {
                rustix::fs::unlinkat(&directory, SOCKET, rustix::fs::AtFlags::empty())
                    .map_err(failed("remove an old socket"))?;
                bind(&listener, &address).map_err(failed("bind the socket"))?;
            }
            bound => bound.map_err(failed("bind the socket"))?,
        }
        listen(&listener, 16).map_err(failed("listen"))?;
        Ok(Self { directory, listener, connected: Vec::new() })
    }

    /// Adds the engine that started the shim.
    pub(super) fn add(&mut self, engine: OwnedFd) {
        self.connected.push(Connection::new(engine));
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.connected.iter().map(|connection| connection.socket.as_fd())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }

    /// Takes one connection, of root only: what can be asked of a shim is root's (CVE-2020-15257).
    pub(super) fn accept(&mut self) {
        let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        if sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root()) {
            self.connected.push(Connection::new(socket));
        }
    }

    /// Receives one frame; a connection that is closed, or talks nonsense, is dropped.
    pub(super) fn receive(&mut self, index: usize) -> Option<Arrived> {
        let connection = &mut self.connected[index];
        let received = connection.arriving.receive(connection.socket.as_fd());
        let arrived = received.unwrap_or_else(|error| {
            super::eprintln_log(&error.chain());
            None
        });
        if arrived.is_none() {
            self.connected.remove(index);
        }
        arrived
    }

    /// Answers a request; that the answer makes no frame is an answer as well.
    pub(super) fn reply(&mut self, index: usize, id: u64, reply: Reply, descriptor: Option<&OwnedFd>) {
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(|d| d.as_fd()).collect();
        let connection = &self.connected[index];
        let sent = match connection.send(id, &Message::Reply(reply), &descriptors) {
            Err(error @ Error::Malformed(_)) => {
                connection.send(id, &Message::Reply(Reply::Failed(Failure::from(&error))), &[])
            }
            sent => sent,
        };
        if sent.is_err() {
            self.connected.remove(index);
        }
    }

    /// Who is to be answered later.
    pub(super) fn asker(&self, index: usize, id: u64) -> Result<Asker> {
        Ok(Asker { connection: self.connected[index].socket.try_clone().map_err(super::duplicate)?, id })
    }

    /// Tells everybody; who cannot be told is gone.
    pub(super) fn tell(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        self.connected.retain(|connection| connection.send(0, &message, &[]).is_ok());
    }
}
