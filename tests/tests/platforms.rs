//! Names that stand for several platforms, and what registries keep that is no image, with the docker command.
//!
//! Not against the original: what it keeps depends on its image store.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "platforms/podman.rs"]
mod podman;

use coracle_corpus::digest;
use coracle_tests::image::small;
use coracle_tests::registry::Registry;
use coracle_tests::shelf::{INDEX, LAYER, MANIFEST, Shelf};
use coracle_tests::{Engine, Output};
use serde_json::{Value, json};
use std::process::Command;

/// What this machine is, and two others that the test's programs run on all the same.
const HOST: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const OTHERS: [&str; 2] = ["riscv64", "s390x"];

/// Images for several platforms in a registry, each of which says its own when it runs.
struct Several {
    engine: Engine,
    registry: Registry,
    /// The descriptors of the index.
    entries: Vec<Value>,
    /// The ids, in the same order.
    ids: Vec<String>,
}

impl Several {
    /// An index at `several:v1` of these architectures. Nothing of it is in the engine.
    fn new(architectures: &[&str]) -> Self {
        let (engine, registry) = (Engine::start(), Registry::start());
        let mut several = Self { engine, registry, entries: Vec::new(), ids: Vec::new() };
        for architecture in architectures {
            several.push_one(architecture);
        }
        several.put_index("several", "v1", &several.entries);
        several
    }

