//! Uploads and mounts.

use crate::fixture::{BASIC, Setup, blob, content, name, open, text, user};
use crate::server::{Reply, Request, Server};
use coracle_registry::{Access, Body, BodyFuture, Error};
use coracle_spec::Digest;
use coracle_spec::image::{Descriptor, media_type};
use futures_util::StreamExt;
use std::io;
use std::time::Duration;

const SIZE: usize = 50_000;
const START: &str = "/v2/a/b/blobs/uploads/";

/// A registry that takes uploads; sessions have a state in their query, as real ones do.
fn take(request: &Request) -> Reply {
    match request.method.as_str() {
        "POST" => Reply::new(202, &[("Location", "/upload/1?_state=a%2Fb%3D")], ""),
        "PATCH" => Reply::new(202, &[("Location", "/upload/1?_state=c%2Bd&x=1"), ("Range", "0-49999")], ""),
        "PUT" => Reply::new(201, &[], ""),
        _ => Reply::new(204, &[], ""),
    }
}

async fn upload(server: &Server) -> Result<(), Error> {
    Setup::new().push(server).upload(&blob(&content(SIZE)), &open(content(SIZE))).await
}

#[tokio::test]
async fn a_blob_goes_up_whole_and_the_location_is_kept_as_it_is() {
    let server = Server::start(take).await;
    upload(&server).await.unwrap();
    let digest = Digest::of(&content(SIZE));
    let expected = [
        format!("POST {START}"),
        "PATCH /upload/1?_state=a%2Fb%3D".to_owned(),
        format!("PUT /upload/1?_state=c%2Bd&x=1&digest=sha256%3A{}", digest.hex()),
    ];
    assert_eq!(server.asked(), expected);
    let patch = &server.requests()[1];
    assert_eq!(patch.body, content(SIZE));
    assert_eq!(patch.header("content-length"), Some("50000"));
    assert_eq!(patch.header("content-range"), Some("0-49999"));
    assert_eq!(patch.header("content-type"), Some("application/octet-stream"));
    assert_eq!(server.requests()[0].header("content-length"), Some("0"));
}

#[tokio::test]
async fn an_empty_blob_needs_no_content() {
    let server = Server::start(take).await;
    Setup::new().push(&server).upload(&blob(b""), &open(Vec::new())).await.unwrap();
    assert_eq!(server.requests().iter().map(|r| r.method.as_str()).collect::<Vec<_>>(), ["POST", "PUT"]);
}

#[tokio::test]
async fn a_digest_of_another_kind_is_announced() {
    let mut hasher = coracle_spec::digest::Hasher::new(coracle_spec::digest::Algorithm::Sha512);
    hasher.update(b"x");
    let server = Server::start(take).await;
    let blob = Descriptor::new(media_type::LAYER, hasher.finish(), 1);
    Setup::new().push(&server).upload(&blob, &open(b"x".to_vec())).await.unwrap();
    assert_eq!(server.asked()[0], format!("POST {START}?digest-algorithm=sha512"));
}

#[tokio::test]
async fn locations_may_be_relative_absolute_or_elsewhere_but_credentials_stay() {
    let storage = Server::start(take).await;
    let (relative, absolute) = ("session".to_owned(), storage.url("/session"));
    for (location, path) in [(relative, "/v2/a/b/blobs/uploads/session"), (absolute, "/session")] {
        let to = location.clone();
        let server =
            Server::start(move |request| match (request.header("authorization"), request.method.as_str()) {
                (None, _) => Reply::new(401, &[("WWW-Authenticate", "Basic")], ""),
                (_, "POST") => Reply::new(202, &[("Location", &to)], ""),
                (_, "PATCH") => Reply::new(202, &[], ""),
                _ => Reply::new(201, &[], ""),
            })
            .await;
        let repository = Setup::new().repository(&server.host(), user(), Access::Push);
        repository.upload(&blob(&content(SIZE)), &open(content(SIZE))).await.unwrap();
        let all = [server.requests(), storage.requests()].concat();
        assert!(all.iter().any(|request| request.is("PATCH", path)), "{location}");
    }
    assert!(!storage.saw(BASIC));
}

#[tokio::test]
async fn locations_that_lead_nowhere_are_refused() {
    for location in ["", "file:///etc", "http://user:pw@127.0.0.1/", "http://"] {
        let server = Server::start(move |_| Reply::new(202, &[("Location", location)], "")).await;
        let error = upload(&server).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. } | Error::Redirect { .. }), "{location:?}: {error:?}");
        assert_eq!(server.requests().len(), 1, "{location:?}");
    }
}

