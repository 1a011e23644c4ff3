//! Links, devices and other surprises where the runtime mounts, in an image or planted by an earlier run.

use crate::harness::canary::{Canary, Planted, plant};
use crate::harness::{Bench, mount, plan, run};
use coracle_runtime::protocol::{Failure, Plan};
use coracle_spec::runtime::{Device, Mount};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the runtime makes or mounts on in every container.
const DEVICES: [&str; 7] =
    ["/dev/console", "/dev/null", "/dev/full", "/dev/zero", "/dev/tty", "/dev/ptmx", "/dev/fd"];
const DIRECTORIES: [&str; 7] =
    ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/proc", "/sys", "/sys/fs/cgroup"];

const LOOK: &str = "stat -f -c '%n %t' /dev /dev/pts /dev/shm /dev/mqueue /proc /sys /sys/fs/cgroup
    for name in null zero full tty; do stat -c '%n %F %t:%T' /dev/$name; done
    stat -c '%n %F %t' /dev/console; readlink /dev/ptmx; readlink /dev/fd";

fn with_planted(path: &str, planted: Planted) -> (Bench, Canary) {
    let (bench, canary) = (Bench::new(), Canary::new());
    plant(&bench.path("root"), path, planted, &canary);
    (bench, canary)
}

/// Runs [`LOOK`] on a terminal in an image that has `planted` at `path`; the canary is whole afterwards.
fn look(path: &str, planted: Planted) -> Result<String, Failure> {
    let (bench, canary) = with_planted(path, planted);
    let mut plan = plan(&bench, &["sh", "-c", LOOK]);
    plan.spec.process.as_mut().unwrap().terminal = true;
    let found = bench.run_on_terminal(&mut plan);
    canary.assert_whole();
    bench.assert_nothing_is_left();
    found
}

#[test]
fn whatever_an_image_has_where_the_runtime_makes_devices_a_container_has_the_usual_ones() {
    let usual = look("/nothing", Planted::Missing).unwrap();
    assert!(
        usual.contains("/dev/null character special file 1:3")
            && usual.contains("/dev/console character special file 88"),
        "{usual}"
    );
    for path in DEVICES.iter().chain(&DIRECTORIES) {
        for planted in Planted::ALL {
            let found = look(path, planted);
            let is_place = planted.is_directory() || (planted.is_link() && !["/proc", "/sys"].contains(path));
            if ["/dev", "/proc", "/sys"].contains(path) && !is_place {
                let text = found.expect_err(&format!("{path} {planted:?} is refused")).text;
                assert!(text.contains(path.trim_start_matches('/')), "{path} {planted:?}: {text}");
            } else {
                assert_eq!(
                    found.unwrap_or_else(|e| panic!("{path} {planted:?}: {e:?}")),
                    usual,
                    "{path} {planted:?}"
                );
            }
        }
    }
}

#[test]
fn without_a_fresh_dev_and_sys_mounts_stay_inside_the_root_all_the_same() {
    let look = |path: &str, planted| {
        let (bench, canary) = with_planted(path, planted);
        let mut plan = plan(&bench, &["stat", "-f", "-c", "%t", path]);
        plan.spec.mounts.retain(|mount| mount.destination == path || !path.starts_with(&mount.destination));
        let found = run(&bench, &mut plan);
        canary.assert_whole();
        bench.assert_nothing_is_left();
        found
    };
    for path in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs/cgroup"] {
        let (_, usual, _) = look(path, Planted::Missing).unwrap();
        for planted in Planted::ALL {
            let found = look(path, planted);
            if planted.is_directory() || planted.is_link() {
                assert_eq!(found.unwrap().1, usual, "{path} {planted:?}");
            } else {
                assert!(found.unwrap_err().text.contains(path), "{path} {planted:?} is refused");
            }
        }
    }
    for path in DEVICES {
        for planted in Planted::ALL {
            // Nothing of the runtime's goes there, masks and streams included.
            let (bench, canary) = with_planted(path, planted);
            let mut plan = plan(&bench, &["true"]);
            plan.user = "1000".into();
            plan.spec.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
            let (code, _, err) = run(&bench, &mut plan).unwrap();
            assert_eq!(code, 0, "{path} {planted:?}: {err}");
            canary.assert_whole();
            bench.assert_nothing_is_left();
        }
    }
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Mount {
    let mut made = mount(destination, "bind", &[&["bind"][..], options].concat());
    made.source = source.display().to_string();
    made
}

