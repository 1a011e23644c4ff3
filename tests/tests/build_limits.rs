//! What commands of a Dockerfile may use of the machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, classic_build};
use coracle_tests::engine::programs;
use coracle_tests::{Engine, Output};
use std::path::Path;
use std::process::Stdio;

/// Of the first version of control groups, and of the second.
const DOCKERFILE: &str = "FROM BASE\n\
    RUN { cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes || cat memory.max; cat cpu/cpu.cfs_quota_us || cut -d' ' -f1 cpu.max; \
    cat cpuset/cpuset.cpus || cat cpuset.cpus; ulimit -n; df -k /dev/shm | tail -n 1 | awk '{print $2}'; } >/limits 2>/dev/null\n\
    RUN stat -c %i /sys/fs/cgroup/memory >/one 2>/dev/null || stat -c %i /sys/fs/cgroup >/one\n\
    RUN stat -c %i /sys/fs/cgroup/memory >/two 2>/dev/null || stat -c %i /sys/fs/cgroup >/two\n";

fn own_build(engine: &Engine, context: &Path, arguments: &[&str]) -> Output {
    let mut command = engine.command(programs().join("coracle").to_str().unwrap());
    command.arg("build").args(arguments).arg(context).stdin(Stdio::null());
    Output::new(format!("coracle build {}", arguments.join(" ")), &command.output().unwrap())
}

/// A way to build.
type Door = fn(&Engine, &Path, &[&str]) -> Output;

/// Both doors that take limits: those of BuildKit's clients do not.
fn doors(engine: &Engine) -> Vec<Door> {
    if engine.is_original() { vec![classic_build] } else { vec![classic_build, own_build] }
}

#[test]
fn each_command_has_a_control_group_with_the_limits_that_are_asked_for() {
    let engine = Engine::start();
    let name = engine.name("limited");
    let context = Context::new(DOCKERFILE, &[]);
    for build in doors(&engine) {
        let limits = ["-m", "64m", "--cpuset-cpus", "0", "--ulimit", "nofile=77:77", "--shm-size", "3m"];
        build(&engine, &context.path(), &[&limits[..], &["-t", &name, "--no-cache"]].concat()).ok();
        let read = |path: &str| engine.docker(&["run", "--rm", "--network", "none", &name, "cat", path]).ok();
        assert_eq!(read("/limits"), "67108864\n-1\n0\n77\n3072");
        assert_ne!(read("/one"), read("/two"));
        engine.docker(&["rmi", &name]).ok();
    }
    if !engine.is_original() {
        own_build(&engine, &context.path(), &["--cpus", "0.5", "--no-cache", "-t", &name]).ok();
        let limits = engine.docker(&["run", "--rm", "--network", "none", &name, "cat", "/limits"]).ok();
        assert_eq!(limits.lines().nth(1), Some("50000"), "{limits}");
        engine.docker(&["rmi", &name]).ok();
    }
}

#[test]
fn a_command_that_takes_more_memory_than_it_may_have_ends_the_build() {
    let engine = Engine::start();
    // What has no end of a line is kept in memory until there is one.
    let context = Context::new(
        "FROM BASE\nRUN head -c 200000000 /dev/zero | tail -n 1 >/dev/null\nRUN touch /after\n",
        &[],
    );
    for build in doors(&engine) {
        let told = build(&engine, &context.path(), &["-m", "32m"]);
        assert!(told.code != 0 && told.stderr.contains("137"), "{} {}", told.stdout, told.stderr);
    }
}
