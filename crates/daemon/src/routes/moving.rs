//! `POST /coracle/images/send` and `POST /coracle/images/receive`: endpoints of our own, outside the paths that Docker
//! has or may get. The connection becomes a pipe: what the client sends is what the other engine says, and what it gets
//! is framed as the output of a container is: 1 for the other engine, 2 a line of progress, 3 why it failed.

use crate::answer::Answer;
use crate::convert::{platform, transfer};
use crate::error::Failure;
use crate::hijack::{Client, Takeover};
use crate::server::{Call, Context};
use coracle_api::ApiVersion;
use coracle_api::version::MULTIPLEXED_STREAM;
use coracle_engine::Result;
use coracle_engine::images::{SendRequest, Step, Teller};
use coracle_spec::Reference;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf};
use tokio::sync::mpsc;

/// Bytes that wait between the engine and its client, and largest piece in one frame.
const PIPE: usize = 256 << 10;

const OUTPUT: u8 = 1;
const PROGRESS: u8 = 2;
const FAILURE: u8 = 3;

/// Sends images to whoever is at the other end.
pub(super) async fn send(mut call: Call) -> Answer {
    let takeover = takeover(&mut call)?;
    let name = call.query.get("name").filter(|name| !name.is_empty()).map(name).transpose()?;
    let images: Vec<String> = call.query.all("images").map(str::to_owned).collect();
    if images.is_empty() {
        return Err(Failure::invalid("no image was named"));
    }
    let platforms = platform::all(&call, "platform", ApiVersion::new(1, 24))?;
    let chosen = call.engine().images().choose_to_send(SendRequest { images, platforms, name }).await?;
    let context = call.context;
    takeover.begin(MULTIPLEXED_STREAM, move |client| {
        pipe(
            client,
            context,
            move |reader, writer, told| async move { chosen.send(reader, writer, &told).await },
        )
    })
}

/// Receives what the other end sends.
pub(super) fn receive(mut call: Call) -> Answer {
    let takeover = takeover(&mut call)?;
    let context = call.context;
    takeover.begin(MULTIPLEXED_STREAM, move |client| {
        pipe(client, Arc::clone(&context), move |reader, writer, _| async move {
            context.engine.images().receive(reader, writer).await
        })
    })
}

fn takeover(call: &mut Call) -> std::result::Result<Takeover, Failure> {
    let takeover = Takeover::of(&mut call.request);
    if takeover.carries_input() {
        return Ok(takeover);
    }
    Err(Failure::invalid("the connection must be given up: send `Upgrade: tcp`"))
}

fn name(text: &str) -> std::result::Result<Reference, Failure> {
    let reference: Reference = text.parse().map_err(|_| Failure::invalid("invalid reference format"))?;
    if reference.digest().is_some() {
        return Err(Failure::invalid("an image cannot be given a name with a digest"));
    }
    Ok(reference.or_latest())
}

/// Runs `work` with the client as the way to the other engine, to its end. A client that goes ends it.
async fn pipe<F>(
    client: Box<dyn Client>,
    context: Arc<Context>,
    work: impl FnOnce(ReadHalf<Box<dyn Client>>, DuplexStream, Teller) -> F,
) where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (reader, mut writer) = tokio::io::split(client);
    let (output, theirs) = tokio::io::duplex(PIPE);
    let (told, steps) = Teller::channel();
    let mut working = tokio::spawn(work(reader, theirs, told));
    if forward(output, steps, &mut writer).await.is_err() {
        working.abort();
    }
    let failure = match (&mut working).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.chain()),
        Err(ended) => Some(ended.to_string()),
    };
    if let Some(text) = failure {
        tracing::info!(reason = text, "images did not all get from engine to engine");
        // A client that is gone need not know.
        let _ = frame(&mut writer, FAILURE, text.as_bytes()).await;
    }
    // Likewise.
    let _ = writer.shutdown().await;
    // Also of what did not arrive whole, something may be left to delete.
    context.engine.tidy_soon();
}

/// Hands on output and progress until both have ended.
async fn forward(
    mut output: DuplexStream,
    mut steps: mpsc::Receiver<Step>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; PIPE];
    let (mut more_output, mut more_steps) = (true, true);
    while more_output || more_steps {
        tokio::select! {
            count = output.read(&mut buffer), if more_output => match count? {
                0 => more_output = false,
                count => frame(writer, OUTPUT, &buffer[..count]).await?,
            },
            step = steps.recv(), if more_steps => match step {
                None => more_steps = false,
                Some(step) => for line in transfer::lines(step) {
                    frame(writer, PROGRESS, &super::json_line(&line)).await?;
                },
            },
        }
    }
    Ok(())
}

async fn frame(writer: &mut (impl AsyncWrite + Unpin), kind: u8, bytes: &[u8]) -> io::Result<()> {
    let mut head = [kind, 0, 0, 0, 0, 0, 0, 0];
    head[4..].copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    writer.write_all(&head).await?;
    writer.write_all(bytes).await?;
    writer.flush().await
}
