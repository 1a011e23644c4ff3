//! What containers get that do not say what they want, as options of the daemon decide.

use coracle_tests::engine::{programs, wait_until};
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, net};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(engine: &Engine, options: &[&str], script: &str) -> String {
    engine
        .docker(&[&["run", "--rm"], options, &[SMALL, "sh", "-c", script]].concat())
        .stdout
        .trim()
        .to_owned()
}

fn signal(engine: &Engine, signal: Signal) {
    let pid = Pid::from_raw(engine.pid().cast_signed()).expect("a process");
    kill_process(pid, signal).expect("it takes signals");
}

/// A profile that refuses one system call.
fn profile(directory: &Path) -> PathBuf {
    let path = directory.join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&path, text).expect("a directory to write in");
    path
}

#[test]
fn what_a_container_does_not_ask_for_is_decided_by_the_daemon() {
    let engine = Engine::start_with(&[
        "--default-ipc-mode=shareable",
        "--default-cgroupns-mode=host",
        "--default-shm-size=2m",
        "--default-ulimit=nofile=111:222",
        "--default-ulimit=core=0",
        "--default-runtime=runc",
        "--no-new-privileges",
        "--exec-opt=native.cgroupdriver=cgroupfs",
    ]);
    if engine.is_original() {
        return;
    }
    let name = engine.name("plain");
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sleep", "1000"]).ok();
    let format = "{{with .HostConfig}}{{.IpcMode}} {{.CgroupnsMode}} {{.ShmSize}} {{.Runtime}} {{json .Ulimits}}{{end}}";
    assert_eq!(
        engine.docker(&["inspect", "-f", format, &name]).ok(),
        r#"shareable host 2097152 runc [{"Name":"core","Hard":0,"Soft":0},{"Name":"nofile","Hard":222,"Soft":111}]"#
    );
    let script = "ulimit -Sn; ulimit -Hn; grep NoNewPrivs /proc/self/status; mount | grep ' on /dev/shm '; cat /proc/self/cgroup";
    for how in [vec!["exec", &name], vec!["run", "--rm", SMALL]] {
        let said = engine.docker(&[&how[..], &["sh", "-c", script]].concat()).ok();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..3], ["111", "222", "NoNewPrivs:\t1"], "{how:?}");
        assert!(lines[3].contains("size=2048k"), "{how:?}: {said}");
        assert!(lines[4..].iter().any(|line| line.len() > 64), "{how:?}: {said}");
    }
    assert_eq!(run(&engine, &["--ipc", &format!("container:{name}")], "echo joined"), "joined");
    // What is asked for counts.
    let options = [
        "--ulimit=nofile=5:6",
        "--security-opt=no-new-privileges=false",
        "--shm-size=3m",
        "--cgroupns=private",
        "--runtime=coracle",
    ];
    let said = run(
        &engine,
        &options,
        "ulimit -Sn; grep NoNewPrivs /proc/self/status; mount | grep -c size=3072k; cat /proc/self/cgroup",
    );
    assert!(
        said.starts_with("5\nNoNewPrivs:\t0\n1\n") && said.lines().skip(3).all(|line| line.ends_with(":/")),
        "{said}"
    );
    let info = engine.docker(&["info", "-f", "{{.DefaultRuntime}} {{.SecurityOptions}}"]).ok();
    assert_eq!(info, "runc [name=seccomp,profile=builtin name=cgroupns name=no-new-privileges]");
    engine
        .docker(&["run", "--rm", "--runtime=kata", SMALL, "true"])
        .refused(125, "unknown or invalid runtime name: kata");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn the_filter_of_system_calls_is_the_daemons() {
    let place = tempfile::tempdir().unwrap();
    let path = profile(place.path()).display().to_string();
    let script = "mkdir /tmp/x 2>/dev/null; echo $?";
    for (given, expected) in [(path.as_str(), "1"), ("unconfined", "0"), ("builtin", "0")] {
        let engine = Engine::start_with(&[&format!("--seccomp-profile={given}")]);
        if engine.is_original() {
            return;
        }
        assert_eq!(run(&engine, &[], script), expected, "{given}");
        assert_eq!(run(&engine, &["--security-opt=seccomp=unconfined"], script), "0", "{given}");
        let mode = run(&engine, &[], "grep Seccomp: /proc/self/status");
        assert_eq!(mode == "Seccomp:\t0", given == "unconfined", "{mode}");
        assert_eq!(
            run(
                &engine,
                &["--security-opt=seccomp=builtin"],
                &format!("{script}; grep Seccomp: /proc/self/status")
            ),
            "0\nSeccomp:\t2"
        );
        let shown = engine.docker(&["info", "-f", "{{index .SecurityOptions 0}}"]).ok();
        assert_eq!(shown, format!("name=seccomp,profile={given}"));
    }
}

