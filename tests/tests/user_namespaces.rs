//! Containers whose users are others outside (`--userns-remap`). The original has to be started with that option, and is asked the
//! same: `TARGET=… TARGET_REMAPPED=1`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use coracle_tests::image::SMALL;
use coracle_tests::{Engine, users};

/// Where the ids of our engines begin.
const FIRST: u32 = 300_000;

/// An engine that remaps; none where the original under test does not.
fn remapped(arguments: &[&str]) -> Option<Engine> {
    if std::env::var_os("RUNTIME").is_some() {
        // Other runtimes are given no user namespace.
        return None;
    }
    let is_original = std::env::var_os("TARGET").is_some();
    let remaps = !is_original || std::env::var_os("TARGET_REMAPPED").is_some();
    remaps.then(|| Engine::start_remapped(FIRST, arguments))
}

/// What a container of the small image says, that ends well.
fn said(engine: &Engine, options: &[&str], script: &str) -> String {
    let arguments = [&["run", "--rm"], options, &[SMALL, "sh", "-c", script]].concat();
    engine.docker(&arguments).ok().trim().to_owned()
}

/// A container that waits to be used. Its name.
fn waits(engine: &Engine, name: &str, options: &[&str]) -> String {
    let name = engine.name(name);
    let named = ["run", "-d", "--name", &name];
    engine.docker(&[&named[..], options, &[SMALL, "sleep", "1000"]].concat()).ok();
    name
}

fn inside(engine: &Engine, container: &str, script: &str) -> String {
    engine.docker(&["exec", container, "sh", "-c", script]).ok().trim().to_owned()
}

fn inspect(engine: &Engine, container: &str, format: &str) -> String {
    engine.docker(&["inspect", "--format", format, container]).ok().trim().to_owned()
}

/// The id outside of a container's root.
fn root_outside(engine: &Engine) -> u32 {
    let map = said(engine, &[], "cat /proc/self/uid_map");
    let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((words[0], words[2]), (0, users::COUNT), "{map}");
    words[1]
}

