//! Health checks: what is asked, what follows from the answers, and who is told.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use serde_json::{Value, json};
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;

/// Asks so often that no test takes long.
const OFTEN: [&str; 4] = ["--health-interval", "100ms", "--health-timeout", "20s"];

/// Runs a container that sleeps, with options, and returns its name.
fn run(engine: &Engine, name: &str, options: &[&str]) -> String {
    let name = engine.name(name);
    engine.docker(&[&["run", "-d", "--name", &name], options, &[SMALL, "sleep", "1000"]].concat()).ok();
    name
}

fn remove(engine: &Engine, name: &str) {
    engine.docker(&["rm", "-f", name]).ok();
}

fn health(engine: &Engine, name: &str) -> Value {
    serde_json::from_str(&engine.docker(&["inspect", "-f", "{{json .State.Health}}", name]).ok()).unwrap()
}

fn status(engine: &Engine, name: &str) -> String {
    health(engine, name)["Status"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn wait_for(engine: &Engine, name: &str, wanted: &str) {
    wait_until(&format!("{name} is {wanted}"), || status(engine, name) == wanted);
}

/// The begin of every answer that is kept, which sorts as it reads.
fn starts(engine: &Engine, name: &str) -> Vec<String> {
    let log = health(engine, name)["Log"].clone();
    log.as_array().unwrap().iter().map(|probe| probe["Start"].as_str().unwrap().to_owned()).collect()
}

/// Waits for two answers to questions that are put from now on.
#[track_caller]
fn wait_for_answers(engine: &Engine, name: &str) {
    let before = starts(engine, name).pop().unwrap_or_default();
    wait_until("it is asked again", || {
        starts(engine, name).iter().filter(|start| **start > before).count() >= 2
    });
}

/// What happens to a container, from a minute ago on.
struct Listener {
    client: Child,
    heard: PathBuf,
}

impl Listener {
    fn new(engine: &Engine, name: &str) -> Self {
        let heard = engine.directory().join(format!("events-of-{name}"));
        let format = "{{.Action}}|{{.Actor.Attributes.reason}}";
        let filter = format!("container={name}");
        let client = engine
            .command("docker")
            .args(["events", "--since", "1m", "--filter", &filter, "--format", format])
            .stdout(File::create(&heard).unwrap())
            .spawn()
            .unwrap();
        Self { client, heard }
    }

    /// Actions with their reasons, where they have one.
    fn heard(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&self.heard).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter_map(|line| line.rsplit_once('|'))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    }

    /// Waits until an action is told of, and returns its reason.
    #[track_caller]
    fn wait_for(&self, action: &str) -> String {
        let reason = || self.heard().into_iter().find(|(heard, _)| heard == action).map(|(_, reason)| reason);
        wait_until(&format!("{action} is told of"), || reason().is_some());
        reason().unwrap()
    }

    /// The actions that begin with a word, so far.
    fn all(&self, word: &str) -> Vec<String> {
        self.heard().into_iter().map(|(action, _)| action).filter(|action| action.starts_with(word)).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.client.kill().unwrap();
        self.client.wait().unwrap();
    }
}

fn ps(engine: &Engine, name: &str, filters: &[&str]) -> String {
    let name = format!("name={name}");
    let mut arguments = vec!["ps", "-a", "--format", "{{.Status}}", "--filter", &name];
    for filter in filters {
        arguments.extend(["--filter", filter]);
    }
    engine.docker(&arguments).ok()
}

#[test]
fn a_container_is_starting_then_healthy_then_unhealthy() {
    let engine = Engine::start();
    let test = "echo out; echo err >&2; test -e /works && test ! -e /broken";
    let options =
        [&["--health-cmd", test, "--health-retries", "2", "--health-start-period", "1h"], &OFTEN[..]];
    let name =
        run(&engine, "states", &[&options.concat()[..], &["--health-start-interval", "100ms"]].concat());
    assert_eq!(health(&engine, &name), json!({"Status": "starting", "FailingStreak": 0, "Log": []}));
    let events = Listener::new(&engine, &name);
    assert!(ps(&engine, &name, &["health=starting"]).ends_with(" (health: starting)"));
    wait_for_answers(&engine, &name);
    assert_eq!(health(&engine, &name)["FailingStreak"], 0, "failures of the start period do not count");
    engine.docker(&["exec", &name, "touch", "/works"]).ok();
    wait_for(&engine, &name, "healthy");
    assert!(ps(&engine, &name, &["health=healthy"]).ends_with(" (healthy)"));
    assert_eq!(ps(&engine, &name, &["health=unhealthy"]), "");
    engine.docker(&["exec", &name, "touch", "/broken"]).ok();
    wait_for(&engine, &name, "unhealthy");
    assert!(ps(&engine, &name, &["health=unhealthy"]).ends_with(" (unhealthy)"));
    let found = health(&engine, &name);
    assert!(found["FailingStreak"].as_u64().unwrap() >= 2, "{found}");
    let last = found["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["ExitCode"], 1);
    let mut said: Vec<&str> = last["Output"].as_str().unwrap().lines().collect();
    said.sort_unstable();
    assert_eq!(said, ["err", "out"], "both streams are kept");
    assert!(last["Start"].as_str() < last["End"].as_str(), "{last}");
    // Told right after it is so.
    events.wait_for("health_status: unhealthy");
    assert_eq!(events.all("health_status"), ["health_status: healthy", "health_status: unhealthy"]);
    events.wait_for(&format!("exec_create: /bin/sh -c {test}"));
    events.wait_for(&format!("exec_start: /bin/sh -c {test}"));
    events.wait_for("exec_die");
    remove(&engine, &name);
}

#[test]
fn a_check_that_takes_too_long_is_killed_and_has_failed() {
    let engine = Engine::start();
    let test = "echo begun; sleep 986 & sleep 987; true";
    let options = ["--health-cmd", test, "--health-interval", "100ms", "--health-timeout", "300ms"];
    let name = run(&engine, "late", &options);
    wait_until("it is late", || health(&engine, &name)["FailingStreak"] != 0);
    let last = health(&engine, &name)["Log"][0].clone();
    assert_eq!(
        (&last["ExitCode"], &last["Output"]),
        (&json!(-1), &json!("Health check exceeded timeout (300ms): begun\n"))
    );
    if !engine.is_original() {
        // Docker leaves what the shell has started.
        engine.docker(&["exec", &name, "touch", "/over"]).ok();
        wait_for(&engine, &name, "unhealthy");
        let processes = |word: &str| engine.docker(&["top", &name]).ok().matches(word).count();
        wait_until("nothing of the last one is left", || {
            processes("sleep 986") <= 1 && processes("sleep 987") <= 1
        });
    }
    remove(&engine, &name);
}

#[test]
fn five_answers_are_kept_and_the_beginning_of_what_they_say() {
    let engine = Engine::start();
    let test = ["--health-cmd", "cat /count; echo >>/count; yes | head -c 5000"];
    let name = run(&engine, "log", &[&test, &OFTEN[..]].concat());
    wait_until("five are kept", || starts(&engine, &name).len() == 5);
    let first = starts(&engine, &name);
    wait_for_answers(&engine, &name);
    let later = starts(&engine, &name);
    assert_eq!(later.len(), 5);
    assert!(later.is_sorted() && later[4] > first[4]);
    let found = health(&engine, &name)["Log"][4]["Output"].as_str().unwrap().to_owned();
    assert_eq!((found.len(), &found[4096..]), (4099, "..."));
    remove(&engine, &name);
}

#[test]
fn a_check_runs_as_the_container_does() {
    let engine = Engine::start();
    let test = "id -un; pwd; echo $X; tty; cat";
    let more = ["-u", "web", "-w", "/var", "-e", "X=y", "--health-cmd", test];
    let name = run(&engine, "as", &[&more, &OFTEN[..]].concat());
    wait_for(&engine, &name, "healthy");
    assert_eq!(health(&engine, &name)["Log"][0]["Output"], "web\n/var\ny\nnot a tty\n");
    remove(&engine, &name);
}

#[test]
fn a_program_that_is_not_there_is_a_failure_with_a_reason() {
    let engine = Engine::start();
    let name = engine.name("missing");
    let body = json!({
        "Image": SMALL, "Cmd": ["sleep", "1000"],
        "Healthcheck": {"Test": ["CMD", "no-such-program"], "Interval": 100_000_000, "Retries": 1},
    });
    let path = format!("/v1.44/containers/create?name={name}");
    let (code, answer) = engine.request("POST", &path, Some(&body.to_string()));
    assert_eq!(code, 201, "{answer}");
    engine.docker(&["start", &name]).ok();
    wait_for(&engine, &name, "unhealthy");
    let last = health(&engine, &name)["Log"][0].clone();
    assert_eq!(last["ExitCode"], -1);
    assert!(last["Output"].as_str().unwrap().contains("no-such-program"), "{last}");
    let events = Listener::new(&engine, &name);
    events.wait_for("exec_create: no-such-program ");
    events.wait_for("exec_start: no-such-program ");
    remove(&engine, &name);
}

#[test]
fn nobody_asks_a_container_that_is_paused_or_has_ended() {
    let engine = Engine::start();
    let test = [&["--health-cmd", "true"], &OFTEN[..]].concat();
    let (name, clock) = (run(&engine, "paused", &test), run(&engine, "clock", &test));
    wait_for(&engine, &name, "healthy");
    engine.docker(&["pause", &name]).ok();
    let paused = starts(&engine, &name);
    assert_eq!(status(&engine, &name), "unhealthy", "as Docker shows what nobody asks");
    assert!(ps(&engine, &name, &[]).ends_with(" (Paused)"));
    wait_for_answers(&engine, &clock);
    assert_eq!(starts(&engine, &name), paused);
    engine.docker(&["unpause", &name]).ok();
    wait_for(&engine, &name, "healthy");
    engine.docker(&["kill", &name]).ok();
    let (ended, kept) = (health(&engine, &name), starts(&engine, &name));
    assert_eq!(ended["Status"], "unhealthy");
    assert!(ps(&engine, &name, &["health=unhealthy"]).starts_with("Exited (137)"));
    wait_for_answers(&engine, &clock);
    assert_eq!(starts(&engine, &name), kept);
    engine.docker(&["start", &name]).ok();
    let again = health(&engine, &name);
    assert_eq!((&again["Status"], &again["FailingStreak"]), (&json!("starting"), &json!(0)));
    assert!(!again["Log"].as_array().unwrap().is_empty(), "the answers of the last run are kept");
    wait_for(&engine, &name, "healthy");
    remove(&engine, &name);
    remove(&engine, &clock);
}

#[test]
fn a_check_ends_with_its_container() {
    let engine = Engine::start();
    let test = [&["--health-cmd", "touch /asked; sleep 985", "--health-retries", "1"], &OFTEN[..]].concat();
    let name = run(&engine, "ends", &test);
    wait_until("it is asked", || engine.docker(&["exec", &name, "test", "-e", "/asked"]).code == 0);
    engine.docker(&["restart", "-t", "0", &name]).ok();
    assert_eq!(status(&engine, &name), "starting");
    engine.docker(&["rm", "-f", &name]).ok();
    let told = engine.docker(&["ps", "-a", "--filter", &format!("name={name}"), "-q"]).ok();
    assert_eq!(told, "");
}

#[test]
fn an_image_brings_its_check_and_a_client_may_want_none() {
    let engine = Engine::start();
    let base = run(&engine, "base", &[]);
    let image = engine.name("checked");
    let change = "HEALTHCHECK --interval=200ms --retries=2 CMD true";
    engine.docker(&["commit", "--change", change, &base, &image]).ok();
    remove(&engine, &base);
    let config = |kind: &[&str], name: &str| -> Value {
        let format = ["inspect", "-f", "{{json .Config.Healthcheck}}", name];
        serde_json::from_str(&engine.docker(&[kind, &format[..]].concat()).ok()).unwrap()
    };
    let test = json!(["CMD-SHELL", "true"]);
    assert_eq!(config(&["image"], &image), json!({"Test": test, "Interval": 200_000_000, "Retries": 2}));
    let name = engine.name("inherits");
    engine
        .docker(&["run", "-d", "--name", &name, "--health-retries", "1", "--health-cmd", "echo $0", &image])
        .ok();
    assert_eq!(
        config(&[], &name),
        json!({"Test": ["CMD-SHELL", "echo $0"], "Interval": 200_000_000, "Retries": 1})
    );
    wait_for(&engine, &name, "healthy");
    assert_eq!(health(&engine, &name)["Log"][0]["Output"], "/bin/sh\n");
    remove(&engine, &name);
    engine.docker(&["run", "-d", "--name", &name, "--no-healthcheck", &image]).ok();
    assert_eq!(config(&[], &name), json!({"Test": ["NONE"], "Interval": 200_000_000, "Retries": 2}));
    assert_eq!(health(&engine, &name), Value::Null);
    assert!(!ps(&engine, &name, &["health=none"]).is_empty());
    remove(&engine, &name);
    let body = json!({"Image": image, "Healthcheck": {"Test": ["CMD-SHELL", "echo $0"]}, "Shell": ["/bin/busybox", "ash", "-c"]});
    let (code, answer) =
        engine.request("POST", &format!("/v1.44/containers/create?name={name}"), Some(&body.to_string()));
    assert_eq!(code, 201, "{answer}");
    engine.docker(&["start", &name]).ok();
    wait_for(&engine, &name, "healthy");
    assert_eq!(health(&engine, &name)["Log"][0]["Output"], "ash\n", "the container's own shell runs it");
    remove(&engine, &name);
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn what_cannot_be_is_refused_as_docker_refuses_it() {
    let engine = Engine::start();
    for (check, text) in [
        (json!({"Interval": 999_999}), "Interval in Healthcheck cannot be less than 1ms"),
        (json!({"Interval": -5}), "Interval in Healthcheck cannot be less than 1ms"),
        (json!({"Test": ["CMD", "true"], "Timeout": 5}), "Timeout in Healthcheck cannot be less than 1ms"),
        (json!({"Test": ["NONE"], "StartPeriod": 5}), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (json!({"StartInterval": 5}), "StartInterval in Healthcheck cannot be less than 1ms"),
        (json!({"Test": ["CMD", "true"], "Retries": -1}), "Retries in Healthcheck cannot be negative"),
    ] {
        let body = json!({"Image": SMALL, "Cmd": ["true"], "Healthcheck": check}).to_string();
        let (code, answer) = engine.request("POST", "/v1.44/containers/create", Some(&body));
        assert_eq!(code, 400, "{check}: {answer}");
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["message"], text);
    }
    let refused = engine.docker(&["ps", "--filter", "health=fine"]);
    assert!(refused.stderr.contains("unrecognized filter value for health: fine"), "{}", refused.stderr);
    // Clients before 1.44 could not know the start interval.
    let body = json!({"Image": SMALL, "Cmd": ["true"], "Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 5}});
    let path = format!("/v1.43/containers/create?name={}", engine.name("old"));
    let (code, answer) = engine.request("POST", &path, Some(&body.to_string()));
    assert_eq!(code, 201, "{answer}");
    remove(&engine, &engine.name("old"));
}

#[test]
fn compose_waits_for_what_is_healthy() {
    let engine = Engine::start();
    let place = engine.directory().join("compose");
    std::fs::create_dir_all(&place).unwrap();
    let (project, first) = (engine.name("project"), engine.name("first"));
    let file = format!(
        "services:\n  first:\n    image: {SMALL}\n    container_name: {first}\n    network_mode: none\n    \
         command: [sh, -c, 'mkfifo /go; read line </go; touch /works; exec sleep 1000']\n    healthcheck:\n      \
         test: [CMD-SHELL, test -e /works]\n      interval: 200ms\n      retries: 10000\n  second:\n    \
         image: {SMALL}\n    network_mode: none\n    container_name: {first}-second\n    command: [sleep, '1000']\n    \
         healthcheck:\n      test: [CMD, 'true']\n      interval: 200ms\n    \
         depends_on:\n      first: {{condition: service_healthy}}\n"
    );
    std::fs::write(place.join("compose.yaml"), file).unwrap();
    let mut command = engine.plugin_command(&["compose", "-p", &project, "up", "--wait"]);
    let mut up = command.current_dir(&place).spawn().unwrap();
    wait_until("the first one is there", || engine.docker(&["inspect", &first]).code == 0);
    wait_until("the first one has failed", || health(&engine, &first)["FailingStreak"].as_u64() > Some(2));
    let second = format!("{first}-second");
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Status}}", &second]).ok(), "created");
    engine.docker(&["exec", &first, "sh", "-c", "echo >/go"]).ok();
    assert!(up.wait().unwrap().success());
    assert_eq!((status(&engine, &first), status(&engine, &second)), ("healthy".into(), "healthy".into()));
    remove(&engine, &first);
    remove(&engine, &second);
}

/// Our engine, for what Docker does not promise.
fn ours() -> Option<Engine> {
    if std::env::var_os("TARGET").is_some() {
        return None;
    }
    Some(Engine::start())
}

/// Runs a container with a script and a health check that the engine carries out itself.
fn run_asked(engine: &Engine, name: &str, url: &str, script: &str) -> String {
    let name = engine.name(name);
    let options =
        ["run", "-d", "--name", &name, "--network", "none", "--health-cmd", url, "--health-retries", "1"];
    engine.docker(&[&options[..], &OFTEN, &[SMALL, "sh", "-c", script]].concat()).ok();
    name
}

fn last_output(engine: &Engine, name: &str) -> String {
    let log = health(engine, name)["Log"].clone();
    log.as_array().and_then(|log| log.last()?["Output"].as_str().map(str::to_owned)).unwrap_or_default()
}

#[test]
fn a_port_is_asked_without_a_process_in_the_container() {
    let Some(engine) = ours() else { return };
    let script = "mkfifo /go /halt; read line </go; httpd -p 127.0.0.1:81 -h /; read line </halt; killall httpd; exec sleep 1000";
    let name = run_asked(&engine, "port", "tcp://:81", script);
    let events = Listener::new(&engine, &name);
    wait_for(&engine, &name, "unhealthy");
    assert!(last_output(&engine, &name).contains("127.0.0.1:81"), "{}", last_output(&engine, &name));
    engine.docker(&["exec", &name, "sh", "-c", "echo >/go"]).ok();
    wait_for(&engine, &name, "healthy");
    engine.docker(&["exec", &name, "sh", "-c", "echo >/halt"]).ok();
    wait_for(&engine, &name, "unhealthy");
    events.wait_for("health_status: unhealthy");
    assert_eq!(events.all("exec_create").len(), 2, "those of this test");
    remove(&engine, &name);
}

#[test]
fn a_page_is_asked_for_and_its_status_counts() {
    let Some(engine) = ours() else { return };
    let script = "mkdir -p /www/moved; echo fine >/www/page; exec httpd -f -p 81 -h /www";
    let there = run_asked(&engine, "there", "http://:81/page", script);
    let moved = run_asked(&engine, "moved", "http://localhost:81/moved", script);
    let missing = run_asked(&engine, "gone", "http://127.0.0.1:81/none", script);
    wait_for(&engine, &there, "healthy");
    assert!(last_output(&engine, &there).starts_with("HTTP/1.1 200 OK"), "{}", last_output(&engine, &there));
    wait_for(&engine, &moved, "healthy");
    assert!(last_output(&engine, &moved).contains(" 302 "), "{}", last_output(&engine, &moved));
    wait_until("the page is missed", || last_output(&engine, &missing).contains(" 404 "));
    assert_eq!(status(&engine, &missing), "unhealthy");
    for name in [there, moved, missing] {
        remove(&engine, &name);
    }
}

#[test]
fn a_server_that_says_nothing_useful_is_unhealthy_in_time() {
    let Some(engine) = ours() else { return };
    let silent = engine.name("silent");
    let asked = [
        "--network",
        "none",
        "--health-cmd",
        "http://:81/",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
    ];
    let script = "nc -ll -p 81 -e sleep 1000";
    let run = [
        &["run", "-d", "--name", &silent, "--health-timeout", "300ms"][..],
        &asked,
        &[SMALL, "sh", "-c", script],
    ];
    engine.docker(&run.concat()).ok();
    wait_until("it is late", || last_output(&engine, &silent) == "Health check exceeded timeout (300ms)");
    // It talks for ever, and not as HTTP does.
    let endless = run_asked(&engine, "endless", "http://:81/", "nc -ll -p 81 -e yes");
    wait_until("it is not understood", || last_output(&engine, &endless) == "the answer is not one of HTTP");
    remove(&engine, &silent);
    remove(&engine, &endless);
}

#[test]
fn a_url_that_cannot_be_asked_is_refused() {
    let Some(engine) = ours() else { return };
    for (url, why) in [
        ("tcp://db:5432", "names are not resolved"),
        ("tcp://:0", "port"),
        ("https://:443/", "run a command"),
    ] {
        engine.docker(&["create", "--health-cmd", url, SMALL, "true"]).refused(1, why);
    }
    let body = json!({"Image": SMALL, "Cmd": ["true"], "Healthcheck": {"Test": ["CMD"]}}).to_string();
    assert_eq!(engine.request("POST", "/v1.44/containers/create", Some(&body)).0, 400);
    let body = json!({"Image": SMALL, "Cmd": ["true"], "Healthcheck": {"Test": ["PING"]}}).to_string();
    let (code, answer) = engine.request("POST", "/v1.44/containers/create", Some(&body));
    assert_eq!(code, 201);
    assert!(answer.contains("is not run"), "{answer}");
}

#[test]
fn health_is_known_to_the_next_engine() {
    let Some(mut engine) = ours() else { return };
    let test = ["--health-cmd", "test ! -e /broken", "--health-retries", "1000000"];
    let name = run(&engine, "kept", &[&test, &OFTEN[..]].concat());
    wait_for(&engine, &name, "healthy");
    engine.docker(&["exec", &name, "touch", "/broken"]).ok();
    wait_until("it fails", || health(&engine, &name)["FailingStreak"].as_u64() > Some(4));
    let before = health(&engine, &name);
    engine.kill();
    engine.start_again();
    let events = Listener::new(&engine, &name);
    let after = health(&engine, &name);
    assert_eq!(after["Status"], "healthy", "nobody starts again to find out");
    assert!(after["FailingStreak"].as_u64() >= before["FailingStreak"].as_u64(), "{before} {after}");
    assert!(!after["Log"].as_array().unwrap().is_empty());
    wait_for_answers(&engine, &name);
    events.wait_for("exec_die");
    assert_eq!(events.all("health_status"), ["health_status: healthy"], "that of before, and no other");
    engine.docker(&["kill", &name]).ok();
    engine.kill();
    engine.start_again();
    assert_eq!(status(&engine, &name), "unhealthy");
    assert_eq!(starts(&engine, &name).len(), 5);
    remove(&engine, &name);
}

#[test]
fn an_unhealthy_container_is_restarted_stopped_or_killed_where_its_label_says_so() {
    let Some(engine) = ours() else { return };
    let field =
        |name: &str, field: &str| engine.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), name]).ok();
    // Works only in its first run until it is broken, and always in the next one.
    let test = "test -e /second || { test ! -e /broken || { touch /second; echo broken; false; }; }";
    let checked = |action: &str| {
        let label = format!("coracle.on-unhealthy={action}");
        let options =
            ["--label", &label, "--health-cmd", test, "--health-retries", "1", "--stop-timeout", "0"];
        let name = run(&engine, action, &[&options[..], &OFTEN].concat());
        let events = Listener::new(&engine, &name);
        wait_for(&engine, &name, "healthy");
        let pid = field(&name, ".State.Pid");
        engine.docker(&["exec", &name, "touch", "/broken"]).ok();
        (events.wait_for(&format!("on_unhealthy: {action}")), name, pid)
    };
    let (why, restarted, pid) = checked("restart");
    assert_eq!(why, "1 health checks in a row have failed, the last with exit code 1: broken");
    wait_until("it runs anew", || !["0", &pid].contains(&field(&restarted, ".State.Pid").as_str()));
    wait_for(&engine, &restarted, "healthy");
    let (_, stopped, _) = checked("stop");
    wait_until("it has ended", || field(&stopped, ".State.Status") == "exited");
    let (_, killed, _) = checked("kill");
    wait_until("it has ended", || field(&killed, ".State.Status") == "exited");
    assert_eq!(field(&killed, ".State.ExitCode"), "137");
    for name in [restarted, stopped, killed] {
        remove(&engine, &name);
    }
}