    fn push_one(&mut self, architecture: &str) {
        let directory = tempfile::tempdir().unwrap();
        let archive = small(directory.path()).display().to_string();
        let name = self.registry.name(&format!("several:{architecture}"));
        let command = format!("CMD [\"sh\", \"-c\", \"echo {architecture}\"]");
        let platform = format!("linux/{architecture}");
        self.engine.docker(&["import", "-c", &command, "--platform", &platform, &archive, &name]).ok();
        self.ids.push(self.engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok());
        self.engine.docker(&["push", &name]).ok();
        self.engine.docker(&["rmi", &name]).ok();
        let content = self.manifest("several", architecture);
        self.entries.push(json!({
            "mediaType": MANIFEST, "digest": digest(content.as_bytes()), "size": content.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }

    fn put_index(&self, repository: &str, tag: &str, entries: &[Value]) -> String {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, answer) = self.registry.request("PUT", &path, INDEX, index.as_bytes());
        assert_eq!(status, 201, "{answer}");
        digest(index.as_bytes())
    }

    /// A manifest as the registry has it.
    fn manifest(&self, repository: &str, tag: &str) -> String {
        raw_manifest(&self.registry.name(&format!("{repository}:{tag}")))
    }

    fn name(&self) -> String {
        self.registry.name("several:v1")
    }

    fn pull(&self, architecture: &str) -> String {
        self.engine.docker(&["pull", "--platform", &format!("linux/{architecture}"), &self.name()]).ok()
    }

    /// What a container of the name says.
    fn says(&self, options: &[&str]) -> String {
        let name = self.name();
        let run = ["run", "--rm", "--network", "none", "--pull", "never"];
        self.engine.docker(&[&run[..], options, &[name.as_str()]].concat()).ok()
    }

    /// Ids of all images besides the suite's own.
    fn listed(&self) -> Vec<String> {
        let ids =
            self.engine.docker(&["images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"]).ok();
        ids.lines()
            .filter(|line| !line.contains("coracle-test-"))
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    }

    fn tree(&self) -> String {
        self.engine.docker(&["image", "ls", "--tree"]).ok()
    }
}

fn raw_manifest(name: &str) -> String {
    let arguments = ["inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")];
    let output = Command::new("skopeo").args(arguments).output().expect("the package skopeo is installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the engine under test is the original.
fn is_original() -> bool {
    std::env::var_os("TARGET").is_some()
}

#[track_caller]
fn refused(output: &Output, part: &str) {
    assert!(output.code != 0 && output.stderr.contains(part), "{output:?}");
}

#[test]
fn another_platform_is_added_and_the_name_means_the_one_that_runs_here() {
    if is_original() {
        return;
    }
    let several = Several::new(&[OTHERS[0], HOST, OTHERS[1]]);
    let (engine, name) = (&several.engine, several.name());
    let pulled = several.pull(OTHERS[0]);
    assert!(pulled.contains("Downloaded newer image"), "{pulled}");
    // The only one that is here is meant, and it is said that it is for other machines.
    let run = engine.docker(&["run", "--rm", "--network", "none", "--pull", "never", &name]);
    assert!(run.stderr.contains("does not match the detected host platform"), "{run:?}");
    assert_eq!(run.ok(), OTHERS[0]);
    refused(
        &engine.docker(&["run", "--rm", "--pull", "never", "--platform", "linux/s390x", &name]),
        "does not provide the specified platform (linux/s390x)",
    );
    let pulled = engine.docker(&["pull", &name]).ok();
    assert!(pulled.contains("Downloaded newer image"), "{pulled}");
    assert!(engine.docker(&["pull", &name]).ok().contains("Image is up to date"));
    assert!(several.pull(OTHERS[0]).contains("Image is up to date"));
    assert_eq!(several.says(&[]), HOST);
    assert_eq!(several.says(&["--platform", "linux/riscv64"]), OTHERS[0]);
    assert_eq!(several.listed(), [several.ids[1].clone()], "one row for all platforms");

    // A third one changes nothing of what the name means.
    several.pull(OTHERS[1]);
    assert_eq!(several.says(&[]), HOST);
    let inspect = |more: &[&str]| {
        engine.docker(&[&["image", "inspect", "-f", "{{.Id}} {{.Architecture}}", &name], more].concat())
    };
    for (architecture, id) in [OTHERS[0], HOST, OTHERS[1]].iter().zip(&several.ids) {
        let platform = format!("linux/{architecture}");
        assert_eq!(inspect(&["--platform", &platform]).ok(), format!("{id} {architecture}"));
        let history = engine.docker(&["history", "--no-trunc", "--platform", &platform, "-q", &name]).ok();
        assert!(history.contains(id.as_str()), "{history}");
    }
    assert_eq!(inspect(&[]).ok(), format!("{} {HOST}", several.ids[1]));
    refused(&inspect(&["--platform", "linux/386"]), "does not provide the specified platform (linux/386)");

    // All of them go with the name.
    let removed = engine.docker(&["rmi", &name]).ok();
    for id in &several.ids {
        assert!(removed.contains(&format!("Deleted: {id}")), "{removed}");
    }
    assert_eq!(several.listed(), Vec::<String>::new());
}

#[test]
fn the_tree_shows_what_an_index_has_and_what_of_it_is_here() {
    if is_original() {
        return;
    }
    let mut several = Several::new(&[HOST, OTHERS[0]]);
    let about = several.entries[0]["digest"].clone();
    let mut attestation = several.entries[1].clone();
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] =
        json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about});
    several.entries.push(attestation);
    let index = several.put_index("several", "v1", &several.entries);
    several.pull(HOST);
    let tree = several.tree();
    let short = |entry: &Value| entry["digest"].as_str().unwrap()[7..19].to_owned();
    let line = |architecture: &str| {
        tree.lines()
            .find(|line| line.contains(&format!("linux/{architecture}")))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(line(HOST).contains(&short(&several.entries[0])) && line(HOST).contains("MB"), "{tree}");
    assert!(
        line(OTHERS[0]).contains(&short(&several.entries[1])) && line(OTHERS[0]).contains("0B"),
        "{tree}"
    );
    assert!(!tree.contains("unknown"), "{tree}");

    let container = several.engine.docker(&["create", &several.name()]).ok();
    let path = format!("/v1.48/images/{}/json?manifests=1", several.name());
    let inspected: Value = serde_json::from_str(&several.engine.request("GET", &path, None).1).unwrap();
    assert_eq!(inspected["Descriptor"]["digest"], index);
    assert_eq!(inspected["Descriptor"]["mediaType"], INDEX);
    let manifests = inspected["Manifests"].as_array().unwrap();
    let facts = |at: usize| (manifests[at]["Kind"].clone(), manifests[at]["Available"].clone());
    assert_eq!(
        [facts(0), facts(1), facts(2)],
        [(json!("image"), json!(true)), (json!("image"), json!(false)), (json!("attestation"), json!(false)),]
    );
    assert_eq!(manifests[0]["ImageData"]["Containers"], json!([container]));
    assert_eq!(manifests[2]["AttestationData"]["For"], about);
    let sizes = |at: usize, of: &str| manifests[at]["Size"][of].as_i64().unwrap();
    let unpacked = manifests[0]["ImageData"]["Size"]["Unpacked"].as_i64().unwrap();
    assert_eq!(sizes(0, "Total"), sizes(0, "Content") + unpacked);
    assert!(unpacked > 1 << 19 && sizes(0, "Content") > 1 << 19, "{inspected}");
    assert_eq!((sizes(1, "Total"), sizes(1, "Content")), (0, 0));
    // Older clients see neither.
    let path = format!("/v1.46/images/{}/json?manifests=1", several.name());
    let inspected: Value = serde_json::from_str(&several.engine.request("GET", &path, None).1).unwrap();
    assert!(inspected.get("Manifests").is_none() && inspected.get("Descriptor").is_none(), "{inspected}");
    let (status, answer) = several.engine.request(
        "GET",
        &format!("/v1.49/images/{}/json?manifests=1&platform=%7B%22os%22:%22linux%22,%22architecture%22:%22arm%22%7D", several.name()),
        None,
    );
    assert_eq!(status, 400, "{answer}");
    several.engine.docker(&["rm", &container]).ok();
    several.engine.docker(&["rmi", &several.name()]).ok();
}

#[test]
fn one_platform_goes_and_the_name_means_the_rest() {
    if is_original() {
        return;
    }
    let several = Several::new(&[HOST, OTHERS[0], OTHERS[1]]);
    let (engine, name) = (&several.engine, several.name());
    for architecture in [HOST, OTHERS[0], OTHERS[1]] {
        several.pull(architecture);
    }
    let platform = format!("linux/{HOST}");
    let remove = |platform: &str, more: &[&str]| {
        let json = |text: &str| {
            let (os, architecture) = text.split_once('/').unwrap();
            format!("%7B%22os%22:%22{os}%22,%22architecture%22:%22{architecture}%22%7D")
        };
        let path = format!("/v1.50/images/{name}?platforms={}{}", json(platform), more.concat());
        engine.request("DELETE", &path, None)
    };
    assert_eq!(remove(&platform, &[]).0, 409, "it may be content of other images");
    assert_eq!(remove("linux/386", &["&force=1"]).0, 404);
    let (status, answer) = remove(&platform, &["&force=1"]);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(&several.ids[0]) && !answer.contains("Untagged"), "{answer}");
    assert!(OTHERS.contains(&several.says(&[]).as_str()));
    assert_eq!(several.listed().len(), 1);
    // What is used stays.
    let container = engine.docker(&["create", "--platform", "linux/s390x", &name]).ok();
    refused(&engine.docker(&["rmi", &name]), "is using its referenced image");
    engine.docker(&["rm", &container]).ok();
    for platform in ["linux/riscv64", "linux/s390x"] {
        assert_eq!(remove(platform, &["&force=1"]).0, 200);
    }
    assert_eq!(several.listed(), Vec::<String>::new());
    refused(&engine.docker(&["inspect", &name]), "No such");
}

