//! Hostile manifests, indexes and configurations from a registry: each is refused with a reason, or harmless; nothing is
//! left of it, and its benign twin works.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_corpus::digest;
use coracle_tests::Engine;
use coracle_tests::shelf::{CONFIG, INDEX, LAYER, MANIFEST, Shelf};
use serde_json::{Value, json};

/// What may become of a case.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// No image comes of it.
    Refused,
    /// An image may come of it, of which a container may be made.
    Harmless,
}

/// What a registry gives for one name.
struct Case {
    name: String,
    fate: Fate,
    kind: &'static str,
    manifest: Vec<u8>,
    /// Blobs by the digests that they are given for.
    blobs: Vec<(String, Vec<u8>)>,
}

/// The parts of a right image.
struct Parts {
    layer: Vec<u8>,
    config: Value,
}

impl Parts {
    fn new() -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(4);
        builder.append_data(&mut header, "file", &b"good"[..]).unwrap();
        let layer = builder.into_inner().unwrap();
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": arch, "os": "linux", "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        Self { layer, config }
    }

    fn manifest(&self) -> Value {
        manifest_of(self.config.to_string().as_bytes(), &self.layer)
    }

    fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let config = self.config.to_string().into_bytes();
        vec![(digest(&config), config), (digest(&self.layer), self.layer.clone())]
    }

    /// A manifest that is wrong.
    fn manifest_case(&self, name: impl Into<String>, change: impl FnOnce(&mut Value)) -> Case {
        let mut manifest = self.manifest();
        change(&mut manifest);
        self.raw_case(name, MANIFEST, manifest.to_string().into_bytes())
    }

    /// Bytes in the place of a manifest.
    fn raw_case(&self, name: impl Into<String>, kind: &'static str, manifest: Vec<u8>) -> Case {
        Case { name: name.into(), fate: Fate::Refused, kind, manifest, blobs: self.blobs() }
    }

    /// Bytes in the place of a configuration, under a manifest that is right about them.
    fn config_bytes(&self, name: impl Into<String>, fate: Fate, config: Vec<u8>) -> Case {
        let manifest = manifest_of(&config, &self.layer).to_string().into_bytes();
        let blobs = vec![(digest(&config), config), (digest(&self.layer), self.layer.clone())];
        Case { name: name.into(), fate, kind: MANIFEST, manifest, blobs }
    }

    fn config_case(&self, name: impl Into<String>, fate: Fate, change: impl FnOnce(&mut Value)) -> Case {
        let mut config = self.config.clone();
        change(&mut config);
        self.config_bytes(name, fate, config.to_string().into_bytes())
    }
}

fn manifest_of(config: &[u8], layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(config), "size": config.len()},
        "layers": [{"mediaType": LAYER, "digest": digest(layer), "size": layer.len()}],
    })
}

