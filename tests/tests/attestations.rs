//! Statements about images come, stay, go on and go with the images that they are about.
//!
//! Not against the original: what it keeps depends on its image store.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_corpus::digest;
use coracle_tests::Engine;
use coracle_tests::attested::{self, HOST, OTHER};
use coracle_tests::engine::wait_until;
use coracle_tests::moving::is_original;
use coracle_tests::registry::Registry;
use coracle_tests::shelf::{CONFIG, INDEX, LAYER, MANIFEST, Shelf};
use serde_json::{Value, json};
use std::fs;

/// An index of two platforms with a statement about each, at `app:1`. Nothing of it is in an engine.
struct Field {
    engine: Engine,
    registry: Registry,
    index: String,
    name: String,
}

impl Field {
    fn new() -> Self {
        let registry = Registry::start();
        let name = registry.name("app:1");
        attested::push(&Engine::start(), &name, &[HOST, OTHER]);
        let index = attested::tagged(&registry, "app", "1");
        Self { engine: Engine::start(), registry, index, name }
    }

    fn pull(&self, architecture: &str) -> String {
        self.engine.docker(&["pull", "--platform", &format!("linux/{architecture}"), &self.name]).ok()
    }

    /// Pushes the name to a registry that has nothing; what it stands for there.
    fn pushed(&self, name: &str) -> (String, String) {
        let elsewhere = Registry::start();
        let target = elsewhere.name("copy:1");
        self.engine.docker(&["tag", name, &target]).ok();
        let told = self.engine.docker(&["push", &target]).ok();
        self.engine.docker(&["rmi", &target]).ok();
        (attested::tagged(&elsewhere, "copy", "1"), told)
    }

    fn known(&self) -> Vec<(String, bool)> {
        let all = attested::manifests(&self.engine, &self.name).into_iter();
        all.map(|(kind, available, size)| {
            assert_eq!(size > 0, available, "{kind}");
            (kind, available)
        })
        .collect()
    }

    /// What the whole index is, of which some is here.
    fn expected(here: [bool; 4]) -> Vec<(String, bool)> {
        let kinds = ["image", "image", "attestation", "attestation"];
        kinds.iter().zip(here).map(|(kind, here)| ((*kind).to_owned(), here)).collect()
    }
}

fn blobs(engine: &Engine) -> usize {
    fs::read_dir(engine.directory().join("data/blobs/sha256")).unwrap().count()
}

#[test]
fn they_come_with_their_platform_and_go_on_to_another_registry_unchanged() {
    if is_original() {
        return;
    }
    let field = Field::new();
    let before = blobs(&field.engine);
    field.pull(HOST);
    assert_eq!(field.known(), Field::expected([true, false, true, false]));
    let tree = field.engine.docker(&["image", "ls", "--tree"]).ok();
    assert!(!tree.contains("unknown"), "{tree}");
    let (pushed, told) = field.pushed(&field.name);
    assert!(pushed != field.index && told.contains("Not all multiplatform-content is present"), "{told}");

    field.pull(OTHER);
    assert_eq!(field.known(), Field::expected([true; 4]));
    assert_eq!(field.pushed(&field.name).0, field.index);

    // What is here is not asked for again.
    for architecture in [HOST, OTHER] {
        let asked = field.registry.requests().len();
        let told = field.pull(architecture);
        assert!(told.contains("Image is up to date") && !told.contains("Warning"), "{told}");
        let requests = field.registry.requests();
        let new: Vec<&String> =
            requests[asked..].iter().filter(|request| !request.contains(" /v2/ ")).collect();
        assert_eq!(new, ["HEAD /v2/app/manifests/1 200"]);
    }
    let check = field.engine.coracle(&["system", "check"]);
    assert!(check.code == 0, "{check:?}");

    // One platform goes with what is said of it.
    field.engine.coracle(&["image", "rm", "-f", "--platform", &format!("linux/{OTHER}"), &field.name]).ok();
    assert_eq!(field.known(), Field::expected([true, false, true, false]));
    field.engine.docker(&["rmi", &field.name]).ok();
    wait_until("nothing of it is left", || blobs(&field.engine) == before);
}

