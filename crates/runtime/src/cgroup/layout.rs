//! Which cgroup hierarchies this machine has mounted, and where.

use crate::error::{Error, Result};
use crate::limits;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// A v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The controllers it carries; `name=systemd` for one without.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
}

/// The hierarchies of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One hierarchy per controller, and perhaps a v2 mount that carries the rest.
    V1 {
        /// The v1 hierarchies.
        hierarchies: Vec<Hierarchy>,
        /// The v2 mount of the hybrid layout.
        unified: Option<PathBuf>,
    },
    /// A single hierarchy.
    V2 {
        /// Where it is mounted.
        mountpoint: PathBuf,
    },
}

impl Layout {
    /// Reads the mount table of the calling process.
    ///
    /// # Errors
    /// [`Error::Invalid`] when no cgroup file system is mounted.
    pub fn detect() -> Result<Self> {
        let mut table = String::new();
        File::open("/proc/self/mountinfo")
            .and_then(|file| file.take(limits::KERNEL_TEXT).read_to_string(&mut table))
            .map_err(|error| Error::Invalid(format!("cannot read the mount table: {error}")))?;
        Self::parse(&table).ok_or_else(|| {
            Error::Invalid("no cgroup file system is mounted: mount one at /sys/fs/cgroup".to_owned())
        })
    }

    /// Finds the hierarchies in the text of `/proc/PID/mountinfo` (proc(5)).
    fn parse(table: &str) -> Option<Self> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for line in table.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(mountpoint) = before.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut after = after.split(' ');
            match (after.next(), after.nth(1)) {
                (Some("cgroup"), Some(options)) => {
                    let controllers = controllers(options);
                    if !hierarchies.iter().any(|h| h.controllers == controllers) {
                        hierarchies.push(Hierarchy { controllers, mountpoint });
                    }
                }
                (Some("cgroup2"), _) if unified.is_none() => unified = Some(mountpoint),
                _ => {}
            }
        }
        match (hierarchies.is_empty(), unified) {
            (false, unified) => Some(Self::V1 { hierarchies, unified }),
            (true, Some(mountpoint)) => Some(Self::V2 { mountpoint }),
            (true, None) => None,
        }
    }

    /// `1` or `2`, as `docker info` shows it.
    pub fn version(&self) -> &'static str {
        match self {
            Self::V1 { .. } => "1",
            Self::V2 { .. } => "2",
        }
    }
}

/// The controllers among a v1 mount's options.
fn controllers(options: &str) -> Vec<String> {
    const NOT_CONTROLLERS: [&str; 7] =
        ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"];
    options
        .split(',')
        .filter(|option| !NOT_CONTROLLERS.contains(option) && !option.starts_with("release_agent="))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/a,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw";

    #[test]
    fn a_hybrid_machine_has_v1_hierarchies_and_a_v2_mount_beside_them() {
        let Some(Layout::V1 { hierarchies, unified }) = Layout::parse(HYBRID) else { panic!("not v1") };
        assert_eq!(hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(hierarchies[1].controllers, ["name=systemd"]);
        assert_eq!(unified.unwrap(), PathBuf::from("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_machine_with_cgroup2_alone_is_v2_and_one_with_neither_is_nothing() {
        let pure = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(Layout::parse(pure), Some(Layout::V2 { mountpoint: "/sys/fs/cgroup".into() }));
        assert_eq!(Layout::parse("27 1 254:0 / / rw - ext4 /dev/vda rw"), None);
    }
}