#[test]
fn a_restart_policy_starts_what_was_killed_and_nobody_starts_what_was_stopped_by_hand() {
    let Some(engine) = ours() else { return };
    let name = engine.name("policy");
    let options = ["run", "-d", "--restart", "always", "--on-unhealthy", "kill", "--name", &name];
    let test = ["--health-cmd", "false", "--health-retries", "1"];
    engine.coracle(&[&options[..], &test, &OFTEN, &[SMALL, "sleep", "1000"]].concat()).ok();
    let field = |field: &str| engine.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), &name]).ok();
    assert_eq!(field("index .Config.Labels \"coracle.on-unhealthy\""), "kill");
    wait_until("it was killed and started", || field(".RestartCount") != "0");
    engine.docker(&["stop", "-t", "0", &name]).ok();
    assert_eq!(field(".State.Status"), "exited");
    let label = ["create", "--label", "coracle.on-unhealthy=explode", SMALL, "true"];
    engine.docker(&label).refused(1, "restart, stop or kill");
    let warned = engine.docker(&[
        "create",
        "--name",
        &engine.name("no"),
        "--label",
        "coracle.on-unhealthy=stop",
        SMALL,
        "true",
    ]);
    assert!(warned.stderr.contains("no health check"), "{}", warned.stderr);
    remove(&engine, &engine.name("no"));
    remove(&engine, &name);
}

