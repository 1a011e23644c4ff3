//! What a check of the store finds, and what it takes for whole.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod support;

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use coracle_spec::{ContainerId, Digest};
use coracle_store::{Condition, Layer, Subject};
use support::{Field, Tar};

/// A layer with one of everything; directories are not described, so that unpacking it gives them its own time.
fn sample() -> Vec<u8> {
    Tar::new()
        .file("implied/deep/file", b"content")
        .file("text", b"hello")
        .file("other", b"other")
        .symlink("link", "text")
        .hardlink("twin", "text")
        .file("etc/.wh.gone", b"")
        .file("var/.wh..wh..opq", b"")
        .end()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Everything that is not whole.
fn faults(field: &Field) -> Vec<(Subject, Condition)> {
    let trash = || fs::read_dir(field.data("trash")).unwrap().count();
    let (before, mut found) = (trash(), Vec::new());
    let result = field.store.check(&mut |subject, condition| {
        if condition != Condition::Whole {
            found.push((subject, condition));
        }
        ControlFlow::Continue(())
    });
    result.unwrap();
    assert_eq!(field.unfinished(), 0, "a check leaves nothing");
    assert_eq!(trash(), before, "nor does it fill the trash");
    found
}

fn layer_directory(field: &Field, layer: &Layer) -> std::path::PathBuf {
    field.fs(&layer.diff_id).parent().unwrap().to_owned()
}

fn blob_path(field: &Field, layer: &Layer) -> std::path::PathBuf {
    field.data("blobs/sha256").join(layer.blob.as_ref().unwrap().blob.digest.hex())
}

/// A container's layer: no archive of it is kept.
fn committed(field: &Field) -> Layer {
    let id = ContainerId::random();
    let base = field.import(&Tar::new().file("base", b"base").end()).unwrap();
    let snapshot = field.store.prepare(&id, &[base.diff_id]).unwrap();
    fs::create_dir(snapshot.upper.join("made")).unwrap();
    fs::write(snapshot.upper.join("made/file"), "by a container").unwrap();
    field.store.commit(&id).unwrap()
}

#[test]
fn what_was_stored_and_not_touched_is_whole() {
    let field = Field::new();
    field.import(&sample()).unwrap();
    field.import(&gzip(&Tar::new().file("zipped", b"x").end())).unwrap();
    field.import(&Tar::new().dir("d").file("replaced", b"old").file("replaced", b"new").end()).unwrap();
    field.store.put_blob(b"a manifest").unwrap();
    committed(&field);
    assert_eq!(faults(&field), []);
}

#[test]
fn whatever_changes_in_a_layer_is_found() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 12] = [
        ("content of the same length and time", |fs| {
            let path = fs.join("text");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "jello").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }),
        ("a time", |fs| {
            let file = fs::File::options().write(true).open(fs.join("other")).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5)).unwrap();
        }),
        ("a file that is gone", |fs| fs::remove_file(fs.join("implied/deep/file")).unwrap()),
        ("a file too many", |fs| fs::write(fs.join("implied/new"), "").unwrap()),
        ("a directory too many", |fs| fs::create_dir(fs.join("implied/new")).unwrap()),
        ("a mode", |fs| fs::set_permissions(fs.join("other"), fs::Permissions::from_mode(0o4755)).unwrap()),
        ("a directory's mode", |fs| {
            fs::set_permissions(fs.join("implied"), fs::Permissions::from_mode(0o777)).unwrap();
        }),
        ("an owner", |fs| std::os::unix::fs::chown(fs.join("other"), Some(7), None).unwrap()),
        ("an attribute", |fs| {
            let file = fs::File::open(fs.join("other")).unwrap();
            coracle_sys::xattr::set(&file, c"user.x", b"1").unwrap();
        }),
        ("the target of a link", |fs| {
            fs::remove_file(fs.join("link")).unwrap();
            symlink("other", fs.join("link")).unwrap();
        }),
        ("a hard link that is a copy", |fs| {
            fs::remove_file(fs.join("twin")).unwrap();
            fs::copy(fs.join("text"), fs.join("twin")).unwrap();
        }),
        ("a whiteout", |fs| fs::remove_file(fs.join("etc/gone")).unwrap()),
    ];
    for (case, harm) in harms {
        let field = Field::new();
        let layer = field.import(&sample()).unwrap();
        harm(&field.fs(&layer.diff_id));
        let found = faults(&field);
        let [(subject, Condition::Damaged(_))] = found.as_slice() else { panic!("{case}: {found:?}") };
        assert_eq!(*subject, Subject::Layer(layer.diff_id), "{case}");
    }
}

