//! What overlayfs and this crate make of the same layers must be the same.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coracle_spec::ContainerId;
use coracle_store::{ChangeKind, Expected, Store};
use support::{Field, Overlay, Precision, Tar, content_of, unpack};

/// A store with a layer of files `a/x`, `a/y`, `b/z`, `c`, `d/deep/e` and a link, and a container on top of it.
fn container() -> (Field, coracle_store::Layer, ContainerId) {
    let field = Field::new();
    let tar =
        Tar::new().dir("a").file("a/x", b"x").file("a/y", b"y").dir("b").file("b/z", b"z").file("c", b"c");
    let tar = tar.dir("d").dir("d/deep").file("d/deep/e", b"e").symlink("l", "c");
    let layer = field.import(&tar.end()).unwrap();
    (field, layer, ContainerId::random())
}

#[test]
fn whiteouts_hide_lower_layers_and_nothing_else() {
    let (field, base, id) = container();
    let top = Tar::new()
        .file("a/.wh.x", b"")
        .file(".wh.c", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"")
        // Both orders of a whiteout and an entry of the same layer.
        .file(".wh.l", b"")
        .file("l", b"own")
        .dir("d/deep")
        .file("d/deep/f", b"")
        .file("d/.wh.deep", b"");
    let top = field.import(&top.end()).unwrap();
    let snapshot = field.store.prepare(&id, &[base.diff_id, top.diff_id]).unwrap();
    let overlay = Overlay::mount(&snapshot);
    let names: Vec<_> = content_of(&overlay.path(), Precision::None)
        .into_keys()
        .map(|n| String::from_utf8(n).unwrap())
        .collect();
    assert_eq!(names, ["a", "a/y", "b", "b/new", "d", "d/deep", "d/deep/f", "l"]);
    assert_eq!(fs::read_to_string(overlay.path().join("l")).unwrap(), "own");
}

