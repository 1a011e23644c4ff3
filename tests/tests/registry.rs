//! Registries: push, pull, sign in, and other tools on the other side.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::image::SMALL;
use coracle_tests::registry::{PASSWORD, Registry, USER, Wire};
use coracle_tests::{Engine, Output};
use std::io::Read;
use std::path::Path;
use std::process::Command;

/// Runs another tool that must succeed.
#[track_caller]
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("the package {program} is installed: {error}"));
    Output::new(format!("{program} {}", arguments.join(" ")), &output).ok()
}

fn copy(arguments: &[&str]) -> String {
    let options = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "-q"];
    tool("skopeo", &[&options[..], arguments].concat())
}

fn digest_in(registry: &Registry, image: &str) -> String {
    let name = format!("docker://{}", registry.name(image));
    tool("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name])
}

/// An image of two layers with a name of its own; its id.
fn image(engine: &Engine, name: &str) -> String {
    let container = engine.name("made");
    engine
        .docker(&["run", "--name", &container, "--network", "none", SMALL, "sh", "-c", "echo more > /more"])
        .ok();
    engine.docker(&["commit", "-c", "CMD [\"cat\",\"/more\"]", &container, name]).ok();
    engine.docker(&["rm", &container]).ok();
    engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok()
}

/// The digest that an image has in its registry, by what the engine knows.
fn repo_digest(engine: &Engine, name: &str) -> String {
    let names = engine.docker(&["inspect", "-f", "{{json .RepoDigests}}", name]).json();
    let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
    let of_it = names.as_array().unwrap().iter().filter_map(|name| name.as_str()?.split_once('@'));
    of_it.filter(|(name, _)| *name == repository).map(|(_, digest)| digest.to_owned()).next_back().unwrap()
}

#[test]
fn an_image_that_was_pushed_is_pulled_and_run() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let name = registry.name("team/app:v1");
    let id = image(&engine, &name);
    let pushed = engine.docker(&["push", &name]).ok();
    assert!(
        pushed.contains(&format!("The push refers to repository [{}]", registry.name("team/app"))),
        "{pushed}"
    );
    assert!(pushed.contains(": Pushed"), "{pushed}");
    let digest = digest_in(&registry, "team/app:v1");
    assert!(pushed.contains(&format!("v1: digest: {digest} size: ")), "{pushed}");
    assert_eq!(repo_digest(&engine, &name), digest);

    engine.docker(&["rmi", &name]).ok();
    let pulled = engine.docker(&["pull", &name]).ok();
    for line in [
        "v1: Pulling from team/app".to_owned(),
        format!("Digest: {digest}"),
        format!("Status: Downloaded newer image for {name}"),
    ] {
        assert!(pulled.contains(&line), "{line}: {pulled}");
    }
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), id);
    assert_eq!(repo_digest(&engine, &name), digest);
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name]).ok(), "more");
    let by_digest = format!("{}@{digest}", registry.name("team/app"));
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &by_digest]).ok(), "more");
    engine.docker(&["rmi", "-f", &id]).ok();

    // An image that is missing is pulled by whoever runs it.
    let run = engine.docker(&["run", "--rm", "--network", "none", &by_digest]);
    assert!(run.stderr.contains("Unable to find image"), "{run:?}");
    assert_eq!(run.ok(), "more");
    engine.docker(&["rmi", &by_digest]).ok();
}

