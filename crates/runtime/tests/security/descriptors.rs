//! What of the host, and of the runtime itself, is within reach of a process: descriptors, programs, sockets.

use crate::harness::canary::Canary;
use crate::harness::{Bench, Shim, execution, mount, plan, read_all, run, stream_pair};
use crate::program::install;
use coracle_runtime::protocol::{Event, Execution, Reply, Request};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};

/// Runs an exec to its end. Returns its exit code and its output.
fn exec(shim: &mut Shim, execution: Execution) -> Result<(i32, String), String> {
    let (ours, theirs) = stream_pair();
    match shim.ask_with(&Request::Exec(Box::new(execution)), &[theirs]) {
        Reply::Started { .. } => {}
        Reply::Failed(failure) => return Err(failure.text),
        other => panic!("{other:?}"),
    }
    let output = crate::harness::demultiplex(&read_all(ours)).0;
    match shim.event() {
        Event::ExecExited { code, .. } => Ok((code, output)),
        other => panic!("{other:?}"),
    }
}

/// Where the descriptors of a process lead.
fn descriptors(pid: i32) -> BTreeSet<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let target = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let to = std::fs::read_link(entry.path()).unwrap().display().to_string();
        format!("{} {}", entry.file_name().display(), to.split(':').next().unwrap())
    };
    entries.map(target).collect()
}

#[test]
fn a_process_has_its_three_streams_and_nothing_else() {
    let canary = Canary::new();
    // As an engine that was itself started by something careless: these are not close-on-exec.
    let directory = std::fs::File::open(canary.path()).unwrap();
    let careless: Vec<OwnedFd> = (0..50).map(|_| rustix::io::dup(&directory).unwrap()).collect();
    let bench = Bench::new();
    let mut shim = bench.start(&plan(&bench, &["sh", "-c", "while :; do sleep 0.05 & wait; done"])).unwrap();
    let expected: BTreeSet<String> = ["0 /dev/null", "1 pipe", "2 pipe"].map(str::to_owned).into();
    assert_eq!(descriptors(shim.pid()), expected);
    let outside = canary.path().display().to_string();
    let inherited = descriptors(bench.shim_pid()).into_iter().filter(|to| to.contains(&outside)).count();
    assert_eq!(inherited, 0, "the shim keeps none of them either");
    let census =
        "cd /proc/self/fd && for n in *; do readlink $n; done | grep -v '^pipe:' | grep -v '^/dev/null$'";
    let (_, found) = exec(&mut shim, execution("census", &["sh", "-c", census])).unwrap();
    // The shell's own handle of the directory is gone by the time it is asked for.
    assert_eq!(found, "", "an exec has more");
    assert_eq!(careless.len(), 50);
    shim.kill();
    bench.assert_nothing_is_left();
}

#[test]
fn a_working_directory_behind_a_descriptor_is_refused_and_the_host_not_reached() {
    let canary = Canary::new();
    std::fs::write(canary.path().join("file"), "canary file").unwrap();
    let climb = format!("pwd; cat {}../../../..{}/file", "../".repeat(8), canary.path().display());
    for base in ["/proc/self/fd", "/proc/1/fd", "/link"] {
        for number in 3..64 {
            let bench = Bench::new();
            std::os::unix::fs::symlink("/proc/self/fd", bench.path("root/link")).unwrap();
            let mut plan = plan(&bench, &["sh", "-c", &climb]);
            plan.spec.process.as_mut().unwrap().cwd = format!("{base}/{number}");
            if let Ok((_, out, _)) = run(&bench, &mut plan) {
                assert!(!out.contains("canary") && !out.contains("unreachable"), "{base}/{number}: {out}");
            }
            bench.assert_nothing_is_left();
        }
    }
}

#[test]
fn an_exec_cannot_start_outside_either_and_one_with_a_plain_directory_does() {
    let canary = Canary::new();
    let bench = Bench::new();
    let mut shim = bench.start(&plan(&bench, &["sleep", "100"])).unwrap();
    let climb = format!("pwd; cat {}..{}/file", "../".repeat(8), canary.path().display());
    for number in 3..64 {
        let mut hostile = execution("hostile", &["sh", "-c", &climb]);
        hostile.process.cwd = format!("/proc/self/fd/{number}");
        if let Ok((_, out)) = exec(&mut shim, hostile) {
            assert!(!out.contains("canary") && !out.contains("unreachable"), "{number}: {out}");
        }
    }
    let mut plain = execution("plain", &["pwd"]);
    plain.process.cwd = "/tmp".into();
    assert_eq!(exec(&mut shim, plain).unwrap(), (0, "/tmp\n".into()));
    shim.kill();
    bench.assert_nothing_is_left();
}

