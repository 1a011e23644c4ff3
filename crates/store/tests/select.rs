//! Files of a foreign tree under other names, as a build copies them.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use coracle_store::{Altered, Chosen, Error, Taken, Tree};
use coracle_sys::rooted::Root;

struct Field {
    directory: tempfile::TempDir,
    tree: Tree,
}

impl Field {
    /// A tree beside a file that is none of its business.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        let top = directory.path().join("top");
        for path in ["a/b/c", "a/skipped", "empty"] {
            fs::create_dir_all(top.join(path)).unwrap();
        }
        for (path, content) in
            [("f", "file"), ("a/x", "ax"), ("a/b/c/y", "abcy"), ("a/skipped/z", "z"), ("a/unwanted", "u")]
        {
            fs::write(top.join(path), content).unwrap();
        }
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("a/x", top.join("link")).unwrap();
        symlink("../secret", top.join("out")).unwrap();
        symlink("../x", top.join("a/b/inner")).unwrap();
        let tree = Tree::new(Root::open(&top).unwrap(), &[]).unwrap();
        Self { directory, tree }
    }

    fn pack(&self, chosen: &[Chosen], altered: Altered) -> Result<Vec<u8>, Error> {
        let left_out = |path: &[u8], below: &[u8]| path.starts_with(b"a/skipped") || below == b"unwanted";
        let mut archive = Vec::new();
        self.tree.pack_chosen(chosen, &left_out, altered, &mut archive).map(|()| archive)
    }

    fn listing(&self, chosen: &[Chosen]) -> BTreeMap<String, String> {
        listing(&self.pack(chosen, Altered::default()).unwrap())
    }
}

fn listing(archive: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = String::new();
        std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
        if let Some(target) = entry.link_name().unwrap() {
            content = format!("-> {}", target.display());
        }
        (path, content)
    });
    entries.collect()
}

fn content(path: &str, name: &str) -> Chosen {
    Chosen { path: Path::new(path).to_owned(), name: name.into(), taken: Taken::Content }
}

fn itself(path: &str, name: &str) -> Chosen {
    Chosen { taken: Taken::Itself, ..content(path, name) }
}

fn expected(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

#[test]
fn content_gets_the_names_that_were_chosen() {
    let field = Field::new();
    let entries =
        [("w/x", "ax"), ("w/b/", ""), ("w/b/c/", ""), ("w/b/c/y", "abcy"), ("w/b/inner", "-> ../x")];
    assert_eq!(field.listing(&[content("/a", "w")]), expected(&entries));
    let with_top = [&entries[..], &[("w/", "")]].concat();
    assert_eq!(field.listing(&[itself("a/", "w"), content("a/", "w/")]), expected(&with_top));
    assert_eq!(
        field.listing(&[itself("a/b", "w/b"), itself("a", "w")]),
        expected(&[("w/", ""), ("w/b/", "")])
    );
    assert_eq!(field.listing(&[content("f", "w/g")]), expected(&[("w/g", "file")]));
    assert_eq!(field.listing(&[itself("f", "w/g")]), expected(&[("w/g", "file")]));
    assert_eq!(field.listing(&[content("a/b/c", "")]), expected(&[("y", "abcy")]));
    assert_eq!(field.listing(&[content("/", "")]).get("a/unwanted").map(String::as_str), Some("u"));
    let several = [content("f", "one"), content("a/b/c/y", "two")];
    assert_eq!(field.listing(&several), expected(&[("one", "file"), ("two", "abcy")]));
}

#[test]
fn links_lead_nowhere_but_inside() {
    let field = Field::new();
    assert_eq!(field.listing(&[content("link", "l")]), expected(&[("l", "ax")]));
    assert_eq!(field.listing(&[itself("link", "l")]), expected(&[("l", "-> a/x")]));
    assert!(field.directory.path().join("top/out").exists(), "outside of the tree it leads somewhere");
    symlink("a/skipped/z", field.directory.path().join("top/hidden")).unwrap();
    for (path, missing) in [
        ("out", "/secret"),
        ("../secret", "/secret"),
        ("nothing", "/nothing"),
        ("f/x", "/f/x"),
        ("a/unwanted", "/a/unwanted"),
        ("hidden", "/a/skipped/z"),
    ] {
        match field.pack(&[content(path, "l")], Altered::default()) {
            Err(Error::NotThere { path: found }) => assert_eq!(found, missing, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn owners_modes_and_times_are_altered() {
    let field = Field::new();
    let altered =
        Altered { owner: Some((7, 8)), mode: Some("640".parse().unwrap()), timeless: true, latest: None };
    let archive = field.pack(&[itself("/", "all"), content("/", "all")], altered).unwrap();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (7, 8, 0));
        if header.entry_type() != tar::EntryType::Symlink {
            assert_eq!(header.mode().unwrap(), 0o640, "{:?}", entry.path());
        }
    }
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    fs::File::open(field.directory.path().join("top/f")).unwrap().set_times(times).unwrap();
    assert_eq!(
        field.pack(&[itself("/", "all"), content("/", "all")], altered).unwrap(),
        archive,
        "times make no difference"
    );
}

#[test]
fn symbolic_modes_depend_on_what_they_are_for() {
    let field = Field::new();
    fs::set_permissions(field.directory.path().join("top/a/x"), fs::Permissions::from_mode(0o711)).unwrap();
    let altered = Altered { mode: Some("u=rwX,go=rX".parse().unwrap()), ..Altered::default() };
    let archive = field.pack(&[itself("a", "a"), content("a", "a")], altered).unwrap();
    let modes: BTreeMap<String, u32> = tar::Archive::new(&archive[..])
        .entries()
        .unwrap()
        .map(|entry| {
            entry.map(|entry| (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap()))
        })
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!((modes["a/"], modes["a/x"], modes["a/b/c/y"]), (0o755, 0o755, 0o644));
}

#[test]
fn every_path_is_visited_but_those_below_a_closed_directory() {
    let field = Field::new();
    let mut paths = Vec::new();
    let visited = field.tree.paths(&mut |path, is_directory| {
        paths.push(format!("{}{}", path.display(), if is_directory { "/" } else { "" }));
        path != Path::new("a/b")
    });
    visited.unwrap();
    assert_eq!(
        paths,
        ["a/", "a/b/", "a/skipped/", "a/skipped/z", "a/unwanted", "a/x", "empty/", "f", "link", "out"]
    );
}

#[test]
fn a_file_of_zeros_is_no_archive() {
    let field = Field::new();
    let top = field.directory.path().join("top");
    fs::write(top.join("zeros"), vec![0; 4096]).unwrap();
    fs::write(top.join("tar"), field.pack(&[content("f", "f")], Altered::default()).unwrap()).unwrap();
    assert!(!field.tree.is_archive(Path::new("zeros")).unwrap());
    assert!(field.tree.is_archive(Path::new("tar")).unwrap());
}

#[test]
fn a_link_never_leads_to_a_name_that_something_else_took() {
    let field = Field::new();
    let top = field.directory.path().join("top");
    fs::hard_link(top.join("f"), top.join("g")).unwrap();
    // The second takes the name of the first; the third was the same file as that.
    let all = [content("f", "to/x"), content("a/x", "to/x"), content("g", "to/g")];
    assert_eq!(field.listing(&all)["to/g"], "file");
}
