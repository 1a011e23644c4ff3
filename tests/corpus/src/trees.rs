//! Random benign trees with everything that an archive can carry, their description, and GNU tar, which is the measure.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Things that are made in a tree.
const THINGS: u64 = 60;
/// `security.capability`, version 2: `cap_net_bind_service`, permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How many trees a test looks at: `CORACLE_TREES`, or `few` where nobody asks for more.
pub fn count(few: u64) -> u64 {
    std::env::var("CORACLE_TREES").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Small random numbers from a seed that a failure prints.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that begin at `seed`, which is not 0.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // xorshift64* (Vigna 2016)
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn size(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap()
    }
}

/// Makes the tree of a seed below `top`.
pub fn grow(top: &Path, seed: u64) {
    let random = &mut Random::new(seed);
    let mut directories = vec![top.to_owned()];
    let mut files = Vec::new();
    for number in 0..THINGS {
        let path = random.pick(&directories).join(name(number, random));
        if random.below(10) == 0 && !files.is_empty() {
            let target: &PathBuf = random.pick(&files);
            fs::hard_link(target, &path).unwrap();
            continue;
        }
        make(&path, random);
        let kind = path.symlink_metadata().unwrap().file_type();
        describe(&path, random);
        if kind.is_dir() {
            directories.push(path);
        } else if kind.is_file() {
            // GNU tar knows hard links of regular files only.
            files.push(path);
        }
    }
    // The innermost first: making something in a directory has changed its time.
    for directory in directories.iter().skip(1).rev() {
        set_time(directory, random);
    }
}

fn name(number: u64, random: &mut Random) -> String {
    match random.below(6) {
        0 => format!("{number}-{}", "long".repeat(random.size(60))),
        1 => format!("{number} ünï\n"),
        2 => format!("{number}.wh"),
        _ => format!("{number}"),
    }
}

fn make(path: &Path, random: &mut Random) {
    match random.below(10) {
        0..=2 => fs::create_dir(path).unwrap(),
        3 => symlink(random.pick(&["x", "/", "../..", "."]).repeat(1 + random.size(200)), path).unwrap(),
        4 => rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap(),
        5 => {
            let kind = *random.pick(&[FileType::CharacterDevice, FileType::BlockDevice]);
            let (major, minor) = (1 + random.below(4000), random.below(1 << 20));
            let device = rustix::fs::makedev(major.try_into().unwrap(), minor.try_into().unwrap());
            rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device).unwrap();
        }
        6 => {
            let file = fs::File::create(path).unwrap();
            for _ in 0..random.below(8) {
                file.write_all_at(b"data", random.below(1 << 21)).unwrap();
            }
            if random.below(2) == 0 {
                file.set_len(1 << 21).unwrap();
            }
        }
        _ => {
            let content: Vec<u8> = (0..random.size(5000)).map(|at| u8::try_from(at % 251).unwrap()).collect();
            fs::write(path, content).unwrap();
        }
    }
}

/// Owner, mode, attributes and time, in the order in which they do not undo each other.
fn describe(path: &Path, random: &mut Random) {
    let kind = path.symlink_metadata().unwrap().file_type();
    let owner = |random: &mut Random| {
        u32::try_from(*random.pick(&[0, 1, 1000, 70_000, 3_000_000, 4_294_967_294_u64])).unwrap()
    };
    lchown(path, Some(owner(random)), Some(owner(random))).unwrap();
    if !kind.is_symlink() {
        let mode = u32::try_from(random.below(0o10000)).unwrap() | 0o400;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    if kind.is_file() || kind.is_dir() {
        let file = fs::File::open(path).unwrap();
        let set = |name: &str, value: &[u8]| {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
        };
        if random.below(3) == 0 {
            set("user.bytes", b"a\0=\n\xff");
            set("user.name with spaces", b"");
        }
        if kind.is_file() && random.below(5) == 0 {
            set("security.capability", &CAPABILITY);
        }
    }
    set_time(path, random);
}

fn set_time(path: &Path, random: &mut Random) {
    let seconds = *random.pick(&[0, 1, 999_999_999, 1_600_000_000, 4_000_000_000, 8_589_934_592]);
    let at = Timespec { tv_sec: seconds, tv_nsec: *random.pick(&[0, 1, 123_456_789, 999_999_999]) };
    let times = Timestamps { last_access: at, last_modification: at };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// How exactly trees are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Times to the nanosecond.
    Nanoseconds,
    /// Times to the second.
    Seconds,
    /// Whole seconds, and no extended attributes.
    OldTar,
    /// No times.
    None,
}

/// Everything about a tree that an archive carries, inode numbers reduced to "same file as".
pub fn content_of(top: &Path, precision: Precision) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
        if m.nlink() > 1 && !m.is_dir() {
            // All names of one file have the same first one, whatever order the tree was walked in.
            first.entry((m.dev(), m.ino())).or_insert_with(Vec::new).push(name.clone());
        }
        found.insert(name, one(&path, &m, precision));
    }
    for names in first.into_values() {
        let least = names.iter().min().unwrap().clone();
        for name in names {
            let text = found.get_mut(&name).unwrap();
            write!(text, " same as {:?}", String::from_utf8_lossy(&least)).unwrap();
        }
    }
    found.remove(&b""[..]);
    found
}

