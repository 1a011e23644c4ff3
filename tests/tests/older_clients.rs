//! Clients that know the classic door alone: Docker's SDK for Python, and the first docker-compose.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::Context;
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use serde_json::{Value, json};

const DOCKERFILE: &str = "FROM BASE AS first\nARG WHO=nobody\nRUN printf \"$WHO \" >/f\nFROM first AS last\nCOPY . /c\n\
    FROM scratch AS unwanted\nCOPY nothing /\n";
/// What a step can see of its limits: memory, the weight of its time, and which processors are its own.
const LIMITS: &str = "FROM BASE\nRUN cat /etc/hosts | grep elsewhere | tr '\\t' ' ' >/l; \
    df -k /dev/shm | tail -n 1 | awk '{print $2}' >>/l; ls /sys/class/net >>/l; grep Cpus_allowed_list /proc/self/status | tr '\\t' ' ' >>/l\n";

#[test]
fn dockers_sdk_for_python_builds() {
    let engine = Engine::start();
    let name = engine.name("sdk:1");
    let context = Context::new(DOCKERFILE, &[("file", "from the context")]);
    context.put("limits", &LIMITS.replace("FROM BASE", &format!("FROM {SMALL}")));
    let output = engine
        .command("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/older_clients/build.py"))
        .arg(context.path())
        .args([SMALL, &name])
        .output()
        .unwrap();
    let said: Value =
        Output::new("python3 build.py (needs the package python3-docker)".to_owned(), &output).json();
    assert_eq!(said["labels"], json!({"from": "sdk"}));
    assert_eq!(said["tags"], json!([name]));
    assert_eq!(said["said"], "sdk from the context");
    assert_eq!(said["limits"], "192.0.2.7 elsewhere\n1024\nlo\nCpus_allowed_list: 0\n");
    assert_eq!(said["packed"], "packed");
    let failing = said["failing"].to_string();
    assert!(failing.contains("BuildError") && failing.contains("returned a non-zero code: 7"), "{failing}");
    let nonsense = said["nonsense"].to_string();
    assert!(
        nonsense.contains("APIError") && nonsense.contains("unknown instruction: NONSENSE"),
        "{nonsense}"
    );
    // The identifier comes alone, before the last words.
    assert_eq!(said["aux"], json!([said["id"]]));
    // The original's classic builder makes a step of labels that the client gives.
    let last = if engine.is_original() { "Step 5/6 : COPY . /c" } else { "Step 5/5 : COPY . /c" };
    assert_eq!(said["steps"][4], last, "{}", said["steps"]);
}

/// `docker-compose` 1.29, which Debian 12 has and the next one has not.
#[test]
#[ignore = "needs docker-compose 1.29"]
fn the_first_compose_builds() {
    let engine = Engine::start();
    let (first, second) = (engine.name("compose-classic"), engine.name("compose-command"));
    let context = Context::new(DOCKERFILE, &[("file", "from the context")]);
    for (image, by_command) in [(&first, "0"), (&second, "1")] {
        context.put(
            "docker-compose.yml",
            &format!(
                "version: '3.7'\nservices:\n  web:\n    image: {image}\n    build:\n      context: .\n      target: last\n      \
                 network: none\n      args: {{WHO: compose}}\n      labels: {{from: compose}}\n      shm_size: 8000000\n"
            ),
        );
        let mut compose = engine.command("docker-compose");
        compose.args(["build", "--force-rm"]).current_dir(context.path());
        let output = compose.env("COMPOSE_DOCKER_CLI_BUILD", by_command).env("DOCKER_BUILDKIT", "0").output();
        Output::new("docker-compose build".to_owned(), &output.unwrap()).ok();
        let said = engine.docker(&["run", "--rm", image, "cat", "/f", "/c/file"]).ok();
        assert_eq!(said, "compose from the context");
        let label = engine.docker(&["inspect", "-f", "{{.Config.Labels.from}}", image]).ok();
        assert_eq!(label, "compose");
        engine.docker(&["rmi", image]).ok();
    }
}