/// Texts that are no digests, or that could lead elsewhere where one becomes a path.
fn no_digests() -> Vec<String> {
    let hex = "a".repeat(64);
    vec![
        String::new(),
        ":".into(),
        "sha256:".into(),
        hex.clone(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", "g".repeat(64)),
        format!("sha512:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("blake3:{hex}"),
        "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564".into(),
        "sha256:../../../../etc/passwd".into(),
        "../../etc/passwd".into(),
        format!("sha256:{}/../x", &hex[..59]),
        format!("sha256:{}\u{0}", &hex[1..]),
        format!("sha256:{}\n", &hex[1..]),
        format!(" sha256:{hex}"),
        format!("sha256:{}é", &hex[2..]),
        format!("sha256:{}", "a".repeat(1 << 20)),
    ]
}

fn descriptors(cases: &mut Vec<Case>, parts: &Parts) {
    for (number, text) in no_digests().into_iter().enumerate() {
        for place in ["/config/digest", "/layers/0/digest"] {
            let text = text.clone();
            cases.push(parts.manifest_case(format!("no digest {number} at {place}"), |manifest| {
                *manifest.pointer_mut(place).unwrap() = text.into();
            }));
        }
        let text = text.clone();
        cases.push(parts.config_case(format!("no digest {number} in diff_ids"), Fate::Refused, |config| {
            config["rootfs"]["diff_ids"][0] = text.into();
        }));
    }
    let sizes = [
        json!(-1),
        json!(0),
        json!(1),
        json!(u64::MAX),
        json!(9_223_372_036_854_775_808_u64),
        json!(1.5),
        json!("1"),
        json!(null),
        json!([1]),
        json!(true),
    ];
    for size in sizes {
        for place in ["/config/size", "/layers/0/size"] {
            let (size, name) = (size.clone(), format!("size {size} at {place}"));
            cases.push(parts.manifest_case(name, |manifest| *manifest.pointer_mut(place).unwrap() = size));
        }
    }
    for (name, more) in [("one byte more", 1), ("one byte less", -1)] {
        for place in ["/config/size", "/layers/0/size"] {
            cases.push(parts.manifest_case(format!("{name} at {place}"), |manifest| {
                let size = manifest.pointer_mut(place).unwrap();
                *size = json!(size.as_i64().unwrap() + more);
            }));
        }
    }
    let kinds = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar+encrypted",
        "application/vnd.in-toto+json",
        "application/vnd.oci.image.layer.v1.tar+brotli",
        "text/html",
        "",
    ];
    for kind in kinds {
        cases.push(parts.manifest_case(format!("a layer of the type {kind:?}"), |manifest| {
            manifest["layers"][0]["mediaType"] = kind.into();
        }));
    }
    cases.push(parts.manifest_case("a layer that is elsewhere", |manifest| {
        manifest["layers"][0]["urls"] = json!(["http://169.254.169.254/x"]);
    }));
    for kind in [
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.oci.empty.v1+json",
        "text/plain",
        MANIFEST,
    ] {
        let mut case = parts.manifest_case(format!("a configuration of the type {kind:?}"), |manifest| {
            manifest["config"]["mediaType"] = kind.into();
        });
        // It is kept as it is; no container can be made of it.
        case.fate = Fate::Harmless;
        cases.push(case);
    }
}

fn structure(cases: &mut Vec<Case>, parts: &Parts) {
    let remove = |field: &'static str| {
        move |manifest: &mut Value| {
            manifest.as_object_mut().unwrap().remove(field);
        }
    };
    cases.push(parts.manifest_case("no config", remove("config")));
    cases.push(parts.manifest_case("no layers", remove("layers")));
    cases.push(parts.manifest_case("no schema version", remove("schemaVersion")));
    for (field, value) in [
        ("config", json!(null)),
        ("config", json!([])),
        ("config", json!("x")),
        ("layers", json!(null)),
        ("layers", json!({})),
        ("layers", json!([null])),
        ("layers", json!(["x"])),
        ("layers", json!([])),
        ("schemaVersion", json!(1)),
        ("schemaVersion", json!(3)),
        ("schemaVersion", json!("2")),
        ("mediaType", json!(INDEX)),
        ("mediaType", json!(7)),
        ("manifests", json!([])),
        ("annotations", json!({"a": 1})),
        ("annotations", json!([])),
    ] {
        let name = format!("{field} is {value}");
        cases.push(parts.manifest_case(name, |manifest| manifest[field] = value));
    }
    cases.push(parts.manifest_case("501 layers", |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = vec![layer; 501].into();
    }));
    cases.push(parts.manifest_case("two layers and one diff_id", |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = vec![layer; 2].into();
    }));
    let right = parts.manifest().to_string().into_bytes();
    cases.push(parts.raw_case("a manifest served as an index", INDEX, right.clone()));
    let schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let old = br#"{"schemaVersion":1,"name":"x","tag":"y","architecture":"amd64","fsLayers":[],"history":[],"signatures":[]}"#;
    cases.push(parts.raw_case("schema 1", schema_1, old.to_vec()));
    cases.push(parts.raw_case("schema 1 served as schema 2", MANIFEST, old.to_vec()));
    let kinds: [(&str, Vec<u8>); 15] = [
        ("nothing", Vec::new()),
        ("null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("a number", b"7".to_vec()),
        ("no JSON", b"<html>".to_vec()),
        ("a byte order mark", [b"\xef\xbb\xbf", &right[..]].concat()),
        ("UTF-16", right.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("something behind it", [&right[..], b"{}"].concat()),
        ("cut off", right[..right.len() - 1].to_vec()),
        ("a depth of 100,000", "[".repeat(100_000).into_bytes()),
        ("5 MiB", [&right[..], " ".repeat(5 << 20).as_bytes()].concat()),
        (
            "a lone surrogate",
            String::from_utf8(right.clone())
                .unwrap()
                .replace("schemaV", "\\ud800\":1,\"schemaV")
                .into_bytes(),
        ),
        (
            "no UTF-8",
            String::from_utf8(right.clone())
                .unwrap()
                .replace(CONFIG, "\u{1}")
                .replace('\u{1}', "x")
                .into_bytes()
                .into_iter()
                .map(|byte| if byte == b'x' { 0xff } else { byte })
                .collect(),
        ),
        (
            "a number out of bounds",
            String::from_utf8(right.clone())
                .unwrap()
                .replace("\"schemaVersion\":2", "\"schemaVersion\":1e400")
                .into_bytes(),
        ),
        (
            "two configs",
            String::from_utf8(right.clone()).unwrap().replacen('{', "{\"config\":{},", 1).into_bytes(),
        ),
    ];
    for (name, bytes) in kinds {
        cases.push(parts.raw_case(format!("a manifest of {name}"), MANIFEST, bytes));
    }
}

fn indexes(cases: &mut Vec<Case>, parts: &Parts) {
    let entry = |platform: Value, digest: &str, kind: &str| json!({"mediaType": kind, "digest": digest, "size": 9, "platform": platform});
    let here = json!({"os": "linux", "architecture": parts.config["architecture"]});
    let nowhere = digest(b"nobody has this");
    let index = |entries: Vec<Value>| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes()
    };
    for (name, bytes) in [
        ("is empty", index(Vec::new())),
        ("has no platform", index(vec![json!({"mediaType": MANIFEST, "digest": nowhere, "size": 9})])),
        (
            "is for others",
            index(vec![entry(json!({"os": "plan9", "architecture": "mips"}), &nowhere, MANIFEST)]),
        ),
        ("names what is not there", index(vec![entry(here.clone(), &nowhere, MANIFEST)])),
        ("names an index", index(vec![entry(here.clone(), &nowhere, INDEX)])),
        (
            "has 20,000 entries for others",
            index(vec![entry(json!({"os": "plan9", "architecture": "mips"}), &nowhere, MANIFEST); 20_000]),
        ),
        ("has a platform that is a text", index(vec![entry(json!("linux/amd64"), &nowhere, MANIFEST)])),
        (
            "has paths for a platform",
            index(vec![entry(json!({"os": "../../etc", "architecture": "../x"}), &nowhere, MANIFEST)]),
        ),
        (
            "has null for entries",
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": null}).to_string().into_bytes(),
        ),
        (
            "has layers too",
            json!({"schemaVersion": 2, "manifests": [], "layers": []}).to_string().into_bytes(),
        ),
    ] {
        cases.push(parts.raw_case(format!("an index that {name}"), INDEX, bytes));
    }
    for text in no_digests().into_iter().take(8) {
        let name = format!("an index with {text:?} for a digest");
        cases.push(parts.raw_case(name, INDEX, index(vec![entry(here.clone(), &text, MANIFEST)])));
    }
}

