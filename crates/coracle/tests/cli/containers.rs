//! `run`, `exec`, `logs`, `ps`, `inspect` and the life of a container, without a terminal.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::target::{Container, done, target, unique_name};

#[test]
fn run_separates_the_streams_and_exits_with_the_containers_code() {
    let target = target();
    let image = target.image();
    let done = target.run(&["run", "--rm", image, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "out\n", "err\n"));
}

#[test]
fn what_cannot_run_has_dockers_exit_codes() {
    let target = target();
    let image = target.image();
    let code = |arguments: &[&str]| target.run(arguments).code;
    assert_eq!(code(&["run", "--rm", image, "no-such-command"]), 127);
    assert_eq!(code(&["run", "--rm", image, "/etc"]), 126);
    assert_eq!(code(&["run", "--no-such-flag", image]), 125);
    assert_eq!(code(&["run", "--rm", "-m", "lots", image]), 125);
    assert_eq!(code(&["run", "--rm", "--pull", "never", "no-such-image-here"]), 125);
    assert_eq!(code(&["inspect", "no-such-thing"]), 1);
    assert_eq!(code(&["rm", "no-such-thing"]), 1);
    assert_eq!(code(&["rm", "-f", "no-such-thing"]), 0);
}

#[test]
fn stdin_flows_in_and_its_end_is_seen() {
    let target = target();
    let mut child = target
        .command(&["run", "--rm", "-i", target.image(), "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let block = [b'x'; 1 << 16];
    let mut stdin = child.stdin.take().expect("piped");
    for _ in 0..64 {
        stdin.write_all(&block).expect("writes");
    }
    drop(stdin);
    let done = done(child.wait_with_output().expect("ends"));
    assert_eq!((done.code, done.stdout.trim()), (0, "4194304"));
}

#[test]
fn signals_reach_the_container_and_its_code_comes_back() {
    let target = target();
    let script = "trap 'exit 33' INT; echo ready; while :; do sleep 0.05; done";
    let mut child = target
        .command(&["run", "--rm", target.image(), "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("the container starts");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("ends").code(), Some(33));
}

#[test]
fn exec_runs_beside_the_main_process_with_its_own_code() {
    let target = target();
    let container = target.container(&[], &["sleep", "1000"]);
    let done =
        target.run(&["exec", "-e", "A=1", "-w", "/tmp", &container.name, "sh", "-c", "echo $A; pwd; exit 5"]);
    assert_eq!((done.code, done.stdout.as_str()), (5, "1\n/tmp\n"));
    // Docker 26 says 126 here, and 127 from 27 on.
    assert!([126, 127].contains(&target.run(&["exec", &container.name, "no-such-command"]).code));
}

#[test]
fn logs_are_separated_and_cut() {
    let target = target();
    let container = target.container(&[], &["sh", "-c", "echo one; echo two; echo err >&2"]);
    assert_eq!(target.ok(&["wait", &container.name]), "0");
    let all = target.run(&["logs", &container.name]);
    assert_eq!((all.stdout.as_str(), all.stderr.as_str()), ("one\ntwo\n", "err\n"));
    // The two streams have no order between them, so the cut is shown on one.
    let container = target.container(&[], &["sh", "-c", "echo one; echo two"]);
    assert_eq!(target.ok(&["logs", "-f", "--tail", "1", &container.name]), "two");
}

#[test]
fn lists_and_inspections_take_templates() {
    let target = target();
    let container = target.container(&["-l", "a.b=c", "-p", "127.0.0.1::80"], &["sleep", "1000"]);
    let filter = format!("name={}", container.name);
    let list = |format: &str| target.ok(&["ps", "-f", &filter, "--format", format]);
    assert_eq!(list("{{.Names}} {{.Label \"a.b\"}} {{.State}}"), format!("{} c running", container.name));
    assert_eq!(target.ok(&["ps", "-q", "--no-trunc", "-f", &filter]), container.id);
    let row: serde_json::Value = serde_json::from_str(&list("json")).expect("JSON");
    assert_eq!(row["ID"], container.id[..12]);
    let table = target.ok(&["ps", "-f", &filter]);
    let (header, line) = table.split_once('\n').expect("two lines");
    assert!(header.starts_with("CONTAINER ID   IMAGE "), "{header}");
    assert_eq!(header.find("NAMES"), line.find(&container.name), "columns are aligned\n{table}");
    let inspected =
        target.ok(&["inspect", "-f", "{{.State.Running}} {{index .Config.Labels \"a.b\"}}", &container.name]);
    assert_eq!(inspected, "true c");
    let port = target.ok(&["port", &container.name, "80"]);
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    let whole: serde_json::Value =
        serde_json::from_str(&target.ok(&["inspect", &container.id])).expect("JSON");
    assert_eq!(whole[0]["Name"], format!("/{}", container.name));
}

#[test]
fn a_container_goes_through_its_life() {
    let target = target();
    let container = target.container(&[], &["sleep", "1000"]);
    let name = container.name.as_str();
    let state = || target.ok(&["inspect", "-f", "{{.State.Status}}", name]);
    assert_eq!(target.ok(&["pause", name]), name);
    assert_eq!(state(), "paused");
    target.ok(&["unpause", name]);
    assert!(target.ok(&["top", name]).contains("sleep 1000"));
    target.ok(&["update", "-m", "64m", "--memory-swap", "64m", name]);
    assert_eq!(target.ok(&["inspect", "-f", "{{.HostConfig.Memory}}", name]), (64 << 20).to_string());
    target.ok(&["restart", "-t", "0", name]);
    assert_eq!(state(), "running");
    target.ok(&["kill", name]);
    assert_eq!(target.ok(&["wait", name]), "137");
    target.ok(&["start", name]);
    target.ok(&["stop", "-t", "0", name]);
    assert_eq!(state(), "exited");
    let renamed = Container::named(&target, &unique_name());
    target.ok(&["rename", name, &renamed.name]);
    assert_eq!(target.ok(&["rm", &renamed.name]), renamed.name);
}

#[test]
fn the_id_file_holds_the_id_and_must_not_exist_before() {
    let target = target();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("id");
    let path = file.to_str().expect("letters");
    let container = target.container(&["--cidfile", path], &["true"]);
    assert_eq!(std::fs::read_to_string(&file).expect("written"), container.id);
    assert_eq!(target.run(&["create", "--cidfile", path, target.image()]).code, 1);
    std::fs::remove_file(&file).expect("there");
    assert_eq!(target.run(&["create", "--pull", "never", "--cidfile", path, "no-such-image-here"]).code, 1);
    assert!(!file.exists(), "a failed create leaves no file");
}

#[test]
fn environment_files_and_volumes_arrive() {
    let target = target();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("env"), "# comment\nA=file\nB=file\n").expect("writes");
    let output = target
        .command(&["run", "--rm", "--env-file", "env", "-e", "B=flag", "--tmpfs", "/scratch"])
        .current_dir(directory.path())
        .args([target.image(), "sh", "-c", "echo $A $B; touch /scratch/x && echo written"])
        .output()
        .expect("runs");
    assert_eq!(done(output).stdout, "file flag\nwritten\n");
}
