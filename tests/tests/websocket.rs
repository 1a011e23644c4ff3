//! Attaching over a websocket, by a client that knows nothing of Docker.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const PATIENCE: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<UnixStream>;

fn request(name: &str, query: &str) -> Request<()> {
    format!("ws://localhost/v1.44/containers/{name}/attach/ws?{query}").into_client_request().unwrap()
}

async fn connect(engine: &Engine, request: Request<()>) -> Result<Socket, Error> {
    let stream = UnixStream::connect(engine.socket()).await.unwrap();
    client_async(request, stream).await.map(|(socket, _)| socket)
}

/// The status and body that a handshake is refused with.
async fn refusal(engine: &Engine, request: Request<()>) -> (u16, String) {
    match connect(engine, request).await {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8_lossy(&body).into_owned())
        }
        other => panic!("no refusal: {other:?}"),
    }
}

/// Reads binary frames until all of `texts` came.
async fn read_until(socket: &mut Socket, texts: &[&str]) -> String {
    let mut read = String::new();
    while !texts.iter().all(|text| read.contains(text)) {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect(&read);
        match message.unwrap().unwrap() {
            Message::Binary(bytes) => read.push_str(std::str::from_utf8(&bytes).unwrap()),
            other => panic!("{other:?} after {read:?}"),
        }
    }
    read
}

/// Reads everything to the end, which is a proper one.
async fn read_to_end(mut socket: Socket) -> String {
    let mut read = String::new();
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect(&read) {
            Some(Ok(Message::Binary(bytes))) => read.push_str(std::str::from_utf8(&bytes).unwrap()),
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 1000);
                return read;
            }
            other => panic!("{other:?} after {read:?}"),
        }
    }
}

fn echoes(engine: &Engine, options: &[&str]) -> String {
    let name = engine.name("echoes");
    let script = "while read line; do echo \"got $line\"; echo \"error $line\" >&2; done; echo end";
    engine
        .docker(&[&["run", "-d", "-i", "--name", &name], options, &[SMALL, "sh", "-c", script]].concat())
        .ok();
    name
}

#[tokio::test]
async fn frames_are_input_and_output_comes_in_frames_of_its_own() {
    let engine = Engine::start();
    let name = echoes(&engine, &[]);
    let query = "stream=1&stdin=1&stdout=1&stderr=1";
    let mut socket = connect(&engine, request(&name, query)).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(b"bytes\nhalf "))).await.unwrap();
    read_until(&mut socket, &["got bytes\n", "error bytes\n"]).await;
    socket.send(Message::Text("a line\n".into())).await.unwrap();
    let read = read_until(&mut socket, &["got half a line\n", "error half a line\n"]).await;
    assert!(!read.contains('\0'), "nothing is framed as Docker frames output: {read:?}");
    socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    let pong = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Message::Pong(Bytes::from_static(b"there?")));
    // A client that goes leaves the container as it is.
    socket.close(None).await.unwrap();
    drop(socket);
    let past = connect(&engine, request(&name, "logs=1&stdout=1&stderr=1")).await.unwrap();
    let past = read_to_end(past).await;
    assert!(past.contains("got bytes\n") && past.contains("error bytes\n"), "{past:?}");
    let output = connect(&engine, request(&name, "logs=1&stdout=1")).await.unwrap();
    let output = read_to_end(output).await;
    assert_eq!(output, "got bytes\ngot half a line\n");
    let mut both = connect(&engine, request(&name, "logs=1&stream=1&stdin=1&stdout=1")).await.unwrap();
    both.send(Message::Binary(Bytes::from_static(b"more\n"))).await.unwrap();
    assert_eq!(read_until(&mut both, &["got more\n"]).await, "got bytes\ngot half a line\ngot more\n");
    engine.docker(&["kill", &name]).ok();
    assert_eq!(read_to_end(both).await, "");
    engine.docker(&["rm", &name]).ok();
}

#[tokio::test]
async fn a_terminal_is_attached_and_left_by_its_keys() {
    let engine = Engine::start();
    let name = engine.name("terminal");
    engine.docker(&["run", "-d", "-i", "-t", "--name", &name, SMALL, "cat"]).ok();
    let query = "stream=1&stdin=1&stdout=1&stderr=1&detachKeys=ctrl-a,x";
    let mut socket = connect(&engine, request(&name, query)).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(b"hello\n"))).await.unwrap();
    read_until(&mut socket, &["hello\r\nhello\r\n"]).await;
    socket.send(Message::Binary(Bytes::from_static(b"\x01"))).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(b"x"))).await.unwrap();
    read_to_end(socket).await;
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Running}}", &name]).ok(), "true");
    let told = || {
        let filter = format!("container={name}");
        engine
            .docker(&[
                "events",
                "--since",
                "5m",
                "--until",
                "0s",
                "--filter",
                &filter,
                "--filter",
                "event=detach",
            ])
            .ok()
    };
    wait_until("it is told", || !told().is_empty());
    engine.docker(&["rm", "-f", &name]).ok();
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_with_dockers_status() {
    let engine = Engine::start();
    let name = echoes(&engine, &[]);
    let query = "stream=1&stdout=1";
    assert_eq!(refusal(&engine, request("nobody", query)).await.0, 404);
    let (status, text) = refusal(&engine, request(&name, "stream=1&detachKeys=ctrl-1")).await;
    assert!(status == 400 && text.contains("detach keys"), "{status} {text}");
    engine.docker(&["pause", &name]).ok();
    assert_eq!(refusal(&engine, request(&name, query)).await.0, 409);
    engine.docker(&["unpause", &name]).ok();
    let (status, text) = engine.request("GET", &format!("/containers/{name}/attach/ws?{query}"), None);
    assert!(status == 400 && text.contains("not websocket protocol"), "{status} {text}");
    // Docker lets every page in.
    if !engine.is_original() {
        let mut foreign = request(&name, query);
        foreign.headers_mut().insert("origin", HeaderValue::from_static("http://evil.test"));
        let (status, text) = refusal(&engine, foreign).await;
        assert!(status == 403 && text.contains("http://evil.test"), "{status} {text}");
    }
    engine.docker(&["rm", "-f", &name]).ok();
}