#[test]
fn an_index_is_pushed_whole_if_all_of_it_is_here_and_one_platform_alone_otherwise() {
    if is_original() {
        return;
    }
    let several = Several::new(&[HOST, OTHERS[0], OTHERS[1]]);
    let (engine, name) = (&several.engine, several.name());
    let original = several.manifest("several", "v1");
    let elsewhere = several.registry.name("elsewhere:v1");
    several.pull(HOST);
    engine.docker(&["tag", &name, &elsewhere]).ok();
    // What is not here is in the same repository: the index goes as it is.
    let again = several.registry.name("several:again");
    engine.docker(&["tag", &name, &again]).ok();
    engine.docker(&["push", &again]).ok();
    assert_eq!(several.manifest("several", "again"), original);

    let pushed = engine.docker(&["push", &elsewhere]).ok();
    assert!(pushed.contains("Not all multiplatform-content is present"), "{pushed}");
    assert_eq!(
        digest(several.manifest("elsewhere", "v1").as_bytes()),
        several.entries[0]["digest"].as_str().unwrap()
    );

    several.pull(OTHERS[0]);
    let third = several.registry.name("third:v1");
    engine.docker(&["tag", &name, &third]).ok();
    refused(&engine.docker(&["push", &third]), "is neither here nor in the registry");
    engine.docker(&["push", "--platform", "linux/riscv64", &third]).ok();
    assert_eq!(
        digest(several.manifest("third", "v1").as_bytes()),
        several.entries[1]["digest"].as_str().unwrap()
    );

    several.pull(OTHERS[1]);
    engine.docker(&["push", &third]).ok();
    assert_eq!(several.manifest("third", "v1"), original, "byte for byte");
    engine.docker(&["rmi", &name, &elsewhere, &again, &third]).ok();
    assert_eq!(several.listed(), Vec::<String>::new());
}

