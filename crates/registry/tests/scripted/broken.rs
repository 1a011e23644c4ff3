//! Hosts that break HTTP, never end, or are busy.

use crate::fixture::{Setup, manifest, serve_manifest, tag, text};
use crate::server::{Reply, Server};
use coracle_registry::Error;
use coracle_spec::image::media_type;
use std::time::{Duration, Instant};

/// What a client says when a manifest is asked for.
async fn refusal(setup: &Setup, server: &Server) -> Error {
    setup.pull(server).manifest(&tag("x")).await.unwrap_err()
}

#[tokio::test]
async fn answers_that_are_no_http_are_errors_and_not_waited_for() {
    let long_name = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "a".repeat(1 << 20));
    let many: String = (0..10_000).map(|number| format!("X-{number}: a\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    for (name, bytes) in [
        ("HTTP/0.9", b"{\"schemaVersion\":2}\n".to_vec()),
        ("garbage", vec![0xff; 100]),
        ("nothing", Vec::new()),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        ("1 MiB header", long_name.into_bytes()),
        ("10,000 headers", many.into_bytes()),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}".to_vec()),
        ("length that is none", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}".to_vec()),
        (
            "chunk size that is none",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}".to_vec(),
        ),
        (
            "chunk without end",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}".to_vec(),
        ),
        ("status that is none", b"HTTP/1.1 abc OK\r\n\r\n".to_vec()),
    ] {
        let server = Server::start(move |_| Reply::raw(bytes.clone()).then_close()).await;
        let error = refusal(&Setup::new(), &server).await;
        assert!(matches!(error, Error::Transport { .. }), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_never_ends_is_cut_off() {
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = Server::start(move |_| {
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        Reply::raw(endless).then_repeat(chunk.into_bytes())
    })
    .await;
    let error = refusal(&Setup::new(), &server).await;
    assert!(matches!(error, Error::TooLarge { what: "manifest", .. }), "{error:?}");
}

#[tokio::test]
async fn a_failure_that_never_ends_is_still_told() {
    let server = Server::start(|_| {
        let head = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::raw(head).then_repeat(format!("1000\r\n{}\r\n", " ".repeat(0x1000)).into_bytes())
    })
    .await;
    let error = refusal(&Setup::new(), &server).await;
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let slowly = Duration::from_millis(40);
    let body = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", manifest().len());
    for (name, reply) in [
        ("silent", Box::new(|| Reply::raw("").then_hang()) as Box<dyn Fn() -> Reply + Send + Sync>),
        ("slow head", Box::new(move || Reply::raw("").then_trickle(vec![b'H'; 100], slowly))),
        (
            "silent body",
            Box::new({
                let body = body.clone();
                move || Reply::raw(body.clone()).then_hang()
            }),
        ),
        ("slow body", Box::new(move || Reply::raw(body.clone()).then_trickle(manifest().into(), slowly))),
    ] {
        let server = Server::start(move |_| reply()).await;
        let since = Instant::now();
        let error = refusal(&Setup::new().impatient(), &server).await;
        assert!(matches!(error, Error::Timeout { .. }), "{name}: {error:?}");
        assert!(since.elapsed() < Duration::from_secs(10), "{name}: {:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error() {
    for (name, cut) in [("truncated", 1), ("at 99 %", 0)] {
        let server = Server::start(move |request| {
            let whole = 150 + manifest().len();
            let reply = serve_manifest(request);
            reply.cut(if cut == 1 { 200 } else { whole })
        })
        .await;
        let error = refusal(&Setup::new(), &server).await;
        assert!(matches!(error, Error::Transport { .. }), "{name}: {error:?}");
        assert_eq!(server.requests().len(), 4, "{name}");
    }
}

#[tokio::test]
async fn compressed_answers_are_refused_because_digests_are_of_what_is_sent() {
    for encoding in ["gzip", "deflate", "identity, gzip", "br", "x"] {
        let server = Server::start(move |_| {
            let headers = [("Content-Type", media_type::MANIFEST), ("Content-Encoding", encoding)];
            Reply::new(200, &headers, manifest())
        })
        .await;
        let error = refusal(&Setup::new(), &server).await;
        assert!(matches!(error, Error::Protocol { .. }), "{encoding:?}: {error:?}");
        assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn a_reset_is_tried_again() {
    let server = Server::start(|request| match request.before {
        0 => Reply::raw("").then_reset(),
        1 => Reply::raw("HTTP/1.1 200 OK\r\n").then_reset(),
        _ => serve_manifest(request),
    })
    .await;
    // The first connection is the attempt with TLS, which a plain server does not understand.
    let setup = Setup::new();
    setup.pull(&server).manifest(&tag("x")).await.unwrap();
    assert_eq!(server.requests().len(), 3);
    assert_eq!(setup.clock.pauses().len(), 2);
}

#[tokio::test]
async fn failures_of_the_moment_are_tried_again_with_growing_pauses() {
    for status in [408, 429, 500, 502, 503, 504] {
        let server = Server::start(move |request| match request.before {
            0..=2 => Reply::new(status, &[], ""),
            _ => serve_manifest(request),
        })
        .await;
        let setup = Setup::new();
        setup.pull(&server).manifest(&tag("x")).await.unwrap();
        let pauses = setup.clock.pauses();
        assert_eq!(pauses.len(), 3, "{status}");
        for (at, pause) in pauses.iter().enumerate() {
            let full = Duration::from_millis(500 << at);
            assert!(*pause >= full / 2 && *pause <= full, "{status}: {pauses:?}");
        }
    }
}

#[tokio::test]
async fn failures_that_last_are_told_after_the_last_try() {
    for (status, name) in [(500, "status 500"), (503, "status 503"), (429, "toomanyrequests")] {
        let server = Server::start(move |_| {
            Reply::new(status, &[], r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
        })
        .await;
        let error = refusal(&Setup::new(), &server).await;
        assert!(error.to_string().contains("slow down"), "{name}: {error}");
        assert!(matches!(error, Error::TooManyRequests { .. }), "{name}: {error}");
        assert_eq!(server.requests().len(), 4, "{name}");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_within_reason() {
    // The clock stands at 08:49:37.
    for (value, tries, least) in [
        ("0", 2, 0),
        ("7", 2, 7),
        ("Sun, 06 Nov 1994 08:49:57 GMT", 2, 20),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 2, 0),
        ("soon", 2, 0),
        ("-1", 2, 0),
        ("1000000000", 1, 0),
        ("99999999999999999999", 1, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1, 0),
    ] {
        let server = Server::start(move |request| match request.before {
            0 => Reply::new(429, &[("Retry-After", value)], ""),
            _ => serve_manifest(request),
        })
        .await;
        let setup = Setup::new();
        let result = setup.pull(&server).manifest(&tag("x")).await;
        assert_eq!(server.requests().len(), tries, "{value}");
        match tries {
            1 => assert!(matches!(result, Err(Error::TooManyRequests { .. })), "{value}: {result:?}"),
            _ => {
                let pause = setup.clock.pauses()[0];
                assert!(result.is_ok() && pause >= Duration::from_secs(least), "{value}: {pause:?}");
                assert!(pause < Duration::from_secs(least + 1), "{value}: {pause:?}");
            }
        }
    }
}

#[tokio::test]
async fn all_pauses_together_are_bounded() {
    let server = Server::start(|_| Reply::new(503, &[("Retry-After", "50")], "")).await;
    let mut setup = Setup::new();
    setup.timing.tries = 100;
    refusal(&setup, &server).await;
    let total: Duration = setup.clock.pauses().iter().sum();
    assert_eq!(total, Duration::from_secs(150));
}

#[tokio::test]
async fn a_host_that_is_not_there_is_told_soon() {
    let server = Server::start(|_| Reply::new(200, &[], "")).await;
    let setup = Setup::new();
    let repository = setup.pull(&server);
    let gone = server.address;
    drop(server);
    // The port is free once the server's task has ended.
    while tokio::net::TcpStream::connect(gone).await.is_ok() {}
    let error = repository.manifest(&tag("x")).await.unwrap_err();
    assert!(text(&error).contains("refused"), "{}", text(&error));
    assert_eq!(setup.clock.pauses().len(), 1);
}
