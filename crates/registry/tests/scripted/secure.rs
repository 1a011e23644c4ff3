//! TLS and proxies. Names lead to this machine through a proxy, so that the rules for hosts elsewhere apply.

use crate::fixture::{BASIC, Setup, blob, content, fetch, name, serve_manifest, tag, text, user};
use crate::server::{Reply, Request, Server};
use crate::tls::{Proxy, acceptor, put};
use coracle_certificates::{Authority, Pair, expired_self_signed, self_signed};
use coracle_registry::{Access, Credentials, Error, Repository};
use std::time::Duration;
use tempfile::TempDir;

const HOST: &str = "registry.test";

/// A registry with TLS, the proxy that leads to it, and what the client trusts.
struct World {
    server: Server,
    proxy: Proxy,
    directory: TempDir,
    setup: Setup,
}

impl World {
    /// `names` lead to the registry.
    async fn new(
        pair: &Pair,
        names: &[&str],
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let server = Server::start_tls(acceptor(pair, None), script).await;
        Self::around(server, names).await
    }

    async fn around(server: Server, names: &[&str]) -> Self {
        let names: Vec<(String, _)> =
            names.iter().map(|name| (format!("{name}:443"), server.address)).collect();
        let names: Vec<(&str, _)> = names.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        let proxy = Proxy::start(&names).await;
        let directory = tempfile::tempdir().unwrap();
        let mut setup = Setup::new();
        setup.proxy.https = Some(proxy.address.to_string());
        setup.certificates = directory.path().to_owned();
        Self { server, proxy, directory, setup }
    }

    fn trust(self, host: &str, authority: &str) -> Self {
        put(self.directory.path(), host, "ca.crt", authority);
        self
    }

    fn repository(&self, credentials: Credentials) -> Repository {
        self.setup.repository(HOST, credentials, Access::Pull)
    }

    async fn refusal(&self) -> Error {
        self.repository(user()).manifest(&tag("x")).await.unwrap_err()
    }
}

#[tokio::test]
async fn an_authority_of_the_hosts_directory_is_trusted_for_that_host() {
    let authority = Authority::new();
    let world =
        World::new(&authority.server(HOST), &[HOST], serve_manifest).await.trust(HOST, &authority.pem());
    world.repository(Credentials::Anonymous).manifest(&tag("x")).await.unwrap();
    assert!(world.proxy.asked()[0].starts_with("CONNECT registry.test:443 "));
    let world = World::new(&authority.server(HOST), &[HOST], serve_manifest)
        .await
        .trust("other.test", &authority.pem());
    let error = world.refusal().await;
    assert!(text(&error).contains("certificate"), "{}", text(&error));
}

#[tokio::test]
async fn the_directory_may_be_named_with_the_port() {
    let authority = Authority::new();
    let world = World::new(&authority.server(HOST), &[HOST], serve_manifest)
        .await
        .trust("registry.test:443", &authority.pem());
    world.repository(Credentials::Anonymous).manifest(&tag("x")).await.unwrap();
}

