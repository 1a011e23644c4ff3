//! Images without registries: import, load, save, commit, tag, history, removal.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;

#[test]
fn an_imported_archive_has_the_changes_that_were_asked_for() {
    let engine = Engine::start();
    let archive = coracle_tests::image::small(engine.directory()).display().to_string();
    let name = engine.name("imported");
    engine
        .docker(&[
            "import",
            "-c",
            "CMD [\"echo\", \"from the image\"]",
            "-c",
            "ENV A=1 B=2",
            "-c",
            "WORKDIR /var",
            "-m",
            "a message",
            &archive,
            &name,
        ])
        .ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name]).ok(), "from the image");
    assert_eq!(
        engine.docker(&["run", "--rm", "--network", "none", &name, "sh", "-c", "pwd; echo $A$B"]).ok(),
        "/var\n12"
    );
    assert!(
        engine
            .docker(&["history", "--no-trunc", "--format", "{{.Comment}}", &name])
            .ok()
            .contains("a message")
    );
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn a_committed_container_is_an_image() {
    let engine = Engine::start();
    let (name, image) = (engine.name("c"), engine.name("committed"));
    engine
        .docker(&[
            "run",
            "--name",
            &name,
            "--network",
            "none",
            SMALL,
            "sh",
            "-c",
            "echo kept > /file; rm /etc/plain",
        ])
        .ok();
    engine.docker(&["commit", "-a", "me", "-m", "why", "-c", "ENTRYPOINT [\"cat\"]", &name, &image]).ok();
    engine.docker(&["rm", &name]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &image, "/file"]).ok(), "kept");
    assert_ne!(engine.docker(&["run", "--rm", "--network", "none", &image, "/etc/plain"]).code, 0);
    let inspected = engine.docker(&["image", "inspect", &image]).json();
    assert_eq!(inspected[0]["Author"], "me");
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(engine.docker(&["history", "-q", &image]).ok().lines().count(), 2);
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn a_saved_image_loads_again_the_same() {
    let engine = Engine::start();
    let (name, file) = (engine.name("saved"), engine.directory().join("saved.tar").display().to_string());
    engine.docker(&["tag", SMALL, &name]).ok();
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok();
    engine.docker(&["save", "-o", &file, &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["inspect", &name]).refused(1, "no such object");
    let loaded = engine.docker(&["load", "-i", &file]).ok();
    assert!(loaded.contains(&format!("Loaded image: {name}:latest")), "{loaded}");
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), id);
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn an_image_in_use_is_kept_and_a_tag_is_only_a_name() {
    let engine = Engine::start();
    let (container, tag) = (engine.name("user"), engine.name("tag"));
    let archive = coracle_tests::image::small(engine.directory()).display().to_string();
    let own = engine.name("own");
    engine.docker(&["import", "-m", &own, &archive, &own]).ok();
    engine.docker(&["tag", &own, &tag]).ok();
    assert!(engine.docker(&["rmi", &tag]).ok().contains(&format!("Untagged: {tag}:latest")));
    engine.docker(&["create", "--name", &container, &own, "true"]).ok();
    engine.docker(&["rmi", &own]).refused(1, "container");
    engine.docker(&["rm", &container]).ok();
    assert!(engine.docker(&["rmi", &own]).ok().contains("Deleted: sha256:"));
}

#[test]
fn an_exported_container_has_its_files() {
    let engine = Engine::start();
    let (name, file) = (engine.name("export"), engine.directory().join("export.tar"));
    engine
        .docker(&["run", "--name", &name, "--network", "none", SMALL, "sh", "-c", "echo mine > /mine"])
        .ok();
    engine.docker(&["export", "-o", &file.display().to_string(), &name]).ok();
    let mut archive = tar::Archive::new(std::fs::File::open(&file).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.iter().any(|name| name == "mine") && names.iter().any(|name| name == "bin/busybox"));
    engine.docker(&["rm", &name]).ok();
}
