//! What a daemon may put on the wire, and no daemon does on request: a peer of this test answers with given bytes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use coracle_api::{ApiVersion, Filters};
use coracle_client::{AttachOptions, Client, Demultiplexer, Endpoint, Error, Output};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Answers one connection for each of `answers`, in pieces, and hands back the request heads.
fn peer(socket: &Path, answers: Vec<Vec<&'static [u8]>>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).expect("binds");
    std::thread::spawn(move || {
        let answer = |pieces: Vec<&[u8]>| {
            let (mut connection, _) = listener.accept().expect("accepts");
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).expect("a request");
                head.push(byte[0]);
            }
            for piece in pieces {
                connection.write_all(piece).expect("writes");
                connection.flush().expect("flushes");
            }
            String::from_utf8(head).expect("text")
        };
        answers.into_iter().map(answer).collect()
    })
}

fn client(socket: &Path) -> Client {
    Client::with_version(Endpoint::Unix(socket.to_owned()), ApiVersion::new(1, 45))
}

#[tokio::test]
async fn the_version_both_speak_is_agreed_on_and_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s");
    let ping: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Length: 0\r\n\r\n";
    let list: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
    let peer = peer(&socket, vec![vec![ping], vec![list]]);
    let client = Client::connect(Endpoint::Unix(socket), None).await.expect("connects");
    assert_eq!(client.version(), ApiVersion::new(1, 45));
    let mut filters = Filters::default();
    filters.add("name", "a b");
    assert!(client.containers(true, None, false, &filters).await.expect("lists").is_empty());
    let heads = peer.join().expect("served");
    assert!(heads[0].starts_with("HEAD /_ping HTTP/1.1\r\n"), "{}", heads[0]);
    let expected =
        "GET /v1.45/containers/json?all=1&filters=%7B%22name%22%3A%7B%22a%20b%22%3Atrue%7D%7D HTTP/1.1\r\n";
    assert!(heads[1].starts_with(expected), "{}", heads[1]);
}

#[tokio::test]
async fn a_daemon_too_old_to_announce_its_version_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s");
    let peer = peer(&socket, vec![vec![b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]]);
    let refused = Client::connect(Endpoint::Unix(socket), None).await;
    assert!(matches!(refused, Err(Error::TooOld { .. })), "{refused:?}");
    peer.join().expect("served");
}

#[tokio::test]
async fn refusals_carry_the_daemons_words_or_whatever_came_instead() {
    let answers: [(&[u8], u16, &str); 3] = [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\n\r\n{\"message\":\"No such thing\"}",
            404,
            "No such thing",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 8\r\n\r\n<html>x\n", 502, "<html>x"),
        (
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
            500,
            "500 Internal Server Error",
        ),
    ];
    for (answer, code, text) in answers {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("s");
        let peer = peer(&socket, vec![vec![answer]]);
        let error = client(&socket).inspect_container("a/b c").await.expect_err("refused");
        assert_eq!(error.status(), Some(code));
        assert_eq!(error.to_string(), format!("Error response from daemon: {text}"));
        let heads = peer.join().expect("served");
        assert!(heads[0].starts_with("GET /v1.45/containers/a%2Fb%20c/json "), "{}", heads[0]);
    }
}

#[tokio::test]
async fn json_lines_are_put_together_from_any_pieces() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s");
    let pieces: Vec<&[u8]> = vec![
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"{\"Action\":\"cre",
        b"ate\"}\r\n\r\n{\"Action\":\"start\"}\n{\"Act",
        b"ion\":\"die\"}",
    ];
    let peer = peer(&socket, vec![pieces]);
    let mut events = client(&socket).events(None, None, &Filters::default()).await.expect("streams");
    let mut actions = Vec::new();
    while let Some(event) = events.next().await.expect("JSON") {
        actions.push(event.action);
    }
    assert_eq!(actions, ["create", "start", "die"]);
    peer.join().expect("served");
}

#[tokio::test]
async fn a_hijacked_connection_carries_bytes_that_came_with_the_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s");
    let answer: &[u8] =
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\x01\0\0\0\0\0\0\x02hi";
    let peer = peer(&socket, vec![vec![answer]]);
    let options = AttachOptions { stdin: true, stdout: true, stderr: true, ..AttachOptions::default() };
    let mut hijacked = client(&socket).attach_container("x", &options).await.expect("upgrades");
    let mut frames = Demultiplexer::new(&mut hijacked.output);
    assert_eq!(frames.next().await.expect("framed"), Some(Output::Stdout("hi".into())));
    let head = peer.join().expect("served").remove(0);
    assert!(
        head.starts_with("POST /v1.45/containers/x/attach?stream=1&stdin=1&stdout=1&stderr=1 "),
        "{head}"
    );
    assert!(head.to_lowercase().contains("upgrade: tcp\r\n"), "{head}");
    let mut rest = Vec::new();
    hijacked.output.read_to_end(&mut rest).await.expect("the peer is gone");
    assert!(rest.is_empty());
    // The peer is gone: writing may fail, and must not hang.
    let _ = hijacked.input.write_all(b"x").await;
}

#[tokio::test]
async fn an_answer_without_an_upgrade_is_a_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s");
    let peer = peer(&socket, vec![vec![b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]]);
    let refused = client(&socket).attach_container("x", &AttachOptions::default()).await;
    assert!(matches!(refused, Err(Error::NotUpgraded { status: 200, .. })), "{refused:?}");
    peer.join().expect("served");
}

#[tokio::test]
async fn nobody_listening_comes_with_a_hint() {
    let error = Client::connect(Endpoint::Unix("/nonexistent/s".into()), None).await.expect_err("nobody");
    assert!(error.is_not_running());
    assert_eq!(error.to_string(), "cannot connect to the engine at unix:///nonexistent/s");
    assert!(error.hint().expect("a hint").contains("DOCKER_HOST"));
}
