//! Connections that turn into streams. A client that asks for that says `Upgrade: tcp`; older ones say nothing and expect
//! `200 OK` and raw bytes. HTTP libraries know only the first kind, so the second is given the header it lacks on the way
//! in, and the status it expects on the way out. That is done for the first request of a connection, which is how such
//! clients come; a later one without the header gets the output as the body of its answer.

use crate::answer::{self, Answer};
use crate::error::Failure;
use crate::listen::Connection;
use crate::peer::Peer;
use bytes::Bytes;
use coracle_api::version::RAW_STREAM;
use futures_util::stream;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Longest head of a request that is looked at, in bytes.
const HEAD: usize = 64 * 1024;
/// Most output that waits for a client that gets it as a body, in bytes.
const WAITING: usize = 64 * 1024;
/// How long a client may take to read the head before its stream begins.
const PATIENCE: Duration = Duration::from_secs(1);
/// How our HTTP library begins the answer to an upgrade.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";
/// What an old client expects instead.
const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\n";
/// How an answer begins that only asks for the request's body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 ";
/// What a request is completed with; it tells such a client from one that asked for an upgrade itself.
const COMPLETED: &str = "tcp, plain";

/// A client's side of a stream.
pub(crate) trait Client: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Client for S {}

/// How a request becomes a stream.
pub(crate) enum Takeover {
    /// The client has asked for it and hears 101.
    Upgrade(OnUpgrade),
    /// The client takes it for granted and hears 200.
    Plain(OnUpgrade),
    /// The output is the answer's body, and there is no input.
    Body,
}

impl Takeover {
    /// What `request` wants. Its body can still be read afterwards.
    pub(crate) fn of(request: &mut Request<Incoming>) -> Self {
        let completed = is_completed(request);
        match request.extensions_mut().remove::<OnUpgrade>() {
            Some(upgrade) if completed => Self::Plain(upgrade),
            Some(upgrade) => Self::Upgrade(upgrade),
            None => Self::Body,
        }
    }

    /// Whether the client can send anything.
    pub(crate) fn carries_input(&self) -> bool {
        !matches!(self, Self::Body)
    }

    /// Answers with the head of a stream of this content type, and runs `session` over it.
    pub(crate) fn begin<F: Future<Output = ()> + Send + 'static>(
        self,
        kind: &'static str,
        session: impl FnOnce(Box<dyn Client>) -> F + Send + 'static,
    ) -> Answer {
        let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS)?;
        let headers = response.headers_mut();
        let upgrade = match self {
            Self::Body => return Ok(as_body(session)),
            Self::Plain(upgrade) => {
                // Docker names no other type to a client that has not asked for an upgrade.
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(RAW_STREAM));
                upgrade
            }
            Self::Upgrade(upgrade) => {
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                upgrade
            }
        };
        tokio::spawn(take_over(upgrade, session));
        Ok(response)
    }

    /// Answers that another protocol follows, and runs `session` over it. Only for a client that has asked for it.
    pub(crate) fn begin_other<F: Future<Output = ()> + Send + 'static>(
        self,
        protocol: &'static str,
        session: impl FnOnce(Box<dyn Client>) -> F + Send + 'static,
    ) -> Answer {
        let (Self::Upgrade(upgrade) | Self::Plain(upgrade)) = self else {
            return Err(Failure::invalid(format!("this connection cannot change to {protocol}")));
        };
        let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS)?;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        tokio::spawn(take_over(upgrade, session));
        Ok(response)
    }
}

/// Whether the client has said nothing of a stream, so that the request was completed, and with it what the client has said
/// of the connection's end.
pub(crate) fn is_completed(request: &Request<Incoming>) -> bool {
    request.headers().get(UPGRADE).is_some_and(|value| value == COMPLETED)
}