#[test]
fn ports_are_published_where_the_daemon_says() {
    let engine = Engine::start_with(&["--ip=127.0.0.1", "--host-gateway-ip=10.9.8.7"]);
    if engine.is_original() {
        return;
    }
    let name = engine.name("web");
    let script = "echo hello > /tmp/index.html; httpd -f -p 80 -h /tmp";
    engine
        .docker(&["run", "-d", "--name", &name, "-p", "80", "-p", "0.0.0.0::81", SMALL, "sh", "-c", script])
        .ok();
    let port = engine.docker(&["port", &name, "80"]).ok();
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    assert!(engine.docker(&["port", &name, "81"]).ok().starts_with("0.0.0.0:"));
    let asked = "{{json (index .HostConfig.PortBindings \"80/tcp\")}}";
    assert_eq!(engine.docker(&["inspect", "-f", asked, &name]).ok(), r#"[{"HostIp":"","HostPort":""}]"#);
    wait_until("it answers", || net::get(&port).is_some());
    let hosts = run(&engine, &["--add-host=gate:host-gateway"], "grep gate /etc/hosts");
    assert!(hosts.starts_with("10.9.8.7"), "{hosts}");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn networks_get_addresses_and_options_that_the_daemon_says() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("daemon.json");
    let content = r#"{
        "default-address-pools": [{"base": "10.232.0.0/29", "size": 29}, {"base": "10.232.1.0/24", "size": 28}],
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1391"}}
    }"#;
    std::fs::write(&file, content).unwrap();
    let engine = Engine::start_with(&["--config-file", &file.display().to_string()]);
    let mut subnets = Vec::new();
    for name in ["first", "second", "third"] {
        let name = engine.name(name);
        engine.docker(&["network", "create", &name]).ok();
        subnets.push(
            engine.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", &name]).ok(),
        );
    }
    let show = ["run", "--rm", "--network", &engine.name("second"), SMALL, "cat", "/sys/class/net/eth0/mtu"];
    let mtu = engine.docker(&show).ok();
    // An option of one's own counts more.
    let own = engine.name("own");
    engine.docker(&["network", "create", "-o", "com.docker.network.driver.mtu=1400", &own]).ok();
    let option = "{{index .Options \"com.docker.network.driver.mtu\"}}";
    let given = engine.docker(&["network", "inspect", "-f", option, &own]).ok();
    engine.docker(&["network", "prune", "-f"]).ok();
    if engine.is_original() {
        return;
    }
    assert_eq!(subnets, ["10.232.0.0/29", "10.232.1.0/28", "10.232.1.16/28"]);
    assert_eq!((mtu.as_str(), given.as_str()), ("1391", "1400"));
}

#[test]
fn what_can_change_is_read_again() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("daemon.json");
    std::fs::write(&file, "{}").unwrap();
    let engine = Engine::start_with(&["--config-file", &file.display().to_string()]);
    // Of an engine whose default runtime is a flag already the file may not have one.
    if engine.is_original() || std::env::var_os("RUNTIME").is_some() {
        return;
    }
    let mirrors = || engine.docker(&["info", "-f", "{{.RegistryConfig.Mirrors}} {{.DefaultRuntime}}"]).ok();
    assert_eq!(mirrors(), "[] coracle");
    let configuration = r#"{"registry-mirrors": ["https://mirror.test"], "default-shm-size": "5m", "default-ipc-mode": "shareable",
        "default-runtime": "runc", "insecure-registries": ["other.test"], "max-concurrent-downloads": 7, "labels": ["a=b"]}"#;
    std::fs::write(&file, configuration).unwrap();
    signal(&engine, Signal::HUP);
    wait_until("the mirror is known", || mirrors() == "[https://mirror.test/] runc");
    let name = engine.name("new");
    engine.docker(&["create", "--name", &name, SMALL]).fails_with(1);
    engine.docker(&["create", "--name", &name, SMALL, "true"]).ok();
    let format = "{{.HostConfig.IpcMode}} {{.HostConfig.ShmSize}}";
    assert_eq!(engine.docker(&["inspect", "-f", format, &name]).ok(), "shareable 5242880");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let (_, events) = engine.request("GET", &format!("/v1.44/events?since=1&until={now:.9}"), None);
    for attribute in [
        r#""registry-mirrors":"[\"https://mirror.test/\"]""#,
        r#""max-concurrent-downloads":"7""#,
        r#""default-shm-size":"5242880""#,
        r#""labels":"[\"a=b\"]""#,
        r#""live-restore":"true""#,
    ] {
        assert!(events.contains(attribute), "{attribute}: {events}");
    }
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn the_state_is_written_when_somebody_asks() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("running");
    engine.docker(&["run", "-d", "--name", &name, SMALL, "sleep", "1000"]).ok();
    signal(&engine, Signal::USR1);
    wait_until("it is written", || engine.log().contains("the state of the engine was written"));
    let mut written =
        std::fs::read_dir(engine.directory().join("run")).unwrap().map(|entry| entry.unwrap().path());
    let path = written
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("state-")));
    let state = std::fs::read_to_string(path.unwrap()).unwrap();
    for expected in
        [format!(" {name} running pid "), "\ntasks ".to_owned(), format!("\n{} coracle", engine.pid())]
    {
        assert!(state.contains(&expected), "{expected}: {state}");
    }
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn called_dockerd_it_is_the_engine() {
    let place = tempfile::tempdir().unwrap();
    let dockerd = place.path().join("dockerd");
    symlink(programs().join("coracle"), &dockerd).unwrap();
    let output = Command::new(&dockerd).args(["--validate", "--config-file=/dev/null"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "configuration OK\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new(&dockerd).arg("--userns-remap=no-such-user").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no user no-such-user"));
}
