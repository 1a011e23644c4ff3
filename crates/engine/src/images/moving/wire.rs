//! The frames between a sender and a receiver: a byte for the kind, four for the length, most significant first, and the
//! content. Both sides begin with [`HELLO`], so that neither takes the greeting of a login shell for a frame.

use super::offer::{Done, Offer, Wanted};
use super::{broken, other_side};
use crate::error::{Attempt, Error, Result};
use crate::limits::{MOVED_CHUNK, MOVING_STALL, OFFER, PIECE_STALL, SAID};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How each side begins. The last byte is the version of everything that follows.
const HELLO: [u8; 16] = *b"coracle images\n\x01";

/// What goes from one side to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The sender offers an image; its documents follow.
    Offer(Offer),
    /// The configuration or a manifest.
    Document(Bytes),
    /// The receiver lacks these layers. Nothing: it has all.
    Wanted(Vec<Wanted>),
    /// A piece of the first wanted layer that is not whole.
    Data(Bytes),
    /// The layer has all its pieces.
    Whole,
    /// The receiver has unpacked and verified this layer.
    Here(usize),
    /// The receiver has the image.
    Done(Done),
    /// One side gives up, and says why.
    Failure(String),
    /// The sender has no more images.
    End,
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Offer(_) => 1,
            Self::Document(_) => 2,
            Self::Wanted(_) => 3,
            Self::Data(_) => 4,
            Self::Whole => 5,
            Self::Here(_) => 6,
            Self::Done(_) => 7,
            Self::Failure(_) => 8,
            Self::End => 9,
        }
    }

    /// What it is, without what is in it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Offer(_) => "an offer",
            Self::Document(_) => "a document",
            Self::Wanted(_) => "a wish",
            Self::Data(_) => "a piece of a layer",
            Self::Whole => "the end of a layer",
            Self::Here(_) => "a layer's arrival",
            Self::Done(_) => "an image's arrival",
            Self::Failure(_) => "a failure",
            Self::End => "the end of everything",
        }
    }

    fn content(self) -> Bytes {
        match self {
            Self::Offer(offer) => json(&offer),
            Self::Document(content) | Self::Data(content) => content,
            Self::Wanted(wanted) => json(&wanted),
            Self::Here(layer) => json(&layer),
            Self::Done(done) => json(&done),
            Self::Failure(text) => shortened(text).into(),
            Self::Whole | Self::End => Bytes::new(),
        }
    }

    /// Most bytes of a frame of this kind; `None` for what is none.
    fn limit(kind: u8) -> Option<usize> {
        match kind {
            1 | 3 | 7 => Some(OFFER),
            2 => Some(coracle_spec::limits::CONFIG),
            4 => Some(MOVED_CHUNK),
            5 | 9 => Some(0),
            6 => Some(16),
            8 => Some(SAID),
            _ => None,
        }
    }

    fn read(kind: u8, content: Bytes) -> Result<Self> {
        Ok(match kind {
            1 => Self::Offer(parsed(&content)?),
            2 => Self::Document(content),
            3 => Self::Wanted(parsed(&content)?),
            4 => Self::Data(content),
            5 => Self::Whole,
            6 => Self::Here(parsed(&content)?),
            7 => Self::Done(parsed(&content)?),
            8 => Self::Failure(said(&content)),
            _ => Self::End,
        })
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data").into()
}

fn parsed<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    serde_json::from_slice(content).map_err(broken)
}

