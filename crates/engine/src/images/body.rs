//! Bytes between an async connection and a blocking thread, a few chunks at a time.
//!
//! A stream that ends without [`BodySender::finish`], because its client went or failed, ends with an error on the other
//! side: half an archive is never taken for a whole one.
//!
//! Whoever waits for the thread can lose patience ([`Patience`]): from then on, a client that does nothing is given up.

use crate::limits::{BODY_CHUNK, BODY_CHUNKS};
use bytes::Bytes;
use std::io::{self, Read, Write};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// The async end of what a blocking thread reads.
#[derive(Debug)]
pub struct BodySender(mpsc::Sender<io::Result<Option<Bytes>>>);

/// What a blocking thread reads from.
#[derive(Debug)]
pub struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Option<Bytes>>>,
    current: Bytes,
    ended: bool,
    patience: Option<Patience>,
}

/// Says when nobody waits any longer for a client that does nothing. Without its other end it never does.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    lost: watch::Receiver<bool>,
    stall: Duration,
}

impl Patience {
    /// A new one, and what ends it when `true` is sent: then a client may do nothing for `stall`.
    pub(crate) fn new(stall: Duration) -> (watch::Sender<bool>, Self) {
        let (sender, lost) = watch::channel(false);
        (sender, Self { lost, stall })
    }

    /// Returns once patience is lost and the time has gone by since, or since the call.
    async fn lost(&mut self) {
        if self.lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.stall).await;
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client did nothing while the container waited to start")
}

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads any more")]
pub struct Closed;

impl BodyReader {
    /// A new pair of ends.
    pub fn channel() -> (BodySender, Self) {
        let (sender, chunks) = mpsc::channel(BODY_CHUNKS);
        (BodySender(sender), Self { chunks, current: Bytes::new(), ended: false, patience: None })
    }

    /// Gives the client up when patience is lost. To be read on a thread of the runtime then.
    pub(crate) fn with_patience(self, patience: Option<Patience>) -> Self {
        Self { patience, ..self }
    }

    fn receive(&mut self) -> Option<io::Result<Option<Bytes>>> {
        let Some(patience) = &mut self.patience else { return self.chunks.blocking_recv() };
        Handle::current().block_on(async {
            tokio::select! {
                biased;
                chunk = self.chunks.recv() => chunk,
                () = patience.lost() => Some(Err(given_up())),
            }
        })
    }
}

impl BodySender {
    /// Hands on some bytes, once there is room.
    ///
    /// # Errors
    /// [`Closed`] when the reader has failed or needs no more.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Closed> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.send(Ok(Some(bytes))).await.map_err(|_| Closed)
    }

    /// Says that this was all.
    pub async fn finish(self) {
        // A reader that needs no more need not know.
        let _ = self.0.send(Ok(None)).await;
    }

    /// Says why there is no more.
    pub async fn fail(self, error: io::Error) {
        // As above.
        let _ = self.0.send(Err(error)).await;
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.current.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.receive() {
                Some(Ok(Some(bytes))) => self.current = bytes,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client ended the stream"));
                }
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// What a blocking thread writes into; the other end is async.
#[derive(Debug)]
pub struct BodyWriter {
    chunks: mpsc::Sender<Bytes>,
    gathered: Vec<u8>,
    patience: Option<Patience>,
}

impl BodyWriter {
    /// A new pair of ends. The receiver ends when the writer is dropped; whether it was whole is what the writing call
    /// returns.
    pub fn channel() -> (Self, mpsc::Receiver<Bytes>) {
        let (chunks, receiver) = mpsc::channel(BODY_CHUNKS);
        (Self { chunks, gathered: Vec::new(), patience: None }, receiver)
    }

    /// Gives the client up when patience is lost. To be written on a thread of the runtime then.
    pub(crate) fn with_patience(self, patience: Option<Patience>) -> Self {
        Self { patience, ..self }
    }

    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let closed = |_| io::ErrorKind::BrokenPipe.into();
        let Some(patience) = &mut self.patience else {
            return self.chunks.blocking_send(bytes).map_err(closed);
        };
        Handle::current().block_on(async {
            tokio::select! {
                biased;
                sent = self.chunks.send(bytes) => sent.map_err(closed),
                () = patience.lost() => Err(given_up()),
            }
        })
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= BODY_CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.send(gathered.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(reader: BodyReader) -> io::Result<Vec<u8>> {
        let mut reader = reader;
        let reading = tokio::task::spawn_blocking(move || {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map(|_| content)
        });
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn only_a_finished_stream_ends_well() {
        let (sender, reader) = BodyReader::channel();
        let reading = tokio::spawn(read(reader));
        for _ in 0..100 {
            sender.send(Bytes::from_static(b"0123456789")).await.unwrap();
        }
        sender.send(Bytes::new()).await.unwrap();
        sender.finish().await;
        assert_eq!(reading.await.unwrap().unwrap(), b"0123456789".repeat(100));

        let (sender, reader) = BodyReader::channel();
        sender.send(Bytes::from_static(b"half")).await.unwrap();
        drop(sender);
        assert_eq!(read(reader).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let (sender, reader) = BodyReader::channel();
        sender.fail(io::ErrorKind::ConnectionReset.into()).await;
        assert_eq!(read(reader).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (sender, reader) = BodyReader::channel();
        drop(reader);
        assert_eq!(sender.send(Bytes::from_static(b"x")).await, Err(Closed));
    }

    #[tokio::test]
    async fn a_client_that_does_nothing_is_given_up_once_patience_is_lost() {
        let (lose, patience) = Patience::new(Duration::from_millis(30));
        let (sender, reader) = BodyReader::channel();
        let reading = tokio::spawn(read(reader.with_patience(Some(patience.clone()))));
        sender.send(Bytes::from_static(b"something")).await.unwrap();
        let (writer, mut receiver) = BodyWriter::channel();
        let mut writer = writer.with_patience(Some(patience));
        let writing =
            tokio::task::spawn_blocking(move || (0..20).try_for_each(|_| writer.write_all(&[0; BODY_CHUNK])));
        assert!(receiver.recv().await.is_some());
        assert!(!reading.is_finished() && !writing.is_finished());
        lose.send(true).unwrap();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_is_written_arrives_and_a_closed_end_is_a_broken_pipe() {
        let (mut writer, mut receiver) = BodyWriter::channel();
        let writing = tokio::task::spawn_blocking(move || {
            for _ in 0..1000 {
                writer.write_all(&[7; 1000])?;
            }
            writer.flush()
        });
        let mut count = 0;
        while let Some(bytes) = receiver.recv().await {
            count += bytes.len();
        }
        writing.await.unwrap().unwrap();
        assert_eq!(count, 1_000_000);

        let (mut writer, receiver) = BodyWriter::channel();
        drop(receiver);
        let error = tokio::task::spawn_blocking(move || writer.write_all(&[0; 2 * BODY_CHUNK]))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
