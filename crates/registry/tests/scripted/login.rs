//! `docker login` and `docker search`.

use crate::fixture::{BASIC, PASSWORD, Setup, user};
use crate::server::{Reply, Server};
use coracle_registry::{Credentials, Error, Secret};

#[tokio::test]
async fn credentials_are_checked_with_basic_authentication() {
    let server = Server::start(|request| match request.header("authorization") {
        Some(BASIC) => Reply::new(200, &[], "{}"),
        _ => Reply::new(
            401,
            &[("WWW-Authenticate", "Basic realm=\"r\"")],
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
        ),
    })
    .await;
    let client = Setup::new().client();
    let login = client.login(&server.host(), user()).await.unwrap();
    assert_eq!((login.status.as_str(), login.identity_token), ("Login Succeeded", None));
    assert!(server.requests().iter().all(|request| request.is("GET", "/v2/")));
    let wrong = Credentials::Basic { username: "user".to_owned(), password: Secret::new("wrong") };
    let error = client.login(&format!("http://{}/v1/", server.host()), wrong).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert!(error.to_string().contains("authentication required"), "{error}");
}

#[tokio::test]
async fn a_token_server_may_issue_a_refresh_token() {
    let server = Server::start(|request| match (request.path(), request.header("authorization")) {
        ("/token", Some(BASIC)) => Reply::new(200, &[], r#"{"token":"good","refresh_token":"keep me"}"#),
        ("/token", _) => Reply::new(401, &[], r#"{"details":"incorrect username or password"}"#),
        (_, Some("Bearer good")) => Reply::new(200, &[], ""),
        _ => {
            let realm =
                format!("Bearer realm=\"http://{}/token\",service=\"s\"", request.header("host").unwrap());
            Reply::new(401, &[("WWW-Authenticate", &realm)], "")
        }
    })
    .await;
    let client = Setup::new().client();
    let login = client.login(&server.host(), user()).await.unwrap();
    assert_eq!(login.identity_token.as_ref().map(Secret::expose), Some("keep me"));
    assert!(!format!("{login:?}").contains("keep me"));
    let query = server.requests()[1].query().to_owned();
    assert_eq!(query, "service=s&account=user&offline_token=true&client_id=coracle");
    let wrong = Credentials::Basic { username: "user".to_owned(), password: Secret::new("wrong") };
    let error = client.login(&server.host(), wrong).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert!(error.to_string().contains("incorrect username"), "{error}");
}

#[tokio::test]
async fn a_host_that_is_no_registry_is_told_so() {
    let server = Server::start(|_| Reply::new(404, &[], "<html>")).await;
    let error = Setup::new().client().login(&server.host(), user()).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 404, .. }), "{error:?}");
    assert!(!server.saw(BASIC) && !server.saw(PASSWORD));
}

#[tokio::test]
async fn a_search_gives_what_was_found_within_the_limit() {
    let server = Server::start(|request| {
        assert!(request.is("GET", "/v1/search"));
        let one = r#"{"name":"a/b","description":"d","star_count":3,"is_official":true,"is_automated":false,"x":1}"#;
        Reply::new(200, &[], format!(r#"{{"num_results":3,"results":[{one},{one},{{"name":"c","description":null,"star_count":-1}}]}}"#))
    })
    .await;
    let client = Setup::new().client();
    let found = client.search(&server.host(), "a b", 2, Credentials::Anonymous).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].name.as_str(), found[0].star_count, found[0].is_official), ("a/b", 3, true));
    assert_eq!(server.requests()[0].query(), "q=a+b&n=2");
    assert_eq!(client.search(&server.host(), "a", 25, Credentials::Anonymous).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_search_that_fails_or_never_ends_is_an_error() {
    let server = Server::start(|request| match request.query() {
        "q=none" => Reply::new(404, &[], ""),
        "q=html" => Reply::new(200, &[], "<html>"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\n\r\n").then_repeat(vec![b' '; 65536]),
    })
    .await;
    let client = Setup::new().client();
    let host = server.host();
    let search = |term: &'static str| client.search(&host, term, 0, Credentials::Anonymous);
    assert!(matches!(search("none").await, Err(Error::Status { status: 404, .. })));
    assert!(matches!(search("html").await, Err(Error::Protocol { .. })));
    assert!(matches!(search("endless").await, Err(Error::TooLarge { .. })));
}
