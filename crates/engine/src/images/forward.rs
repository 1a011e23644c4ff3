//! What a host sends goes on to the thread that stores it.

use super::BodySender;
use crate::limits::TOLD_EVERY;
use bytes::Bytes;
use coracle_registry::{BlobStream, Fetched, Result};
use std::time::Instant;

/// Something that comes piece by piece.
pub(super) trait Incoming {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

impl Incoming for BlobStream {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        BlobStream::next(self).await
    }
}

impl Incoming for Fetched {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Fetched::next(self).await
    }
}

/// Hands on what comes, telling now and then how many bytes that were. Whether it came to its end; if not, whoever reads it
/// needs no more, and says why.
///
/// # Errors
/// What kept the rest from coming. The reader hears that something did.
pub(super) async fn forward<T: Future<Output = ()>>(
    incoming: &mut impl Incoming,
    sender: BodySender,
    mut tell: impl FnMut(u64) -> T,
) -> Result<bool> {
    let (mut done, mut last) = (0, Instant::now());
    loop {
        let bytes = match incoming.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                sender.finish().await;
                return Ok(true);
            }
            Err(error) => {
                sender.fail(std::io::ErrorKind::UnexpectedEof.into()).await;
                return Err(error);
            }
        };
        done += bytes.len() as u64;
        if sender.send(bytes).await.is_err() {
            return Ok(false);
        }
        if last.elapsed() >= TOLD_EVERY {
            last = Instant::now();
            tell(done).await;
        }
    }
}
