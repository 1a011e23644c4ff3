//! Where the streams of who attaches begin and end: nothing is lost or doubled between what is logged and what is heard, and
//! who has heard the end finds it on record.

use coracle_tests::image::SMALL;
use coracle_tests::{Engine, race_iterations};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// A client that is attached to a container.
fn attach(engine: &Engine, name: &str, query: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.own_socket()).expect("the engine answers");
    let head = format!(
        "POST /v1.45/containers/{name}/attach?{query} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it listens");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// What is in the frames of one stream of `all`.
fn unframed(mut all: &[u8], stream: u8) -> Vec<u8> {
    let mut found = Vec::new();
    while let [of, _, _, _, a, b, c, d, rest @ ..] = all {
        let (bytes, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if *of == stream {
            found.extend_from_slice(bytes);
        }
        all = rest;
    }
    assert!(all.is_empty(), "half a frame");
    found
}

/// Whether a container runs, and how it ended.
fn state(engine: &Engine, name: &str) -> (bool, i64) {
    let (status, answer) = engine.request("GET", &format!("/v1.45/containers/{name}/json"), None);
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let state = &answer["State"];
    (state["Running"] == true, state["ExitCode"].as_i64().expect("a number"))
}

#[test]
fn who_hears_the_end_of_the_streams_finds_the_end_on_record() {
    let engine = Engine::start();
    let turns = race_iterations(40);
    // With a terminal, a reaper, more than one thread of output, and nothing to say at all.
    let kinds: [(&[&str], &str); 4] = [
        (&[], "echo word; exit 7"),
        (&["-t"], "echo word; exit 7"),
        (&["--init", "--network", "none"], "(sleep 1000 &) ; echo word; exit 7"),
        (&["--network", "none"], "exit 7"),
    ];
    let mut wrong = Vec::new();
    for turn in 0..turns {
        let (options, script) = kinds[turn as usize % kinds.len()];
        let name = engine.name(&format!("ends{turn}"));
        engine.docker(&[&["create", "--name", &name], options, &[SMALL, "sh", "-c", script]].concat()).ok();
        let mut stream = attach(&engine, &name, "stream=1&stdout=1&stderr=1");
        assert_eq!(engine.request("POST", &format!("/v1.45/containers/{name}/start"), None).0, 204);
        stream.read_to_end(&mut Vec::new()).unwrap();
        let found = state(&engine, &name);
        if found != (false, 7) {
            wrong.push((turn, found));
        }
        engine.docker(&["rm", "-f", &name]).ok();
    }
    if engine.is_original() {
        // It has the same race, and loses it rarely.
        assert!(wrong.len() < turns as usize, "{wrong:?}");
    } else {
        assert!(wrong.is_empty(), "{} of {turns}: {wrong:?}", wrong.len());
    }
}

#[test]
fn what_has_ended_is_started_again_at_once() {
    let engine = Engine::start();
    let name = engine.name("again");
    engine.docker(&["create", "--name", &name, "--network", "none", SMALL, "true"]).ok();
    for turn in 0..race_iterations(100) {
        let mut stream = attach(&engine, &name, "stream=1&stdout=1&stderr=1");
        let (status, answer) = engine.request("POST", &format!("/v1.45/containers/{name}/start"), None);
        assert_eq!(status, 204, "turn {turn}: {answer}");
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn who_closes_the_output_and_goes_on_is_not_waited_for() {
    let engine = Engine::start();
    if engine.is_original() {
        // It says the end with that of the container alone.
        return;
    }
    let name = engine.name("silent");
    let script = "echo word; exec sleep 1000 >&- 2>&-";
    engine.docker(&["create", "--name", &name, SMALL, "sh", "-c", script]).ok();
    let mut stream = attach(&engine, &name, "stream=1&stdout=1&stderr=1");
    assert_eq!(engine.request("POST", &format!("/v1.45/containers/{name}/start"), None).0, 204);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(unframed(&all, 1), b"word\n");
    assert!(state(&engine, &name).0, "it runs");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn a_past_goes_over_into_the_present_without_a_seam() {
    let engine = Engine::start();
    if engine.is_original() {
        // Docker reads the log first and attaches then, and loses what is written in between.
        return;
    }
    let name = engine.name("counts");
    // Whole lines, halves of lines, and more than is kept in one file; both streams.
    let script = "i=0; while [ $i -lt 4000 ]; do printf $i; echo; echo $i >&2; i=$((i+1)); done; printf end";
    for _ in 0..race_iterations(4) {
        let logs = ["--log-opt", "max-size=40k", "--log-opt", "max-file=100"];
        let options = [&["run", "-d", "--name", &name][..], &logs, &[SMALL, "sh", "-c", script]].concat();
        engine.docker(&options).ok();
        let query = "logs=1&stream=1&stdout=1&stderr=1";
        let clients: Vec<_> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut all = Vec::new();
                        attach(&engine, &name, query).read_to_end(&mut all).unwrap();
                        all
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let lines: String = (0..4000).map(|number| format!("{number}\n")).collect();
        for all in clients {
            assert_eq!(String::from_utf8(unframed(&all, 2)).unwrap(), lines);
            assert_eq!(String::from_utf8(unframed(&all, 1)).unwrap(), format!("{lines}end"));
        }
        assert!(!state(&engine, &name).0, "it has ended");
        engine.docker(&["rm", "-f", &name]).ok();
    }
}
