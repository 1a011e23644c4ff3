//! What Prometheus gets to see, by Docker's names. The original is asked where `TARGET_METRICS` says, 127.0.0.1:9323 for instance,
//! and is one that nobody else uses meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where it is")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

/// An engine that tells its numbers, and where.
fn measured() -> Option<(Engine, String)> {
    if std::env::var_os("TARGET").is_some() {
        return Some((Engine::start(), std::env::var("TARGET_METRICS").ok()?));
    }
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    Some((Engine::start_with(&["--metrics-addr", &address]), address))
}

/// Head and body of an answer.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The number of a line that begins so.
fn value(text: &str, name: &str) -> f64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.unwrap_or_else(|| panic!("{name} in {text}")).trim().parse().unwrap()
}

#[test]
fn an_engine_tells_its_numbers_by_dockers_names() {
    let Some((engine, address)) = measured() else { return };
    let before = get(&address, "/metrics").1;
    let state = |text: &str, state: &str| {
        value(text, &format!("engine_daemon_container_states_containers{{state=\"{state}\"}}"))
    };
    let done = |text: &str, action: &str| {
        value(text, &format!("engine_daemon_container_actions_seconds_count{{action=\"{action}\"}}"))
    };
    let name = engine.name("measured");
    let check = ["--health-cmd", "exit 1", "--health-interval", "100ms", "--health-retries", "1000"];
    engine
        .docker(&[&["run", "-d", "--init", "--name", &name][..], &check, &[SMALL, "sleep", "1000"]].concat())
        .ok();
    engine.docker(&["create", SMALL, "true"]).ok();
    engine.docker(&["diff", &name]).ok();
    let refused = engine.docker(&["start", "nosuch"]);
    assert_ne!(refused.code, 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let after = loop {
        let after = get(&address, "/metrics").1;
        // Docker's are checks that could not be carried out or took too long; ours are all that did not succeed.
        let name = if engine.is_original() { "total" } else { "failed_total" };
        if value(&after, &format!("engine_daemon_health_checks_{name}")) > 0.0 {
            break after;
        }
        assert!(std::time::Instant::now() < deadline, "{after}");
    };
    assert!((state(&after, "running") - state(&before, "running") - 1.0).abs() < 0.1, "{after}");
    assert!((state(&after, "stopped") - state(&before, "stopped") - 1.0).abs() < 0.1, "{after}");
    for (action, times) in [("create", 2.0), ("start", 1.0), ("changes", 1.0), ("delete", 0.0)] {
        assert!((done(&after, action) - done(&before, action) - times).abs() < 0.1, "{action}: {after}");
    }
    let checks = "engine_daemon_health_checks_total";
    assert!(value(&after, checks) >= value(&after, "engine_daemon_health_checks_failed_total"));
    assert!(value(&after, "engine_daemon_events_total ") > value(&before, "engine_daemon_events_total "));
    engine.docker(&["pause", &name]).ok();
    let paused = get(&address, "/metrics").1;
    assert!((state(&paused, "paused") - state(&before, "paused") - 1.0).abs() < 0.1, "{paused}");
    engine.docker(&["rm", "-f", &name]).ok();
    let removed = get(&address, "/metrics").1;
    assert!((done(&removed, "delete") - done(&before, "delete") - 1.0).abs() < 0.1, "{removed}");
    // What the machine has, and who the engine is.
    assert!(
        value(&after, "engine_daemon_engine_memory_bytes") > 1e8
            && value(&after, "engine_daemon_engine_cpus_cpus") >= 1.0
    );
    let info = after.lines().find(|line| line.starts_with("engine_daemon_engine_info{")).unwrap();
    for label in [
        "architecture",
        "commit",
        "daemon_id",
        "graphdriver",
        "kernel",
        "os",
        "os_type",
        "os_version",
        "version",
    ] {
        assert!(info.contains(&format!("{label}=\"")), "{label}: {info}");
    }
    assert!(info.ends_with("} 1"), "{info}");
    for (name, kind) in [
        ("engine_daemon_container_actions_seconds", "histogram"),
        ("engine_daemon_container_states_containers", "gauge"),
        ("engine_daemon_engine_info", "gauge"),
        ("engine_daemon_events_subscribers_total", "gauge"),
        ("engine_daemon_events_total", "counter"),
        ("engine_daemon_health_checks_failed_total", "counter"),
        (checks, "counter"),
    ] {
        assert!(after.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
    }
    let (head, _) = get(&address, "/metrics");
    assert!(
        head.starts_with("HTTP/1.0 200")
            && head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(get(&address, "/").0.starts_with("HTTP/1.0 404"));
}

#[test]
fn an_address_that_is_of_no_use_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = tempfile::tempdir().unwrap();
    for address in [taken.local_addr().unwrap().to_string(), "nonsense".to_owned()] {
        let roots = ["data", "run"].map(|name| place.path().join(name).display().to_string());
        let output = Command::new(coracle_tests::engine::programs().join("coracle"))
            .args(["daemon", "--data-root", &roots[0], "--exec-root", &roots[1], "--metrics-addr", &address])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(&address), "{told}");
    }
}
