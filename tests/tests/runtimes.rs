//! Containers that another OCI runtime makes. The original has runc, under that name.

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::net::get;
use std::fs;
use std::path::Path;

/// Tells which signals are blocked, and which of those that are not the C library's own are ignored.
const SIGNALS: &str = "grep SigBlk /proc/self/status | cut -f2; grep SigIgn /proc/self/status | tail -c 8";
const DEFAULTS: &str = "0000000000000000\n0000000";

/// An engine that has runc, or what `RUNTIME` names, and the name by which it has it.
fn with_runc() -> (Engine, &'static str) {
    let program = std::env::var("RUNTIME").unwrap_or("/usr/sbin/runc".to_owned());
    assert!(Path::new(&program).is_file(), "the package runc is installed");
    let engine = Engine::start_with(&["--add-runtime", &format!("real={program}")]);
    let name = if engine.is_original() { "runc" } else { "real" };
    (engine, name)
}

fn is_runc() -> bool {
    std::env::var_os("RUNTIME").is_none()
}

fn field(engine: &Engine, name: &str, field: &str) -> String {
    engine.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), name]).ok()
}

/// Starts a container with a script.
fn start(engine: &Engine, runtime: &str, name: &str, options: &[&str], script: &str) -> String {
    let name = engine.name(name);
    let run = [&["run", "-d", "--runtime", runtime, "--name", &name], options, &[SMALL, "sh", "-c", script]];
    engine.docker(&run.concat()).ok();
    name
}

fn run(engine: &Engine, runtime: &str, options: &[&str], script: &str) -> coracle_tests::Output {
    engine.docker(&[&["run", "--rm", "--runtime", runtime], options, &[SMALL, "sh", "-c", script]].concat())
}

fn remove(engine: &Engine, names: &[&str]) {
    engine.docker(&[&["rm", "-fv"], names].concat()).ok();
}

#[test]
fn a_container_of_runc_is_what_any_other_is() {
    let (engine, runc) = with_runc();
    let output = run(&engine, runc, &[], "echo out; echo err >&2; exit 5");
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (5, "out\n", "err\n"));
    for (options, script, expected) in [
        (
            &["-e", "A=b", "-w", "/tmp", "-u", "web"][..],
            "echo $A $PWD $HOME; id -u; id -G",
            "b /tmp /home\n33\n33 77",
        ),
        (
            &["--hostname", "host", "--domainname", "domain"],
            "hostname; cat /proc/sys/kernel/domainname",
            "host\ndomain",
        ),
        (&["--add-host", "other:10.1.2.3"], "grep other /etc/hosts | cut -f1", "10.1.2.3"),
        (
            &["--ulimit", "nofile=77", "--sysctl", "net.ipv4.ip_forward=0"],
            "ulimit -n; cat /proc/sys/net/ipv4/ip_forward",
            "77\n0",
        ),
        (
            &["--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
            "grep -E 'CapEff|NoNewPrivs' /proc/self/status | cut -f2",
            "0000000000000000\n1",
        ),
        (
            &["--read-only", "--tmpfs", "/scratch"],
            "touch /scratch/x && ! touch /x 2>/dev/null && echo fine",
            "fine",
        ),
        (&["--device", "/dev/zero:/dev/mine"], "head -c 3 /dev/mine | wc -c", "3"),
        (&["--shm-size", "2m", "--pids-limit", "50"], "df -k /dev/shm | tail -1 | awk '{print $2}'", "2048"),
        (&[], SIGNALS, DEFAULTS),
        (&["--privileged"], "grep CapEff /proc/self/status | cut -f2 | tail -c 6", "fffff"),
        (&["--network", "none"], "ls /sys/class/net", "lo"),
        (
            &["--network", "host", "--uts", "host", "--ipc", "host", "--pid", "host"],
            "test $$ -gt 2 && echo host",
            "host",
        ),
    ] {
        assert_eq!(run(&engine, runc, options, script).ok(), expected, "{options:?}");
    }
}

#[test]
fn runc_really_makes_it_and_the_hosts_mount_table_stays() {
    let (engine, runc) = with_runc();
    if engine.is_original() {
        return;
    }
    let name = start(&engine, runc, "made", &[], "sleep 1000");
    let id = field(&engine, &name, ".Id");
    let state = engine.directory().join("run/containers").join(&id).join("runtime").join(&id);
    assert!(state.is_dir(), "runc keeps its state in {}", state.display());
    assert_eq!(field(&engine, &name, ".HostConfig.Runtime"), runc);
    assert_eq!(engine.mounts_on_the_host(), Vec::<String>::new());
    remove(&engine, &[&name]);
    assert!(!state.exists());
}

