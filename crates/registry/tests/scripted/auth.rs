//! Credentials: which challenges are answered, with what, and where tokens come from.

use crate::fixture::{BASIC, PASSWORD, Setup, blob, content, fetch, name, serve_manifest, tag, text, user};
use crate::server::{Reply, Request, Server};
use coracle_registry::{Access, Credentials, Error, Repository, Secret};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What a registry with a token server of its own answers: it takes `token`.
fn guarded(request: &Request, token: &str, challenge: &str) -> Reply {
    match request.header("authorization") {
        Some(sent) if sent == format!("Bearer {token}") => serve_manifest(request),
        _ => Reply::new(401, &[("WWW-Authenticate", challenge)], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
    }
}

fn challenge(request: &Request) -> String {
    format!(
        r#"Bearer realm="http://{}/token?own=1",service="the registry",scope="repository:a/b:pull""#,
        request.header("host").unwrap()
    )
}

/// A registry whose token server answers `answer`; its token is `good`.
async fn with_tokens(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| match request.path() {
        "/token" => answer(request),
        _ => guarded(request, "good", &challenge(request)),
    })
    .await
}

fn token(text: &str) -> Reply {
    Reply::new(200, &[("Content-Type", "application/json")], text)
}

fn pull(server: &Server, credentials: Credentials) -> Repository {
    Setup::new().repository(&server.host(), credentials, Access::Pull)
}

#[tokio::test]
async fn basic_credentials_are_sent_once_they_are_asked_for_and_then_at_once() {
    let server = Server::start(|request| match request.header("authorization") {
        Some(BASIC) => serve_manifest(request),
        _ => Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], ""),
    })
    .await;
    let repository = pull(&server, user());
    repository.manifest(&tag("x")).await.unwrap();
    repository.manifest(&tag("x")).await.unwrap();
    let sent: Vec<bool> = server.requests().iter().map(|r| r.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

#[tokio::test]
async fn an_anonymous_client_answers_no_basic_challenge() {
    let server = Server::start(|_| Reply::new(401, &[("WWW-Authenticate", "Basic")], "")).await;
    let error = pull(&server, Credentials::Anonymous).manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn wrong_credentials_are_tried_once() {
    let server = Server::start(|_| Reply::new(401, &[("WWW-Authenticate", "Basic")], "")).await;
    let error = pull(&server, user()).manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 2);
    assert!(!text(&error).contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD));
}

