//! The engines that are connected: the one that started the shim, and those that find its socket later.

use super::foreign::Asker;
use crate::error::{Error, Result};
use crate::protocol::{self, Event, Message, Reply, Request, SOCKET};
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
    sockets: Vec<OwnedFd>,
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
        Ok(Self { directory, listener, sockets: Vec::new() })
    }

    /// Adds the engine that started the shim.
    pub(super) fn add(&mut self, engine: OwnedFd) {
        self.sockets.push(engine);
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Takes one connection, of root only: what can be asked of a shim is root's (CVE-2020-15257).
    pub(super) fn accept(&mut self) {
        let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        if sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root()) {
            self.sockets.push(socket);
        }
    }

    /// Receives one request; a connection that is closed, or talks nonsense, is dropped.
    pub(super) fn receive(&mut self, index: usize) -> Option<(u64, Request, Vec<OwnedFd>)> {
        match protocol::receive::<Request>(self.sockets[index].as_fd()) {
            Ok(Some((frame, descriptors))) => Some((frame.id, frame.body, descriptors)),
            Ok(None) => {
                self.sockets.remove(index);
                None
            }
            Err(error) => {
                super::eprintln_log(&error.chain());
                self.sockets.remove(index);
                None
            }
        }
    }

    pub(super) fn reply(&mut self, index: usize, id: u64, reply: Reply, descriptor: Option<&OwnedFd>) {
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(|d| d.as_fd()).collect();
        if protocol::send(self.sockets[index].as_fd(), id, &Message::Reply(reply), &descriptors).is_err() {
            self.sockets.remove(index);
        }
    }

    /// Who is to be answered later.
    pub(super) fn asker(&self, index: usize, id: u64) -> Result<Asker> {
        Ok(Asker { connection: self.sockets[index].try_clone().map_err(super::duplicate)?, id })
    }

    /// Tells everybody; who cannot be told is gone.
    pub(super) fn tell(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        self.sockets.retain(|socket| protocol::send(socket.as_fd(), 0, &message, &[]).is_ok());
    }
}
