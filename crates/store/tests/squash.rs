//! Several layers as one: whatever they did, on what was below it comes out the same.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use coracle_corpus::trees::{Random, count, grow};
use coracle_spec::{ContainerId, Digest};
use coracle_store::Layer;
use support::{Field, Overlay, Precision, Tar, content_of};

/// Trees that are looked at, unless more are asked for.
const FEW: u64 = 12;

/// What is done to a tree by one layer.
const CHANGES: u64 = 25;

fn layer_of(field: &Field, below: &[Digest], work: impl FnOnce(&Path)) -> Digest {
    let id = ContainerId::random();
    let overlay = Overlay::mount(&field.store.prepare(&id, below).unwrap());
    work(&overlay.path());
    drop(overlay);
    field.store.commit(&id).unwrap().diff_id
}

/// Everything about what layers are together but which names are of one file: overlayfs parts them.
fn together(field: &Field, layers: &[Digest]) -> BTreeMap<Vec<u8>, String> {
    let overlay = Overlay::mount(&field.store.prepare(&ContainerId::random(), layers).unwrap());
    let mut content = content_of(&overlay.path(), Precision::Seconds);
    for text in content.values_mut() {
        if let Some(end) = text.find(" same as ") {
            text.truncate(end);
        }
    }
    content
}

fn squash(field: &Field, below: &[Digest], layers: &[Digest]) -> Option<Layer> {
    let layer = field.store.squash(below, layers).unwrap();
    field.assert_whole("squashed");
    layer
}

/// Any path of a tree, its top left out.
fn any(top: &Path, random: &mut Random) -> Option<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                todo.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    let at = usize::try_from(random.below(found.len().max(1) as u64)).unwrap();
    found.into_iter().nth(at)
}

fn remove(path: &Path) {
    if path.symlink_metadata().unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn change(top: &Path, random: &mut Random) {
    for number in 0..CHANGES {
        let Some(path) = any(top, random) else { return };
        match random.below(6) {
            0 => remove(&path),
            1 => {
                remove(&path);
                fs::write(&path, number.to_string()).unwrap();
            }
            2 => {
                remove(&path);
                fs::create_dir(&path).unwrap();
                fs::write(path.join("inside"), "").unwrap();
            }
            3 if path.symlink_metadata().unwrap().is_dir() => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).unwrap();
            }
            4 => {
                remove(&path);
                symlink("elsewhere", &path).unwrap();
            }
            _ => {
                let directory = if path.symlink_metadata().unwrap().is_dir() { &path } else { top };
                fs::write(directory.join(format!("new{}", random.below(1 << 40))), "new").unwrap();
            }
        }
    }
}

#[test]
fn one_layer_does_what_several_did() {
    for seed in 1..=count(FEW) {
        let field = Field::new();
        let random = &mut Random::new(seed);
        let base = layer_of(&field, &[], |top| grow(top, seed));
        let mut layers = vec![base];
        for _ in 0..4 {
            layers.push(layer_of(&field, &layers, |top| change(top, random)));
        }
        for kept in 0..layers.len() {
            let (below, above) = layers.split_at(kept);
            let squashed = squash(&field, below, above).map(|layer| layer.diff_id);
            let whole = [below, &Vec::from_iter(squashed)].concat();
            assert_eq!(together(&field, &whole), together(&field, &layers), "seed {seed}, {kept} kept");
        }
    }
}

#[test]
fn what_came_and_went_leaves_nothing() {
    let field = Field::new();
    let base = field.import(&Tar::new().file("kept", b"1").end()).unwrap().diff_id;
    let came = field.import(&Tar::new().file("secret", b"2").file("d/x", b"").end()).unwrap().diff_id;
    let went = field.import(&Tar::new().file(".wh.secret", b"").file(".wh.d", b"").end()).unwrap().diff_id;
    assert!(squash(&field, &[base], &[came, went]).is_none());
    let gone = field.import(&Tar::new().file(".wh.kept", b"").end()).unwrap().diff_id;
    let layer = squash(&field, &[base], &[came, went, gone]).unwrap();
    let noted: Vec<_> =
        fs::read_dir(field.fs(&layer.diff_id)).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(noted, ["kept"], "what is still there below is noted as removed, and nothing else");
    assert!(together(&field, &[base, layer.diff_id]).is_empty());
}

#[test]
fn an_opaque_root_hides_what_is_below_all() {
    let field = Field::new();
    let base = field.import(&Tar::new().file("kept", b"1").file("dir/lower", b"").end()).unwrap().diff_id;
    let came = field.import(&Tar::new().file("came", b"2").end()).unwrap().diff_id;
    let top = field
        .import(&Tar::new().file(".wh..wh..opq", b"").file("only", b"").file("dir/own", b"").end())
        .unwrap()
        .diff_id;
    let layer = squash(&field, &[base], &[came, top]).unwrap();
    let names: Vec<_> = together(&field, &[base, layer.diff_id]).into_keys().collect();
    assert_eq!(names, [b"dir".to_vec(), b"dir/own".to_vec(), b"only".to_vec()]);
}