#[tokio::test]
async fn credentials_that_are_no_longer_taken_are_not_sent_twice() {
    let server =
        Server::start(|request| match (request.header("authorization"), request.target.contains("old")) {
            (Some(BASIC), true) => serve_manifest(request),
            _ => Reply::new(401, &[("WWW-Authenticate", "Basic")], ""),
        })
        .await;
    let repository = pull(&server, user());
    repository.manifest(&tag("old")).await.unwrap();
    assert!(matches!(repository.manifest(&tag("new")).await, Err(Error::Unauthorized { .. })));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_token_is_fetched_with_service_scope_and_credentials_and_used_again() {
    for (credentials, basic) in [(user(), Some(BASIC)), (Credentials::Anonymous, None)] {
        let server = with_tokens(|_| token(r#"{"token":"good","expires_in":300}"#)).await;
        let repository = pull(&server, credentials);
        repository.manifest(&tag("x")).await.unwrap();
        repository.manifest(&tag("y")).await.unwrap();
        let asked = server.requests();
        assert_eq!(asked.len(), 4);
        assert!(asked[1].is("GET", "/token"));
        let query = asked[1].query();
        let wanted = "own=1&service=the+registry&scope=repository%3Aa%2Fb%3Apull";
        assert!(query.starts_with(wanted), "{query}");
        assert_eq!(query.matches("scope=").count(), 1, "{query}");
        assert_eq!(asked[1].header("authorization"), basic);
        assert_eq!(asked[3].header("authorization"), Some("Bearer good"));
    }
}

#[tokio::test]
async fn a_client_that_pushes_asks_for_that() {
    let server = with_tokens(|_| token(r#"{"access_token":"good"}"#)).await;
    let repository = Setup::new().repository(&server.host(), user(), Access::Push);
    repository.manifest(&tag("x")).await.unwrap();
    assert!(server.requests()[1].query().contains("scope=repository%3Aa%2Fb%3Apull%2Cpush"));
}

#[tokio::test]
async fn the_strongest_of_several_challenges_is_answered() {
    for several in [true, false] {
        let server = Server::start(move |request| {
            let bearer = challenge(request);
            match (request.path(), request.header("authorization")) {
                ("/token", _) => token(r#"{"token":"good"}"#),
                (_, Some("Bearer good")) => serve_manifest(request),
                _ if several => {
                    let headers =
                        [("WWW-Authenticate", "Basic realm=\"r\""), ("WWW-Authenticate", bearer.as_str())];
                    Reply::new(401, &headers, "")
                }
                _ => {
                    let one = format!("Basic realm=\"a, b\", Negotiate, {bearer}");
                    Reply::new(401, &[("WWW-Authenticate", &one)], "")
                }
            }
        })
        .await;
        pull(&server, user()).manifest(&tag("x")).await.unwrap();
    }
}

#[tokio::test]
async fn an_expired_token_is_replaced_before_it_is_sent() {
    let server = with_tokens(|_| token(r#"{"token":"good","expires_in":100}"#)).await;
    let setup = Setup::new();
    let repository = setup.pull(&server);
    repository.manifest(&tag("x")).await.unwrap();
    setup.clock.advance(Duration::from_secs(99));
    repository.manifest(&tag("x")).await.unwrap();
    let tokens = || server.requests().iter().filter(|request| request.path() == "/token").count();
    assert_eq!(tokens(), 1);
    setup.clock.advance(Duration::from_secs(2));
    repository.manifest(&tag("x")).await.unwrap();
    assert_eq!(tokens(), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_and_then_it_is_an_error() {
    let tokens = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tokens);
    // Only the second token is good, and only for one request.
    let server = Server::start(move |request| match request.path() {
        "/token" => token(&format!(r#"{{"token":"t{}"}}"#, count.fetch_add(1, Ordering::SeqCst))),
        _ => match request.header("authorization") {
            Some("Bearer t0") if request.before < 2 => serve_manifest(request),
            Some("Bearer t1") => serve_manifest(request),
            _ => Reply::new(401, &[("WWW-Authenticate", &challenge(request))], ""),
        },
    })
    .await;
    let repository = pull(&server, Credentials::Anonymous);
    for _ in 0..3 {
        repository.manifest(&tag("x")).await.unwrap();
    }
    assert_eq!(tokens.load(Ordering::SeqCst), 2);
    let always = Server::start(move |request| match request.path() {
        "/token" => token(r#"{"token":"never good"}"#),
        _ => Reply::new(401, &[("WWW-Authenticate", &challenge(request))], ""),
    })
    .await;
    let error = pull(&always, user()).manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(always.requests().len(), 3, "request, token, request");
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_of_a_blob_is_replaced() {
    let all = content(200_000);
    let served = all.clone();
    let server = Server::start(move |request| match (request.path(), request.header("authorization")) {
        ("/token", _) => token(&format!(r#"{{"token":"t{}"}}"#, request.before)),
        (_, Some("Bearer t0")) if request.header("range").is_none() => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", served.len());
            Reply::raw([head.as_bytes(), &served[..100_000]].concat()).then_close()
        }
        (_, Some("Bearer t1")) => {
            Reply::new(206, &[("Content-Range", "bytes 100000-199999/200000")], &served[100_000..])
        }
        _ => Reply::new(401, &[("WWW-Authenticate", &challenge(request))], ""),
    })
    .await;
    assert_eq!(fetch(&pull(&server, Credentials::Anonymous), &blob(&all), 0).await.unwrap(), all);
}

#[tokio::test]
async fn token_servers_that_misbehave_are_errors_and_get_no_request_further() {
    let long = format!(r#"{{"token":"{}"}}"#, "a".repeat(100_000));
    for (name, reply) in [
        ("no token", Box::new(|| token("{}")) as Box<dyn Fn() -> Reply + Send + Sync>),
        ("empty token", Box::new(|| token(r#"{"token":""}"#))),
        ("null", Box::new(|| token("null"))),
        ("html", Box::new(|| token("<html>"))),
        ("line break", Box::new(|| token(r#"{"token":"a\r\nX-Evil: 1"}"#))),
        ("too long", Box::new(move || token(&long))),
        (
            "endless",
            Box::new(|| Reply::raw("HTTP/1.1 200 OK\r\n\r\n{\"token\":\"").then_repeat(vec![b'a'; 65536])),
        ),
        ("gzip", Box::new(|| Reply::new(200, &[("Content-Encoding", "gzip")], r#"{"token":"good"}"#))),
        ("201", Box::new(|| Reply::new(201, &[], r#"{"token":"good"}"#))),
        (
            "401",
            Box::new(|| Reply::new(401, &[("WWW-Authenticate", "Basic")], r#"{"details":"wrong password"}"#)),
        ),
        ("403", Box::new(|| Reply::new(403, &[], ""))),
        ("loop", Box::new(|| Reply::new(302, &[("Location", "/token")], ""))),
    ] {
        let server = with_tokens(move |_| reply()).await;
        let error = pull(&server, user()).manifest(&tag("x")).await.unwrap_err();
        assert_eq!(matches!(error, Error::Unauthorized { .. }), name == "401", "{name}: {error:?}");
        assert!(name != "401" || error.to_string().contains("wrong password"), "{error}");
        let manifests = server.requests().iter().filter(|request| request.path() != "/token").count();
        assert_eq!(manifests, 1, "{name}");
        assert!(!text(&error).contains("good") && !text(&error).contains(PASSWORD), "{name}");
    }
}

#[tokio::test]
async fn a_busy_token_server_is_asked_again() {
    let server = with_tokens(|request| match request.before {
        0 => Reply::new(503, &[("Retry-After", "3")], ""),
        1 => Reply::raw("").then_close(),
        _ => token(r#"{"token":"good"}"#),
    })
    .await;
    let setup = Setup::new();
    setup.pull(&server).manifest(&tag("x")).await.unwrap();
    assert_eq!(setup.clock.pauses()[0], Duration::from_secs(3));
}

#[tokio::test]
async fn realms_that_lead_nowhere_are_refused() {
    for realm in [
        "",
        "token",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/t",
        "http://",
        "javascript:x",
        "\\\"",
        "gopher://x/",
    ] {
        let server = Server::start(move |_| {
            Reply::new(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))], "")
        })
        .await;
        let error = pull(&server, user()).manifest(&tag("x")).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. } | Error::Redirect { .. }), "{realm}: {error:?}");
        assert_eq!(server.requests().len(), 1, "{realm}");
    }
}

#[tokio::test]
async fn a_challenge_without_or_with_a_huge_realm_is_no_challenge() {
    for field in [
        "Bearer".to_owned(),
        format!("Bearer realm=\"http://{}/\"", "a".repeat(10_000)),
        "Digest x=y".to_owned(),
    ] {
        let server = Server::start(move |_| Reply::new(401, &[("WWW-Authenticate", &field)], "")).await;
        let error = pull(&server, user()).manifest(&tag("x")).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
        assert!(!server.saw(BASIC));
    }
}

#[tokio::test]
async fn scopes_of_a_challenge_cannot_add_to_the_request() {
    let server = Server::start(|request| match request.path() {
        "/token" => token(r#"{"token":"good"}"#),
        _ => {
            let realm = format!("http://{}/token", request.header("host").unwrap());
            let field = format!(
                "Bearer realm=\"{realm}\",service=\"s&x=1#\",scope=\"repository:c/d:pull evil&y=2 a:b:c&z=3\""
            );
            guarded(request, "good", &field)
        }
    })
    .await;
    pull(&server, Credentials::Anonymous).manifest(&tag("x")).await.unwrap();
    let query = server.requests()[1].query().to_owned();
    assert_eq!(
        query,
        "service=s%26x%3D1%23&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%2Fd%3Apull&scope=a%3Ab%3Ac%26z%3D3"
    );
}

#[tokio::test]
async fn an_identity_token_is_changed_into_tokens() {
    let server = with_tokens(|request| match request.method.as_str() {
        "POST" => token(r#"{"access_token":"good"}"#),
        _ => Reply::new(500, &[], ""),
    })
    .await;
    pull(&server, Credentials::IdentityToken(Secret::new("refresh me"))).manifest(&tag("x")).await.unwrap();
    let asked = &server.requests()[1];
    let form = String::from_utf8(asked.body.clone()).unwrap();
    for field in [
        "grant_type=refresh_token",
        "service=the+registry",
        "client_id=coracle",
        "scope=repository%3Aa%2Fb%3Apull",
        "refresh_token=refresh+me",
    ] {
        assert!(form.split('&').any(|part| part == field), "{form}");
    }
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn a_token_server_of_the_older_kind_gets_the_identity_token_as_a_password() {
    for status in [404, 405] {
        let server =
            with_tokens(move |request| match (request.method.as_str(), request.header("authorization")) {
                ("POST", _) => Reply::new(status, &[], ""),
                (_, Some("Basic PHRva2VuPjpyZWZyZXNo")) => token(r#"{"token":"good"}"#),
                _ => Reply::new(401, &[], ""),
            })
            .await;
        pull(&server, Credentials::IdentityToken(Secret::new("refresh"))).manifest(&tag("x")).await.unwrap();
    }
}

#[tokio::test]
async fn a_refresh_token_does_not_follow_a_redirect_to_another_host() {
    let thief = Server::start(|_| token(r#"{"token":"good"}"#)).await;
    let to = thief.url("/token");
    for status in [302, 307, 308] {
        let to = to.clone();
        let server = with_tokens(move |_| Reply::new(status, &[("Location", &to)], "")).await;
        let credentials = Credentials::IdentityToken(Secret::new("refresh"));
        assert!(pull(&server, credentials).manifest(&tag("x")).await.is_err(), "{status}");
        // A password does not go there either, but the anonymous rest of the request may.
        let _anonymous = pull(&server, user()).manifest(&tag("x")).await;
    }
    assert!(!thief.saw("refresh") && !thief.saw(BASIC));
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is_and_never_exchanged() {
    let server = with_tokens(|_| token(r#"{"token":"good"}"#)).await;
    pull(&server, Credentials::RegistryToken(Secret::new("good"))).manifest(&tag("x")).await.unwrap();
    assert_eq!(server.requests().len(), 1);
    let error =
        pull(&server, Credentials::RegistryToken(Secret::new("bad"))).manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_token_serves_nobody_else() {
    let server = with_tokens(|request| match request.header("authorization") {
        Some(BASIC) => token(r#"{"token":"good"}"#),
        _ => Reply::new(401, &[], ""),
    })
    .await;
    let client = Setup::new().client();
    let of = |who| client.repository(&name(&server.host()), who, Access::Pull);
    of(user()).manifest(&tag("x")).await.unwrap();
    assert!(of(Credentials::Anonymous).manifest(&tag("x")).await.is_err());
    let other = Credentials::Basic { username: "other".to_owned(), password: Secret::new("x") };
    assert!(of(other).manifest(&tag("x")).await.is_err());
    of(user()).manifest(&tag("x")).await.unwrap();
}

#[tokio::test]
async fn a_token_server_on_another_host_of_this_machine_is_used_for_a_local_registry() {
    let issuer = Server::start(|_| token(r#"{"token":"good"}"#)).await;
    let realm = format!("Bearer realm=\"{}\"", issuer.url("/t"));
    let server = Server::start(move |request| guarded(request, "good", &realm)).await;
    pull(&server, user()).manifest(&tag("x")).await.unwrap();
    assert_eq!(issuer.requests()[0].header("authorization"), Some(BASIC));
    assert!(!server.saw(BASIC), "the password is for the token server");
}
