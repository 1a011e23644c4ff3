//! The API without a command: create, start, wait, remove, each over a connection of its own.

use coracle_tests::image::SMALL;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Runs `true` in a container and removes it.
///
/// # Panics
/// When a request fails.
pub fn run_once(socket: &str, network: &str) {
    let body = format!(r#"{{"Image":"{SMALL}","Cmd":["true"],"HostConfig":{{"NetworkMode":"{network}"}}}}"#);
    let created = request(socket, "POST", "/v1.44/containers/create", &body);
    let created: serde_json::Value = serde_json::from_str(&created).unwrap_or_default();
    let id = created["Id"].as_str().unwrap_or_else(|| panic!("no container was made: {created}")).to_owned();
    request(socket, "POST", &format!("/v1.44/containers/{id}/start"), "");
    request(socket, "POST", &format!("/v1.44/containers/{id}/wait"), "");
    request(socket, "DELETE", &format!("/v1.44/containers/{id}"), "");
}

/// Sends a request over a connection of its own, and returns the body of the answer, without taking chunks apart.
///
/// # Panics
/// When it is not answered with success.
pub fn request(socket: &str, method: &str, path: &str, body: &str) -> String {
    let failed = |error: std::io::Error| -> String { panic!("{method} {path}: {error}") };
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return failed(error),
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = String::new();
    if let Err(error) =
        stream.write_all(format!("{head}{body}").as_bytes()).and_then(|()| stream.read_to_string(&mut answer))
    {
        return failed(error);
    }
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(status.starts_with('2'), "{method} {path}: {answer}");
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