#[test]
fn they_are_in_archives_and_come_back_out_of_them() {
    if is_original() {
        return;
    }
    let field = Field::new();
    field.pull(HOST);
    field.pull(OTHER);
    let archive = field.engine.directory().join("saved.tar").display().to_string();
    field.engine.docker(&["save", "-o", &archive, &field.name]).ok();
    field.engine.docker(&["rmi", &field.name]).ok();
    field.engine.docker(&["load", "-i", &archive]).ok();
    assert_eq!(field.known(), Field::expected([true; 4]));
    assert_eq!(field.pushed(&field.name).0, field.index);
    field.engine.docker(&["rmi", &field.name]).ok();
    // Those of a platform that is not wanted do not come.
    field.engine.docker(&["load", "--platform", &format!("linux/{OTHER}"), "-i", &archive]).ok();
    assert_eq!(field.known(), Field::expected([false, true, false, true]));
    // Nor are those of what is not saved in an archive.
    field.pull(HOST);
    let one = field.engine.directory().join("one.tar").display().to_string();
    let options = ["save", "--platform", &format!("linux/{HOST}"), "-o", &one, &field.name];
    field.engine.docker(&options).ok();
    let mut saved = tar::Archive::new(fs::File::open(&one).unwrap());
    let names: Vec<String> =
        saved.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    let index = attested::document(&field.registry, &field.index);
    let hex = |at: usize| index["manifests"][at]["digest"].as_str().unwrap()[7..].to_owned();
    for at in [1, 3] {
        assert!(!names.contains(&format!("blobs/sha256/{}", hex(at))), "{names:?}");
    }
    field.engine.docker(&["rmi", &field.name]).ok();
}

/// An image on a shelf; the entry of its manifest.
fn image(shelf: &Shelf) -> (Value, Vec<u8>) {
    let layer = coracle_corpus::tar::Tar::new().file("file", b"content").end();
    let config = coracle_corpus::config(&layer);
    for blob in [&layer[..], config.as_bytes()] {
        shelf.put_blob("app", &digest(blob), blob);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": LAYER, "digest": digest(&layer), "size": layer.len()}],
    })
    .to_string();
    shelf.put_manifest("app", "image", MANIFEST, manifest.as_bytes());
    (entry(manifest.as_bytes(), json!({"os": "linux", "architecture": HOST})), layer)
}

fn entry(manifest: &[u8], platform: Value) -> Value {
    let platform =
        if platform.is_null() { json!({"os": "unknown", "architecture": "unknown"}) } else { platform };
    json!({"mediaType": MANIFEST, "digest": digest(manifest), "size": manifest.len(), "platform": platform})
}

/// A statement about a manifest, made of these parts; its entry. The parts are put where `put` is.
fn statement(shelf: &Shelf, about: &Value, parts: &[&[u8]], put: bool) -> Value {
    let describe = |part: &[u8]| json!({"mediaType": "application/vnd.in-toto+json", "digest": digest(part), "size": part.len()});
    let config = br#"{"architecture":"unknown","os":"unknown"}"#;
    shelf.put_blob("app", &digest(config), config);
    if put {
        for part in parts {
            shelf.put_blob("app", &digest(part), part);
        }
    }
    let mut described = describe(config);
    described["mediaType"] = CONFIG.into();
    let layers: Vec<Value> = parts.iter().map(|part| describe(part)).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}).to_string();
    shelf.put_manifest("app", "statement", MANIFEST, manifest.as_bytes());
    of(about, entry(manifest.as_bytes(), Value::Null))
}

/// The entry of a statement about another.
fn of(about: &Value, mut entry: Value) -> Value {
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about["digest"],
    });
    entry
}

