//! Bad input: Docker's exit codes and status codes, the object's name, and nothing half-made.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;

#[test]
fn the_docker_command_hears_what_is_wrong() {
    let engine = Engine::start();
    let taken = engine.name("taken");
    engine.docker(&["create", "--name", &taken, SMALL, "true"]).ok();
    for (arguments, code, text) in [
        (vec!["inspect", "no-such-thing"], 1, "no such object: no-such-thing"),
        (vec!["start", "no-such-thing"], 1, "no such container: no-such-thing"),
        (vec!["create", "--name", &taken, SMALL, "true"], 1, "is already in use by container"),
        (
            vec!["create", "--name", "bad/name", SMALL, "true"],
            1,
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (vec!["run", "--rm", "-u", "nobody-here", SMALL, "true"], 125, "unable to find user nobody-here"),
        (vec!["run", "--rm", "-u", "4294967296", SMALL, "true"], 125, "must be in range"),
        (vec!["run", "--rm", "-m", "1k", SMALL, "true"], 125, "minimum memory limit"),
        (vec!["run", "--rm", "--cpus", "9999", SMALL, "true"], 125, "range of cpus"),
        (vec!["run", "--rm", "--cap-add", "FLY", SMALL, "true"], 125, "capability"),
        (vec!["run", "--rm", "--sysctl", "kernel.core_pattern=|/x", SMALL, "true"], 125, "sysctl"),
        (vec!["run", "--rm", "--security-opt", "nonsense", SMALL, "true"], 125, "security-opt"),
        (
            vec!["run", "--rm", "--network", "no-such-net", SMALL, "true"],
            125,
            "network no-such-net not found",
        ),
        (vec!["run", "--rm", "-v", "/tmp:/", SMALL, "true"], 125, "'/'"),
        (vec!["exec", &taken, "true"], 1, "is not running"),
        (vec!["kill", &taken], 1, "is not running"),
        (vec!["pause", &taken], 1, "is not running"),
        (vec!["rmi", "no-such-image"], 1, "no such image: no-such-image"),
        (vec!["tag", SMALL, "Bad:Name"], 1, "invalid reference format"),
        (vec!["volume", "rm", "no-such-volume"], 1, "no such volume"),
    ] {
        engine.docker(&arguments).refused(code, text);
    }
    engine.docker(&["rm", &taken]).ok();
    let left = engine.docker(&["ps", "-aq", "--filter", &format!("name={taken}")]).ok();
    assert_eq!(left, "");
}

#[test]
fn what_the_kernel_would_not_take_is_refused_before() {
    let engine = Engine::start();
    // The original hands both on, and reports a failure of its own.
    if engine.is_original() {
        return;
    }
    let name = engine.name("refuses");
    engine.docker(&["run", "-d", "--init", "--name", &name, SMALL, "sleep", "1000"]).ok();
    for (method, path, body, text) in [
        ("GET", "archive?path=a%00b", None, "zero byte"),
        ("PUT", "archive?path=a%00b", None, "zero byte"),
        ("POST", "update", Some(r#"{"NanoCpus":81}"#), "Range of CPUs is from 0.01"),
    ] {
        let (status, answer) = engine.request(method, &format!("/v1.44/containers/{name}/{path}"), body);
        assert!(status == 400 && answer.contains(text), "{method} {path}: {status} {answer}");
    }
}

#[test]
fn the_api_answers_with_dockers_status_codes() {
    let engine = Engine::start();
    let good = format!(r#"{{"Image":"{SMALL}","Cmd":["true"]}}"#);
    for (method, path, body, status, text) in [
        ("GET", "/v1.44/containers/nothing/json", None, 404, "No such container: nothing"),
        ("POST", "/v1.44/containers/create", Some("{"), 400, "message"),
        ("POST", "/v1.44/containers/create", Some("[]"), 400, "message"),
        ("POST", "/v1.44/containers/create", Some(r#"{"Image":"no-such-image"}"#), 404, "No such image"),
        ("POST", "/v1.44/containers/create?name=!", Some(&good), 400, "Invalid container name"),
        ("GET", "/v1.1/version", None, 400, "too old"),
        ("GET", "/v9.99/version", None, 400, "too new"),
        ("GET", "/v1.44/no/such/page", None, 404, "page not found"),
        ("GET", "/v1.44/images/nothing/json", None, 404, "No such image"),
        ("DELETE", "/v1.44/volumes/nothing", None, 404, "no such volume"),
        ("GET", "/v1.44/exec/nothing/json", None, 404, "nothing"),
        ("GET", "/v1.44/containers/json?filters=%7B", None, 400, "message"),
    ] {
        let (found, body) = engine.request(method, path, body);
        assert_eq!(found, status, "{method} {path}: {body}");
        assert!(body.to_lowercase().contains(&text.to_lowercase()), "{method} {path}: {body}");
    }
    let (status, _) = engine.request("GET", "/_ping", None);
    assert_eq!(status, 200, "the engine still answers");
}

#[test]
fn what_is_no_archive_is_no_image() {
    let engine = Engine::start();
    let file = engine.directory().join("nothing.tar");
    std::fs::write(&file, "this is no archive, and it is long enough to be looked at ".repeat(20)).unwrap();
    let file = file.display().to_string();
    let before = engine.docker(&["images", "-aq"]).ok();
    assert_ne!(engine.docker(&["import", &file, "broken"]).code, 0);
    assert_ne!(engine.docker(&["load", "-i", &file]).code, 0);
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), before);
}

#[test]
fn a_taken_port_names_itself_and_leaves_nothing() {
    let engine = Engine::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = engine.name("port");
    let publish = format!("127.0.0.1:{port}:80");
    let output = engine.docker(&["run", "-d", "--name", &name, "-p", &publish, SMALL, "sleep", "100"]);
    output.refused(125, &format!("{port}"));
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Running}}", &name]).ok(), "false");
    drop(listener);
    engine.docker(&["start", &name]).ok();
    engine.docker(&["rm", "-f", &name]).ok();
}

/// A client that sends a lot hears the reason, not that its connection broke.
#[test]
fn a_large_body_that_nobody_wants_is_answered_all_the_same() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let context = engine.directory().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\n").unwrap();
    std::fs::write(context.join("large"), vec![7; 8 << 20]).unwrap();
    let output = engine
        .command("docker")
        .env("DOCKER_BUILDKIT", "0")
        .args(["build", "--security-opt", "seccomp=unconfined", &context.display().to_string()])
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("not supported yet for builds"), "{talk}");
    let file = context.join("large").display().to_string();
    engine.docker(&["load", "-i", &file]).refused(1, "archive");
}
