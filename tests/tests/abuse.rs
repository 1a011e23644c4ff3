//! Clients and containers that mean harm: whatever they do, the engine answers, stays small, and nothing is left.
//!
//! `CORACLE_LONG=1` makes everything as large as it is told in the names; otherwise it is a tenth or less of that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where it is")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::pulse::{Pulse, descriptors};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Mebibytes that the engine may grow by while it is abused.
const GROWTH: u64 = 64;

fn is_long() -> bool {
    std::env::var_os("CORACLE_LONG").is_some()
}

/// `all` in a long run, `few` otherwise.
fn times<T>(all: T, few: T) -> T {
    if is_long() { all } else { few }
}

/// A connection on which this was said.
fn say(engine: &Engine, text: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.own_socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// A request without a body, or the head of one with a body.
fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} /v1.44{path} HTTP/1.1\r\nHost: d\r\n{more}\r\n")
}

/// A request for a stream both ways.
fn hijack(path: &str, body: &str) -> String {
    let more = format!(
        "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    head("POST", path, &more) + body
}

/// The head of the answer.
fn answered(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn start(engine: &Engine, name: &str, options: &[&str], script: &str) -> String {
    let name = engine.name(name);
    let fixed = ["run", "-d", "--name", &name, "--stop-timeout", "1"];
    engine.docker(&[&fixed[..], options, &[SMALL, "sh", "-c", script]].concat()).ok();
    name
}

fn exec(engine: &Engine, container: &str, command: &str) -> String {
    let body = format!(r#"{{"AttachStdout":true,"Cmd":{command}}}"#);
    let (status, answer) =
        engine.request("POST", &format!("/v1.44/containers/{container}/exec"), Some(&body));
    assert_eq!(status, 201, "{answer}");
    answer.split('"').nth(3).unwrap().to_owned()
}

#[test]
fn a_body_of_a_gibibyte_where_a_document_belongs_is_refused() {
    let engine = Engine::start();
    let pulse = Pulse::of(&engine);
    let size: usize = times(1 << 30, 64 << 20);
    let more = format!("Content-Type: application/json\r\nContent-Length: {size}\r\n");
    let mut stream = say(&engine, &head("POST", "/containers/create", &more));
    let piece = vec![b' '; 1 << 20];
    for _ in 0..size >> 20 {
        // An engine that has heard enough may close.
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let answer = answered(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 413 ") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    pulse.was_steady(GROWTH);
}

#[test]
fn a_document_of_a_hundred_thousand_levels_is_refused() {
    let engine = Engine::start();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!(
            "{{\"Image\":\"{SMALL}\",\"Labels\":{}1{}}}",
            open.repeat(100_000),
            close.repeat(100_000)
        );
        let (status, answer) = engine.request("POST", "/v1.44/containers/create", Some(&deep));
        assert_eq!(status, 400, "{answer}");
    }
    let filters = "%5B".repeat(20_000);
    let (status, answer) = engine.request("GET", &format!("/v1.44/containers/json?filters={filters}"), None);
    assert!((400..500).contains(&status), "{status} {answer}");
}

#[test]
fn requests_that_never_end_hold_nobody_else_up() {
    let engine = Engine::start();
    let pulse = Pulse::of(&engine);
    let unfinished = [
        "GET /_ping HTTP/1.1\r\nHost: d\r\nX: ".to_owned(),
        head(
            "POST",
            "/containers/create",
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
        ) + "5\r\n{\"Ima",
        head("POST", "/containers/create", "Content-Type: application/json\r\nContent-Length: 100\r\n") + "{",
        head("POST", "/images/load", "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n")
            + "3\r\nabc\r\n",
        head("POST", "/build", "Content-Type: application/x-tar\r\nContent-Length: 1000000\r\n"),
    ];
    let held: Vec<UnixStream> =
        (0..times(1000, 200)).map(|number| say(&engine, &unfinished[number % unfinished.len()])).collect();
    let names: Vec<String> =
        (0..5).map(|number| start(&engine, &format!("beside-{number}"), &[], "exit 0")).collect();
    for name in names {
        engine.docker(&["wait", &name]).ok();
    }
    drop(held);
    pulse.was_steady(GROWTH);
}

#[test]
fn a_head_without_an_end_is_not_kept() {
    let engine = Engine::start();
    let pulse = Pulse::of(&engine);
    let mut stream = say(&engine, "GET /_ping HTTP/1.1\r\nHost: d\r\n");
    let line = format!("X-Much: {}\r\n", "x".repeat(1 << 20));
    for _ in 0..times(1024, 64) {
        if let Err(error) = stream.write_all(line.as_bytes()) {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
            break;
        }
    }
    let answer = answered(&mut stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    pulse.was_steady(GROWTH);
}

#[test]
fn clients_that_never_read_neither_fill_the_engine_nor_stop_a_container() {
    let engine = Engine::start();
    let name = start(&engine, "loud", &[], "i=0; while :; do i=$((i+1)); echo line $i of many; done");
    let pulse = Pulse::of(&engine);
    let each = times(50, 10);
    let mut deaf = Vec::new();
    for _ in 0..each {
        deaf.push(say(&engine, &hijack(&format!("/containers/{name}/attach?stream=1&stdout=1&logs=1"), "")));
        deaf.push(say(&engine, &head("GET", &format!("/containers/{name}/logs?follow=1&stdout=1"), "")));
        deaf.push(say(&engine, &head("GET", &format!("/containers/{name}/stats"), "")));
        deaf.push(say(&engine, &head("GET", "/events", "")));
        let id = exec(&engine, &name, r#"["yes"]"#);
        deaf.push(say(&engine, &hijack(&format!("/exec/{id}/start"), r#"{"Detach":false}"#)));
    }
    let last = || {
        let line = engine.docker(&["logs", "--tail", "1", &name]).ok();
        line.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    // Whoever reads gets new lines however many do not.
    for _ in 0..times(100, 10) {
        let before = last();
        wait_until("the container goes on writing", || last() > before);
    }
    pulse.was_steady(GROWTH);
    drop(deaf);
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn ten_thousand_idle_hijacks_are_borne_and_forgotten() {
    let engine = Engine::start();
    let name = start(&engine, "quiet", &[], "exec sleep 1000");
    let before = (!engine.is_original()).then(|| descriptors(engine.pid()));
    let pulse = Pulse::of(&engine);
    // Each needs a descriptor here as well, and more than one in the engine.
    let mut idle = Vec::new();
    let mut refused = false;
    for _ in 0..times(10_000, 1_000) {
        let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1");
        let mut stream = say(&engine, &hijack(&path, ""));
        let answer = answered(&mut stream);
        if answer.starts_with("HTTP/1.1 503 ") && !engine.is_original() {
            // Where its limit is low, the engine keeps descriptors for those who want no stream.
            assert!(idle.len() > 8_000, "refused after {}", idle.len());
            refused = true;
            continue;
        }
        assert!(answer.starts_with("HTTP/1.1 101 "), "{} before: {answer}", idle.len());
        idle.push(stream);
    }
    if refused {
        // Streams of others come again when some have gone.
        idle.truncate(8_000);
    }
    wait_until("others have their streams", || {
        engine.docker(&["exec", &name, "echo", "still here"]).stdout.trim() == "still here"
    });
    pulse.was_steady(times(256, GROWTH));
    drop(idle);
    if let Some(before) = before {
        wait_until("what they held is given back", || descriptors(engine.pid()) <= before + 4);
    }
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn attaches_that_break_off_leave_nothing() {
    let engine = Engine::start();
    let name = start(&engine, "abandoned", &[], "exec cat");
    let before = (!engine.is_original()).then(|| descriptors(engine.pid()));
    let pulse = Pulse::of(&engine);
    for number in 0..times(5_000, 500) {
        let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1");
        let mut stream = say(&engine, &hijack(&path, ""));
        if number % 2 == 0 {
            answered(&mut stream);
        }
        if number % 3 == 0 {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
    pulse.was_steady(32);
    if let Some(before) = before {
        wait_until("what they held is given back", || descriptors(engine.pid()) <= before + 4);
    }
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn resizes_without_end_are_answered() {
    let engine = Engine::start();
    let name = start(&engine, "resized", &["-t"], "exec sleep 1000");
    let pulse = Pulse::of(&engine);
    let mut stream = say(&engine, "");
    for number in 0..times(100_000, 5_000) {
        let path = format!("/containers/{name}/resize?h={}&w={}", number % 65_535 + 1, 80);
        stream.write_all(head("POST", &path, "Content-Length: 0\r\n").as_bytes()).unwrap();
        let answer = answered(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    pulse.was_steady(32);
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn fork_bombs_are_killed_within_five_seconds() {
    let engine = Engine::start();
    let pulse = Pulse::of(&engine);
    // A bomb ends of itself when its shells can make no more processes. One follows another, from a program that goes on then.
    let bomb = r#"exec awk 'BEGIN { while (1) system("bomb() { bomb | bomb & }; bomb") }'"#;
    let names: Vec<String> = (0..2)
        .map(|number| start(&engine, &format!("bomb-{number}"), &["--pids-limit", "200"], bomb))
        .collect();
    for name in &names {
        wait_until("the bomb has gone off", || {
            let answer =
                engine.request("GET", &format!("/v1.44/containers/{name}/stats?stream=0&one-shot=1"), None).1;
            let pids =
                answer.split("\"pids_stats\":{\"current\":").nth(1).and_then(|rest| rest.split(',').next());
            pids.and_then(|count| count.parse().ok()) >= Some(150)
        });
    }
    for name in &names {
        let begin = Instant::now();
        engine.docker(&["kill", name]).ok();
        assert!(begin.elapsed() < Duration::from_secs(5), "killed after {:?}", begin.elapsed());
        engine.docker(&["rm", "-f", name]).ok();
    }
    pulse.was_steady(GROWTH);
}

#[test]
fn floods_of_output_are_bounded_and_end_when_they_are_stopped() {
    let engine = Engine::start();
    let pulse = Pulse::of(&engine);
    let scripts = ["yes", "yes >&2", "cat /dev/zero", "while :; do echo; done"];
    let options = ["--log-opt", "max-size=4m", "--log-opt", "max-file=2"];
    let names: Vec<String> = scripts
        .iter()
        .enumerate()
        .map(|(number, script)| start(&engine, &format!("flood-{number}"), &options, script))
        .collect();
    let until = Instant::now() + Duration::from_secs(times(60, 3));
    while Instant::now() < until {
        for name in &names {
            engine.docker(&["logs", "--tail", "2", name]).ok();
        }
    }
    for name in &names {
        let begin = Instant::now();
        engine.docker(&["stop", "-t", "1", name]).ok();
        assert!(begin.elapsed() < Duration::from_secs(6), "{name} was stopped after {:?}", begin.elapsed());
    }
    pulse.was_steady(GROWTH);
    if !engine.is_original() {
        let logs = size_of(&engine.directory().join("data/containers"));
        assert!(logs < names.len() as u64 * (9 << 20), "logs of {logs} bytes");
    }
}

/// Bytes of the files below a directory.
fn size_of(path: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            _ => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

#[test]
fn a_line_of_a_gigabyte_comes_back_whole() {
    let engine = Engine::start();
    let pulse = Pulse::of(&engine);
    let size: usize = times(1 << 30, 48 << 20);
    let name = start(
        &engine,
        "line",
        &["--log-opt", "max-size=-1"],
        &format!("head -c {size} /dev/zero | tr '\\0' x; echo"),
    );
    engine.docker(&["wait", &name]).ok();
    let mut stream =
        say(&engine, &head("GET", &format!("/containers/{name}/logs?stdout=1"), "Connection: close\r\n"));
    let (mut count, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        let length = stream.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        count += buffer[..length].iter().filter(|byte| **byte == b'x').count();
    }
    // The head of the answer has two of them.
    assert!((size..size + 64).contains(&count), "{count} bytes of {size}");
    pulse.was_steady(GROWTH);
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn a_full_disk_stops_nobody_and_what_frees_it_works() {
    // The original has the disk of all.
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let mut engine = Engine::start_on_disk(24);
    let quiet = start(&engine, "quiet", &["--restart", "always"], "exec sleep 1000");
    let loud = start(
        &engine,
        "loud",
        &["--tmpfs", "/count"],
        "while :; do echo more >> /count/file; echo line; done",
    );
    let counted = || {
        let size = engine.docker(&["exec", &loud, "stat", "-c", "%s", "/count/file"]).ok();
        size.trim().parse::<u64>().unwrap_or_default()
    };
    let pulse = Pulse::of(&engine);
    let filler = engine.name("filler");
    let filled =
        engine.docker(&["run", "--name", &filler, SMALL, "dd", "if=/dev/zero", "of=/fill", "bs=64k"]);
    assert_ne!(filled.code, 0);
    assert!(filled.stderr.contains("No space left on device"), "{}", filled.stderr);

    // Nobody who runs is stopped by it, not even by lines that cannot be kept.
    let before = counted();
    wait_until("the loud one goes on", || counted() > before + 10_000);
    engine.docker(&["logs", "--tail", "1", &loud]).ok();
    assert!(engine.docker(&["ps", "-q"]).ok().lines().count() == 2);

    // What needs room fails with the reason, and leaves nothing.
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4 << 20);
    archive.append_data(&mut header, "file", std::io::repeat(7).take(4 << 20)).unwrap();
    let image = engine.name("image");
    let refused = engine.docker_with_input(&["import", "-", &image], &archive.into_inner().unwrap());
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("no space left") || refused.stderr.contains("No space left"),
        "{}",
        refused.stderr
    );
    assert_eq!(engine.docker(&["images", "-q", &image]).ok(), "");
    pulse.was_steady(GROWTH);

    // An engine that is killed comes back, and knows everybody.
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", &quiet]).ok();
    engine.kill();
    // What the database's memory file took before its start has been taken by somebody else.
    let data = engine.directory().join("data");
    std::fs::write(data.join("meta.db-shm"), "").unwrap();
    let mut taken = std::fs::File::create(data.join("taken")).unwrap();
    while taken.write_all(&[7; 4096]).is_ok() {}
    engine.start_again();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Pid}}", &quiet]).ok(), pid);
    std::fs::remove_file(data.join("taken")).unwrap();

    // And what makes room can be done.
    engine.docker(&["stop", &quiet]).ok();
    engine.docker(&["rm", "-f", &loud]).ok();
    engine.docker(&["rm", &filler]).ok();
    wait_until("there is room again", || {
        engine.docker(&["run", "--rm", SMALL, "dd", "if=/dev/zero", "of=/fill", "bs=64k", "count=64"]).code
            == 0
    });
    engine.docker(&["start", &quiet]).ok();
    engine.docker(&["exec", &quiet, "true"]).ok();
}
