//! The doors of builds, `/grpc` and `/session`, under clients that nobody would write: real HTTP/2 to a real engine, with
//! valid messages that were changed, frames that are wrong or missing, and sessions that serve nonsense.
//!
//! ```text
//! calls.rs   one message for each call, changed     frames.rs  HTTP/2 itself, by hand     hostile.rs  a session that lies
//! ```
//!
//! `CORACLE_FUZZ_SECONDS=600 CORACLE_FUZZ_SEED=1 cargo test -p coracle-tests --test fuzz_door -- --nocapture` goes on for ten
//! minutes. Without that it is two seconds. A seed gives the same changes; when the engine comes to them differs.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod calls;
mod frames;
mod hostile;

use coracle_tests::Engine;
use coracle_tests::door::fresh;
use coracle_tests::engine::wait_until;
use coracle_tests::mutation::Random;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A place where no registry is: whatever name is made up, nobody is asked.
const NOWHERE: &str = "http://127.0.0.1:1";
/// Most that the engine may grow, in kilobytes: what builds that have ended told is kept for a while.
const GROWTH: u64 = 128 << 10;
/// Most threads and descriptors more than at the beginning.
const MORE: u64 = 24;

/// What was done.
#[derive(Debug, Default)]
struct Told {
    rounds: u64,
    calls: u64,
    /// Builds of sessions that lied, and were done all the same.
    built: usize,
}

/// What an engine has of the machine.
#[derive(Clone, Copy, Debug)]
struct Use {
    kilobytes: u64,
    threads: u64,
    descriptors: u64,
}

impl Use {
    fn of(engine: &Engine) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{}/fd", engine.pid())).unwrap().count() as u64;
        Self { kilobytes: field("VmRSS:"), threads: field("Threads:"), descriptors }
    }
}

/// What stands in the place of texts.
fn words(canary: &str) -> Vec<String> {
    let mut words: Vec<String> = [
        "",
        ".",
        "..",
        "/",
        "//",
        "\0",
        "*",
        "**/**/**",
        "-",
        "--output=x",
        "dockerfile.v0",
        "gateway.v0",
        "image",
        "local",
        "oci",
        "tar",
        "registry",
        "inline",
        "context",
        "scratch",
        "127.0.0.1:1/x",
        "input:x",
        "docker-image://127.0.0.1:1/x",
        "oci-layout://x",
        "git://127.0.0.1:1/x#:..",
        "http://127.0.0.1:1/x",
        "http://buildkit-session/../x",
        "sha256:../../x",
        "security.insecure",
        "linux/amd64,linux/arm64",
        "\u{feff}ä\r\n",
    ]
    .map(str::to_owned)
    .into();
    words.push("a".repeat(70_000));
    words.push("../".repeat(2000));
    for up in ["", "../../../../../../../../..", "/proc/self/root", "http://buildkit-session"] {
        words.push(format!("{up}{canary}"));
    }
    words
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_of_the_doors_breaks_the_engine_or_leaves_it() {
    let engine = Engine::start_with(&["--http-proxy", NOWHERE, "--https-proxy", NOWHERE]);
    if engine.is_original() {
        // It is not ours to attack.
        return;
    }
    let canary = PathBuf::from(format!("/tmp/{}", fresh("fuzz-canary")));
    let words = words(canary.to_str().unwrap());
    let mut random = Random::new(number("CORACLE_FUZZ_SEED", 1));
    let seconds = number("CORACLE_FUZZ_SECONDS", 2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut told = Told::default();
    let mut before = None;
    while Instant::now() < end || before.is_none() {
        told.calls += calls::attack(&engine, &words, &mut random).await;
        frames::attack(&engine, &mut random).await;
        told.built += hostile::attack(&engine, &words, &mut random).await;
        told.rounds += 1;
        // The first round is when everything is opened that stays open.
        before.get_or_insert_with(|| Use::of(&engine));
        let log = engine.log();
        assert!(!log.contains("panicked"), "{log}");
    }
    engine.docker(&["version"]).ok();
    let before = before.unwrap();
    let containers = || engine.docker(&["ps", "-aq"]).ok();
    wait_until("nothing of the builds is left", || containers().is_empty());
    wait_until("threads and descriptors have gone", || {
        let now = Use::of(&engine);
        now.threads <= before.threads + MORE && now.descriptors <= before.descriptors + MORE
    });
    let now = Use::of(&engine);
    report(&told, before, now);
    assert!(now.kilobytes <= before.kilobytes + GROWTH, "{before:?} became {now:?}");
    assert!(!canary.exists(), "something was written outside the engine's root");
}

#[expect(clippy::print_stderr, reason = "what somebody hears who has waited for ten minutes")]
fn report(told: &Told, before: Use, now: Use) {
    eprintln!("{told:?}: {before:?} became {now:?}");
}
