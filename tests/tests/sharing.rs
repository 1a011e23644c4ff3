//! What containers share with each other, and what there is to share with a swarm: nothing.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;

fn inspect(engine: &Engine, name: &str, format: &str) -> String {
    engine.docker(&["inspect", "-f", format, name]).ok()
}

/// Destination, access and mode of each mount, in order.
fn mounts(engine: &Engine, name: &str) -> Vec<String> {
    let format = "{{range .Mounts}}{{.Destination}} {{.Type}} {{.RW}} [{{.Mode}}]\n{{end}}";
    let mut lines: Vec<String> = inspect(engine, name, format).lines().map(str::to_owned).collect();
    lines.retain(|line| !line.is_empty());
    lines.sort();
    lines
}

/// A container with a volume, an anonymous one, a bind mount that it cannot write, and a tmpfs.
fn data(engine: &Engine) -> (String, String, std::path::PathBuf) {
    let (name, volume) = (engine.name("data"), engine.name("volume"));
    let (ours, seen) = engine.shared_directory();
    let (named, bind) = (format!("{volume}:/named"), format!("{}:/bind:ro", seen.display()));
    let script = "echo named > /named/file; echo anonymous > /anon/file";
    let arguments = ["create", "--name", &name, "-v", &named, "-v", "/anon", "-v", &bind, "--tmpfs", "/own"];
    engine.docker(&[&arguments[..], &[SMALL, "sh", "-c", script]].concat()).ok();
    engine.docker(&["start", "-a", &name]).ok();
    (name, volume, ours)
}