#[test]
fn an_entry_below_a_whiteout_hides_what_was_there() {
    let (field, base, id) = container();
    // The directory itself is never described.
    let top = field.import(&Tar::new().file(".wh.d", b"").file("d/other", b"").end()).unwrap();
    let overlay = Overlay::mount(&field.store.prepare(&id, &[base.diff_id, top.diff_id]).unwrap());
    let names: Vec<_> =
        fs::read_dir(overlay.path().join("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["other"]);
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let (field, base, id) = container();
    let top = field.import(&Tar::new().file(".wh..wh..opq", b"").file("only", b"").end()).unwrap();
    let snapshot = field.store.prepare(&id, &[base.diff_id, top.diff_id]).unwrap();
    let overlay = Overlay::mount(&snapshot);
    let names: Vec<_> = fs::read_dir(overlay.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["only"]);
}

#[test]
fn a_layer_that_comes_twice_and_an_image_without_layers_mount() {
    let (field, base, id) = container();
    let other = field.import(&Tar::new().file("other", b"").end()).unwrap();
    let twice = [base.diff_id, other.diff_id, base.diff_id];
    let snapshot = field.store.prepare(&id, &twice).unwrap();
    assert_eq!(snapshot.lower.len(), 2);
    Overlay::mount(&snapshot);
    let scratch = field.store.prepare(&ContainerId::random(), &[]).unwrap();
    let overlay = Overlay::mount(&scratch);
    fs::write(overlay.path().join("file"), "works").unwrap();
}

#[test]
fn the_image_decides_about_its_root() {
    let field = Field::new();
    let root = Tar::new().raw(b"./", b'5', b"", |header| {
        header.set_mode(0o1777);
        header.set_uid(7);
    });
    let base = field.import(&root.end()).unwrap();
    let top = field.import(&Tar::new().file("f", b"").end()).unwrap();
    let id = ContainerId::random();
    let overlay = Overlay::mount(&field.store.prepare(&id, &[base.diff_id, top.diff_id]).unwrap());
    let stat = rustix::fs::fstat(overlay.fd()).unwrap();
    assert_eq!((stat.st_mode & 0o7777, stat.st_uid), (0o1777, 7));
}

/// What a container does in the tests below.
fn work_in(root: &Path) {
    fs::write(root.join("a/x"), "changed").unwrap();
    fs::remove_file(root.join("c")).unwrap();
    fs::create_dir(root.join("new")).unwrap();
    fs::write(root.join("new/file"), "new").unwrap();
    fs::hard_link(root.join("new/file"), root.join("new/link")).unwrap();
    fs::remove_dir_all(root.join("d")).unwrap();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/again"), "").unwrap();
    fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
}

#[test]
fn changes_are_those_that_docker_shows() {
    let (field, base, id) = container();
    let overlay = Overlay::mount(&field.store.prepare(&id, &[base.diff_id]).unwrap());
    assert_eq!(field.store.changes(&id, &[base.diff_id]).unwrap(), []);
    // Opening for writing copies up and changes nothing.
    drop(fs::OpenOptions::new().append(true).open(overlay.path().join("b/z")).unwrap());
    let touched = field.store.changes(&id, &[base.diff_id]).unwrap();
    assert!(touched.iter().all(|change| change.kind == ChangeKind::Modified));

    work_in(&overlay.path());
    let changes = field.store.changes(&id, &[base.diff_id]).unwrap();
    let shown: Vec<_> = changes
        .iter()
        .map(|change| {
            let letter = match change.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Modified => 'C',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", String::from_utf8_lossy(&change.path))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "C /a",
            "C /a/x",
            "C /b",
            "C /b/z",
            "D /c",
            "C /d",
            "A /d/again",
            "D /d/deep",
            "A /new",
            "A /new/file",
            "A /new/link",
            "A /socket"
        ]
    );
    assert_eq!(field.store.snapshot_size(&id).unwrap(), 7 + 3 + 1);
}

#[test]
fn a_commit_gives_the_same_root_and_always_the_same_layer() {
    let (field, base, id) = container();
    let overlay = Overlay::mount(&field.store.prepare(&id, &[base.diff_id]).unwrap());
    work_in(&overlay.path());
    fs::set_permissions(overlay.path(), fs::Permissions::from_mode(0o750)).unwrap();
    fs::remove_file(overlay.path().join("socket")).unwrap();
    let expected = content_of(&overlay.path(), Precision::Seconds);

    let layer = field.store.commit(&id).unwrap();
    assert_eq!(field.store.commit(&id).unwrap(), layer, "byte-stable");
    assert_eq!(layer.blob, None);
    let mut tar = Vec::new();
    field.store.write_layer(&layer.diff_id, &mut tar).unwrap();
    assert_eq!(tar.len() as u64, layer.tar_size);
    assert_eq!(coracle_spec::Digest::of(&tar), layer.diff_id);
    // What this store packs, another one unpacks.
    let elsewhere = Field::new();
    let exact = Expected { blob: Some(layer.diff_id), diff_id: Some(layer.diff_id) };
    elsewhere.store.import(tar.as_slice(), &exact).unwrap();

    let again = ContainerId::random();
    let second = Overlay::mount(&field.store.prepare(&again, &[base.diff_id, layer.diff_id]).unwrap());
    assert_eq!(content_of(&second.path(), Precision::Seconds), expected);
    assert_eq!(rustix::fs::fstat(second.fd()).unwrap().st_mode & 0o7777, 0o750);
    assert_eq!(field.unfinished(), 0);

    let mut exported = Vec::new();
    Store::export(second.fd(), None, &mut exported).unwrap();
    let out = tempfile::tempdir().unwrap();
    unpack(&exported, out.path());
    assert_eq!(content_of(out.path(), Precision::Seconds), expected);
}

#[test]
fn a_file_that_no_layer_can_hold_makes_the_commit_fail_and_leaves_nothing() {
    let (field, base, id) = container();
    let snapshot = field.store.prepare(&id, &[base.diff_id]).unwrap();
    fs::write(snapshot.upper.join("a"), "").unwrap();
    fs::write(snapshot.upper.join("z.wh."), "").unwrap();
    let layers = field.store.layers().unwrap().len();
    field.store.commit(&id).unwrap();
    fs::write(snapshot.upper.join(".wh.z"), "").unwrap();
    let error = field.store.commit(&id).unwrap_err();
    assert!(error.to_string().contains(".wh.z"), "{error}");
    assert_eq!(field.store.layers().unwrap().len(), layers + 1);
    assert_eq!(field.unfinished(), 0);
}

#[test]
fn a_damaged_committed_layer_is_noticed_when_it_is_written() {
    let (field, base, id) = container();
    let snapshot = field.store.prepare(&id, &[base.diff_id]).unwrap();
    fs::write(snapshot.upper.join("f"), "good").unwrap();
    let layer = field.store.commit(&id).unwrap();
    fs::write(field.fs(&layer.diff_id).join("f"), "evil").unwrap();
    let error = field.store.write_layer(&layer.diff_id, &mut std::io::sink()).unwrap_err();
    assert!(matches!(error, coracle_store::Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn removing_a_snapshot_takes_everything_of_the_container() {
    let (field, base, id) = container();
    field.store.prepare(&id, &[base.diff_id]).unwrap();
    assert!(field.store.prepare(&id, &[base.diff_id]).is_err(), "a second one on the same directory");
    fs::write(field.data("containers").join(id.as_str()).join("record.json"), "{}").unwrap();
    assert!(field.store.remove_snapshot(&id).unwrap());
    assert!(!field.store.remove_snapshot(&id).unwrap());
    assert_eq!(fs::read_dir(field.data("containers")).unwrap().count(), 0);
    assert_eq!(field.store.empty_trash().unwrap(), 1);
}
