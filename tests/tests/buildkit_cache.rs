//! Caches of builds that travel: to registries, to directories and within images, by Docker's buildx and compose, through the
//! classic door and by our own command. What a command leaves here differs each time that it runs: whoever has the same
//! image has not run it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_corpus::digest;
use coracle_tests::context::{Context, classic_build};
use coracle_tests::engine::programs;
use coracle_tests::image::SMALL;
use coracle_tests::registry::Registry;
use coracle_tests::{Engine, Output};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A command that leaves something else each time.
const RANDOM: &str = "cat /proc/sys/kernel/random/uuid";

/// Two engines that know nothing of each other, and the registry that both have their base image from.
struct Two {
    registry: Registry,
    first: Engine,
    second: Engine,
    base: String,
}

impl Two {
    fn start() -> Self {
        let (registry, first) = (Registry::start(), Engine::start());
        let base = registry.name("base:1");
        first.docker(&["tag", SMALL, &base]).ok();
        first.docker(&["push", &base]).ok();
        Self { registry, first, second: Engine::start(), base }
    }

    /// A context whose second stage takes a file of the first.
    fn context(&self, first_stage: &str) -> Context {
        let base = &self.base;
        Context::new(
            &format!(
                "FROM {base} AS made\nRUN {first_stage} >/u\nFROM {base}\nARG V=1\nCOPY --from=made /u /c\n\
                 RUN {RANDOM} >/v && mkdir /d && echo $V >/w\nWORKDIR /d/e\nRUN true\nLABEL a=b\n"
            ),
            &[("f", "content")],
        )
    }
}

fn id(engine: &Engine, name: &str) -> String {
    engine.docker(&["image", "inspect", "-f", "{{.Id}}", name]).ok()
}

fn cached(told: &Output) -> usize {
    told.stderr.matches(" CACHED\n").count()
}

/// Whether what only this engine does is to be tested.
fn is_original() -> bool {
    std::env::var_os("TARGET").is_some()
}

fn own_build(engine: &Engine, context: &Path, arguments: &[&str]) -> Output {
    let mut command = engine.command(programs().join("coracle").to_str().unwrap());
    command.arg("build").args(arguments).arg(context).stdin(Stdio::null());
    Output::new(format!("coracle build {}", arguments.join(" ")), &command.output().unwrap())
}

