//! An engine that has as few descriptors as service managers give. Alone in its program, whose limit it lowers.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use coracle_tests::pulse::Pulse;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

#[test]
fn streams_are_refused_before_descriptors_are_out_and_containers_have_the_limit_that_the_engine_was_given() {
    // Nobody but its child's parent can do this.
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..before }).unwrap();
    let engine = Engine::start();
    setrlimit(Resource::Nofile, before).unwrap();
    let pid = Pid::from_raw(engine.pid().cast_signed());
    assert_eq!(engine.docker(&["run", "--rm", SMALL, "sh", "-c", "ulimit -Sn"]).ok(), "256");
    assert_eq!(
        engine.docker(&["run", "--rm", "--ulimit", "nofile=99", SMALL, "sh", "-c", "ulimit -Sn"]).ok(),
        "99"
    );
    let own = prlimit(pid, Resource::Nofile, Rlimit { current: Some(1024), maximum: Some(1024) }).unwrap();
    assert_eq!(own.current, before.maximum, "the engine has given itself what it may have");

    let name = engine.name("quiet");
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sleep", "1000"]).ok();
    let pulse = Pulse::of(&engine);
    let head = format!(
        "POST /v1.44/containers/{name}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..1000 {
        let mut stream = UnixStream::connect(engine.own_socket()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        match &answer {
            b"HTTP/1.1 101" => held.push(stream),
            b"HTTP/1.1 503" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert!(held.len() > 300 && refused > 0, "{} held, {refused} refused", held.len());
    // Whoever wants no stream is served as ever.
    assert_eq!(engine.docker(&["ps", "-q"]).ok().lines().count(), 1);
    engine.docker(&["rm", "-f", &name]).ok();
    pulse.was_steady(64);
}
