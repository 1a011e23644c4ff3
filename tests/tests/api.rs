//! The API without a command between: negotiation, and connections that turn into streams, as old clients and libraries
//! ask for them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Sends `head` and `input`, ends the input, and returns the whole answer.
fn converse(engine: &Engine, head: &str, input: &[u8]) -> String {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(input).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn create(engine: &Engine, body: &str) -> String {
    let (status, answer) = engine.request("POST", "/v1.44/containers/create", Some(body));
    assert_eq!(status, 201, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["Id"].as_str().unwrap().to_owned()
}

#[test]
fn an_attached_stream_begins_with_the_status_that_the_client_expects() {
    let engine = Engine::start();
    for (upgrade, status) in
        [("Connection: Upgrade\r\nUpgrade: tcp\r\n", "HTTP/1.1 101 "), ("", "HTTP/1.1 200 OK\r\n")]
    {
        let body = format!(
            r#"{{"Image":"{SMALL}","Cmd":["cat"],"OpenStdin":true,"StdinOnce":true,"HostConfig":{{"NetworkMode":"none"}}}}"#
        );
        let id = create(&engine, &body);
        let head = format!(
            "POST /v1.44/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n{upgrade}Content-Length: 0\r\n\r\n"
        );
        let socket = engine.socket();
        let client = std::thread::spawn(move || {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).unwrap();
            stream.write_all(b"through").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = vec![first[0]];
            stream.read_to_end(&mut answer).unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        });
        // The container starts only once somebody is attached, or its output would have nobody.
        coracle_tests::engine::wait_until("the container starts with its client", || {
            engine.request("POST", &format!("/v1.44/containers/{id}/start"), None).0 == 204
        });
        let answer = client.join().unwrap();
        assert!(answer.starts_with(status), "{answer:?}");
        let stream = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(stream, "\u{1}\0\0\0\0\0\0\u{7}through");
        engine.request("DELETE", &format!("/v1.44/containers/{id}?force=1"), None);
    }
}

#[test]
fn an_exec_without_an_upgrade_header_answers_200_and_raw_bytes() {
    let engine = Engine::start();
    let name = engine.name("raw");
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sleep", "1000"]).ok();
    let body = r#"{"Cmd":["sh","-c","echo out; exit 3"],"AttachStdout":true,"AttachStderr":true}"#;
    let (status, answer) = engine.request("POST", &format!("/v1.24/containers/{name}/exec"), Some(body));
    assert_eq!(status, 201, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let id = answer["Id"].as_str().unwrap();
    let start = r#"{"Detach":false,"Tty":false}"#;
    let head = format!(
        "POST /v1.24/exec/{id}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        start.len()
    );
    let answer = converse(&engine, &head, start.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\u{1}\0\0\0\0\0\0\u{4}out\n"), "{answer:?}");
    let (_, exec) = engine.request("GET", &format!("/v1.24/exec/{id}/json"), None);
    let exec: serde_json::Value = serde_json::from_str(&exec).unwrap();
    assert_eq!((&exec["ExitCode"], &exec["Running"]), (&serde_json::json!(3), &serde_json::json!(false)));
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn keys_are_matched_without_regard_to_case_and_null_is_absent() {
    let engine = Engine::start();
    let body = format!(
        r#"{{"image":"{SMALL}","cmd":"true","Env":null,"HostConfig":{{"networkmode":"none","Binds":null}}}}"#
    );
    let id = create(&engine, &body);
    let (_, inspected) = engine.request("GET", &format!("/v1.44/containers/{id}/json"), None);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["HostConfig"]["NetworkMode"], "none");
    assert_eq!(inspected["Config"]["Cmd"], serde_json::json!(["true"]));
    engine.request("DELETE", &format!("/v1.44/containers/{id}"), None);
}

#[test]
fn every_version_between_the_oldest_and_the_newest_is_answered() {
    let engine = Engine::start();
    for version in ["1.24", "1.30", "1.40", "1.44", "1.45"] {
        for path in
            ["version", "info", "containers/json?all=1", "images/json", "volumes", "networks", "system/df"]
        {
            let (status, body) = engine.request("GET", &format!("/v{version}/{path}"), None);
            assert_eq!(status, 200, "v{version}/{path}: {body}");
        }
    }
}

#[test]
fn the_hardware_address_that_was_asked_for_is_shown_before_the_start() {
    let engine = Engine::start();
    let address = "02:42:ac:11:00:42";
    let endpoint =
        format!(r#""NetworkingConfig":{{"EndpointsConfig":{{"bridge":{{"MacAddress":"{address}"}}}}}}"#);
    let all = format!(r#""MacAddress":"{address}""#);
    for (version, asked) in [("v1.44", &endpoint), ("v1.43", &all)] {
        let body = format!(r#"{{"Image":"{SMALL}","Cmd":["true"],{asked}}}"#);
        let (status, text) = engine.request("POST", &format!("/{version}/containers/create"), Some(&body));
        let created: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 201, "{text}");
        let id = created["Id"].as_str().unwrap();
        let (_, inspected) = engine.request("GET", &format!("/v1.45/containers/{id}/json"), None);
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(inspected["Config"]["MacAddress"], address, "{version}");
        engine.request("DELETE", &format!("/v1.45/containers/{id}"), None);
    }
}

#[test]
fn documents_of_plugins_are_looked_at_before_the_plugins() {
    let engine = Engine::start();
    for path in ["/plugins/foobar/set", "/plugins/foobar/upgrade", "/plugins/pull"] {
        let (status, text) = engine.request("POST", &format!("/v1.45{path}"), Some("{invalid"));
        let expected = "invalid JSON: invalid character 'i' looking for beginning of object key string";
        assert_eq!((status, text.contains(expected)), (400, true), "{path}: {text}");
    }
    let (status, _) = engine.request("POST", "/v1.45/plugins/foobar/set", Some("[]"));
    assert_eq!(status, 404);
}
