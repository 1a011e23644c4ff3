//! Mirrors: asked first, never trusted with credentials, and never the end of a pull.

use crate::fixture::{BASIC, Setup, blob, content, fetch, name, serve_manifest, tag, user};
use crate::server::{Reply, Request, Server};
use coracle_registry::{Access, Error, Pick, Repository};
use coracle_spec::Digest;
use coracle_spec::image::media_type;

const SIZE: usize = 200_000;

/// A registry that is as it should be, for its users.
fn serve(request: &Request) -> Reply {
    if request.header("authorization").is_none() {
        return Reply::new(401, &[("WWW-Authenticate", "Basic")], "");
    }
    open_serve(request)
}

fn open_serve(request: &Request) -> Reply {
    if !request.path().contains("/blobs/") {
        return serve_manifest(request);
    }
    let all = content(SIZE);
    match request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
    {
        None => Reply::new(200, &[], all),
        Some(start) => {
            let start: usize = start;
            let range = format!("bytes {start}-{}/{SIZE}", SIZE - 1);
            Reply::new(206, &[("Content-Range", &range)], &all[start..])
        }
    }
}

/// A client for `upstream` that asks the mirrors first.
fn mirrored(upstream: &Server, mirrors: &[&Server]) -> (Setup, Repository) {
    let mut setup = Setup::new();
    let entry = |mirror: &&Server| format!("{}=http://{}", upstream.host(), mirror.host());
    setup.mirrors = mirrors.iter().map(entry).collect();
    let repository = setup.repository(&upstream.host(), user(), Access::Pull);
    (setup, repository)
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_told_for_whom_without_credentials() {
    let upstream = Server::start(serve).await;
    let mirror = Server::start(open_serve).await;
    let (_, repository) = mirrored(&upstream, &[&mirror]);
    repository.manifest(&tag("x")).await.unwrap();
    assert_eq!(fetch(&repository, &blob(&content(SIZE)), 0).await.unwrap(), content(SIZE));
    assert_eq!(repository.host(), mirror.host());
    assert!(upstream.requests().is_empty());
    assert_eq!(mirror.asked()[0], format!("GET /v2/a/b/manifests/x?ns={}", upstream.host()));
    assert!(!mirror.saw(BASIC));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_mirror_the_registry_itself_is_asked() {
    type Answer = fn(&Request) -> Reply;
    let rows: [(&str, Answer); 10] = [
        ("404", |_| Reply::new(404, &[], "")),
        ("403", |_| Reply::new(403, &[], "")),
        ("401", |_| Reply::new(401, &[("WWW-Authenticate", "Basic")], "")),
        ("500", |_| Reply::new(500, &[], "")),
        ("429", |_| Reply::new(429, &[("Retry-After", "30")], "")),
        ("html", |_| Reply::new(200, &[("Content-Type", "text/html")], "<html>")),
        ("garbage", |_| Reply::raw(vec![0xff; 100]).then_close()),
        ("reset", |_| Reply::raw("").then_reset()),
        ("loop", |r| Reply::new(302, &[("Location", &r.target)], "")),
        ("schema 1", |_| {
            Reply::new(200, &[("Content-Type", media_type::MANIFEST)], r#"{"schemaVersion":1}"#)
        }),
    ];
    for (name, answer) in rows {
        let upstream = Server::start(serve).await;
        let mirror = Server::start(answer).await;
        let (setup, repository) = mirrored(&upstream, &[&mirror]);
        repository.manifest(&tag("x")).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(repository.host(), upstream.host(), "{name}");
        assert!(setup.clock.pauses().is_empty(), "{name}: nobody waits for a mirror");
        assert!(!mirror.saw(BASIC), "{name}");
    }
}

#[tokio::test]
async fn a_mirror_that_lies_is_asked_no_more() {
    let upstream = Server::start(serve).await;
    let mirror = Server::start(|_| {
        let other = r#"{"schemaVersion":2,"manifests":[]}"#;
        Reply::new(200, &[("Content-Type", media_type::INDEX)], other)
    })
    .await;
    let (_, repository) = mirrored(&upstream, &[&mirror]);
    let digest = Digest::of(crate::fixture::manifest().as_bytes());
    repository.manifest(&Pick::Digest(digest)).await.unwrap();
    repository.describe(&Pick::Digest(digest)).await.unwrap();
    assert_eq!(mirror.requests().len(), 1);
}

#[tokio::test]
async fn a_mirror_that_lacks_one_thing_may_have_the_next() {
    let upstream = Server::start(serve).await;
    let mirror = Server::start(|request| match request.path().contains("/blobs/") {
        true => open_serve(request),
        false => Reply::new(404, &[], ""),
    })
    .await;
    let (_, repository) = mirrored(&upstream, &[&mirror]);
    repository.manifest(&tag("x")).await.unwrap();
    fetch(&repository, &blob(&content(SIZE)), 0).await.unwrap();
    assert_eq!(repository.host(), mirror.host());
}

#[tokio::test]
async fn a_mirror_that_is_not_there_costs_one_attempt() {
    let upstream = Server::start(serve).await;
    let gone = Server::start(open_serve).await;
    let (setup, repository) = mirrored(&upstream, &[&gone]);
    let address = gone.address;
    drop(gone);
    while tokio::net::TcpStream::connect(address).await.is_ok() {}
    repository.manifest(&tag("x")).await.unwrap();
    fetch(&repository, &blob(&content(SIZE)), 0).await.unwrap();
    assert!(setup.clock.pauses().is_empty());
}

#[tokio::test]
async fn mirrors_are_asked_in_their_order() {
    let upstream = Server::start(serve).await;
    let first = Server::start(|_| Reply::new(404, &[], "")).await;
    let second = Server::start(open_serve).await;
    let (_, repository) = mirrored(&upstream, &[&first, &second]);
    repository.manifest(&tag("x")).await.unwrap();
    assert_eq!((first.requests().len(), second.requests().len(), upstream.requests().len()), (1, 1, 0));
}

#[tokio::test]
async fn a_blob_that_a_mirror_breaks_off_is_finished_from_the_registry() {
    type Answer = fn(&Request) -> Reply;
    let part: Answer = |_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        Reply::raw([head.into_bytes(), content(SIZE)[..150_000].to_vec()].concat()).then_close()
    };
    let upstream = Server::start(serve).await;
    let mirror = Server::start(part).await;
    let (setup, repository) = mirrored(&upstream, &[&mirror]);
    assert_eq!(fetch(&repository, &blob(&content(SIZE)), 0).await.unwrap(), content(SIZE));
    let last = upstream.requests().pop().unwrap();
    assert_eq!(last.header("range"), Some("bytes=150000-"));
    assert!(setup.clock.pauses().is_empty());
}

#[tokio::test]
async fn a_mirror_with_wrong_sizes_is_passed_over() {
    let upstream = Server::start(serve).await;
    let mirror = Server::start(|_| Reply::new(200, &[], "short")).await;
    let (_, repository) = mirrored(&upstream, &[&mirror]);
    assert_eq!(fetch(&repository, &blob(&content(SIZE)), 0).await.unwrap(), content(SIZE));
}

#[tokio::test]
async fn the_store_can_have_a_mirror_passed_over() {
    let upstream = Server::start(serve).await;
    let mirror = Server::start(|_| Reply::new(200, &[], vec![0; SIZE])).await;
    let (_, repository) = mirrored(&upstream, &[&mirror]);
    let stream = repository.blob(&blob(&content(SIZE)), 0).await.unwrap();
    let host = stream.host();
    assert_eq!(host, mirror.host());
    assert!(repository.distrust(&host));
    assert!(!repository.distrust(&host), "it is asked no more already");
    assert!(!repository.distrust(&upstream.host()), "the registry itself cannot be left out");
    assert_eq!(fetch(&repository, &blob(&content(SIZE)), 0).await.unwrap(), content(SIZE));
}

#[tokio::test]
async fn if_nobody_has_it_the_registry_is_quoted() {
    let upstream = Server::start(|_| Reply::new(404, &[], r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)).await;
    let mirror = Server::start(|_| Reply::new(403, &[], "")).await;
    let (_, repository) = mirrored(&upstream, &[&mirror]);
    let error = repository.manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(&error, Error::ManifestUnknown { host, .. } if *host == upstream.host()), "{error:?}");
}

#[tokio::test]
async fn a_push_goes_to_the_registry_itself() {
    let upstream = Server::start(|_| Reply::new(201, &[], "")).await;
    let mirror = Server::start(|_| Reply::new(201, &[], "")).await;
    let (setup, _) = mirrored(&upstream, &[&mirror]);
    let repository = setup.client().repository(&name(&upstream.host()), user(), Access::Push);
    repository.put_manifest(&tag("x"), "a/b", "{}".into()).await.unwrap();
    repository.has_blob(&Digest::of(b"x")).await.unwrap_err();
    assert!(mirror.requests().is_empty());
}