#[test]
fn mounts_of_other_containers_are_shared_with_what_may_be_written() {
    let engine = Engine::start();
    let (data, volume, directory) = data(&engine);
    std::fs::write(directory.join("file"), "bound\n").unwrap();
    let script = "cat /named/file /anon/file /bind/file; echo more >> /named/file; test ! -e /own";
    let output = engine.docker(&["run", "--rm", "--volumes-from", &data, SMALL, "sh", "-c", script]);
    assert_eq!(output.ok(), "named\nanonymous\nbound");
    let script = "cat /named/file; for d in named anon bind; do touch /$d/x 2>/dev/null && echo $d; done";
    let from = format!("{data}:ro,z");
    let output = engine.docker(&[
        "run",
        "--name",
        &engine.name("ro"),
        "--volumes-from",
        &from,
        SMALL,
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(output.stdout, "named\nmore\n");
    let ro = engine.name("ro");
    assert_eq!(
        mounts(&engine, &ro),
        ["/anon volume false []", "/bind bind false []", "/named volume false []"]
    );
    assert_eq!(inspect(&engine, &ro, "{{.HostConfig.VolumesFrom}}"), format!("[{from}]"));
    // What was read-only there is not writable here; what was shared is shared on.
    let again = engine.name("again");
    engine
        .docker(&["create", "--name", &again, "--volumes-from", &ro, "--volumes-from", &data, SMALL, "true"])
        .ok();
    assert_eq!(
        mounts(&engine, &again),
        ["/anon volume true []", "/bind bind false []", "/named volume true []"]
    );
    engine.docker(&["rm", "-v", &data, &ro, &again]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn what_the_client_mounts_takes_the_place_of_what_is_shared() {
    let engine = Engine::start();
    let (data, volume, _) = data(&engine);
    let (name, other) = (engine.name("own"), engine.name("other"));
    let (bind, mount) = (format!("{other}:/anon"), format!("type=volume,source={other},target=/named"));
    let arguments = ["create", "--name", &name, "--volumes-from", &data, "-v", &bind, "--mount", &mount];
    engine
        .docker(
            &[&arguments[..], &["--tmpfs", "/bind", SMALL, "grep", "-c", " /bind tmpfs ", "/proc/mounts"]]
                .concat(),
        )
        .ok();
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "1");
    let format = "{{range .Mounts}}{{.Destination}}={{.Name}}\n{{end}}";
    let found = inspect(&engine, &name, format);
    for expected in [format!("/anon={other}"), format!("/named={other}")] {
        assert!(found.lines().any(|line| line == expected), "{found}");
    }
    engine.docker(&["rm", "-v", &data, &name]).ok();
    engine.docker(&["volume", "rm", &volume, &other]).ok();
}

#[test]
fn shared_volumes_stay_as_long_as_a_container_has_them() {
    let engine = Engine::start();
    let (data, volume, _) = data(&engine);
    let heir = engine.name("heir");
    engine
        .docker(&[
            "create",
            "--name",
            &heir,
            "--volumes-from",
            &data,
            SMALL,
            "cat",
            "/named/file",
            "/anon/file",
        ])
        .ok();
    let anonymous =
        inspect(&engine, &heir, "{{range .Mounts}}{{if eq .Destination \"/anon\"}}{{.Name}}{{end}}{{end}}");
    engine.docker(&["rm", "-v", &data]).ok();
    // Docker 26 loses count where the container that is shared from has run, and removes the volume.
    if !engine.is_original() {
        let refused = engine.docker(&["volume", "rm", &volume]);
        assert!(refused.code != 0 && refused.stderr.contains("volume is in use"), "{}", refused.stderr);
    }
    assert_eq!(engine.docker(&["start", "-a", &heir]).ok(), "named\nanonymous");
    engine.docker(&["rm", "-v", &heir]).ok();
    assert_ne!(engine.docker(&["volume", "inspect", &anonymous]).code, 0, "it went with the last container");
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn what_cannot_be_shared_is_refused_and_leaves_nothing() {
    let engine = Engine::start();
    let (data, volume, _) = data(&engine);
    let refused = engine.name("refused");
    for (from, reason) in [
        ("no-such-container".to_owned(), "No such container: no-such-container"),
        (String::new(), "volumes-from specification cannot be an empty string"),
        (":ro".to_owned(), "invalid name or ID supplied: \\\"\\\""),
        (format!("{data}:xx"), "invalid mode: xx"),
        (format!("{data}:ro,rw"), "invalid mode: ro,rw"),
        (format!("{data}:ro:z"), "invalid mode: ro:z"),
        (format!("{data}:z,Z"), "invalid mode: z,Z"),
        (format!("{data}:nocopy"), "invalid mode: nocopy"),
        (format!("{data}:rshared"), "invalid mode: rshared"),
    ] {
        let body =
            format!(r#"{{"Image":"{SMALL}","Cmd":["true"],"HostConfig":{{"VolumesFrom":["{from}"]}}}}"#);
        let path = format!("/containers/create?name={refused}");
        let (status, text) = engine.request("POST", &path, Some(&body));
        assert_eq!(status, 400, "{from}: {text}");
        assert!(text.contains(reason), "{from}: {text}");
        assert_ne!(engine.docker(&["inspect", &refused]).code, 0, "{from}");
    }
    engine.docker(&["rm", "-v", &data]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn a_node_outside_a_swarm_says_so() {
    let engine = Engine::start();
    for path in [
        "/swarm",
        "/swarm/unlockkey",
        "/nodes",
        "/nodes/x",
        "/services",
        "/services/x",
        "/tasks",
        "/secrets",
        "/configs",
    ] {
        let (status, text) = engine.request("GET", path, None);
        assert_eq!(status, 503, "{path}: {text}");
        assert!(
            text.contains("This node is not a swarm manager. Use \\\"docker swarm init\\\""),
            "{path}: {text}"
        );
    }
    for command in
        [&["node", "ls"][..], &["service", "ls"], &["secret", "ls"], &["config", "ls"], &["stack", "ls"]]
    {
        let output = engine.docker(command);
        assert_eq!(output.code, 1, "{command:?}");
        assert!(
            output.stderr.contains("This node is not a swarm manager."),
            "{command:?}: {}",
            output.stderr
        );
    }
    let left = engine.docker(&["swarm", "leave"]);
    assert!(left.code == 1 && left.stderr.contains("This node is not part of a swarm"), "{}", left.stderr);
    if !engine.is_original() {
        let init = engine.docker(&["swarm", "init"]);
        assert!(init.code == 1 && init.stderr.contains("does not take part in swarms"), "{}", init.stderr);
    }
}

#[test]
fn an_engine_without_plugins_lists_and_finds_none() {
    let engine = Engine::start();
    assert_eq!(engine.docker(&["plugin", "ls", "-q"]).ok(), "");
    let (status, text) = engine.request("GET", "/plugins", None);
    assert_eq!((status, text.trim_end()), (200, "[]"));
    for (method, path) in [
        ("GET", "/plugins/some/name/json"),
        ("DELETE", "/plugins/some/name"),
        ("POST", "/plugins/some/name/disable"),
        ("POST", "/plugins/some/name/enable?timeout=1"),
    ] {
        let (status, text) = engine.request(method, path, None);
        assert_eq!(status, 404, "{method} {path}: {text}");
        assert!(text.contains("some/name") && text.contains("not found"), "{method} {path}: {text}");
    }
    if !engine.is_original() {
        let refused = engine.docker(&["plugin", "install", "--grant-all-permissions", "some/name"]);
        assert!(refused.code != 0 && refused.stderr.contains("takes no plugins"), "{}", refused.stderr);
    }
}
