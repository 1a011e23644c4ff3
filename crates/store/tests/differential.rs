//! What GNU tar and this crate make of the same random trees must be the same: names, types, modes, owners, attributes,
//! times and contents. `CORACLE_TREES=500 cargo test -p coracle-store --test differential` looks at more of them.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod support;

use coracle_corpus::trees::{Precision, content_of, count, dialect, difference, grow, pack, unpack};
use coracle_store::{Copying, Store, Tree};
use coracle_sys::rooted::Root;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;
use support::Field;

#[test]
fn what_gnu_tar_packs_is_unpacked_alike_as_a_layer_and_as_a_copy() {
    let field = Field::new();
    for seed in 1..=count(20) {
        let tree = tempfile::tempdir().unwrap();
        grow(tree.path(), seed);
        let dialect = dialect(seed);
        let precision = dialect.1;
        let archive = pack(tree.path(), dialect);
        let expected = content_of(tree.path(), precision);
        let check = |what: &str, top: &Path| {
            let difference = difference(&content_of(top, precision), &expected);
            assert_eq!(difference, None, "SEED={seed} {dialect:?} {what}");
        };
        // GNU tar itself, so that nothing is asked for that it cannot do.
        let out = tempfile::tempdir().unwrap();
        unpack(&archive, out.path());
        check("by GNU tar", out.path());
        let layer = field.import(&archive).unwrap();
        check("as a layer", &field.fs(&layer.diff_id));
        field.assert_whole(&format!("SEED={seed} {dialect:?}"));
        field.store.remove_layer(&layer.diff_id).unwrap();
        field.store.remove_blob(&layer.blob.unwrap().blob.digest).unwrap();
        field.store.empty_trash().unwrap();
        let out = tempfile::tempdir().unwrap();
        let root = Tree::new(Root::open(out.path()).unwrap(), &[]).unwrap();
        root.unpack(Path::new("/"), archive.as_slice(), Copying::default()).unwrap();
        check("as a copy", out.path());
    }
}

#[test]
fn what_is_packed_gnu_tar_unpacks_alike() {
    for seed in 1..=count(20) {
        let tree = tempfile::tempdir().unwrap();
        grow(tree.path(), seed);
        let expected = content_of(tree.path(), Precision::Seconds);
        let check = |what: &str, archive: &[u8], below: &str| {
            let out = tempfile::tempdir().unwrap();
            unpack(archive, out.path());
            let found = content_of(&out.path().join(below), Precision::Seconds);
            assert_eq!(difference(&found, &expected), None, "SEED={seed} {what}");
        };
        let root = std::fs::File::open(tree.path()).unwrap();
        let export = || {
            let mut archive = Vec::new();
            Store::export(root.as_fd(), None, &mut archive).unwrap();
            archive
        };
        let archive = export();
        check("exported", &archive, "");
        assert!(archive == export(), "SEED={seed}: the same tree gave other bytes");
        let root = Tree::new(Root::open(tree.path()).unwrap(), &[]).unwrap();
        let mut archive = Vec::new();
        let found = root.find(Path::new("/")).unwrap().unwrap();
        root.pack(&found, OsStr::new("name"), &mut archive).unwrap();
        check("copied", &archive, "name");
    }
}
