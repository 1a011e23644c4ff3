//! Images without a registry: import, save, load and commit of a Debian, by the same command against both engines.

use crate::{median, print};
use coracle_tests::Engine;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const IMAGE: &str = "coracle-bench-debian";
const CONTAINER: &str = "coracle-bench-container";
const COMMITTED: &str = "coracle-bench-committed";
/// What a container writes before it is committed.
const WORK: &str = "cp -a /usr/share /copied && rm -r /usr/share/doc";

/// The four operations, in the order of the table.
const TITLES: [&str; 4] = ["import", "save", "load", "commit"];

pub(crate) fn measure(engine: &Engine, rounds: usize) {
    let mut hosts = vec![("coracle", engine.host().to_owned())];
    hosts.extend(std::env::var("PEER_DOCKER").ok().map(|host| ("docker", host)));
    let archive = coracle_tests::image::debian().display().to_string();
    let mut times = vec![vec![Vec::new(); hosts.len()]; TITLES.len()];
    for _ in 0..rounds {
        for (number, (name, host)) in hosts.iter().enumerate() {
            let saved = engine.directory().join(format!("{name}.tar")).display().to_string();
            for (operation, time) in round(host, &archive, &saved).into_iter().enumerate() {
                times[operation][number].push(time);
            }
        }
    }
    for (title, times) in TITLES.iter().zip(times) {
        println!("{title} of a Debian");
        let medians: Vec<Duration> = times.into_iter().map(median).collect();
        for ((name, _), time) in hosts.iter().zip(&medians) {
            print(name, *time, medians[0]);
        }
        println!();
    }
}

fn round(host: &str, archive: &str, saved: &str) -> [Duration; 4] {
    let docker = |arguments: &[&str]| time(host, arguments);
    let import = docker(&["import", archive, IMAGE]);
    let save = docker(&["save", "-o", saved, IMAGE]);
    docker(&["rmi", IMAGE]);
    rustix::fs::sync();
    let load = docker(&["load", "-q", "-i", saved]);
    docker(&["run", "--name", CONTAINER, "--network", "none", IMAGE, "sh", "-c", WORK]);
    let commit = docker(&["commit", CONTAINER, COMMITTED]);
    docker(&["rm", CONTAINER]);
    docker(&["rmi", COMMITTED, IMAGE]);
    rustix::fs::sync();
    [import, save, load, commit]
}

fn time(host: &str, arguments: &[&str]) -> Duration {
    let mut command = Command::new("docker");
    command.args(arguments).env("DOCKER_HOST", host).stdin(Stdio::null()).stdout(Stdio::null());
    let begin = Instant::now();
    let output = command.stderr(Stdio::piped()).output().unwrap_or_else(|error| panic!("docker: {error}"));
    let time = begin.elapsed();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "docker {} ended with {}: {complaint}",
        arguments.join(" "),
        output.status
    );
    time
}
