//! One side of the way between two engines, played by a test: it says what it likes, right or wrong.

use crate::Engine;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How each side begins.
pub const HELLO: &[u8; 16] = b"coracle images\n\x01";

/// Kinds of frames, as `engine/src/images/moving/wire.rs` has them.
pub const OFFER: u8 = 1;
/// The configuration or a manifest.
pub const DOCUMENT: u8 = 2;
/// What is missing.
pub const WANTED: u8 = 3;
/// A piece of a layer.
pub const DATA: u8 = 4;
/// The end of a layer.
pub const WHOLE: u8 = 5;
/// A layer is there.
pub const HERE: u8 = 6;
/// The image is there.
pub const DONE: u8 = 7;
/// One side gives up.
pub const FAILURE: u8 = 8;
/// No more images.
pub const END: u8 = 9;

/// The test's side.
pub struct Peer {
    stream: UnixStream,
    /// What the engine has sent to its other side and is not looked at yet.
    heard: VecDeque<u8>,
    /// Why the engine gave up, by what it tells its own client.
    pub complaint: Option<String>,
    /// Its progress, by what it tells its own client.
    pub progress: String,
    ended: bool,
}

impl Peer {
    /// Opposite an engine that sends or receives: `path` is below `/coracle/images/`.
    pub fn of(engine: &Engine, path: &str) -> Self {
        let mut stream = UnixStream::connect(engine.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!(
            "POST /coracle/images/{path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self { stream, heard: VecDeque::new(), complaint: None, progress: String::new(), ended: false }
    }

    /// The same, with greetings exchanged.
    pub fn greeted(engine: &Engine, path: &str) -> Self {
        let mut peer = Self::of(engine, path);
        peer.write(HELLO);
        assert_eq!(peer.bytes(HELLO.len()).unwrap(), HELLO);
        peer
    }

    /// Sends bytes as they are. An engine that has heard enough need not take them.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame.
    pub fn say(&mut self, kind: u8, content: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        frame.extend(content);
        self.write(&frame);
    }

    /// Sends a piece of a layer in frames.
    pub fn pieces(&mut self, content: &[u8]) {
        for piece in content.chunks(64 << 10) {
            self.say(DATA, piece);
        }
    }

    /// The next frame; nothing when the engine has ended the connection.
    pub fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.bytes(5)?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        Some((head[0], self.bytes(length as usize)?))
    }

    /// The next frame, which must be of this kind, as JSON.
    #[track_caller]
    pub fn expect(&mut self, kind: u8) -> serde_json::Value {
        let (heard, content) = self.hear().unwrap_or_else(|| panic!("the end: {:?}", self.complaint));
        assert_eq!(heard, kind, "{}", String::from_utf8_lossy(&content));
        serde_json::from_slice(&content).unwrap_or_default()
    }

    /// Says that nothing more comes from here.
    pub fn close(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Reads to the end; why the engine gave up, by what it told the other side and its own client.
    pub fn reasons(mut self) -> (Option<String>, Option<String>) {
        let mut told = None;
        while let Some((kind, content)) = self.hear() {
            if kind == FAILURE {
                told = Some(String::from_utf8(content).unwrap());
            }
        }
        (told, self.complaint)
    }

    fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.heard.len() < count {
            if self.ended {
                return None;
            }
            self.more();
        }
        Some(self.heard.drain(..count).collect())
    }

    /// Takes apart what the engine sends to its client.
    fn more(&mut self) {
        let mut head = [0; 8];
        if self.stream.read_exact(&mut head).is_err() {
            self.ended = true;
            return;
        }
        let length = u32::from_be_bytes(head[4..].try_into().unwrap());
        let mut content = vec![0; length as usize];
        self.stream.read_exact(&mut content).unwrap();
        match head[0] {
            1 => self.heard.extend(content),
            2 => self.progress.push_str(&String::from_utf8(content).unwrap()),
            3 => self.complaint = Some(String::from_utf8(content).unwrap()),
            other => panic!("an output of kind {other}"),
        }
    }
}