fn configs(cases: &mut Vec<Case>, parts: &Parts) {
    let right = parts.config.to_string();
    for (name, bytes) in [
        ("nothing", String::new()),
        ("null", "null".into()),
        ("a list", "[]".into()),
        ("a depth of 100,000", "[".repeat(100_000)),
        (
            "a depth inside",
            right.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(50_000), "]".repeat(50_000)), 1),
        ),
        ("9 MiB", format!("{right}{}", " ".repeat(9 << 20))),
        ("something behind it", format!("{right}{{}}")),
        ("two rootfs", right.replacen('{', "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]},", 1)),
    ] {
        cases.push(parts.config_bytes(
            format!("a configuration of {name}"),
            Fate::Refused,
            bytes.into_bytes(),
        ));
    }
    let other = digest(b"another layer");
    let rootfs = |diff_ids: Value| json!({"type": "layers", "diff_ids": diff_ids});
    for (name, value) in [
        ("of another layer", rootfs(json!([other]))),
        ("of one layer more", rootfs(json!([digest(&parts.layer), other]))),
        ("of none", rootfs(json!([]))),
        ("of null", rootfs(json!([null]))),
        ("of a text", rootfs(json!("x"))),
        ("that is null", json!(null)),
        ("that is a list", json!([])),
    ] {
        cases.push(
            parts.config_case(format!("a rootfs {name}"), Fate::Refused, |config| config["rootfs"] = value),
        );
    }
    cases.push(parts.config_case("another operating system", Fate::Refused, |config| {
        config["os"] = "windows".into();
    }));
    for (field, value) in [
        ("Env", json!(["no equals sign", "=x", "A\u{0}=b", "B=\n"])),
        ("Env", json!([1, null])),
        ("Entrypoint", json!([1])),
        ("Cmd", json!({"a": 1})),
        ("User", json!("root\nroot:x:0:0::/:/bin/sh")),
        ("User", json!("-1:../..")),
        ("WorkingDir", json!("../../../../etc")),
        ("WorkingDir", json!("/proc/self/fd/9")),
        ("Volumes", json!({"../../etc": {}, "/proc": {}, "/": {}})),
        ("ExposedPorts", json!({"99999/tcp": {}, "80/../x": {}})),
        ("StopSignal", json!("SIG999")),
        ("Healthcheck", json!({"Test": ["CMD", "x"], "Interval": -1, "Retries": -5})),
        ("Labels", json!({"a": 1})),
        ("Labels", json!({"coracle.privileged": "true", "x\u{0}": "\u{1b}[2J"})),
        ("OnBuild", json!([["x"]])),
        ("Shell", json!("x")),
    ] {
        let name = format!("{field} is {value}");
        cases.push(parts.config_case(name, Fate::Harmless, |config| config["config"][field] = value));
    }
    for (field, value) in [
        ("created", json!("99999-01-01T00:00:00Z")),
        ("created", json!("")),
        ("history", json!(null)),
        ("history", json!(vec![json!({"empty_layer": false}); 1000])),
        ("architecture", json!("../../../etc")),
        ("variant", json!("v\u{0}")),
        ("author", json!("a".repeat(1 << 20))),
    ] {
        let name = format!("{field} is {value:.60}");
        cases.push(parts.config_case(name, Fate::Harmless, |config| config[field] = value));
    }
    let mut lie = parts.config_case("another configuration than its digest", Fate::Refused, |_| ());
    lie.blobs[0].1 = right.replace("/none", "/evil").into_bytes();
    cases.push(lie);
    let mut lie = parts.config_case("another layer than its digest", Fate::Refused, |_| ());
    lie.blobs[1].1[0] ^= 1;
    cases.push(lie);
}

