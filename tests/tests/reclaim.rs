//! Room that images take comes back: by budget, by prune, and when a client that was pulling has gone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_corpus::digest;
use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::shelf::Shelf;
use serde_json::Value;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of the images here. Each takes twice as much: as an archive and unpacked.
const SIZE: usize = 4 << 20;

/// An image of one file that no other image has.
fn import(engine: &Engine, name: &str, changes: &[&str]) {
    import_of(engine, name, SIZE, changes);
}

fn import_of(engine: &Engine, name: &str, size: usize, changes: &[&str]) {
    let archive = engine.directory().join("archive.tar");
    let content = name.bytes().cycle().take(size).collect::<Vec<_>>();
    let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size as u64);
    builder.append_data(&mut header, "file", content.as_slice()).unwrap();
    builder.finish().unwrap();
    let mut arguments = vec!["import"];
    arguments.extend(changes.iter().flat_map(|change| ["-c", *change]));
    let archive = archive.display().to_string();
    engine.docker(&[&arguments[..], &[&archive, name]].concat()).ok();
}

fn has(engine: &Engine, name: &str) -> bool {
    engine.docker(&["image", "inspect", name]).code == 0
}

/// What our engine says of an image, for a budget and recent images that do not matter.
fn verdict(engine: &Engine, name: &str) -> Value {
    let (status, body) = engine.request("GET", "/v1.44/coracle/system/reclaim?budget=0&keep-recent=0", None);
    assert_eq!(status, 200, "{body}");
    let report: Value = serde_json::from_str(&body).unwrap();
    let images = report["Images"].as_array().unwrap().clone();
    let is_named = |image: &Value| {
        image["Names"]
            .as_array()
            .unwrap()
            .iter()
            .any(|found| found == name || *found == format!("{name}:latest"))
    };
    images.into_iter().find(is_named).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

fn last_used(engine: &Engine, name: &str) -> String {
    verdict(engine, name)["LastUsed"].as_str().unwrap().to_owned()
}

#[test]
fn the_image_that_was_not_used_for_the_longest_time_goes_when_all_take_too_much() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start_with(&["--storage-budget", "40m", "--storage-keep-recent", "0"]);
    // The oldest, and in use.
    engine.docker(&["create", "--name", "user", SMALL, "true"]).ok();
    for name in ["a:1", "b:1", "c:1", "d:1"] {
        import(&engine, name, &[]);
    }
    // Used after all others, though it came first.
    engine.docker(&["create", "--name", "short", "a:1", "none"]).ok();
    engine.docker(&["rm", "short"]).ok();
    let names = ["a:1", "b:1", "c:1", "d:1"];
    assert!(names.iter().all(|name| has(&engine, name)), "all fit");
    import(&engine, "e:1", &[]);
    wait_until("the oldest that nobody uses is gone", || !has(&engine, "b:1"));
    for name in ["a:1", "c:1", "d:1", "e:1", SMALL] {
        assert!(has(&engine, name), "{name} is there still");
    }
    // Docker's command asks for whole seconds.
    let events =
        || engine.docker(&["events", "--since", "1h", "--until", "0s", "--filter", "event=delete"]).ok();
    wait_until("the removal is told", || !events().is_empty());
    assert_eq!(events().lines().filter(|line| line.contains(" image delete ")).count(), 1);
    assert!(engine.log().contains("storage budget"), "it is logged: {}", engine.log());
    engine.docker(&["rm", "user"]).ok();
}