#[test]
fn an_archive_holds_all_platforms_or_those_that_are_asked_for() {
    if is_original() {
        return;
    }
    let several = Several::new(&[HOST, OTHERS[0], OTHERS[1]]);
    let (engine, name) = (&several.engine, several.name());
    for architecture in [HOST, OTHERS[0]] {
        several.pull(architecture);
    }
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (all, one) = (file("all.tar"), file("one.tar"));
    engine.docker(&["save", "-o", &all, &name]).ok();
    engine.docker(&["save", "--platform", "linux/riscv64", "-o", &one, &name]).ok();
    refused(
        &engine.docker(&["save", "--platform", "linux/s390x", "-o", &file("none.tar"), &name]),
        "no suitable export target found for platform linux/s390x",
    );
    let digest = |name: &str| engine.docker(&["inspect", "-f", "{{.Descriptor.Digest}}", name]).ok();
    let index = digest(&name);
    engine.docker(&["rmi", &name]).ok();

    let loaded = engine.docker(&["load", "-i", &all]).ok();
    assert_eq!(loaded, format!("Loaded image: {name}"));
    assert_eq!((several.says(&[]), digest(&name)), (HOST.to_owned(), index.clone()));
    assert_eq!(several.says(&["--platform", "linux/riscv64"]), OTHERS[0]);
    // The third one still comes from the registry and joins them.
    several.pull(OTHERS[1]);
    assert_eq!(several.listed(), [several.ids[0].clone()]);
    // Two of three that are here.
    let (two, both) = (file("two.tar"), format!("linux/{HOST},linux/{}", OTHERS[0]));
    engine.coracle(&["save", "--platform", &both, "-o", &two, &name]).ok();
    let has = |at: usize| {
        let place = several.entries[at]["digest"].as_str().unwrap().replace(':', "/");
        let mut archive = tar::Archive::new(std::fs::File::open(&two).unwrap());
        let mut entries = archive.entries().unwrap();
        entries.any(|entry| entry.unwrap().path().unwrap().ends_with(&place))
    };
    assert_eq!([has(0), has(1), has(2)], [true, true, false]);
    engine.docker(&["rmi", &name]).ok();
    assert_eq!(several.listed(), Vec::<String>::new());

    engine.docker(&["load", "-i", &one]).ok();
    assert_eq!(several.says(&[]), OTHERS[0]);
    assert_eq!(digest(&name), several.entries[1]["digest"].as_str().unwrap(), "as it came");
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["load", "--platform", "linux/riscv64", "-i", &all]).ok();
    assert_eq!((several.says(&[]), digest(&name)), (OTHERS[0].to_owned(), index));
    engine.docker(&["rmi", &name]).ok();
    refused(
        &engine.docker(&["load", "--platform", "linux/386", "-i", &all]),
        "requested platform (linux/386) not found",
    );
    assert_eq!(several.listed(), Vec::<String>::new());
}