fn all(parts: &Parts) -> Vec<Case> {
    let mut cases = Vec::new();
    descriptors(&mut cases, parts);
    structure(&mut cases, parts);
    indexes(&mut cases, parts);
    configs(&mut cases, parts);
    cases
}

/// Pulls an image; what the engine complained of, if it did.
fn pull(engine: &Engine, name: &str) -> Result<(), String> {
    let path = format!("/v1.44/images/create?fromImage={name}&tag=latest");
    let (status, answer) = engine.request("POST", &path, None);
    match status {
        200 if !answer.contains("errorDetail") => Ok(()),
        200 | 400..=599 => Err(answer),
        other => panic!("{name}: {other}: {answer}"),
    }
}

/// An OCI layout of a case, as `docker load` takes it: every file under the name that it is given for.
fn layout(case: &Case, name: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut put = |path: String, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content).unwrap();
    };
    let place = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{
            "mediaType": case.kind, "digest": digest(&case.manifest), "size": case.manifest.len(),
            "annotations": {"io.containerd.image.name": format!("docker.io/library/{name}:latest")},
        }],
    });
    put("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    put("index.json".to_owned(), index.to_string().as_bytes());
    put(place(&digest(&case.manifest)), &case.manifest);
    for (digest, content) in &case.blobs {
        put(place(digest), content);
    }
    builder.into_inner().unwrap()
}

