//! Content that goes where nothing is, as a layer of its own.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use coracle_store::{Altered, Content, Error, Layer, Tree};
use coracle_sys::rooted::Root;
use support::Field;

struct Work {
    store: Field,
    directory: tempfile::TempDir,
}

impl Work {
    /// A source beside a target.
    fn new() -> Self {
        let work = Self { store: Field::new(), directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(work.source().join("b/empty")).unwrap();
        fs::write(work.source().join("b/x"), "x").unwrap();
        fs::hard_link(work.source().join("b/x"), work.source().join("again")).unwrap();
        symlink("b/x", work.source().join("link")).unwrap();
        fs::set_permissions(work.source().join("b"), fs::Permissions::from_mode(0o2750)).unwrap();
        fs::create_dir_all(work.target().join("app")).unwrap();
        fs::create_dir_all(work.target().join("full/of")).unwrap();
        fs::write(work.target().join("file"), "").unwrap();
        fs::set_permissions(work.target().join("app"), fs::Permissions::from_mode(0o1711)).unwrap();
        rustix::fs::setxattr(work.target().join("app"), "user.mark", b"1", rustix::fs::XattrFlags::empty())
            .unwrap();
        work
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("target")
    }

    fn keep(&self, place: &str, altered: Altered) -> Result<Option<Layer>, Error> {
        let (source, target) = (tree(&self.source()), tree(&self.target()));
        let vacancy = target.vacancy(Path::new(place)).unwrap().unwrap();
        let content = Content { tree: &source, path: Path::new("."), altered, owner: (7, 8) };
        let kept = self.store.store.keep_content(&content, &|path, _| path == b"out", &vacancy);
        if let Ok(Some(layer)) = &kept {
            // The same archive comes of its files.
            self.store.assert_whole(place);
            self.store.store.write_layer(&layer.diff_id, &mut std::io::sink()).unwrap();
        }
        kept
    }
}

fn tree(path: &Path) -> Tree {
    fs::create_dir_all(path).unwrap();
    Tree::new(Root::open(path).unwrap(), &[]).unwrap()
}

#[test]
fn what_is_taken_is_no_vacancy() {
    let work = Work::new();
    let target = tree(&work.target());
    for place in ["full", "file", "file/below", "."] {
        assert!(target.vacancy(Path::new(place)).unwrap().is_none(), "{place}");
    }
    for place in ["app", "new", "full/of", "full/new/deep"] {
        assert!(target.vacancy(Path::new(place)).unwrap().is_some(), "{place}");
    }
}

#[test]
fn content_becomes_a_layer_that_its_files_give_again() {
    let work = Work::new();
    let altered = Altered { owner: Some((1, 2)), ..Altered::default() };
    let layer = work.keep("app/new/deep", altered).unwrap().unwrap();
    let files = work.store.fs(&layer.diff_id);
    let app = fs::metadata(files.join("app")).unwrap();
    assert_eq!((app.mode() & 0o7777, app.uid()), (0o1711, 0), "it stays what it is");
    let mut mark = [0; 4];
    assert_eq!(rustix::fs::getxattr(files.join("app"), "user.mark", &mut mark).unwrap(), 1);
    let new = fs::metadata(files.join("app/new")).unwrap();
    assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o755, 7, 8));
    let deep = files.join("app/new/deep");
    let b = fs::metadata(deep.join("b")).unwrap();
    assert_eq!((b.mode() & 0o7777, b.uid(), b.gid()), (0o2750, 1, 2));
    assert_eq!(fs::read_to_string(deep.join("again")).unwrap(), "x");
    assert_eq!(
        fs::metadata(deep.join("again")).unwrap().ino(),
        fs::metadata(deep.join("b/x")).unwrap().ino()
    );
    assert_eq!(fs::read_link(deep.join("link")).unwrap(), Path::new("b/x"));
}

#[test]
fn times_are_bounded_and_what_is_left_out_stays_out() {
    let work = Work::new();
    fs::write(work.source().join("out"), "").unwrap();
    let layer = work.keep("app", Altered { latest: Some(1000), ..Altered::default() }).unwrap().unwrap();
    let again = work.keep("app", Altered { latest: Some(1000), ..Altered::default() }).unwrap().unwrap();
    assert_eq!(layer.diff_id, again.diff_id);
    let files = work.store.fs(&layer.diff_id);
    for path in ["app", "app/b", "app/b/x"] {
        assert_eq!(fs::metadata(files.join(path)).unwrap().mtime(), 1000, "{path}");
    }
    assert!(!files.join("app/out").exists());
}

#[test]
fn no_content_is_no_layer_but_for_the_directory() {
    let work = Work::new();
    fs::remove_dir_all(work.source()).unwrap();
    assert!(work.keep("app", Altered::default()).unwrap().is_none());
    let layer = work.keep("new", Altered::default()).unwrap().unwrap();
    assert!(work.store.fs(&layer.diff_id).join("new").is_dir());
}

#[test]
fn names_that_mean_removal_are_refused() {
    let work = Work::new();
    assert!(matches!(work.keep("app/.wh.x", Altered::default()), Err(Error::Archive { .. })));
    fs::write(work.source().join("b/.wh.x"), "").unwrap();
    assert!(matches!(work.keep("app", Altered::default()), Err(Error::Archive { .. })));
    assert_eq!(work.store.store.layers().unwrap(), []);
}

#[test]
fn a_directory_that_is_left_out_comes_along_with_what_is_taken_back() {
    let work = Work::new();
    let (source, target) = (tree(&work.source()), tree(&work.target()));
    let vacancy = target.vacancy(Path::new("/new")).unwrap().unwrap();
    let content = Content { tree: &source, path: Path::new("."), altered: Altered::default(), owner: (7, 8) };
    let only = |path: &[u8], _: &[u8]| path != b"b/x";
    let layer = work.store.store.keep_content(&content, &only, &vacancy).unwrap().unwrap();
    let mut archive = Vec::new();
    // It fails unless the files make the same archive again.
    work.store.store.write_layer(&layer.diff_id, &mut archive).unwrap();
    let mut archive = tar::Archive::new(&archive[..]);
    let found = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
    });
    let expected = [("new/", 0o755), ("new/b/", 0o2750), ("new/b/x", 0o644)];
    assert_eq!(found.collect::<Vec<_>>(), expected.map(|(name, mode)| (name.to_owned(), mode)));
}
