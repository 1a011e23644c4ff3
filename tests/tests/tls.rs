//! The API over TCP, for those who have a certificate: Docker's own command as the client.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where it is")]

use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A directory as `DOCKER_CERT_PATH` wants it: whom to trust, a certificate, and its key.
    fn directory(&self, parent: &Path, name: &str, trusted: &Self, params: &CertificateParams) -> PathBuf {
        let directory = parent.join(name);
        fs::create_dir(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(directory.join("ca.pem"), trusted.0.pem()).unwrap();
        fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
        fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        directory
    }
}

fn server() -> CertificateParams {
    CertificateParams::new(["127.0.0.1".to_owned()]).unwrap()
}

fn client() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    params
}

/// An engine that asks its clients over TCP for certificates.
struct Secured {
    engine: Engine,
    place: TempDir,
    port: u16,
    ours: Authority,
}

impl Secured {
    fn start() -> Self {
        let (place, ours) = (tempfile::tempdir().unwrap(), Authority::new());
        let files = ours.directory(place.path(), "server", &ours, &server());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let file = |option: &str, name: &str| format!("--{option}={}", files.join(name).display());
        let options = [
            "--tlsverify".to_owned(),
            format!("--host=tcp://127.0.0.1:{port}"),
            file("tlscacert", "ca.pem"),
            file("tlscert", "cert.pem"),
            file("tlskey", "key.pem"),
        ];
        let engine = Engine::start_with(&options.each_ref().map(String::as_str));
        Self { engine, place, port, ours }
    }

    /// Docker's command with the certificates of a directory.
    fn command(&self, certificates: &Path, arguments: &[&str]) -> Command {
        let host = format!("tcp://127.0.0.1:{}", self.port);
        let mut command = self.engine.command("docker");
        command.env("DOCKER_CERT_PATH", certificates).args(["--tlsverify", "-H", &host]).args(arguments);
        command
    }

    fn docker(&self, certificates: &Path, arguments: &[&str]) -> Output {
        let output = self.command(certificates, arguments).output().unwrap();
        Output::new(format!("docker {}", arguments.join(" ")), &output)
    }

    fn client(&self, name: &str, signer: &Authority, params: &CertificateParams) -> PathBuf {
        signer.directory(self.place.path(), name, &self.ours, params)
    }
}

#[test]
fn who_has_a_certificate_of_the_authority_is_served_and_nobody_else() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours, &client());
    assert_eq!(secured.docker(&friend, &["run", "--rm", SMALL, "echo", "hello"]).ok(), "hello");
    let other = Authority::new();
    for (name, signer, params) in [
        ("stranger", &other, client()),
        ("expired", &secured.ours, expired(client())),
        ("no client", &secured.ours, {
            let mut params = client();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params
        }),
    ] {
        let directory = secured.client(name, signer, &params);
        let refused = secured.docker(&directory, &["version"]);
        assert_ne!(refused.code, 0, "{name}");
        assert!(refused.stderr.contains("tls: "), "{name}: {}", refused.stderr);
    }
    // Nor is whoever has none, or speaks no TLS.
    let anonymous = secured.client("anonymous", &secured.ours, &client());
    fs::remove_file(anonymous.join("cert.pem")).unwrap();
    fs::remove_file(anonymous.join("key.pem")).unwrap();
    assert_ne!(secured.docker(&anonymous, &["version"]).code, 0);
    let plain = secured
        .engine
        .command("docker")
        .args(["-H", &format!("tcp://127.0.0.1:{}", secured.port), "ps"])
        .output();
    assert!(!plain.unwrap().status.success());
    // A client that trusts somebody else does not speak to this engine.
    let deceived = other.directory(secured.place.path(), "deceived", &other, &client());
    assert!(secured.docker(&deceived, &["version"]).stderr.contains("certificate"));
    assert_eq!(secured.docker(&friend, &["ps", "-q"]).ok(), "");
}

#[test]
fn streams_both_ways_and_long_answers_pass() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours, &client());
    let docker = |arguments: &[&str], input: &[u8]| {
        let mut command = secured.command(&friend, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        output.stdout
    };
    // More than any buffer between, and the end of the input reaches the process.
    let input = b"0123456789abcdef".repeat(64 << 10);
    assert_eq!(docker(&["run", "--rm", "-i", SMALL, "wc", "-c"], &input), b"1048576\n");
    let name = secured.engine.name("long");
    docker(&["run", "-d", "--name", &name, "--init", SMALL, "sleep", "1000"], b"");
    assert_eq!(docker(&["exec", "-i", &name, "cat"], &input), input);
    let exported = docker(&["export", &name], b"");
    assert!(exported.len() > 100_000, "{} bytes", exported.len());
    secured.docker(&friend, &["rm", "-f", &name]).ok();
}

#[test]
fn who_never_ends_a_handshake_is_given_up_and_keeps_nobody_out() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours, &client());
    let begun = Instant::now();
    let silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, secured.port)).unwrap()).collect();
    secured.docker(&friend, &["version"]).ok();
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // The engine has closed: an end, or a reset.
        match stream.read(&mut [0; 64]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let place = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let files = ours.directory(place.path(), "server", &ours, &server());
    fs::write(place.path().join("empty.pem"), "").unwrap();
    let (cert, key) =
        (files.join("cert.pem").display().to_string(), files.join("key.pem").display().to_string());
    let empty = place.path().join("empty.pem").display().to_string();
    for (options, named) in [
        (vec![("tlscert", "/no/such.pem"), ("tlskey", key.as_str())], "/no/such.pem"),
        (vec![("tlscert", &empty), ("tlskey", &key)], &empty),
        (vec![("tlscert", &cert), ("tlskey", &empty)], &empty),
        (vec![("tlscert", &cert), ("tlskey", &key), ("tlsverify", "true"), ("tlscacert", &empty)], &empty),
    ] {
        let roots = ["data", "run"].map(|name| place.path().join(name).display().to_string());
        let output = Command::new(coracle_tests::engine::programs().join("coracle"))
            .args([
                "daemon",
                "--data-root",
                &roots[0],
                "--exec-root",
                &roots[1],
                "-H",
                "tcp://127.0.0.1:0",
                "--tls",
            ])
            .args(options.iter().map(|(name, value)| format!("--{name}={value}")))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(named), "{options:?}: {told}");
    }
}
