//! From engine to engine goes what an archive would hold: all platforms that are here, statements about them, and what is
//! no image.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_corpus::digest;
use coracle_tests::Engine;
use coracle_tests::attested::{self, HOST, OTHER};
use coracle_tests::engine::wait_until;
use coracle_tests::moving::is_original;
use coracle_tests::pipe::{self, Peer};
use coracle_tests::registry::Registry;
use coracle_tests::shelf::{MANIFEST, Shelf};
use coracle_tests::ssh::Sshd;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;

/// Bytes that nothing compresses.
fn random(length: usize) -> Vec<u8> {
    let mut content = vec![0; length];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    content
}

/// Pushes what an engine has to a registry that has nothing; what it stands for there.
fn pushed(engine: &Engine, name: &str) -> String {
    let elsewhere = Registry::start();
    let target = elsewhere.name("copy:1");
    engine.docker(&["tag", name, &target]).ok();
    engine.docker(&["push", &target]).ok();
    engine.docker(&["rmi", &target]).ok();
    attested::tagged(&elsewhere, "copy", "1")
}

/// Which images and which statements about them are there: in the order of the index, images first.
fn here(engine: &Engine, name: &str) -> Vec<bool> {
    attested::manifests(engine, name).into_iter().map(|(_, available, _)| available).collect()
}

fn kept(engine: &Engine) -> u64 {
    let partial = engine.directory().join("data/partial");
    fs::read_dir(partial).unwrap().flatten().map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn all_platforms_arrive_with_what_is_said_of_them() {
    if is_original() {
        return;
    }
    let (here_, there, registry) = (Engine::start(), Engine::start(), Registry::start());
    let sshd = Sshd::before(&there);
    let name = registry.name("app:1");
    attested::push(&Engine::start(), &name, &[HOST, OTHER]);
    let index = attested::tagged(&registry, "app", "1");
    let platform = |architecture: &str| format!("linux/{architecture}");
    for architecture in [HOST, OTHER] {
        here_.docker(&["pull", "--platform", &platform(architecture), &name]).ok();
    }
    let send = |options: &[&str]| {
        let arguments = [&["image", "send", "ssh://peer"], options, &[name.as_str()]].concat();
        sshd.coracle(&here_, &arguments)
    };
    send(&["--platform", "linux/s390x"])
        .refused(1, "no suitable export target found for platform linux/s390x");
    send(&["--platform", &platform(OTHER)]).ok();
    assert_eq!(here(&there, &name), [false, true, false, true]);
    let sent = send(&[]).ok();
    for architecture in [HOST, OTHER] {
        assert!(sent.contains(&format!("Sending {name} (linux/{architecture})")), "{sent}");
    }
    assert_eq!(here(&there, &name), [true; 4]);
    let digests = |engine: &Engine| engine.docker(&["inspect", "-f", "{{.RepoDigests}}", &name]).ok();
    assert_eq!(digests(&there), digests(&here_));
    assert_eq!(pushed(&there, &name), index);

    // What is there does not go again.
    let sent = send(&[]).ok();
    assert_eq!(sent.matches(": Pushed").count(), 0, "{sent}");
    assert_eq!(sent.matches("sent 0 of ").count(), 2, "{sent}");
    let check = there.coracle(&["system", "check"]);
    assert!(check.code == 0, "{check:?}");

    // By its id, one image alone, as everywhere; under another name, all of them.
    let id = here_.docker(&["inspect", "-f", "{{.Id}}", &name]).ok();
    there.docker(&["rmi", &name]).ok();
    sshd.coracle(&here_, &["image", "send", "ssh://peer", &id]).ok();
    assert_eq!(there.docker(&["inspect", "-f", "{{.RepoTags}}", &id]).ok(), "[]");
    there.docker(&["rmi", &id]).ok();
    sshd.coracle(&here_, &["image", "send", "ssh://peer/moved:2", &name]).ok();
    assert_eq!(here(&there, "moved:2"), [true; 4]);
    assert_eq!(pushed(&there, "moved:2"), index);
    for engine in [&here_, &there] {
        engine.docker(&["rmi", if engine.host() == here_.host() { &name } else { "moved:2" }]).ok();
    }
}

#[test]
fn what_a_build_has_said_of_its_image_goes_along() {
    if is_original() {
        return;
    }
    let (here_, there) = (Engine::start(), Engine::start());
    let sshd = Sshd::before(&there);
    let context = coracle_tests::context::Context::new("FROM BASE\nRUN echo a >/a\n", &[]);
    here_.buildx(&context.path(), &["--provenance=true", "-t", "built:1"]).ok();
    sshd.coracle(&here_, &["image", "send", "ssh://peer", "built:1"]).ok();
    assert_eq!(here(&there, "built:1"), [true, true]);
    assert_eq!(pushed(&there, "built:1"), pushed(&here_, "built:1"));
    assert_eq!(there.docker(&["run", "--rm", "--network", "none", "built:1", "cat", "/a"]).ok(), "a");
    for engine in [&here_, &there] {
        engine.docker(&["rmi", "built:1"]).ok();
    }
}

#[test]
fn a_name_alone_means_all_its_tags() {
    if is_original() {
        return;
    }
    let (here_, there) = (Engine::start(), Engine::start());
    let sshd = Sshd::before(&there);
    for tag in ["several:1", "several:2"] {
        here_.docker(&["tag", coracle_tests::image::SMALL, tag]).ok();
    }
    sshd.coracle(&here_, &["image", "send", "ssh://peer/other", "several"])
        .refused(1, "one name cannot be that of several");
    sshd.coracle(&here_, &["image", "send", "ssh://peer", "several"]).ok();
    let tags = there.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "several"]).ok();
    assert_eq!(tags.lines().count(), 2, "{tags}");
    for engine in [&here_, &there] {
        engine.docker(&["rmi", "several:1", "several:2"]).ok();
    }
}