#[test]
fn hostile_documents_of_archived_layouts_are_refused_or_harmless() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, parts) = (Engine::start(), Parts::new());
    let images = engine.docker(&["images", "-aq"]).ok();
    let right = parts.raw_case("a right one", MANIFEST, parts.manifest().to_string().into_bytes());
    let mut failures = Vec::new();
    for (number, case) in all(&parts).iter().enumerate() {
        let name = format!("loaded{number}");
        let (status, answer) = engine.upload("POST", "/v1.44/images/load?quiet=1", &layout(case, &name));
        let loaded = status == 200 && !answer.contains("errorDetail");
        // Archives may leave it out, and Docker loads them.
        let is_lenient = case.name == "no schema version";
        if loaded && case.fate == Fate::Refused && !is_lenient {
            failures.push(format!("{}: it was loaded", case.name));
        }
        if !loaded && !(400..500).contains(&status) && status != 200 {
            failures.push(format!("{}: {status}: {answer}", case.name));
        }
        engine.request("DELETE", &format!("/v1.44/images/{name}?force=1"), None);
        let (status, answer) = engine.upload("POST", "/v1.44/images/load?quiet=1", &layout(&right, "twin"));
        if status != 200 || answer.contains("errorDetail") {
            failures.push(format!("{}: the twin: {status}: {answer}", case.name));
        }
        engine.docker(&["rmi", "twin"]);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), images);
    let log = engine.log();
    assert!(!log.contains("panicked at"), "{log}");
}

#[test]
fn hostile_documents_are_refused_or_harmless_and_leave_nothing() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, shelf, parts) = (Engine::start(), Shelf::new(), Parts::new());
    let images = engine.docker(&["images", "-aq"]).ok();
    let cases = all(&parts);
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let (hostile, twin) = (format!("hostile{number}"), format!("twin{number}"));
        for (digest, content) in &case.blobs {
            shelf.put_blob(&hostile, digest, content);
        }
        shelf.put_manifest(&hostile, "latest", case.kind, &case.manifest);
        let name = format!("{}/{hostile}", shelf.host());
        match (pull(&engine, &name), case.fate) {
            (Ok(()), Fate::Refused) => failures.push(format!("{}: it was pulled", case.name)),
            (Ok(()), Fate::Harmless) => {
                let body = format!(r#"{{"Image":"{name}","HostConfig":{{"NetworkMode":"none"}}}}"#);
                let (status, answer) = engine.request("POST", "/v1.44/containers/create", Some(&body));
                if status == 201 {
                    let id =
                        serde_json::from_str::<Value>(&answer).unwrap()["Id"].as_str().unwrap().to_owned();
                    engine.request("DELETE", &format!("/v1.44/containers/{id}?v=1"), None);
                } else if !(400..500).contains(&status) {
                    failures.push(format!("{}: no container: {status}: {answer}", case.name));
                }
            }
            (Err(text), _) if text.len() > 10_000 => {
                failures.push(format!("{}: {} bytes of complaint", case.name, text.len()));
            }
            (Err(_), _) => {}
        }
        engine.request("DELETE", &format!("/v1.44/images/{name}?force=1"), None);
        shelf.put_image(&twin, &parts.layer);
        let twin = format!("{}/{twin}", shelf.host());
        if let Err(text) = pull(&engine, &twin) {
            failures.push(format!("{}: the twin: {text}", case.name));
        }
        engine.docker(&["rmi", &twin]);
    }
    assert!(failures.is_empty(), "{} of {} failures:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), images);
    engine.docker(&["image", "prune", "-f"]).ok();
    let unfinished = std::fs::read_dir(engine.directory().join("data/tmp")).unwrap().count();
    assert_eq!(unfinished, 0);
    let log = engine.log();
    assert!(!log.contains("panicked at"), "{log}");
}
