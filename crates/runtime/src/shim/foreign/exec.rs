//! An exec that another runtime is starting: the shim goes on meanwhile, and answers who has asked once it is known what
//! has come of it.

use super::call::Call;
use super::{Foreign, Requested, Temporary, errors_of};
use crate::error::Result;
use crate::protocol::{self, Attachment, Failure, Message, Reply};
use crate::sandbox::{Started, Streams};
use crate::shim::streams::Pipes;
use coracle_spec::runtime::Process;
use rustix::process::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Who waits for an answer.
pub(in super::super) struct Asker {
    pub(in super::super) connection: OwnedFd,
    pub(in super::super) id: u64,
}

impl Asker {
    /// Answers, if anybody is there still.
    pub(in super::super) fn answer(&self, outcome: Result<i32>) {
        let reply = match outcome {
            Ok(pid) => Reply::Started { pid },
            Err(error) => Reply::Failed(Failure::from(&error)),
        };
        // An engine that is gone asks again for what there is.
        let _ = protocol::send(self.connection.as_fd(), self.id, &Message::Reply(reply), &[]);
    }
}

/// What is known of an exec before its process is there.
pub(in super::super) struct Wanted {
    pub(in super::super) id: String,
    pub(in super::super) pipes: Pipes,
    /// The socket to connect to its streams.
    pub(in super::super) attached: Option<(OwnedFd, Attachment)>,
    pub(in super::super) lifetime: Option<Duration>,
}

/// An exec that is being started.
pub(in super::super) struct Starting {
    wanted: Wanted,
    asker: Asker,
    call: Call,
    process: Requested,
    /// What the runtime reads of the process.
    _file: Temporary,
}

impl Foreign {
    /// Begins to start `process` in the container.
    pub(in super::super) fn exec(
        &self,
        process: &Process,
        streams: Streams,
        wanted: Wanted,
        asker: Asker,
    ) -> Result<Starting> {
        let file = Temporary(self.bundle.name("process"));
        self.bundle.write(&file.0, process)?;
        let options = ["--detach".into(), "--process".into(), file.0.clone().into()];
        let request = self.request("exec", &options, streams)?;
        Ok(Starting { wanted, asker, call: request.call, process: request.process, _file: file })
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
    pub(in super::super) fn take(self, known: &[Pid]) -> (Asker, Wanted, Result<Started>) {
        let done = self.call.end(errors_of(&self.wanted.pipes));
        (self.asker, self.wanted, self.process.take(done, known))
    }
}
