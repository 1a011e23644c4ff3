//! A session: the stdio of this process is that of a container or an exec until its output ends, the detach keys are
//! typed, or a signal ends it.

use std::os::fd::AsFd;

use coracle_client::{Client, Demultiplexer, Hijacked, Output};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::detach::{DetachKeys, Typed};
use super::input::Input;
use super::raw::{self, RawMode};
use super::signals::{Caught, Resizes, Signals};
use crate::error::{Error, Result};

/// What the session is with.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Container(String),
    Exec(String),
}

/// How the session goes.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) target: Target,
    /// The other side has a terminal.
    pub(crate) tty: bool,
    /// This side's stdin is sent.
    pub(crate) stdin: bool,
    pub(crate) keys: DetachKeys,
    /// Signals go to the container; else they end the session.
    pub(crate) proxy: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side has no more output.
    Output,
    /// The detach keys were typed.
    Detached,
    /// A signal, by its number.
    Signal(u8),
}

impl Session {
    /// Runs it. `signals` were caught before the container started, so that none is lost.
    pub(crate) async fn run(self, client: &Client, hijacked: Hijacked, signals: &mut Signals) -> Result<End> {
        let _raw = if self.tty && self.stdin { RawMode::enter()? } else { None };
        let Hijacked { output, input } = hijacked;
        let output = self.show(output);
        let keys = (self.tty && raw::stdin_is_terminal()).then(|| self.keys.clone());
        let sending = send(self.stdin, keys, input);
        let around = self.watch(client, signals);
        tokio::pin!(output, sending, around);
        let mut sent = false;
        loop {
            tokio::select! {
                shown = &mut output => return shown.map(|()| End::Output),
                ended = &mut sending, if !sent => match ended? {
                    Sent::Detached => return Ok(End::Detached),
                    Sent::Everything => sent = true,
                },
                ended = &mut around => return ended.map(|caught| End::Signal(caught.number)),
            }
        }
    }

    async fn show(&self, output: impl AsyncRead + Unpin) -> Result<()> {
        let mut stdout = stdio(std::io::stdout())?;
        if self.tty { copy(output, stdout).await } else { separate(output, &mut stdout).await }
    }

    /// Forwards signals and sizes; ends with a signal that is not forwarded.
    async fn watch(&self, client: &Client, signals: &mut Signals) -> Result<Caught> {
        let mut resizes = Resizes::watch()?;
        loop {
            tokio::select! {
                () = resizes.next() => self.resize(client).await,
                caught = signals.next() => match &self.target {
                    Target::Container(id) if self.proxy => {
                        // It fails when the container has just ended, which the session notices by itself.
                        let _ = client.kill_container(id, Some(caught.name)).await;
                    }
                    _ => return Ok(caught),
                },
            }
        }
    }

    /// Tells the other side the size of this terminal.
    pub(crate) async fn resize(&self, client: &Client) {
        let Some((rows, columns)) = raw::size().filter(|_| self.tty) else { return };
        // The size is a courtesy: a container that has just ended has no terminal.
        let _ = match &self.target {
            Target::Container(id) => client.resize_container(id, rows, columns).await,
            Target::Exec(id) => client.resize_exec(id, rows, columns).await,
        };
    }
}

/// How sending stdin ended.
enum Sent {
    Everything,
    Detached,
}

async fn send(stdin: bool, mut keys: Option<DetachKeys>, mut input: impl AsyncWrite + Unpin) -> Result<Sent> {
    if !stdin {
        // Keep the connection open for its output: a closed half may look like a departure.
        return std::future::pending().await;
    }
    let mut pieces = Input::begin()?;
    while let Some(piece) = pieces.next().await? {
        let (bytes, detached) = match &mut keys {
            None => (piece, false),
            Some(keys) => match keys.scan(&piece) {
                Typed::Input(bytes) => (bytes, false),
                Typed::Detach(bytes) => (bytes, true),
            },
        };
        // A write fails when the other side has closed its stdin; its output goes on.
        if input.write_all(&bytes).await.is_err() {
            return Ok(Sent::Everything);
        }
        if detached {
            return Ok(Sent::Detached);
        }
    }
    // As above: the other side may be gone already.
    let _ = input.shutdown().await;
    Ok(Sent::Everything)
}

/// One of this process' streams, written by threads that may block.
pub(crate) fn stdio(stream: impl AsFd) -> Result<File> {
    let fd = stream.as_fd().try_clone_to_owned().map_err(Error::io("duplicate a stream"))?;
    Ok(File::from_std(fd.into()))
}

/// Copies everything to `out`.
pub(crate) async fn copy(mut reader: impl AsyncRead + Unpin, mut out: File) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer).await {
            // A daemon that closes with unread input resets the connection: the end all the same.
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Ok(length) => out.write_all(&buffer[..length]).await.map_err(Error::io("write to stdout"))?,
            Err(source) => return Err(Error::io("read the output of the container")(source)),
        }
    }
    out.flush().await.map_err(Error::io("write to stdout"))
}

/// Takes stdout and stderr apart.
pub(crate) async fn separate(reader: impl AsyncRead + Unpin, stdout: &mut File) -> Result<()> {
    show_frames(&mut Demultiplexer::new(reader), stdout).await
}

/// Shows frames until their end.
pub(crate) async fn show_frames<R: AsyncRead + Unpin>(
    frames: &mut Demultiplexer<R>,
    stdout: &mut File,
) -> Result<()> {
    let mut stderr = stdio(std::io::stderr())?;
    while let Some(piece) = frames.next().await? {
        match piece {
            Output::Stdout(bytes) => stdout.write_all(&bytes).await.map_err(Error::io("write to stdout"))?,
            Output::Stderr(bytes) => {
                // Keep the order of the two where both go to one terminal.
                stdout.flush().await.map_err(Error::io("write to stdout"))?;
                stderr.write_all(&bytes).await.map_err(Error::io("write to stderr"))?;
                stderr.flush().await.map_err(Error::io("write to stderr"))?;
            }
        }
    }
    stdout.flush().await.map_err(Error::io("write to stdout"))
}
