//! System calls, devices and control groups from inside.

use crate::harness::{Bench, execution, plan, read_all, run, stream_pair};
use crate::program::{I386_WORDS, i386, install, x86_64};
use coracle_runtime::protocol::{Event, Plan, Reply, Request};
use coracle_runtime::seccomp::profile::{KernelVersion, resolve};
use coracle_runtime::seccomp::{Machine, default_profile};
use coracle_spec::runtime::DeviceRule;

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const X32: u64 = 0x4000_0000;

fn add_default_filter(plan: &mut Plan) {
    let capabilities = plan.spec.process.as_ref().unwrap().capabilities.as_ref().unwrap().bounding.clone();
    let kernel = KernelVersion::running().unwrap();
    let filter = resolve(default_profile(), &capabilities, Machine::native(), kernel).unwrap();
    plan.spec.linux.as_mut().unwrap().seccomp = Some(filter);
}

/// The error number of one call in a container, with the default filter and without one.
fn with_and_without_filter(program: &[u8]) -> (i32, i32) {
    let bench = Bench::new();
    install(&bench.path("root/bin/call"), program);
    let mut open = plan(&bench, &["call"]);
    let without = run(&bench, &mut open).unwrap().0;
    bench.assert_nothing_is_left();
    let bench = Bench::new();
    install(&bench.path("root/bin/call"), program);
    let mut filtered = plan(&bench, &["call"]);
    add_default_filter(&mut filtered);
    let with = run(&bench, &mut filtered).unwrap().0;
    bench.assert_nothing_is_left();
    (with, without)
}

#[test]
fn calls_of_x86_64_are_filtered_by_number_and_argument() {
    const SOCKET: u64 = 41;
    const DATAGRAM: u64 = 2;
    for (what, number, arguments, with, without) in [
        ("socket(AF_INET)", SOCKET, [2, DATAGRAM, 0], 0, Some(0)),
        ("socket(AF_VSOCK)", SOCKET, [40, 1, 0], EPERM, None),
        ("socket(AF_ALG)", SOCKET, [38, 5, 0], EPERM, None),
        // The kernel reads an int: a register that is larger is the same family.
        ("socket(AF_INET), upper half set", SOCKET, [2 | 1 << 32, DATAGRAM, 0], 0, Some(0)),
        ("socket(AF_ALG), upper half set", SOCKET, [38 | 1 << 32, 5, 0], EPERM, None),
        ("unshare(CLONE_NEWUSER)", 272, [0x1000_0000, 0, 0], EPERM, Some(0)),
        ("clone3", 435, [0, 0, 0], ENOSYS, Some(22)),
        ("io_uring_setup", 425, [0, 0, 0], EPERM, None),
        ("keyctl", 250, [0, 0, 0], EPERM, None),
        ("personality(ADDR_NO_RANDOMIZE)", 135, [0x004_0000, 0, 0], EPERM, Some(0)),
        ("personality(PER_LINUX32)", 135, [8, 0, 0], 0, Some(0)),
        ("a call of the future", 4000, [0, 0, 0], ENOSYS, Some(ENOSYS)),
        ("x32 mount", 165 | X32, [0, 0, 0], EPERM, Some(ENOSYS)),
    ] {
        let (found, open) = with_and_without_filter(&x86_64(number, arguments));
        assert_eq!(found, with, "{what} with the filter");
        // That the filter decides shows in another answer without it.
        assert!(without.map_or(open != with, |expected| open == expected), "{what} without: {open}");
    }
}

#[test]
fn calls_of_i386_cannot_get_around_the_filter() {
    const SOCKET: u32 = 359;
    const SOCKETCALL: u32 = 102;
    let inet = [2, 2, 0];
    for (what, program, with, without) in [
        ("socket(AF_INET)", i386(SOCKET, inet, &[]), 0, Some(0)),
        ("socket(AF_ALG)", i386(SOCKET, [38, 5, 0], &[]), EPERM, None),
        ("socket(AF_VSOCK)", i386(SOCKET, [40, 1, 0], &[]), EPERM, None),
        ("socketcall(SYS_SOCKET)", i386(SOCKETCALL, [1, I386_WORDS, 0], &inet), ENOSYS, Some(0)),
        ("socketcall(SYS_CONNECT)", i386(SOCKETCALL, [3, I386_WORDS, 0], &[99, 0, 0]), 9, Some(9)),
        ("unshare(CLONE_NEWUSER)", i386(310, [0x1000_0000, 0, 0], &[]), EPERM, Some(0)),
        ("getpid", i386(20, [0; 3], &[]), 0, Some(0)),
    ] {
        let (found, open) = with_and_without_filter(&program);
        assert_eq!(found, with, "{what} with the filter");
        assert!(without.map_or(open != with, |expected| open == expected), "{what} without: {open}");
    }
}

