//! Other OCI runtimes that fail, hang, lie and die: what is told, and that nothing is left. Of ours alone: the original has such
//! runtimes behind shims of its own.

use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const RUNC: &str = "/usr/sbin/runc";

/// A runtime that is runc unless a file beside it says what becomes of a verb.
struct Fake {
    engine: Engine,
    program: PathBuf,
    _place: TempDir,
}

/// What the fake does first. Its `$log` and `$pid_file` are where it is to write, below the engine's directory.
const PREAMBLE: &str = r#"#!/bin/sh
echo "$@" >> "$0.calls"
[ "$1" != --mine ] || shift
verb=
for word in "$@"; do
  case $previous in
    --log) log=$word ;;
    --pid-file) pid_file=$word ;;
    --console-socket) console=$word ;;
  esac
  case $word in create|start|exec|delete) verb=${verb:-$word} ;; esac
  previous=$word
done
[ ! -e "$0.$verb" ] || . "$0.$verb"
exec /usr/sbin/runc "$@"
"#;

/// Fails with words of its own.
const SAYS_WHY: &str = r#"printf '{"level":"error","msg":"it is broken"}\n' > "$log"; exit 1"#;

/// Hangs, and so does what it has started.
const HANGS: &str = r#"touch "$log"; tail -F "$log" & tail -F "$log""#;

impl Fake {
    /// An engine that has the fake; none where the original is under test.
    fn start() -> Option<Self> {
        if std::env::var_os("TARGET").is_some() {
            return None;
        }
        assert!(Path::new(RUNC).is_file(), "the package runc is installed");
        let place = tempfile::tempdir().expect("a directory to write in");
        let program = place.path().join("fake-runtime");
        fs::write(&program, PREAMBLE).expect("a directory to write in");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a directory to write in");
        let file = place.path().join("daemon.json");
        let described = format!(
            r#"{{"runtimes": {{"fake": {{"path": "{}", "runtimeArgs": ["--mine"]}}, "absent": {{"path": "/no/such/runtime"}}}}}}"#,
            program.display()
        );
        fs::write(&file, described).expect("a directory to write in");
        let engine = Engine::start_with(&["--config-file", &file.display().to_string()]);
        Some(Self { engine, program, _place: place })
    }

    fn beside(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("{}.{what}", self.program.display()))
    }

    /// Has a verb do something else, until it is mended.
    fn break_verb(&self, verb: &str, script: &str) {
        fs::write(self.beside(verb), script).expect("a directory to write in");
    }

    fn mend(&self, verb: &str) {
        fs::remove_file(self.beside(verb)).expect("it is broken");
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.beside("calls")).unwrap_or_default()
    }

    fn run(&self, options: &[&str]) -> Output {
        self.engine
            .docker(&[&["run", "--rm", "--runtime", "fake"], options, &[SMALL, "echo", "made"]].concat())
    }

    /// Starts a container that sleeps.
    fn container(&self, name: &str) -> String {
        let name = self.engine.name(name);
        self.engine.docker(&["run", "-d", "--runtime", "fake", "--name", &name, SMALL, "sleep", "1000"]).ok();
        name
    }

    /// The same, which is not started.
    fn created(&self, name: &str) -> String {
        let name = self.engine.name(name);
        let create = ["create", "--runtime", "fake", "--name", &name, SMALL, "sleep", "1000"];
        self.engine.docker(&create).ok();
        name
    }

    fn field(&self, name: &str, field: &str) -> String {
        self.engine.docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), name]).ok()
    }

    fn exec(&self, options: &[&str], name: &str) -> Output {
        self.engine.docker(&[&["exec"], options, &[name, "echo", "done"]].concat())
    }

    /// Begins to start a container, and waits until the runtime makes it.
    fn begin_to_start(&self, name: &str) -> Child {
        let mut command = self.engine.command("docker");
        let client = command.args(["start", name]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        wait_until("it is being made", || self.calls().contains(" create "));
        client.expect("the docker command is there")
    }

    fn remove(&self, names: &[&str]) {
        self.engine.docker(&[&["rm", "-f"], names].concat()).ok();
    }

    /// Waits until nothing is left of containers: neither files nor mounts nor processes of the fake's.
    fn leaves_nothing(&self, what: &str) {
        let containers = self.engine.directory().join("run/containers");
        wait_until(what, || fs::read_dir(&containers).is_ok_and(|mut entries| entries.next().is_none()));
        self.leaves_no_process(what);
        assert_eq!(self.engine.mounts_on_the_host(), Vec::<String>::new());
    }

    /// Waits until no process is left that was told of a file of a container's.
    fn leaves_no_process(&self, what: &str) {
        let place = format!("{}/run/containers", self.engine.directory().display());
        let is_told = |process: &fs::DirEntry| {
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&place)
        };
        wait_until(what, || {
            !fs::read_dir("/proc").expect("it is mounted").flatten().any(|one| is_told(&one))
        });
    }
}

