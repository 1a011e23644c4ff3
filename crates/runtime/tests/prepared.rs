//! Containers that are prepared before they are started, over the protocol: what waits is what is started, or is given up
//! where it does not fit, and leaves nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use coracle_runtime::protocol::{Plan, Role};
use coracle_spec::runtime::{Cpu, Memory, Mount, Namespace, NamespaceKind, Pids, Resources};
use harness::{Bench, plan, run, run_in};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::AsFd;

/// Prepares a container, changes it, and starts it. What it printed.
fn start_changed(args: &[&str], change: impl FnOnce(&Bench, &mut Plan)) -> String {
    let bench = Bench::new();
    let mut plan = plan(&bench, args);
    let shim = bench.prepare(&plan);
    change(&bench, &mut plan);
    let (code, out, err) = run_in(&bench, shim, &mut plan).unwrap();
    assert_eq!(code, 0, "{err}");
    bench.assert_nothing_is_left();
    out
}

#[test]
fn the_process_that_waited_becomes_the_program() {
    let bench = Bench::new();
    let plan = plan(&bench, &["sleep", "1000"]);
    let shim = bench.prepare(&plan);
    let waiting = bench.waiting().unwrap();
    let shim = shim.start(&bench, &plan).unwrap();
    assert_eq!(shim.pid(), waiting);
    let comm = std::fs::read_to_string(format!("/proc/{waiting}/comm")).unwrap();
    assert_eq!(comm.trim(), "sleep");
    shim.kill();
    bench.assert_nothing_is_left();
}

#[test]
fn what_a_container_sees_is_the_same_whether_it_was_prepared_or_not() {
    // Ids of mounts, of file systems and of processes differ from run to run.
    let look = "cut -d ' ' -f 4- /proc/self/mountinfo; grep -E 'Cap|Seccomp|NoNewPrivs' /proc/self/status; stat -c \
                '%n %F %a %u:%g' /dev/* /proc/sys /sys/firmware; id; pwd; cut -d : -f 2- /proc/self/cgroup";
    let (bench, other) = (Bench::new(), Bench::new());
    let mut prepared = plan(&bench, &["sh", "-c", look]);
    let shim = bench.prepare(&prepared);
    let prepared = run_in(&bench, shim, &mut prepared).unwrap();
    let mut unprepared = plan(&other, &["sh", "-c", look]);
    let unprepared = run(&other, &mut unprepared).unwrap();
    // The options of the overlay name descriptors, whose numbers differ.
    let without_root =
        |text: &str| text.lines().filter(|l| !l.contains(" overlay ")).collect::<Vec<_>>().join("\n");
    assert!(prepared.1.contains("/sys/fs/cgroup") && prepared.1.contains("CapBnd"), "{}", prepared.1);
    assert_eq!(without_root(&prepared.1), without_root(&unprepared.1));
    bench.assert_nothing_is_left();
    other.assert_nothing_is_left();
}

#[test]
fn what_changes_before_the_start_counts() {
    let limits = |pids: i64| Resources {
        memory: Some(Memory { limit: Some(64 << 20), ..Memory::default() }),
        pids: Some(Pids { limit: pids }),
        ..Resources::default()
    };
    let out = start_changed(
        &["sh", "-c", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max"],
        |_, plan| {
            plan.spec.linux.as_mut().unwrap().resources = Some(limits(77));
            // One of the two files is not there.
            plan.spec.process.as_mut().unwrap().args[2].push_str(" 2>/dev/null || :");
        },
    );
    assert_eq!(out.trim(), "77");
    let out =
        start_changed(&["cat", "/proc/sys/kernel/hostname"], |_, plan| plan.spec.hostname = "other".into());
    assert_eq!(out.trim(), "other");
    let out = start_changed(&["grep", "CapBnd", "/proc/self/status"], |_, plan| {
        let capabilities = plan.spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
        for set in [&mut capabilities.bounding, &mut capabilities.permitted, &mut capabilities.effective] {
            *set = vec!["CAP_KILL".into()];
        }
    });
    assert!(out.trim().ends_with("0000000000000020"), "{out}");
    let out = start_changed(&["cat", "/layer"], |bench, plan| {
        let above = bench.path("above");
        std::fs::create_dir(&above).unwrap();
        std::fs::write(above.join("layer"), "another").unwrap();
        plan.root.lower.insert(0, above);
    });
    assert_eq!(out, "another");
    let out = start_changed(&["cat", "/tmp/new"], |bench, _| {
        std::fs::create_dir_all(bench.upper().join("tmp")).unwrap();
        std::fs::write(bench.upper().join("tmp/new"), "put there").unwrap();
    });
    assert_eq!(out, "put there");
}

#[test]
fn many_mounts_are_handed_over() {
    let bench = Bench::new();
    let source = bench.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "bound").unwrap();
    let mut plan = plan(&bench, &["sh", "-c", "cat /data/*/file | wc -c"]);
    plan.spec.mounts.extend((0..200).map(|number| Mount {
        destination: format!("/data/{number}"),
        kind: "bind".into(),
        source: source.display().to_string(),
        options: vec!["rbind".into(), "ro".into()],
    }));
    let shim = bench.prepare(&plan);
    assert_eq!(run_in(&bench, shim, &mut plan).unwrap().1.trim(), "1000");
    bench.assert_nothing_is_left();
}

#[test]
fn nothing_stays_of_what_nobody_starts() {
    let bench = Bench::new();
    let shim = bench.prepare(&plan(&bench, &["true"]));
    shim.abandon();
    bench.assert_nothing_is_left();
}

#[test]
fn what_waits_ends_with_its_shim() {
    let bench = Bench::new();
    let _shim = bench.prepare(&plan(&bench, &["true"]));
    let waiting = pidfd_open(Pid::from_raw(bench.waiting().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    let pid = Pid::from_raw(bench.shim_pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut polled = [rustix::event::PollFd::new(&waiting, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&patience)).unwrap(), 1, "it has ended");
    // A killed shim leaves its groups, which an engine removes at the next start; here nobody does.
    bench.remove_groups();
}

#[test]
fn a_limit_that_cannot_be_is_told_at_the_start() {
    let bench = Bench::new();
    let mut plan = plan(&bench, &["true"]);
    let cpu = Cpu { cpus: "4000".into(), ..Cpu::default() };
    plan.spec.linux.as_mut().unwrap().resources = Some(Resources { cpu: Some(cpu), ..Resources::default() });
    let refused = bench.start(&plan).unwrap_err();
    bench.assert_nothing_is_left();
    let shim = bench.prepare_in_vain(&plan);
    let prepared = shim.start(&bench, &plan).unwrap_err();
    assert_eq!(prepared, refused);
    bench.assert_nothing_is_left();
}

#[test]
fn a_namespace_to_join_that_did_not_come_is_missed() {
    let join = Namespace { kind: NamespaceKind::Network, path: "descriptor".into() };
    let bench = Bench::new();
    let mut plan = plan(&bench, &["true"]);
    let namespaces = &mut plan.spec.linux.as_mut().unwrap().namespaces;
    namespaces.retain(|namespace| namespace.kind != NamespaceKind::Network);
    namespaces.push(join);
    let refused = bench.start(&plan).unwrap_err();
    assert!(refused.text.contains("Network namespace to join did not come"), "{refused:?}");
    bench.assert_nothing_is_left();
    let own = std::fs::File::open("/proc/self/ns/net").unwrap();
    bench.give(&mut plan, Role::Network, own.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(run(&bench, &mut plan).unwrap().0, 0);
    bench.assert_nothing_is_left();
}
