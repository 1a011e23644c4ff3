//! Containers through their lives: exec, logs, signals, waiting, renaming, events.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;

fn start(engine: &Engine, name: &str, script: &str) -> String {
    let name = engine.name(name);
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sh", "-c", script]).ok();
    name
}

fn field(engine: &Engine, name: &str, field: &str) -> String {
    engine.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), name]).ok()
}

#[test]
fn an_exec_runs_inside_with_its_own_code_user_and_streams() {
    let engine = Engine::start();
    let name = start(&engine, "exec", "exec sleep 1000");
    let output = engine.docker(&["exec", &name, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(
        engine
            .docker(&[
                "exec",
                "-u",
                "web",
                "-w",
                "/var",
                "-e",
                "X=y",
                &name,
                "sh",
                "-c",
                "id -un; pwd; echo $X"
            ])
            .ok(),
        "web\n/var\ny"
    );
    assert_eq!(engine.docker_with_input(&["exec", "-i", &name, "cat"], b"through").ok(), "through");
    // Docker answered 126 before 27.
    assert!([126, 127].contains(&engine.docker(&["exec", &name, "no-such-program"]).code));
    assert_eq!(engine.docker(&["exec", &name, "/etc"]).code, 126);
    engine.docker(&["exec", "-d", &name, "touch", "/made"]).ok();
    wait_until("the detached exec has run", || {
        engine.docker(&["exec", &name, "test", "-e", "/made"]).code == 0
    });
    let script = format!("docker exec -t {name} sh -c 'tty; echo yes'");
    let output = engine.command("script").args(["-qec", &script, "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(text.starts_with("/dev/pts/") && text.ends_with("yes\n"), "{text}");
    let caps = engine.docker(&["exec", &name, "grep", "-E", "CapInh|CapEff", "/proc/self/status"]).ok();
    assert!(
        caps.contains("CapInh:\t0000000000000000") && caps.contains("CapEff:\t00000000a80425fb"),
        "{caps}"
    );
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn logs_are_selected_by_number_time_and_stream() {
    let engine = Engine::start();
    let name = start(&engine, "logs", "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2");
    engine.docker(&["wait", &name]).ok();
    assert_eq!(engine.docker(&["logs", &name]).stdout, "line 1\nline 2\nline 3\nline 4\nline 5\n");
    assert_eq!(engine.docker(&["logs", &name]).stderr, "bad\n");
    let tail = engine.docker(&["logs", "--tail", "2", &name]);
    // Which of the two streams was read first is nobody's promise.
    assert_eq!(tail.stdout.lines().count() + tail.stderr.lines().count(), 2);
    let stamped = engine.docker(&["logs", "-t", "--tail", "3", &name]);
    let time = stamped.stdout.split(' ').next().unwrap().to_owned();
    assert!(time.len() >= 30 && time.ends_with('Z'), "{}", stamped.stdout);
    assert_eq!(engine.docker(&["logs", "--since", "1h", &name]).stdout.lines().count(), 5);
    assert_eq!(engine.docker(&["logs", "--until", "1h", &name]).stdout, "");
    assert_eq!(
        engine.docker(&["logs", "-f", &name]).stdout.lines().count(),
        5,
        "following what has ended ends"
    );
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn a_followed_log_ends_when_its_until_has_come() {
    let engine = Engine::start();
    let loud = start(&engine, "loud", "while :; do echo line; sleep 0.1; done");
    let silent = start(&engine, "silent", "echo line; exec sleep 1000");
    // The original waits for the first line that is too late.
    for name in if engine.is_original() { vec![loud] } else { vec![loud, silent] } {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let until = now.as_secs() + 2;
        let path = format!("/v1.44/containers/{name}/logs?follow=1&stdout=1&until={until}");
        let (status, answer) = engine.request("GET", &path, None);
        assert_eq!(status, 200);
        assert!(answer.contains("line"), "{answer}");
        let ended = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(ended.as_secs() >= until, "{name}: it ended before");
    }
}

#[test]
fn a_followed_log_ends_with_its_container() {
    let engine = Engine::start();
    let name = engine.name("follow");
    let script = "mkfifo /go; echo one; read line < /go; echo two";
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sh", "-c", script]).ok();
    let follower = engine
        .command("docker")
        .args(["logs", "-f", &name])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the first line is there", || engine.docker(&["logs", &name]).stdout == "one\n");
    engine.docker(&["exec", &name, "sh", "-c", "echo > /go"]).ok();
    let output = follower.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n");
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn stop_asks_first_and_kills_later() {
    let engine = Engine::start();
    let polite = start(&engine, "polite", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    wait_until("it listens", || engine.docker(&["logs", &polite]).stdout == "ready\n");
    engine.docker(&["stop", "-t", "30", &polite]).ok();
    assert_eq!(field(&engine, &polite, ".State.ExitCode"), "5");
    let deaf = start(&engine, "deaf", "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    wait_until("it listens", || engine.docker(&["logs", &deaf]).stdout == "ready\n");
    engine.docker(&["stop", "-t", "1", &deaf]).ok();
    assert_eq!(field(&engine, &deaf, ".State.ExitCode"), "137");
    engine.docker(&["rm", &polite, &deaf]).ok();
}

#[test]
fn signals_reach_the_first_process() {
    let engine = Engine::start();
    let name =
        start(&engine, "signals", "trap 'echo got usr1' USR1; echo ready; while :; do sleep 0.05; done");
    wait_until("it listens", || engine.docker(&["logs", &name]).stdout == "ready\n");
    engine.docker(&["kill", "-s", "USR1", &name]).ok();
    wait_until("the trap has run", || engine.docker(&["logs", &name]).stdout.contains("got usr1"));
    engine.docker(&["kill", "-s", "NOTHING", &name]).refused(1, "invalid signal");
    engine.docker(&["kill", &name]).ok();
    assert_eq!(engine.docker(&["wait", &name]).ok(), "137");
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn a_paused_container_stands_still() {
    let engine = Engine::start();
    let name = start(&engine, "paused", "while :; do date +%s%N; sleep 0.02; done");
    engine.docker(&["pause", &name]).ok();
    assert_eq!(field(&engine, &name, ".State.Status"), "paused");
    engine.docker(&["pause", &name]).refused(1, "already paused");
    engine.docker(&["exec", &name, "true"]).refused(1, "paused");
    engine.docker(&["unpause", &name]).ok();
    assert_eq!(field(&engine, &name, ".State.Status"), "running");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn a_container_starts_again_with_what_it_wrote() {
    let engine = Engine::start();
    let name = start(&engine, "again", "cat /mine 2>/dev/null; echo once more >> /mine");
    engine.docker(&["wait", &name]).ok();
    engine.docker(&["start", "-a", &name]).ok();
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "once more\nonce more");
    engine.docker(&["restart", &name]).ok();
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn names_change_and_are_free_again() {
    let engine = Engine::start();
    let (old, new) = (start(&engine, "old", "sleep 1000"), engine.name("new"));
    engine.docker(&["rename", &old, &new]).ok();
    assert_eq!(field(&engine, &new, ".Name"), format!("/{new}"));
    engine.docker(&["inspect", &old]).refused(1, "no such object");
    engine.docker(&["create", "--name", &old, SMALL, "true"]).ok();
    engine.docker(&["rename", &new, &old]).refused(1, "already in use");
    engine.docker(&["rm", "-f", &old, &new]).ok();
}

#[test]
fn containers_are_listed_and_filtered() {
    let engine = Engine::start();
    let up = start(&engine, "up", "sleep 1000");
    let down = start(&engine, "down", "exit 3");
    engine.docker(&["wait", &down]).ok();
    let list = |filters: &[&str]| {
        let name = format!("name={}", engine.name(""));
        let mut arguments = vec!["ps", "-a", "--format", "{{.Names}} {{.State}}", "--filter", &name];
        arguments.extend(filters);
        engine.docker(&arguments).ok()
    };
    assert_eq!(list(&["--filter", "status=running"]), format!("{up} running"));
    assert_eq!(list(&["--filter", "exited=3"]), format!("{down} exited"));
    assert_eq!(list(&["--filter", "exited=4"]), "");
    assert_eq!(list(&["--filter", &format!("ancestor={SMALL}")]).lines().count(), 2);
    let status =
        engine.docker(&["ps", "-a", "--filter", &format!("name={down}"), "--format", "{{.Status}}"]).ok();
    assert!(status.starts_with("Exited (3) "), "{status}");
    let top = engine.docker(&["top", &up]).ok();
    assert!(top.contains("CMD") && top.contains("sleep 1000"), "{top}");
    engine.docker(&["rm", "-f", &up, &down]).ok();
}

#[test]
fn events_tell_a_containers_life() {
    let engine = Engine::start();
    let since =
        format!("{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    let name = engine.name("events");
    engine
        .docker(&["run", "--rm", "--network", "none", "--name", &name, SMALL, "sh", "-c", "exit 4"])
        .fails_with(4);
    let filter = format!("container={name}");
    let seen = || {
        let until = format!(
            "{}",
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1
        );
        engine
            .docker(&[
                "events",
                "--since",
                &since,
                "--until",
                &until,
                "--filter",
                &filter,
                "--filter",
                "type=container",
                "--format",
                "{{.Action}}",
            ])
            .ok()
    };
    wait_until("the last event is there", || seen().contains("destroy"));
    assert_eq!(seen(), "create\nattach\nstart\ndie\ndestroy");
}

#[test]
fn changes_of_a_container_are_told() {
    let engine = Engine::start();
    let name = start(&engine, "diff", "echo x > /etc/new; rm /etc/plain; echo y >> /etc/group");
    engine.docker(&["wait", &name]).ok();
    let mut lines: Vec<String> = engine.docker(&["diff", &name]).ok().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A /etc/new", "C /etc", "C /etc/group", "D /etc/plain"]);
    engine.docker(&["rm", &name]).ok();
}

/// The clock, in seconds.
fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970").as_secs()
}

#[test]
fn every_signal_is_told_before_the_end_that_it_brings() {
    let engine = Engine::start();
    let since = seconds().to_string();
    let name = start(&engine, "signals", "trap 'exit 0' TERM; while :; do sleep 0.05; done");
    engine.docker(&["stop", &name]).ok();
    engine.docker(&["start", &name]).ok();
    engine.docker(&["rm", "-f", &name]).ok();
    let filter = format!("container={name}");
    let format = "{{.Action}} {{.Actor.Attributes.signal}}";
    let until = (seconds() + 1).to_string();
    let selected = ["events", "--since", &since, "--until", &until, "-f", &filter, "-f", "type=container"];
    let seen = engine.docker(&[&selected[..], &["--format", format]].concat()).ok();
    let mut seen: Vec<&str> =
        seen.lines().map(|line| line.trim_end_matches(" <no value>").trim_end()).collect();
    // Docker tells that it has stopped a container at about the time of its end, before or after it.
    assert!(seen.contains(&"stop"), "{seen:?}");
    seen.retain(|action| *action != "stop");
    assert_eq!(seen, ["create", "start", "kill 15", "die", "start", "kill 9", "die", "destroy"]);
}

#[test]
fn processes_are_shown_in_the_columns_of_both_styles() {
    let engine = Engine::start();
    let name = start(&engine, "top", "exec sleep 1000");
    let aux = engine.docker(&["top", &name, "aux"]).ok();
    let (titles, row) = aux.split_once('\n').unwrap();
    assert_eq!(
        titles.split_whitespace().collect::<Vec<_>>(),
        ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"]
    );
    assert!(row.trim_end().ends_with("sleep 1000"), "{aux}");
    assert!(engine.docker(&["top", &name]).ok().starts_with("UID "));
    assert_eq!(field(&engine, &name, ".HostConfig.NetworkMode"), "bridge");
}
