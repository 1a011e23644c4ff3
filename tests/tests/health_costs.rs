//! What a health check costs, in counts, which do not depend on the machine's load: programs executed, threads and
//! processes, fsyncs, system calls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// How many questions are looked at, at least.
const QUESTIONS: usize = 20;
/// Most system calls of engine, shim and check together for one question that runs `true`, and for one that the engine
/// puts itself. What is true today with some room for how threads happen to wake each other.
const CALLS_OF_A_COMMAND: usize = 270;
const CALLS_OF_A_CONNECTION: usize = 110;

/// Traces an engine and the shim of a container that is asked all the time, until `last` questions are in the trace.
/// Returns the lines.
fn trace(engine: &Engine, name: &str, test: &Value, question: &str) -> Vec<String> {
    let body = json!({
        "Image": SMALL, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"},
        // What always fails has its number of failures written down each time.
        "Healthcheck": {"Test": test, "Interval": 50_000_000, "Retries": 1_000_000},
    });
    let path = format!("/v1.44/containers/create?name={name}");
    let (code, answer) = engine.request("POST", &path, Some(&body.to_string()));
    assert_eq!(code, 201, "{answer}");
    engine.docker(&["start", name]).ok();
    let field = |field: &str| engine.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), name]).ok();
    // Until then the index brings the start to the disk.
    wait_until("it is asked", || field("len .State.Health.Log") == "5");
    let first = field(".State.Pid");
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    let file = engine.directory().join(format!("trace-{name}"));
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-s", "200", "-o"])
        .arg(&file)
        .args(["-p", &engine.pid().to_string(), "-p", &shim])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the package strace is installed");
    let lines = |file: &Path| -> Vec<String> {
        std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    wait_until("enough questions are traced", || {
        lines(&file).iter().filter(|line| line.contains(question)).count() > QUESTIONS
    });
    kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    strace.wait().unwrap();
    engine.docker(&["rm", "-f", name]).ok();
    let found = lines(&file);
    // From one question to another one: each has all that belongs to it, one after the other.
    let questions: Vec<usize> =
        found.iter().enumerate().filter(|(_, line)| line.contains(question)).map(|(at, _)| at).collect();
    found[questions[0]..questions[QUESTIONS]].to_vec()
}

fn count(lines: &[String], call: &str) -> usize {
    lines.iter().filter(|line| line.contains(call)).count()
}

/// System calls for one question; Rust's debug builds ask whether a descriptor is open before they close it.
fn calls(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.contains('(') && !line.contains("F_GETFD")).count() / QUESTIONS
}

/// Nothing is brought to the disk for a question. The index may have had something left to do.
#[track_caller]
fn waits_for_no_disk(lines: &[String]) {
    let waits: usize = ["fsync(", "fdatasync(", "syncfs("].iter().map(|call| count(lines, call)).sum();
    assert!(waits < QUESTIONS / 4, "{waits} for {QUESTIONS} questions");
}

#[test]
fn a_command_executes_one_program_and_waits_for_no_disk() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    let lines = trace(&engine, "command", &json!(["CMD", "/bin/false"]), "execve(\"/bin/false\"");
    assert_eq!(count(&lines, "execve("), QUESTIONS);
    waits_for_no_disk(&lines);
    let calls = calls(&lines);
    assert!(calls <= CALLS_OF_A_COMMAND, "{calls} system calls for a question");
}

#[test]
fn a_connection_executes_no_program_and_waits_for_no_disk() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start();
    let lines = trace(&engine, "connection", &json!(["CMD", "tcp://:81"]), "sin_port=htons(81)");
    for call in ["execve(", "fork(", "SIGCHLD"] {
        assert_eq!(count(&lines, call), 0, "{call}");
    }
    assert!(count(&lines, "setns(") >= QUESTIONS - 1, "a thread enters the network each time, and ends");
    waits_for_no_disk(&lines);
    let calls = calls(&lines);
    assert!(calls <= CALLS_OF_A_CONNECTION, "{calls} system calls for a question");
}
