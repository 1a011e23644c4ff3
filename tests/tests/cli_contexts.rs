//! Contexts, in one store with Docker's command; engines behind ssh; completions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::engine::programs;
use coracle_tests::ssh::Sshd;
use coracle_tests::{Engine, Output};
use std::path::Path;
use std::process::{Command, Stdio};

/// A command that no variable leads to an engine.
fn run(configuration: &Path, program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .env("DOCKER_CONFIG", configuration)
        .env_remove("DOCKER_HOST")
        .env_remove("CORACLE_HOST")
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Output::new(format!("{program} {}", arguments.join(" ")), &output)
}

fn coracle(configuration: &Path, arguments: &[&str]) -> Output {
    run(configuration, &programs().join("coracle").display().to_string(), arguments)
}

fn docker(configuration: &Path, arguments: &[&str]) -> Output {
    run(configuration, "docker", arguments)
}

/// What both say, without the address of the engine that each has when nobody says another.
fn same(configuration: &Path, arguments: &[&str]) {
    let settled = |output: &Output| {
        let stdout = output.stdout.replace("/run/coracle/coracle.sock", "/var/run/docker.sock");
        let words: Vec<&str> = stdout.split_whitespace().collect();
        (output.code, words.join(" "), output.stderr.clone())
    };
    let (docker, coracle) = (docker(configuration, arguments), coracle(configuration, arguments));
    assert_eq!(settled(&docker), settled(&coracle), "{arguments:?}");
}

#[test]
fn contexts_of_one_command_are_those_of_the_other() {
    let place = tempfile::tempdir().unwrap();
    let configuration = place.path();
    let certificate = configuration.join("ca-of-a-test.pem");
    std::fs::write(&certificate, "no certificate\n").unwrap();
    coracle(
        configuration,
        &["context", "create", "ours", "--description", "a boat", "--docker", "host=unix:///x.sock"],
    )
    .ok();
    docker(configuration, &["context", "create", "theirs", "--docker", "host=ssh://me@host"]).ok();
    let with_tls = format!("host=tcp://h:2376,ca={},skip-tls-verify=true", certificate.display());
    coracle(configuration, &["context", "create", "keys", "--docker", &with_tls]).ok();
    coracle(configuration, &["context", "create", "copy", "--from", "keys"]).ok();
    coracle(configuration, &["context", "update", "theirs", "--description", "another"]).ok();
    for arguments in [
        &["context", "ls"][..],
        &["context", "ls", "-q"],
        &["context", "ls", "--format", "json"],
        &["context", "ls", "--format", "{{.Name}} {{.Current}} {{.DockerEndpoint}}"],
        &["context", "show"],
        &["context", "inspect", "ours", "theirs", "keys", "copy"],
        &["context", "inspect", "-f", "{{.Name}} {{.Endpoints.docker.Host}} {{json .TLSMaterial}}", "keys"],
        &["context", "inspect", "default"],
        &["context", "inspect"],
        &["context", "create", "default"],
        &["context", "create", "a b"],
        &["context", "use", "theirs"],
        &["context", "show"],
        &["context", "ls"],
        &["--context", "ours", "context", "show"],
        &["--context", "ours", "-H", "unix:///y", "context", "ls"],
        &["context", "rm", "theirs"],
        &["context", "rm", "default"],
        &["context", "rm", "nosuch"],
        &["context", "use", "default"],
    ] {
        same(configuration, arguments);
    }
    let archive = configuration.join("keys.archive").display().to_string();
    docker(configuration, &["context", "export", "keys", &archive]).ok();
    coracle(configuration, &["context", "import", "imported", &archive]).ok();
    same(configuration, &["context", "inspect", "imported"]);
    std::fs::remove_file(&archive).unwrap();
    coracle(configuration, &["context", "export", "imported", &archive]).ok();
    docker(configuration, &["context", "import", "again", &archive]).ok();
    same(configuration, &["context", "inspect", "again"]);
    coracle(configuration, &["context", "rm", "-f", "ours", "theirs", "keys", "copy", "imported", "again"])
        .ok();
    same(configuration, &["context", "ls"]);
    assert_eq!(std::fs::read_dir(configuration.join("contexts/tls")).unwrap().count(), 0);
}