/// Foreign text as one that a terminal can bear.
fn said(content: &[u8]) -> String {
    String::from_utf8_lossy(content).chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn shortened(mut text: String) -> String {
    let end = (0..=SAID.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}

/// One side's end of the pipe.
#[derive(Debug)]
pub(super) struct Wire<R, W> {
    pub(super) incoming: Incoming<R>,
    pub(super) outgoing: Outgoing<W>,
}

/// What comes.
#[derive(Debug)]
pub(super) struct Incoming<R> {
    reader: R,
    /// How long nothing may come; `None` for ever.
    stall: Option<Duration>,
    /// How long, where the other side has nothing to do first.
    stall_at_hand: Duration,
}

/// What goes.
#[derive(Debug)]
pub(super) struct Outgoing<W> {
    writer: W,
    stall: Duration,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Wire<R, W> {
    /// Greets the other side and waits for its greeting.
    pub(super) async fn open(reader: R, writer: W) -> Result<Self> {
        Self::open_patiently(reader, writer, MOVING_STALL).await
    }

    /// As [`Wire::open`], giving up when the other side does nothing for `stall`.
    pub(super) async fn open_patiently(reader: R, writer: W, stall: Duration) -> Result<Self> {
        let incoming = Incoming { reader, stall: Some(stall), stall_at_hand: stall.min(PIECE_STALL) };
        let mut wire = Self { incoming, outgoing: Outgoing { writer, stall } };
        wire.outgoing.write(&HELLO).await?;
        wire.outgoing.flush().await?;
        let mut hello = [0; HELLO.len()];
        wire.incoming.read(&mut hello).await?;
        let (name, version) = (HELLO.len() - 1, usize::from(hello[HELLO.len() - 1]));
        if hello[..name] != HELLO[..name] {
            let text = said(&hello);
            return Err(Error::Invalid(format!(
                "the other side does not answer as `coracle image receive` does, but with {text:?}: \
                 its login shell must print nothing where no terminal is"
            )));
        }
        if hello != HELLO {
            return Err(Error::Unsupported(format!(
                "the other side speaks version {version} of the protocol, and this one {}: update the older",
                HELLO[name]
            )));
        }
        Ok(wire)
    }
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// For whoever may wait long for a reason of his own.
    pub(super) fn without_stall(self) -> Self {
        Self { stall: None, ..self }
    }

    /// The next frame, for which the other side has nothing to do first.
    pub(super) async fn next_at_hand(&mut self) -> Result<Frame> {
        let stall = self.stall.replace(self.stall_at_hand);
        let next = self.next().await;
        self.stall = stall;
        next
    }

    /// The next frame. A failure that the other side tells of is one.
    pub(super) async fn next(&mut self) -> Result<Frame> {
        let mut head = [0; 5];
        self.read(&mut head).await?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        let limit = Frame::limit(kind).ok_or_else(|| broken(format!("there is no frame of kind {kind}")))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > limit {
            return Err(broken(format!("a frame of kind {kind} has {length} bytes")));
        }
        let mut content = vec![0; length];
        self.read(&mut content).await?;
        match Frame::read(kind, content.into())? {
            Frame::Failure(text) => Err(other_side(&text)),
            frame => Ok(frame),
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        // Each piece anew: who is slow is not silent.
        let mut filled = 0;
        while filled < buffer.len() {
            let reading = self.reader.read(&mut buffer[filled..]);
            let read = match self.stall {
                Some(stall) => tokio::time::timeout(stall, reading).await.map_err(|_| silent(stall))?,
                None => reading.await,
            };
            match read {
                Ok(0) => return Err(ended()),
                Ok(count) => filled += count,
                Err(error) => return Err(error).attempt(|| "read what the other side sends".to_owned()),
            }
        }
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Sends a frame, which may wait for [`Outgoing::flush`].
    pub(super) async fn send(&mut self, frame: Frame) -> Result<()> {
        let kind = frame.kind();
        let content = frame.content();
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let mut head = [kind, 0, 0, 0, 0];
        head[1..].copy_from_slice(&length.to_be_bytes());
        self.write(&head).await?;
        self.write(&content).await
    }

    pub(super) async fn flush(&mut self) -> Result<()> {
        let flushed = tokio::time::timeout(self.stall, self.writer.flush()).await;
        flushed.map_err(|_| silent(self.stall))?.map_err(|_| ended())
    }

    /// Sends a frame at once.
    pub(super) async fn say(&mut self, frame: Frame) -> Result<()> {
        self.send(frame).await?;
        self.flush().await
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let written = tokio::time::timeout(self.stall, self.writer.write(bytes)).await;
            match written.map_err(|_| silent(self.stall))? {
                Ok(0) | Err(_) => return Err(ended()),
                Ok(count) => bytes = &bytes[count..],
            }
        }
        Ok(())
    }
}

pub(super) fn silent(stall: Duration) -> Error {
    Error::Missing(format!("the other side did nothing for {} seconds", stall.as_secs()))
}

fn ended() -> Error {
    Error::Missing("the connection to the other side ended early".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_spec::Digest;

    /// What a side makes of these bytes behind a right greeting.
    async fn heard(bytes: &[u8]) -> Result<Frame> {
        let all = [&HELLO[..], bytes].concat();
        let mut wire = Wire::open(all.as_slice(), tokio::io::sink()).await?;
        wire.incoming.next().await
    }

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent() {
        let done = Done { moved: vec![("app:v1".to_owned(), Digest::of(b"x"))], beside: true };
        for frame in [
            Frame::Document("{}".into()),
            Frame::Wanted(vec![Wanted { layer: 1, offset: 1 << 40 }]),
            Frame::Data(vec![7; MOVED_CHUNK].into()),
            Frame::Whole,
            Frame::Here(499),
            Frame::Done(done),
            Frame::End,
        ] {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let ((reader, writer), (their_reader, their_writer)) =
                (tokio::io::split(ours), tokio::io::split(theirs));
            let (ours, theirs) =
                tokio::join!(Wire::open(reader, writer), Wire::open(their_reader, their_writer));
            ours.unwrap().outgoing.say(frame.clone()).await.unwrap();
            assert_eq!(theirs.unwrap().incoming.next().await.unwrap(), frame);
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused_before_it_is_read() {
        for (bytes, words) in [
            (&[0, 0, 0, 0, 0][..], "no frame of kind 0"),
            (&[10, 0, 0, 0, 0], "no frame of kind 10"),
            (&[4, 0xff, 0xff, 0xff, 0xff], "4294967295 bytes"),
            (&[5, 0, 0, 0, 1], "kind 5 has 1 bytes"),
            (&[3, 0, 0, 0, 2, b'{', b'}'], "protocol"),
            (&[6, 0, 0, 0, 2, b'-', b'1'], "protocol"),
            (&[4, 0, 0, 0, 5, 1], "ended early"),
            (&[4, 0], "ended early"),
            (&[8, 0, 0, 0, 3, b'n', 27, b'o'], "the other side: n o"),
        ] {
            let error = heard(bytes).await.unwrap_err();
            assert!(error.to_string().contains(words), "{bytes:?}: {error}");
        }
    }

    #[tokio::test]
    async fn another_greeting_is_told_from_another_version() {
        for (greeting, words) in [
            (&b"Welcome to host!\r\n"[..], "Welcome to host!"),
            (b"coracle images\n\x02", "version 2"),
            (b"coracle", "ended early"),
        ] {
            let error = Wire::open(greeting, tokio::io::sink()).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn a_side_that_neither_reads_nor_writes_is_given_up() {
        let stall = Duration::from_millis(30);
        let (ours, theirs) = tokio::io::duplex(64);
        let (reader, writer) = tokio::io::split(ours);
        let error = Wire::open_patiently(reader, writer, stall).await.unwrap_err();
        assert!(error.to_string().contains("did nothing"), "{error}");
        drop(theirs);
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(&HELLO).await.unwrap();
        let (reader, writer) = tokio::io::split(ours);
        let mut wire = Wire::open_patiently(reader, writer, stall).await.unwrap();
        let error = wire.outgoing.say(Frame::Data(vec![0; 1024].into())).await.unwrap_err();
        assert!(error.to_string().contains("did nothing"), "{error}");
        // Also where it had long for something else.
        wire.incoming.stall = Some(MOVING_STALL);
        let error = wire.incoming.next_at_hand().await.unwrap_err();
        assert!(error.to_string().contains("did nothing"), "{error}");
        assert_eq!(wire.incoming.stall, Some(MOVING_STALL));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_a_frame_or_a_short_complaint(
            kind in 0_u8..12,
            length in proptest::prelude::prop_oneof![0_u32..64, proptest::prelude::any::<u32>()],
            content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let bytes = [&[kind][..], &length.to_be_bytes(), &content].concat();
            match runtime.block_on(heard(&bytes)) {
                Ok(frame) => proptest::prop_assert_eq!(frame.kind(), kind),
                Err(error) => {
                    let text = error.to_string();
                    proptest::prop_assert!(text.len() < 300 && !text.contains(char::is_control), "{}", text);
                }
            }
        }
    }

    #[test]
    fn a_long_complaint_is_cut_between_letters() {
        let text = shortened("é".repeat(SAID));
        assert!(text.len() <= SAID && text.len() >= SAID - 1);
    }
}