#[test]
fn what_is_there_is_neither_sent_nor_fetched_again() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let (name, other) = (registry.name("one:v1"), registry.name("two:v1"));
    image(&engine, &name);
    engine.docker(&["push", &name]).ok();
    let again = engine.docker(&["push", &name]).ok();
    assert_eq!(again.matches("Layer already exists").count(), 2, "{again}");
    // Another repository of the same registry takes over the layers.
    engine.docker(&["tag", &name, &other]).ok();
    let mounted = engine.docker(&["push", &other]).ok();
    assert_eq!(mounted.matches("Mounted from one").count(), 2, "{mounted}");
    assert_eq!(digest_in(&registry, "one:v1"), digest_in(&registry, "two:v1"));

    let before = registry.requests().len();
    let pulled = engine.docker(&["pull", &name]).ok();
    assert!(pulled.contains(&format!("Status: Image is up to date for {name}")), "{pulled}");
    let requests = registry.requests();
    let new: Vec<&String> = requests[before..].iter().filter(|request| !request.contains(" /v2/ ")).collect();
    // The original asks for the manifest as well.
    let most = if engine.is_original() { 2 } else { 1 };
    assert!(new[0] == "HEAD /v2/one/manifests/v1 200" && new.len() <= most, "{new:?}");
    engine.docker(&["rmi", &name, &other]).ok();
}

#[test]
fn other_tools_push_what_is_pulled_and_pull_what_is_pushed() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let directory = engine.directory();
    let path = |name: &str| directory.join(name).display().to_string();
    let name = engine.name("exchanged");
    image(&engine, &name);
    engine.docker(&["save", "-o", &path("saved.tar"), &name]).ok();
    for (tag, options) in [
        ("docker", ["--format", "v2s2"]),
        ("oci", ["--format", "oci"]),
        ("zstd", ["--dest-compress-format", "zstd"]),
    ] {
        let there = format!("docker://{}", registry.name(&format!("skopeo:{tag}")));
        let archive = format!("docker-archive:{}", path("saved.tar"));
        // Zstandard exists in OCI images only.
        let format = if tag == "zstd" { ["--format", "oci"] } else { options };
        copy(&[&format[..], &options[..], &[&archive, &there]].concat());
        let here = registry.name(&format!("skopeo:{tag}"));
        engine.docker(&["pull", &here]).ok();
        assert_eq!(repo_digest(&engine, &here), digest_in(&registry, &format!("skopeo:{tag}")), "{tag}");
        assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &here]).ok(), "more", "{tag}");
        // What was pulled goes to another place byte by byte.
        let copied = registry.name(&format!("copied:{tag}"));
        engine.docker(&["tag", &here, &copied]).ok();
        if !engine.is_original() {
            engine.docker(&["push", &copied]).ok();
            let (one, other) = (
                digest_in(&registry, &format!("skopeo:{tag}")),
                digest_in(&registry, &format!("copied:{tag}")),
            );
            assert_eq!(one, other, "{tag}");
        }
        engine.docker(&["rmi", &here, &copied]).ok();
    }
    let ours = registry.name("ours:v1");
    engine.docker(&["tag", &name, &ours]).ok();
    engine.docker(&["push", &ours]).ok();
    let (there, layout) = (format!("docker://{ours}"), format!("oci:{}:v1", path("layout")));
    copy(&[&there, &layout]);
    tool("umoci", &["unpack", "--image", &format!("{}:v1", path("layout")), &path("bundle")]);
    let more = directory.join("bundle/rootfs/more");
    assert_eq!(std::fs::read_to_string(more).unwrap(), "more\n");
    engine.docker(&["rmi", &ours, &name]).ok();
}