#[test]
fn root_of_a_container_is_nobody_outside() {
    let Some(engine) = remapped(&[]) else { return };
    let first = root_outside(&engine);
    assert!(engine.is_original() || first == FIRST);
    let name = waits(&engine, "root", &[]);
    assert_eq!(
        inside(&engine, &name, "id -u; id -g; stat -c %u:%g / /bin/busybox /proc/1"),
        "0\n0\n0:0\n0:0\n0:0"
    );
    let pid = inspect(&engine, &name, "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("\nUid:\t{first}\t{first}\t{first}\t{first}\n")), "{status}");
    assert!(status.contains(&format!("\nGid:\t{first}\t{first}\t{first}\t{first}\n")), "{status}");
    // All its namespaces are its own, and belong to its user namespace.
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        if kind == "cgroup" && engine.is_original() {
            // Docker's default where cgroups are of the first version.
            continue;
        }
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
        assert_ne!(of(&pid), of("self"), "{kind}");
    }
    let options: Vec<String> =
        serde_json::from_str(&engine.docker(&["info", "--format", "{{json .SecurityOptions}}"]).ok())
            .unwrap();
    assert!(options.contains(&"name=userns".to_owned()), "{options:?}");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn root_of_a_container_writes_owns_and_gives_away_its_files() {
    let Some(engine) = remapped(&[]) else { return };
    let script = "touch /new /etc/passwd && chown 33:77 /new && chmod 4755 /bin/busybox && mkdir -p /a/b && rm -r /home && \
                  stat -c '%n %u:%g %a' /new /etc/passwd /bin/busybox /a/b /tmp && ls /home 2>&1 | grep -c 'No such'";
    let expected =
        "/new 33:77 644\n/etc/passwd 0:0 644\n/bin/busybox 0:0 4755\n/a/b 0:0 755\n/tmp 0:0 1777\n1";
    assert_eq!(said(&engine, &[], script), expected);
    // Users that nobody is outside are nobody's.
    assert_eq!(
        said(&engine, &[], "chown 65536 /tmp 2>&1 | grep -c Invalid; chown 65535 /tmp && stat -c %u /tmp"),
        "1\n65535"
    );
    let stranger = engine.docker(&["run", "--rm", "--user", "70000", SMALL, "true"]);
    assert_ne!(stranger.code, 0);
    if !engine.is_original() {
        assert!(
            stranger.stderr.contains("is nobody in the container's user namespace"),
            "{}",
            stranger.stderr
        );
    }
    let sysctl = ["run", "--rm", "--sysctl", "net.ipv4.ping_group_range=0 100000", SMALL, "true"];
    let refused = engine.docker(&sysctl);
    assert!(refused.code != 0 && refused.stderr.contains("ping_group_range"), "{}", refused.stderr);
    for (option, script) in [
        ("--read-only", "touch /x 2>&1 | grep -c Read-only"),
        ("--init", "test $(cat /proc/1/comm | grep -c sh) = 0 && touch /x && echo 1"),
        ("--user=web", "id -u | grep -c 33"),
        ("--tmpfs=/t", "touch /t/x && stat -c %u /t/x | grep -c 0"),
        ("--workdir=/made", "pwd | grep -c made"),
    ] {
        assert_eq!(said(&engine, &[option], script), "1", "{option}");
    }
}

#[test]
fn what_the_kernel_has_for_a_container_works_in_its_namespaces() {
    let Some(engine) = remapped(&[]) else { return };
    let script = "mount | grep -c -E 'on /(proc|sys|dev|dev/pts|dev/mqueue|dev/shm) '; touch /dev/shm/x && echo ok > /dev/null && \
                  head -c 1 /dev/zero | wc -c; touch /dev/mqueue/x && hostname";
    assert_eq!(said(&engine, &["--hostname", "there"], script), "6\n1\nthere");
    let sysctl = ["--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "kernel.msgmax=9000"];
    assert_eq!(
        said(&engine, &sysctl, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"),
        "0\n9000"
    );
    assert_eq!(said(&engine, &["--network", "none"], "ls /sys/class/net"), "lo");
    // Whoever is in a terminal may open it, and what is no terminal, again.
    assert_eq!(
        said(&engine, &["-t"], "echo through > /dev/tty; tty").replace('\r', ""),
        "through\n/dev/pts/0"
    );
    assert_eq!(said(&engine, &[], "echo through > /dev/stdout"), "through");
    assert_eq!(said(&engine, &["--user", "web"], "echo through > /dev/stdout"), "through");
    let limits = ["--ulimit", "nofile=64:128", "--oom-score-adj", "5"];
    assert_eq!(said(&engine, &limits, "ulimit -Hn; ulimit -n; cat /proc/self/oom_score_adj"), "128\n64\n5");
    // Names resolve, and the files that say who it is are its own.
    assert_eq!(
        said(
            &engine,
            &[],
            "echo '10.0.0.9 added' >> /etc/hosts && grep -c added /etc/hosts; stat -c %u /etc/resolv.conf"
        ),
        "1\n0"
    );
}

#[test]
fn a_container_cannot_do_to_the_host_what_only_its_root_may() {
    let Some(engine) = remapped(&[]) else { return };
    let all = [
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
    ];
    let script = "mknod /x c 1 3 2>&1 | grep -c permitted; echo x > /proc/sys/kernel/core_pattern || echo refused; \
                  echo b > /proc/sysrq-trigger || echo refused; dmesg 2>&1 | grep -c permitted; \
                  mount -t ext4 /dev/vda /mnt 2>&1 | wc -l; cat /proc/1/environ > /dev/null && echo own; \
                  mkdir -p /m && mount -t tmpfs tmpfs /m && echo mounted";
    let answer = said(&engine, &all, &format!("({script}) 2> /dev/null"));
    assert_eq!(answer, "1\nrefused\nrefused\n1\n1\nown\nmounted");
    // It has every capability, in its own namespace alone.
    assert_eq!(said(&engine, &all, "grep CapEff /proc/self/status").len(), "CapEff:\t000001ffffffffff".len());
}

#[test]
fn what_needs_the_host_is_refused_but_with_its_user_namespace() {
    let Some(engine) = remapped(&[]) else { return };
    for (field, value, reason) in [
        (
            "Privileged",
            "true",
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when \
             running privileged mode",
        ),
        (
            "NetworkMode",
            "\"host\"",
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        ("PidMode", "\"host\"", "cannot share the host PID namespace when user namespaces are enabled"),
    ] {
        let create = |more: &str| {
            let body =
                format!(r#"{{"Image":"{SMALL}","Cmd":["true"],"HostConfig":{{"{field}":{value}{more}}}}}"#);
            engine.request("POST", "/containers/create", Some(&body))
        };
        let (status, text) = create("");
        assert_eq!(status, 400, "{field}: {text}");
        assert!(text.contains(reason), "{field}: {text}");
        let (status, text) = create(r#","UsernsMode":"host""#);
        assert_eq!(status, 201, "{field}: {text}");
        let id: serde_json::Value = serde_json::from_str(&text).unwrap();
        engine.docker(&["start", "-a", id["Id"].as_str().unwrap()]).ok();
        engine.docker(&["rm", id["Id"].as_str().unwrap()]).ok();
    }
    let name = waits(&engine, "hosts", &["--userns", "host"]);
    assert_eq!(inspect(&engine, &name, "{{.HostConfig.UsernsMode}}"), "host");
    let pid = inspect(&engine, &name, "{{.State.Pid}}");
    let user = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).unwrap();
    assert_eq!(user(&pid), user("self"));
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn commands_in_a_running_container_are_in_its_user_namespace() {
    let Some(engine) = remapped(&[]) else { return };
    let name = waits(&engine, "execs", &["--ulimit", "nofile=1000:2000", "--oom-score-adj", "3"]);
    let first = inside(&engine, &name, "readlink /proc/1/ns/user");
    let look = "readlink /proc/self/ns/user; id -u; cut -d : -f 2 /proc/self/cgroup | wc -l | grep -c .; ulimit -Hn; \
                cat /proc/self/oom_score_adj; touch /new && stat -c %u /new; echo again > /dev/stdout";
    let expected = format!("{first}\n0\n1\n2000\n3\n0\nagain");
    assert_eq!(inside(&engine, &name, look), expected);
    let web =
        engine.docker(&["exec", "--user", "web", &name, "sh", "-c", "id -u; echo again > /dev/stdout"]).ok();
    assert_eq!(web, "33\nagain");
    let terminal = engine.docker(&["exec", "-t", &name, "sh", "-c", "tty; stat -c %u $(tty)"]).ok();
    assert_eq!(terminal.replace('\r', ""), "/dev/pts/0\n0");
    let privileged = engine
        .docker(&["exec", "--privileged", &name, "sh", "-c", "mknod /x c 1 3 2>&1 | grep -c permitted"])
        .ok();
    assert_eq!(privileged, "1");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn volumes_are_the_same_for_every_container() {
    let Some(engine) = remapped(&[]) else { return };
    let volume = engine.name("data");
    let mount = format!("{volume}:/data");
    assert_eq!(
        said(
            &engine,
            &["-v", &mount],
            "touch /data/a; chown 33:77 /data/a; touch /data/b; stat -c %u:%g /data"
        ),
        "0:0"
    );
    let look = "stat -c %u:%g /data/a /data/b";
    assert_eq!(said(&engine, &["-v", &mount], look), "33:77\n0:0");
    if !engine.is_original() {
        // Docker gives the directory of the volume to the container's root outside, and has the host's ids in it.
        assert_eq!(said(&engine, &["--userns", "host", "-v", &mount], look), "33:77\n0:0");
        let script = "touch /data/c; chown 5 /data/c";
        said(&engine, &["--userns", "host", "-v", &mount], script);
        assert_eq!(said(&engine, &["-v", &mount], "stat -c %u /data/c"), "5");
    }
    // What the image has there comes along.
    assert_eq!(said(&engine, &["-v", "/tmp"], "stat -c %u:%a /tmp; touch /tmp/x && echo ok"), "0:1777\nok");
    assert_eq!(said(&engine, &["-v", &format!("{mount}:ro")], "touch /data/x 2>&1 | grep -c Read-only"), "1");
    engine.docker(&["volume", "rm", &volume]).ok();
}

/// What no path names is shown as the rest is: a part of a volume, an image.
#[test]
fn parts_of_volumes_and_images_are_its_users() {
    let Some(engine) = remapped(&[]) else { return };
    if engine.is_original() {
        // It has neither of containers with a user namespace of their own data root.
        return;
    }
    let volume = engine.name("parted");
    said(
        &engine,
        &["-v", &format!("{volume}:/data")],
        "mkdir -p /data/a; touch /data/a/b; chown 33:77 /data/a/b",
    );
    let part = format!("type=volume,source={volume},target=/x,volume-subpath=a");
    let script = "stat -c %u:%g /x /x/b; touch /x/c && echo written";
    assert_eq!(said(&engine, &["--mount", &part], script), "0:0\n33:77\nwritten");
    let image = format!("type=image,source={SMALL},target=/x");
    assert_eq!(said(&engine, &["--mount", &image], "stat -c %u:%g /x/bin /x/bin/busybox"), "0:0\n0:0");
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn files_of_the_host_are_its_users() {
    let Some(engine) = remapped(&[]) else { return };
    let first = root_outside(&engine);
    let (ours, seen) = engine.shared_directory();
    std::fs::write(ours.join("roots"), "").unwrap();
    std::fs::write(ours.join("theirs"), "").unwrap();
    std::os::unix::fs::chown(ours.join("theirs"), Some(first + 5), Some(first)).unwrap();
    let mount = format!("{}:/there", seen.display());
    let script = "stat -c %u:%g /there/roots /there/theirs; echo x 2>/dev/null > /there/roots || echo refused; \
                  echo x > /there/theirs && echo written";
    assert_eq!(said(&engine, &["-v", &mount], script), "65534:65534\n5:0\nrefused\nwritten");
    std::fs::remove_dir_all(&ours).unwrap();
}

#[test]
fn namespaces_are_shared_with_containers_in_the_same_user_namespace() {
    let Some(engine) = remapped(&[]) else { return };
    let donor = waits(&engine, "donor", &["--ipc", "shareable"]);
    let user = inside(&engine, &donor, "readlink /proc/1/ns/user");
    let shared = format!("container:{donor}");
    for option in ["--network", "--ipc", "--pid"] {
        let kind = if option == "--network" { "net" } else { &option[2..] };
        let own = inside(&engine, &donor, &format!("readlink /proc/1/ns/{kind}"));
        let script = format!(
            "readlink /proc/self/ns/user; readlink /proc/self/ns/{kind}; touch /x /etc/hosts && ls /sys/class/net | head -1"
        );
        let found = said(&engine, &[option, &shared], &script);
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines[..2], [user.as_str(), own.as_str()], "{option}");
        assert_eq!(lines.len(), 3, "{option}: {found}");
    }
    let hosts = waits(&engine, "hosts", &["--userns", "host"]);
    let refused = engine.docker(&["run", "--rm", "--network", &format!("container:{hosts}"), SMALL, "true"]);
    assert_ne!(refused.code, 0, "{}", refused.stderr);
    if !engine.is_original() {
        assert!(refused.stderr.contains("run with --userns=host to join it"), "{}", refused.stderr);
        let joined = said(&engine, &["--userns", "host", "--network", &shared], "readlink /proc/self/ns/net");
        assert_eq!(joined, inside(&engine, &donor, "readlink /proc/1/ns/net"));
    }
    engine.docker(&["rm", "-f", &donor, &hosts]).ok();
}

/// Unpacks an archive that the docker command gives, and says whose its files are.
fn owners_in(archive: &[u8]) -> Vec<(String, u64, u64)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        let path = entry.path().unwrap().display().to_string();
        (path, header.uid().unwrap(), header.gid().unwrap())
    });
    entries.collect()
}

/// The bytes that the docker command gives.
fn bytes(engine: &Engine, arguments: &[&str]) -> Vec<u8> {
    let output = engine.command("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// An archive with one file of a user.
fn archive_of(name: &str, (uid, gid): (u64, u64)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o4750);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_size(2);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, name, &b"x\n"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn copies_in_and_out_have_the_ids_that_the_container_knows() {
    let Some(engine) = remapped(&[]) else { return };
    let volume = engine.name("copied");
    let mount = format!("{volume}:/data");
    let running = waits(&engine, "running", &["-v", &mount, "--tmpfs", "/t"]);
    let stopped = engine.name("stopped");
    engine
        .docker(&[
            "create", "--name", &stopped, "-v", &mount, SMALL, "stat", "-c", "%u:%g %a", "/f", "/data/s",
        ])
        .ok();
    // Docker does not copy into a tmpfs.
    let own = if engine.is_original() { &["/f", "/data/r"][..] } else { &["/f", "/data/r", "/t/f"] };
    for (container, places) in [(&running, own), (&stopped, &["/f", "/data/s"][..])] {
        for place in places {
            let (directory, name) = place.rsplit_once('/').unwrap();
            let to = format!("{container}:{directory}/");
            let archive = archive_of(name, (33, 77));
            let copied = engine.docker_with_input(&["cp", "-a", "-", &to], &archive);
            assert_eq!(copied.code, 0, "{place}: {}", copied.stderr);
            let back = bytes(&engine, &["cp", &format!("{container}:{place}"), "-"]);
            // Docker's archive has the ids outside.
            if !engine.is_original() {
                assert_eq!(owners_in(&back), [(name.to_owned(), 33, 77)], "{place}");
            }
        }
    }
    let look = format!("stat -c '%u:%g %a' /data/s {}", own.join(" "));
    assert_eq!(inside(&engine, &running, &look), vec!["33:77 4750"; own.len() + 1].join("\n"));
    let seen = engine.docker(&["start", "-a", &stopped]).ok();
    assert_eq!(seen, "33:77 4750\n33:77 4750");
    // Directories that the archive does not describe are root's.
    let deep = archive_of("deep/er/file", (0, 0));
    engine.docker_with_input(&["cp", "-a", "-", &format!("{running}:/tmp")], &deep).ok();
    assert_eq!(
        inside(&engine, &running, "stat -c %u:%g /tmp/deep /tmp/deep/er/file; rm -r /tmp/deep && echo ok"),
        "0:0\n0:0\nok"
    );
    if !engine.is_original() {
        let copied = engine
            .docker_with_input(&["cp", "-a", "-", &format!("{running}:/")], &archive_of("n", (70_000, 0)));
        assert!(
            copied.stderr.contains("its owner is nobody in the container's user namespace"),
            "{}",
            copied.stderr
        );
    }
    engine.docker(&["rm", "-fv", &running, &stopped]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn what_a_container_wrote_becomes_an_archive_and_an_image_with_its_own_ids() {
    let Some(engine) = remapped(&[]) else { return };
    let name = waits(&engine, "writes", &[]);
    inside(&engine, &name, "touch /f && chown 33:77 /f && rm /etc/plain && mkdir /d && chown 5 /d");
    let expected = |found: Vec<(String, u64, u64)>| {
        let of = |wanted: &str| {
            let same = found.iter().find(|(path, ..)| path.trim_end_matches('/') == wanted);
            same.map(|(_, uid, gid)| (*uid, *gid)).unwrap_or_else(|| panic!("{wanted}: {found:?}"))
        };
        assert_eq!([of("f"), of("d"), of("bin/busybox")], [(33, 77), (5, 0), (0, 0)]);
    };
    expected(owners_in(&bytes(&engine, &["export", &name])));
    let diff = engine.docker(&["diff", &name]).ok();
    assert!(diff.contains("A /f") && diff.contains("D /etc/plain") && diff.contains("A /d"), "{diff}");
    let image = engine.name("image");
    engine.docker(&["commit", &name, &image]).ok();
    engine.docker(&["stop", "-t", "0", &name]).ok();
    expected(owners_in(&bytes(&engine, &["export", &name])));
    for options in [&[][..], &["--userns", "host"]] {
        let arguments =
            [&["run", "--rm"], options, &[&image, "stat", "-c", "%u:%g", "/f", "/d", "/bin/busybox"]]
                .concat();
        // Docker's layers have the ids outside.
        if !engine.is_original() || options.is_empty() {
            assert_eq!(engine.docker(&arguments).ok(), "33:77\n5:0\n0:0", "{options:?}");
        }
    }
    engine.docker(&["rm", &name]).ok();
    engine.docker(&["rmi", &image]).ok();
}

/// A directory with a Dockerfile, and a file beside it.
fn context(engine: &Engine, steps: &str) -> std::path::PathBuf {
    let directory = engine.directory().join("context");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("file"), "").unwrap();
    std::fs::write(directory.join("Dockerfile"), format!("FROM {SMALL}\n{steps}")).unwrap();
    directory
}

#[test]
fn steps_of_builds_are_remapped_and_their_files_are_not() {
    let Some(engine) = remapped(&[]) else { return };
    let steps = "RUN cat /proc/self/uid_map > /map && touch /r && chown 33:77 /r\nCOPY --chown=5:6 file /c\n\
                 RUN stat -c %u:%g /r /c >> /seen && chown 7 /c && mkdir /made\nUSER web\nRUN id -u >> /tmp/who\n";
    let directory = context(&engine, steps);
    let (image, place) = (engine.name("built"), directory.display().to_string());
    let arguments = ["build", "--no-cache", "-t", &image, &place];
    for kit in [false, true] {
        if kit {
            engine.plugin_in(&directory, &arguments).ok();
        } else {
            let mut command = engine.command("docker");
            let output = command.env("DOCKER_BUILDKIT", "0").args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let script = "cut -c 1-10 /map; cat /seen /tmp/who; stat -c %u:%g /r /c /made /tmp/who";
        for options in [&[][..], &["--userns", "host"]] {
            let run = [&["run", "--rm"], options, &[&image, "sh", "-c", script]].concat();
            let found = engine.docker(&run).ok();
            // Docker's images have the ids outside, for whoever is there.
            if !engine.is_original() || options.is_empty() {
                assert_eq!(found, "         0\n33:77\n5:6\n33\n33:77\n7:6\n0:0\n33:33", "{options:?}");
            }
        }
        let map = engine.docker(&["run", "--rm", &image, "cat", "/map"]).ok();
        assert!(map.contains(&users::COUNT.to_string()), "{map}");
    }
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn what_builds_mount_belongs_to_users_of_the_container() {
    let Some(engine) = remapped(&[]) else { return };
    let steps = "RUN --mount=type=cache,target=/cache,uid=33 touch /cache/x && stat -c %u /cache /cache/x > /seen\n\
                 RUN --mount=type=secret,id=word,uid=33 stat -c %u:%a /run/secrets/word >> /seen\n\
                 RUN --mount=type=bind,target=/bound,rw touch /bound/new && stat -c %u /bound/file /bound/new >> /seen\n";
    let directory = context(&engine, steps);
    std::fs::write(directory.join("word"), "secret").unwrap();
    let image = engine.name("mounted");
    engine
        .plugin_in(&directory, &["build", "--no-cache", "--secret", "id=word,src=word", "-t", &image, "."])
        .ok();
    assert_eq!(engine.docker(&["run", "--rm", &image, "cat", "/seen"]).ok(), "33\n0\n33:400\n0\n0");
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn containers_outlive_a_change_of_the_ids_that_they_have() {
    let Some(mut engine) = remapped(&[]) else { return };
    if engine.is_original() {
        return;
    }
    let running = waits(&engine, "running", &[]);
    let stopped = engine.name("stopped");
    let script = "test -e /f || touch /f; chown 33 /f; cut -c 12-22 /proc/self/uid_map; stat -c %u /f";
    engine.docker(&["run", "--name", &stopped, SMALL, "sh", "-c", script]).ok();
    engine.kill();
    engine.give_other_ids(FIRST + 2 * users::COUNT);
    engine.start_again();
    // What runs has the ids that it had, and copies go by them.
    let first = FIRST.to_string();
    assert!(inside(&engine, &running, "cat /proc/self/uid_map").contains(&first));
    engine.docker_with_input(&["cp", "-a", "-", &format!("{running}:/")], &archive_of("f", (33, 77))).ok();
    assert_eq!(inside(&engine, &running, "stat -c %u:%g /f"), "33:77");
    // What is started has the new ones, and its own files.
    let answer = engine.docker(&["start", "-a", &stopped]).ok();
    assert_eq!(
        answer.split_whitespace().collect::<Vec<_>>(),
        [(FIRST + 2 * users::COUNT).to_string().as_str(), "33"]
    );
    engine.docker(&["restart", "-t", "0", &running]).ok();
    assert!(!inside(&engine, &running, "cat /proc/self/uid_map").contains(&first));
    assert_eq!(inside(&engine, &running, "stat -c %u:%g /f"), "33:77");
    engine.docker(&["rm", "-f", &running, &stopped]).ok();
}

#[test]
fn what_is_no_program_yet_is_out_of_reach_for_the_namespaces_root() {
    use std::os::unix::fs::MetadataExt;
    let Some(engine) = remapped(&[]) else { return };
    if engine.is_original() {
        return;
    }
    let name = engine.name("prepared");
    engine.docker(&["create", "--name", &name, SMALL, "sleep", "1000"]).ok();
    let user = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    let prepared = coracle_tests::prepared::wait_until_prepared(&engine, 1);
    let own = user(std::process::id());
    let waiting: Vec<u32> = prepared.iter().copied().filter(|pid| user(*pid) != own).collect();
    assert_eq!((waiting.len(), prepared.len()), (1, 2), "the first process, and its shim");
    // proc(5): what belongs to the host's root although the process does not is of one that nobody inside may look at.
    let look = |what: &str| std::fs::metadata(format!("/proc/{}/{what}", waiting[0])).unwrap().uid();
    assert_eq!((look("environ"), look("fd"), look("mem")), (0, 0, 0));
    let status = std::fs::read_to_string(format!("/proc/{}/status", waiting[0])).unwrap();
    assert!(status.contains(&format!("\nUid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\n")), "{status}");
    engine.docker(&["start", &name]).ok();
    assert_eq!(look("environ"), FIRST, "of the program it is everybody's of its user");
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
fn containers_of_an_engine_that_remapped_nobody_are_remapped_from_their_next_start_on() {
    let mut engine = Engine::start();
    if engine.is_original() || std::env::var_os("RUNTIME").is_some() {
        return;
    }
    let (plain, privileged) = (engine.name("plain"), engine.name("privileged"));
    let volume = engine.name("kept");
    let script =
        "touch /f /data/f; chown 33 /f /data/f; stat -c %u /f /data/f; cut -c 12-22 /proc/self/uid_map";
    let mount = format!("{volume}:/data");
    engine.docker(&["run", "--name", &plain, "-v", &mount, SMALL, "sh", "-c", script]).ok();
    engine.docker(&["create", "--name", &privileged, "--privileged", SMALL, "true"]).ok();
    engine.kill();
    engine.remap(FIRST);
    engine.start_again();
    let answer = engine.docker(&["start", "-a", &plain]).ok();
    assert_eq!(answer.split_whitespace().collect::<Vec<_>>(), ["33", "33", &FIRST.to_string()]);
    let (status, text) = engine.request("POST", &format!("/containers/{privileged}/start"), None);
    assert!(
        status == 400 && text.contains("privileged mode is incompatible with user namespaces"),
        "{status} {text}"
    );
    engine.docker(&["rm", &plain, &privileged]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}
