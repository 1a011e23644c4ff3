//! Places that another process exchanges while the runtime looks at them. Each is tried `CORACLE_RACE_ITERATIONS` times.

use crate::harness::canary::Canary;
use crate::harness::{Bench, mount, plan, run};
use coracle_runtime::protocol::Plan;
use coracle_spec::runtime::Mount;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn iterations() -> usize {
    std::env::var("CORACLE_RACE_ITERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Exchanges two names of a directory without pause while `work` runs.
fn while_exchanging(one: &Path, other: &Path, work: impl FnOnce()) {
    let (over, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        let end = End(&over);
        work();
        drop(end);
    });
    assert!(turns.into_inner() > iterations(), "the race was hardly run");
}

fn bind(source: &Path, destination: &str) -> Mount {
    let mut made = mount(destination, "bind", &["bind"]);
    made.source = source.display().to_string();
    made
}

/// The host's mount table without what other tests come and go with: the mounts on, or below, the canary.
fn mounts_on(canary: &Canary) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(canary.path().to_str().unwrap())).count()
}

/// Starts containers with a volume in which `x` is a directory and `y` a link out of the root, each in turn the other.
/// `prepare` adds what is to be made below `/volume/x`. What a container prints is handed to `check`.
fn race(script: &str, prepare: impl Fn(&Bench, &mut Plan), check: impl Fn(&str)) {
    let canary = Canary::new();
    let shared = tempfile::tempdir().unwrap();
    let (x, y) = (shared.path().join("x"), shared.path().join("y"));
    std::fs::create_dir(&x).unwrap();
    // Absolute: before the root is changed, one that climbs ends at the root that is mounted over the host's.
    symlink(canary.path().join("directory"), &y).unwrap();
    let mut started = 0;
    while_exchanging(&x, &y, || {
        for _ in 0..iterations() {
            let bench = Bench::new();
            let mut plan = plan(&bench, &["sh", "-c", script]);
            plan.spec.mounts.push(bind(shared.path(), "/volume"));
            prepare(&bench, &mut plan);
            // That the runtime gives up is as good as that it finds the directory.
            if let Ok((_, out, _)) = run(&bench, &mut plan) {
                check(&out);
                started += 1;
            }
            bench.assert_nothing_is_left();
        }
    });
    assert!(started > 0, "nothing ever started, so nothing was shown");
    canary.assert_whole();
    assert_eq!(mounts_on(&canary), 0);
}

#[test]
fn a_mount_target_that_is_exchanged_for_a_link_stays_inside() {
    race(
        "echo x > /volume/x/target/file; cat /volume/x/null",
        |bench, plan| {
            let (ours, file) = (bench.path("ours"), bench.path("ours-file"));
            std::fs::create_dir(&ours).unwrap();
            std::fs::write(&file, "ours").unwrap();
            plan.spec.mounts.push(bind(&ours, "/volume/x/target"));
            plan.spec.mounts.push(bind(&file, "/volume/x/null"));
        },
        |out| assert!(!out.contains("canary"), "{out}"),
    );
}

#[test]
fn a_masked_or_protected_path_that_is_exchanged_for_a_link_stays_inside() {
    race(
        "cat /volume/x/null /volume/x/hosts; cat /proc/keys; (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo written",
        |_, plan| {
            let linux = plan.spec.linux.as_mut().unwrap();
            linux.masked_paths.extend(["/volume/x/null".into(), "/volume/x".into(), "/volume/y".into()]);
            linux.readonly_paths.insert(0, "/volume/x/hosts".into());
        },
        |out| assert_eq!(out, ""),
    );
}

#[test]
fn a_terminal_directory_that_is_exchanged_for_a_link_stays_inside() {
    race(
        "stat -f -c %t /dev/pts",
        |_, plan| {
            for place in &mut plan.spec.mounts {
                if place.destination == "/dev/pts" {
                    place.destination = "/volume/x/pts".into();
                }
            }
            // The volume has to be there before what is mounted in it.
            plan.spec.mounts.rotate_right(1);
        },
        |out| assert!(!out.contains("canary"), "{out}"),
    );
}

#[test]
fn procfs_is_mounted_on_a_directory_or_not_at_all_while_it_is_exchanged_for_a_link() {
    let layer = tempfile::tempdir().unwrap();
    let (proc, trap) = (layer.path().join("proc"), layer.path().join("trap"));
    std::fs::create_dir(&proc).unwrap();
    symlink("/etc", &trap).unwrap();
    let (mut started, mut refused) = (0, 0);
    while_exchanging(&proc, &trap, || {
        for _ in 0..iterations() {
            let bench = Bench::new();
            let mut plan = plan(&bench, &["sh", "-c", "stat -f -c %t /proc /etc"]);
            plan.root.lower.insert(0, layer.path().to_owned());
            match run(&bench, &mut plan) {
                Ok((_, out, err)) => {
                    let kinds: Vec<&str> = out.lines().collect();
                    assert!(kinds[0] == "9fa0" && kinds[1] != "9fa0", "{out} {err}");
                    started += 1;
                }
                Err(failure) => {
                    assert!(failure.text.contains("ordinary directory"), "{failure:?}");
                    refused += 1;
                }
            }
            bench.assert_nothing_is_left();
        }
    });
    assert!(started > 0 && refused > 0, "{started} started, {refused} refused");
}

#[test]
fn a_working_directory_that_is_exchanged_for_a_link_stays_inside() {
    race(
        "cat file hosts; pwd",
        |_, plan| plan.spec.process.as_mut().unwrap().cwd = "/volume/x/made".into(),
        |out| assert!(!out.contains("canary"), "{out}"),
    );
}