#[test]
fn an_exec_is_filtered_unless_it_is_privileged() {
    let bench = Bench::new();
    install(&bench.path("root/bin/call"), &x86_64(272, [0x1000_0000, 0, 0]));
    let mut plan = plan(&bench, &["sleep", "100"]);
    add_default_filter(&mut plan);
    let mut shim = bench.start(&plan).unwrap();
    for (privileged, expected) in [(false, EPERM), (true, 0)] {
        let mut execution = execution("one", &["call"]);
        execution.privileged = privileged;
        let (ours, theirs) = stream_pair();
        let reply = shim.ask_with(&Request::Exec(Box::new(execution)), &[theirs]);
        assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
        read_all(ours);
        assert_eq!(shim.event(), Event::ExecExited { exec: "one".into(), code: expected });
    }
    shim.kill();
    bench.assert_nothing_is_left();
}

/// What the engine sets for a container that asks for no device: everything denied, the usual ones allowed.
fn default_devices() -> Vec<DeviceRule> {
    let rule = |kind: &str, major: i64, minor: Option<i64>, access: &str, allow: bool| DeviceRule {
        allow,
        kind: Some(kind.into()),
        major: Some(major).filter(|m| *m >= 0),
        minor,
        access: Some(access.into()),
    };
    let mut rules =
        vec![DeviceRule { allow: false, kind: None, major: None, minor: None, access: Some("rwm".into()) }];
    rules.extend([rule("c", -1, None, "m", true), rule("b", -1, None, "m", true)]);
    rules.extend([3, 5, 7, 8, 9].map(|minor| rule("c", 1, Some(minor), "rwm", true)));
    rules.extend([rule("c", 5, Some(0), "rwm", true), rule("c", 5, Some(2), "rwm", true)]);
    rules.push(rule("c", 136, None, "rwm", true));
    rules
}

#[test]
fn a_device_can_be_made_and_not_opened() {
    let bench = Bench::new();
    let script = "mknod /b b 8 0 && mknod /m c 1 1 && mknod /k c 1 2 && echo made
        for file in /b /m /k; do cat $file >/dev/null 2>&1 && echo \"$file opened\"; done
        echo x > /dev/null && head -c 1 /dev/zero >/dev/null && head -c 1 /dev/urandom > /dev/null && echo usual";
    let mut plan = plan(&bench, &["sh", "-c", script]);
    let process = plan.spec.process.as_mut().unwrap();
    let sets = process.capabilities.as_mut().unwrap();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.push("CAP_MKNOD".into());
    }
    plan.spec.linux.as_mut().unwrap().resources.as_mut().unwrap().devices = default_devices();
    let (code, out, err) = run(&bench, &mut plan).unwrap();
    assert_eq!((code, out.as_str()), (0, "made\nusual\n"), "{err}");
    bench.assert_nothing_is_left();
}

#[test]
fn control_groups_are_read_only_and_their_agents_out_of_reach() {
    let bench = Bench::new();
    let script = "find /sys/fs/cgroup -name release_agent | while read file; do
            (echo /pwn > $file) 2>/dev/null && echo \"wrote $file\"; done
        for directory in /sys/fs/cgroup /sys/fs/cgroup/*/; do
            mkdir $directory/evil 2>/dev/null && echo \"made $directory/evil\"
            (echo 0 > $directory/cgroup.procs) 2>/dev/null && echo \"entered $directory\"
        done
        mkdir /m; mount -t cgroup -o rdma cgroup /m 2>/dev/null && echo mounted
        mount -t cgroup2 cgroup /m 2>/dev/null && echo mounted
        unshare -UrC true 2>/dev/null && echo unshared
        cut -d: -f3 /proc/1/cgroup | sort -u
        cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
    let mut plan = plan(&bench, &["sh", "-c", script]);
    add_default_filter(&mut plan);
    let resources = plan.spec.linux.as_mut().unwrap().resources.as_mut().unwrap();
    resources.pids = Some(coracle_spec::runtime::Pids { limit: 77 });
    let (code, out, err) = run(&bench, &mut plan).unwrap();
    // Its own group is the root of what it sees, with the limit that it has.
    assert_eq!((code, out.as_str()), (0, "/\n77\n"), "{err}");
    bench.assert_nothing_is_left();
}