/// What a command has said, whichever way.
fn said(output: &Output) -> String {
    format!("{}{}", output.stdout, output.stderr)
}

#[test]
fn runtimes_are_listed_and_called_with_their_arguments() {
    let Some(fake) = Fake::start() else { return };
    let runtimes = fake.engine.docker(&["info", "-f", "{{json .Runtimes}}"]).json();
    assert_eq!(runtimes["fake"]["path"], fake.program.display().to_string());
    assert_eq!(runtimes["fake"]["runtimeArgs"][0], "--mine");
    for own in ["coracle", "runc", "io.containerd.runc.v2"] {
        assert!(runtimes[own]["path"].as_str().unwrap().ends_with("coracle-runtime"), "{runtimes}");
    }
    assert_eq!(fake.run(&[]).ok(), "made");
    let calls = fake.calls();
    assert!(calls.lines().all(|line| line.starts_with("--mine --root ")), "{calls}");
    for verb in [" create ", " start ", " delete "] {
        assert!(calls.contains(verb), "{calls}");
    }
    let absent = fake.engine.docker(&["run", "--rm", "--runtime", "absent", SMALL, "true"]);
    absent.refused(125, "cannot run the runtime /no/such/runtime: No such file or directory");
}

#[test]
fn a_runtime_that_fails_says_why_and_leaves_nothing() {
    let Some(fake) = Fake::start() else { return };
    for (script, reason) in [
        (SAYS_WHY, "OCI runtime create failed: it is broken: unknown"),
        ("echo first >&2; echo 'the last words' >&2; exit 1", "OCI runtime create failed: the last words"),
        ("exit 12", "it ended with code 12 and said nothing"),
        ("kill -9 $$", "it ended with code 137 and said nothing"),
        ("touch \"$log\"; tail -F \"$log\" & exit 12", "it ended with code 12 and said nothing"),
        ("/usr/sbin/runc \"$@\"; exit 12", "it ended with code 12 and said nothing"),
    ] {
        fake.break_verb("create", script);
        for options in [&[][..], &["-t"]] {
            fake.run(options).refused(125, reason);
            fake.leaves_nothing(script);
        }
    }
    fake.mend("create");
    fake.break_verb("start", SAYS_WHY);
    fake.run(&[]).refused(125, "OCI runtime start failed: it is broken");
    fake.leaves_nothing("a failed start");
    // The shim itself may fail once the container runs.
    fake.break_verb("start", "/usr/sbin/runc \"$@\"; mkdir \"${log%/*}/../run.json\"; exit 0");
    fake.run(&[]).refused(125, "write a record");
    fake.leaves_nothing("a shim that cannot write its record");
}

#[test]
fn a_runtime_that_lies_is_not_believed() {
    let Some(fake) = Fake::start() else { return };
    for (script, reason) in [
        ("exit 0", "it has written no pid file"),
        ("echo 1 > \"$pid_file\"; exit 0", "no child of the shim"),
        ("echo $PPID > \"$pid_file\"; exit 0", "no child of the shim"),
        ("echo $$ > \"$pid_file\"; exit 0", "no child of the shim"),
        ("echo 99999999 > \"$pid_file\"; exit 0", "no child of the shim"),
        ("echo -5 > \"$pid_file\"; exit 0", "holds no process id"),
        ("head -c 100000 /dev/zero > \"$pid_file\"; exit 0", "holds no process id"),
        ("mkfifo \"$pid_file\"; exit 0", "holds no process id"),
        ("ln -s /dev/zero \"$pid_file\"; exit 0", "holds no process id"),
        ("mkdir \"$pid_file\"; exit 0", "it has written no pid file"),
    ] {
        fake.break_verb("create", script);
        for options in [&[][..], &["-t"]] {
            fake.run(options).refused(125, reason);
            fake.leaves_nothing(script);
        }
    }
    fake.mend("create");
    let name = fake.container("executing");
    let [first, shim] = [fake.field(&name, ".State.Pid"), parent_of(&fake.field(&name, ".State.Pid"))];
    for (pid, reason) in [(first, "was there before"), (shim, "no child of the shim")] {
        fake.break_verb("exec", &format!("echo {pid} > \"$pid_file\"; exit 0"));
        let told = said(&fake.exec(&[], &name));
        assert!(told.contains(reason), "{told}");
    }
    fake.mend("exec");
    assert_eq!(fake.exec(&[], &name).ok(), "done", "the container was left alone");
    fake.remove(&[&name]);
}