/// Runs `session` over a connection, once its client has read that it may begin.
async fn take_over<F: Future<Output = ()>>(upgrade: OnUpgrade, session: impl FnOnce(Box<dyn Client>) -> F) {
    // A client that is gone by now has nobody to tell.
    let Ok(upgraded) = upgrade.await else { return };
    match upgraded.downcast::<TokioIo<Rewound<Peer>>>() {
        Ok(Parts { io, read_buf, .. }) => {
            let stream = io.into_inner().preceded_by(&read_buf);
            if let Connection::Unix(socket) = &*stream.inner {
                until_read(socket).await;
            }
            session(Box::new(stream)).await;
        }
        Err(upgraded) => session(Box::new(TokioIo::new(upgraded))).await,
    }
}

/// Waits until the client has read the head. Some (docker-py) read it through a buffer that they then forget, and what
/// had come with the head: Docker is too slow for them to notice. Over TCP nobody can know.
async fn until_read(stream: &UnixStream) {
    let read = async {
        loop {
            let asked = stream.try_io(Interest::WRITABLE, || match coracle_engine::is_read(stream.as_fd()) {
                Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            });
            // The kernel wakes writers each time that something is read.
            if asked.is_ok() || stream.writable().await.is_err() {
                return;
            }
        }
    };
    // A client that does not read at all will lose nothing.
    let _ = tokio::time::timeout(PATIENCE, read).await;
}

/// An answer whose body is what `session` writes.
fn as_body<F: Future<Output = ()> + Send + 'static>(
    session: impl FnOnce(Box<dyn Client>) -> F + Send + 'static,
) -> hyper::Response<answer::Body> {
    let (ours, theirs) = tokio::io::duplex(WAITING);
    tokio::spawn(session(Box::new(tokio::io::join(tokio::io::empty(), ours))));
    let parts = stream::unfold(theirs, |mut theirs: DuplexStream| async move {
        let mut part = bytes::BytesMut::with_capacity(WAITING);
        match theirs.read_buf(&mut part).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(part.freeze()), theirs)),
            Err(error) => Some((Err(error), theirs)),
        }
    });
    answer::stream(RAW_STREAM, parts)
}

impl<S> Rewound<S> {
    /// The same, with bytes that were read after all of its own.
    fn preceded_by(mut self, bytes: &Bytes) -> Self {
        let mut first = bytes.to_vec();
        first.extend_from_slice(&self.first[self.read..]);
        (self.first, self.read) = (first, 0);
        self
    }
}

/// A connection whose first bytes were read already.
pub(crate) struct Rewound<S> {
    inner: S,
    first: Vec<u8>,
    read: usize,
    /// What is still to be written in place of the status line, if this client expects another.
    replacing: Option<Replacing>,
}

/// The state of replacing the status line.
struct Replacing {
    written: usize,
}

/// Reads the head of the first request from `inner`, and completes it where the client has left out that it wants a stream.
pub(crate) async fn accept<S: AsyncRead + Unpin>(mut inner: S) -> io::Result<Rewound<S>> {
    let mut first = Vec::with_capacity(1024);
    let mut searched = 0;
    while !first[searched..].windows(4).any(|end| end == b"\r\n\r\n") && first.len() < HEAD {
        // The end of the head may have come in part.
        searched = first.len().saturating_sub(3);
        if inner.read_buf(&mut first).await? == 0 {
            break;
        }
    }
    let completed = complete(&first);
    let replacing = completed.is_some().then_some(Replacing { written: 0 });
    Ok(Rewound { inner, first: completed.unwrap_or(first), read: 0, replacing })
}

