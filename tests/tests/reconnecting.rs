//! The connection between the engine and a shim breaks while both are there: nothing of the container is lost by it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

/// Said when it is connected again.
const MENDED: &str = "the connection to its shim broke, and was made again";

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).unwrap()
}

/// Breaks the engine's connections to all shims, which are its only sockets of packets.
fn break_connections(engine: &Engine) {
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let packets: BTreeSet<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 7 && fields[4] == "0005")
        .map(|fields| format!("socket:[{}]", fields[6]))
        .collect();
    let process = pidfd_open(pid(engine.pid()), PidfdFlags::empty()).unwrap();
    let mut broken = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", engine.pid())).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if packets.contains(&target.to_string_lossy().into_owned()) {
            let number = entry.file_name().to_string_lossy().parse().unwrap();
            let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap();
            shutdown(&socket, Shutdown::Both).unwrap();
            broken += 1;
        }
    }
    assert!(broken > 0, "the engine is connected to a shim");
}

/// While the engine is stopped, its connections are broken and `act` happens: it sees nothing of that.
fn unseen(engine: &Engine, act: impl FnOnce()) {
    kill_process(pid(engine.pid()), Signal::STOP).unwrap();
    // Until the last of its threads has stopped, it could connect again.
    wait_until("the engine has stopped", || is_stopped(engine.pid()));
    break_connections(engine);
    act();
    kill_process(pid(engine.pid()), Signal::CONT).unwrap();
}

/// The letter of a process's or thread's state, proc_pid_stat(5); nothing of one that is not there.
fn state(directory: &Path) -> Option<char> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn is_gone(process: u32) -> bool {
    matches!(state(Path::new(&format!("/proc/{process}"))), None | Some('Z'))
}

fn is_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    threads.map(|thread| state(&thread.path())).all(|state| matches!(state, None | Some('T')))
}

fn typed(engine: &Engine, arguments: &[&str]) -> Child {
    let mut command = engine.command("docker");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_container_its_clients_and_its_execs_go_on_over_a_new_connection() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("broken");
    let script = "while read -r line; do echo got $line; done; exit 7";
    let mut attached =
        typed(&engine, &["run", "-i", "--name", &name, "--network", "none", SMALL, "sh", "-c", script]);
    let (mut input, output) = (attached.stdin.take().unwrap(), attached.stdout.take().unwrap());
    let mut lines = BufReader::new(output).lines();
    writeln!(input, "one").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got one");
    let mut exec = typed(&engine, &["exec", "-i", &name, "sh", "-c", "echo ready; cat >/dev/null; exit 5"]);
    let mut ready = BufReader::new(exec.stdout.take().unwrap()).lines();
    assert_eq!(ready.next().unwrap().unwrap(), "ready");
    for round in 1..=2 {
        break_connections(&engine);
        wait_until("it is mended", || engine.log().matches(MENDED).count() == round);
        writeln!(input, "{round}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("got {round}"));
        assert_eq!(engine.docker(&["exec", &name, "echo", "inside"]).ok(), "inside");
    }
    drop(exec.stdin.take());
    assert_eq!(exec.wait().unwrap().code(), Some(5), "its end is told over the new connection");
    drop(input);
    assert_eq!(attached.wait().unwrap().code(), Some(7));
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", &name]).ok(), "7");
    assert_eq!(engine.docker(&["start", &name]).ok(), name, "and it can be started again");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn an_end_that_the_engine_did_not_see_is_as_it_was() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("ended");
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    engine.docker(&["run", "-d", "--name", &name, "--network", "none", SMALL, "sh", "-c", script]).ok();
    wait_until("it is ready", || engine.docker(&["logs", &name]).stdout == "ready\n");
    let first: u32 = engine.docker(&["inspect", "-f", "{{.State.Pid}}", &name]).ok().parse().unwrap();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    let shim: u32 = shim.trim().parse().unwrap();
    unseen(&engine, || {
        kill_process(pid(first), Signal::TERM).unwrap();
        // Nobody is there to be told, so it ends as well.
        wait_until("the shim has ended", || is_gone(shim));
    });
    wait_until("it is known", || {
        engine.docker(&["inspect", "-f", "{{.State.Status}}", &name]).ok() == "exited"
    });
    let state = "{{.State.ExitCode}} {{.State.OOMKilled}}";
    assert_eq!(engine.docker(&["inspect", "-f", state, &name]).ok(), "9 false");
    engine.docker(&["start", &name]).ok();
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn an_exec_that_ended_unseen_does_not_run_for_ever() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("exec");
    engine.docker(&["run", "-d", "--name", &name, "--network", "none", SMALL, "sleep", "1000"]).ok();
    let body = r#"{"Cmd":["sleep","1000"]}"#;
    let (status, created) = engine.request("POST", &format!("/v1.44/containers/{name}/exec"), Some(body));
    assert_eq!(status, 201, "{created}");
    let id = serde_json::from_str::<serde_json::Value>(&created).unwrap()["Id"].as_str().unwrap().to_owned();
    let (status, answer) =
        engine.request("POST", &format!("/v1.44/exec/{id}/start"), Some(r#"{"Detach":true}"#));
    assert_eq!(status, 200, "{answer}");
    let inspect = || -> serde_json::Value {
        serde_json::from_str(&engine.request("GET", &format!("/v1.44/exec/{id}/json"), None).1).unwrap()
    };
    let process = u32::try_from(inspect()["Pid"].as_u64().unwrap()).unwrap();
    unseen(&engine, || {
        kill_process(pid(process), Signal::KILL).unwrap();
        wait_until("it is collected", || !fs::exists(format!("/proc/{process}")).unwrap());
    });
    wait_until("it is known", || inspect()["Running"] == false);
    assert_eq!(inspect()["ExitCode"], 255, "nobody knows how");
    engine.docker(&["rm", "-f", &name]).ok();
}
