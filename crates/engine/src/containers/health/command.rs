//! A question that is a command: an exec whose exit code is the answer.

use super::probe::{Answer, Output, Subject};
use crate::containers::admit::Command as Kind;
use crate::containers::exec::ExecSettings;
use crate::containers::task::Command;
use crate::engine::Engine;
use crate::error::{Error, Result};
use coracle_runtime::protocol::Request;
use coracle_spec::id::ExecId;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// How long what a command has left behind may hold its output open after its end. As long as Docker waits.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How much later than the engine the container's shim kills a command that takes too long.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `words` in the container. `None` when nobody is interested in the answer any more.
pub(super) async fn run(
    subject: &Subject,
    words: &[String],
    mut lost: oneshot::Receiver<Infallible>,
) -> Option<Answer> {
    let engine = Engine::of(&subject.shared);
    let (exec, stream) = match start(&engine, subject, words).await {
        Ok(started) => started,
        Err(Error::Start { text, .. }) => return Some(Answer::failed(&text)),
        Err(error) => return Some(Answer::failed(&error.chain())),
    };
    let mut output = Output::default();
    let in_time = {
        let mut finished = pin!(finish(&engine, &exec, stream, &mut output));
        let in_time = tokio::select! {
            biased;
            () = &mut finished => Some(true),
            _ = &mut lost => None,
            () = tokio::time::sleep(subject.check.timeout) => Some(false),
        };
        if in_time != Some(true) {
            kill(subject, &exec).await;
            // Those that do not die are not many: the next one comes when this one is gone.
            finished.await;
        }
        in_time?
    };
    let code = engine.inspect_exec(exec.as_str()).ok().and_then(|exec| exec.exit_code);
    subject.shared.execs.remove(&exec);
    match code {
        _ if !in_time => Some(Answer::late(subject.check.timeout, &output)),
        Some(exit_code) => Some(Answer { exit_code, output }),
        None => Some(Answer::failed("the container has ended")),
    }
}

async fn start(engine: &Engine, subject: &Subject, words: &[String]) -> Result<(ExecId, UnixStream)> {
    let settings =
        ExecSettings { cmd: words.to_vec(), attach: [false, true, true], ..ExecSettings::default() };
    let exec = engine.create_exec(subject.container.as_str(), settings)?;
    let started = match engine.take_exec(exec.as_str()) {
        // The engine kills it earlier, unless it is killed itself meanwhile.
        Ok(taken) => taken.for_at_most(subject.check.timeout.saturating_add(GRACE)).start(None).await,
        Err(error) => Err(error),
    };
    if started.is_err() {
        subject.shared.execs.remove(&exec);
    }
    Ok((exec, started?.stream))
}

/// Waits until the exec has ended and all its output is there.
async fn finish(engine: &Engine, exec: &ExecId, stream: UnixStream, output: &mut Output) {
    let mut collected = pin!(collect(stream, output));
    tokio::select! {
        () = &mut collected => engine.wait_exec(exec.as_str()).await,
        () = engine.wait_exec(exec.as_str()) => {
            // What else holds the output open says nothing about the container's health.
            let _ = tokio::time::timeout(LAST_OUTPUT, collected).await;
        }
    }
}

/// Takes the frames of an output apart, to its end (Engine API, "Stream format").
async fn collect(mut stream: UnixStream, output: &mut Output) {
    let mut head = [0; 8];
    let mut piece = [0; 4096];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        while left > 0 {
            let most = left.min(piece.len());
            let Ok(count @ 1..) = stream.read(&mut piece[..most]).await else { return };
            output.add(&piece[..count]);
            left -= count;
        }
    }
}

/// Kills the exec and what it has started.
async fn kill(subject: &Subject, exec: &ExecId) {
    let Ok(container) = subject.shared.containers.find(subject.container.as_str()) else { return };
    let request = Request::Signal { exec: Some(exec.to_string()), number: 9 };
    let ask = |reply| Command::Ask { kind: Kind::Signal, request, descriptors: Vec::new(), reply };
    if let Err(error) = container.ask(ask).await {
        tracing::debug!(container = %subject.container, error = error.chain(), "a health check has ended before it was killed");
    }
}
