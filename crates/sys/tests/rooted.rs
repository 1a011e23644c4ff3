//! What a hostile tree can and cannot make the rooted resolver do. Beside each root stands a canary that must not change.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_sys::rooted::Root;
use coracle_sys::tree;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// A directory with a hostile `root` and a `canary` beside it.
struct Field {
    dir: tempfile::TempDir,
    root: Root,
}

impl Field {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("canary")).unwrap();
        fs::write(dir.path().join("canary/secret"), "host").unwrap();
        let root = Root::open(dir.path().join("root")).unwrap();
        Self { dir, root }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("root").join(below)
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    fn assert_canary_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.canary()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.canary().join("secret")).unwrap(), "host");
        let beside: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
    }
}

fn inode(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

#[test]
fn links_lead_where_they_lead_in_a_chroot() {
    let field = Field::new();
    fs::create_dir_all(field.path("usr/bin")).unwrap();
    fs::write(field.path("usr/bin/tool"), "").unwrap();
    symlink("usr/bin", field.path("bin")).unwrap();
    symlink("/usr/bin/tool", field.path("absolute")).unwrap();
    symlink("../../../../usr", field.path("usr/above")).unwrap();
    let tool = fs::metadata(field.path("usr/bin/tool")).unwrap().ino();
    for path in
        ["bin/tool", "/bin/tool", "absolute", "usr/above/bin/tool", "../../usr/bin/tool", "./bin//tool"]
    {
        assert_eq!(inode(field.root.open_path(path).unwrap()), tool, "{path}");
    }
}

#[test]
fn a_link_out_of_the_root_finds_nothing() {
    let field = Field::new();
    symlink(field.canary(), field.path("absolute")).unwrap();
    symlink("../canary", field.path("relative")).unwrap();
    symlink("/proc/self/root", field.path("magic")).unwrap();
    for path in ["absolute/secret", "relative/secret", "magic/etc"] {
        assert_eq!(field.root.open_path(path).unwrap_err().errno(), Some(Errno::NOENT), "{path}");
        assert!(field.root.read_bounded(path, 100).is_err(), "{path}");
    }
}

#[test]
fn create_dir_all_stays_inside_and_makes_what_dangling_links_name() {
    let field = Field::new();
    symlink(field.canary().join("made"), field.path("absolute")).unwrap();
    symlink("../../canary", field.path("relative")).unwrap();
    symlink("nowhere/deep", field.path("dangling")).unwrap();
    fs::create_dir(field.path("real")).unwrap();
    symlink("real", field.path("link")).unwrap();
    // (asked for, where it must be inside the root)
    let canary = field.canary().join("made");
    let absolute = canary.strip_prefix("/").unwrap().join("x");
    let cases: [(&str, &Path); 7] = [
        ("absolute/x", &absolute),
        ("relative/y", Path::new("canary/y")),
        ("dangling/z", Path::new("nowhere/deep/z")),
        ("link/a/b", Path::new("real/a/b")),
        ("/real/../other", Path::new("other")),
        ("..", Path::new("")),
        ("", Path::new("")),
    ];
    for (asked, place) in cases {
        let made = field.root.create_dir_all(asked, Mode::from_raw_mode(0o755)).unwrap();
        let found = fs::symlink_metadata(self::join(&field, place)).unwrap();
        assert!(found.is_dir() && found.ino() == inode(&made), "{asked}");
    }
    field.assert_canary_untouched();
}

fn join(field: &Field, place: &Path) -> PathBuf {
    field.dir.path().join("root").join(place)
}

#[test]
fn create_dir_all_refuses_files_loops_and_endless_depth() {
    let field = Field::new();
    fs::write(field.path("file"), "").unwrap();
    symlink("loop", field.path("loop")).unwrap();
    symlink("/dev/null", field.path("device")).unwrap();
    fs::create_dir(field.path("dev")).unwrap();
    fs::write(field.path("dev/null"), "").unwrap();
    let deep = "d/".repeat(300);
    let cases = [
        ("file/x", Errno::NOTDIR),
        ("file", Errno::NOTDIR),
        ("loop/x", Errno::LOOP),
        ("device/x", Errno::NOTDIR),
        (deep.as_str(), Errno::NAMETOOLONG),
    ];
    for (path, expected) in cases {
        let error = field.root.create_dir_all(path, Mode::from_raw_mode(0o755)).unwrap_err();
        assert_eq!(error.errno(), Some(expected), "{path:.20}");
    }
}

#[test]
fn a_mount_target_file_is_made_inside_through_any_link() {
    let field = Field::new();
    symlink(field.canary().join("new"), field.path("hosts")).unwrap();
    symlink("../../../canary/secret", field.path("relative")).unwrap();
    fs::create_dir(field.path("etc")).unwrap();
    fs::write(field.path("etc/keep"), "content").unwrap();

    let made = field.root.create_file("hosts").unwrap();
    let place = field.canary().join("new");
    assert_eq!(fs::metadata(join(&field, place.strip_prefix("/").unwrap())).unwrap().ino(), inode(&made));
    let made = field.root.create_file("relative").unwrap();
    assert_eq!(fs::metadata(field.path("canary/secret")).unwrap().ino(), inode(&made));
    let made = field.root.create_file("a/b/c").unwrap();
    assert_eq!(fs::metadata(field.path("a/b/c")).unwrap().ino(), inode(&made));
    field.root.create_file("etc/keep").unwrap();
    assert_eq!(fs::read_to_string(field.path("etc/keep")).unwrap(), "content");
    for directory in ["etc", "", "..", "/"] {
        assert!(field.root.create_file(directory).is_err(), "{directory:?} is a directory");
    }
    field.assert_canary_untouched();
}

#[test]
fn an_exchange_during_creation_never_reaches_the_canary() {
    let field = Field::new();
    fs::create_dir(field.path("x")).unwrap();
    symlink(field.canary(), field.path("y")).unwrap();
    let (x, y) = (field.path("x"), field.path("y"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &x, CWD, &y, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0..2000 {
            // Either place inside the root is right; a lost race may fail.
            let _ = field.root.create_dir_all(format!("x/d{round}/e"), Mode::from_raw_mode(0o755));
            let _ = field.root.create_file(format!("x/f{round}"));
        }
        done.store(true, Ordering::Relaxed);
    });
    field.assert_canary_untouched();
}

#[test]
fn reading_is_bounded_and_only_of_regular_files() {
    let field = Field::new();
    fs::write(field.path("passwd"), "root:x:0:0\n").unwrap();
    symlink("/passwd", field.path("link")).unwrap();
    rustix::fs::mkfifoat(CWD, field.path("fifo"), Mode::from_raw_mode(0o644)).unwrap();
    let zero = rustix::fs::makedev(1, 5);
    rustix::fs::mknodat(CWD, field.path("zero"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), zero)
        .unwrap();
    fs::create_dir(field.path("dir")).unwrap();
    assert_eq!(field.root.read_bounded("link", 11).unwrap(), b"root:x:0:0\n");
    for (path, max) in [("passwd", 10), ("fifo", 100), ("zero", 100), ("dir", 100)] {
        assert_eq!(field.root.read_bounded(path, max).unwrap_err().errno(), None, "{path}");
    }
    assert_eq!(field.root.read_bounded("absent", 1).unwrap_err().errno(), Some(Errno::NOENT));
}

#[test]
fn the_strict_open_refuses_links_and_escapes() {
    let field = Field::new();
    fs::create_dir(field.path("dir")).unwrap();
    fs::write(field.path("dir/file"), "").unwrap();
    symlink("dir", field.path("link")).unwrap();
    symlink("file", field.path("dir/last")).unwrap();
    let open = |path: &str| field.root.open_beneath_no_symlinks(path, OFlags::RDONLY, Mode::empty());
    assert!(open("dir/file").is_ok());
    let cases = [
        ("link/file", Errno::LOOP),
        ("dir/last", Errno::LOOP),
        ("../canary", Errno::XDEV),
        ("/dir", Errno::XDEV),
    ];
    for (path, expected) in cases {
        assert_eq!(open(path).unwrap_err().errno(), Some(expected), "{path}");
    }
}

#[test]
fn links_are_followed_beneath_and_refused_where_they_lead_out() {
    let field = Field::new();
    fs::create_dir(field.path("dir")).unwrap();
    fs::write(field.path("dir/file"), "inside").unwrap();
    for (link, target) in [("in", "dir"), ("out", ".."), ("absolute", "/dir"), ("loop", "loop")] {
        symlink(target, field.path(link)).unwrap();
    }
    for (path, expected) in [
        ("dir/file", None),
        ("in/file", None),
        ("dir/../dir/file", None),
        ("out", Some(Errno::XDEV)),
        ("..", Some(Errno::XDEV)),
        ("absolute/file", Some(Errno::XDEV)),
        ("/dir", Some(Errno::XDEV)),
        ("loop", Some(Errno::LOOP)),
        ("missing", Some(Errno::NOENT)),
    ] {
        assert_eq!(field.root.open_beneath(path).err().and_then(|error| error.errno()), expected, "{path}");
    }
}

#[test]
fn a_tree_is_removed_whole_and_nothing_beside_it() {
    let field = Field::new();
    let mut deep = field.root.create_dir_all("tree", Mode::from_raw_mode(0o755)).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&deep, "d", Mode::from_raw_mode(0o755)).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        deep = rustix::fs::openat(&deep, "d", flags, Mode::empty()).unwrap();
    }
    fs::create_dir(field.path("tree/.removing-0")).unwrap();
    symlink(field.canary(), field.path("tree/link")).unwrap();
    fs::hard_link(field.canary().join("secret"), field.path("tree/hard")).unwrap();
    symlink("tree", field.path("alias")).unwrap();
    field.root.remove_tree("alias").unwrap();
    assert!(field.path("tree/link").symlink_metadata().is_ok(), "only the link itself was removed");
    field.root.remove_tree("tree").unwrap();
    field.root.remove_tree("tree").unwrap();
    assert_eq!(tree::names(field.root.as_fd()).unwrap().len(), 0);
    field.assert_canary_untouched();
}

#[test]
fn removal_never_enters_another_mount() {
    let field = Field::new();
    fs::create_dir_all(field.path("tree/mnt")).unwrap();
    // The mount exists only in this thread's own mount namespace, which ends with the thread.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::mount::{MountFlags, MountPropagationFlags};
            own_mount_namespace();
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .unwrap();
            rustix::mount::mount("t", field.path("tree/mnt"), "tmpfs", MountFlags::empty(), None).unwrap();
            fs::write(field.path("tree/mnt/data"), "volume").unwrap();
            let root = Root::open(field.path("")).unwrap();
            assert_eq!(root.remove_tree("tree").unwrap_err().errno(), Some(Errno::XDEV));
            assert_eq!(fs::read_to_string(field.path("tree/mnt/data")).unwrap(), "volume");
        });
    });
    field.root.remove_tree("tree").unwrap();
}

/// A mount namespace of this thread's own (with its own root and working directory, as unshare(2) demands).
fn own_mount_namespace() {
    use rustix::thread::UnshareFlags;
    // SAFETY: CLONE_FS and CLONE_NEWNS affect only this thread's view of the file system; no descriptor is shared or
    // closed by them, which is what rustix warns of.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }.unwrap();
}