#[test]
fn the_runtime_that_an_image_makes_itself_run_cannot_be_written() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_coracle-runtime")).unwrap();
    let bench = Bench::new();
    install(&bench.path("root/bin/evil"), b"#!/proc/self/exe\n");
    // The program that runs is the runtime, which does not know these arguments.
    let (code, _, err) = run(&bench, &mut plan(&bench, &["/bin/evil"])).unwrap();
    assert!(code == 1 && err.contains("usage: coracle-runtime"), "{code} {err}");
    bench.assert_nothing_is_left();
    // While execs of it come and go, the first process writes to the program of each newcomer.
    let bench = Bench::new();
    install(&bench.path("root/bin/evil"), b"#!/proc/self/exe\n");
    let script = "while ! test -e /stop; do for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in *coracle*) echo seen >> /seen; dd if=/dev/zero of=$p/exe bs=1 count=1 conv=notrunc 2>/dev/null && echo written >> /written;; esac
        done; done";
    let mut shim = bench.start(&plan(&bench, &["sh", "-c", script])).unwrap();
    for _ in 0..100 {
        let (code, _) = exec(&mut shim, execution("evil", &["/bin/evil"])).unwrap();
        assert_eq!(code, 1);
    }
    let root = format!("/proc/{}/root", shim.pid());
    assert!(!std::path::Path::new(&root).join("written").exists(), "the runtime was written to");
    shim.kill();
    bench.assert_nothing_is_left();
    assert_eq!(std::fs::read(env!("CARGO_BIN_EXE_coracle-runtime")).unwrap(), binary);
    // And the copy that shims are started from works as before.
    let bench = Bench::new();
    assert_eq!(run(&bench, &mut plan(&bench, &["true"])).unwrap().0, 0);
    bench.assert_nothing_is_left();
}

#[test]
fn the_first_process_cannot_look_into_one_that_joins_before_it_is_the_program() {
    let bench = Bench::new();
    // Everything about another process that a look inside would give away: its program while it is the runtime's.
    let script = "echo ready; while ! test -e /stop; do
        ls -l /proc/[0-9]*/exe /proc/[0-9]*/cwd /proc/[0-9]*/root 2>/dev/null | grep coracle >> /seen
        for p in /proc/[0-9]*; do test $p = /proc/1 && continue
            test \"$(cat $p/comm 2>/dev/null)\" = sh || test \"$(cat $p/comm 2>/dev/null)\" = true || { ls $p/fd/9 $p/fd/10 $p/fd/11 2>/dev/null >> /seen; }
        done; done";
    let mut plan = plan(&bench, &["sh", "-c", script]);
    // All that Docker gives by default and that could help; the right to trace is none of it.
    let sets = plan.spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.push("CAP_DAC_OVERRIDE".into());
    }
    let mut shim = bench.start(&plan).unwrap();
    bench.wait_for_log("ready");
    for _ in 0..400 {
        assert_eq!(exec(&mut shim, execution("one", &["true"])).unwrap().0, 0);
    }
    let seen = std::fs::read_to_string(format!("/proc/{}/root/seen", shim.pid())).unwrap_or_default();
    assert_eq!(seen, "");
    shim.kill();
    bench.assert_nothing_is_left();
}

#[test]
fn a_shim_listens_on_no_abstract_socket_and_its_own_is_roots_alone() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let shim = bench.start(&plan(&bench, &["sleep", "100"])).unwrap();
    let own: BTreeSet<String> = std::fs::read_dir(format!("/proc/{}/fd", bench.shim_pid()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    assert!(!own.is_empty());
    let table = std::fs::read_to_string(format!("/proc/{}/net/unix", bench.shim_pid())).unwrap();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let named: Vec<&str> = lines
        .iter()
        .filter(|words| words.get(6).is_some_and(|inode| own.contains(*inode)))
        .filter_map(|words| words.get(7).copied())
        .collect();
    assert!(named.iter().any(|name| name.ends_with("/shim.sock")), "{named:?}");
    assert!(named.iter().all(|name| !name.starts_with('@')), "{named:?}");
    let stat = std::fs::metadata(bench.state().join("shim.sock")).unwrap();
    assert_eq!((stat.mode() & 0o777, stat.uid()), (0o600, 0));
    shim.kill();
    bench.assert_nothing_is_left();
}

#[test]
fn a_terminal_is_the_containers_own_and_its_master_out_of_reach() {
    let bench = Bench::new();
    let script =
        "ls /dev/pts; readlink /proc/self/fd/0; for n in 3 4 5 6 7 8 9; do readlink /proc/self/fd/$n; done";
    let mut plan = plan(&bench, &["sh", "-c", script]);
    plan.spec.process.as_mut().unwrap().terminal = true;
    plan.spec.mounts.push(mount("/mnt", "tmpfs", &[]));
    let out = bench.run_on_terminal(&mut plan).unwrap();
    assert_eq!(out, "0     ptmx\r\n/dev/pts/0\r\n");
    bench.assert_nothing_is_left();
}

#[test]
fn a_descriptor_that_is_given_to_the_shim_does_not_reach_the_container() {
    let canary = Canary::new();
    let bench = Bench::new();
    let mut plan = plan(&bench, &["sh", "-c", "ls -l /proc/1/fd /proc/self/fd"]);
    let held: OwnedFd = std::fs::File::open(canary.path()).unwrap().into();
    assert!(held.as_raw_fd() > 2);
    bench.give(&mut plan, coracle_runtime::protocol::Role::Held, held);
    let (code, out, _) = run(&bench, &mut plan).unwrap();
    assert_eq!(code, 0);
    assert!(!out.contains(canary.path().to_str().unwrap()), "{out}");
    bench.assert_nothing_is_left();
}