#[test]
fn an_index_gives_the_image_for_the_platform() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let other = if arch == "amd64" { "arm64" } else { "amd64" };
    let mut entries = Vec::new();
    for platform in [other, arch] {
        let name = registry.name(&format!("multi:{platform}"));
        let archive = coracle_tests::image::small(engine.directory()).display().to_string();
        let full = format!("linux/{platform}");
        engine
            .docker(&["import", "--platform", &full, "-c", &format!("LABEL for={platform}"), &archive, &name])
            .ok();
        engine.docker(&["push", &name]).ok();
        let (_, answer) = registry.request("GET", &format!("/v2/multi/manifests/{platform}"), "", &[]);
        let size = answer.split_once("\r\n\r\n").unwrap().1.len();
        let kind = answer.split_once("Content-Type: ").unwrap().1.split("\r\n").next().unwrap().to_owned();
        let digest = digest_in(&registry, &format!("multi:{platform}"));
        entries.push(serde_json::json!({
            "mediaType": kind, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": platform},
        }));
        engine.docker(&["rmi", &name]).ok();
    }
    entries.push(serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": entries[0]["digest"],
        "size": entries[0]["size"], "platform": {"os": "unknown", "architecture": "unknown"},
    }));
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
    assert_eq!(registry.request("PUT", "/v2/multi/manifests/latest", kind, index.as_bytes()).0, 201);

    let name = registry.name("multi");
    let label = |platform: &str| {
        let platform = format!("linux/{platform}");
        let format = "{{.Config.Labels.for}}";
        if engine.is_original() {
            // An engine of that age has one platform under a name: the one that was pulled last.
            return engine.docker(&["image", "inspect", "-f", format, &name]).ok();
        }
        engine.docker(&["image", "inspect", "--platform", &platform, "-f", format, &name]).ok()
    };
    engine.docker(&["pull", &name]).ok();
    assert_eq!(label(arch), arch);
    let inspected = engine.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]).ok();
    engine.docker(&["pull", "--platform", &format!("linux/{other}"), &name]).ok();
    assert_eq!(label(other), other);
    engine.docker(&["pull", &name]).ok();
    assert_eq!(label(arch), arch);
    engine
        .docker(&["pull", "--platform", "linux/s390x", &name])
        .refused(1, "no matching manifest for linux/s390x");
    let (status, found) = engine.request("GET", &format!("/v1.44/distribution/{name}/json"), None);
    assert_eq!(status, 200, "{found}");
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(inspected, format!("{name}@{}", found["Descriptor"]["digest"].as_str().unwrap()));
    assert_eq!(found["Platforms"].as_array().unwrap().len(), 3);
    // Only the image that has the name now is removed with it.
    let images = engine.docker(&["images", "-q", "--no-trunc", "-f", &format!("reference={name}")]).ok();
    engine.docker(&["rmi", "-f", images.lines().next().unwrap()]).ok();
    engine.docker(&["image", "prune", "-f", "--filter", &format!("label=for={other}")]).ok();
}

#[test]
fn a_password_is_asked_for_and_remembered_by_the_client() {
    let (engine, registry) = (Engine::start(), Registry::start_with_password());
    let name = registry.name("private:v1");
    image(&engine, &name);
    assert_ne!(engine.docker(&["push", &name]).code, 0);
    let login = |password: &str| {
        engine.docker_with_input(
            &["login", "-u", USER, "--password-stdin", registry.host()],
            password.as_bytes(),
        )
    };
    login("wrong").refused(1, "unauthorized");
    assert!(login(PASSWORD).ok().contains("Login Succeeded"));
    engine.docker(&["push", &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["pull", &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["logout", registry.host()]).ok();
    assert_ne!(engine.docker(&["pull", &name]).code, 0);
    engine.docker(&["inspect", &name]).refused(1, "no such object");
    assert!(!engine.log().contains(PASSWORD), "{}", engine.log());
}

#[test]
fn a_prune_frees_what_a_pull_that_failed_has_left() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let archive = engine.directory().join("large.tar");
    random_archive(&archive, 4 << 20);
    let name = registry.name("large");
    engine.docker(&["import", &archive.display().to_string(), &name]).ok();
    engine.docker(&["push", &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    let wire = Wire::new(&registry, 3 << 20);
    let pull = format!("/v1.44/images/create?fromImage={}&tag=latest", wire.name("large"));
    let partial = engine.directory().join("data/partial");
    let kept = || std::fs::read_dir(&partial).unwrap().count();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A client that gives up once the wire is broken.
            let mut client = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
            let head = format!("POST {pull} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n");
            std::io::Write::write_all(&mut client, head.as_bytes()).unwrap();
            coracle_tests::engine::wait_until("the wire is broken", || wire.is_broken());
        });
    });
    coracle_tests::engine::wait_until("what came is kept", || kept() == 1);
    // As soon as the pull has ended.
    coracle_tests::engine::wait_until("a prune frees it", || {
        engine.docker(&["image", "prune", "-f"]).ok();
        kept() == 0
    });
}

