//! A connection within a call: newer clients open their sessions so (`Control.Session`), instead of by `POST /session`.
//!
//! Messages are pieces of the connection's bytes, both ways. Where one ends means nothing.

use crate::limits;
use crate::proto::moby::buildkit::v1::BytesMessage;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tonic::Status;

/// Lets `serve` have the connection that comes as `incoming`; what it writes is the stream, and why it failed the last of that. The
/// stream ends when `serve` has. When it is dropped, `serve` is: nothing goes on that nobody polls.
pub fn tunnel<S, F>(
    incoming: impl Stream<Item = Result<BytesMessage, Status>> + Send + 'static,
    serve: S,
) -> impl Stream<Item = Result<BytesMessage, Status>> + Send + 'static
where
    S: FnOnce(DuplexStream) -> F,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(limits::TUNNEL);
    let (from, to) = tokio::io::split(far);
    let served = serve(near);
    let (failed, failure) = oneshot::channel();
    let work = async {
        let fed = async {
            feed(incoming, to).await;
            // Now it is at `serve` to end.
            std::future::pending().await
        };
        let served = tokio::select! {
            served = served => served,
            never = fed => never,
        };
        if let Err(failure) = served {
            // Its receiver is in the stream of which this is a part.
            let _ = failed.send(failure);
        }
    };
    let work = stream::once(work).filter_map(async |()| None);
    // A call is over with its failure: what was written before is not to be lost.
    let failure = stream::once(failure).filter_map(async |failure| failure.ok().map(Err));
    stream::select(pieces(from), work).chain(failure)
}

/// Writes what comes, to its end or until nobody reads it.
async fn feed(
    incoming: impl Stream<Item = Result<BytesMessage, Status>> + Send,
    mut to: WriteHalf<DuplexStream>,
) {
    let mut incoming = std::pin::pin!(incoming);
    while let Some(Ok(message)) = incoming.next().await {
        if to.write_all(&message.data).await.is_err() {
            return;
        }
    }
    // Who has gone needs no end.
    let _ = to.shutdown().await;
}

/// What is written at the other end.
fn pieces(from: ReadHalf<DuplexStream>) -> impl Stream<Item = Result<BytesMessage, Status>> + Send {
    stream::unfold((from, vec![0; limits::TUNNEL_PIECE]), |(mut from, mut buffer)| async move {
        match from.read(&mut buffer).await {
            Ok(length @ 1..) => Some((Ok(BytesMessage { data: buffer[..length].to_vec() }), (from, buffer))),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TUNNEL_PIECE as PIECE;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    fn message(data: &[u8]) -> BytesMessage {
        BytesMessage { data: data.to_vec() }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_ends_are_told() {
        let long = vec![7; 3 * PIECE];
        let incoming = stream::iter([Ok(message(b"a")), Ok(message(b"")), Ok(message(&long))]);
        let echoed = tunnel(incoming, |mut io| async move {
            let mut all = Vec::new();
            io.read_to_end(&mut all).await.unwrap();
            io.write_all(&all).await.unwrap();
            Err(Status::unknown("the last word"))
        });
        let all: Vec<_> = echoed.collect().await;
        let (bytes, words): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        let bytes: Vec<u8> = bytes.into_iter().flat_map(|piece| piece.unwrap().data).collect();
        assert_eq!(bytes, [b"a".as_slice(), &long].concat());
        assert_eq!(words[0].as_ref().unwrap_err().message(), "the last word");
    }

    #[tokio::test]
    async fn a_failure_comes_after_everything_that_was_written() {
        let told = tunnel(stream::pending(), |mut io| async move {
            io.write_all(&[7; 3 * PIECE]).await.unwrap();
            Err(Status::unknown("the last word"))
        });
        let all: Vec<_> = told.collect().await;
        let (last, before) = all.split_last().unwrap();
        assert_eq!(last.as_ref().err().map(Status::message), Some("the last word"));
        let length: usize = before.iter().map(|piece| piece.as_ref().unwrap().data.len()).sum();
        assert_eq!(length, 3 * PIECE);
    }

    #[tokio::test]
    async fn whoever_is_served_can_end_it() {
        let (sender, incoming) = mpsc::channel(1);
        sender.send(Ok(message(b"more than is wanted"))).await.unwrap();
        let stream = tunnel(ReceiverStream::new(incoming), |mut io| async move {
            io.read_exact(&mut [0; 4]).await.unwrap();
            Ok(())
        });
        assert_eq!(stream.count().await, 0);
        assert!(sender.is_closed());
    }
}