/// Sends a descriptor to the socket for terminals, or nothing.
fn sends(what: &str) -> String {
    format!(
        "python3 -c 'import socket, sys, os; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); {what}' \"$console\"\n\
         sleep 0 & echo $! > \"$pid_file\"; exit 0"
    )
}

#[test]
fn what_is_no_terminal_is_refused() {
    let Some(fake) = Fake::start() else { return };
    for (script, reason) in [
        ("sleep 0 & echo $! > \"$pid_file\"; exit 0".to_owned(), "it has sent no terminal"),
        (sends(""), "it has closed the socket"),
        (sends(r#"s.send(b"x")"#), "no descriptor came with its message"),
        (
            sends(r#"socket.send_fds(s, [b"x"], [os.open("/dev/null", 0)])"#),
            "what came with its message is none",
        ),
        (sends(r#"socket.send_fds(s, [b"x"], [0] * 250)"#), "it has sent no terminal"),
        (sends(r#"s.send(b"x" * 200000)"#), "it has sent no terminal"),
    ] {
        fake.break_verb("create", &script);
        fake.run(&["-t"]).refused(125, reason);
        fake.leaves_nothing(reason);
    }
}

#[test]
fn garbage_has_bounds() {
    let Some(fake) = Fake::start() else { return };
    for (script, reason) in [
        ("head -c 200M /dev/urandom > \"$log\"; exit 3", "create failed"),
        ("tr '\\0' x < /dev/zero | head -c 1M > \"$log\"; exit 3", "create failed"),
        ("mkfifo \"$log\"; exit 3", "create failed"),
        ("mkdir \"$log\"; exit 3", "create failed"),
        ("ln -s /dev/zero \"$log\"; exit 3", "create failed"),
        (
            "printf '{\"level\":\"error\",\"msg\":\"' > \"$log\"; tr '\\0' x < /dev/zero | head -c 30000 >> \"$log\"; echo '\"}' >> \"$log\"; exit 3",
            "create failed: xxxxx",
        ),
        ("printf '\\377\\000\\033[1mwords\\r\\n' >&2; exit 3", "words"),
    ] {
        fake.break_verb("create", script);
        for options in [&[][..], &["-t"]] {
            let output = fake.run(options);
            assert_eq!(output.code, 125, "{output:?}");
            assert!(output.stderr.contains(reason), "{script}: {output:?}");
            assert!(output.stderr.len() < 80_000);
            fake.leaves_nothing(script);
        }
    }
}

#[test]
fn what_a_failed_exec_has_started_is_killed() {
    let Some(fake) = Fake::start() else { return };
    let name = fake.container("executing");
    let processes = || fake.engine.docker(&["top", &name, "-o", "pid"]).ok().lines().count() - 1;
    for (script, reason) in [
        (SAYS_WHY, "OCI runtime exec failed: it is broken"),
        ("exit 12", "it ended with code 12"),
        ("/usr/sbin/runc \"$@\"; exit 12", "it ended with code 12"),
    ] {
        fake.break_verb("exec", script);
        for options in [&[][..], &["-t"]] {
            let output = fake.engine.docker(&[&["exec"], options, &[&name, "sleep", "1000"]].concat());
            assert_eq!(output.code, 126, "{output:?}");
            assert!(said(&output).contains(reason), "{output:?}");
            wait_until(script, || processes() == 1);
        }
    }
    fake.mend("exec");
    assert_eq!(fake.exec(&[], &name).ok(), "done");
    fake.break_verb("delete", "exit 1");
    fake.engine.docker(&["restart", "-t", "0", &name]).ok();
    assert_eq!(fake.exec(&[], &name).ok(), "done");
    fake.remove(&[&name]);
    fake.leaves_nothing("a failed deletion");
}

#[test]
fn a_runtime_that_hangs_is_given_up() {
    let Some(fake) = Fake::start() else { return };
    let executing = fake.container("executing");
    let removed = fake.container("removed");
    let ending = fake.container("ending");
    fake.break_verb("create", HANGS);
    fake.break_verb("exec", HANGS);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| fake.run(&[]).refused(125, "it took longer than 30 seconds and was killed"));
        let exec = scope.spawn(|| fake.exec(&[], &executing));
        let cut = scope.spawn(|| fake.exec(&[], &ending));
        // The shim goes on meanwhile.
        wait_until("they are being started", || fake.calls().matches(" exec ").count() == 2);
        fake.engine.docker(&["pause", &executing]).ok();
        fake.engine.docker(&["unpause", &executing]).ok();
        fake.engine.docker(&["kill", &ending]).ok();
        assert_ne!(cut.join().unwrap().code, 0, "it ends with its container");
        assert!(began.elapsed() < Duration::from_secs(25), "nothing waits for a runtime that hangs");
        let told = said(&exec.join().unwrap());
        assert!(told.contains("it took longer than 30 seconds"), "{told}");
    });
    fake.mend("create");
    fake.mend("exec");
    assert_eq!(fake.exec(&[], &executing).ok(), "done");
    fake.break_verb("delete", HANGS);
    fake.remove(&[&removed, &executing, &ending]);
    fake.leaves_nothing("a hanging deletion");
}

#[test]
fn a_container_whose_shim_is_killed_in_the_midst_is_not_made() {
    let Some(fake) = Fake::start() else { return };
    let name = fake.created("midst");
    let marker = fake.beside("pid").display().to_string();
    let hangs = "exec python3 -c 'import time; time.sleep(600)' \"$log\"";
    fake.break_verb("create", &format!("echo $PPID > {marker}.part; mv {marker}.part {marker}; {hangs}"));
    let mut client = fake.begin_to_start(&name);
    wait_until("the shim is known", || Path::new(&marker).exists());
    let shim = fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).unwrap();
    assert!(!client.wait().unwrap().success());
    fake.leaves_no_process("the runtime ends with the shim");
    fake.mend("create");
    fake.engine.docker(&["start", &name]).ok();
    assert_eq!(fake.exec(&[], &name).ok(), "done");
    fake.remove(&[&name]);
}

#[test]
fn an_engine_that_is_killed_in_the_midst_leaves_nothing() {
    let Some(mut fake) = Fake::start() else { return };
    let waits = "until [ -e \"$0.go\" ]; do sleep 0.05; done; echo \"done with $word\" >> \"$0.calls\"";
    fake.break_verb("create", waits);
    let [name, removed] = ["midst", "removed"].map(|name| fake.created(name));
    let mut clients = [&name, &removed].map(|name| fake.begin_to_start(name));
    wait_until("both are being made", || fake.calls().matches(" create ").count() == 2);
    fake.engine.kill();
    for client in &mut clients {
        client.wait().unwrap();
    }
    fake.engine.start_again();
    assert_ne!(fake.field(&name, ".State.Status"), "running");
    fake.remove(&[&removed]);
    let again = fake.begin_to_start(&name);
    let layer = fs::metadata(fake.field(&name, ".GraphDriver.Data.UpperDir")).unwrap().ino();
    wait_until("the second shim waits for the first", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&format!(":{layer} ")))
    });
    fs::write(fake.beside("go"), "").unwrap();
    let again = again.wait_with_output().unwrap();
    assert!(again.status.success(), "{again:?}");
    let (id, calls) = (fake.field(&name, ".Id"), fake.calls());
    let calls = calls.lines().filter(|line| line.ends_with(&id));
    let made: Vec<_> = calls.filter(|line| line.contains(" create ") || line.starts_with("done")).collect();
    assert!(made.len() == 4 && made[1].starts_with("done"), "one after the other: {made:?}");
    assert_eq!(fake.exec(&[], &name).ok(), "done");
    fake.remove(&[&name]);
    fake.leaves_nothing("two attempts");
}

fn parent_of(pid: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("it has a parent").to_owned()
}

/// As one whose process joins the container's cgroup when that was emptied already: with a pid namespace of its own it would be
/// killed by the kernel.
#[test]
fn the_end_of_a_container_does_not_wait_for_an_exec_that_is_elsewhere() {
    let Some(fake) = Fake::start() else { return };
    let name = fake.container("elsewhere");
    fake.break_verb("exec", "sleep 100000 & echo $! > \"$pid_file\"; exit 0");
    fake.engine.docker(&["exec", "-d", &name, "true"]).ok();
    let execs = fake.engine.docker(&["inspect", "-f", "{{json .ExecIDs}}", &name]).json();
    let id = execs[0].as_str().expect("it runs").to_owned();
    fake.engine.docker(&["kill", &name]).ok();
    wait_until("it has ended", || fake.field(&name, ".State.Status") == "exited");
    assert_eq!(fake.field(&name, ".State.ExitCode"), "137");
    let (_, told) = fake.engine.request("GET", &format!("/exec/{id}/json"), None);
    assert!(told.contains("\"Running\":false"), "{told}");
    fake.remove(&[&name]);
    fake.leaves_nothing("an exec that was elsewhere");
}
