//! What the suites of Docker's own engine and libraries look for and nothing else here does: small things that somebody relies on.

use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use std::io::{Read, Write};

fn run(engine: &Engine, options: &[&str], command: &[&str]) -> Output {
    engine.docker(&[&["run", "--rm"], options, &[SMALL], command].concat())
}

fn waits(engine: &Engine, name: &str, options: &[&str]) -> String {
    let name = engine.name(name);
    engine.docker(&[&["run", "-d", "--name", &name], options, &[SMALL, "sleep", "1000"]].concat()).ok();
    name
}

fn remove(engine: &Engine, names: &[&str]) {
    engine.docker(&[&["rm", "-f"], names].concat()).ok();
}

#[test]
fn what_contradicts_itself_is_refused_in_dockers_words() {
    let engine = Engine::start();
    let other = waits(&engine, "other", &[]);
    let shares = format!("container:{other}");
    let create = |options: &[&str]| engine.docker(&[&["create"], options, &[SMALL, "true"]].concat());
    for (options, text) in [
        (&["--network", &shares, "--dns", "1.1.1.1"][..], "conflicting options: dns and the network mode"),
        (
            &["--network", &shares, "--add-host", "a:1.1.1.1"],
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            &["--network", &shares, "--expose", "80"],
            "conflicting options: port exposing and the container type network mode",
        ),
        (
            &["--network", &shares, "-p", "80:80"],
            "conflicting options: port publishing and the container type network mode",
        ),
        (&["--tmpfs", "/x", "-v", "/tmp:/x"], "Duplicate mount point: /x"),
        (&["--oom-score-adj", "1001"], "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (&["--cpuset-cpus", "1-10,11--"], "Invalid value 1-10,11-- for cpuset cpus"),
        (&["--cpuset-mems", "1-42--"], "Invalid value 1-42-- for cpuset mems"),
        (&["--log-opt", "nothing=1"], "unknown log opt 'nothing' for json-file log driver"),
        (&["-v", "/x:ro"], "invalid volume specification: '/x:ro'"),
        (&["-v", "/tmp:/x:ro,rw"], "invalid mode: ro,rw"),
        (
            &["--mount", "type=volume,dst=/x,readonly"],
            "must not set ReadOnly mode when using anonymous volumes",
        ),
    ] {
        create(options).refused(1, text);
    }
    remove(&engine, &[&other]);
    for (options, code, text) in [
        (&["-u", "-1"][..], 125, "uids and gids must be in range 0-2147483647"),
        (&["--device", "/etc"], 125, "not a device node"),
        (&["-w", "/bin/busybox"], 125, "Cannot mkdir: /bin/busybox is not a directory"),
        (&["-c", "1"], 125, "minimum allowed cpu-shares is 2"),
        (&["-c", "262145"], 125, "maximum allowed cpu-shares is 262144"),
    ] {
        run(&engine, options, &["true"]).refused(code, text);
    }
}

#[test]
fn requests_without_sense_hear_why() {
    let engine = Engine::start();
    for (path, body, status, text) in [
        (
            "/containers/create",
            r#"{"Image":"x","HostConfig":{"ShmSize":-1}}"#,
            400,
            "SHM size can not be less than 0",
        ),
        (
            "/containers/create",
            r#"{"Image":"x","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"aa80"}]}}}"#,
            400,
            r#"invalid port specification: \"aa80\""#,
        ),
        ("/containers/create", "{}", 400, "config cannot be empty in order to create a container"),
        ("/containers/create", r#"{"Env":[]}"#, 400, "no command specified"),
        ("/containers/nothing/attach/ws", "", 404, "No such container: nothing"),
    ] {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let (found, answer) =
            engine.request(method, &format!("/v1.45{path}"), (!body.is_empty()).then_some(body));
        assert_eq!((found, answer.contains(text)), (status, true), "{path} {body}: {answer}");
    }
    let (status, answer) = engine.request("GET", "/v1.45/events?since=200&until=100", None);
    assert_eq!((status, answer.contains("cannot be after `until`")), (400, true), "{answer}");
    // The schema knows nothing of it, so nobody listens.
    let mut stream = std::os::unix::net::UnixStream::connect(engine.own_socket()).unwrap();
    stream
        .write_all(b"OPTIONS /v1.45/containers/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_paused_container_says_what_to_do() {
    let engine = Engine::start();
    let name = waits(&engine, "paused", &[]);
    engine.docker(&["pause", &name]).ok();
    engine.docker(&["start", &name]).refused(1, "cannot start a paused container, try unpause instead");
    let text = format!("Container {name} is paused, unpause the container before exec");
    engine.docker(&["exec", &name, "true"]).refused(1, &text);
    engine.docker(&["unpause", &name]).ok();
    remove(&engine, &[&name]);
}

#[test]
fn an_exec_that_was_not_started_goes_with_the_run() {
    let engine = Engine::start();
    let name = waits(&engine, "run", &[]);
    let body = r#"{"Cmd":["true"]}"#;
    let (_, answer) = engine.request("POST", &format!("/v1.45/containers/{name}/exec"), Some(body));
    let exec: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let start = || {
        let path = format!("/v1.45/exec/{}/start", exec["Id"].as_str().unwrap());
        engine.request("POST", &path, Some(r#"{"Detach":true}"#)).0
    };
    engine.docker(&["stop", "-t", "0", &name]).ok();
    assert_eq!(start(), 404);
    engine.docker(&["start", &name]).ok();
    assert_eq!(start(), 404);
    remove(&engine, &[&name]);
}

#[test]
fn processes_know_their_host_name_home_and_links() {
    let engine = Engine::start();
    let script = "echo $HOSTNAME $HOME";
    assert_eq!(run(&engine, &["-h", "boat", "-e", "HOME="], &["sh", "-c", script]).ok(), "boat /root");
    let hosts = run(&engine, &["-h", "boat.example.com"], &["cat", "/etc/hosts"]).ok();
    assert!(hosts.contains("boat.example.com boat"), "{hosts}");
    let linked = waits(&engine, "linked", &["-e", "COLOUR=red", "--expose", "80"]);
    let link = format!("{linked}:db");
    let name = waits(&engine, "linking", &["-h", "boat", "--link", &link]);
    let env = engine.docker(&["exec", &name, "env"]).ok();
    for expected in ["HOSTNAME=boat", "DB_ENV_COLOUR=red", "HOME=/root"] {
        assert!(env.lines().any(|line| line == expected), "{expected}: {env}");
    }
    remove(&engine, &[&name, &linked]);
}

#[test]
fn a_network_is_shared_on() {
    let engine = Engine::start();
    let first = waits(&engine, "first", &["-h", "boat"]);
    let second = waits(&engine, "second", &["--network", &format!("container:{first}")]);
    let by = format!("container:{second}");
    assert_eq!(run(&engine, &["--network", &by], &["cat", "/etc/hostname"]).ok(), "boat");
    remove(&engine, &[&second, &first]);
}

#[test]
fn names_are_known_with_their_network_and_before_anybody_has_them() {
    let engine = Engine::start();
    let network = engine.name("br.net");
    engine.docker(&["network", "create", &network]).ok();
    let later = engine.name("later");
    let link = format!("{later}:bar");
    let first = waits(&engine, "first", &["--network", &network, "--link", &link]);
    let later = waits(&engine, "later", &["--network", &network]);
    let resolves = |name: &str| engine.docker(&["exec", &first, "nslookup", name]).code == 0;
    assert!(resolves(&later) && resolves("bar"));
    assert!(resolves(&format!("{later}.{network}")));
    assert!(!resolves(&format!("{later}.{network}.invalid")));
    remove(&engine, &[&first, &later]);
    engine.docker(&["network", "rm", &network]).ok();
}

#[test]
fn lists_show_and_find_containers_as_docker_does() {
    let engine = Engine::start();
    let (image, child) = (engine.name("moving"), engine.name("child"));
    engine.docker(&["tag", SMALL, &image]).ok();
    let dockerfile = format!("FROM {SMALL}\nENV A=1\n");
    engine.docker_with_input(&["build", "-t", &child, "-"], dockerfile.as_bytes()).ok();
    let (moved, made) = (engine.name("moved"), engine.name("made"));
    let directory = engine.shared_directory().1.display().to_string();
    let bind = format!("{directory}:/bound");
    engine.docker(&["run", "-d", "--name", &moved, "-v", &bind, &image, "sleep", "1000"]).ok();
    engine.docker(&["create", "--name", &made, &child, "true"]).ok();
    let names = |filter: &str| {
        let listed = engine.docker(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]).ok();
        let mut names: Vec<String> = listed
            .lines()
            .filter(|name| [&moved, &made].contains(&&(*name).to_owned()))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&format!("volume={directory}")), std::slice::from_ref(&moved));
    let id = engine.docker(&["network", "inspect", "-f", "{{.Id}}", "bridge"]).ok();
    // With Docker, who was never started is on no network yet.
    assert!(names(&format!("network={}", &id[..6])).contains(&moved));
    let mut both = [moved.clone(), made.clone()];
    both.sort();
    if engine.is_original() {
        // Docker finds what its classic builder has made alone.
        assert_eq!(names(&format!("ancestor={child}")), std::slice::from_ref(&made));
    } else {
        assert_eq!(names(&format!("ancestor={SMALL}")), both);
        assert_eq!(names(&format!("ancestor={child}")), std::slice::from_ref(&made));
    }
    let shown = || {
        let filter = format!("name=^/{moved}$");
        engine.docker(&["ps", "--no-trunc", "--filter", &filter, "--format", "{{.Image}}"]).ok()
    };
    assert_eq!(shown(), image);
    engine.docker(&["tag", &child, &image]).ok();
    let id = engine.docker(&["inspect", "-f", "{{.Image}}", &moved]).ok();
    assert_eq!(shown(), id);
    remove(&engine, &[&moved, &made]);
    engine.docker(&["rmi", &image, &child]).ok();
}

#[test]
fn a_log_is_followed_from_a_moment_to_come() {
    let engine = Engine::start();
    let name = engine.name("counts");
    let script = "for i in 1 2 3 4 5 6 7 8; do date +%s; sleep 1; done";
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sh", "-c", script]).ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let since = now + 3;
    let lines = engine.docker(&["logs", "-f", "--since", &since.to_string(), &name]).ok();
    let first: u64 = lines.lines().next().unwrap().parse().unwrap();
    assert!(first >= since, "{first} {since}");
    remove(&engine, &[&name]);
}

#[test]
fn a_dockerfile_comes_beside_its_context() {
    let engine = Engine::start();
    let context = engine.directory().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("file"), "of the context\n").unwrap();
    let image = engine.name("beside");
    let dockerfile = format!("FROM {SMALL}\nCOPY file /file\n");
    let mut command = engine.command("docker");
    command.env("DOCKER_BUILDKIT", "0").args(["build", "-t", &image, "-f", "-", context.to_str().unwrap()]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(dockerfile.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(engine.docker(&["run", "--rm", &image, "cat", "/file"]).ok(), "of the context");
    let text = "target stage \"nothing\" could not be found";
    let built = engine.docker_with_input(&["build", "--target", "nothing", "-"], dockerfile.as_bytes());
    assert!(built.code != 0 && built.stderr.contains(text), "{}", built.stderr);
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn who_attaches_with_the_past_before_the_start_sees_all_that_comes() {
    let engine = Engine::start();
    for turn in 0..coracle_tests::race_iterations(10) {
        let name = engine.name(&format!("short{turn}"));
        engine.docker(&["create", "--name", &name, SMALL, "echo", "word"]).ok();
        let mut stream = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
        let path = format!("/v1.45/containers/{name}/attach?logs=1&stream=1&stdout=1");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        assert_eq!(engine.request("POST", &format!("/v1.45/containers/{name}/start"), None).0, 204);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.ends_with(b"\x01\0\0\0\0\0\0\x05word\n"), "{}", String::from_utf8_lossy(&all));
        remove(&engine, &[&name]);
    }
}

#[test]
fn a_container_without_any_network_has_no_network_and_no_statistics_of_one() {
    let engine = Engine::start();
    let name = engine.name("alone");
    let body = format!(r#"{{"Image":"{SMALL}","Cmd":["sleep","1000"],"NetworkDisabled":true}}"#);
    let path = format!("/v1.45/containers/create?name={name}");
    let (status, answer) = engine.request("POST", &path, Some(&body));
    assert_eq!(status, 201, "{answer}");
    assert_eq!(engine.request("POST", &format!("/v1.45/containers/{name}/start"), None).0, 204);
    assert_eq!(engine.docker(&["exec", &name, "ls", "/sys/class/net"]).ok(), "lo");
    let document = |path: &str| -> serde_json::Value {
        let (status, answer) = engine.request("GET", &format!("/v1.45/containers/{name}/{path}"), None);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    };
    assert_eq!(document("json")["Config"]["NetworkDisabled"], true);
    let sample = document("stats?stream=0");
    assert!(sample["networks"].is_null() && sample["cpu_stats"].is_object(), "{sample}");
    engine.docker(&["stop", "-t", "0", &name]).ok();
    engine.docker(&["start", &name]).ok();
    assert_eq!(engine.docker(&["exec", &name, "ls", "/sys/class/net"]).ok(), "lo");
    remove(&engine, &[&name]);
}

#[test]
fn lines_of_a_log_are_marked_with_labels_variables_and_a_tag() {
    let engine = Engine::start();
    let name = engine.name("marked");
    let options = [
        &["run", "--name", &name, "--log-opt", "labels=colour,none", "--log-opt", "labels-regex=^sh.pe$"][..],
        &[
            "--log-opt",
            "env=SIZE",
            "--log-opt",
            "env-regex=^TAS",
            "--log-opt",
            "tag={{.Name}} {{.DaemonName}}",
        ],
        &["--label", "colour=dark blue", "--label", "shape=round", "--label", "other=x"],
        &[
            "-e",
            "SIZE=1&2",
            "-e",
            "TASTE=salt",
            "-e",
            "SMELL=none",
            SMALL,
            "sh",
            "-c",
            "echo word; printf half",
        ],
    ];
    assert_eq!(engine.docker(&options.concat()).ok(), "word\nhalf");
    let marks = format!("SIZE=1%262,TASTE=salt,colour=dark+blue,shape=round,tag={name}+docker");
    let lines = engine.docker(&["logs", "--details", &name]).ok();
    assert_eq!(lines, format!("{marks} word\n{marks} half"));
    assert_eq!(engine.docker(&["logs", &name]).ok(), "word\nhalf");
    remove(&engine, &[&name]);
    let bare = engine.name("bare");
    engine.docker(&["run", "--name", &bare, SMALL, "echo", "word"]).ok();
    assert_eq!(engine.docker(&["logs", "--details", &bare]).stdout, " word\n");
    remove(&engine, &[&bare]);
    let long = format!("colour={}", "x".repeat(20_000));
    let refused = engine.docker(&["create", "--label", &long, "--log-opt", "labels=colour", SMALL, "true"]);
    if engine.is_original() {
        engine.docker(&["rm", &refused.ok()]).ok();
    } else {
        refused.refused(1, "and may have 16384");
    }
    let driver = ["run", "--rm", "--log-driver", "local", "--log-opt", "labels=a", SMALL, "true"];
    engine.docker(&driver).refused(125, "unknown log opt 'labels' for log driver local");
    run(&engine, &["--log-opt", "labels-regex=("], &["true"]).refused(125, "(");
    run(&engine, &["--log-opt", "tag={{.Nothing}}"], &["true"]).refused(125, "Nothing");
}

#[test]
fn what_an_engine_marks_logs_with_is_in_those_of_its_own_driver() {
    let engine = Engine::start_with(&["--log-opt", "labels=colour", "--log-opt", "tag=all"]);
    if engine.is_original() {
        return;
    }
    for (options, marks) in [
        (&[][..], "colour=blue,tag=all "),
        (&["--log-opt", "tag=own"], "colour=blue,tag=own "),
        (&["--log-driver", "local"], " "),
    ] {
        let name = engine.name("marked");
        let all =
            [&["run", "--name", &name, "--label", "colour=blue"], options, &[SMALL, "echo", "word"]].concat();
        engine.docker(&all).ok();
        assert_eq!(engine.docker(&["logs", "--details", &name]).stdout, format!("{marks}word\n"));
        remove(&engine, &[&name]);
    }
}

#[test]
fn a_container_that_waits_to_be_restarted_can_be_killed() {
    let engine = Engine::start();
    let name = engine.name("fails");
    engine.docker(&["run", "-d", "--restart", "always", "--name", &name, SMALL, "false"]).ok();
    coracle_tests::engine::wait_until("it waits", || {
        engine.docker(&["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", &name]).ok() == "restarting 5"
    });
    engine.docker(&["kill", &name]).ok();
    assert_eq!(
        engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &name]).ok(),
        "exited 1"
    );
    engine.docker(&["kill", &name]).refused(1, "is not running");
    remove(&engine, &[&name]);
}

#[test]
fn a_working_directory_is_there_before_the_start() {
    let engine = Engine::start();
    let name = engine.name("made");
    engine.docker(&["create", "--name", &name, "-w", "/made/here", SMALL, "ls"]).ok();
    let (from, to) = (engine.directory().join("file"), engine.directory().join("copied"));
    std::fs::write(&from, "x").unwrap();
    engine.docker(&["cp", from.to_str().unwrap(), &format!("{name}:/made/here/")]).ok();
    engine.docker(&["cp", &format!("{name}:/made/here"), to.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(to.join("file")).unwrap(), "x");
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "file");
    remove(&engine, &[&name]);
}

#[test]
fn processes_are_shown_in_the_order_that_is_asked_for() {
    let engine = Engine::start();
    let name = engine.name("two");
    let script = "sleep 1000 & sleep 1000 && true";
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sh", "-c", script]).ok();
    let ids = |sort: &str| -> Vec<u32> {
        let shown = engine.docker(&["top", &name, "aux", sort]).ok();
        assert!(shown.starts_with("USER") && shown.lines().next().unwrap().ends_with("COMMAND"), "{shown}");
        shown.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap()).collect()
    };
    coracle_tests::engine::wait_until("all are there", || ids("--sort=pid").len() == 3);
    let (up, mut down) = (ids("--sort=pid"), ids("--sort=-pid"));
    down.reverse();
    assert!(up.is_sorted() && up == down, "{up:?} {down:?}");
    remove(&engine, &[&name]);
}