#[test]
fn terminals_come_from_runc() {
    let (engine, runc) = with_runc();
    let output = run(&engine, runc, &["-t"], "tty; echo err >&2; exit 3");
    assert_eq!((output.code, output.stdout.as_str()), (3, "/dev/pts/0\r\nerr\r\n"));
    let name = start(&engine, runc, "terminal", &["-ti"], "while read line; do echo got $line; done");
    let resized = engine.request("POST", &format!("/containers/{name}/resize?h=33&w=111"), None);
    assert_eq!(resized.0, 200, "{}", resized.1);
    let size = ["exec", &name, "sh", "-c", "stty size < /proc/1/fd/0"];
    wait_until("it has its size", || engine.docker(&size).stdout.trim() == "33 111");
    let output = engine.docker(&["exec", "-t", &name, "sh", "-c", "tty; test -t 2 && exit 4"]);
    assert_eq!((output.code, output.stdout.as_str()), (4, "/dev/pts/1\r\n"));
    let attached =
        "(sleep 0.3; echo word; sleep 0.3) | timeout 5 script -qc \"docker attach $NAME\" /dev/null";
    let output = engine.command("sh").args(["-c", attached]).env("NAME", &name).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("got word"), "{output:?}");
    remove(&engine, &[&name]);
}

#[test]
fn execs_have_streams_users_and_codes_of_their_own() {
    let (engine, runc) = with_runc();
    let name = start(&engine, runc, "exec", &["-e", "FROM=container"], "sleep 1000");
    let exec =
        |options: &[&str], words: &[&str]| engine.docker(&[&["exec"], options, &[&name], words].concat());
    let output = exec(
        &["-e", "A=b", "-w", "/tmp", "-u", "web"],
        &["sh", "-c", "echo $FROM $A $PWD $(id -u) $HOME; echo err >&2; exit 7"],
    );
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (7, "container b /tmp 33 /home\n", "err\n")
    );
    let output = engine.docker_with_input(&["exec", "-i", &name, "cat"], b"through");
    assert_eq!(output.ok(), "through");
    exec(&["-d"], &["touch", "/done"]).ok();
    wait_until("it has been done", || exec(&[], &["test", "-e", "/done"]).code == 0);
    assert_eq!(
        exec(&["--privileged"], &["sh", "-c", "grep CapEff /proc/self/status | cut -f2 | tail -c 6"]).ok(),
        "fffff"
    );
    assert_eq!(exec(&[], &["sh", "-c", SIGNALS]).ok(), DEFAULTS);
    let output = exec(&[], &["no-such-program"]);
    assert!((126..=127).contains(&output.code), "{output:?}");
    let all = format!("{}{}", output.stdout, output.stderr);
    assert!(all.contains("OCI runtime exec failed: "), "{all}");
    if is_runc() {
        let words = "exec failed: unable to start container process: exec: \"no-such-program\": executable file not found in $PATH";
        assert!(all.contains(words), "{all}");
    }
    let output = exec(&["-u", "nobody-knows"], &["true"]);
    assert_ne!(output.code, 0, "{output:?}");
    // Several at once, and names are answered meanwhile.
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..5)
            .map(|number| {
                scope.spawn({
                    let exec = &exec;
                    move || exec(&[], &["sh", "-c", &format!("exit {number}")]).code
                })
            })
            .collect();
        let codes: Vec<i32> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4]);
    });
    remove(&engine, &[&name]);
}

#[test]
fn its_life_is_that_of_any_other() {
    let (engine, runc) = with_runc();
    let script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let name = start(&engine, runc, "life", &["-m", "64m", "--cpus", "0.5"], script);
    wait_until("it is ready", || engine.docker(&["logs", &name]).stdout.contains("ready"));
    assert!(engine.docker(&["top", &name]).ok().contains("trap"));
    let stats = engine.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", &name]).ok();
    assert!(stats.contains("/ 64MiB"), "{stats}");
    engine.docker(&["pause", &name]).ok();
    assert_eq!(field(&engine, &name, ".State.Status"), "paused");
    engine.docker(&["unpause", &name]).ok();
    engine.docker(&["update", "-m", "32m", "--memory-swap", "32m", &name]).ok();
    let stats = engine.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &name]).ok();
    assert!(stats.contains("/ 32MiB"), "{stats}");
    engine.docker(&["stop", &name]).ok();
    assert_eq!(field(&engine, &name, ".State.ExitCode"), "9");
    assert!(engine.docker(&["logs", &name]).stdout.ends_with("asked\n"));
    engine.docker(&["start", &name]).ok();
    engine.docker(&["kill", &name]).ok();
    assert_eq!(engine.docker(&["wait", &name]).ok(), "137");
    engine.docker(&["restart", "-t", "0", &name]).ok();
    engine.docker(&["pause", &name]).ok();
    remove(&engine, &[&name]);
}

