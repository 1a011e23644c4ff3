//! What can be changed of a container while it runs, which Docker has not: published ports, health check, bounds of the log.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where it is")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// A container that answers its own name on port 80 and another word on port 81.
fn serve(engine: &Engine, name: &str, more: &[&str]) -> String {
    let name = engine.name(name);
    let script = "while :; do echo other | nc -l -p 81; done & while :; do echo first | nc -l -p 80; done";
    let head = ["run", "-d", "--init", "--name", &name];
    engine.docker(&[&head, more, &[SMALL, "sh", "-c", script]].concat()).ok();
    name
}

/// A port that nobody has.
fn free() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What is told to whoever connects; `None` where nobody listens.
fn hear(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).ok()?;
    (!heard.is_empty()).then_some(heard)
}

fn is_heard(port: u16, word: &str) {
    wait_until("it is heard", || hear(port).is_some_and(|heard| heard.trim() == word));
}

#[test]
fn ports_come_and_go_while_a_container_runs() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let [first, second, third] = [free(), free(), free()];
    let name = serve(&engine, "ports", &["-p", &format!("{first}:80")]);
    is_heard(first, "first");
    let update = |engine: &Engine, flags: &[&str]| engine.coracle(&[&["update"], flags, &[&name]].concat());
    update(&engine, &["-p", &format!("{second}:81")]).ok();
    is_heard(second, "other");
    is_heard(first, "first");
    let ports = engine.docker(&["port", &name]).ok();
    assert!(ports.contains(&format!(":{first}")) && ports.contains(&format!(":{second}")), "{ports}");
    // The port of the host leads elsewhere, and nobody else gets it meanwhile.
    update(&engine, &["--publish-rm", "80", "-p", &format!("{first}:81")]).ok();
    is_heard(first, "other");
    // What is taken changes nothing, though another port of the same request is free.
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let before = engine
        .docker(&["inspect", "-f", "{{json .HostConfig.PortBindings}}{{json .NetworkSettings.Ports}}", &name])
        .ok();
    let refused = update(
        &engine,
        &["-p", &format!("{third}:80"), "-p", &format!("{port}:80"), "--publish-rm", &format!("{second}:81")],
    );
    assert!(refused.code == 1 && refused.stderr.contains(&port.to_string()), "{refused:?}");
    let after = engine
        .docker(&["inspect", "-f", "{{json .HostConfig.PortBindings}}{{json .NetworkSettings.Ports}}", &name])
        .ok();
    assert_eq!(before, after);
    is_heard(second, "other");
    assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, third)).is_ok(), "it was not kept");
    // What is withdrawn is free at once.
    update(&engine, &["--publish-rm", &format!("{second}:81")]).ok();
    drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, second)).unwrap());
    assert_eq!(hear(second), None);
    assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, first)).is_err(), "it is held still");
    // The next engine and the next start know of it.
    engine.kill();
    engine.start_again();
    is_heard(first, "other");
    update(&engine, &["-p", &format!("{second}:80")]).ok();
    is_heard(second, "first");
    engine.docker(&["restart", "-t", "0", &name]).ok();
    is_heard(first, "other");
    is_heard(second, "first");
    // Without one that runs it is for the next start.
    engine.docker(&["stop", "-t", "0", &name]).ok();
    update(&engine, &["--publish-rm", "80"]).ok();
    engine.docker(&["start", &name]).ok();
    is_heard(first, "other");
    assert_eq!(hear(second), None);
    let missing = update(&engine, &["--publish-rm", "80"]);
    assert!(missing.code == 1 && missing.stderr.contains("not published"), "{missing:?}");
    engine.docker(&["rm", "-f", &name]).ok();
    // The shim lets go of it when it ends.
    wait_until("it is free", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, first)).is_ok());
}