#[test]
fn a_check_that_is_killed_because_its_container_ends_is_no_failure() {
    let Some(engine) = ours() else { return };
    let name = engine.name("over");
    let test = ["--health-cmd", "touch /asked; sleep 985", "--health-retries", "1"];
    let label = ["--label", "coracle.on-unhealthy=restart"];
    let script = "rm -f /asked; while ! test -e /go; do sleep 0.01; done; rm /go";
    engine
        .docker(
            &[&["create", "--name", &name][..], &label, &test, &OFTEN, &[SMALL, "sh", "-c", script]].concat(),
        )
        .ok();
    let events = Listener::new(&engine, &name);
    for round in 1..=coracle_tests::race_iterations(5) as usize {
        engine.docker(&["start", &name]).ok();
        wait_until("it is asked", || engine.docker(&["exec", &name, "test", "-e", "/asked"]).code == 0);
        engine.docker(&["exec", "-d", &name, "touch", "/go"]).ok();
        wait_until("it has ended", || events.all("die").len() == round);
        assert_eq!(health(&engine, &name)["FailingStreak"], 0);
    }
    assert_eq!(events.all("health_status"), Vec::<String>::new());
    assert_eq!(events.all("on_unhealthy"), Vec::<String>::new());
    remove(&engine, &name);
}

#[test]
fn new_clients_see_health_in_the_list() {
    let Some(engine) = ours() else { return };
    let name = run(&engine, "listed", &[&["--health-cmd", "true"], &OFTEN[..]].concat());
    let plain = run(&engine, "plain", &[]);
    wait_for(&engine, &name, "healthy");
    let of = |version: &str, name: &str| -> Value {
        let (_, body) = engine.request("GET", &format!("/v{version}/containers/json"), None);
        let rows: Vec<Value> = serde_json::from_str(&body).unwrap();
        rows.iter().find(|row| row["Names"][0] == format!("/{name}")).unwrap()["Health"].clone()
    };
    assert_eq!(of("1.51", &name), Value::Null);
    assert_eq!(of("1.52", &name), json!({"Status": "healthy", "FailingStreak": 0}));
    assert_eq!(of("1.52", &plain), json!({"Status": "none", "FailingStreak": 0}));
    remove(&engine, &name);
    remove(&engine, &plain);
}
