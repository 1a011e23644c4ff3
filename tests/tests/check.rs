//! `coracle system check`: what is damaged on the disk is found, set aside and brought anew.
//!
//! The original has no such command.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use coracle_tests::registry::Registry;
use std::fs;
use std::path::{Path, PathBuf};

/// An image of its own on top of the small one; its name in the registry, where it is too.
fn pushed(engine: &Engine, registry: &Registry) -> String {
    let (name, container) = (registry.name("checked:v1"), engine.name("made"));
    engine
        .docker(&["run", "--name", &container, "--network", "none", SMALL, "sh", "-c", "echo whole > /file"])
        .ok();
    engine.docker(&["commit", &container, &name]).ok();
    engine.docker(&["rm", &container]).ok();
    engine.docker(&["push", &name]).ok();
    // As a registry has it: its layers have archives.
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["pull", &name]).ok();
    name
}

fn data(engine: &Engine, below: &str) -> PathBuf {
    engine.directory().join("data").join(below)
}

/// The digest of the topmost layer, by its hex digits, and where it is.
fn top_layer(engine: &Engine, name: &str) -> (String, PathBuf) {
    let layers = engine.docker(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", name]).json();
    let hex = layers.as_array().unwrap().last().unwrap().as_str().unwrap()["sha256:".len()..].to_owned();
    let place = data(engine, "layers/sha256").join(&hex);
    (hex, place)
}

fn blob_of(layer: &Path) -> String {
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(layer.join("layer.json")).unwrap()).unwrap();
    record["blob"]["digest"].as_str().unwrap()["sha256:".len()..].to_owned()
}

#[test]
fn what_is_damaged_is_told_set_aside_and_comes_again_with_a_pull() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let name = pushed(&engine, &registry);
    let clean = engine.coracle(&["system", "check"]);
    assert!(clean.stderr.contains("Checked 2 images"), "{clean:?}");
    assert_eq!(clean.ok(), "");

    let (hex, place) = top_layer(&engine, &name);
    let blob = blob_of(&place);
    fs::write(place.join("fs/file"), "wrong\n").unwrap();
    let found = engine.coracle(&["system", "check"]);
    assert_eq!((found.code, found.stdout.lines().count()), (1, 1), "{found:?}");
    assert!(found.stdout.contains(&format!("layer sha256:{hex}: its files are not")), "{found:?}");
    assert!(found.stdout.contains(&format!("(needed by {name})")), "{found:?}");
    assert!(place.exists(), "a report changes nothing");

    // Its archive too, so that both have to come again.
    fs::write(data(&engine, "blobs/sha256").join(&blob), "wrong").unwrap();
    let moved = engine.coracle(&["system", "check", "--quarantine"]);
    assert_eq!(moved.code, 1, "{moved:?}");
    assert!(moved.stdout.contains(&format!("blob sha256:{blob}: ")), "{moved:?}");
    let kept: Vec<String> = fs::read_dir(data(&engine, "quarantine"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(kept.iter().any(|kept| kept.starts_with(&format!("blob-sha256-{blob}-"))), "{kept:?}");

    engine.docker(&["pull", &name]).ok();
    let after = engine.coracle(&["system", "check"]);
    // The blob is back, and shows that the layer, which could not be proven without it, is damaged.
    assert_eq!((after.code, after.stdout.lines().count()), (1, 1), "{after:?}");
    engine.coracle(&["system", "check", "--quarantine"]).fails_with(1);
    assert_ne!(engine.docker(&["run", "--rm", "--network", "none", &name, "cat", "/file"]).code, 0);
    engine.docker(&["pull", &name]).ok();
    assert_eq!(engine.coracle(&["system", "check"]).ok(), "");
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "cat", "/file"]).ok(), "whole");
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn the_endpoint_of_a_check_is_our_own_and_answers_line_by_line() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    let blob = blob_of(&top_layer(&engine, SMALL).1);
    let place = data(&engine, "blobs/sha256").join(&blob);
    fs::write(&place, "wrong").unwrap();
    for path in ["/coracle/system/check", "/v1.24/coracle/system/check"] {
        let (status, body) = engine.request("POST", path, None);
        assert_eq!(status, 200, "{body}");
        let lines: Vec<serde_json::Value> =
            body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [finding, more @ .., summary] = lines.as_slice() else { panic!("{body}") };
        assert_eq!(finding["Finding"]["Kind"], "blob");
        assert_eq!(finding["Finding"]["Digest"], format!("sha256:{blob}"));
        assert_eq!(finding["Finding"]["Images"], serde_json::json!([format!("{SMALL}:latest")]));
        assert_eq!(finding["Finding"]["Quarantined"], false);
        // Its layer, which cannot be proven without it.
        assert!(more.iter().all(|line| line["Finding"]["Kind"] == "layer"), "{body}");
        assert_eq!(summary["Summary"]["Findings"], 1 + more.len());
        assert_eq!(summary["Summary"]["Images"], 1);
    }
    let (status, body) = engine.request("POST", "/v1.44/coracle/system/check?quarantine=1", None);
    assert!(status == 200 && body.contains(r#""Quarantined":true"#), "{body}");
    assert!(!place.exists());
    assert_eq!(engine.request("GET", "/coracle/system/check", None).0, 404);
}

#[test]
fn half_an_archive_is_not_taken_for_a_whole_one() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    let (name, container) = (engine.name("built"), engine.name("made"));
    let script = "head -c 4000000 /dev/urandom >/file; echo end >/last";
    engine.docker(&["run", "--name", &container, "--network", "none", SMALL, "sh", "-c", script]).ok();
    engine.docker(&["commit", &container, &name]).ok();
    let (_, place) = top_layer(&engine, &name);
    fs::write(place.join("fs/last"), "other\n").unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    let saved = engine.docker(&["save", "-o", archive.path().to_str().unwrap(), &name]);
    assert_ne!(saved.code, 0, "the layer is not what its name says: {saved:?}");
    engine.docker(&["rm", &container]).ok();
    engine.docker(&["rmi", &name]).ok();
}
