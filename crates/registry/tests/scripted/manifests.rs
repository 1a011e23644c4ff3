//! Manifests: what is taken for one, and what is not.

use crate::fixture::{Setup, manifest, name, serve_manifest, tag, text};
use crate::server::{Reply, Server};
use coracle_registry::{Access, Credentials, Error, Pick};
use coracle_spec::Digest;
use coracle_spec::image::{Document, media_type};

fn digest() -> Digest {
    Digest::of(manifest().as_bytes())
}

#[tokio::test]
async fn a_manifest_is_read_and_described() {
    let server = Server::start(serve_manifest).await;
    let repository = Setup::new().pull(&server);
    let found = repository.manifest(&tag("latest")).await.unwrap();
    assert_eq!(found.content, manifest());
    assert_eq!(found.descriptor.digest, digest());
    assert_eq!(found.descriptor.media_type, media_type::MANIFEST);
    assert!(matches!(found.document, Document::Manifest(_)));
    assert_eq!(repository.describe(&tag("latest")).await.unwrap(), found.descriptor);
    assert_eq!(repository.describe(&Pick::Digest(digest())).await.unwrap(), found.descriptor);
    assert_eq!(repository.host(), server.host());
    let asked = server.requests();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("GET", "/v2/a/b/manifests/latest"));
    assert_eq!(asked[1].method, "HEAD");
    assert_eq!(asked[2].target, format!("/v2/a/b/manifests/{}", digest()));
    let accepted = asked[0].header("accept").unwrap();
    for kind in
        [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX]
    {
        assert!(accepted.contains(kind), "{accepted}");
    }
    assert_eq!(asked[0].header("user-agent"), Some("coracle/test"));
}

#[tokio::test]
async fn describing_costs_a_second_request_only_where_the_first_says_too_little() {
    for (name, head, requests) in [
        ("no digest", vec![("Content-Type", media_type::MANIFEST), ("Content-Length", "300")], 2),
        ("no type", vec![("Docker-Content-Digest", "D"), ("Content-Length", "300")], 2),
        ("no length", vec![("Docker-Content-Digest", "D"), ("Content-Type", media_type::MANIFEST)], 2),
        (
            "other type",
            vec![("Docker-Content-Digest", "D"), ("Content-Type", "a/b"), ("Content-Length", "300")],
            2,
        ),
        (
            "everything",
            vec![
                ("Docker-Content-Digest", "D"),
                ("Content-Type", media_type::MANIFEST),
                ("Content-Length", "300"),
            ],
            1,
        ),
    ] {
        let server = Server::start(move |request| {
            if request.method == "GET" {
                return serve_manifest(request);
            }
            let digest = digest().to_string();
            let fill = |(name, value)| (name, if value == "D" { digest.as_str() } else { value });
            Reply::head(200, &head.iter().copied().map(fill).collect::<Vec<_>>())
        })
        .await;
        let found = Setup::new().pull(&server).describe(&tag("x")).await.unwrap();
        assert_eq!(found.digest, digest(), "{name}");
        assert_eq!(server.requests().len(), requests, "{name}");
    }
}

#[tokio::test]
async fn a_server_without_head_is_asked_with_get() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::head(405, &[("Content-Length", "0")]),
        _ => serve_manifest(request),
    })
    .await;
    assert_eq!(Setup::new().pull(&server).describe(&tag("x")).await.unwrap().digest, digest());
}

#[tokio::test]
async fn content_that_does_not_have_its_digest_is_refused() {
    let other = Digest::of(b"other");
    let served = other.to_string();
    let server = Server::start(move |request| match request.path() {
        // The registry says one digest and sends the content of another.
        "/v2/a/b/manifests/lie" => Reply::new(
            200,
            &[("Content-Type", media_type::MANIFEST), ("Docker-Content-Digest", &served)],
            manifest(),
        ),
        // It says nothing.
        _ => Reply::new(200, &[("Content-Type", media_type::MANIFEST)], manifest()),
    })
    .await;
    let repository = Setup::new().pull(&server);
    for pick in [tag("lie"), Pick::Digest(other)] {
        let error = repository.manifest(&pick).await.unwrap_err();
        assert!(
            matches!(&error, Error::DigestMismatch { expected, computed, .. } if **expected == other && **computed == digest()),
            "{error:?}"
        );
    }
    assert!(repository.manifest(&tag("fine")).await.is_ok());
}

