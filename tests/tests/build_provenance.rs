//! Provenance of builds: a statement beside the image, where a person asks for it, as other tools read it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::context::Context;
use coracle_tests::image::SMALL;
use coracle_tests::registry::Registry;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn is_original() -> bool {
    std::env::var_os("TARGET").is_some()
}

/// A blob of a registry, by its digest.
fn blob(registry: &Registry, digest: &str) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let place = registry.data().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex);
    fs::read(place.join("data")).unwrap()
}

fn document(registry: &Registry, digest: &Value) -> Value {
    serde_json::from_slice(&blob(registry, digest.as_str().unwrap())).unwrap()
}

/// The digest that a tag of a registry stands for.
fn tagged(registry: &Registry, repository: &str, tag: &str) -> Value {
    let place = registry.data().join("docker/registry/v2/repositories").join(repository);
    fs::read_to_string(place.join("_manifests/tags").join(tag).join("current/link")).unwrap().into()
}

/// The index of an image and its provenance, checked; the statement.
fn statement(index: &Value, read: impl Fn(&Value) -> Value) -> Value {
    assert_eq!(index["mediaType"], INDEX, "{index}");
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{index}");
    assert_eq!(entries[0]["platform"]["os"], "linux");
    assert_eq!(entries[1]["platform"], json!({"architecture": "unknown", "os": "unknown"}));
    let expected = json!({
        "vnd.docker.reference.digest": entries[0]["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    });
    assert_eq!(entries[1]["annotations"], expected);
    let beside = read(&entries[1]["digest"]);
    let layer = &beside["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
    assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v0.2");
    let config = read(&beside["config"]["digest"]);
    assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
    let statement = read(&layer["digest"]);
    let subject = entries[0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert_eq!(statement["subject"][0]["digest"]["sha256"], subject);
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v0.2");
    statement
}

#[test]
fn the_original_has_none_with_its_usual_store() {
    if !is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new("FROM BASE\n", &[]);
    engine
        .buildx(&context.path(), &["--provenance=true"])
        .refused(1, "Attestation is not supported for the docker driver");
}

#[test]
fn it_stands_beside_the_image_and_goes_where_that_goes() {
    if is_original() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let base = registry.name("base:1");
    engine.docker(&["tag", SMALL, &base]).ok();
    engine.docker(&["push", &base]).ok();
    let name = registry.name("app:1");
    let context =
        Context::new(&format!("FROM {base}\nARG V\nRUN echo $V >/v\nCOPY f /f\n"), &[("f", "content")]);
    let path = context.path();
    let metadata = path.join("metadata");
    let options = ["--provenance=true", "-t", &name, "--build-arg", "V=argued", "--label", "l=labelled"];
    let told = engine
        .buildx(&path, &[&options[..], &["--push", "--metadata-file", metadata.to_str().unwrap()]].concat());
    assert!(told.stderr.contains("writing index sha256:"), "{}", told.stderr);
    told.ok();
    assert_eq!(engine.docker(&["run", "--rm", &name, "cat", "/v", "/f"]).ok(), "argued\ncontent");

    let index = tagged(&registry, "app", "1");
    let metadata: Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], index);
    let statement = statement(&document(&registry, &index), |digest| document(&registry, digest));
    let text = statement.to_string();
    assert!(!text.contains("argued") && !text.contains("labelled"), "{text}");
    let predicate = &statement["predicate"];
    let pushed = tagged(&registry, "base", "1");
    let pushed = pushed.as_str().unwrap().strip_prefix("sha256:").unwrap();
    let material = &predicate["materials"][0];
    assert!(
        material["uri"]
            .as_str()
            .unwrap()
            .starts_with(&format!("pkg:docker/{}@1?platform=linux", registry.name("base"))),
        "{text}"
    );
    assert_eq!(material["digest"]["sha256"], pushed);
    assert_eq!(predicate["invocation"]["configSource"]["entryPoint"], "Dockerfile");
    assert_eq!(
        predicate["metadata"]["completeness"],
        json!({"environment": true, "materials": false, "parameters": false})
    );
    // Docker's own reader finds it.
    let format = "{{json .Provenance.SLSA.buildType}}";
    let found = engine.plugin_in(&path, &["buildx", "imagetools", "inspect", &name, "--format", format]).ok();
    assert_eq!(found, "\"https://mobyproject.org/buildkit@v1\"");

    // Another engine pulls and runs it; this one saves all of it, sends it again, and forgets all of it.
    let other = Engine::start();
    other.docker(&["pull", &name]).ok();
    assert_eq!(other.docker(&["run", "--rm", &name, "cat", "/f"]).ok(), "content");
    let archive = path.join("saved.tar");
    engine.docker(&["save", "-o", archive.to_str().unwrap(), &name]).ok();
    let blobs = blobs_of(&archive);
    let entries = document(&registry, &index)["manifests"].clone();
    for entry in entries.as_array().unwrap() {
        let hex = entry["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        assert!(blobs.contains(&format!("blobs/sha256/{hex}")), "{hex} is not among {blobs:?}");
    }
    let again = registry.name("again:1");
    engine.docker(&["tag", &name, &again]).ok();
    engine.docker(&["push", &again]).ok();
    assert_eq!(tagged(&registry, "again", "1"), index);
    engine.docker(&["system", "prune", "-af"]).ok();
    engine.docker(&["image", "inspect", &name]).fails_with(1);
}

fn blobs_of(archive: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(File::open(archive).unwrap());
    let name =
        |entry: std::io::Result<tar::Entry<'_, File>>| entry.unwrap().path().unwrap().display().to_string();
    archive.entries().unwrap().map(name).collect()
}

#[test]
fn the_most_has_arguments_and_the_recipe_and_no_secret() {
    if is_original() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let name = registry.name("most:1");
    let context = Context::new(
        "FROM BASE AS base\nARG V\nARG API_TOKEN\nRUN --mount=type=secret,id=key,required=true cat /run/secrets/key >/dev/null\n",
        &[("key", "canary-of-the-file")],
    );
    let path = context.path();
    let attest = "--attest=type=provenance,mode=max,builder-id=https://ci.example/7";
    engine
        .buildx(
            &path,
            &[
                "-t",
                &name,
                "--push",
                attest,
                "--build-arg",
                "V=7",
                "--build-arg",
                "API_TOKEN=canary-of-the-argument",
                "--secret",
                "id=key,src=key",
            ],
        )
        .ok();
    let index = document(&registry, &tagged(&registry, "most", "1"));
    let statement = statement(&index, |digest| document(&registry, digest));
    let predicate = &statement["predicate"];
    assert_eq!(predicate["builder"]["id"], "https://ci.example/7");
    let parameters = &predicate["invocation"]["parameters"];
    assert_eq!(parameters["args"]["build-arg:V"], "7");
    assert_eq!(parameters["secrets"], json!([{"id": "key"}]));
    assert_eq!(predicate["buildConfig"]["steps"][0]["stage"], "base");
    let info = &predicate["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]["source"]["infos"][0];
    assert!(info["data"].as_str().unwrap().starts_with("RlJPTSBj"), "{info}");
    let grep = Command::new("grep")
        .args(["-r", "-a", "-l", "canary-of-the-file"])
        .arg(registry.data())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    assert!(!statement.to_string().contains("canary"), "{statement}");
}

#[test]
fn each_platform_has_its_own() {
    if is_original() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let (name, cache) = (registry.name("several:1"), registry.name("cache:1"));
    let context = Context::new("FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\n", &[("f", "content")]);
    let platforms = ["--platform", "linux/amd64,linux/arm64", "-t", &name];
    let to = format!("type=registry,ref={cache}");
    let options = ["--provenance=true", "--push", "--cache-to", &to];
    engine.buildx(&context.path(), &[&platforms[..], &options].concat()).ok();
    let index = document(&registry, &tagged(&registry, "several", "1"));
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 4, "{index}");
    for (image, beside) in [(&entries[0], &entries[2]), (&entries[1], &entries[3])] {
        assert_eq!(beside["annotations"]["vnd.docker.reference.digest"], image["digest"]);
        let layer = &document(&registry, &beside["digest"])["layers"][0]["digest"];
        let environment = &document(&registry, layer)["predicate"]["invocation"]["environment"];
        let platform = format!("linux/{}", image["platform"]["architecture"].as_str().unwrap());
        assert_eq!(environment["platform"], platform);
    }
    // Their steps are in one cache.
    let other = Engine::start();
    let told = other.buildx(&context.path(), &[&platforms[..], &["--cache-from", &cache]].concat());
    assert_eq!(told.stderr.matches(" CACHED\n").count(), 2, "{}", told.stderr);
    told.ok();
}

#[test]
fn an_archive_has_it_too_and_what_cannot_have_it_is_refused() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new("FROM BASE\nRUN true\n", &[]);
    let path = context.path();
    engine.buildx(&path, &["--provenance=true", "-o", "type=oci,dest=out.tar"]).ok();
    let mut archive = tar::Archive::new(File::open(path.join("out.tar")).unwrap());
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), content);
    }
    let read = |digest: &Value| -> Value {
        let content = &files[&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))];
        assert_eq!(digest, &Value::from(coracle_corpus::digest(content)));
        serde_json::from_slice(content).unwrap()
    };
    let top: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    statement(&read(&top["manifests"][0]["digest"]), read);

    // Nobody who did not ask has an index of it.
    engine.buildx(&path, &["-t", "plain"]).ok();
    let digests = engine.docker(&["image", "inspect", "-f", "{{json .RepoDigests}}", "plain"]).ok();
    assert_eq!(digests, "[]");
    engine.buildx(&path, &["-t", "off", "--provenance=false"]).ok();
    for (arguments, words) in [
        (&["--provenance=true", "-o", "out"][..], "provenance with the output local is not supported"),
        (
            &["--provenance=true", "-o", "type=docker,dest=x.tar"],
            "docker exporter does not support exporting manifest lists",
        ),
        (&["--attest=type=provenance,mode=some"], "mode=some of a provenance"),
        (&["--sbom=true"], "SBOM attestations are not supported"),
    ] {
        engine.buildx(&path, arguments).refused(1, words);
    }
}