#[test]
fn a_dry_run_says_what_goes_what_stays_and_why_and_touches_nothing() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    import_of(&engine, "free:1", 100_000, &[]);
    import_of(&engine, "label:1", 1000, &["LABEL coracle.pin=true"]);
    import_of(&engine, "byname:1", 2000, &[]);
    assert_eq!(engine.coracle(&["image", "pin", "byname:1"]).ok(), "byname:1");
    engine.docker(&["create", "--name", "user", SMALL, "true"]).ok();
    let arguments = ["system", "reclaim", "--dry-run", "--budget", "1k", "--keep-recent", "0"];
    for _ in 0..2 {
        let said = engine.coracle(&arguments);
        let sum = said.stderr.clone();
        let table = said.ok();
        for (name, words) in [
            ("free:1", ["remove", "not used for"]),
            ("label:1", ["keep", "pinned by its label coracle.pin"]),
            ("byname:1", ["keep", "pinned by name: byname:1"]),
            (SMALL, ["keep", "used by container"]),
        ] {
            let line = table.lines().find(|line| line.contains(name)).unwrap();
            assert!(words.iter().all(|word| line.contains(word)), "{line}");
        }
        assert!(
            sum.contains("would be freed") && sum.contains("still more than the budget of 1.024kB"),
            "{sum}"
        );
    }
    assert!(verdict(&engine, "free:1")["Freed"].as_u64().unwrap() > 200_000);
    assert_eq!(verdict(&engine, "free:1")["Reason"].as_str().unwrap().split(' ').next(), Some("not"));
    let recent = ["system", "reclaim", "--dry-run", "--budget", "1k"];
    let table = engine.coracle(&recent).ok();
    let line = table.lines().find(|line| line.contains("free:1")).unwrap();
    assert!(line.contains("keep") && line.contains("ago, within 3 days"), "{line}");
    engine.coracle(&["system", "reclaim", "--dry-run"]).refused(1, "--storage-budget");

    let done = engine.coracle(&["system", "reclaim", "--budget", "1k", "--keep-recent", "0"]).ok();
    assert!(done.lines().any(|line| line.starts_with("removed") && line.contains("free:1")), "{done}");
    assert!(!has(&engine, "free:1"));
    assert!(has(&engine, "label:1") && has(&engine, "byname:1") && has(&engine, SMALL));
    engine.coracle(&["image", "unpin", "label:1"]).refused(1, "pinned by its label");
    engine.coracle(&["image", "unpin", "byname:1"]).ok();
    engine.coracle(&["image", "unpin", "byname:1"]).refused(1, "no such pin");
    engine.coracle(&["image", "pin", "none"]).refused(1, "no such image");
    engine.coracle(&["system", "reclaim", "--budget", "1k", "--keep-recent", "0"]).ok();
    assert!(!has(&engine, "byname:1"));
    engine.docker(&["rm", "user"]).ok();
}

#[test]
fn uses_and_pins_outlive_an_engine_that_is_killed() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let mut engine = Engine::start();
    import_of(&engine, "pinned:1", 1000, &[]);
    engine.coracle(&["image", "pin", "pinned:1"]).ok();
    let before = last_used(&engine, SMALL);
    // A container that leaves nothing, and one of which only its record tells.
    engine.docker(&["run", "--rm", "--network", "none", SMALL, "true"]).ok();
    let after = last_used(&engine, SMALL);
    assert!(after > before, "{after} is later than {before}");
    engine.kill();
    engine.start_again();
    assert_eq!(last_used(&engine, SMALL).get(..19), after.get(..19));
    assert_eq!(verdict(&engine, "pinned:1")["Reason"], "pinned by name: pinned:1");
    let id = engine.docker(&["create", "--network", "none", SMALL, "true"]).ok();
    engine.docker(&["start", &id]).ok();
    let started = engine.docker(&["inspect", "-f", "{{.State.StartedAt}}", &id]).ok();
    engine.kill();
    engine.start_again();
    assert!(last_used(&engine, SMALL).get(..19) >= started.get(..19), "the start counts");
    let told = engine.docker(&["image", "inspect", "-f", "{{json .}}", SMALL]);
    assert_eq!(told.code, 0, "clients that do not know our field ignore it");
    let (_, document) = engine.request("GET", &format!("/v1.44/images/{SMALL}/json"), None);
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["Metadata"]["LastUsed"].as_str().unwrap(), last_used(&engine, SMALL));
    engine.docker(&["rm", &id]).ok();
}

