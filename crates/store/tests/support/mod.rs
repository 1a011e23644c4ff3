//! What the store's tests share: a store beside a canary, and archives put together byte by byte.
#![allow(dead_code, unreachable_pub)] // Each test file uses a part.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_spec::Digest;
use coracle_store::{Expected, Layer, Result, Store};

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

/// An archive in the making.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header as `change` leaves it, with a right checksum, and content.
    pub fn raw(
        mut self,
        name: &[u8],
        flag: u8,
        content: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        let short = &name[..name.len().min(100)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.as_old_mut().linkflag[0] = flag;
        header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn entry(self, name: &[u8], flag: u8) -> Self {
        self.raw(name, flag, b"", |_| {})
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name.as_bytes(), b'0', content, |_| {})
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(name.as_bytes(), b'5')
    }

    pub fn link(self, flag: u8, name: &str, target: &[u8]) -> Self {
        let target = target.to_vec();
        self.raw(name.as_bytes(), flag, b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(&target);
        })
    }

    pub fn symlink(self, name: &str, target: impl AsRef<Path>) -> Self {
        self.link(b'2', name, target.as_ref().as_os_str().as_bytes())
    }

    pub fn hardlink(self, name: &str, target: impl AsRef<Path>) -> Self {
        self.link(b'1', name, target.as_ref().as_os_str().as_bytes())
    }

    pub fn device(self, name: &str, flag: u8, major: u32, minor: u32) -> Self {
        self.raw(name.as_bytes(), flag, b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// Adds an extended header for the entry that comes next.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let content = pax_records(records);
        self.raw(b"PaxHeaders/x", b'x', &content, |_| {})
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// `length key=value\n` for each.
pub fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..9).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
        content.extend_from_slice(format!("{} {key}=", length.unwrap()).as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    content
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

/// Everything about a tree that an archive carries, inode numbers reduced to "same file as".
pub fn content_of(top: &Path, precision: Precision) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        let mut text = format!("{:o} {}:{} rdev {}", m.mode(), m.uid(), m.gid(), m.rdev());
        let nanoseconds = if precision == Precision::Nanoseconds { m.mtime_nsec() } else { 0 };
        if precision != Precision::None {
            text += &format!(" m {}.{nanoseconds}", m.mtime());
        }
        let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if m.is_symlink() {
            text += &format!(" -> {:?}", fs::read_link(&path).unwrap());
        } else if m.is_file() {
            text += &format!(" {} bytes {}", m.len(), Digest::of(&fs::read(&path).unwrap()));
        }
        if (m.is_file() || m.is_dir()) && precision != Precision::OldTar {
            let file = fs::File::open(&path).unwrap();
            for name in coracle_sys::xattr::names(&file).unwrap() {
                if !name.to_bytes().starts_with(b"trusted.") {
                    text += &format!(" {name:?}={:?}", coracle_sys::xattr::get(&file, &name).unwrap());
                }
            }
        }
        if m.nlink() > 1 && !m.is_dir() {
            // All names of one file have the same first one, whatever order the tree was walked in.
            first.entry((m.dev(), m.ino())).or_insert_with(Vec::new).push(name.clone());
        }
        found.insert(name, text);
    }
    for names in first.into_values() {
        let least = names.iter().min().unwrap().clone();
        for name in names {
            found
                .get_mut(&name)
                .unwrap()
                .push_str(&format!(" same as {:?}", String::from_utf8_lossy(&least)));
        }
    }
    found.remove(&b""[..]);
    found
}

/// How exactly times are compared.
#[derive(Clone, Copy, PartialEq)]
pub enum Precision {
    Nanoseconds,
    Seconds,
    /// Whole seconds, and no extended attributes.
    OldTar,
    None,
}
