//! What libraries rely on besides the command line: texts and defaults of the API that their own tests look for.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::schema::Schema;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn ask(engine: &Engine, method: &str, path: &str, body: &Value) -> (u16, String) {
    engine.request(method, &format!("/v1.44{path}"), Some(&body.to_string()))
}

/// All bytes of a stream that is asked for, without the head of the answer.
fn stream(engine: &Engine, path: &str, body: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(engine.socket()).expect("an engine");
    let head = "Host: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json";
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    answer.split_off(end + 4)
}

/// A container that was made as `body` says, which goes with the test.
struct Made<'a> {
    engine: &'a Engine,
    id: String,
}

impl<'a> Made<'a> {
    fn new(engine: &'a Engine, body: Value) -> Self {
        let mut body = body;
        body["Image"] = json!(SMALL);
        let (status, answer) = ask(engine, "POST", "/containers/create", &body);
        assert_eq!(status, 201, "{body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        Self { engine, id: answer["Id"].as_str().expect("an id").to_owned() }
    }

    fn started(engine: &'a Engine, body: Value) -> Self {
        let made = Self::new(engine, body);
        assert_eq!(engine.request("POST", &format!("/v1.44/containers/{}/start", made.id), None).0, 204);
        made
    }

    fn inspect(&self) -> Value {
        let (_, answer) = self.engine.request("GET", &format!("/v1.44/containers/{}/json", self.id), None);
        serde_json::from_str(&answer).expect("JSON")
    }

    /// What comes of an exec: the bytes of its stream, and its exit code.
    fn exec(&self, exec: &Value, start: &Value) -> (Vec<u8>, Value) {
        let (_, answer) = ask(self.engine, "POST", &format!("/containers/{}/exec", self.id), exec);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let id = answer["Id"].as_str().expect("an id").to_owned();
        let stream = stream(self.engine, &format!("/v1.44/exec/{id}/start"), &start.to_string());
        let code = || {
            let (_, shown) = self.engine.request("GET", &format!("/v1.44/exec/{id}/json"), None);
            serde_json::from_str::<Value>(&shown).expect("JSON")["ExitCode"].clone()
        };
        wait_until("the exec has ended", || code() != Value::Null);
        (stream, code())
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.engine.request("DELETE", &format!("/v1.44/containers/{}?force=1", self.id), None);
    }
}

#[test]
fn what_the_client_says_at_the_start_of_an_exec_frames_its_output() {
    let engine = Engine::start();
    let made = Made::started(&engine, json!({"Cmd": ["sleep", "1000"]}));
    let exec = json!({"Cmd": ["echo", "hello"], "Tty": true, "AttachStdout": true, "AttachStderr": true});
    let (framed, _) = made.exec(&exec, &json!({"Tty": false}));
    assert_eq!(framed, [&[1, 0, 0, 0, 0, 0, 0, 7], &b"hello\r\n"[..]].concat());
    let (raw, _) = made.exec(&exec, &json!({"Tty": true}));
    assert_eq!(raw, b"hello\r\n");
}

#[test]
fn an_exec_that_cannot_be_started_has_126() {
    let engine = Engine::start();
    let made = Made::started(&engine, json!({"Cmd": ["sleep", "1000"]}));
    for (command, user) in [("/no/such/program", ""), ("/etc/passwd", ""), ("true", "nobody-knows")] {
        let exec = json!({"Cmd": [command], "User": user, "AttachStdout": true});
        assert_eq!(made.exec(&exec, &json!({})).1, json!(126), "{command} {user}");
    }
}

/// Clients set the size of a terminal while they start what has it.
#[test]
fn the_size_of_an_execs_terminal_may_come_before_its_start() {
    let engine = Engine::start();
    let made = Made::started(&engine, json!({"Cmd": ["sleep", "1000"]}));
    // A terminal that has no size yet is an error to `stty`.
    let exec = json!({"Cmd": ["sh", "-c", "until stty size 2>/dev/null | grep '33 77'; do sleep 0.1; done"],
        "Tty": true, "AttachStdout": true});
    let (_, answer) = ask(&engine, "POST", &format!("/containers/{}/exec", made.id), &exec);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let id = answer["Id"].as_str().expect("an id").to_owned();
    std::thread::scope(|scope| {
        let path = format!("/v1.44/exec/{id}/resize?h=33&w=77");
        let mut early = UnixStream::connect(engine.socket()).expect("an engine");
        write!(early, "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .expect("sent");
        let resized = scope.spawn(move || {
            let mut answer = String::new();
            early.read_to_string(&mut answer).expect("an answer");
            answer
        });
        let said = stream(&engine, &format!("/v1.44/exec/{id}/start"), &json!({"Tty": true}).to_string());
        assert_eq!(String::from_utf8_lossy(&said).trim(), "33 77");
        assert!(resized.join().expect("no panic").starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn variables_are_kept_as_they_were_given_before_those_of_the_image() {
    let engine = Engine::start();
    let body = json!({"Env": ["B=2", "BARE", "EMPTY="], "Cmd": ["env"], "WorkingDir": "/tmp/./x/../"});
    let shown = Made::new(&engine, body).inspect();
    let env = shown["Config"]["Env"].as_array().expect("a list").clone();
    assert_eq!(env[..3], [json!("B=2"), json!("BARE"), json!("EMPTY=")]);
    assert_eq!(shown["Config"]["WorkingDir"], json!("/tmp"));
}

#[test]
fn what_cannot_be_is_refused_in_dockers_words() {
    let engine = Engine::start();
    let host = |host: Value| json!({"Image": SMALL, "Cmd": ["true"], "HostConfig": host});
    for (body, status, text) in [
        (json!({"Image": SMALL, "Cmd": ["true"], "Env": [""]}), 400, "invalid environment variable: "),
        (json!({"Image": SMALL, "Cmd": ["true"], "Env": ["=a"]}), 400, "invalid environment variable: =a"),
        (host(json!({"Tmpfs": {"foo": ""}})), 400, "mount path must be absolute"),
        (host(json!({"Tmpfs": {"//": ""}})), 400, "destination can't be '/'"),
        (
            host(json!({"Annotations": {"": "a"}})),
            400,
            "the empty string is not permitted as an annotation key",
        ),
        (host(json!({"LogConfig": {"Type": "asdf"}})), 400, "error looking up logging plugin asdf: plugin"),
        (
            host(json!({"VolumeDriver": "foo", "Binds": ["sea:/sea"]})),
            404,
            "error looking up volume plugin foo: plugin",
        ),
    ] {
        let (found, answer) = ask(&engine, "POST", "/containers/create", &body);
        assert_eq!((found, answer.contains(text)), (status, true), "{body}: {answer}");
    }
    let (status, answer) = engine.request("POST", "/v1.44/containers/create", Some("{invalid"));
    let text = "invalid JSON: invalid character 'i' looking for beginning of object key string";
    assert_eq!((status, answer.contains(text)), (400, true), "{answer}");
    let volume = json!({"Name": "sea", "Driver": "foo"});
    let (status, answer) = ask(&engine, "POST", "/volumes/create", &volume);
    assert_eq!((status, answer.contains("error looking up volume plugin foo")), (404, true), "{answer}");
    let endpoints = json!({"Image": SMALL, "NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}});
    let (status, answer) = engine.request("POST", "/v1.43/containers/create", Some(&endpoints.to_string()));
    let text = "Container cannot be created with multiple network endpoints";
    assert_eq!((status, answer.contains(text)), (400, true), "{answer}");
    let (status, answer) = engine.upload("POST", "/v1.44/images/load", b"no archive");
    assert_eq!((status, answer.contains("errorDetail")), (200, true), "{answer}");
}

#[test]
fn a_network_may_come_after_the_container() {
    let engine = Engine::start();
    let network = engine.name("sea");
    let made = Made::new(&engine, json!({"Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": network}}));
    let start = || engine.request("POST", &format!("/v1.44/containers/{}/start", made.id), None);
    let (status, answer) = start();
    assert_eq!((status, answer.contains(&network)), (404, true), "{answer}");
    engine.docker(&["network", "create", &network]).ok();
    assert_eq!(start().0, 204);
    let id = engine.docker(&["network", "inspect", "-f", "{{.Id}}", &network]).ok();
    let on = &made.inspect()["NetworkSettings"]["Networks"][&network];
    assert_eq!((&on["NetworkID"], on["IPAddress"] != json!("")), (&json!(id), true), "{on}");
    drop(made);
    engine.docker(&["network", "rm", &network]).ok();
}

#[test]
fn a_container_that_is_removed_when_it_ends_can_be_restarted() {
    let engine = Engine::start();
    let body = json!({"Cmd": ["sh", "-c", "date > /kept; sleep 1000"], "HostConfig": {"AutoRemove": true}});
    let made = Made::started(&engine, body);
    let before = made.inspect()["State"]["StartedAt"].clone();
    let restart = engine.request("POST", &format!("/v1.44/containers/{}/restart?t=0", made.id), None);
    assert_eq!(restart.0, 204, "{}", restart.1);
    let state = made.inspect()["State"].clone();
    assert_eq!((&state["Running"], state["StartedAt"] != before), (&json!(true), true), "{state}");
    let policy = json!({"RestartPolicy": {"Name": "always"}});
    let (_, answer) = ask(&engine, "POST", &format!("/containers/{}/update", made.id), &policy);
    assert!(answer.contains("AutoRemove is enabled"), "{answer}");
    assert_eq!(engine.request("POST", &format!("/v1.44/containers/{}/kill", made.id), None).0, 204);
    wait_until("it is removed", || {
        engine.request("GET", &format!("/v1.44/containers/{}/json", made.id), None).0 == 404
    });
}

/// Its second run is over before anybody could say that it is to be removed again.
#[test]
fn a_container_that_ends_at_once_after_its_restart_is_removed_all_the_same() {
    let engine = Engine::start();
    let script = "test -e /kept && exit; touch /kept; sleep 1000";
    for _ in 0..10 {
        let body =
            json!({"Cmd": ["sh", "-c", script], "HostConfig": {"AutoRemove": true, "NetworkMode": "none"}});
        let made = Made::started(&engine, body);
        let exec = json!({"Cmd": ["test", "-e", "/kept"]});
        wait_until("the first run has left its mark", || made.exec(&exec, &json!({})).1 == json!(0));
        engine.request("POST", &format!("/v1.44/containers/{}/restart?t=0", made.id), None);
        wait_until("it is removed", || {
            engine.request("GET", &format!("/v1.44/containers/{}/json", made.id), None).0 == 404
        });
    }
}

#[test]
fn a_limit_of_processes_is_taken_away_by_clients_that_know_of_it() {
    let engine = Engine::start();
    let made = Made::started(&engine, json!({"Cmd": ["sleep", "1000"], "HostConfig": {"PidsLimit": 32}}));
    let limit = || made.inspect()["HostConfig"]["PidsLimit"].clone();
    let update = |version: &str, limit: i64| {
        let path = format!("/v{version}/containers/{}/update", made.id);
        let (status, answer) = engine.request("POST", &path, Some(&json!({"PidsLimit": limit}).to_string()));
        assert_eq!(status, 200, "{answer}");
    };
    update("1.24", 16);
    assert_eq!(limit(), json!(32));
    update("1.44", 16);
    assert_eq!(limit(), json!(16));
    update("1.44", -1);
    assert_eq!(limit(), json!(0));
    let exec = json!({"Cmd": ["cat", "/sys/fs/cgroup/pids/pids.max"], "Tty": true, "AttachStdout": true});
    assert_eq!(made.exec(&exec, &json!({"Tty": true})).0, b"max\r\n");
}

#[test]
fn an_exec_has_the_groups_that_its_container_was_given() {
    let engine = Engine::start();
    let body = json!({"Cmd": ["sleep", "1000"], "HostConfig": {"GroupAdd": ["extra", "777"]}});
    let made = Made::started(&engine, body);
    for (user, groups) in [("", "0 77 777"), ("1000:33", "33 77 777")] {
        let exec = json!({"Cmd": ["id", "-G"], "User": user, "Tty": true, "AttachStdout": true});
        let (output, _) = made.exec(&exec, &json!({"Tty": true}));
        assert_eq!(String::from_utf8_lossy(&output).trim(), groups, "{user}");
    }
}

#[test]
fn a_request_of_the_wrong_type_leaves_its_connection_to_the_next() {
    let engine = Engine::start();
    let mut stream = UnixStream::connect(engine.socket()).expect("an engine");
    let path = "POST /v1.44/containers/nobody/update HTTP/1.1\r\nHost: d";
    let body = "x".repeat(100_000);
    write!(stream, "{path}\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n{body}")
        .expect("sent");
    write!(stream, "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("two answers");
    assert!(answers.starts_with("HTTP/1.1 400") && answers.contains("unsupported Content-Type"), "{answers}");
    assert!(answers.contains("HTTP/1.1 200 OK") && answers.ends_with("OK"), "{answers}");
    assert!(answers.to_ascii_lowercase().contains("pragma: no-cache"), "{answers}");
}

#[test]
fn a_stream_that_is_refused_ends_with_its_connection() {
    let engine = Engine::start();
    for path in ["/containers/nobody/attach?stream=1", "/exec/nobody/start"] {
        let (status, answer) = engine.request("POST", &format!("/v1.44{path}"), None);
        assert_eq!((status, answer.contains("nobody")), (404, true), "{answer}");
    }
}

/// The table of the documentation has them all; what is refused says so, and is no page that is not found.
#[test]
fn every_operation_of_the_api_is_answered() {
    let engine = Engine::start();
    if engine.is_original() {
        // Some remove whatever nobody uses.
        return;
    }
    let page = include_str!("../../docs/user/api.md");
    for operation in Schema::get().operations() {
        let (method, path) = (operation.method(), operation.segments().join("/"));
        let area = format!("/{}", operation.segments()[0]);
        let last = operation.segments().last().expect("a path");
        let is_named = page.contains(&format!("`{method} /{path}`"))
            || page.contains(&format!("`{area}`"))
            || page.contains(&format!("`{last}`"));
        assert!(is_named, "{method} /{path} is not in docs/user/api.md");
        if path == "events" || method == "HEAD" {
            // They go on, or tell nothing.
            continue;
        }
        let path = path.replace("{id}", "nobody").replace("{name}", "nobody");
        let body = if method == "GET" || method == "DELETE" { None } else { Some("{}") };
        let (status, answer) = engine.request(method, &format!("/v1.53/{path}"), body);
        assert!(status != 0 && !answer.contains("page not found"), "{method} /{path}: {status} {answer}");
    }
}