#[test]
fn our_own_command_signs_in_pushes_and_pulls() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start_with_password());
    let name = registry.name("own:v1");
    image(&engine, &name);
    assert_ne!(engine.coracle(&["push", &name]).code, 0);
    engine.coracle(&["login", "-u", USER, "-p", "wrong", registry.host()]).refused(1, "unauthorized");
    assert!(
        engine
            .coracle(&["login", "-u", USER, "-p", PASSWORD, registry.host()])
            .ok()
            .contains("Login Succeeded")
    );
    // Both commands know what either has kept.
    assert!(engine.coracle(&["push", &name]).ok().contains("v1: digest: sha256:"));
    engine.coracle(&["rmi", &name]).ok();
    assert!(engine.coracle(&["pull", &name]).ok().contains("Status: Downloaded newer image"));
    engine.docker(&["pull", &name]).ok();
    engine.coracle(&["rmi", &name]).ok();
    engine.coracle(&["logout", registry.host()]).ok();
    assert_ne!(engine.docker(&["pull", &name]).code, 0);
    // A helper that the file names is asked instead.
    let config = engine.directory().join("docker-config");
    let helper = engine.directory().join("docker-credential-tests");
    std::fs::write(
        &helper,
        format!("#!/bin/sh\nread host\necho \"$1 $host\" >> {0}.log\necho '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n", helper.display()),
    )
    .unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(config.join("config.json"), r#"{"credsStore":"tests"}"#).unwrap();
    let path = format!("{}:{}", engine.directory().display(), std::env::var("PATH").unwrap());
    let program = coracle_tests::engine::programs().join("coracle");
    let output =
        engine.command(&program.display().to_string()).env("PATH", path).args(["pull", &name]).output();
    Output::new("coracle pull".to_owned(), &output.unwrap()).ok();
    let log = std::fs::read_to_string(format!("{}.log", helper.display())).unwrap();
    assert_eq!(log, format!("get {}\n", registry.host()));
    engine.coracle(&["rmi", &name]).ok();
}

#[test]
fn what_no_registry_has_is_said_and_leaves_nothing() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let name = registry.name("nobody/knows:this");
    engine.docker(&["pull", &name]).refused(1, "not found");
    let pull = format!("/v1.44/images/create?fromImage={}&tag=this", registry.name("nobody/knows"));
    assert_eq!(engine.request("POST", &pull, None).0, 404);
    engine.docker(&["push", &name]).refused(1, "does not exist");
    engine.docker(&["run", "--rm", &name]).refused(125, "not found");
    engine.docker(&["pull", "Not/A:Name"]).refused(1, "invalid reference format");
    // Nobody listens there.
    engine.docker(&["pull", "127.0.0.1:1/x"]).refused(1, "connection refused");
}

#[test]
fn all_tags_go_and_come_at_once() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let name = registry.name("tagged");
    for tag in ["a", "b"] {
        engine.docker(&["tag", SMALL, &format!("{name}:{tag}")]).ok();
    }
    let pushed = engine.docker(&["push", "-a", &name]).ok();
    assert!(pushed.contains("a: digest:") && pushed.contains("b: digest:"), "{pushed}");
    engine.docker(&["rmi", &format!("{name}:a"), &format!("{name}:b")]).ok();
    engine.docker(&["pull", "-a", &name]).ok();
    engine.docker(&["rmi", &format!("{name}:a"), &format!("{name}:b")]).ok();
}

