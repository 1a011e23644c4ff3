//! Images side by side: pulls from one registry on this machine, and import, load, save and commit.
//!
//! ```text
//! cargo build --release && cargo run --release -p bench --bin images [-- COUNT]
//! cargo build --release && cargo run --release -p bench --bin images -- local [COUNT]
//! cargo build --release && cargo run --release -p bench --bin images -- memory
//! PEER_DOCKER=unix:///path/docker.sock   a running dockerd to compare with
//! PEER_PODMAN="podman"                   a command that runs podman
//! PEER_CTR="ctr -n bench"                a command that runs containerd's client
//! ```
//!
//! Every round runs each contestant once. What was brought is removed again between two runs, which is not counted. The second
//! form leaves out the pulls; the third measures the memory of the engine while it pulls two gigabytes.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command for people")]

mod content;
mod local;
mod memory;
mod pulls;

use coracle_tests::Engine;
use coracle_tests::registry::Registry;
use std::time::Duration;

/// Rounds unless the command line says otherwise.
const ROUNDS: usize = 5;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "memory").is_some() {
        return memory::measure();
    }
    let only_local = arguments.next_if(|argument| argument == "local").is_some();
    let rounds = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(ROUNDS);
    let engine = Engine::start();
    println!("{rounds} rounds, medians in milliseconds, ratios to ours\n");
    if !only_local {
        measure_pulls(&engine, rounds);
    }
    local::measure(&engine, rounds);
}

fn measure_pulls(engine: &Engine, rounds: usize) {
    let registry = Registry::start();
    for content in content::all() {
        let image = registry.name(&format!("{}:v1", content.name()));
        content.push(engine, &image);
        pulls::measure(engine, &image, content.title(), rounds);
    }
}

/// One line of a table: who, how long, and how many times longer than ours.
fn print(name: &str, time: Duration, ours: Duration) {
    let ratio = time.as_secs_f64() / ours.as_secs_f64();
    println!("  {name:<34} {:>9.1}   {ratio:.2} ×", time.as_secs_f64() * 1000.0);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
