//! `image send` and `image receive`: the way between two engines, over ssh. What goes over it is the engines' business;
//! here it is only handed on.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use coracle_api::ProgressMessage;
use coracle_client::{Demultiplexer, Hijacked, Output};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::App;
use crate::args::image::SendArgs;
use crate::error::{Error, Result};
use crate::render::progress::Display;
use crate::resolve::Invalid;
use crate::resolve::platform;
use crate::resolve::ssh::Destination;
use crate::terminal::raw;
use crate::terminal::session::stdio;

/// What runs on the other side.
const RECEIVER: [&str; 3] = ["coracle", "image", "receive"];
/// How long ssh may take to notice that nothing more comes.
const LEAVE: Duration = Duration::from_secs(5);

pub(super) async fn send(app: &App, args: SendArgs) -> Result<()> {
    let destination = Destination::parse(&args.destination)?;
    let client = app.client().await?;
    let platforms = platform::documents(&args.platform);
    let sending = client.send_images(&args.images, &platforms, destination.name.as_deref());
    let Hijacked { output, input } = sending.await?;
    let mut ssh = start(&destination)?;
    let (to_ssh, from_ssh) = ends(&mut ssh);
    let answers = tokio::spawn(hand_on(from_ssh, input));
    let display = Display::new(std::io::stdout(), raw::stdout_is_terminal(), args.quiet);
    let delivered = deliver(output, to_ssh, display).await;
    // Nothing more goes to it, so it ends; where it hangs, it is ended with this process.
    let ended = tokio::time::timeout(LEAVE, ssh.wait()).await;
    answers.abort();
    verdict(&destination, delivered, ended.ok().and_then(Result::ok))
}

fn start(destination: &Destination) -> Result<Child> {
    Command::new("ssh")
        .args(destination.host.arguments(&RECEIVER))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("run ssh"))
}

fn ends(ssh: &mut Child) -> (impl AsyncWrite + Unpin + use<>, impl AsyncRead + Unpin + use<>) {
    let stdin = ssh.stdin.take().expect("it was asked for");
    (stdin, ssh.stdout.take().expect("it was asked for"))
}

/// Hands on what comes, and that it has ended. Who takes no more has a reason, which comes the other way.
async fn hand_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// Hands on what the engine has for the other side, and shows its progress.
async fn deliver<W: std::io::Write>(
    output: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    mut display: Display<W>,
) -> Result<()> {
    let mut frames = Demultiplexer::new(output);
    let mut lines = Lines::default();
    let mut to = Some(to);
    while let Some(frame) = frames.next().await? {
        match frame {
            Output::Stdout(bytes) => {
                // The engine will say why nobody takes it any more.
                if let Some(open) = &mut to
                    && write(open, &bytes).await.is_err()
                {
                    to = None;
                }
            }
            Output::Stderr(bytes) => {
                for line in lines.more(&bytes)? {
                    display.show(&line).map_err(Error::io("show progress"))?;
                }
            }
        }
    }
    Ok(())
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &Bytes) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Documents that come in pieces, one a line.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Longest line, in bytes.
    const LONGEST: usize = 1 << 20;

    fn more(&mut self, bytes: &[u8]) -> Result<Vec<ProgressMessage>> {
        self.0.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            let message = coracle_api::from_slice(&line);
            messages
                .push(message.map_err(|error| Error::Progress(format!("progress that is none: {error}")))?);
        }
        if self.0.len() > Self::LONGEST {
            return Err(Error::Progress("a line of progress does not end".to_owned()));
        }
        Ok(messages)
    }
}

/// How it went: what the engine says, and what ssh says where it is at fault.
fn verdict(destination: &Destination, delivered: Result<()>, ended: Option<ExitStatus>) -> Result<()> {
    let failed = ended.filter(|status| !status.success());
    match (delivered, failed) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(status)) => {
            Err(Error::Progress(format!("ssh to {} ended with {status}", destination.host.host)))
        }
        // The shell there says so with this code.
        (Err(_), Some(status)) if status.code() == Some(127) => Err(Error::Progress(format!(
            "`coracle` is not in the path of logins without a terminal on {}",
            destination.host.host
        ))),
        (Err(error), Some(status)) => {
            let text = coracle_spec::full_text(&error);
            Err(Error::Progress(format!("{text} (ssh to {} ended with {status})", destination.host)))
        }
        (Err(error), None) => Err(error),
    }
}

pub(super) async fn receive(app: &App) -> Result<()> {
    if raw::stdin_is_terminal() {
        let text =
            "this is what `coracle image send ssh://THIS_HOST IMAGE` runs here: it reads what that sends";
        return Err(Invalid(text.to_owned()).into());
    }
    let client = app.client().await?;
    let Hijacked { output, input } = client.receive_images().await?;
    tokio::spawn(hand_on(stdio(std::io::stdin())?, input));
    let mut stdout = stdio(std::io::stdout())?;
    let mut frames = Demultiplexer::new(output);
    while let Some(frame) = frames.next().await? {
        // Progress is told to whoever sends.
        if let Output::Stdout(bytes) = frame {
            write(&mut stdout, &bytes).await.map_err(Error::io("write to stdout"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = Lines::default();
        assert!(lines.more(b"{\"status\":\"a").unwrap().is_empty());
        let messages = lines.more(b"\"}\r\n{\"status\":\"b\"}\n{").unwrap();
        let texts: Vec<&str> = messages.iter().map(|message| message.status.as_str()).collect();
        assert_eq!(texts, ["a", "b"]);
        assert!(lines.more(b"\n").is_err());
        assert!(Lines::default().more(&vec![b' '; Lines::LONGEST + 1]).is_err());
    }
}
