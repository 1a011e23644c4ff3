//! `docker run`: what a container sees, what it may do, and how it ends.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;

fn run(engine: &Engine, options: &[&str], script: &str) -> coracle_tests::Output {
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(options);
    arguments.extend([SMALL, "sh", "-c", script]);
    engine.docker(&arguments)
}

#[test]
fn output_error_output_and_exit_code_reach_the_client() {
    let engine = Engine::start();
    let output = run(&engine, &["--network", "none"], "echo out; echo err >&2; exit 42");
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (42, "out\n", "err\n"));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let engine = Engine::start();
    for (arguments, code) in [
        (vec!["true"], 0),
        (vec!["false"], 1),
        (vec!["sh", "-c", "sleep 9 & kill -9 $!; wait $!"], 137),
        (vec!["sh", "-c", "kill -15 $$; sleep 1; exit 3"], 3),
        (vec!["no-such-program"], 127),
        (vec!["/no/such/program"], 127),
        (vec!["/etc"], 126),
        (vec!["/etc/plain"], 126),
    ] {
        let mut all = vec!["run", "--rm", "--network", "none", SMALL];
        all.extend(&arguments);
        assert_eq!(engine.docker(&all).code, code, "{arguments:?}");
    }
    assert_eq!(engine.docker(&["run", "--rm", "--no-such-flag", SMALL]).code, 125);
}

#[test]
fn input_is_passed_on_and_its_end_too() {
    let engine = Engine::start();
    let output = engine
        .docker_with_input(&["run", "--rm", "-i", "--network", "none", SMALL, "wc", "-c"], &[b'x'; 300_000]);
    assert_eq!(output.ok(), "300000");
    let without =
        engine.docker_with_input(&["run", "--rm", "--network", "none", SMALL, "cat"], b"nobody reads this");
    assert_eq!(without.ok(), "");
}

#[test]
fn much_output_arrives_whole_at_a_client_that_is_slow() {
    let engine = Engine::start();
    let script = format!(
        "docker run --rm --network none {SMALL} sh -c 'yes 0123456789 | head -c 5000000' | (sleep 1; wc -c)"
    );
    let output = engine.command("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "5000000");
}

#[test]
fn the_settings_of_the_process_are_what_was_asked_for() {
    let engine = Engine::start();
    for (options, script, expected) in [
        (vec!["-w", "/var"], "pwd", "/var"),
        (vec!["-w", "/made/for/it"], "pwd", "/made/for/it"),
        (vec!["-e", "A=1", "-e", "B=two words"], "echo $A-$B", "1-two words"),
        (vec!["--hostname", "boat"], "hostname; cat /etc/hostname", "boat\nboat"),
        (vec!["-u", "web"], "id", "uid=33(web) gid=33(web) groups=33(web),77(extra)"),
        (vec!["-u", "1000"], "id -u", "1000"),
        (vec!["-u", "33:77"], "id -u; id -g", "33\n77"),
        (vec!["-u", "web", "--group-add", "5"], "id -G", "33 5 77"),
        (vec!["-u", "web"], "echo $HOME", "/home"),
        (vec!["--entrypoint", "echo"], "x", "sh -c x"),
        (vec!["--ulimit", "nofile=77:99"], "ulimit -n; ulimit -Hn", "77\n99"),
        (vec!["--sysctl", "net.core.somaxconn=77"], "cat /proc/sys/net/core/somaxconn", "77"),
        (vec!["--sysctl", "kernel.shmmax=99999"], "cat /proc/sys/kernel/shmmax", "99999"),
        (vec!["--shm-size", "1m"], "df -k /dev/shm | tail -1 | awk '{print $2}'", "1024"),
        (vec!["--oom-score-adj", "77"], "cat /proc/self/oom_score_adj", "77"),
        (vec!["--domainname", "sea.test"], "cat /proc/sys/kernel/domainname", "sea.test"),
    ] {
        assert_eq!(run(&engine, &options, script).ok(), expected, "{options:?}");
    }
}

#[test]
fn the_first_process_is_number_one_in_namespaces_of_its_own() {
    let engine = Engine::start();
    let script = "echo $$; for n in pid net ipc mnt uts cgroup; do readlink /proc/self/ns/$n; done";
    let inside = run(&engine, &["--cgroupns", "private"], script).ok();
    let mut lines = inside.lines();
    assert_eq!(lines.next(), Some("1"));
    for (line, kind) in lines.zip(["pid", "net", "ipc", "mnt", "uts", "cgroup"]) {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(line, ours.to_str().unwrap(), "{kind}");
    }
    let shared =
        run(&engine, &["--pid", "host", "--network", "host", "--uts", "host", "--ipc", "host"], script).ok();
    let outside: Vec<&str> = shared.lines().skip(1).collect();
    for (place, kind) in [(0, "pid"), (1, "net"), (2, "ipc"), (4, "uts")] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(outside[place], ours.to_str().unwrap(), "{kind}");
    }
}

