//! What a start costs, in counts, which do not depend on the machine's load: system calls, programs executed, fsyncs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

/// What the container runs.
const PROGRAM: &str = "sleep";

/// Most system calls between the request to start and its answer, in all processes together, without a network. The
/// target is 200; this is what is true today, with some room for how threads happen to wake each other.
const CALLS_WITHOUT_NETWORK: usize = 520;
/// The same on the default bridge, whose target is 200 as well.
const CALLS_ON_A_BRIDGE: usize = 560;

/// System calls by name, of the engine, the shim and the child, for one start with `network`.
fn trace(engine: &Engine, network: &str) -> BTreeMap<String, usize> {
    // It does not end meanwhile, or what its end costs would be counted as well, now more of it and now less.
    let created = engine.docker(&["create", "--network", network, SMALL, PROGRAM, "1000"]).ok();
    let file = engine.directory().join(format!("trace-{network}"));
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-s", "200", "-o"])
        .arg(&file)
        .args(["-p", &engine.pid().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the package strace is installed");
    coracle_tests::engine::wait_until("strace is attached", || {
        std::fs::read_to_string(format!("/proc/{}/status", engine.pid()))
            .unwrap_or_default()
            .lines()
            .any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    });
    let (status, body) = engine.request("POST", &format!("/v1.44/containers/{created}/start"), None);
    assert_eq!(status, 204, "{body}");
    let pid = rustix::process::Pid::from_child(&strace);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    strace.wait().unwrap();
    engine.docker(&["rm", "-f", &created]).ok();
    let mut counts = BTreeMap::new();
    // Rust's debug builds ask whether a descriptor is open before they close it.
    let of_debug_builds = |line: &&str| line.contains("F_GETFD");
    let text = std::fs::read_to_string(&file).unwrap();
    if let Some(directory) = std::env::var_os("TRACES") {
        // To see who makes them.
        std::fs::copy(&file, std::path::Path::new(&directory).join(network)).unwrap();
    }
    let lines = without_idle(without_program(&reply_path(&text)));
    for line in lines.into_iter().filter(|line| !of_debug_builds(line)) {
        let call = line.split_once(' ').map(|(_, rest)| rest.trim_start()).unwrap_or_default();
        if let Some((name, _)) = call
            .split_once('(')
            .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

/// The lines from the request to the answer, `204 No Content`.
fn reply_path(trace: &str) -> Vec<&str> {
    let lines: Vec<&str> = trace.lines().collect();
    let begin =
        lines.iter().position(|line| line.contains("/start HTTP/1.1")).expect("the request is in the trace");
    let end =
        lines.iter().position(|line| line.contains("HTTP/1.1 204")).expect("the answer is in the trace");
    lines[begin..=end].to_vec()
}

/// The lines without those that the container's own program makes once it runs.
fn without_program<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let execution = format!("/{PROGRAM}\"");
    let begin = lines
        .iter()
        .position(|line| line.contains("execve(") && line.contains(&execution))
        .expect("the program is executed before the answer");
    let process = lines[begin].split(' ').next().unwrap_or_default();
    let is_programs = |line: &str| line.split(' ').next() == Some(process);
    let after = lines[begin + 1..].iter().filter(|line| !is_programs(line));
    lines[..=begin].iter().chain(after).copied().collect()
}

/// The lines without those of a thread between a wait that nobody ended in time and its next one: on a busy machine the
/// index finds time during the start to bring to the disk what an earlier request has left, and nobody waits for it.
fn without_idle(lines: Vec<&str>) -> Vec<&str> {
    let mut idle = BTreeSet::new();
    let is_asked_for = |line: &&str| {
        let thread = line.split(' ').next().unwrap_or_default().to_owned();
        if line.contains("ETIMEDOUT") {
            idle.insert(thread.clone());
        } else if line.contains("futex(") {
            idle.remove(&thread);
        }
        !idle.contains(&thread)
    };
    lines.into_iter().filter(is_asked_for).collect()
}

#[test]
fn a_start_executes_one_program_of_ours_waits_for_no_disk_and_asks_little_of_the_kernel() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    for (network, most) in [("none", CALLS_WITHOUT_NETWORK), ("bridge", CALLS_ON_A_BRIDGE)] {
        // The first start of an engine reads what later ones have in memory.
        engine.docker(&["run", "--rm", "--network", network, SMALL, "true"]).ok();
        let counts = trace(&engine, network);
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        assert!(count("execve") <= 2, "{network}: the shim and the container's own program: {counts:?}");
        for wait in ["fsync", "fdatasync", "syncfs", "sync"] {
            assert_eq!(count(wait), 0, "{network}: {wait}: {counts:?}");
        }
        let total: usize = counts.values().sum();
        assert!(total <= most, "{network}: {total} system calls: {counts:?}");
    }
}
