//! Blobs: resumed where the connection broke, never longer or shorter than they should be.

use crate::fixture::{Setup, blob, content, drain, fetch, serve_manifest, tag};
use crate::server::{Reply, Request, Server};
use coracle_registry::Error;
use coracle_spec::Digest;
use coracle_spec::image::{Descriptor, media_type};
use std::time::Duration;

const SIZE: usize = 300_000;

/// The start of the range that was asked for.
fn start(request: &Request) -> Option<usize> {
    request.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Serves a blob as it should be served.
fn serve(request: &Request) -> Reply {
    let all = content(SIZE);
    match start(request) {
        None => Reply::new(200, &[], &all),
        Some(start) => {
            let range = format!("bytes {start}-{}/{SIZE}", SIZE - 1);
            Reply::new(206, &[("Content-Range", &range)], &all[start..])
        }
    }
}

/// The head of an answer that announces the whole blob.
fn head() -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes()
}

fn ranges(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(start).collect()
}

#[tokio::test]
async fn a_blob_is_read_from_any_offset() {
    let all = content(SIZE);
    let server = Server::start(serve).await;
    let repository = Setup::new().pull(&server);
    for offset in [0, 1, 1000, SIZE - 1] {
        assert_eq!(fetch(&repository, &blob(&all), offset as u64).await.unwrap(), &all[offset..], "{offset}");
    }
    let before = server.requests().len();
    assert!(fetch(&repository, &blob(&all), SIZE as u64).await.unwrap().is_empty());
    assert!(fetch(&repository, &blob(b""), 0).await.unwrap().is_empty());
    assert_eq!(server.requests().len(), before, "nothing is asked for nothing");
    let error = repository.blob(&blob(&all), SIZE as u64 + 1).await.unwrap_err();
    assert!(matches!(error, Error::SizeMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_broken_connection_is_resumed_where_it_broke() {
    let all = content(SIZE);
    for (name, at) in
        [("in the middle", SIZE / 2), ("at 99 %", SIZE * 99 / 100), ("before the last byte", SIZE - 1)]
    {
        for reset in [false, true] {
            let server = Server::start(move |request| match start(request) {
                None => {
                    let part = Reply::raw([head(), content(SIZE)[..at].to_vec()].concat());
                    if reset { part.then_reset() } else { part.then_close() }
                }
                Some(_) => serve(request),
            })
            .await;
            let repository = Setup::new().pull(&server);
            assert_eq!(fetch(&repository, &blob(&all), 0).await.unwrap(), all, "{name}");
            let asked = ranges(&server);
            assert_eq!(asked.len(), 2, "{name}");
            // A reset may take bytes along that were on their way.
            assert!(asked[1] == Some(at) || reset && asked[1] <= Some(at), "{name}: {asked:?}");
        }
    }
}

#[tokio::test]
async fn progress_is_what_makes_further_tries() {
    let all = content(SIZE);
    let pieces = |size: usize| {
        move |request: &Request| {
            let from = start(request).unwrap_or(0);
            let to = (from + size).min(SIZE);
            let range = format!("bytes {from}-{}/{SIZE}", SIZE - 1);
            let length = (SIZE - from).to_string();
            let status = if from == 0 { 200 } else { 206 };
            let text =
                format!("HTTP/1.1 {status} OK\r\nContent-Range: {range}\r\nContent-Length: {length}\r\n\r\n");
            Reply::raw([text.into_bytes(), content(SIZE)[from..to].to_vec()].concat()).then_close()
        }
    };
    let server = Server::start(pieces(70_000)).await;
    let setup = Setup::new();
    assert_eq!(fetch(&setup.pull(&server), &blob(&all), 0).await.unwrap(), all);
    assert_eq!(server.requests().len(), 5, "more than the four tries that bring nothing");
    // One byte at a time is no progress.
    let server = Server::start(pieces(1)).await;
    let (got, end) = drain(Setup::new().pull(&server).blob(&blob(&all), 0).await.unwrap()).await;
    assert!(end.is_err());
    assert_eq!(got.len(), 4);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start() {
    let all = content(SIZE);
    type Answer = fn(&Request) -> Reply;
    let rows: [(&str, Answer, usize); 6] = [
        ("200 to a range", |_| Reply::new(200, &[], content(SIZE)), 1),
        (
            "416",
            |r| if r.before == 0 { Reply::new(416, &[], "") } else { Reply::new(200, &[], content(SIZE)) },
            2,
        ),
        (
            "206 from elsewhere",
            |request| match start(request) {
                Some(_) => {
                    Reply::new(206, &[("Content-Range", "bytes 2000-299999/300000")], &content(SIZE)[2000..])
                }
                None => Reply::new(200, &[], content(SIZE)),
            },
            2,
        ),
        (
            "206 without range",
            |request| match start(request) {
                Some(start) => Reply::new(206, &[], &content(SIZE)[start..]),
                None => Reply::new(200, &[], content(SIZE)),
            },
            2,
        ),
        (
            "206 with a range that is none",
            |request| match start(request) {
                Some(start) => Reply::new(206, &[("Content-Range", "bytes 9-1/x")], &content(SIZE)[start..]),
                None => Reply::new(200, &[], content(SIZE)),
            },
            2,
        ),
        (
            "206 from before",
            |_| Reply::new(206, &[("Content-Range", "bytes 500-299999/300000")], &content(SIZE)[500..]),
            1,
        ),
    ];
    for (name, answer, requests) in rows {
        let server = Server::start(answer).await;
        let got = fetch(&Setup::new().pull(&server), &blob(&all), 1000).await.unwrap();
        assert!(got == all[1000..], "{name}");
        assert_eq!(server.requests().len(), requests, "{name}");
    }
}

#[tokio::test]
async fn a_wrong_size_is_an_error_and_not_tried_again() {
    let all = content(SIZE);
    type Answer = fn(&Request) -> Reply;
    let rows: [(&str, Answer); 5] = [
        ("shorter", |_| Reply::new(200, &[], &content(SIZE)[..10])),
        ("longer", |_| Reply::new(200, &[], content(SIZE + 1))),
        ("longer without length", |_| {
            Reply::raw([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), content(SIZE + 1)].concat())
                .then_close()
        }),
        ("endless", |_| {
            Reply::raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").then_repeat(vec![0; 65536])
        }),
        ("a part of something else", |_| {
            Reply::new(206, &[("Content-Range", "bytes 10-399999/400000")], &content(400_000)[10..])
        }),
    ];
    for (name, answer) in rows {
        let server = Server::start(answer).await;
        let repository = Setup::new().pull(&server);
        let offset = if name == "a part of something else" { 10 } else { 0 };
        let error = fetch(&repository, &blob(&all), offset).await.unwrap_err();
        assert!(
            matches!(error, Error::SizeMismatch { expected, .. } if expected == SIZE as u64),
            "{name}: {error:?}"
        );
        assert_eq!(server.requests().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_blob_without_length_that_ends_early_is_resumed() {
    let all = content(SIZE);
    let server = Server::start(|request| match start(request) {
        None => {
            Reply::raw([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), content(100_000)].concat())
                .then_close()
        }
        Some(_) => serve(request),
    })
    .await;
    assert_eq!(fetch(&Setup::new().pull(&server), &blob(&all), 0).await.unwrap(), all);
    assert_eq!(ranges(&server), [None, Some(100_000)]);
}

#[tokio::test]
async fn a_blob_that_stays_short_is_told_so() {
    let server = Server::start(|_| {
        Reply::raw([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), content(1000)].concat())
            .then_close()
    })
    .await;
    let (got, end) = drain(Setup::new().pull(&server).blob(&blob(&content(SIZE)), 0).await.unwrap()).await;
    assert_eq!(got, content(SIZE)[..1000]);
    assert!(matches!(end, Err(Error::SizeMismatch { got: 1000, .. })), "{end:?}");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_blob_that_stalls_or_trickles_is_resumed_elsewhere_in_time() {
    let all = content(SIZE);
    // Bytes in each fiftieth of the second in which something must come.
    for piece in [0, 1, 1000] {
        let server = Server::start(move |request| match start(request) {
            None => {
                let part = Reply::raw([head(), content(SIZE)[..200_000].to_vec()].concat());
                let rest = content(SIZE)[200_000..].to_vec();
                match piece {
                    0 => part.then_hang(),
                    piece => part.then_drip(rest, piece, Duration::from_millis(20)),
                }
            }
            Some(_) => serve(request),
        })
        .await;
        let setup = Setup::new().patient_for(Duration::from_secs(1));
        assert_eq!(fetch(&setup.pull(&server), &blob(&all), 0).await.unwrap(), all);
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_compressed_blob_is_refused() {
    let server = Server::start(|_| Reply::new(200, &[("Content-Encoding", "gzip")], content(SIZE))).await;
    let error = fetch(&Setup::new().pull(&server), &blob(&content(SIZE)), 0).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_refused() {
    let server =
        Server::start(|_| Reply::new(206, &[("Content-Range", "bytes 0-299999/300000")], content(SIZE)))
            .await;
    let error = fetch(&Setup::new().pull(&server), &blob(&content(SIZE)), 0).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_blob_is_told_from_a_forbidden_one() {
    let missing = blob(b"missing");
    for (status, unknown) in [(404, true), (403, false)] {
        let server = Server::start(move |_| Reply::new(status, &[], "")).await;
        let error = Setup::new().pull(&server).blob(&missing, 0).await.unwrap_err();
        assert_eq!(matches!(error, Error::BlobUnknown { .. }), unknown, "{error:?}");
        assert_eq!(matches!(error, Error::Denied { .. }), !unknown, "{error:?}");
    }
}

#[tokio::test]
async fn a_blob_that_vanishes_while_it_is_read_is_an_error() {
    let server = Server::start(|request| match start(request) {
        None => Reply::raw([head(), content(SIZE)[..1000].to_vec()].concat()).then_close(),
        Some(_) => Reply::new(404, &[], ""),
    })
    .await;
    let (got, end) = drain(Setup::new().pull(&server).blob(&blob(&content(SIZE)), 0).await.unwrap()).await;
    assert_eq!(got.len(), 1000);
    assert!(matches!(end, Err(Error::BlobUnknown { .. })), "{end:?}");
}

#[tokio::test]
async fn whether_a_blob_is_there_is_asked_without_reading_it() {
    let server = Server::start(|request| match request.path().contains(&Digest::of(b"here").hex()) {
        true => Reply::head(200, &[("Content-Length", "4")]),
        false => Reply::head(404, &[("Content-Length", "0")]),
    })
    .await;
    let repository = Setup::new().push(&server);
    assert_eq!(repository.has_blob(&Digest::of(b"here")).await.unwrap(), Some(4));
    assert_eq!(repository.has_blob(&Digest::of(b"gone")).await.unwrap(), None);
    assert!(server.requests().iter().all(|request| request.method == "HEAD"));
}

#[tokio::test]
async fn addresses_in_a_descriptor_are_never_asked() {
    let elsewhere = Server::start(|_| Reply::new(200, &[], b"layer")).await;
    let server = Server::start(|_| Reply::new(404, &[], "")).await;
    let foreign =
        Descriptor { urls: vec![elsewhere.url("/layer")], ..Descriptor::of(media_type::LAYER, b"layer") };
    assert!(Setup::new().pull(&server).blob(&foreign, 0).await.is_err());
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start(|request| match request.path().contains("blobs") {
        true => serve(request),
        false => serve_manifest(request),
    })
    .await;
    let repository = Setup::new().pull(&server);
    repository.manifest(&tag("x")).await.unwrap();
    for _ in 0..3 {
        fetch(&repository, &blob(&content(SIZE)), 0).await.unwrap();
    }
    // The first connection was the attempt with TLS.
    assert_eq!(server.connections(), 2);
}
