//! Streams: a hijacked connection, output in frames, JSON by the line.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use coracle_api::from_slice;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, ReadHalf, WriteHalf};

use crate::error::Error;
use crate::transport::Body;
use crate::{Result, limits};

/// A connection that the daemon gave up: what it sends is output, what it gets is stdin.
#[derive(Debug)]
pub struct Hijacked {
    /// The output: raw with a terminal, else for [`Demultiplexer`].
    pub output: ReadHalf<TokioIo<Upgraded>>,
    /// The input; shutting it down is the end of stdin.
    pub input: WriteHalf<TokioIo<Upgraded>>,
}

impl Hijacked {
    pub(crate) fn new(connection: TokioIo<Upgraded>) -> Self {
        let (output, input) = tokio::io::split(connection);
        Self { output, input }
    }
}

/// A piece of output and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Frame types 0 and 1.
    Stdout(Bytes),
    /// Frame type 2.
    Stderr(Bytes),
}

/// Takes stdout and stderr apart. A frame is a byte for the stream, three zero bytes, and the length in four bytes,
/// most significant first (Engine API, `ContainerAttach`). Type 3 is an error of the daemon's.
#[derive(Debug)]
pub struct Demultiplexer<R> {
    reader: R,
    stream: u8,
    /// Bytes of the current frame still to come.
    left: usize,
}

impl<R: AsyncRead + Unpin> Demultiplexer<R> {
    /// Reads frames from `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, stream: 0, left: 0 }
    }

    /// The next piece, `None` at the end. A long frame comes in several pieces.
    ///
    /// # Errors
    /// The stream broke, ends within a frame, or is not framed.
    pub async fn next(&mut self) -> Result<Option<Output>> {
        while self.left == 0 {
            if !self.header().await? {
                return Ok(None);
            }
        }
        let piece = self.piece().await?;
        match self.stream {
            2 => Ok(Some(Output::Stderr(piece))),
            3 => Err(Error::Daemon { status: 500, message: String::from_utf8_lossy(&piece).into_owned() }),
            _ => Ok(Some(Output::Stdout(piece))),
        }
    }

    async fn header(&mut self) -> Result<bool> {
        let mut header = [0; 8];
        let first = self.reader.read(&mut header).await.map_err(broken)?;
        if first == 0 {
            return Ok(false);
        }
        self.reader.read_exact(&mut header[first..]).await.map_err(broken)?;
        let [stream, 0, 0, 0, length @ ..] = header else { return Err(unframed()) };
        if stream > 3 {
            return Err(unframed());
        }
        self.stream = stream;
        self.left = usize::try_from(u32::from_be_bytes(length)).expect("this client runs on 64 bits");
        Ok(true)
    }

    async fn piece(&mut self) -> Result<Bytes> {
        let mut piece = BytesMut::zeroed(self.left.min(limits::CHUNK));
        let length = self.reader.read(&mut piece).await.map_err(broken)?;
        if length == 0 {
            return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= length;
        piece.truncate(length);
        Ok(piece.freeze())
    }
}

fn broken(source: std::io::Error) -> Error {
    Error::Stream { attempt: "read the output of a container", source }
}

fn unframed() -> Error {
    broken(std::io::Error::new(std::io::ErrorKind::InvalidData, "the stream is not framed"))
}

/// JSON objects, one per line.
#[derive(Debug)]
pub struct JsonLines<T> {
    body: Body,
    buffer: BytesMut,
    /// How far the buffer was searched for an end of line.
    searched: usize,
    ended: bool,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0, ended: false, item: PhantomData }
    }

    /// The next object, `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or a line is not the JSON expected.
    pub async fn next(&mut self) -> Result<Option<T>> {
        while let Some(line) = self.line().await? {
            if !line.iter().all(u8::is_ascii_whitespace) {
                let answer = |source| Error::Answer { attempt: self.body.attempt().to_owned(), source };
                return from_slice(&line).map(Some).map_err(answer);
            }
        }
        Ok(None)
    }

    async fn line(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.ended {
                self.searched = 0;
                return Ok((!self.buffer.is_empty()).then(|| self.buffer.split()));
            }
            if self.buffer.len() > limits::LINE {
                let attempt = self.body.attempt().to_owned();
                return Err(Error::TooLarge { attempt, limit: limits::LINE });
            }
            match self.body.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }
}

