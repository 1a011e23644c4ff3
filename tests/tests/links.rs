//! `--link`: other containers by further names, as it was done before networks had names.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use serde_json::{Value, json};

fn inspect(engine: &Engine, container: &str) -> Value {
    let shown = engine.docker(&["inspect", container]).ok();
    serde_json::from_str::<Value>(&shown).expect("JSON")[0].clone()
}

/// The address to which a name resolves inside a container.
fn resolved(engine: &Engine, container: &str, name: &str) -> Option<String> {
    let output = engine.docker(&["exec", container, "ping", "-c1", "-W1", name]).stdout;
    let (_, rest) = output.split_once('(')?;
    Some(rest.split_once(')')?.0.to_owned())
}

fn address(engine: &Engine, container: &str) -> String {
    engine.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", container]).ok()
}

#[test]
fn a_linked_container_is_known_by_its_alias_its_variables_and_its_way() {
    let engine = Engine::start();
    let (db, web) = (engine.name("db"), engine.name("web"));
    let run = ["run", "-d", "--name", &db, "-e", "USER=sea", "--expose", "5432", SMALL, "sleep", "1000"];
    engine.docker(&run).ok();
    let link = format!("{db}:my-db");
    engine.docker(&["run", "-d", "--name", &web, "--link", &link, SMALL, "sleep", "1000"]).ok();
    let ip = address(&engine, &db);
    assert_eq!(resolved(&engine, &web, "my-db").as_deref(), Some(ip.as_str()));
    let variables = engine.docker(&["exec", &web, "env"]).ok();
    // Docker gives them to the first process alone.
    let of_first = engine.docker(&["exec", &web, "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"]).ok();
    for variable in [
        format!("MY_DB_PORT=tcp://{ip}:5432"),
        format!("MY_DB_PORT_5432_TCP=tcp://{ip}:5432"),
        format!("MY_DB_PORT_5432_TCP_ADDR={ip}"),
        "MY_DB_PORT_5432_TCP_PORT=5432".to_owned(),
        "MY_DB_PORT_5432_TCP_PROTO=tcp".to_owned(),
        format!("MY_DB_NAME=/{web}/my-db"),
        "MY_DB_ENV_USER=sea".to_owned(),
    ] {
        assert!(of_first.lines().any(|line| line == variable), "{variable}: {of_first} {variables}");
    }
    assert_eq!(inspect(&engine, &web)["HostConfig"]["Links"], json!([format!("/{db}:/{web}/my-db")]));
    let way = format!("{web}/my-db");
    assert_eq!(inspect(&engine, &way)["Id"], inspect(&engine, &db)["Id"]);
    let names = engine
        .docker(&["ps", "-a", "--no-trunc", "--filter", &format!("name={db}"), "--format", "{{.Names}}"])
        .ok();
    let mut names: Vec<_> = names.split(',').collect();
    names.sort_unstable();
    let mut expected = [db.as_str(), &way];
    expected.sort_unstable();
    assert_eq!(names, expected);
    // The link goes, the containers stay.
    engine.docker(&["rm", "--link", &way]).ok();
    engine.docker(&["inspect", &way]).fails_with(1);
    assert_eq!(inspect(&engine, &web)["HostConfig"]["Links"], Value::Null);
    assert_eq!(inspect(&engine, &db)["State"]["Running"], json!(true));
    engine.docker(&["rm", "-f", &db, &web]).ok();
}

#[test]
fn a_linked_container_is_found_again_at_another_address() {
    let engine = Engine::start();
    let (db, web, other) = (engine.name("db"), engine.name("web"), engine.name("other"));
    engine.docker(&["run", "-d", "--name", &db, SMALL, "sleep", "1000"]).ok();
    let link = format!("{db}:sea");
    engine.docker(&["run", "-d", "--name", &web, "--link", &link, SMALL, "sleep", "1000"]).ok();
    let before = address(&engine, &db);
    engine.docker(&["stop", "-t", "0", &db]).ok();
    engine.docker(&["run", "-d", "--name", &other, SMALL, "sleep", "1000"]).ok();
    engine.docker(&["start", &db]).ok();
    let after = address(&engine, &db);
    wait_until("it is found again", || resolved(&engine, &web, "sea").as_deref() == Some(after.as_str()));
    if engine.is_original() {
        assert_ne!(before, after, "the other has the address");
    }
    engine.docker(&["rm", "-f", &db, &web, &other]).ok();
}

#[test]
fn links_of_other_networks_are_names_alone() {
    let engine = Engine::start();
    let (db, web, network) = (engine.name("db"), engine.name("web"), engine.name("sea"));
    engine.docker(&["network", "create", &network]).ok();
    engine.docker(&["run", "-d", "--name", &db, "--network", &network, SMALL, "sleep", "1000"]).ok();
    let link = format!("{db}:ferry");
    let run = ["run", "-d", "--name", &web, "--network", &network, "--link", &link, SMALL, "sleep", "1000"];
    engine.docker(&run).ok();
    assert!(resolved(&engine, &web, "ferry").is_some());
    assert!(resolved(&engine, &db, "ferry").is_none(), "the alias is the linking container's alone");
    let of_first = engine.docker(&["exec", &web, "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"]).ok();
    assert!(!of_first.contains("FERRY_"), "{of_first}");
    assert_eq!(inspect(&engine, &web)["NetworkSettings"]["Networks"][&network]["Links"], json!([link]));
    engine.docker(&["rm", "-f", &db, &web]).ok();
    engine.docker(&["network", "rm", &network]).ok();
}

#[test]
fn what_cannot_be_linked_is_refused() {
    let engine = Engine::start();
    let (idle, web) = (engine.name("idle"), engine.name("web"));
    let run = |options: &[&str]| engine.docker(&[&["run", "--rm"], options, &[SMALL, "true"]].concat());
    run(&["--link", "nobody:sea"]).refused(125, "could not get container for nobody");
    let words = "host type networking can't be used with links";
    engine.docker(&["create", "--name", &idle, SMALL, "true"]).ok();
    run(&["--network", "host", "--link", &idle]).refused(125, words);
    run(&["--name", &web, "--link", &idle])
        .refused(125, &format!("Cannot link to a non running container: /{idle} AS /{web}/{idle}"));
    engine.docker(&["rm", &idle]).ok();
}
