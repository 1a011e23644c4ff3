//! Parts of volumes, images, and what is mounted below a mount.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;

/// A volume with files, directories and links, some of which lead out of it.
fn volume(engine: &Engine) -> String {
    let name = engine.name("parts");
    let script = "cd /v && mkdir -p sub/deep empty && echo inside > sub/file && echo deep > sub/deep/file
        ln -s sub good && ln -s / root && ln -s root bad && ln -s ../.. up && ln -s /v/sub absolute";
    let mount = format!("{name}:/v");
    engine.docker(&["run", "--rm", "-v", &mount, SMALL, "sh", "-c", script]).ok();
    name
}

fn part(volume: &str, subpath: &str, more: &str) -> String {
    format!("type=volume,src={volume},dst=/x,volume-subpath={subpath}{more}")
}

#[test]
fn a_part_of_a_volume_is_all_that_a_container_sees() {
    let engine = Engine::start();
    let volume = volume(&engine);
    let run = |mount: &str, script: &str| {
        engine.docker(&["run", "--rm", "--mount", mount, SMALL, "sh", "-c", script])
    };
    assert_eq!(
        run(&part(&volume, "sub", ""), "cat /x/file; echo more >> /x/file; ls /x").ok(),
        "inside\ndeep\nfile"
    );
    assert_eq!(run(&part(&volume, "sub/deep/file", ""), "cat /x").ok(), "deep");
    assert_eq!(run(&part(&volume, "good", ""), "cat /x/file").ok(), "inside\nmore");
    assert_eq!(run(&part(&volume, "sub/../sub/deep", ""), "cat /x/file").ok(), "deep");
    let read_only = run(&part(&volume, "sub", ",readonly"), "cat /x/file; touch /x/new");
    assert_eq!(read_only.stdout, "inside\nmore\n");
    assert!(read_only.stderr.contains("Read-only file system"), "{}", read_only.stderr);
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn what_leads_out_of_a_volume_or_nowhere_is_refused() {
    let engine = Engine::start();
    let volume = volume(&engine);
    let name = engine.name("refused");
    for (subpath, expected) in [
        ("nowhere", "cannot access path"),
        ("sub/file/below", "cannot access path"),
        ("root", "path concatenation escapes the base directory"),
        ("bad/etc", "path concatenation escapes the base directory"),
        ("up", "path concatenation escapes the base directory"),
    ] {
        engine
            .docker(&["create", "--name", &name, "--mount", &part(&volume, subpath, ""), SMALL, "true"])
            .ok();
        let (status, text) = engine.request("POST", &format!("/v1.45/containers/{name}/start"), None);
        if engine.is_original() && subpath == "sub/file/below" {
            // 500, and other words than for what is not there at all.
            assert!(text.contains("not a directory"), "{text}");
        } else {
            let expected_status = if expected.starts_with("cannot") { 404 } else { 400 };
            assert_eq!((status, text.contains(expected)), (expected_status, true), "{subpath}: {text}");
        }
        engine.docker(&["rm", &name]).ok();
    }
    for subpath in ["../up", "/etc", "sub/../../up"] {
        let mount = part(&volume, subpath, "");
        let refused = engine.docker(&["create", "--name", &name, "--mount", &mount, SMALL, "true"]);
        let text =
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume";
        refused.refused(1, text);
    }
    let anonymous = "type=volume,dst=/x,volume-subpath=a";
    let refused = engine.docker(&["create", "--mount", anonymous, SMALL, "true"]);
    refused.refused(1, "must not set Subpath when using anonymous volumes");
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn a_part_is_found_anew_at_each_start_and_shared_and_copied_as_it_is() {
    let engine = Engine::start();
    let volume = volume(&engine);
    let name = engine.name("first");
    let mount = part(&volume, "sub", "");
    engine.docker(&["create", "--name", &name, "--mount", &mount, SMALL, "cat", "/x/file"]).ok();
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "inside");
    let (all, exchange) = (format!("{volume}:/v"), "cd /v && mv sub old && mkdir sub && echo new > sub/file");
    engine.docker(&["run", "--rm", "-v", &all, SMALL, "sh", "-c", exchange]).ok();
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "new");
    let shared =
        engine.docker(&["run", "--rm", "--volumes-from", &name, SMALL, "sh", "-c", "cat /x/file; ls /x"]);
    assert_eq!(shared.ok(), "new\nfile");
    let copied = engine.directory().join("copied");
    engine.docker(&["cp", &format!("{name}:/x/file"), copied.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(&copied).unwrap(), "new\n");
    let format = "{{range .HostConfig.Mounts}}{{.VolumeOptions.Subpath}}{{end}} {{range .Mounts}}{{.Name}} {{.RW}}{{end}}";
    let shown = engine.docker(&["inspect", "-f", format, &name]).ok();
    assert_eq!(shown, format!("sub {volume} true"));
    // Links that lead out are no way for copies either.
    let exchange = "cd /v && rm -r sub && ln -s / sub";
    engine.docker(&["run", "--rm", "-v", &all, SMALL, "sh", "-c", exchange]).ok();
    engine.docker(&["start", "-a", &name]).refused(1, "path concatenation escapes the base directory");
    let refused = engine.docker(&["cp", &format!("{name}:/x/etc"), copied.to_str().unwrap()]);
    refused.refused(1, "path concatenation escapes the base directory");
    engine.docker(&["rm", &name]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn an_empty_part_begins_with_what_the_image_has_there() {
    let engine = Engine::start();
    let volume = volume(&engine);
    let at = |subpath: &str, more: &str| {
        format!("type=volume,src={volume},dst=/bin,volume-subpath={subpath}{more}")
    };
    let run = |mount: &str| engine.docker(&["run", "--rm", "--mount", mount, SMALL, "ls", "/bin/busybox"]);
    run(&at("empty", ",volume-nocopy")).refused(127, "executable file not found");
    assert_eq!(run(&at("empty", "")).ok(), "/bin/busybox");
    // One that has something keeps that.
    run(&at("sub", "")).refused(127, "executable file not found");
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn a_link_that_is_exchanged_meanwhile_never_leads_out() {
    let engine = Engine::start();
    let volume = volume(&engine);
    let swapper = engine.name("swapper");
    let script = "cd /v && mkdir a && echo inside > a/hostname && ln -s /etc b
        while :; do mv a c; mv b a; mv a b; mv c a; done";
    let all = format!("{volume}:/v");
    engine.docker(&["run", "-d", "--name", &swapper, "-v", &all, SMALL, "sh", "-c", script]).ok();
    for _ in 0..coracle_tests::race_iterations(20) {
        let seen =
            engine.docker(&["run", "--rm", "--mount", &part(&volume, "a", ""), SMALL, "cat", "/x/hostname"]);
        if seen.code == 0 {
            assert_eq!(seen.stdout, "inside\n");
        }
    }
    engine.docker(&["rm", "-f", &swapper]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn mounts_below_a_mount_are_there_and_writable_as_asked_for() {
    let engine = Engine::start();
    // Of each mount below /x the access, as a line.
    let script = "grep -E ' /x/(pts|shm) ' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1 | sort -u";
    let run = |arguments: &[&str]| {
        engine.docker(&[&["run", "--rm"], arguments, &[SMALL, "sh", "-c", script]].concat())
    };
    let mount = |more: &str| run(&["--mount", &format!("type=bind,src=/dev,dst=/x{more}")]);
    for (more, below) in [
        ("", "rw"),
        (",readonly", "ro"),
        (",readonly,bind-recursive=enabled", "ro"),
        (",readonly,bind-recursive=writable", "rw"),
        (",readonly,bind-recursive=readonly,bind-propagation=rprivate", "ro"),
        (",bind-recursive=disabled", ""),
        (",readonly,bind-recursive=disabled", ""),
        (",bind-nonrecursive", ""),
    ] {
        assert_eq!(mount(more).ok(), below, "{more}");
    }
    assert_eq!(run(&["-v", "/dev:/x:ro"]).ok(), "ro");
    let format = "{{range .HostConfig.Mounts}}{{json .BindOptions}}{{end}}";
    let name = engine.name("shown");
    let asked = "type=bind,src=/dev,dst=/x,readonly,bind-recursive=writable";
    engine.docker(&["create", "--name", &name, "--mount", asked, SMALL, "true"]).ok();
    assert_eq!(engine.docker(&["inspect", "-f", format, &name]).ok(), r#"{"ReadOnlyNonRecursive":true}"#);
    engine.docker(&["rm", &name]).ok();
}

/// Creates a container by an API version, and gives its answer.
fn create(engine: &Engine, version: &str, name: &str, host: &str) -> (u16, String) {
    let command = r#"["sh", "-c", "grep -E ' /x/(pts|shm) ' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1 | sort -u"]"#;
    let body = format!(r#"{{"Image": "{SMALL}", "Cmd": {command}, "HostConfig": {host}}}"#);
    engine.request("POST", &format!("/{version}/containers/create?name={name}"), Some(&body))
}

#[test]
fn old_clients_get_what_they_know() {
    let engine = Engine::start();
    let name = engine.name("old");
    let bind = |more: &str| {
        format!(
            r#"{{"Mounts": [{{"Type": "bind", "Source": "/dev", "Target": "/x", "ReadOnly": true{more}}}]}}"#
        )
    };
    for (version, host, below) in [
        ("v1.43", r#"{"Binds": ["/dev:/x:ro"]}"#.to_owned(), "rw"),
        ("v1.44", r#"{"Binds": ["/dev:/x:ro"]}"#.to_owned(), "ro"),
        ("v1.43", bind(""), "rw"),
        ("v1.44", bind(""), "ro"),
    ] {
        let (status, text) = create(&engine, version, &name, &host);
        assert_eq!(status, 201, "{text}");
        assert_eq!(engine.docker(&["start", "-a", &name]).ok(), below, "{version} {host}");
        engine.docker(&["rm", &name]).ok();
    }
    for (version, host, expected) in [
        (
            "v1.43",
            bind(r#", "BindOptions": {"ReadOnlyForceRecursive": true}"#),
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ),
        (
            "v1.44",
            r#"{"Mounts": [{"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"Subpath": "a"}}]}"#.to_owned(),
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ),
        (
            "v1.42",
            bind(r#", "VolumeOptions": {}"#),
            r#"VolumeOptions must not be specified on mount type \"bind\""#,
        ),
    ] {
        let (status, text) = create(&engine, version, &name, &host);
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn an_image_is_mounted_read_only_and_stays_as_long_as_a_container_has_it() {
    let engine = Engine::start();
    if engine.is_original() {
        // Docker has it since API 1.48.
        return;
    }
    let (image, name) = (engine.name("content"), engine.name("mounts"));
    let dockerfile = format!(
        "FROM {SMALL}\nRUN mkdir -p /data/sub && echo one > /data/file && echo two > /data/sub/file && ln -s / /data/out"
    );
    engine.docker_with_input(&["build", "-t", &image, "-"], dockerfile.as_bytes()).ok();
    let run = |more: &str, script: &str| {
        let mount = format!("type=image,src={image},dst=/x{more}");
        engine.coracle(&["run", "--rm", "--mount", &mount, SMALL, "sh", "-c", script])
    };
    assert_eq!(run("", "cat /x/data/file; test -x /x/bin/busybox && echo all").ok(), "one\nall");
    assert_eq!(run(",image-subpath=data/sub", "cat /x/file; ls /x").ok(), "two\nfile");
    assert_eq!(run(",image-subpath=data/file", "cat /x").ok(), "one");
    let written = run("", "touch /x/new");
    assert!(written.stderr.contains("Read-only file system"), "{}", written.stderr);
    run(",image-subpath=data/out", "true").refused(125, "path concatenation escapes the base directory");
    run(",image-subpath=none", "true").refused(125, "cannot access path");
    run(",image-subpath=../x", "true").refused(125, "subpath must be a relative path within the image");
    let mount = format!("type=image,src={image},dst=/x,image-subpath=data");
    engine.coracle(&["create", "--name", &name, "--mount", &mount, SMALL, "cat", "/x/file"]).ok();
    let refused = engine.docker(&["rmi", &image]);
    assert!(refused.stderr.contains("is using its referenced image"), "{}", refused.stderr);
    let format = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}";
    assert_eq!(engine.docker(&["inspect", "-f", format, &name]).ok(), format!("image {image} /x false"));
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "one");
    assert_eq!(engine.docker(&["cp", &format!("{name}:/x/file"), "-"]).code, 0);
    // Its content stays without the image, as that of the container's own.
    engine.docker(&["rmi", "-f", &image]).ok();
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "one");
    engine.docker(&["rm", &name]).ok();
    let mount = r#"{"Mounts": [{"Type": "image", "Source": "none:1", "Target": "/x"}]}"#;
    let (status, text) = create(&engine, "v1.48", &name, mount);
    assert_eq!((status, text.contains("No such image: none:1")), (404, true), "{text}");
    let mount = r#"{"Mounts": [{"Type": "image", "Source": "x", "Target": "/x"}]}"#;
    let (status, text) = create(&engine, "v1.47", &name, mount);
    assert_eq!((status, text.contains("needs API v1.48 or newer")), (400, true), "{text}");
}

#[test]
fn mounts_without_paths_are_there_again_after_the_engine_was_killed() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let volume = volume(&engine);
    let name = engine.name("killed");
    let image = format!("type=image,src={SMALL},dst=/y,image-subpath=bin");
    let (part, dev) = (part(&volume, "sub", ""), "type=bind,src=/dev,dst=/z,bind-recursive=disabled");
    let script = "cat /x/file; ls /y/busybox; grep -c ' /z/' /proc/self/mountinfo";
    let arguments = ["create", "--name", &name, "--mount", &part, "--mount", &image, "--mount", dev];
    engine.coracle(&[&arguments[..], &[SMALL, "sh", "-c", script]].concat()).ok();
    engine.kill();
    engine.start_again();
    let output = engine.docker(&["start", "-a", &name]);
    assert_eq!(output.stdout, "inside\n/y/busybox\n0\n", "{}", output.stderr);
    engine.docker(&["rm", &name]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}
