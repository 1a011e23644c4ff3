//! Datagrams with descriptors over a unix socket (`SOCK_SEQPACKET`, `SCM_RIGHTS`).

use crate::error::{Error, Result};
use crate::limits;
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A connected pair of datagram sockets, close-on-exec.
///
/// # Errors
/// At a limit of descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::Protocol { action: "make a socket pair", source: error.into() })
}

/// Sends one datagram with `descriptors`.
///
/// # Errors
/// `EPIPE` when the peer is gone, `EAGAIN` when a socket that does not block is full.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let failed = |error: Errno| Error::Protocol { action: "send", source: error.into() };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(limits::FRAME_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Error::Malformed(format!(
            "{} descriptors are too many for one frame",
            descriptors.len()
        )));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Receives one datagram and its descriptors; `None` when the peer has closed.
///
/// # Errors
/// `EAGAIN` when a socket that does not block has none; [`Error::Truncated`] for one that is too long, or whose descriptors
/// found no room.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; limits::FRAME];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(limits::FRAME_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            // Told once, of a peer that has closed and not read everything. What it has sent by then is there still.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(Error::Protocol { action: "receive", source: error.into() }),
        }
    };
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        })
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        bytes.truncate(received.bytes);
        return Err(Error::Truncated { beginning: bytes });
    }
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, descriptors)))
}

/// Lets `socket` answer `EAGAIN` instead of blocking.
///
/// # Errors
/// The call's.
pub fn set_nonblocking(socket: impl AsFd) -> Result<()> {
    rustix::io::ioctl_fionbio(socket, true)
        .map_err(|error| Error::Protocol { action: "make a descriptor non-blocking", source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn descriptors_travel_with_their_datagram_and_a_closed_peer_is_the_end() {
        let (a, b) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(a.as_fd(), b"one", &[read.as_fd()]).unwrap();
        send(a.as_fd(), b"two", &[]).unwrap();
        let (bytes, mut descriptors) = receive(b.as_fd()).unwrap().unwrap();
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"one".as_slice(), 1));
        rustix::io::write(&write, b"through").unwrap();
        drop(write);
        let mut text = String::new();
        std::fs::File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(receive(b.as_fd()).unwrap().unwrap().0, b"two");
        drop(a);
        assert!(receive(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_peer_that_has_closed_without_reading_is_heard_to_the_end() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"unread", &[]).unwrap();
        send(b.as_fd(), b"last words", &[]).unwrap();
        drop(b);
        assert_eq!(receive(a.as_fd()).unwrap().unwrap().0, b"last words");
        assert!(receive(a.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_whole() {
        let (a, b) = pair().unwrap();
        let text = [b"a beginning".as_slice(), &vec![0; limits::FRAME]].concat();
        send(a.as_fd(), &text, &[]).unwrap();
        let Err(Error::Truncated { beginning }) = receive(b.as_fd()) else { panic!("it was taken") };
        assert!(beginning.starts_with(b"a beginning"));
    }
}
