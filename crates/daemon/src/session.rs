//! A client attached to a process: bytes both ways until the process ends or the client detaches.

use crate::peer::Watch;
use coracle_engine::containers::Attached;
use coracle_engine::logs::Stream;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is read at once at first, in bytes. Many clients wait in silence, and hold no more than this.
const FIRST: usize = 512;
/// What is read at once of those who have much to say, in bytes.
const BUFFER: usize = 32 * 1024;

/// The keys that detach a client, as bytes; none if the sequence is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q`, letters, or a mixture; the default for nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(vec![16, 17]));
        }
        text.split(',')
            .map(|key| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
                (Some(key), _) => match key.as_bytes() {
                    [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                    b"@" => Some(0),
                    b"[" => Some(27),
                    b"\\" => Some(28),
                    b"]" => Some(29),
                    b"^" => Some(30),
                    b"_" => Some(31),
                    _ => None,
                },
                (None, [byte]) => Some(*byte),
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
            .map(Self)
    }
}

/// Looks for the detach keys in a client's input, across pieces.
struct Watcher {
    keys: Vec<u8>,
    matched: usize,
}

impl Watcher {
    /// What of `input` is for the process, and whether the keys were completed.
    fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut output = Vec::with_capacity(input.len());
        for byte in input {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (output, true);
                }
            } else {
                // What was held back was no beginning of the keys.
                output.extend_from_slice(&self.keys[..std::mem::take(&mut self.matched)]);
                if self.keys.first() == Some(byte) {
                    self.matched = 1;
                } else {
                    output.push(*byte);
                }
            }
        }
        (output, false)
    }
}

/// Copies both ways until the output ends and `ended` is over, or the client is gone or detaches. A client that sees the
/// end of the stream asks for the exit code next, so that must be known by then. What a terminal shows goes into frames
/// where the client, which did not say that there is one, expects them. Answers whether the client detached.
pub(crate) async fn run(
    client: impl AsyncRead + AsyncWrite + Send,
    attached: Attached,
    expects_frames: bool,
    keys: DetachKeys,
    ended: impl Future<Output = ()>,
    watch: &Watch,
) -> bool {
    let watcher = attached.tty.then_some(Watcher { keys: keys.0, matched: 0 }).filter(|w| !w.keys.is_empty());
    let (from_client, to_client) = tokio::io::split(client);
    let (from_process, to_process) = attached.stream.into_split();
    let output = copy_output(from_process, to_client, attached.tty && expects_frames, ended);
    let input = copy_input(from_client, to_process, watcher, watch);
    tokio::pin!(output, input);
    tokio::select! {
        // The process goes on either way.
        _ = &mut output => false,
        detached = &mut input => match detached {
            // The input has ended; the output goes on, which may be in silence.
            Ok(false) => {
                tokio::select! {
                    _ = output => {}
                    () = watch.hung_up() => {}
                }
                false
            }
            detached => detached.is_ok(),
        }
    }
}

async fn copy_output(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    framed: bool,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut buffer = vec![0; FIRST];
    let mut frame = Vec::new();
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            ended.await;
            return to.shutdown().await;
        }
        if framed {
            frame.clear();
            crate::routes::frame(&mut frame, Stream::Stdout, &buffer[..length], false);
            to.write_all(&frame).await?;
        } else {
            to.write_all(&buffer[..length]).await?;
        }
        to.flush().await?;
        grow(&mut buffer, length);
    }
}

/// Makes room for more where all of it was needed.
fn grow(buffer: &mut Vec<u8>, used: usize) {
    if used == buffer.len() && used < BUFFER {
        buffer.resize(used * 8, 0);
    }
}

/// Copies a client's input. Answers whether the client detached; the end of its input is passed on. A process that takes
/// no more input may still have output to deliver, so what it does not take is dropped, and no failure.
async fn copy_input(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut watcher: Option<Watcher>,
    watch: &Watch,
) -> io::Result<bool> {
    let mut buffer = vec![0; FIRST];
    let mut taken = true;
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            // A process that has ended cannot be told, and need not be.
            let _ = to.shutdown().await;
            return Ok(false);
        }
        let input = &buffer[..length];
        let (input, detached) = match &mut watcher {
            Some(watcher) => watcher.filter(input),
            None => (input.to_vec(), false),
        };
        if taken {
            tokio::select! {
                biased;
                result = to.write_all(&input) => taken = result.is_ok(),
                // A process may take its time, and its client not wait.
                () = watch.hung_up() => return Ok(false),
            }
        }
        if detached {
            return Ok(true);
        }
        grow(&mut buffer, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Connection;
    use crate::peer::Peer;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        for (text, keys) in [
            ("", Some(vec![16, 17])),
            ("ctrl-a,x", Some(vec![1, b'x'])),
            ("ctrl-]", Some(vec![29])),
            ("ctrl-1", None),
            ("ab", None),
        ] {
            assert_eq!(DetachKeys::parse(text).map(|keys| keys.0), keys, "{text}");
        }
    }

    #[test]
    fn the_keys_detach_across_pieces_and_a_false_start_is_passed_on() {
        let mut watcher = Watcher { keys: vec![16, 17], matched: 0 };
        assert_eq!(watcher.filter(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(watcher.filter(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(watcher.filter(b"\x10\x10c"), (b"\x10\x10c".to_vec(), false));
        assert_eq!(watcher.filter(b"\x10"), (b"".to_vec(), false));
        assert_eq!(watcher.filter(b"\x11more"), (b"".to_vec(), true));
    }

    #[tokio::test]
    async fn output_is_delivered_when_the_process_no_longer_takes_input() {
        // Which direction is looked at first is random, so one turn shows little.
        for _ in 0..64 {
            let (stream, mut process) = tokio::net::UnixStream::pair().unwrap();
            let (client, mut theirs) = tokio::io::duplex(1024);
            let (connection, _client) = tokio::net::UnixStream::pair().unwrap();
            let peer = Peer::new(Connection::Unix(connection));
            process.write_all(b"last words").await.unwrap();
            drop(process);
            theirs.write_all(b"typed too late").await.unwrap();
            let attached = Attached::to(stream, true, true);
            let keys = DetachKeys::parse("").unwrap();
            run(client, attached, false, keys, std::future::ready(()), &peer.watch()).await;
            let mut shown = String::new();
            theirs.read_to_string(&mut shown).await.unwrap();
            assert_eq!(shown, "last words");
        }
    }
}