#[test]
fn a_build_begins_with_the_platform_that_it_names() {
    if is_original() {
        return;
    }
    let several = Several::new(&[HOST, OTHERS[0]]);
    let (engine, name) = (&several.engine, several.name());
    let context = tempfile::tempdir().unwrap();
    let build = |dockerfile: &str| {
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        let mut command = engine.command("docker");
        command.args(["build", "-q"]).arg(context.path()).env("DOCKER_BUILDKIT", "0");
        Output::new("docker build".to_owned(), &command.output().unwrap())
    };
    several.pull(HOST);
    for again in [false, true] {
        let asked = several.registry.requests().len();
        for (option, says) in [("", HOST), ("--platform=linux/riscv64 ", OTHERS[0])] {
            let built = build(&format!("FROM {option}{name}\nLABEL of={says}\n")).ok();
            assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &built]).ok(), says, "{option}");
            engine.docker(&["rmi", &built]).ok();
        }
        // The second time all of it is here.
        assert_eq!(several.registry.requests().len() == asked, again);
        assert_eq!(several.says(&["--platform", "linux/riscv64"]), OTHERS[0]);
    }
    engine.docker(&["rmi", &name]).ok();

    let shelf = Shelf::new();
    artifact(&shelf, "chart", "application/vnd.example.chart", None);
    let chart = format!("{}/chart:v1", shelf.host());
    refused(&build(&format!("FROM {chart}\nLABEL a=b\n")), "no container can be made of it");
    engine.docker(&["rmi", &chart]).ok();
}

#[test]
fn our_own_command_knows_platforms() {
    if is_original() {
        return;
    }
    let several = Several::new(&[HOST, OTHERS[0]]);
    let (engine, name) = (&several.engine, several.name());
    let other = format!("linux/{}", OTHERS[0]);
    engine.coracle(&["pull", &name]).ok();
    refused(&engine.coracle(&["image", "ls", "--tree", "-q"]), "--quiet cannot be used with --tree");
    let tree = engine.coracle(&["image", "ls", "--tree"]).ok();
    let line = |part: &str| tree.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned();
    assert!(line(&name).contains(&several.ids[0][7..19]), "{tree}");
    assert!(line(&format!("├─ linux/{HOST}")).contains("MB"), "{tree}");
    assert!(line(&format!("└─ {other}")).contains("0B"), "{tree}");
    let elsewhere = several.registry.name("elsewhere:v1");
    engine.coracle(&["tag", &name, &elsewhere]).ok();
    let pushed = engine.coracle(&["push", &elsewhere]);
    assert!(pushed.code == 0 && pushed.stderr.contains("was pushed alone"), "{pushed:?}");

    engine.coracle(&["pull", "--platform", &other, &name]).ok();
    let id = |arguments: &[&str]| {
        engine.coracle(&[&["image", "inspect", "-f", "{{.Id}}"], arguments, &[name.as_str()]].concat()).ok()
    };
    assert_eq!(id(&["--platform", &other]), several.ids[1]);
    let history = engine.coracle(&["history", "-q", "--no-trunc", "--platform", &other, &name]).ok();
    assert!(history.contains(&several.ids[1]), "{history}");
    engine.coracle(&["push", "--platform", &other, &elsewhere]).ok();
    let sent = several.manifest("elsewhere", "v1");
    assert_eq!(digest(sent.as_bytes()), several.entries[1]["digest"].as_str().unwrap());
    let archive = engine.directory().join("two.tar").display().to_string();
    let both = format!("linux/{HOST},{other}");
    engine.coracle(&["save", "--platform", &both, "-o", &archive, &name]).ok();
    refused(&engine.coracle(&["image", "rm", "--platform", &other, &name]), "--force");
    engine.coracle(&["image", "rm", "-f", "--platform", &other, &name]).ok();
    refused(&engine.coracle(&["image", "inspect", "--platform", &other, &name]), "does not provide");
    engine.coracle(&["load", "--platform", &other, "-i", &archive]).ok();
    assert_eq!((id(&["--platform", &other]), id(&[])), (several.ids[1].clone(), several.ids[0].clone()));
    engine.coracle(&["rmi", &name, &elsewhere]).ok();
    assert_eq!(several.listed(), Vec::<String>::new());
}

