//! What the store's tests share: a store beside a canary, and archives put together byte by byte.
#![allow(dead_code, unreachable_pub, unused_imports)] // Each test file uses a part.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use coracle_corpus::tar::{Tar, pax_records};
pub use coracle_corpus::trees::{Precision, content_of, unpack};
use coracle_spec::Digest;
use coracle_store::{Condition, Expected, Layer, Result, Store, Subject};

/// A store, and beside it a directory that nothing may touch.
pub struct Field {
    pub dir: tempfile::TempDir,
    pub store: Store,
    before: BTreeMap<PathBuf, String>,
}

impl Field {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir_all(canary.join("dir")).unwrap();
        fs::write(canary.join("secret"), "host").unwrap();
        let store = Store::open(dir.path().join("data")).unwrap();
        let before = describe(&canary);
        Self { dir, store, before }
    }

    /// The same field after another process has taken over its store.
    pub fn reopened(self) -> Self {
        let Self { dir, store, before } = self;
        drop(store);
        let store = Store::open(dir.path().join("data")).unwrap();
        Self { dir, store, before }
    }

    pub fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    pub fn data(&self, below: &str) -> PathBuf {
        self.dir.path().join("data").join(below)
    }

    /// Everything about the canary, change times included, is as it was, and nothing else lies beside the store.
    pub fn assert_canary_untouched(&self, case: &str) {
        assert_eq!(describe(&self.canary()), self.before, "{case}");
        let beside = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(beside, 2, "{case}: something lies beside the store");
    }

    pub fn import(&self, archive: &[u8]) -> Result<Layer> {
        self.store.import(archive, &Expected::default())
    }

    /// Where the files of a layer are.
    pub fn fs(&self, diff_id: &Digest) -> PathBuf {
        self.data("layers/sha256").join(diff_id.hex()).join("fs")
    }

    /// A check takes everything for whole.
    pub fn assert_whole(&self, case: &str) {
        let mut told = |subject: Subject, condition: Condition| {
            assert_eq!(condition, Condition::Whole, "{case}: {subject:?}");
            ControlFlow::Continue(())
        };
        self.store.check(&mut told).unwrap();
    }

    /// What is left in `tmp`.
    pub fn unfinished(&self) -> usize {
        fs::read_dir(self.data("tmp")).unwrap().count()
    }
}

/// Every path below `top` with type, mode, owner, size, times and inode.
pub fn describe(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let text = format!(
            "{:o} {}:{} size {} ino {} nlink {} m {}.{} c {}.{}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.size(),
            m.ino(),
            m.nlink(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec()
        );
        found.insert(path, text);
    }
    found
}

/// An overlay mount that is attached nowhere and ends with this value.
pub struct Overlay(std::os::fd::OwnedFd);

impl Overlay {
    pub fn mount(snapshot: &coracle_store::Snapshot) -> Self {
        use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        for lower in &snapshot.lower {
            rustix::mount::fsconfig_set_string(&context, "lowerdir+", lower).unwrap();
        }
        rustix::mount::fsconfig_set_string(&context, "upperdir", &snapshot.upper).unwrap();
        rustix::mount::fsconfig_set_string(&context, "workdir", &snapshot.work).unwrap();
        for feature in ["redirect_dir", "metacopy"] {
            rustix::mount::fsconfig_set_string(&context, feature, "off").unwrap();
        }
        rustix::mount::fsconfig_create(&context).unwrap();
        let attributes = MountAttrFlags::empty();
        Self(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap())
    }

    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }

    /// A path that leads into it for this process.
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}/.", self.0.as_raw_fd()))
    }
}
