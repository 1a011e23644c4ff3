//! `RUN`: a command in a container, its output to whoever listens.

use super::workshop::Workshop;
use super::{Allowed, BuildError, BuildResult, Listener, Told};
use crate::containers::modes::{NetworkMode, UserMode};
use crate::containers::settings::{HostSettings, Settings};
use crate::containers::{AttachSettings, WaitCondition};
use crate::error::{Attempt, Error, Result};
use coracle_build::{Command, Lines, Program, RunNetwork};
use coracle_spec::Platform;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// What the kernel says of a program that it cannot execute: `ENOEXEC`, execve(2).
const NO_PROGRAM: &str = "exec format error";
/// Bytes of a frame's head: the stream's number, three zeros, the length.
const HEAD: usize = 8;
/// The number of the standard error in it.
const STDERR: u8 = 2;

/// Refuses what a command may not have, also one that was run before.
pub(super) fn check(command: &Command, allowed: &Allowed) -> Result<()> {
    if command.insecure && !allowed.insecure {
        return Err(Error::Invalid(
            "security.insecure is not allowed: RUN --security=insecure needs a build with --allow security.insecure"
                .to_owned(),
        ));
    }
    if command.network == RunNetwork::Host && !allowed.host_network {
        return Err(Error::Invalid(
            "network.host is not allowed: RUN --network=host needs a build with --allow network.host"
                .to_owned(),
        ));
    }
    Ok(())
}

/// What a container of this command is.
pub(super) fn settings(command: &Command, host: &HostSettings) -> Settings {
    let network = match command.network {
        RunNetwork::Default => host.network.clone(),
        RunNetwork::None => NetworkMode::None,
        RunNetwork::Host => NetworkMode::parse("host"),
    };
    let words = match &command.program {
        Program::Words(words) => words.clone(),
        // Where the script is comes with the mounts.
        Program::Script { .. } => Vec::new(),
    };
    // Out of its sandbox it is out of its user namespace, too.
    let user_namespace = if command.insecure { UserMode::Host } else { host.user_namespace };
    let privileged = host.privileged || command.insecure;
    let host = HostSettings { network, privileged, user_namespace, ..host.clone() };
    let mut env = command.env.clone();
    env.extend(command.uncached_env.iter().cloned());
    Settings {
        user: command.user.clone(),
        working_dir: command.directory.clone(),
        cmd: Some(words),
        env,
        host,
        ..Settings::default()
    }
}

/// Runs the command of a container that was made for it.
pub(super) async fn run(
    workshop: &Workshop<'_>,
    command: &Command,
    (step, lines): (usize, Lines),
    platform: &Platform,
    listener: &Listener,
) -> BuildResult<()> {
    let (engine, id) = (workshop.engine, workshop.id.as_str());
    let wanted = AttachSettings { stdin: false, stdout: true, stderr: true };
    let attached = engine.attach(id, wanted).await?;
    let waiting = engine.wait(id, WaitCondition::NextExit)?;
    engine.start(id).await.map_err(|error| foreign(error, platform))?;
    forward(attached.stream, step, listener).await?;
    let ended = waiting.done().await;
    let code = ended.state.exit_code;
    if code == 0 {
        return Ok(());
    }
    let words = match &command.program {
        Program::Words(words) => words.clone(),
        Program::Script { text, .. } => vec![text.clone()],
    };
    Err(BuildError::Command { words, code: code.into(), lines: (lines.first, lines.last) })
}

/// Says of a program that this machine does not know what to do about it, where it was made for another one.
fn foreign(error: Error, platform: &Platform) -> Error {
    let host = Platform::host();
    match error {
        Error::Start { text, .. } if text.contains(NO_PROGRAM) && platform.rank_on(&host).is_none() => {
            Error::Unsupported(format!(
                "cannot run a program for {platform} on {host}: {text}; install an emulator that the kernel is told of in \
                 binfmt_misc with the flag F, as the package qemu-user-static (or binfmt-support) does"
            ))
        }
        error => error,
    }
}

/// Takes the frames of an output apart, to its end.
async fn forward(mut stream: UnixStream, step: usize, listener: &Listener) -> Result<()> {
    let reading = || "read the output of a step".to_owned();
    let mut head = [0; HEAD];
    loop {
        match stream.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).attempt(reading),
        }
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut left = u64::from(length);
        while left > 0 {
            let mut bytes =
                bytes::BytesMut::zeroed(usize::try_from(left).unwrap_or(usize::MAX).min(64 << 10));
            let count = stream.read(&mut bytes).await.attempt(reading)?;
            if count == 0 {
                return Ok(());
            }
            bytes.truncate(count);
            left -= count as u64;
            let is_error = head[0] == STDERR;
            listener.tell(Told::Output { step, is_error, bytes: bytes.freeze() }).await;
        }
    }
}