/// An artifact on a shelf; its manifest.
fn artifact(shelf: &Shelf, repository: &str, config: &str, artifact_type: Option<&str>) -> String {
    let blobs: [&[u8]; 3] = [b"{}", b"no archive at all", b"\x1f\x8b\x08 nor is this"];
    for blob in blobs {
        shelf.put_blob(repository, &digest(blob), blob);
    }
    let describe =
        |kind: &str, blob: &[u8]| json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()});
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": describe(config, blobs[0]),
        "layers": [describe("text/plain", blobs[1]), describe("application/x.chart", blobs[2])],
        "annotations": {"odd": "\u{e9}"},
    });
    if let Some(kind) = artifact_type {
        manifest["artifactType"] = kind.into();
    }
    // Not as anybody would write it: it has to stay as it is.
    let manifest = serde_json::to_string_pretty(&manifest).unwrap();
    shelf.put_manifest(repository, "v1", MANIFEST, manifest.as_bytes());
    manifest
}

#[test]
fn what_is_no_image_is_pulled_kept_and_pushed_as_it_is() {
    if is_original() {
        return;
    }
    let (engine, registry, shelf) = (Engine::start(), Registry::start(), Shelf::new());
    for (number, (config, kind)) in [
        ("application/vnd.oci.empty.v1+json", Some("application/vnd.example.policy")),
        ("application/vnd.cncf.helm.config.v1+json", None),
    ]
    .into_iter()
    .enumerate()
    {
        let repository = format!("things/{number}");
        let manifest = artifact(&shelf, &repository, config, kind);
        let id = digest(manifest.as_bytes());
        let name = format!("{}/{repository}:v1", shelf.host());
        assert!(engine.docker(&["pull", &name]).ok().contains(&format!("Digest: {id}")));
        assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}} {{.Size}}", &name]).ok(), format!("{id} 34"));
        assert_eq!(engine.docker(&["images", "-q", "--no-trunc", &name]).ok(), id);
        refused(&engine.docker(&["create", &name]), kind.unwrap_or(config));
        let other = registry.name(&format!("kept/{number}:v2"));
        engine.docker(&["tag", &name, &other]).ok();
        engine.docker(&["push", &other]).ok();
        assert_eq!(raw_manifest(&other), manifest);
        engine.docker(&["rmi", &name]).ok();
        assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &other]).ok(), id, "it has another name");
        assert!(engine.docker(&["rmi", &other]).ok().contains(&format!("Deleted: {id}")));
        // It comes back from where it went.
        engine.docker(&["pull", &other]).ok();
        assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &id[7..19]]).ok(), id);
        let archive = engine.directory().join("artifact.tar").display().to_string();
        engine.docker(&["save", "-o", &archive, &other]).ok();
        engine.docker(&["rmi", &id]).ok();
        assert_eq!(engine.docker(&["load", "-i", &archive]).ok(), format!("Loaded image: {other}"));
        let again = registry.name(&format!("kept/{number}:v3"));
        engine.docker(&["tag", &other, &again]).ok();
        engine.docker(&["push", &again]).ok();
        assert_eq!(raw_manifest(&again), manifest);
        engine.docker(&["rmi", "-f", &id]).ok();
    }
    // It does not say when it was made: it is as old as it is here.
    artifact(&shelf, "new", "application/vnd.example", None);
    let name = format!("{}/new:v1", shelf.host());
    engine.docker(&["pull", &name]).ok();
    engine.docker(&["image", "prune", "-af", "--filter", "until=1h"]).ok();
    engine.docker(&["image", "inspect", &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    let check = engine.coracle(&["system", "check"]);
    assert!(check.code == 0, "{check:?}");
}

#[test]
fn an_artifact_whose_blobs_are_wrong_or_elsewhere_is_refused() {
    if is_original() {
        return;
    }
    let (engine, shelf) = (Engine::start(), Shelf::new());
    let name = format!("{}/wrong:v1", shelf.host());
    artifact(&shelf, "wrong", "application/vnd.example", None);
    shelf.put_blob("wrong", &digest(b"no archive at all"), b"another of the sa");
    refused(&engine.docker(&["pull", &name]), "does not match its digest");
    let mut manifest: Value =
        serde_json::from_str(&artifact(&shelf, "wrong", "application/vnd.example", None)).unwrap();
    manifest["layers"][0]["urls"] = json!(["http://127.0.0.1:1/x"]);
    shelf.put_manifest("wrong", "v1", MANIFEST, manifest.to_string().as_bytes());
    refused(&engine.docker(&["pull", &name]), "elsewhere");
    refused(&engine.docker(&["inspect", &name]), "No such");
}

#[test]
fn a_mirror_with_a_wrong_configuration_is_not_asked_again() {
    if is_original() {
        return;
    }
    let (wrong, right) = (Shelf::new(), Shelf::new());
    let mirrors = [&wrong, &right].map(|shelf| format!("--registry-mirror=http://{}", shelf.host()));
    let engine = Engine::start_with(&[mirrors[0].as_str(), mirrors[1].as_str()]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    builder.append_data(&mut header, "file", &b""[..]).unwrap();
    let layer = builder.into_inner().unwrap();
    let config = coracle_corpus::config(&layer);
    for shelf in [&wrong, &right] {
        shelf.put_image("library/app", &layer);
    }
    let lie = config.replace("linux", "LINUX");
    assert!(lie != config && lie.len() == config.len(), "{config}");
    wrong.put_blob("library/app", &digest(config.as_bytes()), lie.as_bytes());
    engine.docker(&["pull", "app"]).ok();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", "app"]).ok(), digest(config.as_bytes()));
    engine.docker(&["rmi", "app"]).ok();

    // The same of an artifact's blob.
    for shelf in [&wrong, &right] {
        artifact(shelf, "library/thing", "application/vnd.example", None);
    }
    wrong.put_blob("library/thing", &digest(b"no archive at all"), b"another of the sa");
    engine.docker(&["pull", "thing:v1"]).ok();
    engine.docker(&["rmi", "thing:v1"]).ok();
}

/// A way to a registry that opens when a test says so.
struct Gate {
    host: String,
    knocked: std::sync::mpsc::Receiver<()>,
    open: std::sync::Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>,
}

impl Gate {
    fn new(registry: &Registry) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let target = registry.host().to_owned();
        let (sender, knocked) = std::sync::mpsc::channel();
        let open = std::sync::Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
        let shared = std::sync::Arc::clone(&open);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Nobody waits for the second knock.
                let _ = sender.send(());
                let mut is_open = shared.0.lock().unwrap();
                while !*is_open {
                    is_open = shared.1.wait(is_open).unwrap();
                }
                drop(is_open);
                let registry = std::net::TcpStream::connect(&target).unwrap();
                let (mut there, mut back) = (client.try_clone().unwrap(), registry.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut there, &mut &registry));
                std::thread::spawn(move || std::io::copy(&mut back, &mut &client));
            }
        });
        Self { host, knocked, open }
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