#[test]
fn a_context_leads_commands_to_its_engine() {
    let engine = Engine::start();
    let place = tempfile::tempdir().unwrap();
    let host = format!("host={}", engine.host());
    coracle(place.path(), &["context", "create", "boat", "--docker", &host]).ok();
    coracle(place.path(), &["--context", "boat", "ps"]).ok();
    let debugging = coracle(place.path(), &["-D", "-c", "boat", "volume", "ls", "-q"]);
    assert!(debugging.stderr.contains("debug: GET /volumes: 200 OK"), "{debugging:?}");
    coracle(place.path(), &["context", "use", "boat"]).ok();
    let id = engine.docker(&["info", "-f", "{{.ID}}"]).ok();
    assert_eq!(
        coracle(place.path(), &["info", "-f", "{{.ID}} {{.ClientInfo.Context}}"]).ok(),
        format!("{id} boat")
    );
    let elsewhere = place.path().join("elsewhere").display().to_string();
    coracle(place.path(), &["--config", &elsewhere, "context", "create", "other", "--docker", &host]).ok();
    assert_eq!(coracle(place.path(), &["context", "ls", "-q"]).ok(), "boat\ndefault");
    let missing = coracle(place.path(), &["--context", "nosuch", "ps"]);
    assert!(
        missing.code == 1 && missing.stderr.contains("context \"nosuch\": context not found"),
        "{missing:?}"
    );
}

#[test]
fn an_engine_behind_ssh_is_used_as_one_that_is_here() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let sshd = Sshd::before(&engine);
    let remote = |arguments: &[&str]| {
        let mut all = vec!["-H", "ssh://peer"];
        all.extend(arguments);
        sshd.coracle(&engine, &all)
    };
    let small = coracle_tests::image::SMALL;
    assert_eq!(remote(&["info", "-f", "{{.ID}}"]).ok(), engine.docker(&["info", "-f", "{{.ID}}"]).ok());
    let name = engine.name("far");
    let run = remote(&[
        "run",
        "--name",
        &name,
        "--network",
        "none",
        small,
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(remote(&["ps", "-aq", "--filter", &format!("name={name}")]).ok().len(), 12);
    let mut typed = sshd
        .command(&engine, &["-H", "ssh://peer", "run", "--rm", "-i", "--network", "none", small, "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut typed.stdin.take().unwrap(), &[b'x'; 200_000]).unwrap();
    let counted = typed.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "200000");
    // Docker's own command finds ours behind ssh, too.
    let path = sshd
        .command(&engine, &[])
        .get_envs()
        .find(|(name, _)| *name == "PATH")
        .unwrap()
        .1
        .unwrap()
        .to_owned();
    let dialed = engine
        .command("ssh")
        .env("PATH", path)
        .args(["peer", "coracle", "system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut dialed = dialed.unwrap();
    std::io::Write::write_all(
        &mut dialed.stdin.take().unwrap(),
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let answer = dialed.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).starts_with("HTTP/1.1 200 OK"), "{answer:?}");
}

#[test]
fn shells_get_completions_that_they_can_read() {
    let place = tempfile::tempdir().unwrap();
    for (shell, check) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["-n"])] {
        let script = coracle(place.path(), &["completion", shell]).ok();
        for word in ["container", "stats", "no-trunc"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        let path = place.path().join(shell);
        std::fs::write(&path, script).unwrap();
        // Not every machine has every shell.
        if let Ok(status) = Command::new(shell).args(check).arg(&path).status() {
            assert!(status.success(), "{shell}");
        }
    }
}
