//! Clients attached to the streams of containers and execs.

use super::streams::{frame, stream_type};
use crate::answer::{self, Answer};
use crate::error::Failure;
use crate::hijack::{Client, Takeover};
use crate::input;
use crate::peer::Watch;
use crate::server::{Call, Context};
use crate::session::{self, DetachKeys};
use crate::websocket;
use coracle_api::container as api;
use coracle_engine::containers::{AttachSettings, Attached, Description, LogStream};
use coracle_engine::logs::{Selection, Stream};
use coracle_engine::{Engine, Error};
use hyper::StatusCode;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Attaches the client to a container.
pub(super) async fn attach(mut call: Call, name: &str) -> Answer {
    let takeover = Takeover::of(&mut call.request);
    let wanted = Wanted::of(&call, name, takeover.carries_input()).await?;
    let kind = stream_type(call.version, wanted.container.settings.tty);
    takeover.begin(kind, move |client| wanted.serve(call.context, client))
}

/// Attaches the client to a container over a websocket: for browsers, which have no other stream.
pub(super) async fn attach_by_websocket(mut call: Call, name: &str) -> Answer {
    call.engine().inspect(name)?;
    let headers = websocket::accept(call.request.headers())?;
    let takeover = Takeover::of(&mut call.request);
    let wanted = Wanted::of(&call, name, takeover.carries_input()).await?;
    let raw = wanted.container.settings.tty;
    let mut answer = takeover.begin_other("websocket", move |client| {
        websocket::run(client, raw, |client| wanted.serve(call.context, client))
    })?;
    answer.headers_mut().extend(headers);
    Ok(answer)
}

/// What a client that attaches to a container gets.
struct Wanted {
    container: Arc<Description>,
    keys: DetachKeys,
    streams: AttachSettings,
    /// What was written before. It can be more than there is memory for, and is read as the client takes it.
    past: Option<LogStream>,
    live: Live,
    /// Whether the client is there.
    watch: Watch,
}

/// What is written from now on.
enum Live {
    Unwanted,
    Attached(Attached),
    /// To be attached to when the past was told: what is written meanwhile belongs to it.
    AfterThePast,
}

impl Wanted {
    async fn of(call: &Call, name: &str, carries_input: bool) -> Result<Self, Failure> {
        let keys = keys(call.query.get("detachKeys").unwrap_or_default())?;
        let engine = call.engine();
        let on = |key: &str| call.query.is_on(key);
        let container = engine.inspect(name)?;
        let streams = AttachSettings {
            stdin: on("stdin") && carries_input,
            stdout: on("stdout"),
            stderr: on("stderr"),
        };
        let past = if on("logs") {
            Some(engine.logs(container.id.as_str(), Selection::default(), false).await?)
        } else {
            None
        };
        // What does not run writes nothing meanwhile, and whoever attaches may start it next and mean all that comes.
        let is_after_the_past = past.is_some() && container.state.status.is_up();
        let live = if !on("stream") {
            Live::Unwanted
        } else if is_after_the_past {
            engine.can_be_attached_to(name)?;
            Live::AfterThePast
        } else {
            Live::Attached(engine.attach(name, streams).await?)
        };
        Ok(Self { container, keys, streams, past, live, watch: call.client.clone() })
    }

    async fn serve(mut self, context: Arc<Context>, mut client: Box<dyn Client>) {
        let container = Arc::clone(&self.container);
        let (engine, id) = (&context.engine, container.id.as_str());
        let is_followed = !matches!(self.live, Live::Unwanted);
        let attached = match self.tell_the_past(engine, &mut client).await {
            Ok(attached) => attached,
            Err(error) => {
                tracing::debug!(%error, "a client was not told all of a container's past");
                return;
            }
        };
        let ended = engine.end_is_on_record(id);
        let Some(attached) = attached else {
            if is_followed {
                ended.await;
            }
            // A client that is gone need not know the end.
            let _ = client.shutdown().await;
            return;
        };
        if session::run(client, attached, false, self.keys, ended, &self.watch).await {
            // Nobody is to be told of a container that is gone by now.
            let _ = engine.tell_of_detaching(id);
        }
    }

    /// Tells the client what was written before, and answers with what follows that.
    async fn tell_the_past(
        &mut self,
        engine: &Engine,
        client: &mut Box<dyn Client>,
    ) -> io::Result<Option<Attached>> {
        let Self { container, streams, past, live, watch, .. } = self;
        let (tty, id) = (container.settings.tty, container.id.as_str());
        let told = async {
            if let Some(past) = past {
                tell(past, *streams, tty, client).await?;
            }
            match (std::mem::replace(live, Live::Unwanted), past) {
                (Live::AfterThePast, Some(past)) => {
                    // What was written meanwhile, which may have been long, and no more than that.
                    let attached =
                        engine.attach_behind(id, *streams, past).await.map_err(io::Error::other)?;
                    tell(past, *streams, tty, client).await?;
                    Ok(attached)
                }
                (Live::Attached(attached), _) => Ok(Some(attached)),
                _ => Ok(None),
            }
        };
        tokio::select! {
            told = told => told,
            // Also one that takes nothing meanwhile.
            () = watch.hung_up() => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Tells a client what was written so far.
async fn tell(
    past: &mut LogStream,
    wanted: AttachSettings,
    tty: bool,
    client: &mut Box<dyn Client>,
) -> io::Result<()> {
    loop {
        let entries = past.next().await.map_err(io::Error::other)?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut told = Vec::new();
        for entry in &entries {
            let is_wanted = match entry.stream {
                Stream::Stdout => wanted.stdout,
                Stream::Stderr => wanted.stderr,
            };
            if is_wanted {
                frame(&mut told, entry.stream, &entry.bytes, tty);
            }
        }
        client.write_all(&told).await?;
    }
}

/// Starts an exec and attaches the client to it, unless it wants to be detached.
pub(super) async fn start_exec(mut call: Call, id: &str) -> Answer {
    // The connection becomes a stream later, so what belongs to it is kept apart from the body.
    let takeover = Takeover::of(&mut call.request);
    let request: api::ExecStartRequest = input::document(call.request).await?;
    let size = request.console_size.and_then(crate::convert::settings::console_size);
    let (context, watch) = (call.context, call.client);
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
                if session::run(client, attached, !raw, keys, ended, &watch).await {
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
        Error::Start { text, verb: None, .. } => Failure::no_exec(&text),
        Error::Start { text, verb: Some(verb), .. } => Failure::invalid(Failure::told(&verb, &text)),
        other => other.into(),
    }
}

fn keys(text: &str) -> Result<DetachKeys, Failure> {
    DetachKeys::parse(text).ok_or_else(|| Failure::invalid(format!("Invalid detach keys ({text}) provided")))
}