#[test]
fn a_container_is_asked_what_it_is_to_be_asked_from_now_on() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("asked");
    let head = ["run", "-d", "--init", "--name", &name, "--health-cmd", "true", "--health-interval", "1h"];
    engine.docker(&[&head[..], &[SMALL, "sleep", "1000"]].concat()).ok();
    let state = |engine: &Engine, what: &str| {
        let shown = engine.docker(&["inspect", "-f", what, &name]).ok();
        shown.trim().to_owned()
    };
    let status = "{{if .State.Health}}{{.State.Health.Status}}{{end}}";
    let update = |engine: &Engine, flags: &[&str]| engine.coracle(&[&["update"], flags, &[&name]].concat());
    assert_eq!(state(&engine, status), "starting");
    // Asked at once, not in an hour.
    update(&engine, &["--health-cmd", "echo no; exit 1", "--health-retries", "1"]).ok();
    wait_until("it is unhealthy", || state(&engine, status) == "unhealthy");
    assert_eq!(
        state(&engine, "{{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}}"),
        "1h0m0s 1"
    );
    update(&engine, &["--health-cmd", "true", "--health-interval", "100ms"]).ok();
    wait_until("it is healthy", || state(&engine, status) == "healthy");
    engine.kill();
    engine.start_again();
    assert_eq!(
        state(&engine, "{{index .Config.Healthcheck.Test 1}} {{.Config.Healthcheck.Interval}}"),
        "true 100ms"
    );
    update(&engine, &["--no-healthcheck"]).ok();
    assert_eq!(state(&engine, status), "");
    engine.docker(&["restart", "-t", "0", &name]).ok();
    assert_eq!(state(&engine, status), "");
    let refused = update(&engine, &["--health-interval", "1us"]);
    assert!(refused.code == 1 && refused.stderr.contains("1ms"), "{refused:?}");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn a_log_has_other_bounds_and_loses_no_line() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("logging");
    let script = "i=0; while read -r n; do while [ $i -lt $n ]; do i=$((i+1)); echo line $i; done; done";
    engine
        .docker(&[
            "create",
            "-i",
            "--name",
            &name,
            "--log-opt",
            "max-size=1k",
            "--log-opt",
            "max-file=9",
            SMALL,
            "sh",
            "-c",
            script,
        ])
        .ok();
    let mut typed = engine
        .command("docker")
        .args(["start", "-ai", &name])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut input = typed.stdin.take().unwrap();
    let lines = || -> Vec<u32> {
        let log = engine.docker(&["logs", &name]).ok();
        log.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect()
    };
    writeln!(input, "40").unwrap();
    wait_until("they are logged", || lines().last() == Some(&40));
    let first = lines()[0];
    engine.coracle(&["update", "--log-opt", "max-size=10m", "--log-opt", "max-file=3", &name]).ok();
    let kept = lines();
    assert!(*kept.last().unwrap() == 40 && kept[0] >= first, "{kept:?}");
    writeln!(input, "2000").unwrap();
    wait_until("they are logged", || lines().last() == Some(&2000));
    let all = lines();
    assert_eq!(all, (kept[0]..=2000).collect::<Vec<_>>());
    let options = engine.docker(&["inspect", "-f", "{{json .HostConfig.LogConfig.Config}}", &name]).ok();
    assert_eq!(options, r#"{"max-file":"3","max-size":"10m"}"#);
    // Smaller again: what is too much goes.
    engine.coracle(&["update", "--log-opt", "max-size=1k", "--log-opt", "max-file=2", &name]).ok();
    writeln!(input, "2400").unwrap();
    wait_until("they are logged", || lines().last() == Some(&2400));
    assert!(lines().len() < 60, "{}", lines().len());
    for (body, told) in [
        (r#"{"LogConfig":{"Type":"none"}}"#, "stop"),
        (r#"{"LogConfig":{"Type":"syslog"}}"#, "syslog"),
        (r#"{"LogConfig":{"Config":{"max-size":"much"}}}"#, "max-size"),
    ] {
        let (status, answer) = engine.request("POST", &format!("/containers/{name}/update"), Some(body));
        assert!(status >= 400 && answer.contains(told), "{body}: {status} {answer}");
    }
    drop(input);
    typed.wait().unwrap();
    let (status, answer) = engine.request(
        "POST",
        &format!("/containers/{name}/update"),
        Some(r#"{"LogConfig":{"Type":"none"}}"#),
    );
    assert_eq!(status, 200, "{answer}");
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn an_exposed_port_that_was_withdrawn_is_not_published_again() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let (more, given) = (free().to_string(), free());
    let name =
        serve(&engine, "all", &["-P", "-p", &format!("{given}:80"), "--expose", "80", "--expose", "81"]);
    let update = |flags: &[&str]| engine.coracle(&[&["update"], flags, &[&name]].concat()).ok();
    let port = |inside: &str| engine.docker(&["port", &name, inside]).stdout.trim().to_owned();
    let first = port("81");
    assert!(!first.is_empty() && port("80").ends_with(&given.to_string()));
    update(&["--publish-rm", "80"]);
    assert_eq!((port("80"), port("81")), (String::new(), first.clone()));
    update(&["-p", &format!("{more}:82")]);
    assert_eq!((port("80"), port("81")), (String::new(), first));
    assert!(port("82").ends_with(&more));
    engine.docker(&["restart", "-t", "0", &name]).ok();
    assert!(port("80").is_empty() && !port("81").is_empty() && port("82").ends_with(&more));
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn ports_of_a_container_that_nothing_leads_to_are_refused_while_it_runs() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    for network in ["none", "host"] {
        let name = engine.name(network);
        engine.docker(&["run", "-d", "--name", &name, "--network", network, SMALL, "sleep", "1000"]).ok();
        let refused = engine.coracle(&["update", "-p", &format!("{}:80", free()), &name]);
        assert!(refused.code == 1 && refused.stderr.contains("no network that leads out"), "{refused:?}");
        let bindings = ["inspect", "-f", "{{json .HostConfig.PortBindings}}", &name];
        assert_eq!(engine.docker(&bindings).ok(), "{}", "nothing has changed");
        engine.docker(&["rm", "-f", &name]).ok();
    }
}

/// More than one message to the container's shim takes.
#[test]
fn hundreds_of_ports_are_published_at_the_start_and_later() {
    let engine = Engine::start();
    let name = engine.name("many");
    let range = |first: u16, count: u16| format!("{first}-{0}:{first}-{0}", first + count - 1);
    // The original starts two processes for each, one after the other.
    let published = if engine.is_original() { 70 } else { 1000 };
    let publish = range(20_000, published);
    engine.docker(&["run", "-d", "--name", &name, "-p", &publish, SMALL, "sleep", "1000"]).ok();
    let count =
        || engine.docker(&["port", &name]).ok().lines().filter(|line| line.contains("0.0.0.0:")).count();
    assert_eq!(count(), usize::from(published));
    let last = 20_000 + published - 1;
    assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, last)).is_err(), "the last one is held");
    if !engine.is_original() {
        engine.coracle(&["update", "-p", &range(21_000, 200), &name]).ok();
        assert_eq!(count(), 1200);
        assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 21_199)).is_err(), "the last one is held");
        engine.coracle(&["update", "--publish-rm", &range(21_000, 200), &name]).ok();
        drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 21_199)).unwrap());
    }
    engine.docker(&["rm", "-f", &name]).ok();
}