/// Reads a response body as a stream of bytes, for [`Demultiplexer`] and for files.
pub(crate) struct BodyReader {
    state: ReadState,
}

type Reading = Pin<Box<dyn Future<Output = (Body, Result<Option<Bytes>>)> + Send>>;

enum ReadState {
    Idle(Option<Body>),
    Reading(Reading),
    Holding(Body, Bytes),
}

impl From<Body> for BodyReader {
    fn from(body: Body) -> Self {
        Self { state: ReadState::Idle(Some(body)) }
    }
}

impl AsyncRead for BodyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            match &mut self.state {
                ReadState::Idle(body) => {
                    let Some(mut body) = body.take() else { return Poll::Ready(Ok(())) };
                    self.state = ReadState::Reading(Box::pin(async move {
                        let chunk = body.chunk().await;
                        (body, chunk)
                    }));
                }
                ReadState::Reading(reading) => {
                    let (body, chunk) = std::task::ready!(reading.as_mut().poll(context));
                    self.state = match chunk.map_err(std::io::Error::other)? {
                        Some(chunk) => ReadState::Holding(body, chunk),
                        None => ReadState::Idle(None),
                    };
                }
                ReadState::Holding(_, chunk) if !chunk.is_empty() => {
                    let length = chunk.len().min(buffer.remaining());
                    buffer.put_slice(&chunk[..length]);
                    chunk.advance(length);
                    return Poll::Ready(Ok(()));
                }
                ReadState::Holding(..) => {
                    let held = std::mem::replace(&mut self.state, ReadState::Idle(None));
                    let ReadState::Holding(body, _) = held else { unreachable!("matched above") };
                    self.state = ReadState::Idle(Some(body));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(bytes: &[u8]) -> Result<Vec<Output>> {
        let mut demultiplexer = Demultiplexer::new(bytes);
        let mut pieces = Vec::new();
        while let Some(piece) = demultiplexer.next().await? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    #[tokio::test]
    async fn frames_come_apart_and_empty_ones_vanish() {
        let bytes = b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x01x";
        let expected = vec![Output::Stdout("abc".into()), Output::Stderr("x".into())];
        assert_eq!(pieces(bytes).await.expect("framed"), expected);
        assert_eq!(pieces(b"").await.expect("empty"), vec![]);
    }

    #[tokio::test]
    async fn a_long_frame_comes_in_bounded_pieces() {
        let length = limits::CHUNK * 2 + 1;
        let mut bytes = vec![1, 0, 0, 0];
        bytes.extend(u32::try_from(length).expect("fits").to_be_bytes());
        bytes.resize(8 + length, b'x');
        let pieces = pieces(&bytes).await.expect("framed");
        let lengths: Vec<_> = pieces
            .iter()
            .map(|piece| match piece {
                Output::Stdout(bytes) | Output::Stderr(bytes) => bytes.len(),
            })
            .collect();
        assert_eq!(lengths, [limits::CHUNK, limits::CHUNK, 1]);
    }

    #[tokio::test]
    async fn broken_streams_are_refused() {
        for bytes in [&b"\x01\0\0"[..], b"\x01\0\0\0\0\0\0\x05ab", b"plain text", b"\x07\0\0\0\0\0\0\x01a"] {
            assert!(matches!(pieces(bytes).await, Err(Error::Stream { .. })), "{bytes:?}");
        }
        let failed = pieces(b"\x03\0\0\0\0\0\0\x04oops").await;
        assert!(matches!(failed, Err(Error::Daemon { message, .. }) if message == "oops"));
    }
}