#[test]
fn want_of_memory_is_told() {
    let (engine, runc) = with_runc();
    let name =
        start(&engine, runc, "hungry", &["-m", "16m", "--memory-swap", "16m"], "tail /dev/zero; exit $?");
    engine.docker(&["wait", &name]).ok();
    assert_eq!(field(&engine, &name, ".State.OOMKilled"), "true");
    remove(&engine, &[&name]);
}

#[test]
fn its_ports_names_volumes_and_files_are_there() {
    let (engine, runc) = with_runc();
    let volume = engine.name("volume");
    let network = engine.name("network");
    engine.docker(&["network", "create", &network]).ok();
    let (ours, seen) = engine.shared_directory();
    fs::write(ours.join("index.html"), "of the host").unwrap();
    let served = format!("{}:/www:ro", seen.display());
    let kept = format!("{volume}:/kept");
    let name = start(
        &engine,
        runc,
        "web",
        &["--network", &network, "-p", "127.0.0.1:0:80", "-v", &served, "-v", &kept],
        "echo kept > /kept/file; echo changed > /changed; httpd -f -p 80 -h /www",
    );
    let port = engine.docker(&["port", &name, "80"]).ok();
    wait_until("it serves", || get(&port).as_deref() == Some("of the host"));
    let asked = format!("until wget -qO- http://{name}/; do sleep 0.05; done");
    assert_eq!(run(&engine, runc, &["--network", &network], &asked).stdout, "of the host");
    assert_eq!(run(&engine, runc, &["-v", &kept], "cat /kept/file").ok(), "kept");
    let refused = engine.docker(&["exec", &name, "touch", "/www/x"]);
    assert_ne!(refused.code, 0);
    assert!(engine.docker(&["diff", &name]).ok().contains("A /changed"));
    let place = ours.join("copied");
    engine.docker(&["cp", &format!("{name}:/kept/file"), &place.display().to_string()]).ok();
    assert_eq!(fs::read_to_string(&place).unwrap(), "kept\n", "what is mounted is seen from outside");
    engine.docker(&["cp", &place.display().to_string(), &format!("{name}:/kept/back")]).ok();
    assert_eq!(engine.docker(&["exec", &name, "cat", "/kept/back"]).ok(), "kept");
    let image = engine.name("image");
    engine.docker(&["commit", &name, &image]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &image, "cat", "/changed"]).ok(), "changed");
    remove(&engine, &[&name]);
    engine.docker(&["rmi", &image]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
    engine.docker(&["network", "rm", &network]).ok();
}

#[test]
fn what_is_mounted_later_comes_to_it_and_to_the_host() {
    let (engine, runc) = with_runc();
    if engine.is_original() {
        // Its host's mounts are elsewhere.
        return;
    }
    let place = engine.directory().join("peers");
    fs::create_dir_all(&place).unwrap();
    let host = |arguments: &[&str]| {
        assert!(std::process::Command::new("mount").args(arguments).status().unwrap().success());
    };
    let place = place.display().to_string();
    host(&["-t", "tmpfs", "mine", &place]);
    host(&["--make-shared", &place]);
    let mount = format!("type=bind,source={place},target=/peers,bind-propagation=rshared");
    let name = start(&engine, runc, "shared", &["--cap-add", "SYS_ADMIN", "--mount", &mount], "sleep 1000");
    fs::create_dir(format!("{place}/from-host")).unwrap();
    host(&["-t", "tmpfs", "later", &format!("{place}/from-host")]);
    let seen = engine.docker(&["exec", &name, "cat", "/proc/self/mountinfo"]).ok();
    assert!(seen.contains("/peers/from-host"), "{seen}");
    engine
        .docker(&[
            "exec",
            "--privileged",
            &name,
            "sh",
            "-c",
            "mkdir /peers/inside; mount -t tmpfs inner /peers/inside",
        ])
        .ok();
    let on_host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(on_host.contains(&format!("{place}/inside")));
    remove(&engine, &[&name]);
    for mounted in ["/inside", "/from-host", ""] {
        unmount(&format!("{place}{mounted}"));
    }
}

