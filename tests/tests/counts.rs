//! What a start costs, in counts, which do not depend on the machine's load: system calls, programs executed, fsyncs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use coracle_tests::prepared;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

/// What the container runs.
const PROGRAM: &str = "sleep";

/// How many starts are looked at.
const TRACES: usize = 3;

/// Most system calls between the request to start and its answer, in all processes together, without a network, of a
/// container that was just made.
const CALLS_WITHOUT_NETWORK: usize = 200;
/// The same on the default bridge.
const CALLS_ON_A_BRIDGE: usize = 200;
/// The same of a container for which nothing is prepared: what is true today, with some room for how threads happen to wake
/// each other.
const CALLS_LATER_WITHOUT_NETWORK: usize = 560;
const CALLS_LATER_ON_A_BRIDGE: usize = 610;

/// How many more there may be with a user namespace: owners are shown as others, and whoever mounts the layers is one of them.
const REMAPPED: usize = 40;
/// The same where nothing is prepared: three processes more, and a network namespace that waits for its user namespace.
const REMAPPED_LATER: usize = 130;

/// When a container is started.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// Soon after it was made, as by `docker run`: it is prepared.
    Soon,
    /// Later, or again.
    Later,
}

impl When {
    /// Waits until the container that was made last is as it is then. Returns what is there of it.
    fn processes(self, engine: &Engine) -> Vec<u32> {
        match self {
            Self::Soon => prepared::wait_until_prepared(engine, 1),
            Self::Later => prepared::wait_until_prepared(engine, 0),
        }
    }
}

/// Whether every thread of a process is traced.
fn is_traced(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

/// System calls by name, of the engine, the shim and the child, for one start with `network`.
fn trace(engine: &Engine, network: &str, when: When) -> BTreeMap<String, usize> {
    // It does not end meanwhile, or what its end costs would be counted as well, now more of it and now less.
    let created = engine.docker(&["create", "--network", network, SMALL, PROGRAM, "1000"]).ok();
    let mut traced = vec![engine.pid()];
    traced.extend(when.processes(engine));
    let file = engine.directory().join(format!("trace-{network}"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "200", "-o"]).arg(&file).stdin(Stdio::null()).stderr(Stdio::piped());
    for pid in &traced {
        strace.args(["-p", &pid.to_string()]);
    }
    let mut strace = strace.spawn().expect("the package strace is installed");
    coracle_tests::engine::wait_until("strace is attached", || traced.iter().all(|pid| is_traced(*pid)));
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
        std::fs::copy(&file, std::path::Path::new(&directory).join(format!("{network}-{when:?}"))).unwrap();
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
        .unwrap_or_else(|| panic!("the program is executed before the answer: {lines:#?}"));
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
    let engine = Engine::start();
    // What another runtime does is its own matter.
    if !prepared::are_made(&engine) {
        return;
    }
    let most = [
        ("none", When::Soon, CALLS_WITHOUT_NETWORK),
        ("bridge", When::Soon, CALLS_ON_A_BRIDGE),
        ("none", When::Later, CALLS_LATER_WITHOUT_NETWORK),
        ("bridge", When::Later, CALLS_LATER_ON_A_BRIDGE),
    ];
    assert_calls(&engine, &most);
}

#[test]
fn a_user_namespace_costs_a_start_little_and_a_prepared_one_next_to_nothing() {
    if ["TARGET", "RUNTIME"].iter().any(|other| std::env::var_os(other).is_some()) {
        return;
    }
    let most = [
        ("bridge", When::Soon, CALLS_ON_A_BRIDGE + REMAPPED),
        ("bridge", When::Later, CALLS_LATER_ON_A_BRIDGE + REMAPPED_LATER),
    ];
    assert_calls(&Engine::start_remapped(500_000, &[]), &most);
}

/// The calls of one start, of which some are never made.
fn counted(engine: &Engine, network: &str, when: When) -> BTreeMap<String, usize> {
    let counts = trace(engine, network, when);
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let executed = if when == When::Soon { 1 } else { 2 };
    assert_eq!(count("execve"), executed, "{network}, {when:?}: shim and program: {counts:?}");
    for wait in ["fsync", "fdatasync", "syncfs", "sync"] {
        assert_eq!(count(wait), 0, "{network}, {when:?}: {wait}: {counts:?}");
    }
    counts
}

fn assert_calls(engine: &Engine, most: &[(&str, When, usize)]) {
    for (network, when, most) in most.iter().copied() {
        // The first start of an engine reads what later ones have in memory.
        engine.docker(&["run", "--rm", "--network", network, SMALL, "true"]).ok();
        // How often threads wake each other depends on who runs when: what a start needs is what it gets along with once.
        let counts: Vec<_> = (0..TRACES).map(|_| counted(engine, network, when)).collect();
        let enough = counts.iter().any(|counts| counts.values().sum::<usize>() <= most);
        assert!(enough, "{network}, {when:?}: more than {most} system calls: {counts:?}");
    }
}
