//! Logs side by side: how long a container takes to write lines that the engine keeps, and how long the last lines, and
//! those since a moment, of a log of a gigabyte take to come.
//!
//! ```text
//! cargo build --release && cargo run --release -p bench --bin logs [-- COUNT]
//! PEER_DOCKER=unix:///path/docker.sock   a running dockerd to compare with, with its json-file logs
//! ```
//!
//! Every round runs each contestant once, in turn. Writing is measured from the start of the container to its end, which
//! no engine reports before it has read all of the output. Docker keeps everything; so does this engine here, told by
//! `max-size=-1`, and again with its own bounds.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command for people")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// The contestant whom the others are compared with.
const DOCKER: &str = "docker";
/// Rounds unless the command line says otherwise.
const ROUNDS: usize = 5;
/// Bytes that are written, in lines of each length.
const WRITTEN: usize = 100 << 20;
/// Lengths of lines in bytes, with the newline.
const LENGTHS: [usize; 3] = [16, 100, 1000];
/// How many lines of a hundred bytes are a large log.
const LARGE: usize = 6_000_000;

/// An engine, and how its logs are bounded.
struct Contestant {
    name: &'static str,
    host: String,
    options: &'static [&'static str],
}

impl Contestant {
    fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.host]).args(arguments).output();
        let output = output.expect("the docker command");
        assert!(output.status.success(), "{}: docker {arguments:?}: {output:?}", self.name);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A container that runs the script, which has the file, when it is started.
    fn prepare(&self, file: &str, script: &str) -> String {
        let arguments = [&["create"][..], self.options, &[SMALL, "sh", "-c", script]].concat();
        let id = self.docker(&arguments);
        self.docker(&["cp", file, &format!("{id}:/lines")]);
        id
    }

    fn run(&self, id: &str) -> Duration {
        let begin = Instant::now();
        self.docker(&["start", id]);
        self.docker(&["wait", id]);
        begin.elapsed()
    }

    /// How long it takes until the last ten lines are here, asked for in a way.
    fn ask(&self, question: &[&str], id: &str) -> Duration {
        let begin = Instant::now();
        let answer = self.docker(&[&["logs"], question, &[id]].concat());
        assert_eq!(answer.lines().count(), 10, "{}: {question:?}", self.name);
        begin.elapsed()
    }
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(ROUNDS);
    let engine = Engine::start();
    let place = tempfile::tempdir().expect("a directory for lines");
    let ours = |name, options| Contestant { name, host: engine.own_host().to_owned(), options };
    let mut contestants =
        vec![ours("coracle, all kept", &["--log-opt", "max-size=-1"][..]), ours("coracle, as it comes", &[])];
    if let Ok(host) = std::env::var("PEER_DOCKER") {
        Engine::at(&host).import_small();
        contestants.push(Contestant { name: DOCKER, host, options: &["--log-driver", "json-file"] });
    }
    let file = place.path().join("lines").display().to_string();
    println!("{rounds} rounds, medians in milliseconds");
    for length in LENGTHS {
        make_lines(&file, WRITTEN / length, length);
        println!("\n{} MiB written in lines of {length} bytes", WRITTEN >> 20);
        in_turn(&contestants, rounds, |contestant| {
            let id = contestant.prepare(&file, "cat /lines");
            let time = contestant.run(&id);
            contestant.docker(&["rm", &id]);
            time
        });
    }
    for count in [LARGE / 100, LARGE] {
        make_lines(&file, count, 100);
        reading(&contestants, &file, count, rounds);
    }
}

/// The last ten lines of a log of so many, in two ways.
fn reading(contestants: &[Contestant], file: &str, count: usize, rounds: usize) {
    let mut written = BTreeMap::new();
    for contestant in contestants {
        let id = contestant.prepare(file, "cat /lines; sleep 0.1; seq 10");
        contestant.run(&id);
        let last = contestant.docker(&["logs", "--timestamps", "--tail", "10", &id]);
        let since = last.split(' ').next().unwrap_or_default().to_owned();
        written.insert(contestant.name, (id, since));
    }
    println!("\nthe last ten lines of {count} of 100 bytes, by --tail");
    in_turn(contestants, rounds, |contestant| contestant.ask(&["--tail", "10"], &written[contestant.name].0));
    println!("the same, by --since");
    in_turn(contestants, rounds, |contestant| {
        let (id, since) = &written[contestant.name];
        contestant.ask(&["--since", since], id)
    });
    for contestant in contestants {
        contestant.docker(&["rm", &written[contestant.name].0]);
    }
}

/// Runs each contestant once a round, and prints the medians with docker's ratio to each.
fn in_turn(contestants: &[Contestant], rounds: usize, run: impl Fn(&Contestant) -> Duration) {
    let mut times = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            times.push(run(contestant));
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times).as_secs_f64() * 1000.0).collect();
    let docker = contestants.iter().position(|contestant| contestant.name == DOCKER).map(|at| medians[at]);
    for (contestant, median) in contestants.iter().zip(&medians) {
        let ratio = docker.map(|docker| format!("docker is {:.1} x", docker / median)).unwrap_or_default();
        println!("  {:<24} {median:>9.1}   {ratio}", contestant.name);
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Writes a file of numbered lines of so many bytes.
fn make_lines(file: &str, count: usize, length: usize) {
    let width = length - 1;
    let mut text = String::with_capacity(count * length);
    for number in 0..count {
        let _ = writeln!(text, "{number:<width$}");
    }
    std::fs::write(file, text).expect("the file of lines");
}
