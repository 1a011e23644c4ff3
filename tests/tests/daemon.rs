//! The daemon as a process: what it refuses to start with, what it leaves at its end, what it reads again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::engine::{programs, wait_until};
use coracle_tests::{Engine, Output};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Command;

/// Runs a daemon that is expected not to start.
fn daemon(arguments: &[&str]) -> Output {
    let mut command = Command::new(programs().join("coracle"));
    command.arg("daemon").args(arguments);
    Output::new(format!("coracle daemon {}", arguments.join(" ")), &command.output().unwrap())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn what_is_refused_ends_it_with_the_reason() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let file = engine.directory().join("daemon.json");
    std::fs::write(&file, r#"{"labels": ["a=b"], "no-such-key": true}"#).unwrap();
    let (data, run) = (text(&engine.directory().join("other")), text(&engine.directory().join("other-run")));
    let (socket, pid) = (engine.own_host().to_owned(), text(&engine.directory().join("pid")));
    let own_data = text(&engine.directory().join("data"));
    for (arguments, reason) in [
        (vec!["--userns-remap=no-such-user"], "there is no user no-such-user in /etc/passwd"),
        (vec!["--userns-remap=root"], "root cannot be remapped"),
        (
            vec!["--data-root", &data, "--exec-root", &run, "--tlsverify", "--tlscacert", "/no/such/ca.pem"],
            "cannot use",
        ),
        (vec!["--live-restore=false"], "containers never notice their engine's end"),
        (vec!["--no-such-option"], "no-such-option"),
        (vec!["--bip", "nowhere"], "invalid value \"nowhere\" for --bip"),
        (vec!["--config-file", &text(&file)], "no-such-key"),
        (vec!["--config-file", "/no/such/file"], "/no/such/file"),
        (vec!["--data-root", &data, "--exec-root", &run, "-H", "tcp://127.0.0.1:0"], "--tls=false"),
        (vec!["--data-root", &data, "--exec-root", &run, "-H", &socket], "served by another engine"),
        (vec!["--data-root", &data, "--exec-root", &run, "-H", "fd://"], "LISTEN_FDS"),
        (vec!["--data-root", &data, "--exec-root", &run, "--pidfile", &pid], "an engine that runs"),
        (vec!["--data-root", &own_data, "--exec-root", &run], "used by another engine"),
    ] {
        let output = daemon(&arguments);
        assert_ne!(output.code, 0, "{arguments:?}");
        assert!(output.stderr.contains(reason), "{arguments:?}: {}", output.stderr);
    }
    // None of them has touched what is the first one's.
    assert_eq!(engine.request("GET", "/_ping", None).0, 200);
    assert_eq!(std::fs::read_to_string(&pid).unwrap(), engine.pid().to_string());
}

#[test]
fn its_socket_and_pid_file_end_with_it_and_come_back() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let (socket, pidfile) = (engine.own_socket(), engine.directory().join("pid"));
    engine.kill();
    assert!(socket.exists() && pidfile.exists(), "a killed engine leaves both");
    engine.start_again();
    let pid = engine.pid();
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), pid.to_string());
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    wait_until("the socket is gone", || !socket.exists());
    wait_until("the pid file is gone", || !pidfile.exists());
    engine.kill();
    engine.start_again();
}

#[test]
fn labels_and_the_log_level_are_read_again() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("daemon.json");
    std::fs::write(&file, r#"{"labels": ["a=b"]}"#).unwrap();
    let engine = Engine::start_with(&["--config-file", &text(&file)]);
    if engine.is_original() {
        return;
    }
    let shown = || engine.docker(&["info", "-f", "{{json .Labels}} {{.Debug}}"]).ok();
    assert_eq!(shown(), r#"["a=b"] false"#);
    let again = || kill_process(Pid::from_raw(engine.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
    std::fs::write(&file, r#"{"labels": ["c=d", "e=f"], "debug": true}"#).unwrap();
    again();
    wait_until("the labels are new", || shown() == r#"["c=d","e=f"] true"#);
    // What makes no sense changes nothing.
    std::fs::write(&file, "nonsense").unwrap();
    again();
    wait_until("the refusal is logged", || engine.log().contains("nothing was reloaded"));
    assert_eq!(shown(), r#"["c=d","e=f"] true"#);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let (status, events) = engine.request("GET", &format!("/v1.44/events?since=1&until={now:.9}"), None);
    assert_eq!(status, 200);
    assert!(events.contains(r#""Action":"reload""#), "{events}");
}
