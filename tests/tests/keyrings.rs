//! The session keyring of a container: its own, and nobody else's.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;

/// With these a container sees the keys that it has, which are hidden otherwise.
const OPEN: [&str; 2] = ["--security-opt", "systempaths=unconfined"];
/// Prints serial number and name of each session keyring that is seen.
const LIST: [&str; 3] = ["sh", "-c", "awk '$8 == \"keyring\" && $9 ~ /^_ses/ {print $1, $9}' /proc/keys"];

fn serial(listed: &str) -> String {
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 1, "one session keyring, and no other is seen: {listed:?}");
    lines[0].split(' ').next().unwrap().to_owned()
}

/// Another user than root sees what it possesses and nothing of root's.
#[test]
fn a_container_and_its_execs_have_a_session_keyring_that_no_other_has() {
    let engine = Engine::start();
    let mut serials = Vec::new();
    for name in ["one", "two"] {
        let name = engine.name(name);
        let run = ["run", "-d", "--name", &name, "--network", "none", "--user", "1234"];
        let script = format!("{}; exec sleep 1000", LIST[2]);
        engine.docker(&[&run[..], &OPEN, &[SMALL, "sh", "-c", &script]].concat()).ok();
        wait_until("it has listed", || !engine.docker(&["logs", &name]).stdout.is_empty());
        let first = serial(&engine.docker(&["logs", &name]).ok());
        let exec = ["exec", &name];
        assert_eq!(serial(&engine.docker(&[&exec[..], &LIST].concat()).ok()), first, "its execs are in it");
        serials.push(first);
    }
    let run = ["run", "--rm", "--network", "none", "--user", "1234"];
    serials.push(serial(&engine.docker(&[&run[..], &OPEN, &[SMALL], &LIST].concat()).ok()));
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 3, "each has its own: {serials:?}");
}
