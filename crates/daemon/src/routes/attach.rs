//! Clients attached to the streams of containers and execs.

use super::streams::{frame, stream_type};
use crate::answer::{self, Answer};
use crate::error::Failure;
use crate::hijack::Takeover;
use crate::input;
use crate::server::Call;
use crate::session::{self, DetachKeys};
use coracle_api::container as api;
use coracle_engine::containers::{AttachSettings, Description};
use coracle_engine::logs::{Selection, Stream};
use coracle_engine::{Engine, Error};
use hyper::StatusCode;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Attaches the client to a container.
pub(super) async fn attach(mut call: Call, name: &str) -> Answer {
    let keys = keys(call.query.get("detachKeys").unwrap_or_default())?;
    let takeover = Takeover::of(&mut call.request);
    let engine = call.engine();
    let on = |key: &str| call.query.is_on(key);
    let container = engine.inspect(name)?;
    let replay = if on("logs") { past(engine, &container).await? } else { Vec::new() };
    let wanted = AttachSettings {
        stdin: on("stdin") && takeover.carries_input(),
        stdout: on("stdout"),
        stderr: on("stderr"),
    };
    let attached = if on("stream") { Some(engine.attach(name, wanted).await?) } else { None };
    let kind = stream_type(call.version, container.settings.tty);
    let context = Arc::clone(&call.context);
    takeover.begin(kind, move |mut client| async move {
        if client.write_all(&replay).await.is_err() {
            return;
        }
        match attached {
            Some(attached) => {
                if session::run(client, attached, false, keys, std::future::ready(())).await {
                    // Nobody is to be told of a container that is gone by now.
                    let _ = context.engine.tell_of_detaching(container.id.as_str());
                }
            }
            // Only the past was wanted; a client that is gone need not know its end.
            None => drop(client.shutdown().await),
        }
    })
}

/// What a container has written up to now.
async fn past(engine: &Engine, container: &Description) -> Result<Vec<u8>, Failure> {
    let mut log = engine.logs(container.id.as_str(), &Selection::default(), false)?;
    let mut replay = Vec::new();
    loop {
        let entries = log.next().await?;
        if entries.is_empty() {
            return Ok(replay);
        }
        for entry in &entries {
            frame(&mut replay, entry.stream, &entry.bytes, container.settings.tty);
        }
    }
}

/// Starts an exec and attaches the client to it, unless it wants to be detached.
pub(super) async fn start_exec(mut call: Call, id: &str) -> Answer {
    // The connection becomes a stream later, so what belongs to it is kept apart from the body.
    let takeover = Takeover::of(&mut call.request);
    let request: api::ExecStartRequest = input::document(call.request).await?;
    let size = request.console_size.and_then(crate::convert::settings::console_size);
    let context = call.context;
    let exec = context.engine.take_exec(id)?;
    if request.detach {
        exec.start_detached(size).await.map_err(why_not)?;
        return answer::empty(StatusCode::OK);
    }
    let keys = keys(&exec.settings().detach_keys)?;
    // What the client says now decides how it reads, as with Docker.
    let raw = request.tty && exec.settings().tty;
    let (context, id) = (Arc::clone(&context), id.to_owned());
    // The head goes out first, as Docker has it: some clients lose output that comes with it.
    takeover.begin(stream_type(call.version, raw), move |mut client| async move {
        match exec.start(size).await {
            Ok(attached) => {
                let ended = async { context.engine.wait_exec(&id).await };
                if session::run(client, attached, !raw, keys, ended).await {
                    // As for containers.
                    let _ = context.engine.tell_of_detaching_from_exec(&id);
                }
            }
            // The reason is the output, and the exec's exit code tells the rest.
            Err(error) => {
                let mut reason = Vec::new();
                let text = format!("{}\r\n", why_not(error).message);
                frame(&mut reason, Stream::Stdout, text.as_bytes(), raw);
                // A client that is gone need not know.
                let _ = client.write_all(&reason).await;
                let _ = client.shutdown().await;
            }
        }
    })
}

/// Why an exec was not started, in Docker's words.
fn why_not(error: Error) -> Failure {
    match error {
        Error::Start { text, .. } => Failure::no_exec(&text),
        other => other.into(),
    }
}

fn keys(text: &str) -> Result<DetachKeys, Failure> {
    DetachKeys::parse(text).ok_or_else(|| Failure::invalid(format!("Invalid detach keys ({text}) provided")))
}
