//! What a container does not notice: that its engine is killed, and that another takes its place.
//!
//! These promises are ours alone; Docker keeps some of them with `--live-restore`.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::net::get;

fn ours() -> Option<Engine> {
    if std::env::var_os("TARGET").is_some() {
        return None;
    }
    Some(Engine::start())
}

fn field(engine: &Engine, name: &str, field: &str) -> String {
    engine.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), name]).ok()
}

#[test]
fn a_running_container_keeps_process_port_name_and_log() {
    let Some(mut engine) = ours() else { return };
    let script = "mkdir /www; echo hello > /www/index.html; httpd -p 80 -h /www; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
    engine.docker(&["run", "-d", "--name", "web", "-p", "127.0.0.1:0:80", SMALL, "sh", "-c", script]).ok();
    let pid = field(&engine, "web", ".State.Pid");
    let port = engine.docker(&["port", "web", "80"]).ok();
    wait_until("it serves", || get(&port).as_deref() == Some("hello"));
    engine.kill();
    assert_eq!(get(&port).as_deref(), Some("hello"), "the port works without an engine");
    let reach = std::process::Command::new("nsenter")
        .args(["-t", &pid, "-n", "-m", "/bin/busybox", "nslookup", "web", "127.0.0.11"])
        .output()
        .unwrap();
    assert!(
        reach.status.success(),
        "the name is known without an engine: {}",
        String::from_utf8_lossy(&reach.stdout)
    );
    engine.start_again();
    assert_eq!(field(&engine, "web", ".State.Pid"), pid);
    assert_eq!(get(&port).as_deref(), Some("hello"));
    let log = engine.docker(&["logs", "web"]).stdout;
    let numbers: Vec<usize> =
        log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "no line is missing and none is double");
    assert_eq!(engine.docker(&["exec", "web", "echo", "still"]).ok(), "still");
    engine.docker(&["run", "--rm", SMALL, "wget", "-qO-", "http://web/"]).ok();
    engine.docker(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(field(&engine, "web", ".State.ExitCode"), "137");
}

#[test]
fn an_exit_without_an_engine_is_known_afterwards() {
    let Some(mut engine) = ours() else { return };
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "short",
            SMALL,
            "sh",
            "-c",
            "while ! test -e /go; do sleep 0.02; done; echo last word; exit 7",
        ])
        .ok();
    let pid = field(&engine, "short", ".State.Pid");
    engine.kill();
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    wait_until("it has ended", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    engine.start_again();
    assert_eq!(field(&engine, "short", ".State.Status"), "exited");
    assert_eq!(field(&engine, "short", ".State.ExitCode"), "7");
    assert_eq!(engine.docker(&["logs", "short"]).stdout, "last word\n");
    engine.docker(&["rm", "short"]).ok();
}

#[test]
fn a_restart_policy_starts_what_ended_without_an_engine() {
    let Some(mut engine) = ours() else { return };
    engine.docker(&["run", "-d", "--name", "always", "--restart", "always", SMALL, "sleep", "1000"]).ok();
    engine
        .docker(&["run", "-d", "--name", "stopped", "--restart", "unless-stopped", SMALL, "sleep", "1000"])
        .ok();
    engine.docker(&["stop", "-t", "0", "stopped"]).ok();
    let pid: i32 = field(&engine, "always", ".State.Pid").parse().unwrap();
    engine.kill();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_until("it has ended", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    engine.start_again();
    wait_until("it runs again", || field(&engine, "always", ".State.Status") == "running");
    assert_eq!(field(&engine, "stopped", ".State.Status"), "exited");
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_and_the_rest_is_absent() {
    let Some(mut engine) = ours() else { return };
    for round in 0..5 {
        let name = format!("kept{round}");
        let id = engine.docker(&["create", "--name", &name, SMALL, "true"]).ok();
        let image = engine.docker(&["images", "-q", SMALL]).ok();
        engine.docker(&["volume", "create", &name]).ok();
        engine.kill();
        engine.start_again();
        assert_eq!(field(&engine, &name, ".Id"), id);
        assert_eq!(engine.docker(&["images", "-q", SMALL]).ok(), image);
        assert_eq!(engine.docker(&["volume", "inspect", "-f", "{{.Name}}", &name]).ok(), name);
        engine.docker(&["start", &name]).ok();
        engine.docker(&["rm", "-f", &name]).ok();
        engine.docker(&["volume", "rm", &name]).ok();
    }
}

#[test]
fn two_engines_do_not_disturb_each_other() {
    let (Some(one), Some(two)) = (ours(), ours()) else { return };
    one.docker(&["run", "-d", "--name", "same", SMALL, "sleep", "1000"]).ok();
    two.docker(&["run", "-d", "--name", "same", SMALL, "sleep", "1000"]).ok();
    assert_ne!(field(&one, "same", ".Id"), field(&two, "same", ".Id"));
    assert_eq!(one.docker(&["ps", "-q"]).ok().lines().count(), 1);
    drop(one);
    assert_eq!(two.docker(&["exec", "same", "echo", "here"]).ok(), "here");
}

#[test]
fn a_second_engine_on_the_same_data_is_refused() {
    let Some(engine) = ours() else { return };
    let place = engine.directory();
    let output = std::process::Command::new(coracle_tests::engine::programs().join("coracle"))
        .arg("daemon")
        .args(["--data-root".as_ref(), place.join("data").as_os_str()])
        .args(["--exec-root".as_ref(), place.join("other").as_os_str()])
        .args(["--host", &format!("unix://{}", place.join("other.sock").display())])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("data"), "{output:?}");
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", SMALL, "echo", "fine"]).ok(), "fine");
}

#[test]
fn at_the_end_of_the_machine_containers_end_in_their_own_way_and_those_with_a_policy_come_back() {
    let Some(mut engine) = ours() else { return };
    let script = "trap 'echo stopped; exit 0' USR1; echo started; while :; do sleep 0.05; done";
    let run = |name: &str, policy: &str| {
        let options = ["run", "-d", "--name", name, "--restart", policy, "--stop-signal", "USR1"];
        engine.docker(&[&options[..], &[SMALL, "sh", "-c", script]].concat()).ok();
        wait_until("it has begun", || engine.docker(&["logs", name]).stdout == "started\n");
    };
    run("back", "always");
    run("gone", "no");
    engine.coracle(&["system", "shutdown"]).ok();
    // Ten times as long as the policy waits before it starts again.
    engine.docker(&["run", "--rm", SMALL, "sleep", "1"]).ok();
    for name in ["back", "gone"] {
        assert_eq!(
            engine.docker(&["logs", name]).ok(),
            "started\nstopped",
            "{name} had its own signal, and was not begun anew"
        );
    }
    assert_eq!(field(&engine, "back", ".State.Status"), "restarting");
    engine.kill();
    engine.start_again();
    wait_until("it is back", || engine.docker(&["logs", "back"]).stdout.ends_with("stopped\nstarted\n"));
    assert_eq!(field(&engine, "gone", ".State.Status"), "exited");
    assert_eq!(field(&engine, "gone", ".State.ExitCode"), "0");
}
