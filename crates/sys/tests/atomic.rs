//! Files that appear whole or not at all, and attributes of whatever a descriptor stands for.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use coracle_sys::{atomic, xattr};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

#[test]
fn a_write_replaces_in_one_step_and_leaves_nothing_beside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    atomic::write(&path, b"one", mode(0o600)).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    atomic::write_durable(&path, b"two", mode(0o666)).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_ne!(before, after.ino(), "an open reader of the old record keeps it");
    assert_eq!(after.permissions().mode() & 0o7777, 0o666, "the mode asked for, whatever the umask");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_write_keeps_the_old_content_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("record")).unwrap();
    assert!(atomic::write(dir.path().join("record"), b"x", mode(0o600)).is_err());
    assert!(atomic::write(dir.path().join("absent/record"), b"x", mode(0o600)).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn sweep_removes_what_interrupted_writes_left_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let leftover = format!(".{}.partial", "0".repeat(32));
    for name in [leftover.as_str(), "record", ".partial", ".x.partial"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    atomic::sweep(dir.path()).unwrap();
    assert!(!dir.path().join(leftover).exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn directories_are_published_once_and_discarded_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to, trash) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("trash"));
    atomic::create_dir_durable(&trash, mode(0o700)).unwrap();
    atomic::create_dir(&trash, mode(0o700)).unwrap();
    for content in ["first", "second"] {
        atomic::create_dir(&from, mode(0o710)).unwrap();
        assert_eq!(fs::metadata(&from).unwrap().permissions().mode() & 0o7777, 0o710);
        fs::write(from.join("file"), content).unwrap();
        let result = atomic::publish_durable(&from, &to);
        assert_eq!(result.is_ok(), content == "first");
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "first");
    }
    let moved = atomic::discard(&to, &trash).unwrap().unwrap();
    assert!(!to.exists() && moved.join("file").exists());
    assert_eq!(atomic::discard(&to, &trash).unwrap(), None);
    fs::write(&to, "").unwrap();
    assert!(atomic::create_dir(&to, mode(0o700)).is_err(), "a file is in the way");
}

#[test]
fn attributes_are_set_on_links_and_devices_through_handles() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let open = |name: &str, flags| rustix::fs::open(dir.path().join(name), flags, Mode::empty()).unwrap();
    let file = open("file", OFlags::RDONLY);
    let link = open("link", OFlags::PATH | OFlags::NOFOLLOW);
    xattr::set(&file, c"user.b", &[7; 1000]).unwrap();
    xattr::set(&file, c"user.a", b"").unwrap();
    xattr::set(&link, c"trusted.mark", b"link").unwrap();
    assert_eq!(xattr::names(&file).unwrap(), [c"user.a".to_owned(), c"user.b".to_owned()]);
    assert_eq!(xattr::get(&file, c"user.b").unwrap().unwrap(), [7; 1000]);
    assert_eq!(xattr::get(&file, c"user.none").unwrap(), None);
    assert_eq!(xattr::get(&file, c"trusted.mark").unwrap(), None, "the link has it, not its target");
    assert_eq!(xattr::get(&link, c"trusted.mark").unwrap().unwrap(), b"link");
    assert_eq!(xattr::set(&link, c"user.x", b"").unwrap_err().errno(), Some(Errno::PERM));
}
