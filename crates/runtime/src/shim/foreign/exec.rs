//! An exec that another runtime is starting: the shim goes on meanwhile, and answers who has asked once it is known what
//! has come of it.

use super::call::Call;
use super::{Foreign, Requested, errors_of};
use crate::error::Result;
use crate::protocol::{self, Attachment, Failure, Message, Reply};
use crate::sandbox::Started;
use crate::shim::streams::{self, Pipes};
use coracle_spec::runtime::Process;
use rustix::process::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Who waits for an answer.
pub(in super::super) struct Asker {
    /// A connection, which may be broken by then.
    pub(in super::super) connection: OwnedFd,
    pub(in super::super) id: u64,
}

impl Asker {
    /// Answers. Whether anybody has heard it.
    pub(in super::super) fn answer(&self, outcome: Result<i32>) -> bool {
        let reply = match outcome {
            Ok(pid) => Reply::Started { pid },
            Err(error) => Reply::Failed(Failure::from(&error)),
        };
        protocol::send(self.connection.as_fd(), self.id, &Message::Reply(reply), &[]).is_ok()
    }
}

/// An exec that is being started.
pub(in super::super) struct Starting {
    pub(in super::super) id: String,
    pub(in super::super) lifetime: Option<Duration>,
    pub(in super::super) asker: Asker,
    /// The socket to connect to its streams.
    pub(in super::super) attached: Option<(OwnedFd, Attachment)>,
    call: Call,
    process: Requested,
    pipes: Pipes,
}

impl Foreign {
    /// Begins to start `process` in the container.
    pub(in super::super) fn exec(
        &self,
        execution: &protocol::Execution,
        process: &Process,
        (asker, socket): (Asker, Option<OwnedFd>),
    ) -> Result<Starting> {
        let (streams, pipes) = streams::of(process, execution.attachment.stdin)?;
        let request = self.request_exec(process, streams)?;
        Ok(Starting {
            id: execution.id.clone(),
            lifetime: execution.lifetime.map(Duration::from_millis),
            asker,
            attached: socket.map(|socket| (socket, execution.attachment)),
            call: request.call,
            process: request.process,
            pipes,
        })
    }
}

impl Starting {
    /// Readable once the runtime has done its part.
    pub(in super::super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.call.as_fd()
    }

    /// When the runtime has taken too long.
    pub(in super::super) fn until(&self) -> Instant {
        self.call.until()
    }

    /// The runtime, a child of this process.
    pub(in super::super) fn pid(&self) -> Pid {
        self.call.pid()
    }

    /// Takes over the process, which is none of those `known`; a runtime that still works is killed.
    pub(in super::super) fn take(self, known: &[Pid]) -> (Begun, Result<(Started, Pipes)>) {
        let Self { id, lifetime, asker, attached, call, process, pipes } = self;
        let started = process.take(call.end(errors_of(&pipes)), known);
        (Begun { id, lifetime, asker, attached }, started.map(|started| (started, pipes)))
    }
}

/// What is known of an exec besides its process.
pub(in super::super) struct Begun {
    pub(in super::super) id: String,
    pub(in super::super) lifetime: Option<Duration>,
    pub(in super::super) asker: Asker,
    pub(in super::super) attached: Option<(OwnedFd, Attachment)>,
}
