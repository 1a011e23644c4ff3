//! The API over TCP, for those who have a certificate: Docker's own command as the client, and ours.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where it is")]

use coracle_certificates::{Authority, Pair, expired_self_signed, self_signed};
use coracle_tests::engine::programs;
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
        let files = ours.server("127.0.0.1").directory(place.path(), "server", &ours);
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
        let host = self.host();
        let mut command = self.engine.command("docker");
        command.env("DOCKER_CERT_PATH", certificates).args(["--tlsverify", "-H", &host]).args(arguments);
        command
    }

    fn host(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Our own command, which neither variables nor contexts lead to an engine.
    fn coracle(&self, arguments: &[&str]) -> Command {
        let mut command = self.engine.command(&programs().join("coracle").display().to_string());
        command.env_remove("DOCKER_HOST").args(arguments);
        command
    }

    fn docker(&self, certificates: &Path, arguments: &[&str]) -> Output {
        let output = self.command(certificates, arguments).output().unwrap();
        Output::new(format!("docker {}", arguments.join(" ")), &output)
    }

    /// A client's directory; it trusts the engine's authority.
    fn client(&self, name: &str, pair: &Pair) -> PathBuf {
        pair.directory(self.place.path(), name, &self.ours)
    }
}

#[test]
fn who_has_a_certificate_of_the_authority_is_served_and_nobody_else() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours.client());
    assert_eq!(secured.docker(&friend, &["run", "--rm", SMALL, "echo", "hello"]).ok(), "hello");
    let other = Authority::new();
    for (name, pair) in [
        ("stranger", other.client()),
        ("expired", secured.ours.expired_client()),
        ("no client", secured.ours.no_client()),
    ] {
        let directory = secured.client(name, &pair);
        let refused = secured.docker(&directory, &["version"]);
        assert_ne!(refused.code, 0, "{name}");
        assert!(refused.stderr.contains("tls: "), "{name}: {}", refused.stderr);
    }
    // Nor is whoever has none, or speaks no TLS.
    let anonymous = secured.client("anonymous", &secured.ours.client());
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
    let deceived = other.client().directory(secured.place.path(), "deceived", &other);
    assert!(secured.docker(&deceived, &["version"]).stderr.contains("certificate"));
    assert_eq!(secured.docker(&friend, &["ps", "-q"]).ok(), "");
}

#[test]
fn streams_both_ways_and_long_answers_pass() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours.client());
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

/// What a command says, and how it ends.
fn finish(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Output::new(format!("{command:?}"), &output)
}

/// The flags that name the files of a directory.
fn files(directory: &Path) -> [String; 3] {
    [("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")]
        .map(|(flag, file)| format!("--{flag}={}", directory.join(file).display()))
}

#[test]
fn our_own_command_shows_its_certificate_and_wants_to_see_the_engines() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours.client());
    let host = secured.host();
    let id = secured.engine.docker(&["info", "-f", "{{.ID}}"]).ok();
    let [ca, cert, key] = files(&friend);
    let info = ["info", "-f", "{{.ID}}"];
    let with = |flags: &[&str]| secured.coracle(&[&["-H", &host], flags, &info].concat());
    assert_eq!(finish(&mut with(&["--tlsverify", &ca, &cert, &key])).ok(), id);
    assert_eq!(finish(with(&[]).env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", &friend)).ok(), id);
    assert_eq!(finish(with(&["--tls", &cert, &key]).env("DOCKER_CERT_PATH", "/nonexistent")).ok(), id);
    let mut by_variables = secured.coracle(&info);
    by_variables.env("DOCKER_HOST", &host).env("DOCKER_TLS", "1").env("DOCKER_CERT_PATH", &friend);
    assert_eq!(finish(&mut by_variables).ok(), id);
    let other = Authority::new();
    let stranger = secured.client("stranger", &other.client());
    let deceived = secured.ours.client().directory(secured.place.path(), "deceived", &other);
    let [foreign_ca, _, _] = files(&deceived);
    let [_, foreign_cert, foreign_key] = files(&stranger);
    for (flags, told) in [
        (&["--tlsverify", &foreign_ca, &cert, &key][..], "--tlscacert"),
        (&["--tlsverify", &ca, &foreign_cert, &foreign_key], "--tlscert and --tlskey"),
        (&["--tls"], "--tlscert and --tlskey"),
        (&[], "--tlsverify"),
        (&["--tlsverify", &ca, &cert], "needs both"),
        (&["--tlsverify", "--tlscacert=/no/such.pem"], "/no/such.pem"),
        (&["--tlscacert", "x"], "give --tls"),
        (&["--tlsverify", &ca, &cert, &ca.replace("cacert", "key")], "cannot use key.pem"),
    ] {
        let refused = finish(with(flags).env("DOCKER_CERT_PATH", "/nonexistent"));
        assert!(refused.code == 1 && refused.stderr.contains(told), "{refused:?}");
    }
    // A name that the certificate does not have.
    let elsewhere = format!("tcp://localhost:{}", secured.port);
    let refused = finish(&mut secured.coracle(&["-H", &elsewhere, "--tlsverify", &ca, &cert, &key, "ps"]));
    assert!(refused.code == 1 && refused.stderr.contains("certificate"), "{refused:?}");
    let socket = secured.engine.host().to_owned();
    let refused = finish(&mut secured.coracle(&["-H", &socket, "--tls", "ps"]));
    assert!(refused.code == 1 && refused.stderr.contains("tcp://"), "{refused:?}");
}

#[test]
fn a_context_keeps_what_tls_takes_and_carries_it_to_other_machines() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours.client());
    let id = secured.engine.docker(&["info", "-f", "{{.ID}}"]).ok();
    let file = |name: &str| friend.join(name).display().to_string();
    let described = format!(
        "host={},ca={},cert={},key={}",
        secured.host(),
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    let coracle = |arguments: &[&str]| finish(&mut secured.coracle(arguments));
    coracle(&["context", "create", "far", "--docker", &described]).ok();
    assert_eq!(coracle(&["-c", "far", "info", "-f", "{{.ID}}"]).ok(), id);
    // Docker's command reads the same store.
    let docker = |arguments: &[&str]| finish(secured.engine.command("docker").args(arguments));
    assert_eq!(docker(&["-c", "far", "info", "-f", "{{.ID}}"]).ok(), id);
    let archive = secured.place.path().join("far.archive").display().to_string();
    coracle(&["context", "export", "far", &archive]).ok();
    coracle(&["context", "rm", "far"]).ok();
    coracle(&["context", "import", "near", &archive]).ok();
    assert_eq!(coracle(&["-c", "near", "info", "-f", "{{.ID}}"]).ok(), id);
    // What the environment says becomes a context as it is.
    let mut create =
        secured.coracle(&["-H", &secured.host(), "--tlsverify", "context", "create", "surroundings"]);
    finish(create.env("DOCKER_CERT_PATH", &friend)).ok();
    assert_eq!(docker(&["-c", "surroundings", "info", "-f", "{{.ID}}"]).ok(), id);
    assert_eq!(coracle(&["-c", "surroundings", "info", "-f", "{{.ID}}"]).ok(), id);
    // Whoever answers, as was asked for.
    let blind = format!(
        "host=tcp://localhost:{},cert={},key={},skip-tls-verify=true",
        secured.port,
        file("cert.pem"),
        file("key.pem")
    );
    coracle(&["context", "create", "blind", "--docker", &blind]).ok();
    assert_eq!(coracle(&["-c", "blind", "info", "-f", "{{.ID}}"]).ok(), id);
    let refused = coracle(&["-c", "blind", "--tlsverify", "ps"]);
    assert!(refused.code == 1 && refused.stderr.contains("context update"), "{refused:?}");
    let empty = secured.place.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let useless = format!("host={},ca={}", secured.host(), empty.display());
    let refused = coracle(&["context", "create", "useless", "--docker", &useless]);
    assert!(refused.code == 1 && refused.stderr.contains("ca.pem"), "{refused:?}");
}

