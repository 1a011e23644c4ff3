//! Containers that join another's namespaces come after it, whoever starts them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use rustix::process::{Pid, Signal, kill_process};

/// What is joined, and how the kernel calls it.
const JOINED: [(&str, &str); 3] = [("--network", "net"), ("--ipc", "ipc"), ("--pid", "pid")];

/// The first process of a container; 0 when it does not run.
fn pid(engine: &Engine, name: &str) -> i32 {
    engine.docker(&["inspect", "-f", "{{.State.Pid}}", name]).stdout.trim().parse().unwrap_or(0)
}

fn namespace(pid: i32, kind: &str) -> Option<String> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok().map(|link| link.display().to_string())
}

/// A container, and three that join one namespace of it each.
fn family(engine: &Engine) -> (String, Vec<String>) {
    let donor = engine.name("donor");
    let always = ["--restart", "always"];
    let run = |name: &str, options: &[&str]| {
        let program = [SMALL, "sleep", "1000"];
        engine.docker(&[&["run", "-d", "--name", name], &always[..], options, &program].concat()).ok();
        name.to_owned()
    };
    run(&donor, &["--ipc", "shareable"]);
    let by = format!("container:{donor}");
    let joiners = JOINED.map(|(option, kind)| run(&engine.name(kind), &[option, &by])).to_vec();
    (donor, joiners)
}

/// Whether all run, each in the namespace of the donor that runs now.
fn is_together(engine: &Engine, donor: &str, joiners: &[String]) -> bool {
    let donor = pid(engine, donor);
    joiners.iter().zip(JOINED).all(|(joiner, (_, kind))| {
        let joiner = pid(engine, joiner);
        joiner > 0 && namespace(donor, kind).is_some_and(|own| namespace(joiner, kind) == Some(own))
    })
}

fn remove(engine: &Engine, donor: &str, joiners: &[String]) {
    let joiners: Vec<&str> = joiners.iter().map(String::as_str).collect();
    engine.docker(&[&["rm", "-f", donor], &joiners[..]].concat()).ok();
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn an_engine_that_starts_starts_partners_first() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let (donor, joiners) = family(&engine);
    assert!(is_together(&engine, &donor, &joiners));
    // Stopped: they start with the engine.
    for name in joiners.iter().chain([&donor]) {
        engine.docker(&["stop", "-t", "0", name]).ok();
    }
    engine.kill();
    engine.start_again();
    wait_until("all are back", || is_together(&engine, &donor, &joiners));
    // Ended while no engine was there, as when the machine is started anew.
    let pids: Vec<i32> = joiners.iter().chain([&donor]).map(|name| pid(&engine, name)).collect();
    engine.kill();
    // Who is in the donor's pid namespace ends with it.
    for pid in &pids {
        let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
    }
    engine.start_again();
    wait_until("all are back", || {
        is_together(&engine, &donor, &joiners)
            && joiners.iter().chain([&donor]).zip(&pids).all(|(name, before)| pid(&engine, name) != *before)
    });
    remove(&engine, &donor, &joiners);
}

#[test]
fn who_ends_with_a_partner_that_restarts_comes_back_after_it() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let (donor, joiners) = family(&engine);
    for _ in 0..3 {
        let before = [&donor, &joiners[2]].map(|name| pid(&engine, name));
        kill(before[0]);
        wait_until("both are back", || {
            let now = [&donor, &joiners[2]].map(|name| pid(&engine, name));
            let own = namespace(now[0], "pid");
            now.iter().zip(before).all(|(now, before)| *now > 0 && *now != before)
                && own.is_some()
                && namespace(now[1], "pid") == own
        });
    }
    remove(&engine, &donor, &joiners);
}

#[test]
fn who_waits_for_a_partner_can_be_stopped_and_removed() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let donor = engine.name("failing");
    // It restarts for ever, after ever longer pauses.
    engine
        .docker(&["run", "-d", "--name", &donor, "--restart", "always", SMALL, "sh", "-c", "sleep 1; exit 1"])
        .ok();
    let joiner = engine.name("joiner");
    let by = format!("container:{donor}");
    let options = ["run", "-d", "--name", &joiner, "--restart", "always", "--pid", &by];
    wait_until("it was joined", || {
        engine.docker(&[&options[..], &[SMALL, "sleep", "1000"]].concat()).code == 0 || {
            engine.docker(&["rm", "-f", &joiner]);
            false
        }
    });
    let status = |name: &str| engine.docker(&["inspect", "-f", "{{.State.Status}}", name]).ok();
    wait_until("both wait", || status(&donor) == "restarting" && status(&joiner) == "restarting");
    engine.docker(&["stop", &joiner]).ok();
    assert_eq!(status(&joiner), "exited");
    engine.docker(&["rm", &joiner]).ok();
    engine.kill();
    engine.start_again();
    engine.docker(&["rm", "-f", &donor]).ok();
}