#[tokio::test]
async fn describing_by_digest_refuses_another_digest() {
    let server = Server::start(|_| {
        let other = Digest::of(b"other").to_string();
        let headers = [
            ("Docker-Content-Digest", other.as_str()),
            ("Content-Type", media_type::MANIFEST),
            ("Content-Length", "300"),
        ];
        Reply::head(200, &headers)
    })
    .await;
    let error = Setup::new().pull(&server).describe(&Pick::Digest(digest())).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_manifest_can_be_asked_for_by_sha512() {
    let mut hasher = coracle_spec::digest::Hasher::new(coracle_spec::digest::Algorithm::Sha512);
    hasher.update(manifest().as_bytes());
    let sha512 = hasher.finish();
    let server = Server::start(serve_manifest).await;
    let found = Setup::new().pull(&server).manifest(&Pick::Digest(sha512)).await.unwrap();
    assert_eq!(found.descriptor.digest, sha512);
}

#[tokio::test]
async fn answers_that_are_no_manifest_are_refused_with_a_reason() {
    let plain = |kind: &'static str, body: &'static str| (kind, body.to_owned());
    let rows: Vec<(&str, (&str, String), &str)> = vec![
        ("html", plain("text/html; charset=utf-8", "<html>sign in</html>"), "page for people"),
        ("no json", plain(media_type::MANIFEST, "hello"), "no usable manifest"),
        ("empty", plain(media_type::MANIFEST, ""), "no usable manifest"),
        ("neither", plain(media_type::MANIFEST, r#"{"schemaVersion":2}"#), "neither a manifest nor an index"),
        (
            "both",
            plain(media_type::MANIFEST, r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#),
            "both a manifest and an index",
        ),
        ("mislabelled", (media_type::INDEX, manifest()), "disagree"),
        ("deep", (media_type::MANIFEST, "[".repeat(100_000)), "no usable manifest"),
        ("truncated json", (media_type::MANIFEST, manifest()[..100].to_owned()), "no usable manifest"),
    ];
    for (name, (kind, body), reason) in rows {
        let kind = kind.to_owned();
        let server = Server::start(move |_| Reply::new(200, &[("Content-Type", &kind)], &body)).await;
        let error = Setup::new().pull(&server).manifest(&tag("x")).await.unwrap_err();
        assert!(text(&error).contains(reason), "{name}: {}", text(&error));
        assert_eq!(server.requests().len(), 1, "{name}: it would be no better the next time");
    }
}

#[tokio::test]
async fn schema_1_is_refused_with_advice() {
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let plain = "application/vnd.docker.distribution.manifest.v1+json";
    for kind in [signed, plain, "application/json"] {
        let server = Server::start(move |request| {
            let body = r#"{"schemaVersion":1,"name":"a/b","tag":"x","fsLayers":[],"history":[]}"#;
            let digest = Digest::of(body.as_bytes()).to_string();
            let headers = [("Content-Type", kind), ("Docker-Content-Digest", digest.as_str())];
            match request.method.as_str() {
                "HEAD" => Reply::head(200, &[headers[0], headers[1], ("Content-Length", "70")]),
                _ => Reply::new(200, &headers, body),
            }
        })
        .await;
        let repository = Setup::new().pull(&server);
        for error in [
            repository.manifest(&tag("x")).await.map(|_| ()).unwrap_err(),
            repository.describe(&tag("x")).await.map(|_| ()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Schema1 { .. }), "{kind}: {error:?}");
            assert!(error.to_string().contains("push it again"), "{error}");
        }
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    type Is = fn(&Error) -> bool;
    let rows: Vec<(u16, &str, Is, &str)> = vec![
        (
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            |e| matches!(e, Error::ManifestUnknown { .. }),
            "a/b:x: manifest unknown",
        ),
        (404, "", |e| matches!(e, Error::ManifestUnknown { .. }), "a/b:x"),
        (
            400,
            r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
            |e| matches!(e, Error::ManifestUnknown { .. }),
            "name unknown",
        ),
        (401, "", |e| matches!(e, Error::Unauthorized { .. }), "unauthorized"),
        (
            403,
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
            |e| matches!(e, Error::Denied { .. }),
            "requested access",
        ),
        (400, r#"{"errors":[{"code":"DENIED"}]}"#, |e| matches!(e, Error::Denied { .. }), "denied"),
        (
            400,
            r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
            |e| matches!(e, Error::Unauthorized { .. }),
            "unauthorized",
        ),
        (418, "<html>teapot</html>", |e| matches!(e, Error::Status { status: 418, .. }), "status 418"),
        (204, "", |e| matches!(e, Error::Status { status: 204, .. }), "status 204"),
        (304, "", |e| matches!(e, Error::Status { status: 304, .. }), "status 304"),
    ];
    for (status, body, is, said) in rows {
        let server = Server::start(move |_| match status {
            204 | 304 => Reply::head(status, &[]),
            _ => Reply::new(status, &[("Content-Type", "application/json")], body),
        })
        .await;
        let error = Setup::new().pull(&server).manifest(&tag("x")).await.unwrap_err();
        assert!(is(&error) && error.to_string().contains(said), "{status} {body}: {error}");
        assert_eq!(server.requests().len(), 1, "{status} is not tried again");
    }
}

#[tokio::test]
async fn what_a_registry_says_cannot_move_the_cursor() {
    let server = Server::start(|_| {
        Reply::new(404, &[], "{\"errors\":[{\"message\":\"\\u001b[2Jgone\\n\\u202eevil\"}]}")
    })
    .await;
    let error = Setup::new().pull(&server).manifest(&tag("x")).await.unwrap_err().to_string();
    assert!(error.contains("gone") && !error.contains(['\u{1b}', '\n', '\u{202e}']), "{error:?}");
}

#[tokio::test]
async fn a_manifest_is_stored_with_its_type_and_its_digest_is_checked() {
    let server = Server::start(|request| {
        let stored = Digest::of(&request.body).to_string();
        let lie = Digest::of(b"other").to_string();
        match request.path() {
            "/v2/a/b/manifests/lie" => Reply::new(201, &[("Docker-Content-Digest", &lie)], ""),
            "/v2/a/b/manifests/silent" => Reply::new(201, &[], ""),
            _ => Reply::new(201, &[("Docker-Content-Digest", &stored)], ""),
        }
    })
    .await;
    let repository = Setup::new().push(&server);
    let put = |pick: Pick| {
        let repository = repository.clone();
        async move { repository.put_manifest(&pick, media_type::MANIFEST, manifest().into()).await }
    };
    assert_eq!(put(tag("x")).await.unwrap(), digest());
    assert_eq!(put(tag("silent")).await.unwrap(), digest());
    assert_eq!(put(Pick::Digest(digest())).await.unwrap(), digest());
    assert!(matches!(put(tag("lie")).await, Err(Error::DigestMismatch { .. })));
    let sent = server.requests().len();
    assert!(matches!(put(Pick::Digest(Digest::of(b"y"))).await, Err(Error::DigestMismatch { .. })));
    assert_eq!(server.requests().len(), sent, "content under a wrong digest is not even sent");
    let first = &server.requests()[0];
    assert_eq!(first.header("content-type"), Some(media_type::MANIFEST));
    assert_eq!(first.body, manifest().as_bytes());
}

#[tokio::test]
async fn referrers_come_from_the_api_or_from_the_tag_that_stands_in() {
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"digest":"{}","size":3}}]}}"#,
        media_type::INDEX,
        digest()
    );
    let subject = Digest::of(b"subject");
    for (name, api, tag, found) in [
        ("api", 200, 404, 1),
        ("no api", 404, 200, 1),
        ("not allowed", 405, 200, 1),
        ("nothing", 404, 404, 0),
    ] {
        let index = index.clone();
        let server = Server::start(move |request| {
            let status = if request.path().starts_with("/v2/a/b/referrers/") { api } else { tag };
            match status {
                200 => Reply::new(200, &[("Content-Type", media_type::INDEX)], &index),
                other => Reply::new(other, &[], ""),
            }
        })
        .await;
        let list = Setup::new().pull(&server).referrers(&subject).await.unwrap();
        assert_eq!(list.manifests.len(), found, "{name}");
        let asked = server.asked();
        assert_eq!(asked[0], format!("GET /v2/a/b/referrers/{subject}"), "{name}");
        if api != 200 {
            assert_eq!(asked[1], format!("GET /v2/a/b/manifests/sha256-{}", subject.hex()), "{name}");
        }
    }
}

#[tokio::test]
async fn futures_can_move_between_threads() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    let server = Server::start(serve_manifest).await;
    let client = Setup::new().client();
    let repository = client.repository(&name(&server.host()), Credentials::Anonymous, Access::Push);
    let task = tokio::spawn(movable(async move {
        let pick = tag("x");
        let found = repository.manifest(&pick).await.unwrap();
        repository.describe(&pick).await.unwrap();
        found.descriptor.digest
    }));
    assert_eq!(task.await.unwrap(), digest());
}
