//! Volumes whose options mount something: a file system in memory, a directory of the host, a device.

use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use std::fs;
use std::path::Path;

fn create(engine: &Engine, name: &str, options: &[&str]) -> Output {
    let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
    engine.docker(&[&["volume", "create"], &options[..], &[name]].concat())
}

fn run(engine: &Engine, mount: &str, script: &str) -> Output {
    engine.docker(&["run", "--rm", "-v", mount, SMALL, "sh", "-c", script])
}

/// A container that waits, with a volume.
fn waits(engine: &Engine, name: &str, mount: &str) -> String {
    let name = engine.name(name);
    engine.docker(&["run", "-d", "--name", &name, "-v", mount, SMALL, "sleep", "1000"]).ok();
    name
}

fn exec(engine: &Engine, name: &str, script: &str) -> Output {
    engine.docker(&["exec", name, "sh", "-c", script])
}

/// The options of a file system in memory.
const TMPFS: [&str; 3] = ["type=tmpfs", "device=tmpfs", "o=size=1m,uid=1000,nosuid"];

fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("procfs is there")
}

#[test]
fn a_file_system_in_memory_is_shared_while_it_is_used_and_new_afterwards() {
    let engine = Engine::start();
    let volume = engine.name("memory");
    create(&engine, &volume, &TMPFS).ok();
    let before = host_mounts();
    let mount = format!("{volume}:/v");
    let first = waits(&engine, "first", &mount);
    let shown = exec(&engine, &first, "grep ' /v ' /proc/mounts; stat -c %u /v; echo kept > /v/file").ok();
    assert!(
        shown.starts_with("tmpfs /v tmpfs rw,nosuid,") && shown.contains("size=1024k,uid=1000"),
        "{shown}"
    );
    assert!(shown.ends_with("\n1000"), "{shown}");
    if !engine.is_original() {
        assert_eq!(host_mounts(), before, "nobody else sees it");
    }
    let second = waits(&engine, "second", &mount);
    assert_eq!(exec(&engine, &second, "cat /v/file; echo more >> /v/file").ok(), "kept");
    let full = exec(&engine, &second, "dd if=/dev/zero of=/v/large bs=1M count=2 2>&1; rm /v/large");
    assert!(full.stdout.contains("No space left"), "{}", full.stdout);
    let part = format!("type=volume,src={volume},dst=/p,volume-subpath=file");
    assert_eq!(engine.docker(&["run", "--rm", "--mount", &part, SMALL, "cat", "/p"]).ok(), "kept\nmore");
    assert_eq!(run(&engine, &format!("{mount}:ro"), "touch /v/x 2>&1 || cat /v/file").ok(), {
        "touch: /v/x: Read-only file system\nkept\nmore"
    });
    let copied = engine.directory().join("copied");
    let copy = |from: &str| engine.docker(&["cp", from, copied.to_str().unwrap()]).ok();
    copy(&format!("{first}:/v/file"));
    assert_eq!(fs::read_to_string(&copied).unwrap(), "kept\nmore\n");
    engine.docker(&["volume", "rm", &volume]).refused(1, "volume is in use");
    engine.docker(&["restart", "-t", "0", &first]).ok();
    assert_eq!(exec(&engine, &first, "cat /v/file").ok(), "kept\nmore");
    // Who does not run does not keep it.
    engine.docker(&["stop", "-t", "0", &first, &second]).ok();
    engine.docker(&["start", &first]).ok();
    assert_eq!(exec(&engine, &first, "ls -A /v").ok(), "");
    engine.docker(&["rm", "-f", &first, &second]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn a_directory_of_the_host_is_a_volume() {
    let engine = Engine::start();
    let (directory, seen) = engine.shared_directory();
    fs::create_dir_all(directory.join("bound")).unwrap();
    fs::write(directory.join("bound/file"), "of the host\n").unwrap();
    let device = format!("device={}/bound", seen.display());
    let (volume, read_only) = (engine.name("bound"), engine.name("reading"));
    create(&engine, &volume, &["type=none", "o=bind", &device]).ok();
    create(&engine, &read_only, &["type=none", "o=bind,ro", &device]).ok();
    assert_eq!(run(&engine, &format!("{volume}:/v"), "cat /v/file; echo new > /v/new").ok(), "of the host");
    assert_eq!(fs::read_to_string(directory.join("bound/new")).unwrap(), "new\n");
    run(&engine, &format!("{read_only}:/v"), "echo x > /v/x").refused(1, "Read-only file system");
    assert!(!directory.join("bound/x").exists());
    // A container that does not run has its files all the same.
    let made = engine.name("made");
    engine.docker(&["create", "--name", &made, "-v", &format!("{volume}:/v"), SMALL, "true"]).ok();
    let copied = engine.directory().join("copied");
    engine.docker(&["cp", &format!("{made}:/v/new"), copied.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&copied).unwrap(), "new\n");
    engine.docker(&["cp", copied.to_str().unwrap(), &format!("{made}:/v/back")]).ok();
    assert_eq!(fs::read_to_string(directory.join("bound/back")).unwrap(), "new\n");
    engine.docker(&["rm", &made]).ok();
    engine.docker(&["volume", "rm", &volume, &read_only]).ok();
    assert!(directory.join("bound/file").exists(), "what is bound is not the volume's to remove");
    fs::remove_dir_all(directory.join("bound")).unwrap();
}

#[test]
fn an_empty_directory_begins_with_what_the_image_has_there() {
    let engine = Engine::start();
    let (directory, seen) = engine.shared_directory();
    fs::create_dir_all(directory.join("empty")).unwrap();
    let device = format!("device={}/empty", seen.display());
    let volume = engine.name("filled");
    create(&engine, &volume, &["type=none", "o=bind", &device]).ok();
    let list = |mount: &str| engine.docker(&["run", "--rm", "-v", mount, SMALL, "/bin/busybox", "true"]);
    list(&format!("{volume}:/bin:nocopy")).refused(127, "no such file or directory");
    list(&format!("{volume}:/bin")).ok();
    assert!(fs::symlink_metadata(directory.join("empty/sh")).is_ok());
    engine.docker(&["volume", "rm", &volume]).ok();
    fs::remove_dir_all(directory.join("empty")).unwrap();
}

#[test]
fn what_cannot_be_mounted_is_told_when_it_is_needed() {
    let engine = Engine::start();
    for (options, words) in [
        (&["type=tmpfs", "device=tmpfs", "o=size=much"][..], "invalid argument"),
        (&["type=nothing", "device=nothing"], "no such device"),
        (&["type=none", "o=bind", "device=/nowhere/at/all"], "no such file or directory"),
        (&["type=ext4", "device=/nowhere/at/all"], "no such file or directory"),
    ] {
        let volume = engine.name("wrong");
        create(&engine, &volume, options).ok();
        let refused = run(&engine, &format!("{volume}:/v"), "true");
        // The command takes what is not there for the program.
        assert!(matches!(refused.code, 125 | 127), "{}", refused.stderr);
        let text = refused.stderr.to_lowercase();
        assert!(text.contains("failed to mount local volume") && text.contains(words), "{text}");
        let left = engine.docker(&["ps", "-aq", "--filter", &format!("volume={volume}")]).ok();
        for id in left.lines() {
            engine.docker(&["rm", id]).ok();
        }
        engine.docker(&["volume", "rm", &volume]).ok();
    }
    let volume = engine.name("refused");
    create(&engine, &volume, &["type=tmpfs"]).refused(1, "missing required option: \"device\"");
    create(&engine, &volume, &["device=tmpfs"]).refused(1, "missing required option: \"type\"");
    if !engine.is_original() {
        let shared = ["type=none", "device=/tmp", "o=bind,rshared"];
        create(&engine, &volume, &shared).refused(1, "\"rshared\" is nothing that a volume's mount can have");
    }
}

#[test]
fn volumes_that_mount_something_are_not_pruned() {
    let engine = Engine::start();
    if engine.is_original() {
        // It spares them too, but others' volumes would go.
        return;
    }
    let volume = engine.name("spared");
    create(&engine, &volume, &TMPFS).ok();
    engine.docker(&["volume", "prune", "-af"]).ok();
    assert_eq!(engine.docker(&["volume", "ls", "-q"]).ok(), volume);
    let shown = engine.docker(&["volume", "inspect", "-f", "{{.Options.type}} {{.Options.o}}", &volume]).ok();
    assert_eq!(shown, "tmpfs size=1m,uid=1000,nosuid");
    engine.docker(&["system", "df", "-v"]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn an_engine_that_is_started_again_finds_what_its_containers_have_mounted() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let volume = engine.name("memory");
    create(&engine, &volume, &TMPFS).ok();
    let mount = format!("{volume}:/v");
    let first = waits(&engine, "first", &mount);
    exec(&engine, &first, "echo kept > /v/file").ok();
    for turn in 0..2 {
        engine.kill();
        engine.start_again();
        assert_eq!(run(&engine, &mount, &format!("cat /v/file; echo {turn} > /v/turn{turn}")).ok(), "kept");
        assert_eq!(exec(&engine, &first, &format!("cat /v/turn{turn}")).ok(), turn.to_string());
    }
    // The last that has it may be one that this engine has not started.
    engine.docker(&["rm", "-f", &first]).ok();
    assert_eq!(run(&engine, &mount, "ls -A /v").ok(), "");
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn containers_that_start_at_once_share_one_file_system() {
    let engine = Engine::start();
    let volume = engine.name("memory");
    create(&engine, &volume, &TMPFS).ok();
    let mount = format!("{volume}:/v");
    let names: Vec<String> = std::thread::scope(|scope| {
        let (engine, mount) = (&engine, &mount);
        let started: Vec<_> = (0..6)
            .map(|number| scope.spawn(move || waits(engine, &format!("at-once{number}"), mount)))
            .collect();
        started.into_iter().map(|started| started.join().unwrap()).collect()
    });
    for (number, name) in names.iter().enumerate() {
        exec(&engine, name, &format!("touch /v/{number}")).ok();
    }
    for name in &names {
        assert_eq!(exec(&engine, name, "ls /v").ok(), "0\n1\n2\n3\n4\n5");
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    engine.docker(&[&["rm", "-f"], &all[..]].concat()).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn owners_in_a_file_system_of_a_volume_are_those_of_the_container() {
    let engine = Engine::start_remapped(700_000, &[]);
    if engine.is_original() {
        return;
    }
    let volume = engine.name("memory");
    create(&engine, &volume, &TMPFS).ok();
    let mount = format!("{volume}:/v");
    let first = waits(&engine, "first", &mount);
    assert_eq!(exec(&engine, &first, "stat -c %u /v; echo x > /v/file; stat -c %u /v/file").ok(), "1000\n0");
    let options = ["run", "--rm", "--userns=host", "-v", &mount, SMALL, "stat", "-c", "%u", "/v", "/v/file"];
    assert_eq!(engine.docker(&options).ok(), "1000\n0");
    // What is the host's stays the host's.
    let (directory, seen) = engine.shared_directory();
    fs::write(directory.join("file"), "").unwrap();
    let bound = engine.name("bound");
    create(&engine, &bound, &["type=none", "o=bind", &format!("device={}", seen.display())]).ok();
    assert_eq!(run(&engine, &format!("{bound}:/v:nocopy"), "stat -c %u /v/file").ok(), "65534");
    engine.docker(&["rm", "-f", &first]).ok();
    engine.docker(&["volume", "rm", &volume, &bound]).ok();
}

/// A block device with an ext4 file system in it, as long as this lives.
struct Device(String);

impl Device {
    /// Nothing where this machine has no loop devices, or cannot make file systems.
    fn of(file: &Path) -> Option<Self> {
        let run = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        fs::File::create(file).and_then(|file| file.set_len(8 << 20)).ok()?;
        let file = file.to_str()?;
        run("mkfs.ext4", &["-q", file])?;
        run("losetup", &["--find", "--show", file]).map(Self)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let detached = std::process::Command::new("losetup").args(["--detach", &self.0]).status();
        assert!(detached.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_device_is_mounted_with_the_first_container_and_unmounted_with_the_last() {
    let engine = Engine::start();
    let Some(device) = Device::of(&engine.directory().join("disk")) else { return };
    let volume = engine.name("disk");
    create(&engine, &volume, &["type=ext4", "o=noatime", &format!("device={}", device.0)]).ok();
    let mount = format!("{volume}:/v");
    let first = waits(&engine, "first", &mount);
    let shown = exec(&engine, &first, "grep ' /v ' /proc/mounts; echo kept > /v/file").ok();
    assert!(shown.starts_with(&format!("{} /v ext4 rw,noatime", device.0)), "{shown}");
    assert_eq!(run(&engine, &mount, "cat /v/file").ok(), "kept");
    engine.docker(&["rm", "-f", &first]).ok();
    assert_eq!(run(&engine, &mount, "cat /v/file").ok(), "kept");
    engine.docker(&["volume", "rm", &volume]).ok();
    // Nobody has it any more, or it could not be opened alone.
    coracle_tests::engine::wait_until("the device is free", || {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::EXCL;
        rustix::fs::open(&device.0, flags, rustix::fs::Mode::empty()).is_ok()
    });
}
