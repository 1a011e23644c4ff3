//! Whose files are inside of a user namespace and outside of it, user_namespaces(7).

use serde::{Deserialize, Serialize};

/// Who the kernel shows where nobody inside of a user namespace is the owner.
pub const NOBODY: u32 = 65_534;

/// A run of ids, as `/proc/PID/uid_map` and the OCI configuration have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first of them inside of the namespace.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The same outside of it.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many there are.
    pub size: u32,
}

impl IdMapping {
    fn outside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container_id).filter(|offset| *offset < self.size)?;
        self.host_id.checked_add(offset)
    }

    fn inside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.host_id).filter(|offset| *offset < self.size)?;
        self.container_id.checked_add(offset)
    }
}

/// All ids of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

impl Owners {
    /// Parses what `/proc/PID/uid_map` and `/proc/PID/gid_map` say. Nothing for text that is none of theirs.
    pub fn parse(uids: &str, gids: &str) -> Option<Self> {
        Some(Self { uids: parse(uids)?, gids: parse(gids)? })
    }

    /// Whether everybody is inside who they are outside, as in the host's own namespace.
    pub fn are_the_hosts(&self) -> bool {
        let everybody = [IdMapping { container_id: 0, host_id: 0, size: u32::MAX }];
        self.uids == everybody && self.gids == everybody
    }

    /// Who a user and a group of the namespace are outside of it; nothing for who is nobody there.
    pub fn outside(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        let one = |mappings: &[IdMapping], id| mappings.iter().find_map(|mapping| mapping.outside(id));
        Some((one(&self.uids, uid)?, one(&self.gids, gid)?))
    }

    /// Who a user and a group are inside, [`NOBODY`] where they are nobody there.
    pub fn inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let one = |mappings: &[IdMapping], id| {
            mappings.iter().find_map(|mapping| mapping.inside(id)).unwrap_or(NOBODY)
        };
        (one(&self.uids, uid), one(&self.gids, gid))
    }
}

/// As the kernel takes it in `/proc/PID/uid_map`.
pub fn map_text(mappings: &[IdMapping]) -> String {
    let lines = mappings.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size));
    lines.collect()
}

fn parse(text: &str) -> Option<Vec<IdMapping>> {
    let line = |line: &str| {
        let numbers: Vec<u32> =
            line.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let [container_id, host_id, size] = numbers[..] else { return None };
        Some(IdMapping { container_id, host_id, size })
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_in_every_run_and_nobody_else_is() {
        let owners =
            Owners::parse("0 100000 1000\n1000 500000 10\n", "         0      70000      65536\n").unwrap();
        for (inside, outside) in
            [((0, 0), (100_000, 70_000)), ((999, 5), (100_999, 70_005)), ((1003, 65_535), (500_003, 135_535))]
        {
            assert_eq!(owners.outside(inside), Some(outside));
            assert_eq!(owners.inside(outside), inside);
        }
        assert_eq!(owners.outside((1010, 0)), None);
        assert_eq!(owners.outside((0, 65_536)), None);
        assert_eq!(owners.inside((0, 0)), (NOBODY, NOBODY));
        assert!(!owners.are_the_hosts());
        assert!(Owners::parse("0 0 4294967295\n", "0 0 4294967295\n").unwrap().are_the_hosts());
        for text in ["0 1", "0 1 x", "0 1 2 3", "-1 0 1"] {
            assert_eq!(Owners::parse(text, ""), None, "{text}");
        }
        assert_eq!(map_text(&owners.uids), "0 100000 1000\n1000 500000 10\n");
    }
}
