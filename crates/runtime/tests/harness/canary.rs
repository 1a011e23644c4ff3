//! A tree of the host's that nothing inside a container may reach, and the ways to point at it.

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// Files whose every attribute is remembered: the change time tells of changed owners and attributes too.
pub(crate) struct Canary {
    directory: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("directory/pts")).unwrap();
        for name in ["file", "directory/ptmx", "directory/null", "directory/hosts", "directory/passwd"] {
            std::fs::write(at(name), format!("canary {name}")).unwrap();
        }
        let before = snapshot(directory.path());
        Self { directory, before }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn assert_whole(&self) {
        assert_eq!(snapshot(self.path()), self.before, "the canary was touched");
    }
}

fn snapshot(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
        let changed = (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        found.insert(path, format!("{mode:o} {owner:?} {changed:?} {content:?}"));
    }
    found
}

/// What is where something else is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// To a directory of the canary, by its path on the host.
    AbsoluteLink,
    /// To a file of the canary, by climbing.
    RelativeLink,
    /// Into the canary, to what is not there.
    DanglingLink,
    File,
    Fifo,
    Socket,
    /// The host's first disk.
    Device,
    Directory,
    Missing,
}

impl Planted {
    pub(crate) const ALL: [Self; 9] = [
        Self::AbsoluteLink,
        Self::RelativeLink,
        Self::DanglingLink,
        Self::File,
        Self::Fifo,
        Self::Socket,
        Self::Device,
        Self::Directory,
        Self::Missing,
    ];

    pub(crate) fn is_link(self) -> bool {
        matches!(self, Self::AbsoluteLink | Self::RelativeLink | Self::DanglingLink)
    }

    /// Whether a directory is there, or can be made.
    pub(crate) fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::Missing)
    }
}

/// Puts `planted` at `path` in the directory `root`, instead of what is there.
pub(crate) fn plant(root: &Path, path: &str, planted: Planted, canary: &Canary) {
    let place = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    let outside = canary.path();
    let mode = Mode::from_raw_mode(0o666);
    match planted {
        Planted::AbsoluteLink => symlink(outside.join("directory"), place).unwrap(),
        Planted::RelativeLink => {
            symlink(format!("../../../../../../../..{}/directory", outside.display()), place).unwrap();
        }
        Planted::DanglingLink => symlink(outside.join("missing/deep"), place).unwrap(),
        Planted::File => std::fs::write(place, "planted").unwrap(),
        Planted::Fifo => mknodat(CWD, &place, FileType::Fifo, mode, 0).unwrap(),
        Planted::Socket => mknodat(CWD, &place, FileType::Socket, mode, 0).unwrap(),
        Planted::Device => mknodat(CWD, &place, FileType::BlockDevice, mode, makedev(8, 0)).unwrap(),
        Planted::Directory => std::fs::create_dir_all(place).unwrap(),
        Planted::Missing => {}
    }
}