#[test]
fn a_plain_container_is_confined_and_a_privileged_one_is_not() {
    let engine = Engine::start();
    let status =
        "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|Seccomp:|NoNewPrivs' /proc/self/status | tr -s '\\t ' ' '";
    let plain = run(&engine, &[], status).ok();
    assert!(
        plain.contains("CapInh: 0000000000000000") && plain.contains("CapAmb: 0000000000000000"),
        "{plain}"
    );
    assert!(
        plain.contains("CapEff: 00000000a80425fb") && plain.contains("CapBnd: 00000000a80425fb"),
        "{plain}"
    );
    assert!(plain.contains("NoNewPrivs: 0") && plain.contains("Seccomp: 2"), "{plain}");
    let user = run(&engine, &["-u", "1000"], status).ok();
    assert!(user.contains("CapEff: 0000000000000000") && user.contains("CapPrm: 0000000000000000"), "{user}");
    let changed = run(
        &engine,
        &["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges"],
        status,
    )
    .ok();
    assert!(changed.contains("CapEff: 0000000000000001") && changed.contains("NoNewPrivs: 1"), "{changed}");
    for script in [
        "test -z \"$(cat /proc/kcore 2>/dev/null | head -c 1)\"",
        "! echo x > /proc/sys/kernel/domainname",
        "! echo b > /proc/sysrq-trigger",
        "! mount -t tmpfs none /tmp",
        "! mknod /tmp/d b 8 0 || ! head -c 1 /tmp/d",
        "! unshare -U true",
        "test -z \"$(ls /sys/firmware)\"",
        "! mkdir /sys/fs/cgroup/memory/x",
    ] {
        assert_eq!(run(&engine, &[], script).code, 0, "{script}");
    }
    assert_eq!(run(&engine, &["--privileged"], "mount -t tmpfs none /tmp && touch /tmp/x").code, 0);
}

#[test]
fn files_of_the_host_are_mounted_as_asked() {
    let engine = Engine::start();
    let (host, seen) = engine.shared_directory();
    std::fs::write(host.join("file"), "from the host\n").unwrap();
    let bind = |options: &str| format!("{}:/data{options}", seen.display());
    assert_eq!(
        run(&engine, &["-v", &bind("")], "cat /data/file; echo inside > /data/new").ok(),
        "from the host"
    );
    assert_eq!(std::fs::read_to_string(host.join("new")).unwrap(), "inside\n");
    assert_ne!(run(&engine, &["-v", &bind(":ro")], "echo x > /data/other 2>/dev/null").code, 0);
    let file = format!("{}:/etc/plain:ro", seen.join("file").display());
    assert_eq!(run(&engine, &["-v", &file], "cat /etc/plain").ok(), "from the host");
    let missing = seen.join("made/by/docker");
    run(&engine, &["-v", &format!("{}:/data", missing.display())], "true").ok();
    assert!(host.join("made/by/docker").is_dir());
    let mount = format!("type=bind,src={}/nowhere,dst=/data", seen.display());
    run(&engine, &["--mount", &mount], "true").refused(125, "bind source path does not exist");
    assert_eq!(
        run(&engine, &["--tmpfs", "/scratch:size=1m"], "df -k /scratch | tail -1 | awk '{print $2}'").ok(),
        "1024"
    );
}