#[test]
fn prunes_take_what_their_filters_choose() {
    let engine = Engine::start();
    let mark = engine.name("mark");
    let label = format!("LABEL mark={mark}");
    let (old, new, bare) = (engine.name("old:1"), engine.name("new:1"), engine.name("bare:1"));
    import_of(&engine, &old, 1000, &[&label]);
    import_of(&engine, &new, 2000, &[&label, "LABEL keep=yes"]);
    import_of(&engine, &bare, 3000, &[&label]);
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &bare]).ok();
    let another = engine.name("bare");
    // It loses its name to another one.
    import_of(&engine, &format!("{another}:2"), 4000, &[&label]);
    engine.docker(&["tag", &format!("{another}:2"), &bare]).ok();
    let ours = format!("label=mark={mark}");
    let nothing = engine.docker(&["image", "prune", "-f", "--filter", &ours, "--filter", "until=24h"]).ok();
    assert!(nothing.contains("Total reclaimed space: 0B"), "{nothing}");
    engine.docker(&["image", "prune", "-f", "--filter", "until=yesterday"]).fails_with(1);
    let dangling = engine.docker(&["image", "prune", "-f", "--filter", &ours]).ok();
    assert!(dangling.contains(&format!("deleted: {id}")), "{dangling}");
    assert!(has(&engine, &old) && has(&engine, &new));
    let kept = engine
        .docker(&[
            "image",
            "prune",
            "-af",
            "--filter",
            &ours,
            "--filter",
            "label!=keep=yes",
            "--filter",
            "until=0s",
        ])
        .ok();
    assert!(kept.contains(&format!("untagged: {old}")), "{kept}");
    assert!(!has(&engine, &old) && !has(&engine, &bare) && has(&engine, &new));
    let date = "2006-01-02T15:04:05";
    engine.docker(&["image", "prune", "-af", "--filter", &ours, "--filter", &format!("until={date}")]).ok();
    assert!(has(&engine, &new), "it was made later");
    engine.docker(&["rmi", &new]).ok();
}

