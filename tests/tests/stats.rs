//! What containers have used, as `docker stats` and other clients are told.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use serde_json::Value;

fn sample(engine: &Engine, name: &str, query: &str) -> Value {
    let (status, body) = engine.request("GET", &format!("/containers/{name}/stats?stream=0{query}"), None);
    assert_eq!(status, 200, "{body}");
    // The body may come in chunks, whose sizes stand around it.
    let (from, to) = (body.find('{').expect("a document"), body.rfind('}').expect("a whole document"));
    serde_json::from_str(&body[from..=to]).expect("JSON")
}

#[test]
fn a_busy_container_shows_processor_memory_tasks_and_network() {
    let engine = Engine::start();
    let name = engine.name("busy");
    let script = "while :; do :; done";
    engine
        .docker(&["run", "-d", "--name", &name, "-m", "64m", "--pids-limit", "9", SMALL, "sh", "-c", script])
        .ok();
    let stats = sample(&engine, &name, "");
    let number =
        |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {stats}"));
    assert!(number("/cpu_stats/cpu_usage/total_usage") > number("/precpu_stats/cpu_usage/total_usage"));
    assert!(number("/cpu_stats/system_cpu_usage") > number("/precpu_stats/system_cpu_usage"));
    assert!(number("/cpu_stats/online_cpus") > 0);
    assert!(number("/memory_stats/usage") > 0);
    assert_eq!(number("/memory_stats/limit"), 64 << 20);
    assert_eq!((number("/pids_stats/current"), number("/pids_stats/limit")), (1, 9));
    assert!(stats.pointer("/networks/eth0/rx_bytes").is_some(), "{stats}");
    assert!(stats.pointer("/networks/lo").is_none());
    assert_eq!(stats["name"], format!("/{name}"));
    let row =
        engine.docker(&["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}", &name]).ok();
    let words: Vec<&str> = row.split(' ').collect();
    let percent: f64 = words[1].trim_end_matches('%').parse().unwrap();
    assert!(words[0] == name && percent > 0.0 && words[2] == "1", "{row}");
}

#[test]
fn one_shot_has_no_sample_before_it() {
    let engine = Engine::start();
    let name = engine.name("idle");
    engine.docker(&["run", "-d", "--name", &name, "--network", "host", SMALL, "sleep", "1000"]).ok();
    let stats = sample(&engine, &name, "&one-shot=1");
    assert_eq!(stats["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(stats.pointer("/precpu_stats/cpu_usage/total_usage"), Some(&Value::from(0)));
    assert!(stats.get("networks").is_none(), "the host's network is not the container's: {stats}");
}

#[test]
fn a_container_that_does_not_run_has_used_nothing() {
    let engine = Engine::start();
    let name = engine.name("created");
    engine.docker(&["create", "--name", &name, SMALL, "true"]).ok();
    let stats = sample(&engine, &name, "");
    assert_eq!(stats["read"], "0001-01-01T00:00:00Z");
    assert_eq!(
        (&stats["memory_stats"], &stats["pids_stats"]),
        (&serde_json::json!({}), &serde_json::json!({}))
    );
    assert_eq!(engine.request("GET", "/containers/no-such-container/stats", None).0, 404);
}
