//! Builds side by side: nothing to do, ten commands, one file of many that changed, stages that need not wait.
//!
//! ```text
//! cargo build --release && cargo run --release -p bench --bin builds [-- COUNT]
//! PEER_DOCKER=unix:///path/docker.sock   a running dockerd to compare with, by `docker buildx build`
//! PEER_PODMAN="podman"                   a command that runs podman, whose `build` is buildah
//! PEER_PODMAN_BUILD="--ulimit nofile=1024:4096 --ulimit nproc=4096:4096"   options of its build, where it may not raise limits
//! PEER_ROOT=/srv/peers                   what podman takes for the root, if it is another one
//! PEER_SHARED=/srv/peers/srv/bench       a directory that podman sees, for contexts
//! ```
//!
//! Every round runs each contestant once, in turn.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command for people")]

mod contestants;

use contestants::Contestant;
use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Rounds unless the command line says otherwise.
const ROUNDS: usize = 5;
/// Files of the large context.
const FILES: usize = 2000;
/// Bytes of each.
const SIZE: usize = 4096;

/// A title, what makes the context, and what changes it before each build.
type Case = (&'static str, fn(&Path), fn(&Path, u128));

fn main() {
    let rounds = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(ROUNDS);
    let engine = Engine::start();
    let contestants = contestants::all(&engine);
    let place = match std::env::var_os("PEER_SHARED") {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    };
    let place = place.expect("a directory for contexts");
    // What an earlier run has built, a contestant may still have.
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    println!("{rounds} rounds, medians in milliseconds, ratios to our own command\n");
    let cases: [Case; 4] = [
        ("nothing to do: 51 steps, found", make_fifty, |_, _| {}),
        ("ten RUN steps", |_| {}, make_ten),
        ("one file of 2,000 changed in a COPY", make_files, change_file),
        ("four stages of half a second, needed by a fifth", |_| {}, make_stages),
    ];
    for (title, prepare, change) in cases {
        let context = tempfile::tempdir_in(place.path()).expect("a directory for a context");
        prepare(context.path());
        println!("{title}");
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contestants.len()];
        // The first round is not counted: it fills the caches.
        for round in 0..=rounds {
            for (at, contestant) in contestants.iter().enumerate() {
                change(context.path(), run + (round * contestants.len() + at) as u128);
                let time = contestant.build(context.path());
                if round > 0 {
                    times[at].push(time);
                }
            }
        }
        let medians: Vec<Duration> = times.into_iter().map(median).collect();
        for (contestant, median) in contestants.iter().zip(&medians) {
            print(contestant, *median, medians[0]);
        }
        println!();
    }
}

fn make_fifty(context: &Path) {
    let mut text = format!("FROM {SMALL}\n");
    for step in 0..50 {
        let _ = writeln!(text, "RUN echo {step} >/f{step}");
    }
    write(context, "Dockerfile", &text);
}

fn make_ten(context: &Path, number: u128) {
    let mut text = format!("FROM {SMALL}\n");
    for step in 0..10 {
        let _ = writeln!(text, "RUN echo {number} {step} >/f{step}");
    }
    write(context, "Dockerfile", &text);
}

fn make_files(context: &Path) {
    write(context, "Dockerfile", &format!("FROM {SMALL}\nCOPY src /src\n"));
    fs::create_dir(context.join("src")).expect("a directory of the context");
    for file in 0..FILES {
        write(&context.join("src"), &file.to_string(), &format!("{file:>SIZE$}"));
    }
}

fn change_file(context: &Path, number: u128) {
    write(&context.join("src"), "1000", &format!("{number:<SIZE$}"));
}

fn make_stages(context: &Path, number: u128) {
    let mut text = String::new();
    for stage in 0..4 {
        let _ = writeln!(text, "FROM {SMALL} AS s{stage}\nRUN echo {number} >/f; sleep 0.5");
    }
    let _ = writeln!(text, "FROM {SMALL}");
    for stage in 0..4 {
        let _ = writeln!(text, "COPY --from=s{stage} /f /f{stage}");
    }
    write(context, "Dockerfile", &text);
}

fn write(directory: &Path, name: &str, content: &str) {
    fs::write(directory.join(name), content).expect("a file of the context");
}

/// One line of a table: who, how long, and how many times longer than ours.
fn print(contestant: &Contestant, time: Duration, ours: Duration) {
    let ratio = time.as_secs_f64() / ours.as_secs_f64();
    println!("  {:<44} {:>9.1}   {ratio:.2} ×", contestant.name(), time.as_secs_f64() * 1000.0);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
