//! Redirects: followed as far as they may lead, without what is another host's.

use crate::fixture::{BASIC, PASSWORD, Setup, blob, content, fetch, serve_manifest, tag, text, user};
use crate::server::{Reply, Server};
use coracle_registry::{Access, Error, Repository};

/// A server that asks for Basic credentials, and redirects with this status to `to`.
async fn redirecting(status: u16, to: String) -> Server {
    Server::start(move |request| match request.header("authorization") {
        None => Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], ""),
        Some(_) => Reply::new(status, &[("Location", &to)], ""),
    })
    .await
}

fn as_user(server: &Server) -> Repository {
    Setup::new().repository(&server.host(), user(), Access::Pull)
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_port_or_host() {
    for status in [301, 302, 303, 307, 308] {
        let storage = Server::start(|_| Reply::new(200, &[], content(100))).await;
        let server = redirecting(status, storage.url("/stored?signature=abc")).await;
        let got = fetch(&as_user(&server), &blob(&content(100)), 0).await.unwrap();
        assert_eq!(got, content(100), "{status}");
        assert_eq!(server.requests()[1].header("authorization"), Some(BASIC), "{status}");
        assert_eq!(storage.asked(), ["GET /stored?signature=abc"], "{status}");
        assert!(!storage.saw(BASIC) && !storage.saw(PASSWORD), "{status}");
        let names = ["authorization", "cookie", "referer", "proxy-authorization"];
        assert!(names.iter().all(|name| storage.requests()[0].header(name).is_none()), "{status}");
    }
}

#[tokio::test]
async fn credentials_follow_on_the_same_host() {
    let server = Server::start(|request| match (request.header("authorization"), request.path()) {
        (None, _) => Reply::new(401, &[("WWW-Authenticate", "Basic")], ""),
        (_, "/elsewhere") => serve_manifest(request),
        _ => Reply::new(307, &[("Location", "/elsewhere")], ""),
    })
    .await;
    as_user(&server).manifest(&tag("x")).await.unwrap();
    assert_eq!(server.requests()[2].header("authorization"), Some(BASIC));
}

#[tokio::test]
async fn a_challenge_of_another_host_gets_nothing() {
    let thief =
        Server::start(|_| Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"give me\"")], "")).await;
    let server = redirecting(307, thief.url("/trap")).await;
    let error = as_user(&server).manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(thief.requests().len(), 1);
    assert!(!thief.saw(BASIC));
}

#[tokio::test]
async fn a_token_server_that_another_host_names_gets_nothing() {
    let thief = Server::start(|request| {
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
        Reply::new(401, &[("WWW-Authenticate", &realm)], "")
    })
    .await;
    let to = thief.url("/trap");
    let server = Server::start(move |_| Reply::new(307, &[("Location", &to)], "")).await;
    let error = as_user(&server).manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(thief.asked(), ["GET /trap"]);
    assert!(!thief.saw(BASIC));
}

#[tokio::test]
async fn loops_and_long_ways_end() {
    for (name, next) in [("loop", "/v2/a/b/manifests/x"), ("long way", "N")] {
        let server = Server::start(move |request| {
            let longer = format!("{}0", request.path());
            Reply::new(302, &[("Location", if next == "N" { &longer } else { next })], "")
        })
        .await;
        let error = Setup::new().pull(&server).manifest(&tag("x")).await.unwrap_err();
        assert!(text(&error).contains("too many redirects"), "{name}: {}", text(&error));
        assert_eq!(server.requests().len(), 11, "{name}");
    }
}

#[tokio::test]
async fn ten_redirects_are_not_too_many() {
    let server = Server::start(|request| match request.path().len() {
        ..29 => Reply::new(302, &[("Location", &format!("{}0", request.path()))], ""),
        _ => serve_manifest(request),
    })
    .await;
    Setup::new().pull(&server).manifest(&tag("x")).await.unwrap();
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
async fn locations_that_lead_nowhere_are_refused() {
    for location in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "unix:///var/run/docker.sock",
        "data:text/plain,hello",
        "javascript:alert(1)",
        "http://user:secret@127.0.0.1/",
        "http://user@127.0.0.1/",
        "http://",
        "http://[::1",
        "",
    ] {
        let server = Server::start(move |_| Reply::new(302, &[("Location", location)], "")).await;
        let error = Setup::new().pull(&server).manifest(&tag("x")).await.unwrap_err();
        let expected = matches!(error, Error::Redirect { .. } | Error::Protocol { .. });
        assert!(expected, "{location:?}: {error:?}");
        assert!(!text(&error).contains("secret"), "{error}");
        assert_eq!(server.requests().len(), 1, "{location:?}");
    }
}

#[tokio::test]
async fn a_redirect_without_location_is_an_error() {
    let server = Server::start(|_| Reply::new(302, &[], "")).await;
    let error = Setup::new().pull(&server).manifest(&tag("x")).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn ranges_survive_a_redirect() {
    let storage = Server::start(|request| {
        assert_eq!(request.header("range"), Some("bytes=40-"));
        Reply::new(206, &[("Content-Range", "bytes 40-99/100")], &content(100)[40..])
    })
    .await;
    let to = storage.url("/stored");
    let server = Server::start(move |_| Reply::new(307, &[("Location", &to)], "")).await;
    let got = fetch(&Setup::new().pull(&server), &blob(&content(100)), 40).await.unwrap();
    assert_eq!(got, content(100)[40..]);
}

#[tokio::test]
async fn signed_addresses_are_not_repeated_in_errors() {
    let storage = Server::start(|_| Reply::raw("").then_close()).await;
    let to = storage.url("/stored?signature=topsecret");
    let server = Server::start(move |_| Reply::new(307, &[("Location", &to)], "")).await;
    let error = fetch(&Setup::new().pull(&server), &blob(&content(100)), 0).await.unwrap_err();
    assert!(!text(&error).contains("topsecret"), "{}", text(&error));
    assert!(!format!("{error:?}").contains("topsecret"), "{error:?}");
}

#[tokio::test]
async fn a_redirected_post_is_not_followed_as_a_get() {
    let server = Server::start(|_| Reply::new(302, &[("Location", "/elsewhere")], "")).await;
    let error = Setup::new().push(&server).put_manifest(&tag("x"), "a/b", "{}".into()).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 302, .. }), "{error:?}");
    assert_eq!(server.requests().len(), 1);
}