#[test]
fn a_system_prune_takes_containers_volumes_and_images_together() {
    let engine = Engine::start();
    let mark = engine.name("mark");
    let (image, container) = (engine.name("image:1"), engine.name("container"));
    let label = format!("mark={mark}");
    import_of(&engine, &image, 1000, &[&format!("LABEL {label}")]);
    engine.docker(&["create", "--label", &label, "--name", &container, SMALL, "true"]).ok();
    let ours = format!("label={label}");
    let filters = ["system", "prune", "-f", "--filter", &ours];
    let first = engine.docker(&filters).ok();
    assert!(first.contains("Deleted Containers:") && first.contains("Total reclaimed space"), "{first}");
    assert!(has(&engine, &image), "it has a name");
    let volume = engine.docker(&["volume", "create", "--label", &label]).ok();
    let both = engine.docker(&[&filters[..], &["--volumes"]].concat()).ok();
    assert!(both.contains(&volume), "{both}");
    let all = engine.docker(&[&filters[..], &["-a"]].concat()).ok();
    assert!(all.contains("Deleted Images:") && !has(&engine, &image), "{all}");
    engine.docker(&[&filters[..], &["--volumes", "--filter", "until=1h"]].concat()).refused(1, "until");
    if engine.is_original() {
        return;
    }
    let own = engine.coracle(&["system", "prune", "-f", "--filter", &ours, "-a", "--volumes"]).ok();
    assert_eq!(own, "Total reclaimed space: 0B");
    engine.coracle(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"]).refused(1, "until");
}

#[test]
fn disk_usage_adds_up() {
    let engine = Engine::start();
    let (name, container) = (engine.name("image:1"), engine.name("container"));
    import_of(&engine, &name, 100_000, &[]);
    engine
        .docker(&["run", "--name", &container, "--network", "none", SMALL, "sh", "-c", "echo 12345 > /new"])
        .ok();
    let (_, body) = engine.request("GET", "/v1.44/system/df", None);
    let usage: Value = serde_json::from_str(&body).unwrap();
    let of = |list: &str, key: &str, name: &str| {
        let found = usage[list].as_array().unwrap().iter().find(|item| item[key].to_string().contains(name));
        found.unwrap_or_else(|| panic!("{name} is not in {usage}")).clone()
    };
    let image = of("Images", "RepoTags", &name);
    assert_eq!((image["Size"].as_i64(), image["Containers"].as_i64()), (Some(100_000), Some(0)));
    assert!(of("Images", "RepoTags", SMALL)["Containers"].as_i64() >= Some(1));
    assert_eq!(of("Containers", "Names", &container)["SizeRw"].as_i64(), Some(6));
    assert!(usage["LayersSize"].as_i64().unwrap() >= 100_000);
    let commands: [fn(&Engine, &[&str]) -> coracle_tests::Output; 2] = [Engine::docker, Engine::coracle];
    for command in commands.iter().take(if engine.is_original() { 1 } else { 2 }) {
        let summary = command(&engine, &["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
        assert!(summary.contains("Images ") && summary.contains("Build Cache "), "{summary}");
        let verbose = command(&engine, &["system", "df", "-v"]).ok();
        assert!(verbose.contains(&engine.name("image")) && verbose.contains("100kB"), "{verbose}");
    }
    engine.docker(&["rm", &container]).ok();
    engine.docker(&["rmi", &name]).ok();
}

/// A registry that gives half of an image's only layer and then nothing, and a client that pulls it.
fn stalled(engine: &Engine) -> (Shelf, UnixStream, PathBuf) {
    let shelf = Shelf::new();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(100_000);
    builder.append_data(&mut header, "file", &vec![7; 100_000][..]).unwrap();
    let layer = builder.into_inner().unwrap();
    shelf.put_image("stalls", &layer);
    shelf.stall_blob("stalls", &digest(&layer), layer.len() / 2);
    let mut client = UnixStream::connect(engine.socket()).unwrap();
    let path = format!("/v1.44/images/create?fromImage={}/stalls&tag=latest", shelf.host());
    let head = format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    wait_until("the registry gives nothing more", || shelf.waiting() == 1);
    let config = coracle_corpus::config(&layer);
    let blobs = engine.directory().join("data/blobs/sha256");
    let config = blobs.join(&digest(config.as_bytes())["sha256:".len()..]);
    (shelf, client, config)
}

#[test]
fn a_load_whose_client_stops_sending_keeps_nothing_but_what_came() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    import_of(&engine, "other:1", 1000, &[]);
    import_of(&engine, "loaded:1", 2000, &[]);
    let archive = engine.directory().join("saved.tar");
    engine.docker(&["save", "-o", &archive.display().to_string(), "loaded:1"]).ok();
    let place = |name: &str| {
        let layer = engine.docker(&["inspect", "-f", "{{index .RootFS.Layers 0}}", name]).ok();
        engine.directory().join("data/layers/sha256").join(&layer["sha256:".len()..])
    };
    let (other, loaded) = (place("other:1"), place("loaded:1"));
    engine.docker(&["rmi", "loaded:1"]).ok();
    assert!(!loaded.exists());
    let archive = std::fs::read(archive).unwrap();
    let mut client = UnixStream::connect(engine.socket()).unwrap();
    let head = "POST /v1.44/images/load HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\n";
    write!(client, "{head}Content-Length: {}\r\n\r\n", archive.len()).unwrap();
    // All but the end, which says what is an image.
    let end = archive.windows(14).rposition(|bytes| bytes == b"manifest.json\0").unwrap();
    client.write_all(&archive[..end]).unwrap();
    soon("the layer has come", || loaded.exists());
    engine.docker(&["rmi", "other:1"]).ok();
    soon("the layer of another image is gone", || !other.exists());
    engine.docker(&["image", "prune", "-f"]).ok();
    assert!(loaded.exists(), "what has come stays");
    client.write_all(&archive[end..]).unwrap();
    soon("it is an image", || has(&engine, "loaded:1"));
}

/// Waits less long than any time limit of the engine's own.
#[track_caller]
fn soon(what: &str, condition: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "it did not happen that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_goes_in_silence_ends_its_pull_and_what_came_of_it_is_freed() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    let (shelf, client, config) = stalled(&engine);
    assert!(config.exists(), "a part of the image is here");
    drop(client);
    soon("the registry is let go", || shelf.waiting() == 0);
    soon("the configuration is gone, which no image has", || !config.exists());
    engine.docker(&["image", "prune", "-f"]).ok();
}

#[test]
fn a_pull_that_hangs_keeps_nothing_but_its_own() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    let (shelf, client, config) = stalled(&engine);
    import_of(&engine, "other:1", 1000, &[]);
    let layer = engine.docker(&["inspect", "-f", "{{index .RootFS.Layers 0}}", "other:1"]).ok();
    let layer = engine.directory().join("data/layers/sha256").join(&layer["sha256:".len()..]);
    assert!(layer.exists());
    engine.docker(&["rmi", "other:1"]).ok();
    soon("the layer of another image is gone", || !layer.exists());
    engine.docker(&["image", "prune", "-f"]).ok();
    assert!(config.exists() && shelf.waiting() == 1, "the pull goes on");
    drop(client);
    soon("it has ended", || shelf.waiting() == 0 && !config.exists());
    engine.docker(&["image", "prune", "-f"]).ok();
}
