//! What is at a path of a container, as the header of `/containers/{id}/archive` has it.

use super::time;
use coracle_api::container as wire;
use coracle_engine::containers::PathStat;

/// Go's `os.FileMode` by the types of stat(2): socket, link, file, block device, directory, character device, FIFO.
const TYPES: [(u32, u32); 7] = [
    (0o14, 1 << 24),
    (0o12, 1 << 27),
    (0o10, 0),
    (0o06, 1 << 26),
    (0o04, 1 << 31),
    (0o02, 1 << 26 | 1 << 21),
    (0o01, 1 << 25),
];
/// The same for setuid, setgid and sticky.
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of the header: base64 of a document.
pub(crate) fn header(stat: &PathStat) -> String {
    let document = wire::PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: time::write(Some(stat.modified)),
        link_target: stat.link_target.clone(),
    };
    base64(&serde_json::to_vec(&document).unwrap_or_default())
}

/// Go's `os.FileMode` of a mode of stat(2).
fn go_mode(mode: u32) -> u32 {
    let kind = TYPES.iter().find(|(bits, _)| *bits == mode >> 12).map_or(0, |(_, go)| *go);
    let special = SPECIAL.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go).sum::<u32>();
    kind | special | (mode & 0o777)
}

/// Standard base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * place) & 63).expect("below 64");
            text.push(if place <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        for (mode, expected) in [
            (0o100_644, 420),
            (0o040_755, 2_147_484_141),
            (0o120_777, 134_218_239),
            (0o010_644, 33_554_852),
            (0o104_755, 0o755 | 1 << 23),
            (0o041_777, 0o777 | 1 << 31 | 1 << 20),
            (0o020_666, 0o666 | 1 << 26 | 1 << 21),
        ] {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }

    #[test]
    fn bytes_are_encoded_as_every_decoder_expects() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob~?", "Zm9vYn4/")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
