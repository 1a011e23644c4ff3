//! Containers between their create and their start: something of them is made ahead, and whatever happens meanwhile, a start
//! gives what it would have given, and nothing stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::prepared::{are_made, children, processes, wait_until_prepared};
use rustix::process::{Pid, Signal, kill_process};

/// Most containers that are prepared at once.
const MOST: usize = 16;

/// Makes a container, and waits until it is prepared where it is our engine that makes it.
fn create(engine: &Engine, arguments: &[&str]) -> String {
    let id = engine.docker(&[&["create"], arguments].concat()).ok();
    if are_made(engine) {
        wait_until_prepared(engine, 1);
    }
    id
}

/// Starts a container, and removes it afterwards. What it printed.
fn run(engine: &Engine, id: &str) -> String {
    let out = engine.docker(&["start", "-a", id]).ok();
    engine.docker(&["rm", id]).ok();
    out
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn what_is_changed_between_create_and_start_counts() {
    let engine = Engine::start();
    let pids = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || :";
    let id = create(&engine, &["--pids-limit", "50", SMALL, "sh", "-c", pids]);
    engine.docker(&["update", "--pids-limit", "60", &id]).ok();
    assert_eq!(run(&engine, &id), "60");

    let put = engine.directory().join("put");
    std::fs::write(&put, "by hand").unwrap();
    let id = create(&engine, &[SMALL, "cat", "/put"]);
    engine.docker(&["cp", &put.display().to_string(), &format!("{id}:/put")]).ok();
    assert_eq!(run(&engine, &id), "by hand");

    let (ours, seen) = engine.shared_directory();
    let source = ours.join("source");
    std::fs::create_dir(&source).unwrap();
    let bind = format!("{}:/data", seen.join("source").display());
    let id = create(&engine, &["-v", &bind, SMALL, "cat", "/data/file"]);
    std::fs::rename(&source, ours.join("gone")).unwrap();
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "new").unwrap();
    assert_eq!(run(&engine, &id), "new");

    let id = create(&engine, &["--name", &engine.name("before"), SMALL, "hostname"]);
    engine.docker(&["rename", &id, &engine.name("after")]).ok();
    assert_eq!(run(&engine, &engine.name("after")), id[..12]);
}

#[test]
fn a_container_that_runs_again_runs_as_before() {
    let engine = Engine::start();
    let look = "hostname; cat /etc/hostname; grep -c . /etc/hosts; id; grep Cap /proc/self/status; cut -d ' ' -f 2,4 /proc/mounts | sort";
    for network in ["none", "bridge", "host"] {
        let id = create(&engine, &["--network", network, SMALL, "sh", "-c", look]);
        let first = engine.docker(&["start", "-a", &id]).ok();
        let second = engine.docker(&["start", "-a", &id]).ok();
        let without_root =
            |text: &str| text.lines().filter(|l| !l.contains("lowerdir")).collect::<Vec<_>>().join("\n");
        assert!(first.contains("CapBnd"), "{first}");
        assert_eq!(without_root(&first), without_root(&second), "{network}");
        engine.docker(&["rm", &id]).ok();
    }
}

#[test]
fn nothing_stays_of_what_is_removed_or_forgotten() {
    let engine = Engine::start();
    if !are_made(&engine) {
        return;
    }
    let id = create(&engine, &[SMALL, "true"]);
    engine.docker(&["rm", &id]).ok();
    assert_eq!(processes(&engine), [0; 0], "gone with the answer");
    let id = create(&engine, &[SMALL, "echo", "late"]);
    // Nobody starts it for ten seconds.
    wait_until_prepared(&engine, 0);
    let state = engine.directory().join("run/containers").join(&id);
    wait_until("its state directory is gone", || !state.exists());
    assert_eq!(run(&engine, &id), "late");
}

#[test]
fn an_engine_that_ends_or_is_killed_leaves_nothing_prepared() {
    let mut engine = Engine::start();
    if !are_made(&engine) {
        return;
    }
    let id = create(&engine, &[SMALL, "echo", "again"]);
    let waiting = processes(&engine);
    engine.kill();
    wait_until("what was prepared has ended", || {
        waiting.iter().all(|pid| children(*pid).is_empty() && !exists(*pid))
    });
    engine.start_again();
    assert_eq!(run(&engine, &id), "again");
    // That an engine that is asked to end leaves nothing is what taking down every test's looks for.
    create(&engine, &[SMALL, "true"]);
}

fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_start_does_without_what_was_killed() {
    let engine = Engine::start();
    if !are_made(&engine) {
        return;
    }
    let id = create(&engine, &[SMALL, "echo", "shim"]);
    kill(children(engine.pid())[0]);
    wait_until("the shim is gone", || children(engine.pid()).is_empty());
    assert_eq!(run(&engine, &id), "shim");
    let id = create(&engine, &[SMALL, "echo", "process"]);
    kill(children(children(engine.pid())[0])[0]);
    let failed = engine.docker(&["start", "-a", &id]);
    assert!(failed.code != 0 || failed.stdout.trim() == "process", "{failed:?}");
    assert_eq!(run(&engine, &id), "process");
}

#[test]
fn of_many_containers_some_are_prepared_and_all_start() {
    let engine = Engine::start();
    if !are_made(&engine) {
        return;
    }
    let made: Vec<String> = (0..MOST + 4)
        .map(|number| engine.docker(&["create", SMALL, "echo", &number.to_string()]).ok())
        .collect();
    assert!(children(engine.pid()).len() <= MOST);
    for (number, id) in made.iter().enumerate() {
        assert_eq!(run(&engine, id), number.to_string());
    }
}