#[test]
fn the_original_exports_no_cache_but_an_inline_one() {
    if !is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new("FROM BASE\n", &[]);
    let directory = context.path().join("cache");
    let export = format!("type=local,dest={}", directory.display());
    engine
        .buildx(&context.path(), &["--cache-to", &export])
        .refused(1, "Cache export is not supported for the docker driver");
    let name = engine.name("inline");
    engine.buildx(&context.path(), &["--cache-to", "type=inline", "-t", &name]).ok();
    engine.buildx(&context.path(), &["--cache-from", "type=registry,ref=127.0.0.1:1/none"]).ok();
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn a_cache_in_a_registry_saves_another_engine_the_work() {
    if is_original() {
        return;
    }
    let two = Two::start();
    let cache = two.registry.name("cache:all");
    let context = two.context(RANDOM);
    let told = two.first.buildx(
        &context.path(),
        &["-t", "built", "--cache-to", &format!("type=registry,ref={cache},mode=max")],
    );
    assert!(told.stderr.contains("exporting cache to registry"), "{}", told.stderr);
    told.ok();
    let from = format!("type=registry,ref={cache}");
    let told = two.second.buildx(&context.path(), &["-t", "built", "--cache-from", &from]);
    assert!(told.stderr.contains(&format!("importing cache manifest from {cache}")), "{}", told.stderr);
    assert_eq!(cached(&told), 5, "{}", told.stderr);
    told.ok();
    assert_eq!(id(&two.first, "built"), id(&two.second, "built"));

    // What a cache says counts for builds that name it, and for no others.
    let told = two.second.buildx(&context.path(), &["-t", "alone"]);
    assert_eq!(cached(&told), 0, "{}", told.stderr);
    told.ok();
    assert_ne!(id(&two.second, "alone"), id(&two.second, "built"));
    // What it has exported it has from there itself.
    let gone = two.registry.name("cache:again");
    let both = ["--cache-from", &from, "--cache-to", &format!("type=registry,ref={gone},mode=max")];
    let third = Engine::start();
    third.buildx(&context.path(), &both).ok();
    let fourth = Engine::start();
    let again = format!("type=registry,ref={gone}");
    fourth.buildx(&context.path(), &["-t", "built", "--cache-from", &again]).ok();
    assert_eq!(id(&two.first, "built"), id(&fourth, "built"));
    let anew = fourth.buildx(&context.path(), &["--no-cache", "--cache-from", &again]);
    assert_eq!(cached(&anew), 0, "{}", anew.stderr);
    anew.ok();
}

#[test]
fn a_cache_of_the_result_alone_has_no_other_stages() {
    if is_original() {
        return;
    }
    let two = Two::start();
    let cache = two.registry.name("cache:min");
    // The same each time: what the second stage takes is what it was.
    let context = two.context("echo same");
    two.first
        .buildx(&context.path(), &["-t", "built", "--cache-to", &format!("type=registry,ref={cache}")])
        .ok();
    let told = two.second.buildx(&context.path(), &["-t", "built", "--cache-from", &cache]);
    assert_eq!(cached(&told), 4, "{}", told.stderr);
    assert!(!told.stderr.split("[made 2/2]").nth(1).unwrap().starts_with(" CACHED"), "{}", told.stderr);
    told.ok();
    assert_eq!(id(&two.first, "built"), id(&two.second, "built"));
}

#[test]
fn only_the_layers_of_steps_that_are_found_are_fetched() {
    if is_original() {
        return;
    }
    let two = Two::start();
    let cache = two.registry.name("cache:lazy");
    let context = two.context(RANDOM);
    let to = format!("type=registry,ref={cache},mode=max");
    two.first.buildx(&context.path(), &["-o", "type=cacheonly", "--cache-to", &to]).ok();
    let before = two.registry.requests().len();
    two.second.docker(&["pull", &two.base]).ok();
    let changed = ["-o", "type=cacheonly", "--cache-from", &cache, "--build-arg", "V=2"];
    let told = two.second.buildx(&context.path(), &changed);
    assert_eq!(cached(&told), 2, "{}", told.stderr);
    told.ok();
    let requests = two.registry.requests();
    let blobs = requests[before..].iter().filter(|line| line.starts_with("GET /v2/cache/blobs/")).count();
    assert_eq!(blobs, 3, "the configuration, the layer of the first stage and its copy: {requests:?}");
}

#[test]
fn a_cache_in_a_directory_is_written_and_read_by_the_client() {
    if is_original() {
        return;
    }
    let two = Two::start();
    let context = two.context(RANDOM);
    let directory = two.first.directory().join("cache");
    let to = format!("type=local,dest={},mode=max", directory.display());
    let told = two.first.buildx(&context.path(), &["-t", "built", "--cache-to", &to]);
    assert!(told.stderr.contains("exporting cache to client directory"), "{}", told.stderr);
    told.ok();
    let from = format!("type=local,src={}", directory.display());
    let told = two.second.buildx(&context.path(), &["-t", "built", "--cache-from", &from]);
    assert_eq!(cached(&told), 5, "{}", told.stderr);
    told.ok();
    assert_eq!(id(&two.first, "built"), id(&two.second, "built"));
    // A second export into the same directory, under another tag, writes what is new alone.
    let tagged = format!("{to},tag=other");
    two.second.buildx(&context.path(), &["--cache-from", &from, "--cache-to", &tagged]).ok();
    let index: Value = serde_json::from_slice(&fs::read(directory.join("index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!((manifests.len(), &manifests[0]["digest"]), (2, &manifests[1]["digest"]), "{index}");
}

#[test]
fn an_image_is_a_cache_itself() {
    if is_original() {
        return;
    }
    let two = Two::start();
    let name = two.registry.name("app:1");
    let context = two.context("echo same");
    two.first.buildx(&context.path(), &["-t", &name, "--push", "--cache-to", "type=inline"]).ok();
    let told = two.second.buildx(&context.path(), &["-t", &name, "--cache-from", &name]);
    assert_eq!(cached(&told), 4, "{}", told.stderr);
    told.ok();
    let layers =
        |engine: &Engine| engine.docker(&["image", "inspect", "-f", "{{.RootFS.Layers}}", &name]).ok();
    assert_eq!(layers(&two.first), layers(&two.second));

    // The same through the other doors, and of an image that is here.
    let third = Engine::start();
    let told = classic_build(&third, &context.path(), &["--cache-from", &name, "-t", "classic"]);
    assert_eq!(told.stdout.matches("Using cache").count(), 4, "{}", told.stdout);
    told.ok();
    let fourth = Engine::start();
    fourth.docker(&["pull", &name]).ok();
    let before = two.registry.requests().len();
    let told =
        own_build(&fourth, &context.path(), &["--cache-from", &name, "--cache-to", "inline", "-t", "own"]);
    told.ok();
    assert_eq!(id(&fourth, "own"), id(&two.first, &name), "the same, that it is a cache included");
    let asked = two.registry.requests()[before..].iter().filter(|line| line.contains("/app/")).count();
    assert_eq!(asked, 0, "nobody was asked for what is here");
    let told = own_build(&fourth, &context.path(), &["--cache-from", "127.0.0.1:1/none"]);
    assert!(told.stderr.contains("NOTE the cache 127.0.0.1:1/none:latest is not used"), "{}", told.stderr);
    told.ok();
}

#[test]
fn compose_gives_and_takes_caches() {
    if is_original() {
        return;
    }
    let two = Two::start();
    let cache = two.registry.name("composed:c");
    let context = two.context(RANDOM);
    let file = format!(
        "services:\n  web:\n    image: built\n    build:\n      context: .\n      cache_from: [\"{cache}\"]\n      \
         cache_to: [\"type=registry,ref={cache},mode=max\"]\n"
    );
    context.put("compose.yaml", &file);
    for engine in [&two.first, &two.second] {
        engine.plugin_in(&context.path(), &["compose", "-p", "p", "build"]).ok();
    }
    assert_eq!(id(&two.first, "built"), id(&two.second, "built"));
}

/// A cache in a directory, taken apart and put together again.
struct Forged {
    directory: PathBuf,
    manifest: Value,
    config: Value,
}

impl Forged {
    fn of(directory: PathBuf) -> Self {
        let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let blob = |digest: &Value| directory.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
        let index = read(directory.join("index.json"));
        let manifest = read(blob(&index["manifests"][0]["digest"]));
        let config = read(blob(&manifest["config"]["digest"]));
        Self { directory, manifest, config }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replace(':', "/"))
    }

    fn put(&self, content: &[u8]) -> Value {
        let digest = digest(content);
        fs::write(self.blob(&digest), content).unwrap();
        json!({"digest": digest, "size": content.len()})
    }

    /// Writes it, with digests that fit.
    fn write(&mut self) {
        let config = self.put(self.config.to_string().as_bytes());
        self.manifest["config"]["digest"] = config["digest"].clone();
        self.manifest["config"]["size"] = config["size"].clone();
        let mut entry = self.put(self.manifest.to_string().as_bytes());
        entry["mediaType"] = self.manifest["mediaType"].clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.directory.join("index.json"), index.to_string()).unwrap();
    }
}

#[test]
fn a_cache_that_is_damaged_or_lies_is_refused_and_the_build_goes_on() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new(&format!("FROM BASE\nRUN {RANDOM} >/u\nRUN {RANDOM} >/v\n"), &[]);
    let directory = engine.directory().join("cache");
    let (to, from) = (
        format!("type=local,dest={}", directory.display()),
        format!("type=local,src={}", directory.display()),
    );
    engine.buildx(&context.path(), &["-t", "first", "--cache-to", &to]).ok();
    let good = Forged::of(directory.clone());
    let second_layer = good.manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
    let pristine = fs::read(good.blob(&second_layer)).unwrap();
    let build = |engine: &Engine| engine.buildx(&context.path(), &["-t", "built", "--cache-from", &from]);

    // One blob has other bytes than its digest says: the step is done, the one before it is not.
    let mut bytes = pristine.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(good.blob(&second_layer), &bytes).unwrap();
    let other = Engine::start();
    let told = build(&other);
    assert_eq!(cached(&told), 1, "{}", told.stderr);
    assert!(told.stderr.contains("is not used any more"), "{}", told.stderr);
    told.ok();
    let layers = |engine: &Engine, name: &str| -> Vec<String> {
        let text = engine.docker(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", name]).ok();
        serde_json::from_str(&text).unwrap()
    };
    let (honest, built) = (layers(&engine, "first"), layers(&other, "built"));
    assert_eq!(honest[..2], built[..2]);
    assert_ne!(honest[2], built[2]);
    other.docker(&["system", "prune", "-af"]).ok();
    fs::write(good.blob(&second_layer), &pristine).unwrap();

    // Its digest is right, and it is not the layer that the cache says it is.
    let mut lying = Forged::of(directory.clone());
    lying.manifest["layers"][1] = lying.manifest["layers"][0].clone();
    lying.write();
    let other = Engine::start();
    let told = build(&other);
    assert_eq!(cached(&told), 1, "{}", told.stderr);
    assert!(told.stderr.contains("is not used any more"), "{}", told.stderr);
    told.ok();

    // What is no cache of ours is not used, and that is said.
    for (what, field, value, words) in [
        ("of BuildKit", "config", "application/vnd.buildkit.cacheconfig.v0", "it is a cache of BuildKit"),
        ("of nobody", "config", "application/vnd.oci.empty.v1+json", "it holds no cache"),
    ] {
        let mut foreign = Forged::of(directory.clone());
        foreign.manifest[field]["mediaType"] = value.into();
        foreign.write();
        let other = Engine::start();
        let told = build(&other);
        assert!(told.stderr.contains(words), "{what}: {}", told.stderr);
        assert_eq!(cached(&told), 0, "{what}: {}", told.stderr);
        told.ok();
    }
    let mut newer = good;
    newer.config["version"] = 2.into();
    newer.write();
    let told = build(&Engine::start());
    assert!(told.stderr.contains("it has version 2"), "{}", told.stderr);
    told.ok();
}

#[test]
fn a_cache_says_nothing_of_what_steps_were_given() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new("FROM BASE\nARG TOKEN\nRUN true\nRUN echo >/f\n", &[]);
    let directory = engine.directory().join("cache");
    let to = format!("type=local,dest={}", directory.display());
    engine.buildx(&context.path(), &["--build-arg", "TOKEN=canary", "--cache-to", &to]).ok();
    let config = Forged::of(directory).config.to_string();
    assert!(!config.contains("canary") && !config.contains(&digest(b"canary")), "{config}");
    assert_eq!(config.matches("\"key\"").count(), 2, "{config}");
}

#[test]
fn what_cannot_be_written_fails_unless_that_is_no_matter() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new("FROM BASE\nRUN echo >/f\n", &[]);
    let path = context.path();
    // One that lets nobody in who says no more.
    let registry = Registry::start_with_password();
    let to = format!("type=registry,ref={}", registry.name("none"));
    engine.buildx(&path, &["--cache-to", &to]).refused(1, registry.host());
    engine.buildx(&path, &["--cache-to", &format!("{to},ignore-error=true")]).ok();
    for (arguments, words) in [
        ("type=teleport,to=there", "unknown cache exporter: \"teleport\""),
        ("type=inline,mode=max", "an inline cache has mode=min"),
        ("type=registry,ref=127.0.0.1:1/none,compression=zstd", "compression=zstd"),
    ] {
        engine.buildx(&path, &["--cache-to", arguments]).refused(1, words);
    }
    for from in ["type=teleport,to=there", &to] {
        engine.buildx(&path, &["--cache-from", from]).ok();
    }
}