fn unmount(path: &str) {
    let done = std::process::Command::new("umount").arg(path).status().expect("umount is there");
    assert!(done.success(), "{path}");
}

#[test]
fn health_and_restart_policies_go_on() {
    let (engine, runc) = with_runc();
    let check = ["--health-cmd", "test -e /fine", "--health-interval", "200ms", "--health-retries", "1"];
    let name = start(&engine, runc, "health", &check, "sleep 1000");
    let health = || field(&engine, &name, ".State.Health.Status");
    wait_until("it is unhealthy", || health() == "unhealthy");
    engine.docker(&["exec", &name, "touch", "/fine"]).ok();
    wait_until("it is healthy", || health() == "healthy");
    let again = start(&engine, runc, "again", &["--restart", "on-failure:2"], "echo once; exit 3");
    wait_until("it has tried thrice", || engine.docker(&["logs", &again]).stdout == "once\nonce\nonce\n");
    wait_until("it is given up", || field(&engine, &again, ".State.Status") == "exited");
    assert_eq!(field(&engine, &again, ".RestartCount"), "2");
    remove(&engine, &[&name, &again]);
}

#[test]
fn a_reaper_comes_first_where_it_is_asked_for() {
    let (engine, runc) = with_runc();
    let script = "(sleep 0.01 &); sleep 0.3; ps -o stat | grep -c Z; tr '\\0' ' ' < /proc/1/cmdline";
    let said = run(&engine, runc, &["--init"], script).stdout;
    assert!(said.starts_with("0\n") && said.contains("init"), "{said}");
    assert_eq!(run(&engine, runc, &["--init"], "exit 6").code, 6);
    let missing = engine.docker(&["run", "--rm", "--init", "--runtime", runc, SMALL, "no-such-program"]);
    assert_eq!(missing.code, 127, "{missing:?}");
}

#[test]
fn namespaces_are_shared_between_runtimes() {
    let (engine, runc) = with_runc();
    let own = if engine.is_original() { "runc" } else { "coracle" };
    for (first, second) in [(runc, own), (own, runc), (runc, runc)] {
        let name = start(
            &engine,
            first,
            &format!("{first}-{second}"),
            &["--ipc", "shareable", "--hostname", "shared"],
            "echo of $$ > /dev/shm/file; sleep 1000",
        );
        let container = format!("container:{name}");
        let join = ["--pid", &container, "--ipc", &container, "--network", &container];
        let script = "until test -s /dev/shm/file; do sleep 0.02; done; cat /dev/shm/file; hostname; test $$ -gt 1 && echo guest";
        assert_eq!(run(&engine, second, &join, script).ok(), "of 1\nshared\nguest", "{second} joins {first}");
        remove(&engine, &[&name]);
    }
}

#[test]
fn it_outlives_the_engine() {
    let (mut engine, runc) = with_runc();
    if engine.is_original() {
        return;
    }
    let stays = start(
        &engine,
        runc,
        "stays",
        &["-p", "127.0.0.1:0:80"],
        "mkdir /www; echo page > /www/index.html; httpd -p 80 -h /www; i=0; while :; do echo line $((i++)); sleep 0.05; done",
    );
    let ends =
        start(&engine, runc, "ends", &[], "while ! test -e /go; do sleep 0.02; done; echo last; exit 7");
    let port = engine.docker(&["port", &stays, "80"]).ok();
    wait_until("it serves", || get(&port).as_deref() == Some("page"));
    let [stays_pid, ends_pid] = [&stays, &ends].map(|name| field(&engine, name, ".State.Pid"));
    engine.kill();
    fs::write(format!("/proc/{ends_pid}/root/go"), "").unwrap();
    wait_until("it has ended", || !Path::new(&format!("/proc/{ends_pid}")).exists());
    assert_eq!(get(&port).as_deref(), Some("page"));
    engine.start_again();
    assert_eq!(field(&engine, &stays, ".State.Pid"), stays_pid);
    assert_eq!(engine.docker(&["exec", &stays, "echo", "still"]).ok(), "still");
    assert_eq!(field(&engine, &ends, ".State.ExitCode"), "7");
    assert_eq!(engine.docker(&["logs", &ends]).stdout, "last\n");
    let lines = engine.docker(&["logs", &stays]).stdout;
    assert!(lines.lines().enumerate().all(|(number, line)| line == format!("line {number}")), "{lines}");
    engine.docker(&["restart", "-t", "0", &stays, &ends]).ok();
    remove(&engine, &[&stays, &ends]);
}