#[test]
fn records_and_archives_that_are_damaged_or_missing_are_found() {
    type Harm = fn(&Field, &Layer);
    let flip: Harm = |field, layer| {
        let path = blob_path(field, layer);
        let mut content = fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(path, content).unwrap();
    };
    // Whether the blob is damaged, and what becomes of the layer: damaged, unproven.
    let harms: [(&str, bool, (bool, bool), Harm); 8] = [
        ("no record", false, (true, false), |field, layer| {
            fs::remove_file(layer_directory(field, layer).join("layer.json")).unwrap();
        }),
        ("a record that is none", false, (true, false), |field, layer| {
            fs::write(layer_directory(field, layer).join("layer.json"), "{").unwrap();
        }),
        ("a record that lies", false, (true, false), |field, layer| {
            let path = layer_directory(field, layer).join("layer.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"opaqueRoot\":false", "\"opaqueRoot\":true")).unwrap();
        }),
        ("a record of a newer engine", false, (false, true), |field, layer| {
            let path = layer_directory(field, layer).join("layer.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"version\":1", "\"version\":99")).unwrap();
        }),
        ("no files", false, (true, false), |field, layer| {
            fs::remove_dir_all(field.fs(&layer.diff_id)).unwrap();
        }),
        ("an archive with another bit", true, (false, true), flip),
        ("no archive", false, (false, true), |field, layer| {
            fs::remove_file(blob_path(field, layer)).unwrap();
        }),
        ("a directory as archive", true, (false, true), |field, layer| {
            fs::remove_file(blob_path(field, layer)).unwrap();
            fs::create_dir(blob_path(field, layer)).unwrap();
        }),
    ];
    for (case, blob, (damaged, unproven), harm) in harms {
        let field = Field::new();
        let layer = field.import(&gzip(&sample())).unwrap();
        harm(&field, &layer);
        let found = faults(&field);
        let digest = layer.blob.unwrap().blob.digest;
        let of = |wanted: Subject| found.iter().filter(move |(subject, _)| *subject == wanted);
        let is_damaged = |wanted| of(wanted).any(|(_, condition)| matches!(condition, Condition::Damaged(_)));
        let is_unproven =
            |wanted| of(wanted).any(|(_, condition)| matches!(condition, Condition::Unproven(_)));
        assert_eq!(is_damaged(Subject::Blob(digest)), blob, "{case}: {found:?}");
        assert_eq!(is_damaged(Subject::Layer(layer.diff_id)), damaged, "{case}: {found:?}");
        assert_eq!(is_unproven(Subject::Layer(layer.diff_id)), unproven, "{case}: {found:?}");
        assert_eq!(found.len(), usize::from(blob) + 1, "{case}: {found:?}");
    }
}

#[test]
fn a_layer_without_an_archive_proves_itself() {
    let field = Field::new();
    let layer = committed(&field);
    fs::write(field.fs(&layer.diff_id).join("made/file"), "by somebody else").unwrap();
    let found = faults(&field);
    let [(subject, Condition::Damaged(_))] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(*subject, Subject::Layer(layer.diff_id));
}

#[test]
fn what_is_set_aside_is_kept_and_may_come_again() {
    let field = Field::new();
    let archive = gzip(&sample());
    let layer = field.import(&archive).unwrap();
    let blob = layer.blob.as_ref().unwrap().blob.digest;
    fs::write(field.fs(&layer.diff_id).join("text"), "damaged").unwrap();
    fs::write(blob_path(&field, &layer), "damaged").unwrap();
    for subject in [Subject::Blob(blob), Subject::Layer(layer.diff_id)] {
        assert!(field.store.quarantine(&subject).unwrap());
        assert!(!field.store.quarantine(&subject).unwrap(), "it is gone from its place");
    }
    assert!(!field.store.has_whole_layer(&layer.diff_id).unwrap());
    let field = field.reopened();
    field.store.empty_trash().unwrap();
    let mut kept: Vec<String> = fs::read_dir(field.data("quarantine"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept[0].starts_with(&format!("blob-sha256-{}", blob.hex())), "{kept:?}");
    assert!(kept[1].starts_with(&format!("layer-sha256-{}", layer.diff_id.hex())), "{kept:?}");
    assert_eq!(faults(&field), []);
    assert_eq!(field.import(&archive).unwrap(), layer);
    assert_eq!(faults(&field), []);
    assert!(field.store.has_whole_layer(&layer.diff_id).unwrap());
}

#[test]
fn a_blob_that_was_lost_comes_again_beside_its_layer() {
    let field = Field::new();
    let archive = gzip(&sample());
    let layer = field.import(&archive).unwrap();
    fs::remove_file(blob_path(&field, &layer)).unwrap();
    assert!(!field.store.has_whole_layer(&layer.diff_id).unwrap());
    assert!(field.store.find_layer(&layer.diff_id).unwrap().unwrap().blob.is_none());
    assert_eq!(field.import(&archive).unwrap(), layer);
    assert_eq!(faults(&field), []);
    assert!(field.store.has_whole_layer(&layer.diff_id).unwrap());
}

#[test]
fn a_check_ends_when_nobody_listens() {
    let field = Field::new();
    for content in [b"1", b"2", b"3"] {
        field.store.put_blob(content).unwrap();
    }
    let mut looked: Vec<Digest> = Vec::new();
    let told = &mut |subject: Subject, _: Condition| {
        let Subject::Blob(digest) = subject else { panic!("{subject:?}") };
        looked.push(digest);
        ControlFlow::Break(())
    };
    field.store.check(told).unwrap();
    assert_eq!(looked.len(), 1);
}
