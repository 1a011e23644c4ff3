//! Namespaces that containers have of their own, share with each other, or share with the host.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;

fn inspect(engine: &Engine, name: &str, format: &str) -> String {
    engine.docker(&["inspect", "-f", format, name]).ok()
}

/// Runs a container that waits for its end.
fn waits(engine: &Engine, name: &str, options: &[&str]) -> String {
    let name = engine.name(name);
    engine.docker(&[&["run", "-d", "--name", &name], options, &[SMALL, "sleep", "1000"]].concat()).ok();
    name
}

fn remove(engine: &Engine, names: &[&str]) {
    engine.docker(&[&["rm", "-f"], names].concat()).ok();
}

/// Status and body of a start.
fn start(engine: &Engine, name: &str) -> (u16, String) {
    engine.request("POST", &format!("/containers/{name}/start"), None)
}

#[test]
fn shared_memory_and_queues_of_another_container_are_joined() {
    let engine = Engine::start();
    let donor = waits(&engine, "donor", &["--ipc", "shareable", "--shm-size", "3m"]);
    engine.docker(&["exec", &donor, "sh", "-c", "echo word > /dev/shm/file; touch /dev/mqueue/queue"]).ok();
    let by = format!("container:{donor}");
    let script = "cat /dev/shm/file; ls /dev/mqueue; echo answer > /dev/shm/back; mount | grep ' on /dev/shm '; \
                  readlink /proc/self/ns/ipc";
    let said =
        engine.docker(&["run", "--rm", "--ipc", &by, "--shm-size", "1m", SMALL, "sh", "-c", script]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["word", "queue"]);
    assert_eq!(lines[2], "shm on /dev/shm type tmpfs (rw,nosuid,nodev,noexec,relatime,size=3072k)");
    assert_eq!(engine.docker(&["exec", &donor, "cat", "/dev/shm/back"]).ok(), "answer");
    assert_eq!(engine.docker(&["exec", &donor, "readlink", "/proc/self/ns/ipc"]).ok(), lines[3]);
    // What is joined is joined on, by the id that the name had at the time.
    let second = waits(&engine, "second", &["--ipc", &by]);
    let id = inspect(&engine, &donor, "{{.Id}}");
    assert_eq!(inspect(&engine, &second, "{{.HostConfig.IpcMode}}"), format!("container:{id}"));
    engine.docker(&["rename", &donor, &format!("{donor}-renamed")]).ok();
    engine.docker(&["restart", "-t", "0", &second]).ok();
    let third = format!("container:{second}");
    assert_eq!(engine.docker(&["run", "--rm", "--ipc", &third, SMALL, "cat", "/dev/shm/file"]).ok(), "word");
    remove(&engine, &[&id, &second]);
}

#[test]
fn processes_of_another_container_are_seen_by_who_joins_them() {
    let engine = Engine::start();
    let donor = waits(&engine, "donor", &[]);
    let by = format!("container:{donor}");
    let namespace = engine.docker(&["exec", &donor, "readlink", "/proc/self/ns/pid"]).ok();
    let joiner = waits(&engine, "joiner", &["--pid", &by]);
    for command in [&["exec", &joiner][..], &["run", "--rm", "--pid", &by, SMALL]] {
        let script = "readlink /proc/self/ns/pid; tr '\\0' ' ' < /proc/1/cmdline";
        let said = engine.docker(&[command, &["sh", "-c", script]].concat()).ok();
        assert_eq!(said.trim_end(), format!("{namespace}\nsleep 1000"), "{command:?}");
    }
    assert_eq!(engine.docker(&["logs", &joiner]).ok(), "");
    assert_eq!(engine.docker(&["run", "--rm", "--pid", &by, SMALL, "sh", "-c", "exit 7"]).code, 7);
    remove(&engine, &[&joiner, &donor]);
}

