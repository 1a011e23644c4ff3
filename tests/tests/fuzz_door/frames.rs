//! HTTP/2 by hand (RFC 9113): a valid request, and frames that are wrong, too many, or without their end.

use super::calls::{PATIENCE, framed};
use coracle_tests::Engine;
use coracle_tests::door::{UPGRADE, fresh, upgrade};
use coracle_tests::mutation::{Random, of_bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Connections of one attack.
const CONNECTIONS: usize = 6;
/// Frames of a flood.
const FLOOD: usize = 3000;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// A field that no table holds (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

fn headers(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "engine"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A request that is whole.
fn request(stream: u32) -> Vec<Vec<u8>> {
    vec![
        frame(HEADERS, 4, stream, &headers("/moby.buildkit.v1.Control/Info")),
        frame(DATA, 1, stream, &framed(&[])),
    ]
}

/// Frames that exhaust something (CVE-2023-44487 and its kind).
fn flood(random: &mut Random) -> Vec<Vec<u8>> {
    let which = random.below(7);
    let one = |number: usize| {
        let stream = u32::try_from(number * 2 + 1).unwrap();
        match which {
            0 => [frame(HEADERS, 4, stream, &headers("/x")), frame(RESET, 0, stream, &[0; 4])].concat(),
            1 => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]),
            2 => frame(PING, 0, 0, &[7; 8]),
            3 => frame(DATA, 0, 1, &[]),
            4 => frame(CONTINUATION, 0, 1, &field("x", "y")),
            5 => frame(WINDOW, 0, 0, &[0, 0, 0, 1]),
            _ => frame(HEADERS, 4, stream, &headers("/moby.buildkit.v1.Control/Status")),
        }
    };
    let first = match which {
        3 => frame(HEADERS, 4, 1, &headers("/moby.buildkit.v1.Control/Info")),
        // Its fields never end.
        4 => frame(HEADERS, 0, 1, &headers("/moby.buildkit.v1.Control/Info")),
        _ => Vec::new(),
    };
    std::iter::once(first).chain((0..FLOOD).map(one)).collect()
}

fn wrong(random: &mut Random) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = (0..4).flat_map(|number| request(number * 2 + 1)).collect();
    for _ in 0..=random.below(4) {
        let at = random.below(frames.len());
        match random.below(5) {
            0 => drop(frames.remove(at)),
            1 => frames.insert(at, frames[at].clone()),
            2 => {
                let other = random.below(frames.len());
                frames.swap(at, other);
            }
            // Its length, kind, flags and stream.
            3 => {
                let place = random.below(9);
                frames[at].iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << random.below(8));
            }
            _ => frames[at] = of_bytes(&frames[at], random),
        }
        if frames.is_empty() {
            break;
        }
    }
    frames
}

/// Some connections, each with its own nonsense.
pub(crate) async fn attack(engine: &Engine, random: &mut Random) {
    for _ in 0..CONNECTIONS {
        let frames = if random.once_in(3) { flood(random) } else { wrong(random) };
        let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat();
        let session = fresh("session");
        let mut head = UPGRADE.to_vec();
        // The same bytes go to the door where the engine is the client.
        let path = if random.once_in(3) { "/session" } else { "/grpc" };
        head.push((coracle_buildkit::HEADER_ID, &session));
        let (status, stream) = upgrade(engine, path, &head).await;
        assert_eq!(status, 101, "{path} is open");
        let (mut reading, mut writing) = stream.into_split();
        let is_read = !random.once_in(4);
        let talking = async {
            let writing = async {
                // Whoever is thrown out has been understood.
                let _ = writing.write_all(&bytes).await;
            };
            let listening = async {
                let mut answer = Vec::new();
                while is_read && matches!(reading.read_buf(&mut answer).await, Ok(1..)) {
                    answer.clear();
                }
            };
            futures_util::future::join(writing, listening).await;
        };
        let _ = tokio::time::timeout(PATIENCE, talking).await;
    }
}