#[test]
fn streams_of_our_own_command_pass_both_ways() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours.client());
    let host = secured.host();
    let coracle = |arguments: &[&str], input: &[u8]| {
        let mut command = secured.coracle(&[&["-H", &host, "--tlsverify"], arguments].concat());
        command.env("DOCKER_CERT_PATH", &friend).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let input = b"0123456789abcdef".repeat(64 << 10);
    assert_eq!(coracle(&["run", "--rm", "-i", SMALL, "wc", "-c"], &input), b"1048576\n");
    let name = secured.engine.name("long");
    coracle(&["run", "-d", "--name", &name, "--init", SMALL, "sleep", "1000"], b"");
    assert_eq!(coracle(&["exec", "-i", &name, "cat"], &input), input);
    assert!(coracle(&["export", &name], b"").len() > 100_000);
    coracle(&["rm", "-f", &name], b"");
    // A terminal, whose bytes come as they are.
    let typed = secured
        .engine
        .command("script")
        .env("DOCKER_CERT_PATH", &friend)
        .env("DOCKER_HOST", &host)
        .args([
            "-qec",
            &format!(
                "{} --tlsverify run --rm -it {SMALL} sh -c 'tty; echo read $(head -n 1)'",
                programs().join("coracle").display()
            ),
        ])
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut typed = typed.unwrap();
    typed.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = typed.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("/dev/pts/") && shown.contains("read hello"), "{shown}");
}

#[test]
fn who_never_ends_a_handshake_is_given_up_and_keeps_nobody_out() {
    let secured = Secured::start();
    let friend = secured.client("friend", &secured.ours.client());
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
    let files = ours.server("127.0.0.1").directory(place.path(), "server", &ours);
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

/// As `openssl req -x509` makes it: Docker's command takes it for the engine's if it is the one that was named, and so does ours.
#[test]
fn an_engine_with_a_certificate_that_signs_itself_is_known_by_it() {
    let (place, clients) = (tempfile::tempdir().unwrap(), Authority::new());
    for (pair, name, is_known) in [
        (self_signed("127.0.0.1"), "named", true),
        (expired_self_signed("127.0.0.1"), "expired", false),
        (self_signed("engine.test"), "other-name", false),
    ] {
        let files = pair.directory(place.path(), name, &clients);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let host = format!("tcp://127.0.0.1:{port}");
        let file = |option: &str, name: &str| format!("--{option}={}", files.join(name).display());
        let options = [
            "--tls".to_owned(),
            format!("--host={host}"),
            file("tlscert", "cert.pem"),
            file("tlskey", "key.pem"),
        ];
        let engine = Engine::start_with(&options.each_ref().map(String::as_str));
        let other = place.path().join("other.pem");
        fs::write(&other, self_signed("127.0.0.1").certificate).unwrap();
        for program in ["docker".to_owned(), programs().join("coracle").display().to_string()] {
            let asks = |authority: &Path| {
                let mut command = engine.command(&program);
                command.env_remove("DOCKER_HOST").arg("--tlsverify").arg("--tlscacert").arg(authority);
                command.args(["-H", &host, "ps", "-q"]).output().unwrap()
            };
            let output = asks(&files.join("cert.pem"));
            assert_eq!(output.status.success(), is_known, "{program}, {name}: {output:?}");
            assert!(!asks(&other).status.success(), "{program}: another certificate was named");
        }
    }
}
