//! The ways to run a container that are compared.

use bench::raw;
use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::process::{Command, Stdio};

/// One way to run `true` in a container and have it removed.
pub(crate) enum Contestant {
    /// A command.
    Command { name: String, ours: bool, words: Vec<String>, host: Option<String> },
    /// The API, without a command between.
    Api { name: String, ours: bool, socket: String, network: String },
}

impl Contestant {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Command { name, .. } | Self::Api { name, .. } => name,
        }
    }

    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Command { ours, .. } | Self::Api { ours, .. } => *ours,
        }
    }

    /// Whether both are commands, or both the API.
    pub(crate) fn compares_with(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Command { .. }, Self::Command { .. }) | (Self::Api { .. }, Self::Api { .. })
        )
    }

    pub(crate) fn run(&self) {
        match self {
            Self::Command { words, host, name, .. } => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
                if let Some(host) = host {
                    command.env("DOCKER_HOST", host);
                }
                let status = command.status().unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(status.success(), "{name} ended with {status}");
            }
            Self::Api { socket, network, .. } => raw::run_once(socket, network),
        }
    }
}

/// Everything that is there to be compared on this machine.
pub(crate) fn all(engine: &Engine, network: &str) -> Vec<Contestant> {
    let run = ["run", "--rm", "--network", network, SMALL, "true"];
    let words = |program: &str| std::iter::once(program).chain(run).map(str::to_owned).collect::<Vec<_>>();
    let ours = engine.host().to_owned();
    let own = coracle_tests::engine::programs().join("coracle").display().to_string();
    let command = |name: &str, ours: bool, words: Vec<String>, host: Option<String>| Contestant::Command {
        name: name.to_owned(),
        ours,
        words,
        host,
    };
    let api = |name: &str, ours: bool, host: &str| Contestant::Api {
        name: name.to_owned(),
        ours,
        socket: host.trim_start_matches("unix://").to_owned(),
        network: network.to_owned(),
    };
    let mut all = vec![
        command("coracle (own command)", true, words(&own), Some(ours.clone())),
        command("coracle (docker command)", true, words("docker"), Some(ours.clone())),
        api("coracle (API)", true, &ours),
    ];
    if let Ok(docker) = std::env::var("PEER_DOCKER") {
        prepare(engine, &["docker", "-H", &docker]);
        all.push(command("docker (docker command)", false, words("docker"), Some(docker.clone())));
        all.push(api("docker (API)", false, &docker));
    }
    let podmans = std::env::var("PEER_PODMAN").unwrap_or_default();
    for podman in podmans.split(';').filter(|podman| !podman.trim().is_empty()) {
        let prefix: Vec<&str> = podman.split_whitespace().collect();
        prepare(engine, &prefix);
        let network = if network == "bridge" { "podman" } else { network };
        let run = ["run", "--rm", "--network", network, SMALL, "true"];
        let words = prefix.iter().copied().chain(run).map(str::to_owned).collect();
        // What enters another root before it is no part of it.
        let begin = prefix.iter().position(|word| word.ends_with("podman")).unwrap_or_default();
        all.push(command(&prefix[begin..].join(" "), false, words, None));
    }
    all
}

/// Imports the small image where it is not there yet.
fn prepare(engine: &Engine, prefix: &[&str]) {
    let run = |arguments: &[&str], input: Stdio| {
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).args(arguments).stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !run(&["image", "inspect", SMALL], Stdio::null()) {
        let archive = std::fs::File::open(coracle_tests::image::small(engine.directory()));
        let archive = archive.unwrap_or_else(|error| panic!("the small image: {error}"));
        assert!(run(&["import", "-", SMALL], archive.into()), "{prefix:?} imports the small image");
    }
}
