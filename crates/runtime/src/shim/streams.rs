//! The streams of a process: pipes, or the terminal that it makes itself.

use super::channel::{Channel, Input, Output};
use crate::channel::set_nonblocking;
use crate::error::{Error, Result};
use crate::sandbox::{Started, Streams};
use coracle_logfile::Stream;
use coracle_spec::Owners;
use coracle_spec::runtime::Process;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::os::fd::OwnedFd;

/// Our ends of a process's streams, unless it has a terminal.
pub(super) type Pipes = Option<(Vec<Output>, Option<Input>)>;

/// Makes the streams of a process that has an input or none. Where users of the container are others outside, as `owners`
/// says, they belong to its root, who opens them again through `/dev/stdout` and the like.
pub(super) fn of(process: &Process, has_input: bool, owners: Option<&Owners>) -> Result<(Streams, Pipes)> {
    if process.terminal {
        return Ok((Streams::Terminal(process.console_size), None));
    }
    let failed = |error: rustix::io::Errno| Error::Protocol { action: "make pipes", source: error.into() };
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed);
    let (our_output, stdout) = pipe()?;
    let (our_error, stderr) = pipe()?;
    set_nonblocking(&our_output)?;
    set_nonblocking(&our_error)?;
    let root = owners.and_then(|owners| owners.outside((0, 0)));
    give(&stdout, root)?;
    give(&stderr, root)?;
    let outputs = vec![Output::new(our_output, Stream::Stdout), Output::new(our_error, Stream::Stderr)];
    if !has_input {
        let stdin =
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        return Ok((Streams::Separate { stdin, stdout, stderr }, Some((outputs, None))));
    }
    let (stdin, our_input) = pipe()?;
    set_nonblocking(&our_input)?;
    give(&stdin, root)?;
    Ok((Streams::Separate { stdin, stdout, stderr }, Some((outputs, Some(Input::new(our_input))))))
}

fn give(pipe: &OwnedFd, owner: Option<(u32, u32)>) -> Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    rustix::fs::fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|error| Error::Protocol { action: "give a pipe away", source: error.into() })
}

/// The channel between a process's streams and whoever is attached.
pub(super) fn channel_of(name: Option<String>, started: &Started, pipes: Pipes) -> Result<Channel> {
    match (pipes, &started.terminal) {
        (Some((outputs, input)), _) => Ok(Channel::new(name, outputs, input, true)),
        (None, Some(terminal)) => {
            set_nonblocking(terminal)?;
            let copy = || terminal.try_clone().map_err(super::duplicate);
            let output = Output::new(copy()?, Stream::Stdout);
            Ok(Channel::new(name, vec![output], Some(Input::new(copy()?)), false))
        }
        (None, None) => Err(Error::Child("the process has handed over no terminal".to_owned())),
    }
}
