//! Requests as they arrive over one connection: what belongs together may come in several frames.

use crate::error::{Error, Result};
use crate::limits;
use crate::protocol::{self, Request};
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What has come by the arrival of one more frame.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A request with all its descriptors.
    Request(u64, Request, Vec<OwnedFd>),
    /// A part of one.
    Part,
    /// A request of which a part was lost; it is to be refused.
    Broken(u64),
}

/// Descriptors of requests that are to come, by their ids; none of those of which some were lost.
#[derive(Debug, Default)]
pub(super) struct Arriving(BTreeMap<u64, Option<Vec<OwnedFd>>>);

impl Arriving {
    /// Receives one frame; nothing when the peer has closed.
    ///
    /// # Errors
    /// What makes the connection worthless.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<Option<Arrived>> {
        match protocol::receive::<Request>(socket) {
            Ok(Some((frame, descriptors))) if frame.body == Request::Descriptors => {
                self.keep(frame.id, descriptors);
                Ok(Some(Arrived::Part))
            }
            Ok(Some((frame, beside))) => {
                let id = frame.id;
                let Some(mut descriptors) = self.0.remove(&id).unwrap_or_else(|| Some(Vec::new())) else {
                    return Ok(Some(Arrived::Broken(id)));
                };
                descriptors.extend(beside);
                Ok(Some(Arrived::Request(id, frame.body, descriptors)))
            }
            Ok(None) => Ok(None),
            Err(Error::Truncated { beginning }) => self.lose(beginning).map(Some),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, id: u64, more: Vec<OwnedFd>) {
        if let Some(descriptors) = self.0.entry(id).or_insert_with(|| Some(Vec::new())) {
            descriptors.extend(more);
        }
        let count: usize = self.0.values().flatten().map(Vec::len).sum();
        if count > limits::REQUEST_DESCRIPTORS {
            self.0.insert(id, None);
        }
    }

    /// Takes note of a frame that was not received whole.
    fn lose(&mut self, beginning: Vec<u8>) -> Result<Arrived> {
        let Some(id) = protocol::id_of(&beginning) else { return Err(Error::Truncated { beginning }) };
        let frame = serde_json::from_slice::<protocol::Frame<Request>>(&beginning);
        if frame.is_ok_and(|frame| frame.body == Request::Descriptors) {
            self.0.insert(id, None);
            return Ok(Arrived::Part);
        }
        self.0.remove(&id);
        Ok(Arrived::Broken(id))
    }
}

/// What is answered to a request of which a part was lost.
pub(super) fn lost() -> Error {
    Error::Invalid(
        "not all descriptors of the request were received: the shim has no room for them".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    /// More than there is room for, alignment included.
    const TOO_MANY: usize = limits::FRAME_DESCRIPTORS + 16;

    fn receive(arriving: &mut Arriving, socket: &OwnedFd) -> Arrived {
        arriving.receive(socket.as_fd()).unwrap().unwrap()
    }

    /// Sends a frame with more descriptors than are taken from one.
    fn send_too_many(socket: &OwnedFd, id: u64, request: &Request) {
        let frame = protocol::Frame { version: 1, features: 0, id, body: request };
        let bytes = serde_json::to_vec(&frame).unwrap();
        let many = vec![rustix::stdio::stdin(); TOO_MANY];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOO_MANY))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        sendmsg(socket, &[std::io::IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn descriptors_that_came_ahead_belong_to_the_request_of_their_id() {
        let (a, b) = channel::pair().unwrap();
        let mut arriving = Arriving::default();
        let one = [rustix::stdio::stdin()];
        for (id, request) in [(1, Request::Descriptors), (2, Request::Descriptors), (1, Request::Descriptors)]
        {
            protocol::send(a.as_fd(), id, &request, &one).unwrap();
            assert!(matches!(receive(&mut arriving, &b), Arrived::Part));
        }
        for (id, count) in [(2, 1), (1, 3), (1, 1)] {
            let beside = &one[..usize::from(id == 1)];
            protocol::send(a.as_fd(), id, &Request::State, beside).unwrap();
            let Arrived::Request(whose, Request::State, descriptors) = receive(&mut arriving, &b) else {
                panic!("it is whole");
            };
            assert_eq!((whose, descriptors.len()), (id, count));
        }
        drop(a);
        assert!(arriving.receive(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_request_of_which_a_part_was_lost_is_refused_alone() {
        let (a, b) = channel::pair().unwrap();
        let mut arriving = Arriving::default();
        send_too_many(&a, 1, &Request::Descriptors);
        assert!(matches!(receive(&mut arriving, &b), Arrived::Part));
        protocol::send(a.as_fd(), 1, &Request::Descriptors, &[rustix::stdio::stdin()]).unwrap();
        assert!(matches!(receive(&mut arriving, &b), Arrived::Part));
        protocol::send(a.as_fd(), 1, &Request::State, &[]).unwrap();
        assert!(matches!(receive(&mut arriving, &b), Arrived::Broken(1)));
        send_too_many(&a, 2, &Request::State);
        assert!(matches!(receive(&mut arriving, &b), Arrived::Broken(2)));
        protocol::send(a.as_fd(), 3, &Request::State, &[]).unwrap();
        assert!(
            matches!(receive(&mut arriving, &b), Arrived::Request(3, Request::State, none) if none.is_empty())
        );
    }
}
