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

/// The value of the header: base64 of a document.
pub(crate) fn header(stat: &PathStat) -> String {
    let document = wire::PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: time::write(Some(stat.modified)),
        link_target: stat.link_target.clone(),
    };
    coracle_api::base64::encode(&serde_json::to_vec(&document).unwrap_or_default())
}

/// Go's `os.FileMode` of a mode of stat(2).
pub(crate) fn go_mode(mode: u32) -> u32 {
    let kind = TYPES.iter().find(|(bits, _)| *bits == mode >> 12).map_or(0, |(_, go)| *go);
    let special = SPECIAL.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go).sum::<u32>();
    kind | special | (mode & 0o777)
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
}
