//! Clients of other people, unmodified, each in a program of real use that says itself what it expects: `tests/clients`.
//!
//! What Debian has runs always. What a package registry gives is ignored, since a registry may be out of reach:
//! `cargo test -p coracle-tests --test clients -- --ignored` installs it once, at the versions of its lock file, below the target
//! directory, from the registries that npm, pip and cargo are configured for.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::registry::Registry;
use coracle_tests::{Engine, Output};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a file of tests; a stream that a failed one left open does not hold it up.
const NODE_TESTS: [&str; 2] = ["--test", "--test-force-exit"];

/// Where a client's programs and its lock file are.
fn sources(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(client)
}

/// Where a client is installed, which happens once for each content of its lock file: by commands that run in a directory with
/// the file in it.
fn installed(client: &str, locks: &[&str], commands: &[&[&str]]) -> PathBuf {
    let place = coracle_tests::engine::programs().join("test-clients").join(client);
    fs::create_dir_all(&place).unwrap();
    let lock = File::create(place.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let wanted: Vec<String> =
        locks.iter().map(|name| fs::read_to_string(sources(client).join(name)).unwrap()).collect();
    let done = place.join("installed");
    if fs::read_to_string(&done).is_ok_and(|found| found == wanted.concat()) {
        return place;
    }
    for (name, content) in locks.iter().zip(&wanted) {
        fs::write(place.join(name), content).unwrap();
    }
    for command in commands {
        let output = Command::new(command[0]).args(&command[1..]).current_dir(&place).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", command[0]));
        Output::new(command.join(" "), &output).ok();
    }
    fs::write(done, wanted.concat()).unwrap();
    place
}

/// The clients that npm installs.
fn node() -> PathBuf {
    let install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    installed("node", &["package.json", "package-lock.json"], &[&install])
}

/// What pip installs of a client: the directory of its programs.
fn python(client: &str) -> PathBuf {
    let install = [
        "venv/bin/pip",
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "-r",
        "requirements.txt",
    ];
    let place =
        installed(client, &["requirements.txt"], &[&["python3", "-m", "venv", "--clear", "venv"], &install]);
    place.join("venv/bin")
}

/// A command whose environment says what a client's program needs to know.
fn client(engine: &Engine, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // Where plugins are found.
    command.envs(engine.plugin_command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("IMAGE", SMALL).env("PREFIX", engine.name("client")).stdin(Stdio::null());
    command
}

/// Runs a program of a client, which ends with success if everything was as it should be.
#[track_caller]
fn passes(mut command: Command) {
    let told = format!("{:?}", command.get_args().collect::<Vec<_>>());
    Output::new(told, &command.output().unwrap()).ok();
}

/// What clients of testcontainers need besides: an image that reaps what they leave. The one they would pull is not everywhere
/// to be had.
fn with_reaper(engine: &Engine, command: &mut Command) -> String {
    let (image, context) = (engine.name("reaper"), engine.directory().join("reaper"));
    fs::create_dir(&context).unwrap();
    for name in ["Dockerfile", "reap", "serve"] {
        fs::copy(sources("reaper").join(name), context.join(name)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap();
    let mut docker = std::env::split_paths(&path).map(|place| place.join("docker"));
    fs::copy(docker.find(|path| path.is_file()).unwrap(), context.join("docker")).unwrap();
    engine.buildx(&context, &["-t", &image, "--build-arg", &format!("BASE={SMALL}")]).ok();
    command.env("RYUK_CONTAINER_IMAGE", &image);
    if engine.is_original() {
        // Where the original sees its own socket, which may be in a root of its own.
        command.env("TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE", "/run/docker.sock");
    }
    image
}

/// The reaper ends by itself when the last program that knew it is gone, and all that they made is gone with it.
fn remove_reaper(engine: &Engine, image: &str) {
    let left = "label=org.testcontainers=true";
    wait_until("nothing is left", || engine.docker(&["ps", "-aq", "--filter", left]).ok().is_empty());
    engine.docker(&["rmi", image]).ok();
}

#[test]
#[ignore = "npm installs it from its registry"]
fn dockerode() {
    let (place, engine, registry) = (node(), Engine::start(), Registry::start());
    let mut command = client(&engine, "node");
    command.args(NODE_TESTS).arg(sources("node").join("dockerode.js"));
    command.env("NODE_PATH", place.join("node_modules")).env("REGISTRY", registry.host());
    passes(command);
}

#[test]
#[ignore = "npm installs it from its registry"]
fn testcontainers_for_node() {
    let (place, engine) = (node(), Engine::start());
    let mut command = client(&engine, "node");
    let reaper = with_reaper(&engine, &mut command);
    command.args(NODE_TESTS).arg(sources("node").join("testcontainers.js"));
    command.env("NODE_PATH", place.join("node_modules"));
    passes(command);
    remove_reaper(&engine, &reaper);
}

#[test]
#[ignore = "pip installs it from its registry"]
fn testcontainers_for_python() {
    let (place, engine) = (python("python"), Engine::start());
    let mut command = client(&engine, place.join("python"));
    let reaper = with_reaper(&engine, &mut command);
    let (here, seen) = engine.shared_directory();
    command.arg(sources("python").join("testcontainers_program.py"));
    command.env("SHARED", here).env("SHARED_SEEN", seen);
    passes(command);
    remove_reaper(&engine, &reaper);
}

/// A crate of its own, since what it depends on is nothing that the engine is made of.
#[test]
#[ignore = "cargo fetches it from its registry"]
fn bollard() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let mut command = client(&engine, "cargo");
    command
        .args(["test", "--quiet", "--locked", "--manifest-path"])
        .arg(sources("bollard").join("Cargo.toml"));
    command.arg("--target-dir").arg(coracle_tests::engine::programs().join("test-clients/bollard"));
    command.env("REGISTRY", registry.host());
    passes(command);
}

#[test]
#[ignore = "pip installs it from its registry"]
fn ansible() {
    let (place, engine, registry) = (python("ansible"), Engine::start(), Registry::start());
    let context = engine.directory().join("context");
    fs::create_dir(&context).unwrap();
    let dockerfile = format!("FROM {SMALL}\nARG WHO\nRUN echo \"for $WHO\" >/said\n");
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let mut command = client(&engine, place.join("ansible-playbook"));
    command.args([
        "--diff",
        "-vv",
        "-i",
        "localhost,",
        "-e",
        "ansible_python_interpreter={{ansible_playbook_python}}",
    ]);
    command.arg(sources("ansible").join("play.yml"));
    command.env("REGISTRY", registry.host()).env("PLACE", engine.directory());
    for place in ["ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"] {
        command.env(place, engine.directory().join("ansible"));
    }
    // An alias that is extended overrides what it has.
    command.env("ANSIBLE_DUPLICATE_YAML_DICT_KEY", "ignore");
    command.env("SHARED_SEEN", engine.shared_directory().1);
    passes(command);
}

/// The dev container command, for one of the workspaces in `tests/clients/devcontainer`.
struct Workspaces<'a> {
    engine: &'a Engine,
    program: PathBuf,
    /// Where they are, and where the engine sees them.
    place: (PathBuf, PathBuf),
}

impl<'a> Workspaces<'a> {
    fn new(engine: &'a Engine) -> Self {
        let place = engine.shared_directory();
        let from = sources("devcontainer").join(".");
        Output::new("cp".to_owned(), &Command::new("cp").arg("-r").arg(from).arg(&place.0).output().unwrap())
            .ok();
        Self { engine, program: node().join("node_modules/.bin/devcontainer"), place }
    }

    fn run(&self, verb: &str, workspace: &str, arguments: &[&str]) -> Output {
        let mut command = client(self.engine, &self.program);
        command.args([verb, "--workspace-folder"]).arg(self.place.0.join(workspace)).args(arguments);
        command.env("SHARED_SEEN", &self.place.1).env("HOME", self.engine.directory());
        Output::new(
            format!("devcontainer {verb} {workspace} {}", arguments.join(" ")),
            &command.output().unwrap(),
        )
    }

    /// Has one up, and returns its container.
    fn up(&self, workspace: &str) -> String {
        let told = self.run("up", workspace, &[]).json();
        assert_eq!(told["outcome"], "success", "{told}");
        told["containerId"].as_str().unwrap().to_owned()
    }
}

#[test]
#[ignore = "npm installs it from its registry"]
fn devcontainer_of_an_image() {
    let engine = Engine::start();
    let workspaces = Workspaces::new(&engine);
    let container = workspaces.up("image");
    let script = "echo $A, $B; pwd; cat /after /life; ls /hold .devcontainer.json";
    let said = workspaces.run("exec", "image", &["sh", "-c", script]).ok();
    let life = "created\nstarted\nboat";
    assert_eq!(
        said,
        format!(
            "of the container, of of the container\n/work\nafter\n{life}\n.devcontainer.json\n\n/hold:\nkept"
        )
    );
    assert_eq!(workspaces.run("exec", "image", &["sh", "-c", "exit 7"]).code, 7);
    engine.docker(&["stop", "-t", "0", &container]).ok();
    assert_eq!(workspaces.up("image"), container);
    assert_eq!(
        workspaces.run("exec", "image", &["cat", "/life"]).ok(),
        format!("{life}\nstarted\nboat"),
        "it was created once"
    );
    engine.docker(&["rm", "-f", &container]).ok();
    engine.docker(&["volume", "rm", &engine.name("client-hold")]).ok();
}

#[test]
#[ignore = "npm installs it from its registry"]
fn devcontainer_of_a_dockerfile_with_a_feature() {
    let engine = Engine::start();
    let workspaces = Workspaces::new(&engine);
    let image = engine.name("dev");
    let told = workspaces.run("build", "dockerfile", &["--image-name", &image]).json();
    assert_eq!(told["outcome"], "success", "{told}");
    assert_eq!(
        engine.docker(&["run", "--rm", &image, "sh", "-c", "tool; greet"]).ok(),
        "a tool\nhello boats"
    );
    let label =
        engine.docker(&["inspect", "-f", "{{index .Config.Labels \"devcontainer.metadata\"}}", &image]).ok();
    assert!(label.contains("SYS_PTRACE") && label.contains("./greeter"), "{label}");
    let container = workspaces.up("dockerfile");
    let said =
        workspaces.run("exec", "dockerfile", &["sh", "-c", "greet; echo $GREETS; cat tool | head -n 1"]).ok();
    assert_eq!(said, "hello boats\nyes\n#!/bin/sh");
    let settings =
        "{{.HostConfig.Init}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}} {{.Config.Image}}";
    let settings = engine.docker(&["inspect", "-f", settings, &container]).ok();
    let (settings, used) = settings.rsplit_once(' ').unwrap();
    assert!(
        settings.starts_with("true [") && settings.ends_with("SYS_PTRACE] [seccomp=unconfined]"),
        "{settings}"
    );
    engine.docker(&["rm", "-f", &container]).ok();
    engine.docker(&["rmi", used, &image]).ok();
}