/// The request with the header that it lacks; nothing if it lacks none or is no request for a stream.
fn complete(request: &[u8]) -> Option<Vec<u8>> {
    let end = request.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&request[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let path = target.split('?').next().unwrap_or(target);
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let parts =
        if parts.first().is_some_and(|part| part.starts_with('v')) { &parts[1..] } else { &parts[..] };
    let wanted = matches!(parts, ["containers", _, "attach"] | ["exec", _, "start"]);
    let named = |line: &str, name: &str| {
        line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case(name))
    };
    if method != "POST" || !wanted || head.split("\r\n").any(|line| named(line, "upgrade")) {
        return None;
    }
    let mut completed = line.to_owned();
    for line in lines.filter(|line| !named(line, "connection")) {
        completed.push_str("\r\n");
        completed.push_str(line);
    }
    completed.push_str("\r\nConnection: Upgrade\r\nUpgrade: ");
    completed.push_str(COMPLETED);
    let mut completed = completed.into_bytes();
    completed.extend_from_slice(&request[end..]);
    Some(completed)
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.first[this.read..];
        if rest.is_empty() {
            return Pin::new(&mut this.inner).poll_read(context, buffer);
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        this.read += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(replacing) = &mut this.replacing {
            if buffer.starts_with(SWITCHING) {
                while replacing.written < PLAIN.len() {
                    let rest = &PLAIN[replacing.written..];
                    replacing.written += ready!(Pin::new(&mut this.inner).poll_write(context, rest))?;
                }
                this.replacing = None;
                return Poll::Ready(Ok(SWITCHING.len()));
            }
            // Another answer, for instance 404, is as the client expects it; after 100 the answer is still to come.
            if !buffer.starts_with(CONTINUE) {
                this.replacing = None;
            }
        }
        Pin::new(&mut this.inner).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.replacing.is_some() {
            let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
            return self.poll_write(context, first);
        }
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, parts)
    }

    /// Asked once, at the beginning: the status line that is replaced must come in one piece.
    fn is_write_vectored(&self) -> bool {
        self.replacing.is_none() && self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn only_requests_for_streams_without_the_header_are_completed() {
        let head = |line: &str, more: &str| {
            format!("{line} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{more}\r\nbody")
        };
        for (line, more, completed) in [
            ("POST /v1.44/containers/x/attach?stream=1", "", true),
            ("POST /exec/abc/start", "", true),
            ("POST /exec/abc/start", "Upgrade: tcp\r\n", false),
            ("GET /containers/x/attach", "", false),
            ("POST /containers/x/start", "", false),
        ] {
            let found = complete(head(line, more).as_bytes());
            assert_eq!(found.is_some(), completed, "{line}");
            if let Some(found) = found {
                let text = String::from_utf8(found).unwrap();
                assert!(
                    text.contains("Upgrade: tcp, plain\r\n\r\nbody") && !text.contains("close"),
                    "{text}"
                );
            }
        }
        assert!(
            complete(b"POST /exec/a/start HTTP/1.1\r\nHost").is_none(),
            "an unfinished head is left alone"
        );
    }

    #[tokio::test]
    async fn an_old_client_sees_200_and_every_byte_in_order() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(b"POST /exec/a/start HTTP/1.1\r\nHost: d\r\n\r\nearly").await.unwrap();
        let mut rewound = accept(ours).await.unwrap();
        let mut head = vec![0; 200];
        let length = rewound.read(&mut head).await.unwrap();
        assert!(head[..length].ends_with(b"early"));
        rewound.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        rewound.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: tcp\r\n\r\nraw").await.unwrap();
        drop(rewound);
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nupgrade: tcp\r\n\r\nraw");
    }

    #[tokio::test]
    async fn a_stream_begins_when_its_head_was_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"head").await.unwrap();
        let mut waiting = std::pin::pin!(until_read(&ours));
        assert!(tokio::time::timeout(Duration::ZERO, &mut waiting).await.is_err(), "nobody has read it");
        let mut head = [0; 64];
        assert_eq!(theirs.read(&mut head).await.unwrap(), 4);
        tokio::time::timeout(PATIENCE / 2, waiting).await.unwrap();
    }

    #[tokio::test]
    async fn what_came_early_is_read_first() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"GET / HTTP/1.1\r\n\r\nb").await.unwrap();
        let mut rewound = accept(ours).await.unwrap();
        let mut head = [0; 18];
        rewound.read_exact(&mut head).await.unwrap();
        let mut rewound = rewound.preceded_by(&Bytes::from_static(b"a"));
        theirs.write_all(b"c").await.unwrap();
        let mut rest = [0; 3];
        rewound.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"abc");
    }
}
