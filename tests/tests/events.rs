//! What an engine tells of what happens, compared with Docker's: `TARGET=… cargo test --test events` runs the same on the
//! original.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> String {
    format!("{:.9}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64())
}

/// What happened since then to what has this prefix in its name, or to a container whose id is one of `ids`.
fn told(engine: &Engine, since: &str, filters: &[&str]) -> Vec<Value> {
    let until = now();
    let mut arguments = vec!["events", "--since", since, "--until", &until, "--format", "{{json .}}"];
    filters.iter().for_each(|filter| arguments.extend(["--filter", filter]));
    engine.docker(&arguments).ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Kind and action of each event, of an exec without its command.
fn actions(events: &[Value]) -> Vec<String> {
    let words = |event: &Value| {
        let action = event["Action"].as_str().unwrap().split(':').next().unwrap();
        format!("{} {action}", event["Type"].as_str().unwrap())
    };
    events.iter().map(words).collect()
}

fn attributes(event: &Value) -> Vec<(&str, &str)> {
    let attributes = event["Actor"]["Attributes"].as_object().unwrap();
    attributes.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect()
}

/// Whether an event has to do with a container.
fn is_of(event: &Value, id: &str) -> bool {
    event["Actor"]["ID"] == *id || event["Actor"]["Attributes"]["container"] == *id
}

fn id(engine: &Engine, name: &str) -> String {
    engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok()
}

/// Does something that may fail.
fn attempt(engine: &Engine, arguments: &[&str]) -> Output {
    engine.docker(arguments)
}

#[test]
fn the_life_of_a_container_is_told_as_docker_tells_it() {
    let engine = Engine::start();
    let (name, new, volume) = (engine.name("life"), engine.name("renamed"), engine.name("volume"));
    engine.docker(&["volume", "create", &volume]).ok();
    let since = now();
    let mount = format!("{volume}:/data:ro");
    let arguments = ["run", "-d", "--name", &name, "--label", "l=v", "-v", &mount, "--stop-signal", "KILL"];
    engine.docker(&[&arguments[..], &[SMALL, "sleep", "1000"]].concat()).ok();
    let id = id(&engine, &name);
    engine.docker(&["exec", &name, "true"]).ok();
    engine.docker(&["pause", &name]).ok();
    engine.docker(&["unpause", &name]).ok();
    engine.docker(&["rename", &name, &new]).ok();
    engine.docker(&["update", "--cpu-shares", "100", &new]).ok();
    let exported = engine.directory().join("exported").display().to_string();
    engine.docker(&["export", "-o", &exported, &new]).ok();
    engine.docker(&["top", &new]).ok();
    engine.docker(&["kill", "-s", "CONT", &new]).ok();
    engine.docker(&["stop", "-t", "9", &new]).ok();
    engine.docker(&["rm", &new]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
    let events = told(&engine, &since, &[]);
    let own: Vec<Value> = events.into_iter().filter(|event| is_of(event, &id)).collect();
    let mut found = actions(&own);
    let expected = [
        "container create",
        "network connect",
        "volume mount",
        "container start",
        "container exec_create",
        "container exec_start",
        "container exec_die",
        "container pause",
        "container unpause",
        "container rename",
        "container update",
        "container export",
        "container top",
        "container kill",
        "container kill",
        "network disconnect",
        "volume unmount",
        "container die",
        "container stop",
        "container destroy",
    ];
    if engine.is_original() {
        // There, the client that waits is woken before the end is told, and either comes first.
        found.retain(|action| action != "container stop");
        found.insert(expected.len() - 2, "container stop".to_owned());
    }
    assert_eq!(found, expected);
    let of = |action: &str| own.iter().find(|event| event["Action"] == *action).unwrap();
    let usual = [("image", SMALL), ("l", "v"), ("name", &new)];
    assert_eq!(attributes(of("update")), usual);
    assert_eq!(attributes(of("create")), [("image", SMALL), ("l", "v"), ("name", &name)]);
    let renamed = format!("/{name}");
    assert_eq!(attributes(of("rename")), [&usual[..], &[("oldName", renamed.as_str())]].concat());
    assert_eq!(attributes(of("kill")), [&usual[..], &[("signal", "18")]].concat());
    let died = attributes(of("die"));
    assert_eq!(died[1..], [("exitCode", "137"), usual[0], usual[1], usual[2]]);
    assert!(died[0].0 == "execDuration" && died[0].1.parse::<u64>().unwrap() < 60, "{died:?}");
    assert_eq!(
        attributes(of("mount")),
        [
            ("container", id.as_str()),
            ("destination", "/data"),
            ("driver", "local"),
            ("propagation", ""),
            ("read/write", "false")
        ]
    );
    assert_eq!(attributes(of("unmount")), [("container", id.as_str()), ("driver", "local")]);
    assert_eq!(of("mount")["Actor"]["ID"], volume);
    assert_eq!(
        attributes(of("connect")),
        [("container", id.as_str()), ("name", "bridge"), ("type", "bridge")]
    );
    assert!(own.iter().all(|event| event["scope"] == "local"));
}

#[test]
fn the_reason_of_an_end_is_told() {
    let engine = Engine::start();
    let since = now();
    let (failed, killed) = (engine.name("failed"), engine.name("oom"));
    assert_eq!(attempt(&engine, &["run", "--name", &failed, SMALL, "sh", "-c", "exit 7"]).code, 7);
    let hog = ["sh", "-c", "head -c 100m /dev/zero | tail"];
    let limits = ["run", "--name", &killed, "--memory", "10m", "--memory-swap", "10m", SMALL];
    assert_ne!(attempt(&engine, &[&limits[..], &hog].concat()).code, 0);
    let code = engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", &killed]).ok();
    engine.docker(&["cp", &format!("{failed}:/etc/passwd"), "-"]).ok();
    engine.docker(&["rm", &failed, &killed]).ok();
    for (name, code, is_oom) in [(&failed, "7", false), (&killed, code.as_str(), true)] {
        let events = told(&engine, &since, &[&format!("container={name}")]);
        let died = events.iter().position(|event| event["Action"] == "die").unwrap();
        assert_eq!(events[died]["Actor"]["Attributes"]["exitCode"], *code);
        let copied = events.iter().filter(|event| event["Action"] == "archive-path").count();
        assert_eq!(copied, usize::from(!is_oom));
        let oom = events.iter().position(|event| event["Action"] == "oom");
        assert_eq!(oom.is_some_and(|oom| oom < died), is_oom, "{events:?}");
    }
}

#[test]
fn a_process_that_takes_too_much_memory_is_told_of_while_its_container_goes_on() {
    let engine = Engine::start();
    let since = now();
    let name = engine.name("survivor");
    let limits = ["run", "-d", "--name", &name, "--init", "--memory", "10m", "--memory-swap", "10m"];
    let command = [
        SMALL,
        "sh",
        "-c",
        "while :; do [ -e /go ] && head -c 100m /dev/zero | tail; rm -f /go; sleep 0.1; done",
    ];
    engine.docker(&[&limits[..], &command].concat()).ok();
    let ooms = || {
        let events = told(&engine, &since, &[&format!("container={name}")]);
        events.iter().filter(|event| event["Action"] == "oom").count()
    };
    let state = || engine.docker(&["inspect", "-f", "{{.State.Running}} {{.State.OOMKilled}}", &name]).ok();
    assert_eq!((ooms(), state().as_str()), (0, "true false"));
    for before in [0, 1] {
        engine.docker(&["exec", &name, "touch", "/go"]).ok();
        wait_until("it is told of", || ooms() > before);
        assert_eq!(state(), "true true");
    }
    // Nobody takes memory any more: the kernel may kill several for one that is too large.
    wait_until("it is over", || engine.docker(&["exec", &name, "test", "!", "-e", "/go"]).code == 0);
    // The end is not told as another one.
    let told = ooms();
    engine.docker(&["kill", &name]).ok();
    engine.docker(&["wait", &name]).ok();
    assert_eq!((ooms(), state().as_str()), (told, "false true"));
    engine.docker(&["start", &name]).ok();
    assert_eq!(state(), "true false");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn networks_of_the_machine_and_pruning_are_told() {
    let engine = Engine::start();
    for (network, driver) in [("host", "host"), ("none", "null")] {
        let since = now();
        let name = engine.name(network);
        engine.docker(&["create", "--name", &name, "--network", network, SMALL, "true"]).ok();
        let id = id(&engine, &name);
        engine.docker(&["start", "-a", &name]).ok();
        wait_until("it has ended", || {
            engine.docker(&["inspect", "-f", "{{.State.Status}}", &name]).ok() == "exited"
        });
        engine.docker(&["rm", &name]).ok();
        let events = told(&engine, &since, &["type=network"]);
        let own: Vec<_> = events.iter().filter(|event| is_of(event, &id)).collect();
        let told: Vec<_> =
            own.iter().map(|event| (event["Action"].as_str().unwrap(), attributes(event))).collect();
        let expected = vec![("container", id.as_str()), ("name", network), ("type", driver)];
        assert_eq!(told, [("connect", expected.clone()), ("disconnect", expected)], "{network}");
    }
    let since = now();
    for kind in ["container", "volume", "network", "image"] {
        engine.docker(&[kind, "prune", "-f", "--filter", "label=nobody-has-this"]).ok();
    }
    assert_eq!(
        engine.request("POST", "/build/prune?filters=%7B%22until%22%3A%7B%229999h%22%3Atrue%7D%7D", None).0,
        200
    );
    let events = told(&engine, &since, &["event=prune"]);
    for kind in ["container", "volume", "network", "image", "builder"] {
        let own = events.iter().find(|event| event["Type"] == *kind).expect(kind);
        assert_eq!(attributes(own), [("reclaimed", "0")], "{kind}");
    }
}

#[test]
fn filters_choose_what_is_told() {
    let engine = Engine::start();
    let since = now();
    let (one, two) = (engine.name("one"), engine.name("two"));
    let health = ["--health-cmd", "true", "--health-interval", "100ms"];
    engine
        .docker(
            &[&["run", "-d", "--name", &one, "--label", "who=one"], &health[..], &[SMALL, "sleep", "1000"]]
                .concat(),
        )
        .ok();
    engine.docker(&["create", "--name", &two, "--label", "who=two", SMALL, "true"]).ok();
    let healthy = || engine.docker(&["inspect", "-f", "{{.State.Health.Status}}", &one]).ok() == "healthy";
    wait_until("it is healthy", healthy);
    engine.docker(&["rm", "-f", &one, &two]).ok();
    let count = |filters: &[&str]| {
        let mut found = told(&engine, &since, filters);
        found.retain(|event| [&one, &two].iter().any(|name| event["Actor"]["Attributes"]["name"] == **name));
        actions(&found)
    };
    assert_eq!(count(&["event=create"]), ["container create", "container create"]);
    assert_eq!(count(&["label=who=two"]), ["container create", "container destroy"]);
    assert_eq!(count(&["label=who", "event=destroy"]).len(), 2);
    assert_eq!(count(&["event=health_status"]), ["container health_status"]);
    assert_eq!(count(&["event=health_status: healthy"]), ["container health_status"]);
    assert_eq!(count(&[&format!("container={two}"), "event=create", "event=start"]), ["container create"]);
    assert_eq!(count(&["type=network"]), [""; 0]);
    assert_eq!(count(&["image=nothing"]), [""; 0]);
    assert_eq!(count(&[&format!("image={SMALL}"), "event=start"]), ["container start"]);
    assert_eq!(count(&["scope=swarm"]), [""; 0]);
    assert_eq!(count(&["daemon=nothing"]), [""; 0]);
    // With an end alone, everything before it is told.
    let until = now();
    let all = engine.docker(&["events", "--until", &until, "--filter", &format!("container={one}")]).ok();
    assert!(all.contains(" container create "), "{all}");
}

#[test]
fn events_outlive_the_engine() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let since = now();
    let (name, running) = (engine.name("before"), engine.name("running"));
    engine
        .docker(&["run", "--rm", "--name", &name, "--label", "l=v", SMALL, "sh", "-c", "exit 3"])
        .fails_with(3);
    engine.docker(&["run", "-d", "--name", &running, SMALL, "sleep", "1000"]).ok();
    let own = |engine: &Engine| told(engine, &since, &[&format!("container={name}")]);
    wait_until("it is gone", || {
        actions(&own(&engine)).last().is_some_and(|action| action == "container destroy")
    });
    let before = own(&engine);
    let journal = engine.directory().join("data/events.jsonl");
    wait_until("it is written", || std::fs::read_to_string(&journal).unwrap().contains("\"destroy\""));
    engine.kill();
    let pid = engine.docker(&["inspect", &running]);
    assert_ne!(pid.code, 0, "no engine is there");
    engine.start_again();
    assert_eq!(own(&engine), before, "nothing is lost or told twice");
    engine.docker(&["kill", &running]).ok();
    let die = told(&engine, &since, &[&format!("container={running}"), "event=die"]);
    assert_eq!(die[0]["Actor"]["Attributes"]["exitCode"], "137");
    engine.docker(&["rm", &running]).ok();
    let after = told(&engine, &since, &[]);
    let mut times: Vec<i64> = after.iter().map(|event| event["timeNano"].as_i64().unwrap()).collect();
    let in_order = times.clone();
    times.sort_unstable();
    assert_eq!(times, in_order);
}