#[tokio::test]
async fn an_upload_that_fails_for_the_moment_starts_anew() {
    type Answer = fn(&Request) -> Reply;
    let rows: [(&str, Answer); 6] = [
        ("session lost", |r| {
            if r.method == "PATCH" && r.before == 0 {
                Reply::new(404, &[], r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#)
            } else {
                take(r)
            }
        }),
        ("conflict", |r| if r.method == "PUT" && r.before == 0 { Reply::new(409, &[], "") } else { take(r) }),
        ("wrong range", |r| {
            if r.method == "PATCH" && r.before == 0 { Reply::new(416, &[], "") } else { take(r) }
        }),
        ("500", |r| if r.method == "PUT" && r.before == 0 { Reply::new(500, &[], "") } else { take(r) }),
        ("429", |r| {
            if r.method == "PATCH" && r.before == 0 {
                Reply::new(429, &[("Retry-After", "2")], "")
            } else {
                take(r)
            }
        }),
        (
            "reset",
            |r| if r.method == "PATCH" && r.before == 0 { Reply::raw("").then_reset() } else { take(r) },
        ),
    ];
    for (name, answer) in rows {
        let server = Server::start(answer).await;
        upload(&server).await.unwrap_or_else(|error| panic!("{name}: {}", text(&error)));
        let count = |method: &str| server.requests().iter().filter(|r| r.method == method).count();
        assert_eq!(count("POST"), 2, "{name}");
        let last = server.requests().into_iter().rfind(|r| r.method == "PATCH").unwrap();
        assert_eq!(last.body, content(SIZE), "{name}");
        assert_eq!(
            count("DELETE"),
            usize::from(name != "session lost"),
            "{name}: what is given up is cancelled"
        );
    }
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    for (status, is_denied) in [(403, true), (400, false), (413, false)] {
        let server = Server::start(move |request| match request.method.as_str() {
            "PATCH" => Reply::new(status, &[], r#"{"errors":[{"message":"quota exceeded"}]}"#),
            _ => take(request),
        })
        .await;
        let error = upload(&server).await.unwrap_err();
        assert_eq!(matches!(error, Error::Denied { .. }), is_denied, "{error:?}");
        assert!(error.to_string().contains("quota exceeded"), "{error}");
        assert_eq!(server.requests().iter().filter(|r| r.method == "PATCH").count(), 1);
    }
}

#[tokio::test]
async fn a_registry_that_stored_something_else_is_found_out() {
    let server = Server::start(|request| match request.method.as_str() {
        "PUT" => Reply::new(201, &[("Docker-Content-Digest", &Digest::of(b"other").to_string())], ""),
        _ => take(request),
    })
    .await;
    assert!(matches!(upload(&server).await, Err(Error::DigestMismatch { .. })));
}

#[tokio::test]
async fn content_that_is_not_as_announced_is_our_error() {
    type Make = fn() -> Body;
    let rows: [(&str, Make); 3] = [
        ("longer", || futures_util::stream::repeat_with(|| Ok(vec![0; 1000].into())).take(51).boxed()),
        ("shorter", || futures_util::stream::repeat_with(|| Ok(vec![0; 1000].into())).take(49).boxed()),
        ("unreadable", || {
            futures_util::stream::once(async { Err(io::Error::other("disk on fire")) }).boxed()
        }),
    ];
    for (name, make) in rows {
        let server = Server::start(take).await;
        let open = || -> BodyFuture { Box::pin(async move { Ok(make()) }) };
        let error = Setup::new().push(&server).upload(&blob(&content(SIZE)), &open).await.unwrap_err();
        assert!(matches!(error, Error::Content { .. }), "{name}: {error:?}");
        assert!(name != "unreadable" || text(&error).contains("disk on fire"), "{}", text(&error));
        assert!(server.requests().iter().all(|request| request.method != "PUT"), "{name}");
    }
    let server = Server::start(take).await;
    let open = || -> BodyFuture { Box::pin(async { Err(io::Error::other("gone")) }) };
    let error = Setup::new().push(&server).upload(&blob(&content(SIZE)), &open).await.unwrap_err();
    assert!(matches!(error, Error::Content { .. }), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_never_answers_an_upload_is_given_up() {
    for method in ["POST", "PATCH", "PUT"] {
        let server = Server::start(move |request| match request.method.as_str() {
            m if m == method => Reply::raw("").then_hang(),
            _ => take(request),
        })
        .await;
        let setup = Setup::new().impatient();
        let result = setup.push(&server).upload(&blob(&content(SIZE)), &open(content(SIZE))).await;
        assert!(matches!(result, Err(Error::Timeout { .. })), "{method}: {result:?}");
    }
}

#[tokio::test]
async fn content_that_comes_slowly_is_no_stall() {
    let server = Server::start(take).await;
    let setup = Setup::new().patient_for(Duration::from_millis(800));
    // Six pieces, each within the idle time, all together beyond it.
    let open = || -> BodyFuture {
        let ticks = tokio::time::interval(Duration::from_millis(200));
        let pieces = futures_util::stream::unfold((ticks, 0), |(mut ticks, at)| async move {
            ticks.tick().await;
            let piece = content(600).get(at * 100..(at + 1) * 100)?.to_vec();
            Some((Ok(piece.into()), (ticks, at + 1)))
        });
        Box::pin(async { Ok(pieces.boxed()) })
    };
    setup.push(&server).upload(&blob(&content(600)), &open).await.unwrap();
    assert_eq!(server.requests()[1].body, content(600));
}

#[tokio::test]
async fn a_token_that_expires_during_an_upload_is_replaced_and_the_content_sent_again() {
    let server = Server::start(|request| {
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
        match (request.path(), request.header("authorization"), request.method.as_str()) {
            ("/token", ..) => Reply::new(200, &[], format!(r#"{{"token":"t{}"}}"#, request.before)),
            (_, Some("Bearer t0"), "POST") | (_, Some("Bearer t1"), _) => take(request),
            _ => Reply::new(401, &[("WWW-Authenticate", &realm)], ""),
        }
    })
    .await;
    upload(&server).await.unwrap();
    let patches: Vec<_> = server.requests().into_iter().filter(|r| r.method == "PATCH").collect();
    assert_eq!(patches.len(), 2);
    assert_eq!(patches[1].body, content(SIZE));
}

#[tokio::test]
async fn a_blob_is_mounted_from_a_repository_of_the_same_registry() {
    let digest = Digest::of(b"x");
    let server = Server::start(move |request| {
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
        match (request.path(), request.header("authorization")) {
            ("/token", _) => Reply::new(200, &[], r#"{"token":"good"}"#),
            (_, Some(_)) => Reply::new(201, &[("Docker-Content-Digest", &digest.to_string())], ""),
            _ => Reply::new(401, &[("WWW-Authenticate", &realm)], ""),
        }
    })
    .await;
    let repository = Setup::new().push(&server);
    let from = format!("{}/c/d", server.host()).parse().unwrap();
    assert!(repository.mount(&digest, &from).await.unwrap());
    let asked = server.asked();
    assert_eq!(asked[0], format!("POST {START}?mount={digest}&from=c%2Fd"));
    let scopes = "scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%2Fd%3Apull";
    assert!(asked[1].ends_with(scopes), "{}", asked[1]);
    assert!(!repository.mount(&digest, &name("other.test")).await.unwrap());
    assert_eq!(server.requests().len(), 3, "nobody else's registry is asked");
}

#[tokio::test]
async fn a_mount_that_is_not_possible_leaves_its_session_to_the_next_upload() {
    let server = Server::start(|request| match request.query().is_empty() {
        true => take(request),
        false if request.method == "POST" => Reply::new(202, &[("Location", "/mounted/1?s=1")], ""),
        false => take(request),
    })
    .await;
    let repository = Setup::new().push(&server);
    let from = format!("{}/c/d", server.host()).parse().unwrap();
    assert!(!repository.mount(&Digest::of(b"x"), &from).await.unwrap());
    assert!(!repository.mount(&Digest::of(b"y"), &from).await.unwrap());
    repository.upload(&blob(&content(SIZE)), &open(content(SIZE))).await.unwrap();
    assert_eq!(server.asked()[2], "PATCH /mounted/1?s=1");
    repository.abandon().await;
    assert_eq!(server.asked().last().unwrap(), "DELETE /mounted/1?s=1");
}

#[tokio::test]
async fn a_mount_that_is_refused_is_no_error_but_a_lie_is() {
    for status in [400, 403, 404, 405] {
        let server = Server::start(move |_| Reply::new(status, &[], "")).await;
        let from = format!("{}/c/d", server.host()).parse().unwrap();
        assert!(!Setup::new().push(&server).mount(&Digest::of(b"x"), &from).await.unwrap(), "{status}");
    }
    let server = Server::start(|_| {
        Reply::new(201, &[("Docker-Content-Digest", &Digest::of(b"other").to_string())], "")
    })
    .await;
    let from = format!("{}/c/d", server.host()).parse().unwrap();
    let error = Setup::new().push(&server).mount(&Digest::of(b"x"), &from).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
}
