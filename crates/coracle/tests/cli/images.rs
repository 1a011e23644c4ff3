//! Images: names, archives, history, commits.

use crate::target::{target, unique_name};

#[test]
fn an_image_is_tagged_listed_and_untagged() {
    let target = target();
    let name = unique_name();
    let tag = format!("{name}:v1");
    target.ok(&["tag", target.image(), &tag]);
    let row = target.ok(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", &name]);
    let id = target.ok(&["image", "inspect", "-f", "{{.Id}}", &tag]);
    assert_eq!(row, format!("{tag} {}", &id["sha256:".len()..][..12]));
    assert_eq!(target.ok(&["rmi", &tag]), format!("Untagged: {tag}"));
    assert_eq!(target.ok(&["images", "-q", &name]), "");
}

#[test]
fn a_commit_holds_the_change_and_the_instruction() {
    let target = target();
    let container = target.container(&[], &["sh", "-c", "echo changed > /new"]);
    target.ok(&["wait", &container.name]);
    assert!(target.ok(&["diff", &container.name]).lines().any(|line| line == "A /new"));
    let name = unique_name();
    target.ok(&["commit", "-c", "CMD [\"cat\", \"/new\"]", "-m", "why", &container.name, &name]);
    let shown = target.ok(&["run", "--rm", &name]);
    let history = target.ok(&["history", "--format", "{{.Comment}}", &name]);
    target.ok(&["rmi", "-f", &name]);
    assert_eq!(shown, "changed");
    assert_eq!(history.lines().next(), Some("why"));
}

#[test]
fn an_archive_saved_is_loaded_again() {
    let target = target();
    let name = format!("{}:v1", unique_name());
    target.ok(&["tag", target.image(), &name]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("image.tar");
    let path = file.to_str().expect("letters");
    target.ok(&["save", "-o", path, &name]);
    target.ok(&["rmi", &name]);
    let loaded = target.ok(&["load", "-i", path]);
    assert_eq!(loaded, format!("Loaded image: {name}"));
    target.ok(&["rmi", &name]);
    assert_eq!(target.run(&["save", "-o", path, "no-such-image-here"]).code, 1);
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("there")
        .map(|entry| entry.map(|e| e.file_name()))
        .collect();
    assert_eq!(left.len(), 1, "a failed save leaves the file that was there, and nothing else: {left:?}");
    assert!(file.metadata().expect("there").len() > 1_000_000);
}
