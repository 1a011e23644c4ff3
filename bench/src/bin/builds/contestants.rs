//! The ways to build that are compared.

use coracle_tests::Engine;
use coracle_tests::image::{self, SMALL};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A command that builds the directory that is its last argument.
pub(crate) struct Contestant {
    name: &'static str,
    words: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// The directory that it takes for the root.
    root: Option<String>,
}

impl Contestant {
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// How long a build of the context takes, to the end of the command.
    pub(crate) fn build(&self, context: &Path) -> Duration {
        let mut command = self.command();
        let seen = match &self.root {
            Some(root) => {
                Path::new("/").join(context.strip_prefix(root).expect("contexts are below PEER_ROOT"))
            }
            None => context.to_owned(),
        };
        let begun = Instant::now();
        let output = command.arg(seen).output().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let time = begun.elapsed();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} ended with {}: {complaint}", self.name, output.status);
        time
    }

    /// Whether it builds anything.
    fn can_build(&self) -> bool {
        let context = tempfile::tempdir().expect("a directory for a context");
        std::fs::write(context.path().join("Dockerfile"), "FROM scratch\nLABEL a=b\n").expect("a Dockerfile");
        self.command().arg(context.path()).output().is_ok_and(|output| output.status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Everything that is there to be compared on this machine, our own command first. All have the small image.
pub(crate) fn all(engine: &Engine) -> Vec<Contestant> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let own = coracle_tests::engine::programs().join("coracle").display().to_string();
    let ours = ("DOCKER_HOST", engine.host().to_owned());
    let mut all = vec![
        Contestant {
            name: "coracle build",
            words: words(&[&own, "build", "--progress", "plain", "-t", "bench"]),
            environment: vec![ours.clone()],
            root: None,
        },
        Contestant {
            name: "docker build, classic, against ours",
            words: words(&["docker", "build", "-t", "bench"]),
            environment: vec![ours.clone(), ("DOCKER_BUILDKIT", "0".to_owned())],
            root: None,
        },
    ];
    let has_buildx = Command::new("docker")
        .args(["buildx", "version"])
        .output()
        .is_ok_and(|output| output.status.success());
    let buildx = words(&["docker", "buildx", "build", "--progress", "plain", "-t", "bench"]);
    if has_buildx {
        let name = "docker buildx build, against ours";
        let contestant = Contestant { name, words: buildx.clone(), environment: vec![ours], root: None };
        if contestant.can_build() {
            all.push(contestant);
        } else {
            println!("{name}: not there yet");
        }
    }
    let place = tempfile::tempdir().expect("a directory for the small image");
    let archive = image::small(place.path());
    if let (Ok(host), true) = (std::env::var("PEER_DOCKER"), has_buildx) {
        let contestant = Contestant {
            name: "docker buildx build, against docker",
            words: buildx,
            environment: vec![("DOCKER_HOST", host.clone())],
            root: None,
        };
        let loaded =
            Command::new("docker").env("DOCKER_HOST", host).arg("import").arg(&archive).arg(SMALL).output();
        assert!(loaded.is_ok_and(|output| output.status.success()), "docker takes the small image");
        all.push(contestant);
    }
    if let Ok(podman) = std::env::var("PEER_PODMAN") {
        let mut podman: Vec<String> = podman.split_whitespace().map(str::to_owned).collect();
        let mut import = Command::new(&podman[0]);
        let file = std::fs::File::open(&archive).expect("the small image");
        let imported = import.args(&podman[1..]).args(["import", "-", SMALL]).stdin(file).output();
        assert!(imported.is_ok_and(|output| output.status.success()), "podman takes the small image");
        podman.extend(words(&["build", "--layers", "--pull=never", "-t", "bench"]));
        let more = std::env::var("PEER_PODMAN_BUILD").unwrap_or_default();
        podman.extend(more.split_whitespace().map(str::to_owned));
        all.push(Contestant {
            name: "podman build",
            words: podman,
            environment: Vec::new(),
            root: std::env::var("PEER_ROOT").ok(),
        });
    }
    all
}