#[test]
fn what_the_client_mounts_on_shared_memory_takes_its_place() {
    let engine = Engine::start();
    let donor = waits(&engine, "donor", &["--ipc", "shareable"]);
    let by = format!("container:{donor}");
    let arguments = ["run", "--rm", "--ipc", &by, "--tmpfs", "/dev/shm:size=1m", SMALL];
    let size = engine
        .docker(&[&arguments[..], &["sh", "-c", "mount | grep -c ' on /dev/shm .*size=1024k'"]].concat());
    assert_eq!(size.ok(), "1");
    remove(&engine, &[&donor]);
}

#[test]
fn who_does_not_share_or_does_not_run_is_not_joined() {
    let engine = Engine::start();
    let donors = [waits(&engine, "private", &[]), waits(&engine, "none", &["--ipc", "none"])];
    for donor in &donors {
        let id = inspect(&engine, donor, "{{.Id}}");
        let joiner = format!("{donor}-joiner");
        engine
            .docker(&["create", "--name", &joiner, "--ipc", &format!("container:{donor}"), SMALL, "true"])
            .ok();
        let (status, text) = start(&engine, &joiner);
        assert_eq!(status, 400, "{text}");
        let reason = format!(
            "failed to join IPC namespace: container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
             container)"
        );
        assert!(text.contains(&reason), "{text}");
        let state = inspect(&engine, &joiner, "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
        assert_eq!(state, format!("created 128 {reason}"));
        remove(&engine, &[donor, &joiner]);
    }
    let stopped = engine.name("stopped");
    engine.docker(&["create", "--name", &stopped, "--ipc", "shareable", SMALL, "true"]).ok();
    let id = inspect(&engine, &stopped, "{{.Id}}");
    for (option, status, reason) in [
        ("--ipc", 409, format!("failed to join IPC namespace: container {id} is not running")),
        ("--pid", 500, format!("failed to join PID namespace: container {id} is not running")),
        ("--network", 409, format!("cannot join network of a non running container: {id}")),
    ] {
        let joiner = engine.name(&option[2..]);
        engine
            .docker(&["create", "--name", &joiner, option, &format!("container:{stopped}"), SMALL, "true"])
            .ok();
        let (answered, text) = start(&engine, &joiner);
        assert_eq!(answered, status, "{option}: {text}");
        assert!(text.contains(&reason), "{option}: {text}");
        let state = inspect(&engine, &joiner, "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
        assert_eq!(state, format!("created 128 {reason}"));
        remove(&engine, &[&joiner]);
    }
    remove(&engine, &[&stopped]);
}

#[test]
fn unknown_partners_and_modes_are_refused_when_the_container_is_made() {
    let engine = Engine::start();
    for (field, value, reason) in [
        ("IpcMode", "container:nobody", "No such container: nobody"),
        ("PidMode", "container:nobody", "No such container: nobody"),
        ("IpcMode", "bogus", "invalid IPC mode: bogus"),
        ("PidMode", "bogus", "invalid PID mode: bogus"),
        ("UTSMode", "bogus", "invalid UTS mode: bogus"),
        ("UTSMode", "container:nobody", "invalid UTS mode: container:nobody"),
        ("CgroupnsMode", "bogus", "invalid cgroup namespace mode: bogus"),
        ("NetworkMode", "container:", "nvalid container format container:<name|id>"),
    ] {
        let body = format!(r#"{{"Image":"{SMALL}","Cmd":["true"],"HostConfig":{{"{field}":"{value}"}}}}"#);
        let (status, text) = engine.request("POST", "/containers/create", Some(&body));
        assert_eq!(status, 400, "{field}={value}: {text}");
        assert!(text.contains(reason), "{field}={value}: {text}");
    }
    // Whose network it is need not be known before the start.
    let joiner = engine.name("joiner");
    engine.docker(&["create", "--name", &joiner, "--network", "container:nobody", SMALL, "true"]).ok();
    let (status, text) = start(&engine, &joiner);
    assert!(status == 404 && text.contains("No such container: nobody"), "{status} {text}");
    remove(&engine, &[&joiner]);
}

#[test]
fn a_container_has_the_ipc_namespace_that_it_asks_for() {
    let engine = Engine::start();
    let host = std::fs::read_link("/proc/self/ns/ipc").unwrap().display().to_string();
    for (mode, shares, has_memory) in
        [("private", false, true), ("shareable", false, true), ("none", false, false), ("host", true, true)]
    {
        let script = "readlink /proc/self/ns/ipc; mount | grep -c ' on /dev/shm '";
        let said = engine.docker(&["run", "--rm", "--ipc", mode, SMALL, "sh", "-c", script]).stdout;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!((lines[0] == host, lines[1] == "1"), (shares, has_memory), "{mode}: {said}");
    }
}

#[test]
fn what_a_container_makes_of_its_shared_memory_misleads_nobody() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let donor = waits(&engine, "donor", &["--ipc", "shareable", "--privileged"]);
    let joiner = engine.name("joiner");
    engine
        .docker(&[
            "create",
            "--name",
            &joiner,
            "--ipc",
            &format!("container:{donor}"),
            SMALL,
            "ls",
            "/dev/shm",
        ])
        .ok();
    engine
        .docker(&["exec", &donor, "sh", "-c", "umount /dev/shm && rmdir /dev/shm && ln -s /etc /dev/shm"])
        .ok();
    let (status, text) = start(&engine, &joiner);
    assert_eq!(status, 500, "{text}");
    assert!(text.contains("share /dev/shm of container"), "{text}");
    engine
        .docker(&["exec", &donor, "sh", "-c", "rm /dev/shm; mkdir /dev/shm; mount -t proc proc /dev/shm"])
        .ok();
    let (status, text) = start(&engine, &joiner);
    assert!(status == 500 && text.contains("a tmpfs on /dev/shm"), "{status} {text}");
    remove(&engine, &[&donor, &joiner]);
}

/// A namespace of this process.
fn own(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

fn said(engine: &Engine, options: &[&str], command: &[&str]) -> String {
    engine.docker(&[&["run", "--rm"], options, &[SMALL], command].concat()).ok()
}

#[test]
fn namespaces_of_the_host_are_had_by_who_asks_for_them() {
    let engine = Engine::start();
    for (option, kind) in
        [("--pid", "pid"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--ipc", "ipc"), ("--network", "net")]
    {
        let path = format!("/proc/self/ns/{kind}");
        assert_eq!(said(&engine, &[option, "host"], &["readlink", &path]), own(kind), "{option}");
        if kind != "cgroup" || !engine.is_original() {
            // Docker's default for cgroups of version 1 is the host's.
            assert_ne!(said(&engine, &[], &["readlink", &path]), own(kind), "{option}");
        }
    }
    assert_ne!(
        said(&engine, &["--cgroupns", "private"], &["readlink", "/proc/self/ns/cgroup"]),
        own("cgroup")
    );
    assert_eq!(said(&engine, &["--userns", "host"], &["readlink", "/proc/self/ns/user"]), own("user"));
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(said(&engine, &["--uts", "host"], &["hostname"]), hostname);
    assert_eq!(said(&engine, &["--network", "host", "--hostname", "own"], &["hostname"]), "own");
    let refused = engine.docker(&["create", "--uts", "host", "--hostname", "own", SMALL, "true"]);
    refused.refused(1, "conflicting options: hostname and the UTS mode");
    if !engine.is_original() {
        // There the start fails, and would here if nobody looked.
        let refused = engine.docker(&["create", "--uts", "host", "--domainname", "own", SMALL, "true"]);
        refused.refused(1, "conflicting options: domainname and the UTS mode");
    }
    assert_eq!(rustix::system::uname().nodename().to_string_lossy(), hostname);
}

#[test]
fn a_cgroup_is_made_where_the_client_says() {
    let engine = Engine::start();
    let parent = engine.name("parent");
    let lines =
        said(&engine, &["--cgroupns", "host", "--cgroup-parent", &parent], &["cat", "/proc/self/cgroup"]);
    let above = format!("/{parent}/");
    assert!(lines.lines().all(|line| line.contains(&above)), "{lines}");
    let deeper = format!("/{parent}/deeper");
    let lines =
        said(&engine, &["--cgroupns", "host", "--cgroup-parent", &deeper], &["cat", "/proc/self/cgroup"]);
    assert!(lines.lines().all(|line| line.contains(&format!(":{deeper}/"))), "{lines}");
    // Ours alone: Docker follows such a path to wherever it leads inside the hierarchy.
    if !engine.is_original() {
        engine
            .docker(&["create", "--cgroup-parent", "../../up", SMALL, "true"])
            .refused(1, "invalid cgroup parent");
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        for directory in [deeper.trim_start_matches('/'), &parent] {
            // Only where it was made; Docker leaves them there, and so do we.
            let _ = std::fs::remove_dir(hierarchy.path().join(directory));
        }
    }
}

#[test]
fn rules_for_devices_open_what_they_name() {
    let engine = Engine::start();
    let script = "mknod /device c 10 237; exec 3</device";
    let opened = |options: &[&str]| {
        engine
            .docker(&[&["run", "--rm"], options, &[SMALL, "sh", "-c", script]].concat())
            .stderr
            .contains("not permitted")
    };
    assert!(opened(&[]), "nothing opens it");
    for rule in ["c 10:237 r", "c 10:* rwm", "c *:* r", "a *:* rwm"] {
        assert!(!opened(&["--device-cgroup-rule", rule]), "{rule}");
    }
    for rule in ["c 10:237 w", "b 10:237 r", "c 10:238 rwm"] {
        assert!(opened(&["--device-cgroup-rule", rule]), "{rule}");
    }
}

#[test]
fn annotations_are_kept_and_what_is_not_supported_is_refused_with_a_reason() {
    let engine = Engine::start();
    let name = engine.name("annotated");
    engine
        .docker(&["create", "--name", &name, "--annotation", "a=b", "--annotation", "c.d/e=", SMALL, "true"])
        .ok();
    assert_eq!(inspect(&engine, &name, "{{json .HostConfig.Annotations}}"), r#"{"a":"b","c.d/e":""}"#);
    remove(&engine, &[&name]);
    let create = |host: &str| {
        let body = format!(r#"{{"Image":"{SMALL}","Cmd":["true"],"HostConfig":{host}}}"#);
        engine.request("POST", "/containers/create", Some(&body))
    };
    let (status, text) = create(r#"{"Annotations":{"":"x"}}"#);
    assert!(
        status == 400 && text.contains("the empty string is not permitted as an annotation key"),
        "{status} {text}"
    );
    for option in [["--storage-opt", "size=1g"], ["--storage-opt", "other=1g"], ["--gpus", "all"]] {
        let output = engine.docker(&["run", "--rm", option[0], option[1], SMALL, "true"]);
        assert_eq!(output.code, 125, "{option:?}: {}", output.stderr);
    }
    if engine.is_original() {
        return;
    }
    // What the machine may not have is told as Docker tells it, with its status.
    for (host, reason) in [
        (r#"{"StorageOpt":{"size":"1g"}}"#, "supported only for overlay over xfs with 'pquota' mount option"),
        (
            r#"{"DeviceRequests":[{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}]}"#,
            "could not select device driver \"\" with capabilities: [[gpu]]",
        ),
    ] {
        let (status, text) = create(host);
        let text: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let text = text["message"].as_str().unwrap_or_default();
        assert!(status == 201 || status == 500 && text.contains(reason), "{status} {text}");
    }
    // Docker takes every word, and heeds one.
    let (status, text) = create(r#"{"UsernsMode":"private"}"#);
    assert!(status == 400 && text.contains("invalid user namespace mode: private"), "{status} {text}");
}