#[test]
fn a_cut_at_the_layer_of_the_second_platform_goes_on_there() {
    if is_original() {
        return;
    }
    const LAYER: u64 = 8 << 20;
    let (here_, there, registry) = (Engine::start(), Engine::start(), Registry::start());
    let sshd = Sshd::before(&there);
    let name = registry.name("app:1");
    attested::push_content(&Engine::start(), &name, &[HOST, OTHER], &random(8 << 20));
    let index = attested::tagged(&registry, "app", "1");
    for architecture in [HOST, OTHER] {
        here_.docker(&["pull", "--platform", &format!("linux/{architecture}"), &name]).ok();
    }
    sshd.take_sent();
    sshd.cut_after(LAYER * 31 / 16);
    let cut = sshd.coracle(&here_, &["image", "send", "ssh://peer", &name]);
    assert!(cut.code != 0 && cut.stderr.contains("ended early"), "{cut:?}");
    wait_until("what came is kept", || kept(&there) > LAYER / 2);
    // The first platform is whole, with what is said of it.
    assert_eq!(here(&there, &name), [true, false, true, false]);
    sshd.take_sent();
    let sent = sshd.coracle(&here_, &["image", "send", "ssh://peer", &name]).ok();
    let went = sshd.take_sent();
    assert!(went < LAYER / 2, "{went} bytes: {sent}");
    assert_eq!((here(&there, &name), kept(&there)), (vec![true; 4], 0));
    assert_eq!(pushed(&there, &name), index);
    for engine in [&here_, &there] {
        engine.docker(&["rmi", &name]).ok();
    }
}

/// An artifact on a shelf; its manifest.
fn artifact(shelf: &Shelf, repository: &str, part: &[u8]) -> String {
    let describe =
        |kind: &str, blob: &[u8]| json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()});
    for blob in [b"{}", part] {
        shelf.put_blob(repository, &digest(blob), blob);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.model",
        "config": describe("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [describe("application/x.weights", part)],
    });
    // Not as anybody would write it: it has to stay as it is.
    let manifest = serde_json::to_string_pretty(&manifest).unwrap();
    shelf.put_manifest(repository, "v1", MANIFEST, manifest.as_bytes());
    manifest
}