#[test]
fn an_image_that_is_removed_while_it_is_pushed_arrives_and_is_gone() {
    if is_original() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let gate = Gate::new(&registry);
    let name = format!("{}/going:v1", gate.host);
    let archive = small(engine.directory()).display().to_string();
    engine.docker(&["import", &archive, &name]).ok();
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok();
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| engine.docker(&["push", &name]));
        gate.knocked.recv().unwrap();
        assert!(engine.docker(&["rmi", &name]).ok().contains(&format!("Deleted: {id}")));
        gate.open();
        let pushed = pushing.join().unwrap();
        assert!(pushed.code == 0, "{pushed:?}");
    });
    refused(&engine.docker(&["inspect", &id]), "No such");
    let manifest: Value = serde_json::from_str(&raw_manifest(&registry.name("going:v1"))).unwrap();
    assert_eq!(manifest["config"]["digest"], id);
    let check = engine.coracle(&["system", "check"]);
    assert!(check.code == 0, "{check:?}");
}

#[test]
fn indexes_without_platforms_with_the_same_twice_and_of_many_entries_are_harmless() {
    if is_original() {
        return;
    }
    let (engine, shelf) = (Engine::start(), Shelf::new());
    let layer = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, "file", &b""[..]).unwrap();
        builder.into_inner().unwrap()
    };
    shelf.put_image("app", &layer);
    let config = coracle_corpus::config(&layer);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": LAYER, "digest": digest(&layer), "size": layer.len()}],
    })
    .to_string();
    shelf.put_manifest("app", "single", MANIFEST, manifest.as_bytes());
    let right = json!({"mediaType": MANIFEST, "digest": digest(manifest.as_bytes()), "size": manifest.len()});
    let with = |platform: Value| {
        let mut entry = right.clone();
        entry["platform"] = platform;
        entry
    };
    let host = json!({"os": "linux", "architecture": HOST});
    let many: Vec<Value> = (0..10_000)
        .map(|number| {
            json!({"mediaType": MANIFEST, "digest": digest(format!("{number}").as_bytes()), "size": 1,
            "platform": {"os": "linux", "architecture": "s390x"}})
        })
        .chain([with(host.clone())])
        .collect();
    for (tag, entries, accepted) in [
        ("unsaid", vec![right.clone()], true),
        ("twice", vec![with(host.clone()), with(host.clone())], true),
        ("many", many, true),
        ("others", vec![with(json!({"os": "linux", "architecture": "s390x"}))], false),
        ("none", vec![], false),
    ] {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
        shelf.put_manifest("app", tag, INDEX, index.as_bytes());
        let name = format!("{}/app:{tag}", shelf.host());
        let pulled = engine.docker(&["pull", &name]);
        assert_eq!(pulled.code == 0, accepted, "{tag}: {pulled:?}");
        if accepted {
            engine.docker(&["image", "ls", "--tree"]).ok();
            let (status, answer) = engine.request("GET", "/v1.48/images/json?manifests=1", None);
            assert!(status == 200 && answer.len() < 2 << 20, "{tag}: {}", answer.len());
            engine.docker(&["rmi", &name]).ok();
        }
    }
    // An index that names an index, itself as far as anybody can.
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [with(host)]}).to_string();
    shelf.put_manifest("app", "inner", INDEX, inner.as_bytes());
    for kind in [INDEX, MANIFEST] {
        let entry = json!({"mediaType": kind, "digest": digest(inner.as_bytes()), "size": inner.len(),
            "platform": {"os": "linux", "architecture": HOST}});
        let outer = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        shelf.put_manifest("app", "outer", INDEX, outer.as_bytes());
        let pulled = engine.docker(&["pull", &format!("{}/app:outer", shelf.host())]);
        assert!(pulled.code != 0, "{pulled:?}");
    }
}