#[test]
fn a_file_bound_into_the_image_covers_what_is_there_and_never_what_a_link_names_outside() {
    for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        for planted in Planted::ALL {
            let (bench, canary) = with_planted(file, planted);
            let ours = bench.path("ours");
            std::fs::write(&ours, "ours").unwrap();
            let mut plan = plan(&bench, &["cat", file]);
            plan.spec.mounts.push(bind(&ours, file, &["ro"]));
            let found = run(&bench, &mut plan);
            if planted == Planted::Directory {
                assert!(found.unwrap_err().text.contains(file));
            } else {
                assert_eq!(found.unwrap().1, "ours", "{file} {planted:?}");
            }
            canary.assert_whole();
            bench.assert_nothing_is_left();
        }
    }
}

#[test]
fn links_that_one_run_plants_are_followed_inside_the_root_by_the_next() {
    let (bench, canary) = (Bench::new(), Canary::new());
    let outside = canary.path().display();
    let script = format!(
        "rm -r /etc && ln -s {outside}/directory /etc && ln -s ../../../../../../{outside}/volume /data && ln -s /data /more"
    );
    // An overlay that was mounted as volatile cannot be mounted again.
    let durable = |bench: &Bench, args: &[&str]| {
        let mut plan = plan(bench, args);
        plan.root.volatile = false;
        plan
    };
    let mut first = durable(&bench, &["sh", "-c", &script]);
    assert_eq!(run(&bench, &mut first).unwrap().0, 0);
    std::fs::remove_file(bench.log()).unwrap();
    let ours = bench.path("ours");
    std::fs::write(&ours, "ours").unwrap();
    let volume = bench.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let mut second =
        durable(&bench, &["sh", "-c", "cat /etc/hosts; echo x > /data/file; echo y > /more/deep/other"]);
    second.spec.mounts.extend([
        bind(&ours, "/etc/hosts", &[]),
        bind(&volume, "/data", &[]),
        mount("/more/deep", "tmpfs", &["nosuid"]),
    ]);
    let (code, out, err) = run(&bench, &mut second).unwrap();
    assert_eq!((code, out.as_str()), (0, "ours"), "{err}");
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "x\n");
    canary.assert_whole();
    bench.assert_nothing_is_left();
}

#[test]
fn nothing_but_procfs_is_mounted_over_procfs() {
    let start = |destination: &str, kind: &str, link: Option<&str>| {
        let bench = Bench::new();
        let volume = bench.path("volume");
        std::fs::create_dir(&volume).unwrap();
        if let Some(target) = link {
            std::os::unix::fs::symlink(target, bench.path("root").join(&destination[1..])).unwrap();
        }
        let mut plan = plan(&bench, &["sh", "-c", "cat /proc/1/comm"]);
        plan.spec.mounts.push(match kind {
            "bind" => bind(&volume, destination, &[]),
            kind => mount(destination, kind, &[]),
        });
        let found = run(&bench, &mut plan);
        bench.assert_nothing_is_left();
        found
    };
    for kind in ["bind", "tmpfs"] {
        for (destination, link) in [
            ("/proc", None),
            ("/proc/", None),
            ("/proc/self", None),
            ("/proc/self/attr", None),
            ("/proc/1", None),
            ("/proc/sys/kernel", None),
            ("/data/../proc/self", None),
            ("/data", Some("/proc")),
            ("/data", Some("/proc/self")),
            ("/data", Some("proc/sys")),
        ] {
            let found = start(destination, kind, link);
            let text = found.expect_err(&format!("{kind} on {destination} {link:?} is refused")).text;
            assert!(text.contains("/proc"), "{text}");
        }
        for destination in ["/data", "/processes", "/data/proc"] {
            assert_eq!(start(destination, kind, None).unwrap().0, 0, "{kind} on {destination}");
        }
    }
}