#[tokio::test]
async fn who_cannot_prove_its_name_gets_nothing_and_is_not_tried_again() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (name, pair, trusted) in [
        ("unknown authority", other.server(HOST), authority.pem()),
        ("other name", authority.server("other.test"), authority.pem()),
        ("expired", authority.expired_server(HOST), authority.pem()),
        ("self-signed", self_signed(HOST), authority.pem()),
    ] {
        let world = World::new(&pair, &[HOST], serve_manifest).await.trust(HOST, &trusted);
        let error = world.refusal().await;
        assert!(text(&error).contains("certificate"), "{name}: {}", text(&error));
        assert!(world.server.requests().is_empty(), "{name}");
        assert_eq!(world.server.connections(), 1, "{name}");
        assert!(world.setup.clock.pauses().is_empty(), "{name}");
        // CVE-2014-5277: no fallback to a connection without TLS.
        assert!(
            world.proxy.asked().iter().all(|head| head.starts_with("CONNECT registry.test:443 ")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_the_configured_one() {
    for (pair, name, fine) in [
        (self_signed(HOST), "configured", true),
        (expired_self_signed(HOST), "expired", false),
        (self_signed("other.test"), "other name", false),
    ] {
        let world = World::new(&pair, &[HOST], serve_manifest).await.trust(HOST, &pair.certificate);
        let result = world.repository(Credentials::Anonymous).manifest(&tag("x")).await;
        assert_eq!(result.is_ok(), fine, "{name}: {result:?}");
    }
}

#[tokio::test]
async fn a_listed_registry_need_not_prove_anything() {
    let mut world = World::new(&expired_self_signed("other.test"), &[HOST], serve_manifest).await;
    world.setup.insecure.push(HOST.to_owned());
    world.repository(Credentials::Anonymous).manifest(&tag("x")).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_its_host() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for (client, fine) in [(Some(clients.client()), true), (Some(authority.client()), false), (None, false)] {
        let acceptor = acceptor(&authority.server(HOST), Some(&clients));
        let server = Server::start_tls(acceptor, serve_manifest).await;
        let world = World::around(server, &[HOST]).await.trust(HOST, &authority.pem());
        if let Some(client) = client {
            put(world.directory.path(), HOST, "client.cert", &client.certificate);
            put(world.directory.path(), HOST, "client.key", &client.key);
        }
        let result = world.repository(Credentials::Anonymous).manifest(&tag("x")).await;
        assert_eq!(result.is_ok(), fine, "{result:?}");
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let pair = Authority::new().client();
    for (file, content) in [
        ("ca.crt", "no certificate"),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("client.cert", pair.certificate.as_str()),
        ("client.cert", ""),
    ] {
        let world = World::new(&self_signed(HOST), &[HOST], serve_manifest).await;
        put(world.directory.path(), HOST, file, content);
        let error = world.refusal().await;
        let expected = matches!(error, Error::Certificate { .. } | Error::Certificates { .. });
        assert!(expected && text(&error).contains(HOST), "{file}: {}", text(&error));
    }
}

/// A registry that answers with a redirect to `to`.
async fn redirecting(to: &'static str) -> World {
    let authority = Authority::new();
    World::new(&authority.server(HOST), &[HOST], move |_| Reply::new(307, &[("Location", to)], ""))
        .await
        .trust(HOST, &authority.pem())
}

#[tokio::test]
async fn redirects_give_up_neither_tls_nor_the_network_boundary() {
    for to in [
        "http://registry.test/x",
        "http://cdn.test/x",
        "https://127.0.0.1/x",
        "https://localhost:2375/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/x",
        "https://[fd00::1]/x",
        "https://0x7f000001/x",
    ] {
        let world = redirecting(to).await;
        let error = world.refusal().await;
        assert!(matches!(error, Error::Redirect { .. }), "{to}: {error:?}");
        assert_eq!(world.proxy.asked().len(), 1, "{to}");
    }
}

#[tokio::test]
async fn a_redirect_to_storage_is_verified_too_and_gets_no_credentials() {
    for (trusted, fine) in [("cdn.test", true), ("elsewhere.test", false)] {
        let authority = Authority::new();
        let storage = Server::start_tls(acceptor(&authority.server("cdn.test"), None), |_| {
            Reply::new(200, &[], content(100))
        })
        .await;
        let acceptor = acceptor(&authority.server(HOST), None);
        let server = Server::start_tls(acceptor, |request| match request.header("authorization") {
            None => Reply::new(401, &[("WWW-Authenticate", "Basic")], ""),
            Some(_) => Reply::new(307, &[("Location", "https://cdn.test/stored")], ""),
        })
        .await;
        let proxy =
            Proxy::start(&[("registry.test:443", server.address), ("cdn.test:443", storage.address)]).await;
        let directory = tempfile::tempdir().unwrap();
        put(directory.path(), HOST, "ca.crt", &authority.pem());
        put(directory.path(), trusted, "ca.crt", &authority.pem());
        let mut setup = Setup::new();
        setup.proxy.https = Some(format!("http://{}", proxy.address));
        setup.certificates = directory.path().to_owned();
        let got = fetch(&setup.repository(HOST, user(), Access::Pull), &blob(&content(100)), 0).await;
        assert_eq!(got.is_ok(), fine, "{got:?}");
        assert_eq!(storage.requests().len(), usize::from(fine));
        assert!(!storage.saw(BASIC));
    }
}

#[tokio::test]
async fn realms_of_a_public_registry_need_tls_and_must_be_outside() {
    for realm in [
        "http://auth.test/token",
        "http://registry.test/token",
        "https://127.0.0.1:9000/token",
        "https://169.254.169.254/token",
        "https://10.0.0.1/token",
    ] {
        let authority = Authority::new();
        let world = World::new(&authority.server(HOST), &[HOST], move |_| {
            Reply::new(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))], "")
        })
        .await
        .trust(HOST, &authority.pem());
        let error = world.refusal().await;
        assert!(matches!(error, Error::Redirect { .. }), "{realm}: {error:?}");
        assert_eq!(world.proxy.asked().len(), 1, "{realm}");
    }
}

#[tokio::test]
async fn an_upload_does_not_give_up_tls() {
    let authority = Authority::new();
    let world = World::new(&authority.server(HOST), &[HOST], |_| {
        Reply::new(202, &[("Location", "http://registry.test/upload/1")], "")
    })
    .await
    .trust(HOST, &authority.pem());
    let repository = world.setup.repository(HOST, user(), Access::Push);
    let result = repository.upload(&blob(b"x"), &crate::fixture::open(b"x".to_vec())).await;
    assert!(matches!(result, Err(Error::Redirect { .. })), "{result:?}");
}

#[tokio::test]
async fn docker_hub_is_asked_by_its_own_names() {
    let authority = Authority::new();
    let server =
        Server::start_tls(acceptor(&authority.server("registry-1.docker.io"), None), |request| match request
            .header("authorization")
        {
            Some("Bearer good") => serve_manifest(request),
            _ => {
                let field = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
                Reply::new(401, &[("WWW-Authenticate", field)], "")
            }
        })
        .await;
    let issuer = Server::start_tls(acceptor(&authority.server("auth.docker.io"), None), |_| {
        Reply::new(200, &[], r#"{"token":"good"}"#)
    })
    .await;
    let index = Server::start_tls(acceptor(&authority.server("index.docker.io"), None), |_| {
        Reply::new(200, &[], r#"{"results":[{"name":"debian"}]}"#)
    })
    .await;
    let names = [
        ("registry-1.docker.io:443", server.address),
        ("auth.docker.io:443", issuer.address),
        ("index.docker.io:443", index.address),
    ];
    let proxy = Proxy::start(&names).await;
    let directory = tempfile::tempdir().unwrap();
    for host in ["registry-1.docker.io", "auth.docker.io", "index.docker.io"] {
        put(directory.path(), host, "ca.crt", &authority.pem());
    }
    let mut setup = Setup::new();
    setup.proxy.https = Some(proxy.address.to_string());
    setup.certificates = directory.path().to_owned();
    let client = setup.client();
    let debian = "debian".parse().unwrap();
    client.repository(&debian, user(), Access::Pull).manifest(&tag("latest")).await.unwrap();
    assert!(issuer.requests()[0].query().contains("scope=repository%3Alibrary%2Fdebian%3Apull"));
    assert_eq!(issuer.requests()[0].header("authorization"), Some(BASIC));
    assert!(!server.saw(BASIC));
    assert_eq!(server.asked()[0], "GET /v2/library/debian/manifests/latest");
    let found = client.search("https://index.docker.io/v1/", "debian", 25, user()).await.unwrap();
    assert_eq!(found[0].name, "debian");
    assert!(!index.saw(BASIC), "nobody asked for credentials there");
}

#[tokio::test]
async fn requests_without_tls_go_to_the_other_proxy_and_local_ones_to_none() {
    let plain = Server::start(serve_manifest).await;
    let mut setup = Setup::new();
    setup.insecure.push("plain.test:5000".to_owned());
    setup.proxy.http = Some(plain.host());
    let repository =
        setup.client().repository(&name("plain.test:5000"), Credentials::Anonymous, Access::Pull);
    // Without a proxy for it, TLS has no such host; without TLS the proxy has.
    repository.manifest(&tag("x")).await.unwrap();
    assert_eq!(plain.requests()[0].target, "http://plain.test:5000/v2/a/b/manifests/x");
    setup.pull(&plain).manifest(&tag("y")).await.unwrap();
    assert_eq!(plain.requests()[1].target, "/v2/a/b/manifests/y", "straight to this machine");
    setup.proxy.no_proxy = Some("plain.test".to_owned());
    let repository =
        setup.client().repository(&name("plain.test:5000"), Credentials::Anonymous, Access::Pull);
    assert!(repository.manifest(&tag("x")).await.is_err());
    assert_eq!(plain.requests().len(), 2);
}

#[tokio::test]
async fn whether_an_insecure_registry_speaks_tls_is_found_out_again_after_a_while() {
    let plain = Server::start(serve_manifest).await;
    let no_tls = Server::start(|_| Reply::new(502, &[], "")).await;
    let mut setup = Setup::new();
    setup.insecure.push("plain.test:5000".to_owned());
    setup.proxy.http = Some(plain.host());
    setup.proxy.https = Some(no_tls.host());
    let repository =
        setup.client().repository(&name("plain.test:5000"), Credentials::Anonymous, Access::Pull);
    for expected in [1, 1] {
        repository.manifest(&tag("x")).await.unwrap();
        assert_eq!(no_tls.connections(), expected);
    }
    setup.clock.advance(Duration::from_secs(61));
    repository.manifest(&tag("x")).await.unwrap();
    assert_eq!(no_tls.connections(), 2);
}

#[tokio::test]
async fn the_password_of_a_proxy_is_for_the_proxy() {
    let authority = Authority::new();
    let mut world =
        World::new(&authority.server(HOST), &[HOST], serve_manifest).await.trust(HOST, &authority.pem());
    world.setup.proxy.https = Some(format!("http://user:hunter2-the-password@{}", world.proxy.address));
    world.repository(Credentials::Anonymous).manifest(&tag("x")).await.unwrap();
    assert!(world.proxy.asked()[0].contains(BASIC));
    assert!(!world.server.saw(BASIC));
}