#[test]
fn a_volume_keeps_its_data_and_starts_with_the_images() {
    let engine = Engine::start();
    let volume = engine.name("data");
    let mount = format!("{volume}:/etc");
    assert_eq!(run(&engine, &["-v", &mount], "cat /etc/plain; echo kept > /etc/mine").ok(), "no program");
    assert_eq!(run(&engine, &["-v", &mount], "cat /etc/mine").ok(), "kept");
    let empty = format!("{}:/etc:nocopy", engine.name("empty"));
    assert_eq!(run(&engine, &["-v", &empty], "ls /etc/plain 2>/dev/null | wc -l").ok(), "0");
    engine.docker(&["volume", "rm", &volume, &engine.name("empty")]).ok();
}

#[test]
fn a_read_only_root_takes_writes_only_where_something_else_is_mounted() {
    let engine = Engine::start();
    let script = "! touch /x 2>/dev/null && touch /scratch/x && touch /dev/shm/x && echo fine";
    assert_eq!(run(&engine, &["--read-only", "--tmpfs", "/scratch"], script).ok(), "fine");
}

#[test]
fn devices_are_passed_with_their_permissions() {
    let engine = Engine::start();
    let script = "ls -l /dev/mine | awk '{print $5 $6}'; head -c 3 /dev/mine | wc -c";
    assert_eq!(run(&engine, &["--device", "/dev/zero:/dev/mine:rwm"], script).ok(), "1,5\n3");
    run(&engine, &["--device", "/dev/no-such-device"], "true").refused(127, "/dev/no-such-device");
}

#[test]
fn an_init_collects_orphans() {
    let engine = Engine::start();
    let script = "(sleep 0.01 &); sleep 0.3; ps -o stat | grep -c Z; true";
    assert_eq!(run(&engine, &["--init"], script).ok(), "0");
}

#[test]
fn limits_are_in_force() {
    let engine = Engine::start();
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        for (options, file, expected) in [
            (vec!["-m", "64m"], "memory/memory.limit_in_bytes", "67108864"),
            (vec!["-m", "64m", "--memory-swap", "96m"], "memory/memory.memsw.limit_in_bytes", "100663296"),
            (vec!["--cpus", "0.5"], "cpu/cpu.cfs_quota_us", "50000"),
            (vec!["-c", "512"], "cpu/cpu.shares", "512"),
            (vec!["--cpuset-cpus", "0"], "cpuset/cpuset.cpus", "0"),
            (vec!["--pids-limit", "33"], "pids/pids.max", "33"),
        ] {
            assert_eq!(
                run(&engine, &options, &format!("cat /sys/fs/cgroup/{file}")).ok(),
                expected,
                "{options:?}"
            );
        }
    }
    let hungry = run(&engine, &["-m", "16m", "--memory-swap", "16m"], "x=a; while :; do x=$x$x; done");
    assert_eq!(hungry.code, 137, "{hungry:?}");
    let forks =
        run(&engine, &["--pids-limit", "5"], "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done 2>&1; wait");
    assert!(format!("{}{}", forks.stdout, forks.stderr).contains("fork"), "{forks:?}");
}

#[test]
fn a_terminal_is_a_terminal() {
    let engine = Engine::start();
    let script =
        format!("docker run --rm -t --network none {SMALL} sh -c 'tty; test -t 0 && test -t 1 && echo yes'");
    let output = engine.command("script").args(["-qec", &script, "/dev/null"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).replace('\r', ""), "/dev/pts/0\nyes\n");
}

#[test]
fn a_detached_container_goes_on_and_its_log_is_kept() {
    let engine = Engine::start();
    let name = engine.name("detached");
    let id =
        engine.docker(&["run", "-d", "--name", &name, SMALL, "sh", "-c", "echo begun; exec sleep 1000"]).ok();
    assert_eq!(id.len(), 64);
    coracle_tests::engine::wait_until("it has written", || {
        engine.docker(&["logs", &name]).stdout == "begun\n"
    });
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Status}}", &name]).ok(), "running");
    engine.docker(&["rm", "-f", &name]).ok();
    engine.docker(&["inspect", &name]).refused(1, "no such object");
}