#[test]
fn what_is_wrong_with_one_keeps_no_image_from_coming() {
    if is_original() {
        return;
    }
    let (engine, shelf) = (Engine::start(), Shelf::new());
    let (right, layer) = image(&shelf);
    let good = statement(&shelf, &right, &[b"{\"a\":1}"], true);
    let lacking = statement(&shelf, &right, &[b"{\"b\":2}"], false);
    let unknown = of(&right, entry(b"nobody has it", Value::Null));
    let wrong = statement(&shelf, &right, &[b"{\"c\":3}"], true);
    shelf.put_blob("app", &digest(b"{\"c\":3}"), b"{\"d\":4}");
    let huge = {
        let part = json!({"mediaType": "x/y", "digest": digest(b"huge"), "size": 1_u64 << 40});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part, "layers": []}).to_string();
        shelf.put_manifest("app", "huge", MANIFEST, manifest.as_bytes());
        of(&right, entry(manifest.as_bytes(), Value::Null))
    };
    let many_parts = {
        let parts: Vec<Vec<u8>> = (0..500).map(|number| format!("{{\"n\":{number}}}").into_bytes()).collect();
        statement(&shelf, &right, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), false)
    };
    let nested = {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [right]}).to_string();
        shelf.put_manifest("app", "nested", INDEX, index.as_bytes());
        of(&right, entry(index.as_bytes(), Value::Null))
    };
    let itself = of(&right, right.clone());
    let of_other = of(&unknown, entry(b"also nobody", Value::Null));
    let of_statement = of(&good, entry(b"about a statement", Value::Null));
    let thousands: Vec<Value> = (0..5000)
        .map(|number| of(&right, entry(format!("{number}").as_bytes(), Value::Null)))
        .chain([good.clone()])
        .collect();
    // A part that is the layer of the image, as it came.
    let of_layer = statement(&shelf, &right, &[&layer], true);
    for (what, beside, here, words) in [
        ("good", vec![good.clone()], 1, None),
        ("lacking", vec![lacking, good.clone()], 1, Some("is not whole in its registry")),
        ("unknown", vec![unknown, good.clone()], 1, Some("not found")),
        ("wrong", vec![wrong], 0, Some("does not match its digest")),
        ("huge", vec![huge], 0, Some("larger than statements may be")),
        ("many parts", vec![many_parts], 0, Some("more parts than statements have")),
        ("nested", vec![nested], 0, Some("is left out")),
        ("itself", vec![itself, good.clone()], 1, None),
        ("of another", vec![of_other, of_statement, good.clone()], 1, None),
        ("thousands", thousands, 0, Some("4985 more of")),
        ("of the layer", vec![of_layer], 1, None),
    ] {
        let entries: Vec<Value> = std::iter::once(right.clone()).chain(beside).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
        shelf.put_manifest("app", "v1", INDEX, index.as_bytes());
        let name = format!("{}/app:v1", shelf.host());
        let before = blobs(&engine);
        let pulled = engine.docker(&["pull", &name]).ok();
        assert_eq!(pulled.contains("Warning: "), words.is_some(), "{what}: {pulled}");
        assert!(words.is_none_or(|words| pulled.contains(words)), "{what}: {pulled}");
        let known = attested::manifests(&engine, &name);
        let available =
            |wanted: &str| known.iter().filter(|(kind, available, _)| kind == wanted && *available).count();
        assert_eq!(available("image"), if what == "itself" { 2 } else { 1 }, "{what}: {known:?}");
        assert_eq!(available("attestation"), here, "{what}: {known:?}");
        let check = engine.coracle(&["system", "check"]);
        assert!(check.code == 0, "{what}: {check:?}");
        engine.docker(&["rmi", &name]).ok();
        wait_until("nothing of it is left", || {
            engine.docker(&["image", "prune", "-f"]).ok();
            blobs(&engine) == before
        });
    }
}

#[test]
fn one_whose_parts_are_of_another_image_takes_nothing_from_that() {
    if is_original() {
        return;
    }
    let (engine, shelf) = (Engine::start(), Shelf::new());
    let (right, layer) = image(&shelf);
    let config = coracle_corpus::config(&layer);
    let alone = format!("{}/app:image", shelf.host());
    engine.docker(&["pull", &alone]).ok();
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &alone]).ok();
    // Another image, about which something is said with the parts of the first.
    let other = coracle_corpus::tar::Tar::new().file("other", b"content").end();
    shelf.put_image("other", &other);
    let other_config = coracle_corpus::config(&other);
    for blob in [&other[..], other_config.as_bytes()] {
        shelf.put_blob("app", &digest(blob), blob);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(other_config.as_bytes()), "size": other_config.len()},
        "layers": [{"mediaType": LAYER, "digest": digest(&other), "size": other.len()}],
    })
    .to_string();
    shelf.put_manifest("app", "other", MANIFEST, manifest.as_bytes());
    let host = entry(manifest.as_bytes(), json!({"os": "linux", "architecture": HOST}));
    let first = right["digest"].as_str().unwrap();
    let theft = statement(&shelf, &host, &[&layer, config.as_bytes()], true);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [host, theft]}).to_string();
    shelf.put_manifest("app", "v1", INDEX, index.as_bytes());
    let name = format!("{}/app:v1", shelf.host());
    let pulled = engine.docker(&["pull", &name]).ok();
    assert!(!pulled.contains("Warning"), "{pulled}");
    assert_eq!(attested::manifests(&engine, &name).iter().filter(|manifest| manifest.1).count(), 2);
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["image", "prune", "-f"]).ok();
    let check = engine.coracle(&["system", "check"]);
    assert!(check.code == 0, "{check:?}");
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &alone]).ok(), id);
    let place = engine.directory().join("data/blobs/sha256");
    for whole in [digest(config.as_bytes()), digest(&layer), first.to_owned()] {
        assert!(place.join(&whole[7..]).exists(), "{whole}");
    }
    engine.docker(&["rmi", &alone]).ok();
}
