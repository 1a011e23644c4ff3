//! The corpus of hostile archives through both doors of the store: a layer that is imported, and an archive that is
//! unpacked into the files of a container.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod support;

use coracle_corpus::{Canary, Case, Fate, PROBE, all};
use coracle_store::{Copying, Tree};
use coracle_sys::rooted::Root;
use std::fs;
use std::path::Path;
use support::Field;

/// Runs the check for every case, and reports all that do not hold together.
fn for_each(field: &Field, mut check: impl FnMut(&Case) -> Result<(), String>) {
    let mut failures = Vec::new();
    for case in all(&Canary::new(&field.canary())) {
        if let Err(text) = check(&case) {
            failures.push(format!("{}: {text}", case.name));
        }
        field.assert_canary_untouched(&case.name);
        assert_eq!(field.unfinished(), 0, "{}: something is left in tmp", case.name);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_hostile_layer_is_refused_or_confined_and_every_twin_is_imported() {
    let field = Field::new();
    for_each(&field, |case| {
        match (field.import(&case.hostile), case.fate) {
            (Ok(_), Fate::Refused | Fate::RefusedAsLayer) => return Err("was accepted".into()),
            (Ok(layer), Fate::Confined) => {
                field.assert_whole(&case.name);
                field.store.remove_layer(&layer.diff_id).unwrap();
                field.store.remove_blob(&layer.blob.unwrap().blob.digest).unwrap();
            }
            (Err(error), _) if error.is_input() => {}
            (Err(error), _) => return Err(format!("not the machine's fault: {error:?}")),
        }
        let twin = field.import(&case.twin).map_err(|error| format!("the twin: {error:?}"))?;
        assert_eq!(fs::read_to_string(field.fs(&twin.diff_id).join(PROBE)).unwrap(), case.name);
        field.assert_whole(&case.name);
        assert!(field.store.remove_layer(&twin.diff_id).unwrap());
        assert!(field.store.remove_blob(&twin.blob.unwrap().blob.digest).unwrap());
        Ok(())
    });
}

#[test]
fn every_hostile_copy_is_refused_or_confined_and_every_twin_is_unpacked() {
    let field = Field::new();
    for_each(&field, |case| {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for directory in ["a/b", "a/twin", "etc"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("etc/passwd"), "of the container").unwrap();
        let tree = Tree::new(Root::open(place.path()).unwrap(), &[]).unwrap();
        let unpack = |to: &str, archive: &[u8]| tree.unpack(Path::new(to), archive, Copying::default());
        let mode = fs::metadata(at("a/b")).unwrap().permissions();
        if unpack("/a/b/.", &case.hostile).is_ok() && case.fate == Fate::Refused {
            return Err("was accepted".into());
        }
        let entries = |path: &str| fs::read_dir(at(path)).unwrap().count();
        if !case.name.contains("link") {
            // Only a link leads out of the directory, into the rest of the container.
            assert_eq!((entries(""), entries("a"), entries("etc")), (2, 2, 1), "{}", case.name);
        }
        assert_eq!(fs::metadata(at("a/b")).unwrap().permissions(), mode, "{}", case.name);
        assert_eq!(fs::read_to_string(at("etc/passwd")).unwrap(), "of the container");
        unpack("/a/twin", &case.twin).map_err(|error| format!("the twin: {error:?}"))?;
        assert_eq!(fs::read_to_string(at("a/twin").join(PROBE)).unwrap(), case.name);
        Ok(())
    });
}
