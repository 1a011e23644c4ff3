//! Side-by-side measurements: one command prints medians and ratios, the peers interleaved.
//!
//! ```text
//! cargo build --release && cargo run --release -p bench [-- COUNT]
//! PEER_DOCKER=unix:///path/docker.sock   a running dockerd to compare with
//! PEER_PODMAN="podman; podman --runtime runc"   commands that run podman
//! ```
//!
//! Every round runs each contestant once, so that a busy machine is busy for all. Before and after, the floor is
//! measured: what the kernel itself asks for one container.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command for people")]

mod contestants;
mod floor;
mod memory;

use contestants::Contestant;
use coracle_tests::Engine;
use std::time::{Duration, Instant};

/// Rounds unless the command line says otherwise.
const ROUNDS: usize = 30;
/// Between two runs, so that what the kernel puts off is not paid by the next.
const GAP: Duration = Duration::from_millis(50);

fn main() {
    let rounds = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(ROUNDS);
    let engine = Engine::start();
    println!("idle engine: {:.1} MB PSS", memory::megabytes(engine.pid()));
    let floor = floor::measure(rounds);
    println!("floor (clone3 with all namespaces, overlay, exec, wait): {:.2} ms", milliseconds(floor));
    println!("{rounds} rounds, medians in milliseconds, ratios to ours\n");
    for network in ["none", "bridge"] {
        measure(&engine, network, rounds);
    }
    memory::shims(&engine);
}

fn measure(engine: &Engine, network: &str, rounds: usize) {
    let contestants = contestants::all(engine, network);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contestants.len()];
    for contestant in &contestants {
        // Whatever is cached is cached for all.
        contestant.run();
    }
    for _ in 0..rounds {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            std::thread::sleep(GAP);
            let begin = Instant::now();
            contestant.run();
            times.push(begin.elapsed());
        }
    }
    println!("--network {network}");
    let medians: Vec<Duration> = times.iter_mut().map(|times| median(times)).collect();
    for (contestant, median) in contestants.iter().zip(&medians) {
        println!(
            "  {:<34} {:>8.2}   {}",
            contestant.name(),
            milliseconds(*median),
            ratios(contestant, *median, &contestants, &medians)
        );
    }
    println!();
}

/// How many times longer a peer takes than each of our ways that does the same.
fn ratios(contestant: &Contestant, median: Duration, all: &[Contestant], medians: &[Duration]) -> String {
    if contestant.is_ours() {
        return String::new();
    }
    let ours =
        all.iter().zip(medians).filter(|(other, _)| other.is_ours() && contestant.compares_with(other));
    ours.map(|(other, theirs)| {
        format!("{:.1} × {}", median.as_secs_f64() / theirs.as_secs_f64(), other.name())
    })
    .collect::<Vec<_>>()
    .join(", ")
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
