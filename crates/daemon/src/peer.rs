//! A client's connection, which others than its reader can watch.
//!
//! Between a request and the end of its answer nobody reads: what a client sends meanwhile is its next request. A client
//! that goes in silence would thus be noticed only when something is written to it. Whoever works for a client alone, for
//! instance on a pull whose registry gives nothing, watches for its end here. As for Docker, the end of what a client sends
//! is its end.

use crate::listen::Connection;
use coracle_engine::descriptors;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// Descriptors that are not for streams, which may stay open for ever. An eighth of what a service manager gives.
const RESERVED: u64 = 128;

/// Calls a method of whichever socket it is.
macro_rules! on {
    ($connection:expr, $socket:ident => $call:expr) => {
        match $connection {
            Connection::Unix($socket) => $call,
            Connection::Tcp($socket) => $call,
        }
    };
}

/// The connection, for the one who reads and writes.
#[derive(Debug)]
pub(crate) struct Peer(Arc<Connection>);

/// The same connection, for those who only want to know whether the client is there.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    connection: Arc<Connection>,
    /// Whether what can be read says nothing: over TLS a client takes its leave in bytes that look like all others.
    encrypted: bool,
}

impl Peer {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Arc::new(connection))
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch { connection: Arc::clone(&self.0), encrypted: false }
    }

    /// Whether the process has few descriptors left, told by the number of this one: the kernel gives the lowest that is free.
    pub(crate) fn is_among_the_last(&self) -> bool {
        let number = on!(&*self.0, socket => socket.as_fd().as_raw_fd());
        u64::from(number.cast_unsigned()) >= descriptors::limit().saturating_sub(RESERVED)
    }

    /// A watch for a connection over which TLS is spoken.
    pub(crate) fn watch_encrypted(&self) -> Watch {
        Watch { connection: Arc::clone(&self.0), encrypted: true }
    }
}

impl Deref for Peer {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Watch {
    /// Waits until the client is gone. For ever, if it has sent another request already: that is not read before this one
    /// is answered, and hides the end.
    pub(crate) async fn gone(&self) {
        if self.encrypted {
            // Without a watch of one's own nobody is gone before something is written.
            if self.closed().await.is_err() {
                std::future::pending::<()>().await;
            }
            return;
        }
        loop {
            if on!(&*self.connection, socket => socket.readable().await).is_err() {
                return;
            }
            let peeked =
                on!(&*self.connection, socket => socket.try_io(Interest::READABLE, || peek(socket.as_fd())));
            match peeked {
                Ok(0) => return,
                Ok(_) => return std::future::pending().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Waits until the client can neither send nor be sent anything, which is more than the end of what it sends. Over TCP
    /// the kernel learns that when something is written.
    pub(crate) async fn hung_up(&self) {
        if self.until(Interest::WRITABLE, Ready::is_write_closed).await.is_err() {
            // As above.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the client has closed the connection, whatever it has sent before.
    async fn closed(&self) -> io::Result<()> {
        self.until(Interest::READABLE, Ready::is_read_closed).await
    }

    /// Waits until this is said of the connection. Through a descriptor of its own, so that others are woken as if nobody
    /// watched.
    async fn until(&self, interest: Interest, is_so: impl Fn(Ready) -> bool) -> io::Result<()> {
        let own = match &*self.connection {
            Connection::Unix(socket) => {
                Connection::Unix(UnixStream::from_std(socket.as_fd().try_clone_to_owned()?.into())?)
            }
            Connection::Tcp(socket) => {
                Connection::Tcp(TcpStream::from_std(socket.as_fd().try_clone_to_owned()?.into())?)
            }
        };
        loop {
            if is_so(on!(&own, socket => socket.ready(interest).await)?) {
                return Ok(());
            }
            // What has been said of it so far is known now.
            let known = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
            let _ = on!(&own, socket => socket.try_io(interest, known));
        }
    }
}

/// How much can be read, one byte at most.
fn peek(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let (count, _) = recv(socket, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(count)
}

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(on!(&*self.0, socket => socket.poll_read_ready(context)))?;
            match on!(&*self.0, socket => socket.try_read_buf(&mut *buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(on!(&*self.0, socket => socket.poll_write_ready(context)))?;
            match on!(&*self.0, socket => socket.try_write(bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(on!(&*self.0, socket => socket.poll_write_ready(context)))?;
            match on!(&*self.0, socket => socket.try_write_vectored(parts)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = on!(&*self.0, socket => shutdown(socket, Shutdown::Write));
        Poll::Ready(shut.map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_client_that_only_ends_its_input_has_not_hung_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let watch = Peer::new(Connection::Unix(ours)).watch();
        theirs.write_all(b"input").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert!(watch.hung_up().now_or_never().is_none(), "it reads");
        let hung_up = tokio::spawn(async move { watch.hung_up().await });
        drop(theirs);
        hung_up.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_is_gone_when_it_sends_nothing_more() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(Connection::Unix(ours));
        let watch = peer.watch();
        assert!(watch.gone().now_or_never().is_none(), "it is there");
        theirs.write_all(b"request").await.unwrap();
        let mut request = [0; 7];
        peer.read_exact(&mut request).await.unwrap();
        assert!(watch.gone().now_or_never().is_none(), "it has sent nothing more yet");
        let gone = tokio::spawn(async move { watch.gone().await });
        peer.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        theirs.read_exact(&mut answer).await.unwrap();
        drop(theirs);
        gone.await.unwrap();
        assert_eq!(&answer, b"answer");
    }

    #[tokio::test]
    async fn what_a_client_sends_early_is_not_taken_from_the_reader() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(Connection::Unix(ours));
        theirs.write_all(b"next").await.unwrap();
        drop(theirs);
        assert!(peer.watch().gone().now_or_never().is_none());
        let mut next = Vec::new();
        peer.read_to_end(&mut next).await.unwrap();
        assert_eq!(next, b"next");
        peer.watch().gone().await;
    }

    #[tokio::test]
    async fn over_tls_a_client_is_gone_when_it_closes_although_bytes_wait_to_be_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = Peer::new(Connection::Unix(ours));
        let watch = peer.watch_encrypted();
        theirs.write_all(b"a request").await.unwrap();
        assert!(watch.gone().now_or_never().is_none());
        let gone = tokio::spawn(async move { watch.gone().await });
        theirs.write_all(b"close_notify").await.unwrap();
        drop(theirs);
        gone.await.unwrap();
    }
}
