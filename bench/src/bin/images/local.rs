//! Images without a registry: import, save, load and commit of a Debian, by Docker's command against both engines and by ours.

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
    let own = coracle_tests::engine::programs().join("coracle").display().to_string();
    let docker = || "docker".to_owned();
    let ours = engine.host().to_owned();
    let mut contestants =
        vec![("coracle (docker command)", docker(), ours.clone()), ("coracle (own command)", own, ours)];
    contestants.extend(std::env::var("PEER_DOCKER").ok().map(|host| ("docker", docker(), host)));
    let archive = coracle_tests::image::debian().display().to_string();
    let mut times = vec![vec![Vec::new(); contestants.len()]; TITLES.len()];
    for turn in 0..rounds {
        // What one has just removed is in the way of the next: they take turns at being first.
        for place in 0..contestants.len() {
            let number = (turn + place) % contestants.len();
            let (_, program, host) = &contestants[number];
            let saved = engine.directory().join(format!("{number}.tar")).display().to_string();
            for (operation, time) in round(program, host, &archive, &saved).into_iter().enumerate() {
                times[operation][number].push(time);
            }
        }
    }
    for (title, times) in TITLES.iter().zip(times) {
        println!("{title} of a Debian");
        let medians: Vec<Duration> = times.into_iter().map(median).collect();
        for ((name, ..), time) in contestants.iter().zip(&medians) {
            print(name, *time, medians[0]);
        }
        println!();
    }
}

fn round(program: &str, host: &str, archive: &str, saved: &str) -> [Duration; 4] {
    let run = |arguments: &[&str]| time(program, host, arguments);
    let import = run(&["import", archive, IMAGE]);
    let save = run(&["save", "-o", saved, IMAGE]);
    run(&["rmi", IMAGE]);
    rustix::fs::sync();
    let load = run(&["load", "-q", "-i", saved]);
    run(&["run", "--name", CONTAINER, "--network", "none", IMAGE, "sh", "-c", WORK]);
    let commit = run(&["commit", CONTAINER, COMMITTED]);
    run(&["rm", CONTAINER]);
    run(&["rmi", COMMITTED, IMAGE]);
    rustix::fs::sync();
    [import, save, load, commit]
}

fn time(program: &str, host: &str, arguments: &[&str]) -> Duration {
    let mut command = Command::new(program);
    command.args(arguments).env("DOCKER_HOST", host).stdin(Stdio::null()).stdout(Stdio::null());
    let begin = Instant::now();
    let output = command.stderr(Stdio::piped()).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let time = begin.elapsed();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {} ended with {}: {complaint}",
        arguments.join(" "),
        output.status
    );
    time
}
