//! What a first process that waits on its ground is told when its container is started: what runs, the root, and what of
//! the container's own is mounted in it.

use super::plan::PlannedMount;
use super::{FirstProcess, Streams};
use crate::channel;
use crate::error::{Error, Result};
use crate::limits;
use coracle_spec::runtime::{ConsoleSize, Mount, Process};
use coracle_sys::rooted::Root;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Everything that is not a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) process: Process,
    pub(super) mounts: Vec<Mount>,
    pub(super) readonly_root: bool,
    pub(super) first: FirstProcess,
    console: Option<ConsoleSize>,
}

/// The same as the first process has received it.
pub(super) struct Received {
    pub(super) rest: Rest,
    pub(super) root: Root,
    pub(super) streams: Streams,
    pub(super) mounts: Vec<PlannedMount>,
}

impl Rest {
    pub(super) fn new(process: &Process, mounts: &[Mount], readonly_root: bool, first: FirstProcess) -> Self {
        Self { process: process.clone(), mounts: mounts.to_vec(), readonly_root, first, console: None }
    }

    /// Sends everything to the first process. It travels in a memory file, as an environment may be longer than a datagram.
    pub(super) fn send(
        mut self,
        channel: BorrowedFd<'_>,
        root: &Root,
        streams: &Streams,
        mounts: &[PlannedMount],
    ) -> Result<()> {
        if let Streams::Terminal(size) = streams {
            self.console = *size;
        }
        let (memory, size) =
            self.write().map_err(|source| Error::Protocol { action: "write what runs", source })?;
        let mut descriptors = vec![memory.as_fd(), root.as_fd()];
        if let Streams::Separate { stdin, stdout, stderr } = streams {
            descriptors.extend([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        }
        descriptors.extend(mounts.iter().filter_map(PlannedMount::tree));
        descriptors
            .chunks(limits::FRAME_DESCRIPTORS)
            .try_for_each(|some| channel::send(channel, size.to_string().as_bytes(), some))
    }

    /// Into a memory file. Returns it, and its length in bytes, which goes along as the text of each datagram.
    fn write(&self) -> std::io::Result<(OwnedFd, usize)> {
        let mut file = File::from(rustix::fs::memfd_create("coracle-rest", MemfdFlags::CLOEXEC)?);
        let text = serde_json::to_vec(self)?;
        file.write_all(&text)?;
        Ok((file.into(), text.len()))
    }
}

/// Waits for what runs; nothing when nobody is there any more who could send it.
pub(super) fn receive(channel: BorrowedFd<'_>) -> Result<Option<Received>> {
    let Some((size, first)) = channel::receive(channel)? else { return Ok(None) };
    let mut descriptors = first.into_iter();
    let missing = || Error::Malformed("a descriptor of what runs is missing".to_owned());
    let mut next = || match descriptors.next() {
        Some(descriptor) => Ok(descriptor),
        None => {
            let (_, more) = channel::receive(channel)?.ok_or_else(missing)?;
            descriptors = more.into_iter();
            descriptors.next().ok_or_else(missing)
        }
    };
    let rest = read(next()?, &size)?;
    let root = Root::of_mount(next()?);
    let streams = if rest.process.terminal {
        Streams::Terminal(rest.console)
    } else {
        Streams::Separate { stdin: next()?, stdout: next()?, stderr: next()? }
    };
    let mounts =
        rest.mounts.iter().map(|mount| PlannedMount::with(mount, &mut next)).collect::<Result<_>>()?;
    Ok(Some(Received { rest, root, streams, mounts }))
}

fn read(memory: OwnedFd, size: &[u8]) -> Result<Rest> {
    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
    let size: usize = size.ok_or_else(|| Error::Malformed("what runs has no length".to_owned()))?;
    let mut bytes = vec![0; size];
    // The writer's offset is shared, so reading is by position.
    File::from(memory)
        .read_exact_at(&mut bytes, 0)
        .map_err(|source| Error::Protocol { action: "read what runs", source })?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(error.to_string()))
}