fn one(path: &Path, m: &fs::Metadata, precision: Precision) -> String {
    let mut text = format!("{:o} {}:{} rdev {}", m.mode(), m.uid(), m.gid(), m.rdev());
    let nanoseconds = if precision == Precision::Nanoseconds { m.mtime_nsec() } else { 0 };
    if precision != Precision::None {
        write!(text, " m {}.{nanoseconds}", m.mtime()).unwrap();
    }
    if m.is_symlink() {
        write!(text, " -> {:?}", fs::read_link(path).unwrap()).unwrap();
    } else if m.is_file() {
        let digest = Sha256::digest(fs::read(path).unwrap());
        write!(text, " {} bytes {:02x?}", m.len(), &digest[..]).unwrap();
    }
    if (m.is_file() || m.is_dir()) && precision != Precision::OldTar {
        for (name, value) in attributes(path) {
            write!(text, " {name}={value:x?}").unwrap();
        }
    }
    text
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = fs::File::open(path).unwrap();
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::flistxattr(&file, &mut list[..]).unwrap_or(0);
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = BTreeMap::new();
    for name in names.map(|name| String::from_utf8(name.to_vec()).unwrap()) {
        if name.starts_with("trusted.") || name == "security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(&file, name.as_str(), &mut value[..]).unwrap();
        value.truncate(length);
        found.insert(name, value);
    }
    found
}

/// Dialects of GNU tar, with what they can carry.
const DIALECTS: [(&[&str], Precision); 6] = [
    (&["--format=pax"], Precision::Nanoseconds),
    (&["--format=pax", "--sparse", "--sparse-version=0.0"], Precision::Nanoseconds),
    (&["--format=pax", "--sparse", "--sparse-version=0.1"], Precision::Nanoseconds),
    (&["--format=pax", "--sparse", "--sparse-version=1.0"], Precision::Nanoseconds),
    (&["--format=gnu", "--sparse"], Precision::OldTar),
    (&["--format=gnu"], Precision::OldTar),
];

const ATTRIBUTES: [&str; 3] = ["--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"];

/// The dialect of a seed: neighbours have different ones.
pub fn dialect(seed: u64) -> (&'static [&'static str], Precision) {
    DIALECTS[usize::try_from(seed % DIALECTS.len() as u64).unwrap()]
}

/// Packs a tree in a [`dialect`].
pub fn pack(tree: &Path, (format, precision): (&[&str], Precision)) -> Vec<u8> {
    let mut arguments = format.to_vec();
    arguments.extend(if precision == Precision::Nanoseconds { &ATTRIBUTES[..] } else { &[] });
    arguments.extend(["--numeric-owner", "-cf", "-", "."]);
    gnu_tar(&arguments, tree, b"")
}

/// Unpacks an archive into a directory.
pub fn unpack(archive: &[u8], directory: &Path) {
    let arguments = [&ATTRIBUTES[..], &["--numeric-owner", "--warning=no-timestamp", "-xpf", "-"]].concat();
    gnu_tar(&arguments, directory, archive);
}

fn gnu_tar(arguments: &[&str], directory: &Path, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tar")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "tar {arguments:?}");
        output.stdout
    })
}

/// What differs between two trees, in words; nothing when they are the same.
pub fn difference(one: &BTreeMap<Vec<u8>, String>, other: &BTreeMap<Vec<u8>, String>) -> Option<String> {
    let show = |text: Option<&String>| text.map_or("nothing", String::as_str).to_owned();
    let names = one.keys().chain(other.keys()).find(|name| one.get(*name) != other.get(*name))?;
    let path = String::from_utf8_lossy(names);
    Some(format!("{path:?}:\n{}\n{}", show(one.get(names)), show(other.get(names))))
}