#[test]
fn what_is_no_image_arrives_as_it_is_and_goes_on_where_it_was_cut() {
    if is_original() {
        return;
    }
    const PART: u64 = 8 << 20;
    let (here_, there, shelf) = (Engine::start(), Engine::start(), Shelf::new());
    let sshd = Sshd::before(&there);
    let manifest = artifact(&shelf, "model", &random(8 << 20));
    let (id, name) = (digest(manifest.as_bytes()), format!("{}/model:v1", shelf.host()));
    here_.docker(&["pull", &name]).ok();
    let send = || sshd.coracle(&here_, &["image", "send", "ssh://peer", &name]);
    sshd.take_sent();
    sshd.cut_after(PART * 15 / 16);
    let cut = send();
    assert!(cut.code != 0 && cut.stderr.contains("ended early"), "{cut:?}");
    wait_until("what came is kept", || kept(&there) > PART / 2);
    assert_ne!(there.docker(&["image", "inspect", &name]).code, 0);
    sshd.take_sent();
    send().ok();
    let went = sshd.take_sent();
    assert!(went < PART / 2, "{went} bytes");
    assert_eq!(there.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), id);
    let refused = there.docker(&["create", &name]);
    assert!(refused.code != 0 && refused.stderr.contains("application/vnd.example.model"), "{refused:?}");
    assert_eq!(pushed(&there, &name), id);
    assert!(send().ok().contains("sent 0 of "));
    let check = there.coracle(&["system", "check"]);
    assert!(check.code == 0, "{check:?}");
    for engine in [&here_, &there] {
        engine.docker(&["rmi", &name]).ok();
    }
}

#[test]
fn an_engine_that_knows_of_images_alone_gets_the_image_and_refuses_the_rest() {
    if is_original() {
        return;
    }
    let (engine, shelf) = (Engine::start(), Shelf::new());
    let context = coracle_tests::context::Context::new("FROM BASE\nRUN echo a >/a\n", &[]);
    engine.buildx(&context.path(), &["--provenance=true", "-t", "built:1"]).ok();
    let mut peer = Peer::greeted(&engine, "send?images=built:1");
    let offer = peer.expect(pipe::OFFER);
    let layers = offer["layers"].as_array().unwrap().len();
    assert!(layers > 0 && offer["beside"].as_array().unwrap().len() == 3, "{offer}");
    // Its documents are of the image: each has its configuration, or names one that has.
    let config: String = offer["id"].as_str().unwrap().to_owned();
    for _ in 0..=offer["manifests"].as_array().unwrap().len() {
        let (kind, content) = peer.hear().unwrap();
        let document: Value = serde_json::from_slice(&content).unwrap();
        let of_it = document["config"]["digest"] == config
            || document.get("manifests").is_some()
            || digest(&content) == config;
        assert!(kind == pipe::DOCUMENT && of_it, "{document}");
    }
    peer.say(pipe::WANTED, b"[]");
    peer.say(pipe::DONE, b"{\"moved\":[]}");
    peer.expect(pipe::END);
    assert_eq!(peer.hear(), None);
    assert_eq!(peer.complaint, None);
    assert!(peer.progress.contains("attestations of built:1 are left out"), "{}", peer.progress);
    engine.docker(&["rmi", "built:1"]).ok();

    artifact(&shelf, "model", b"weights");
    let name = format!("{}/model:v1", shelf.host());
    engine.docker(&["pull", &name]).ok();
    let mut peer = Peer::greeted(&engine, &format!("send?images={name}"));
    assert_eq!(peer.expect(pipe::OFFER)["artifact"], true);
    peer.say(pipe::FAILURE, b"cannot take image: its configuration is a manifest");
    let complaint = peer.reasons().1.unwrap();
    assert!(complaint.contains("is no image, and older engines take images alone"), "{complaint}");
    engine.docker(&["rmi", &name]).ok();
}