#[test]
fn a_pull_that_broke_goes_on_where_it_was_even_after_the_engine_was_killed() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    const SIZE: usize = 20 << 20;
    let (mut engine, registry) = (Engine::start(), Registry::start());
    let archive = engine.directory().join("large.tar");
    random_archive(&archive, SIZE);
    let name = registry.name("large");
    engine.docker(&["import", &archive.display().to_string(), &name]).ok();
    engine.docker(&["push", &name]).ok();
    engine.docker(&["rmi", &name]).ok();

    let wire = Wire::new(&registry, SIZE as u64 * 99 / 100);
    let pull = format!("/v1.44/images/create?fromImage={}&tag=latest", wire.name("large"));
    std::thread::scope(|scope| {
        let pulling = scope.spawn(|| engine.request("POST", &pull, None));
        coracle_tests::engine::wait_until("the wire is broken", || wire.is_broken());
        // What the engine had not read yet is lost with it.
        let blobs = engine.directory().join("data/tmp");
        let written = || {
            let files = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
            files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).max().unwrap_or(0)
        };
        coracle_tests::engine::wait_until("the engine has what came", || written() > SIZE as u64 * 98 / 100);
        let pid = rustix::process::Pid::from_raw(i32::try_from(engine.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // It broke off, whatever it has heard.
        let _ = pulling.join();
    });
    engine.kill();
    engine.start_again();
    wire.mend(u64::MAX);
    wire.take_passed();
    engine.docker(&["pull", "-q", &wire.name("large")]).ok();
    let again = wire.take_passed();
    assert!(again < SIZE as u64 / 20, "{again} of {SIZE} bytes came twice");
    engine.docker(&["rmi", &wire.name("large")]).ok();
}

#[test]
fn layers_of_a_pull_that_failed_are_not_fetched_again() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    // One after the other, the lowest first.
    let (mut engine, registry) =
        (Engine::start_with(&["--max-concurrent-downloads", "1"]), Registry::start());
    let (name, other) = (registry.name("halved:v1"), registry.name("base:v1"));
    image(&engine, &name);
    engine.docker(&["push", &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    // Nothing of the image is here any more.
    engine.docker(&["tag", SMALL, &other]).ok();
    engine.docker(&["rmi", SMALL, &other]).ok();

    let (_, answer) = registry.request("GET", "/v2/halved/manifests/v1", "", &[]);
    let manifest: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let hex = |layer: usize| manifest["layers"][layer]["digest"].as_str().unwrap()[7..].to_owned();
    let (first, second) = (hex(0), hex(1));
    let file =
        registry.data().join(format!("docker/registry/v2/blobs/sha256/{}/{second}/data", &second[..2]));
    let away = engine.directory().join("away");
    std::fs::rename(&file, &away).unwrap();
    assert_ne!(engine.docker(&["pull", &name]).code, 0);
    engine.docker(&["inspect", &name]).refused(1, "no such object");
    engine.kill();
    engine.start_again();
    // What collects garbage after a removal leaves it alone.
    let archive = engine.directory().join("other.tar");
    random_archive(&archive, 1000);
    engine.docker(&["import", &archive.display().to_string(), &other]).ok();
    engine.docker(&["rmi", &other]).ok();
    std::fs::copy(&away, &file).unwrap();
    let again = engine.docker(&["pull", &name]).ok();
    assert!(again.contains("Already exists"), "{again}");
    let wanted = format!("GET /v2/halved/blobs/sha256:{first} ");
    assert_eq!(registry.requests().iter().filter(|request| request.starts_with(&wanted)).count(), 1);
    engine.docker(&["rmi", &name]).ok();
    let layers = engine.directory().join("data/layers/sha256");
    coracle_tests::engine::wait_until("nothing is kept for good", || {
        std::fs::read_dir(&layers).unwrap().next().is_none()
    });
}

/// An archive of one file that no compression makes smaller.
fn random_archive(path: &Path, size: usize) {
    let mut content = vec![0; size];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size as u64);
    builder.append_data(&mut header, "file", content.as_slice()).unwrap();
    builder.finish().unwrap();
}
