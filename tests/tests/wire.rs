//! What goes over the connection itself: upgraded, plain and kept connections, half-closed ones, early bytes, types of
//! bodies. Other clients than the docker command depend on each of these.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How an answer begins, and what it carries.
struct Answer {
    status: String,
    headers: String,
    body: Vec<u8>,
}

struct Connection(UnixStream);

impl Connection {
    fn open(engine: &Engine) -> Self {
        let stream = UnixStream::connect(engine.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\n{headers}{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Reads the head of an answer, and not one byte more.
    fn head(&mut self) -> Answer {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        Answer { status: status.to_owned(), headers: headers.to_lowercase(), body: Vec::new() }
    }

    /// Reads an answer whose length is told, so that the connection can be used again.
    fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let length = answer.headers.lines().find_map(|line| line.strip_prefix("content-length: "));
        answer.body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut answer.body).unwrap();
        answer
    }

    /// Reads to the end of the stream.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

/// A frame as Docker writes output that is no terminal's.
fn frame(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
}

/// The output in frames, however it was cut.
fn unframed(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while let [_, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
        let (part, after) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        text.push_str(std::str::from_utf8(part).unwrap());
        bytes = after;
    }
    assert!(bytes.is_empty(), "no frame: {bytes:?}");
    text
}

fn exec(engine: &Engine, container: &str, command: &[&str]) -> String {
    let body = serde_json::json!({
        "Cmd": command, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true
    });
    let (status, body) =
        engine.request("POST", &format!("/v1.44/containers/{container}/exec"), Some(&body.to_string()));
    assert_eq!(status, 201, "{body}");
    serde_json::from_str::<serde_json::Value>(&body).unwrap()["Id"].as_str().unwrap().to_owned()
}

fn running(engine: &Engine, name: &str) -> String {
    let name = engine.name(name);
    engine.docker(&["run", "-d", "--init", "--name", &name, SMALL, "sleep", "1000"]).ok();
    name
}

#[test]
fn an_upgraded_connection_carries_both_ways_and_ends_one_way_first() {
    let engine = Engine::start();
    let container = running(&engine, "up");
    let id = exec(&engine, &container, &["sh", "-c", "cat; echo done"]);
    let mut connection = Connection::open(&engine);
    connection.send(
        "POST",
        &format!("/v1.44/exec/{id}/start"),
        "Connection: Upgrade\r\nUpgrade: tcp\r\n",
        "{}",
    );
    let head = connection.head();
    assert!(head.status.starts_with("HTTP/1.1 101 "), "{}", head.status);
    assert!(head.headers.contains("content-type: application/vnd.docker.multiplexed-stream"));
    assert!(head.headers.contains("upgrade: tcp"));
    connection.0.write_all(b"hello\n").unwrap();
    connection.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(unframed(&connection.rest()), "hello\ndone\n");
}

#[test]
fn a_plain_client_hears_200_and_what_it_sent_early_arrives() {
    let engine = Engine::start();
    let container = running(&engine, "plain");
    let id = exec(&engine, &container, &["sh", "-c", "read line; echo got $line"]);
    let mut connection = Connection::open(&engine);
    // The input follows the document at once, before any answer; the original loses such bytes.
    let (early, late) = if engine.is_original() { ("", "early\n") } else { ("early\n", "") };
    let request = format!(
        "POST /v1.44/exec/{id}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{{}}{early}"
    );
    connection.0.write_all(request.as_bytes()).unwrap();
    let head = connection.head();
    assert_eq!(head.status, "HTTP/1.1 200 OK");
    assert!(head.headers.contains("content-type: application/vnd.docker.raw-stream"), "{}", head.headers);
    assert!(!head.headers.contains("upgrade"), "{}", head.headers);
    connection.0.write_all(late.as_bytes()).unwrap();
    assert_eq!(connection.rest(), frame(1, "got early\n"));
}

#[test]
fn a_kept_connection_without_the_header_gets_the_output() {
    let engine = Engine::start();
    let container = running(&engine, "kept");
    let id = exec(&engine, &container, &["echo", "here"]);
    let mut connection = Connection::open(&engine);
    connection.send("GET", "/_ping", "", "");
    assert_eq!(connection.answer().body, b"OK");
    connection.send("POST", &format!("/v1.44/exec/{id}/start"), "Connection: close\r\n", "{}");
    let head = connection.head();
    assert_eq!(head.status, "HTTP/1.1 200 OK");
    // Docker writes it bare, we in chunks; either holds the frame whole.
    let rest = connection.rest();
    let wanted = frame(1, "here\n");
    assert!(rest.windows(wanted.len()).any(|part| part == wanted), "{rest:?}");
}

#[test]
fn wait_tells_its_head_before_the_container_ends() {
    let engine = Engine::start();
    let container = running(&engine, "wait");
    let mut connection = Connection::open(&engine);
    connection.send("POST", &format!("/v1.44/containers/{container}/wait?condition=next-exit"), "", "");
    let head = connection.head();
    assert_eq!(head.status, "HTTP/1.1 200 OK");
    engine.docker(&["kill", &container]).ok();
    let mut body = String::new();
    let mut part = [0; 256];
    while !body.contains('}') {
        let length = connection.0.read(&mut part).unwrap();
        assert_ne!(length, 0, "{body}");
        body.push_str(std::str::from_utf8(&part[..length]).unwrap());
    }
    assert!(body.contains("\"StatusCode\":137"), "{body}");
}

#[test]
fn documents_are_json_and_end() {
    let engine = Engine::start();
    let path = "/v1.44/containers/create";
    for (head, body, status, text) in [
        ("Content-Type: text/plain\r\n", "{}", "400", "must be 'application/json'"),
        ("", "{}", "400", "malformed Content-Type header"),
        ("Content-Type: application/json\r\n", "{} x", "400", "unexpected content after JSON"),
        ("Content-Type: application/json\r\n", "", "400", "EOF"),
        (
            "Content-Type: application/json\r\nExpect: 100-continue\r\n",
            "{\"Image\":\"no-such\"}",
            "404",
            "No such image",
        ),
    ] {
        let mut connection = Connection::open(&engine);
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: d\r\n{head}Content-Length: {length}\r\n\r\n{body}");
        connection.0.write_all(request.as_bytes()).unwrap();
        let mut answer = connection.answer();
        if answer.status.contains("100") {
            answer = connection.answer();
        }
        let found = String::from_utf8(answer.body).unwrap();
        assert!(answer.status.contains(status), "{head}{body}: {} {found}", answer.status);
        assert!(found.contains("\"message\"") && found.contains(text), "{head}{body}: {found}");
    }
}

#[test]
fn a_refusal_takes_the_body_that_comes_after_it() {
    let engine = Engine::start();
    for path in ["/v1.1/containers/create", "/v1.44/swarm/init", "/v1.44/plugins/create", "/v1.44/nowhere"] {
        let mut connection = Connection::open(&engine);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        );
        connection.0.write_all(head.as_bytes()).unwrap();
        // The original waits for the body first; and it would join a swarm.
        if engine.is_original() {
            return;
        }
        let answer = connection.answer();
        assert!(!answer.status.contains("200"), "{path}: {}", answer.status);
        connection.0.write_all(b"{}").unwrap();
        connection.send("GET", "/_ping", "", "");
        assert_eq!(connection.answer().body, b"OK", "{path}");
    }
}

#[test]
fn every_answer_names_the_version_and_failures_are_documents() {
    let engine = Engine::start();
    for (path, status) in [("/_ping", "200"), ("/v1.1/info", "400")] {
        let mut connection = Connection::open(&engine);
        connection.send("GET", path, "", "");
        let answer = connection.answer();
        assert!(answer.status.contains(status), "{path}: {}", answer.status);
        for header in ["api-version: 1.", "ostype: linux", "server: "] {
            assert!(answer.headers.contains(header), "{path} lacks {header}: {}", answer.headers);
        }
    }
    let mut connection = Connection::open(&engine);
    connection.send("HEAD", "/_ping", "", "");
    let head = connection.head();
    for header in ["builder-version: ", "swarm: inactive", "docker-experimental: false"] {
        assert!(head.headers.contains(header), "{}", head.headers);
    }
}

/// The log of a container that has ended comes at once with its end. Testcontainers of Node read it on a connection that does not keep
/// their program alive, which is over before a second piece comes. Docker writes pieces, mostly faster than anybody reads.
#[test]
fn a_short_log_comes_in_one_piece() {
    let engine = Engine::start();
    let name = engine.name("short");
    engine.docker(&["run", "--name", &name, "--network", "none", SMALL, "echo", "migrated"]).ok();
    if !engine.is_original() {
        for follow in ["0", "1"] {
            // Past whoever watches the answers, who may cut them.
            let mut stream = UnixStream::connect(engine.own_socket()).unwrap();
            let request =
                format!("GET /containers/{name}/logs?stdout=1&follow={follow} HTTP/1.1\r\nHost: d\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..count]);
            assert!(text.starts_with("HTTP/1.1 200") && text.contains("migrated\n"), "{text}");
            assert!(text.ends_with("\r\n0\r\n\r\n"), "{text}");
        }
    }
    engine.docker(&["rm", &name]).ok();
}
