//! Pulls: each contestant brings the image to a place that has nothing of it.

use crate::{median, print};
use coracle_tests::Engine;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Contestant {
    name: String,
    pull: Vec<String>,
    remove: Vec<String>,
    host: Option<String>,
}

pub(crate) fn measure(engine: &Engine, image: &str, title: &str, rounds: usize) {
    let contestants = all(engine, image);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contestants.len()];
    let mut again: Vec<Vec<Duration>> = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for (number, contestant) in contestants.iter().enumerate() {
            times[number].push(contestant.time(&contestant.pull));
            again[number].push(contestant.time(&contestant.pull));
            contestant.time(&contestant.remove);
            settle(engine);
        }
    }
    for (title, times) in [(format!("pull: {title}"), times), ("pull of what is there".to_owned(), again)] {
        println!("{title}");
        let medians: Vec<Duration> = times.into_iter().map(median).collect();
        for (contestant, time) in contestants.iter().zip(&medians) {
            print(&contestant.name, *time, medians[0]);
        }
        println!();
    }
}

/// What was removed is deleted, and what was written is on the disk, before the next one is measured.
fn settle(engine: &Engine) {
    let trash = engine.directory().join("data/trash");
    while std::fs::read_dir(&trash).is_ok_and(|mut entries| entries.next().is_some()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    rustix::fs::sync();
}

fn all(engine: &Engine, image: &str) -> Vec<Contestant> {
    let own = coracle_tests::engine::programs().join("coracle").display().to_string();
    let words = |prefix: &str, rest: &[&str]| {
        prefix.split_whitespace().chain(rest.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
    };
    let contestant =
        |name: &str, prefix: &str, pull: &[&str], remove: &[&str], host: Option<&str>| Contestant {
            name: name.to_owned(),
            pull: words(prefix, pull),
            remove: words(prefix, remove),
            host: host.map(str::to_owned),
        };
    let (pull, remove) = (["pull", "-q", image], ["rmi", image]);
    let mut all = vec![
        contestant("coracle (docker command)", "docker", &pull, &remove, Some(engine.host())),
        contestant("coracle (own command)", &own, &pull, &remove, Some(engine.host())),
    ];
    if let Ok(docker) = std::env::var("PEER_DOCKER") {
        all.push(contestant("docker", "docker", &pull, &remove, Some(&docker)));
    }
    if let Ok(podman) = std::env::var("PEER_PODMAN") {
        let pull = ["pull", "-q", "--tls-verify=false", image];
        all.push(contestant("podman", &podman, &pull, &remove, None));
    }
    if let Ok(ctr) = std::env::var("PEER_CTR") {
        let (pull, remove) = (["images", "pull", "--plain-http", image], ["images", "rm", "--sync", image]);
        all.push(contestant("containerd", &ctr, &pull, &remove, None));
    }
    all
}

impl Contestant {
    fn time(&self, words: &[String]) -> Duration {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        let begin = Instant::now();
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let time = begin.elapsed();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} ended with {}: {complaint}", self.name, output.status);
        time
    }
}