/// The paths that Docker masks and protects.
fn with_docker_paths(plan: &mut Plan) {
    let linux = plan.spec.linux.as_mut().unwrap();
    let owned = |paths: &[&str]| paths.iter().map(ToString::to_string).collect();
    linux.masked_paths = owned(&[
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]);
    linux.readonly_paths = owned(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
}

#[test]
fn masked_paths_are_empty_and_protected_ones_cannot_be_written() {
    let bench = Bench::new();
    let script = r#"for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats \
            /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware; do
            if test -d $path; then test -z "$(ls -A $path)" || echo "$path is not empty"
                (mkdir $path/evil) 2>/dev/null && echo "$path takes directories"
            elif test -e $path; then
                test "$(stat -c %t:%T $path)" = 1:3 || echo "$path is $(stat -c %F $path)"
                test -z "$(head -c 1 $path)" || echo "$path can be read"
            fi
        done
        for path in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/irq/default_smp_affinity \
            /sys/kernel/mm/transparent_hugepage/enabled; do
            test -e $path || continue
            (echo x > $path) 2>/dev/null && echo "$path was written"
        done
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted
        umount /proc/kcore 2>/dev/null && echo unmounted
        test -c /proc/keys && test -d /proc/sys && echo looked"#;
    let mut plan = plan(&bench, &["sh", "-c", script]);
    with_docker_paths(&mut plan);
    let (code, out, err) = run(&bench, &mut plan).unwrap();
    assert_eq!((code, out.as_str()), (0, "looked\n"), "{err}");
    bench.assert_nothing_is_left();
}

#[test]
fn a_mask_over_a_link_of_the_image_covers_its_target_inside() {
    let (bench, canary) = (Bench::new(), Canary::new());
    let root = bench.path("root");
    std::fs::write(root.join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("/secret", root.join("link")).unwrap();
    plant(&root, "/out", Planted::AbsoluteLink, &canary);
    let mut plan = plan(
        &bench,
        &["sh", "-c", "cat /secret /link; stat -c %t:%T /secret; cat /in/plain; echo x > /in/plain"],
    );
    std::fs::create_dir(root.join("in")).unwrap();
    std::fs::write(root.join("in/plain"), "plain\n").unwrap();
    let linux = plan.spec.linux.as_mut().unwrap();
    linux.masked_paths.extend(["/link".into(), "/out".into(), "/none".into()]);
    linux.readonly_paths.push("/in".into());
    let (code, out, err) = run(&bench, &mut plan).unwrap();
    assert_eq!((code, out.as_str()), (1, "1:3\nplain\n"), "{err}");
    assert!(err.contains("Read-only"), "{err}");
    canary.assert_whole();
    bench.assert_nothing_is_left();
}

#[test]
fn a_read_only_root_takes_nothing_and_its_volumes_do() {
    let bench = Bench::new();
    let volume = bench.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let script = "for path in / /etc /bin /tmp; do touch $path/x 2>/dev/null && echo $path; done; touch /data/x /dev/shm/x && echo done";
    let mut plan = plan(&bench, &["sh", "-c", script]);
    plan.spec.root.as_mut().unwrap().readonly = true;
    plan.spec.mounts.push(bind(&volume, "/data", &[]));
    let (code, out, err) = run(&bench, &mut plan).unwrap();
    assert_eq!((code, out.as_str()), (0, "done\n"), "{err}");
    assert!(volume.join("x").exists());
    bench.assert_nothing_is_left();
}

#[test]
fn a_device_that_goes_to_the_user_is_never_a_file_of_a_mount_that_covers_it() {
    let bench = Bench::new();
    let source = bench.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("device"), "").unwrap();
    let device = |path: &str| Device {
        path: path.into(),
        kind: "c".into(),
        major: 1,
        minor: 3,
        file_mode: None,
        uid: None,
        gid: None,
    };
    let mut plan = plan(&bench, &["stat", "-c", "%u", "/dev/seen", "/dev/covered/device"]);
    plan.user = "1000".into();
    plan.spec.linux.as_mut().unwrap().devices = vec![device("/dev/seen"), device("/dev/covered/device")];
    plan.spec.mounts.push(bind(&source, "/dev/covered", &[]));
    let (code, out, err) = run(&bench, &mut plan).unwrap();
    assert_eq!((code, out.as_str()), (0, "1000\n0\n"), "{err}");
    assert_eq!(std::fs::metadata(source.join("device")).unwrap().uid(), 0, "the host's file is the host's");
    bench.assert_nothing_is_left();
}