#[test]
fn without_its_shim_it_is_killed_and_can_start_again() {
    let (engine, runc) = with_runc();
    if engine.is_original() {
        return;
    }
    let name = start(&engine, runc, "lost", &[], "sleep 1000");
    let pid = field(&engine, &name, ".State.Pid");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    let shim = rustix::process::Pid::from_raw(parent.parse().unwrap()).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    wait_until("it has ended", || field(&engine, &name, ".State.Status") == "exited");
    assert_eq!(field(&engine, &name, ".State.ExitCode"), "137");
    let is_alive = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    };
    wait_until("it is killed", || !is_alive());
    engine.docker(&["start", &name]).ok();
    assert_eq!(engine.docker(&["exec", &name, "echo", "again"]).ok(), "again");
    remove(&engine, &[&name]);
}

#[test]
fn what_cannot_run_is_told_as_docker_tells_it() {
    let (engine, runc) = with_runc();
    let start = |runtime: &str, words: &[&str]| {
        engine.docker(&[&["run", "--rm", "--runtime", runtime, SMALL], words].concat())
    };
    if is_runc() {
        // The docker command takes its exit code from these words.
        start(runc, &["no-such-program"]).refused(
            127,
            "OCI runtime create failed: runc create failed: unable to start container process: exec: \"no-such-program\": executable file not found in $PATH",
        );
        start(runc, &["/no/such/program"]).refused(127, "no such file or directory");
        start(runc, &["/etc/plain"]).refused(126, "permission denied");
        start(runc, &["/etc"]).refused(126, "OCI runtime create failed");
    }
    start("nobody-knows", &["true"]).refused(125, "unknown or invalid runtime name: nobody-knows");
    let body = format!(
        r#"{{"Image": "{SMALL}", "Cmd": ["no-such-program"], "HostConfig": {{"Runtime": "{runc}"}}}}"#
    );
    let name = engine.name("missing");
    let created = engine.request("POST", &format!("/containers/create?name={name}"), Some(&body));
    assert_eq!(created.0, 201, "{}", created.1);
    assert_eq!(engine.request("POST", &format!("/containers/{name}/start"), None).0, 400);
    assert_eq!(field(&engine, &name, ".State.ExitCode"), "127");
    assert_eq!(field(&engine, &name, ".State.Status"), "created");
    remove(&engine, &[&name]);
    let refused = engine.request(
        "POST",
        "/containers/create",
        Some(&body.replace(&format!("\"{runc}\""), "\"nobody-knows\"")),
    );
    assert_eq!(refused.0, 400, "{}", refused.1);
}

/// What the shim of a container that another runtime has made keeps for it, as it is mounted for the shim alone.
fn bundle(engine: &Engine, name: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", field(engine, name, ".State.Pid")));
    let status = status.expect("it runs");
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent").trim();
    let place = engine.directory().join("run/containers").join(field(engine, name, ".Id")).join("bundle");
    let entries = fs::read_dir(format!("/proc/{shim}/root{}", place.display())).expect("it is mounted there");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn execs_leave_no_files_behind() {
    let (engine, runc) = with_runc();
    if engine.is_original() {
        return;
    }
    let name = start(&engine, runc, "execs", &[], "sleep 1000");
    let before = bundle(&engine, &name);
    assert!(before.iter().any(|file| file == "config.json"), "{before:?}");
    for _ in 0..3 {
        assert_eq!(engine.docker(&["exec", &name, "echo", "fine"]).ok(), "fine");
        assert_eq!(engine.docker(&["exec", "-t", &name, "echo", "fine"]).ok().trim(), "fine");
        assert_ne!(engine.docker(&["exec", &name, "no-such-program"]).code, 0);
        engine.docker(&["exec", "-d", &name, "true"]).ok();
    }
    wait_until("all files of execs are gone", || bundle(&engine, &name) == before);
    remove(&engine, &[&name]);
}

#[test]
fn a_reaper_makes_no_file_in_a_directory_of_the_host() {
    let (engine, runc) = with_runc();
    if engine.is_original() {
        return;
    }
    let output = run(&engine, runc, &["--init", "-v", "/dev:/dev"], "test -c /dev/null; exit 4");
    assert_eq!(output.code, 4, "{output:?}");
    assert!(!Path::new("/dev/init").exists());
}
