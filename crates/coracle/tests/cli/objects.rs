//! Volumes, networks and the engine itself.

use crate::target::{target, unique_name};

#[test]
fn a_volume_keeps_data_between_containers() {
    let target = target();
    let name = unique_name();
    assert_eq!(target.ok(&["volume", "create", "--label", "a=b", &name]), name);
    let volume = format!("{name}:/data");
    target.ok(&["run", "--rm", "-v", &volume, target.image(), "sh", "-c", "echo kept > /data/x"]);
    assert_eq!(target.ok(&["run", "--rm", "-v", &volume, target.image(), "cat", "/data/x"]), "kept");
    assert_eq!(target.ok(&["volume", "ls", "-q", "-f", &format!("name={name}")]), name);
    assert_eq!(target.ok(&["volume", "inspect", "-f", "{{.Labels.a}}", &name]), "b");
    assert_eq!(target.ok(&["volume", "rm", &name]), name);
    assert_eq!(target.run(&["volume", "inspect", &name]).code, 1);
}

#[test]
fn networks_are_listed_and_inspected() {
    let target = target();
    let list = target.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
    assert!(list.lines().any(|line| line == "bridge bridge"), "{list}");
    let subnet = target.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "bridge"]);
    assert!(subnet.contains('/'), "{subnet}");
    assert_eq!(target.run(&["network", "rm", "no-such-network"]).code, 1);
    assert_eq!(target.run(&["network", "rm", "-f", "no-such-network"]).code, 0);
}

#[test]
fn the_engine_says_what_it_is() {
    let target = target();
    assert!(!target.ok(&["version", "-f", "{{.Server.Version}}"]).is_empty());
    assert_eq!(target.ok(&["info", "-f", "{{.OSType}}"]), "linux");
    let usage = target.ok(&["system", "df", "--format", "{{.Type}}"]);
    assert_eq!(usage, "Images\nContainers\nLocal Volumes\nBuild Cache");
}

#[test]
fn events_that_happened_are_told() {
    let target = target();
    let container = target.container(&[], &["true"]);
    target.ok(&["wait", &container.name]);
    let filter = format!("container={}", container.name);
    let arguments =
        ["events", "--since", "10m", "--until", "0s", "-f", &filter, "--format", "{{.Type}} {{.Action}}"];
    let told = target.ok(&arguments);
    let lines: Vec<_> = told.lines().filter(|line| line.starts_with("container")).collect();
    assert_eq!(lines, ["container create", "container start", "container die"]);
}

#[test]
fn an_engine_that_is_not_there_is_named_with_what_to_do() {
    let missing = std::process::Command::new(env!("CARGO_BIN_EXE_coracle"))
        .env_clear()
        .env("DOCKER_HOST", "unix:///nonexistent/engine.sock")
        .arg("ps")
        .output()
        .expect("runs");
    let stderr = String::from_utf8(missing.stderr).expect("text");
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr.contains("cannot connect to the engine at unix:///nonexistent/engine.sock"), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");
}

#[test]
fn files_are_copied_in_and_out() {
    let target = target();
    let container = target.container(&[], &["sleep", "1000"]);
    let directory = tempfile::tempdir().expect("a directory");
    let local = |path: &str| directory.path().join(path).to_str().expect("letters").to_owned();
    let inside = |path: &str| format!("{}:{path}", container.name);
    std::fs::create_dir(local("tree")).expect("makes");
    std::fs::write(local("tree/file"), "content").expect("writes");
    target.ok(&["cp", &local("tree"), &inside("/tmp")]);
    target.ok(&["cp", &local("tree/."), &inside("/tmp/new")]);
    target.ok(&["cp", &local("tree/file"), &inside("/tmp/renamed")]);
    let shown =
        target.ok(&["exec", &container.name, "cat", "/tmp/tree/file", "/tmp/new/file", "/tmp/renamed"]);
    assert_eq!(shown, "contentcontentcontent");
    target.ok(&["cp", &inside("/tmp/tree"), &local("back")]);
    target.ok(&["cp", &inside("/tmp/renamed"), &local("tree")]);
    assert_eq!(std::fs::read_to_string(local("back/file")).expect("there"), "content");
    assert_eq!(std::fs::read_to_string(local("tree/renamed")).expect("there"), "content");
    assert_eq!(target.run(&["cp", &inside("/no-such-path"), &local("x")]).code, 1);
    assert_eq!(target.run(&["cp", &local("tree"), &inside("/tmp/renamed")]).code, 1);
}
