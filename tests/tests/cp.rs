//! `docker cp` both ways: running and stopped containers, names, links, owners, mounts, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "cp/confinement.rs"]
mod confinement;
#[path = "cp/support.rs"]
mod support;

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use support::{Container, ask, header, put, tar_of, tree};

#[test]
fn files_and_directories_arrive_whole_in_running_and_in_stopped_containers() {
    let engine = Engine::start();
    let tree = tree(&engine);
    let running = Container::running(&engine, "running", &[]);
    let stopped = Container::stopped(&engine, "stopped", &[], "true");
    for container in [&running, &stopped] {
        container.copy_in(&[], &tree, "/var").ok();
        let expected: BTreeMap<String, String> = [
            ("tree/", "directory 755 0:0"),
            ("tree/file", "content 640 0:0"),
            ("tree/link", "-> sub/deep 777 0:0"),
            ("tree/sub/", "directory 755 0:0"),
            ("tree/sub/deep", "deep 644 0:0"),
        ]
        .map(|(name, what)| (name.to_owned(), what.to_owned()))
        .into();
        assert_eq!(container.archive("/var/tree"), expected, "{}", container.name);
        let back = engine.directory().join(format!("back-{}", container.name));
        container.copy_out(&[], "/var/tree", &back).ok();
        assert_eq!(fs::read_to_string(back.join("sub/deep")).unwrap(), "deep");
        assert_eq!(fs::read_link(back.join("link")).unwrap(), Path::new("sub/deep"));
        let (original, copy) = (tree.join("file").metadata().unwrap(), back.join("file").metadata().unwrap());
        assert_eq!((copy.mode(), copy.mtime()), (original.mode(), original.mtime()));
    }
    assert_eq!(running.exec("cat /var/tree/link"), "deep");
    engine.docker(&["start", &stopped.name]).ok();
}

#[test]
fn names_follow_dockers_rules() {
    let engine = Engine::start();
    let tree = tree(&engine);
    let container = Container::running(&engine, "names", &[]);
    let script = "cd /tmp; find . | sort | tr '\\n' ' '; rm -rf /tmp/* ";
    container.exec("rm -rf /tmp/*");
    for (from, to, expected) in [
        ("file", "/tmp", ". ./file"),
        ("file", "/tmp/", ". ./file"),
        ("file", "/tmp/new", ". ./new"),
        ("", "/tmp", ". ./tree ./tree/file ./tree/link ./tree/sub ./tree/sub/deep"),
        (".", "/tmp", ". ./file ./link ./sub ./sub/deep"),
        ("sub", "/tmp/new", ". ./new ./new/deep"),
        ("sub/.", "/tmp/new", ". ./new ./new/deep"),
        ("sub/", "/tmp", ". ./sub ./sub/deep"),
    ] {
        let from =
            if from.is_empty() { tree.clone() } else { PathBuf::from(format!("{}/{from}", tree.display())) };
        container.copy_in(&[], &from, to).ok();
        assert_eq!(container.exec(script).trim_end(), expected, "{} {to}", from.display());
    }
    container.copy_in(&[], &tree.join("file"), "/tmp/no/such/").refused(1, "no such");
    container.copy_in(&[], &tree.join("file"), "/tmp/no/such").refused(1, "could not find the file /tmp/no");
    container.copy_in(&[], &tree, "/etc/plain").refused(1, "cannot copy directory");
    container.copy_in(&[], &tree, "/etc/plain/").refused(1, "");
    container.copy_in(&[], &tree.join("nothing"), "/tmp").refused(1, "nothing");
    container.copy_out(&[], "/no/such", engine.directory()).refused(1, "could not find the file /no/such");
    let missing = engine.name("missing");
    engine.docker(&["cp", &format!("{missing}:/etc"), "-"]).refused(1, "no such container");
}

#[test]
fn links_are_copied_themselves_unless_they_are_to_be_followed() {
    let engine = Engine::start();
    let tree = tree(&engine);
    let container = Container::running(&engine, "links", &[]);
    container.exec(
        "mkdir /real; echo there > /real/f; ln -s /real /absolute; ln -s real/f /file; ln -s /no/such /dangling",
    );
    container.copy_in(&[], &tree.join("link"), "/tmp/").ok();
    container.copy_in(&["-L"], &tree.join("link"), "/tmp/followed").ok();
    assert_eq!(container.exec("readlink /tmp/link; cat /tmp/followed"), "sub/deep\ndeep");
    // A link to a directory leads into it.
    container.copy_in(&[], &tree.join("file"), "/absolute").ok();
    container.copy_in(&[], &tree.join("file"), "/absolute/two").ok();
    assert_eq!(container.exec("ls /real; readlink /absolute"), "f\nfile\ntwo\n/real");
    assert_eq!(container.archive("/absolute")["absolute"], "-> /real 777 0:0");
    let out = engine.directory().join("out");
    fs::create_dir(&out).unwrap();
    container.copy_out(&[], "/absolute", &out).ok();
    assert_eq!(fs::read_link(out.join("absolute")).unwrap(), Path::new("/real"));
    container.copy_out(&["-L"], "/file", &out.join("plain")).ok();
    assert_eq!(fs::read_to_string(out.join("plain")).unwrap(), "there\n");
    container.copy_out(&["-L"], "/absolute", &out.join("directory")).ok();
    assert_eq!(fs::read_to_string(out.join("directory/f")).unwrap(), "there\n");
    container.copy_out(&["-L"], "/dangling", &out.join("x")).refused(1, "could not find the file /no");
    container.copy_in(&[], &tree.join("file"), "/dangling").refused(1, "");
}

#[test]
fn owners_are_the_archives_or_the_containers_user() {
    let engine = Engine::start();
    let file = engine.directory().join("owned");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(1234), Some(4321)).unwrap();
    let root = Container::running(&engine, "root", &[]);
    let web = Container::running(&engine, "web", &["--user", "web"]);
    root.copy_in(&[], &file, "/tmp/plain").ok();
    root.copy_in(&["-a"], &file, "/tmp/kept").ok();
    assert_eq!(root.exec("stat -c %u:%g /tmp/plain /tmp/kept"), "1234:4321\n1234:4321");
    web.copy_in(&["-a"], &file, "/tmp/own").ok();
    assert_eq!(web.exec("stat -c %u:%g /tmp/own"), "33:33");
}

#[test]
fn mounts_are_copied_through_in_both_directions() {
    let engine = Engine::start();
    let (ours, seen) = engine.shared_directory();
    fs::create_dir_all(ours.join("dir")).unwrap();
    fs::write(ours.join("dir/host"), "of the host\n").unwrap();
    fs::write(ours.join("single"), "one file\n").unwrap();
    let file = engine.directory().join("file");
    fs::write(&file, "content").unwrap();
    let (outer, inner) = (engine.name("outer"), engine.name("inner"));
    let bind = |path: &str, to: &str| format!("{}/{path}:{to}", seen.display());
    let mounts = [
        format!("{outer}:/v"),
        format!("{inner}:/v/w"),
        bind("dir", "/bind"),
        bind("single", "/single"),
        bind("dir", "/ro:ro"),
    ];
    let options: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
    let running = Container::running(&engine, "mounts", &options);
    let stopped = Container::stopped(&engine, "mounts-stopped", &options, "true");
    for container in [&running, &stopped] {
        container.copy_in(&[], &file, "/v/w/in").ok();
        container.copy_in(&[], &file, "/bind/in").ok();
        assert_eq!(fs::read_to_string(ours.join("dir/in")).unwrap(), "content");
        let found = container.archive("/v");
        assert_eq!(found["v/w/in"], "content 644 0:0", "{found:?}");
        assert_eq!(container.archive("/bind")["bind/host"], "of the host\n 644 0:0");
        assert_eq!(container.archive("/single")["single"], "one file\n 644 0:0");
        let whole = container.archive("/");
        assert!(whole.contains_key("/v/w/in") && whole.contains_key("/bind/host"), "{:?}", whole.keys());
        let of_the_kernel = |name: &String| {
            ["/proc/", "/sys/"].iter().any(|top| name.len() > top.len() && name.starts_with(top))
        };
        assert!(!whole.keys().any(of_the_kernel), "{:?}", whole.keys());
        container.copy_in(&[], &file, "/ro/x").refused(1, "mounted volume is marked read-only");
        // What something is mounted on is never replaced.
        container.copy_in(&[], &file, "/single").refused(1, "device or resource busy");
        assert_eq!(fs::read_to_string(ours.join("single")).unwrap(), "one file\n");
        fs::remove_file(ours.join("dir/in")).unwrap();
    }
    assert_eq!(running.exec("cat /v/w/in /single"), "contentone file");
    drop((running, stopped));
    engine.docker(&["volume", "rm", &outer, &inner]).ok();
    fs::remove_dir_all(ours).unwrap();
}

#[test]
fn directories_are_merged_and_never_replaced_by_the_command() {
    let engine = Engine::start();
    let container = Container::running(&engine, "merge", &[]);
    container.exec("mkdir -m 711 /m /m/sub; echo old > /m/old; echo old > /m/both; echo f > /m/file");
    let input = tar_of(&[("m/", ""), ("m/both", "new"), ("m/sub/x", "x"), ("m/.wh.old", "no whiteout here")]);
    let to = container.at("/");
    engine.docker_with_input(&["cp", "-", &to], &input).ok();
    assert_eq!(
        container.exec("cd /m; ls -A; cat both old; stat -c %a /m"),
        ".wh.old\nboth\nfile\nold\nsub\nnewold\n755"
    );
    for (archive, text) in [
        (tar_of(&[("m", "")]), "cannot overwrite directory"),
        (tar_of(&[("m/file/", "")]), "cannot overwrite non-directory"),
    ] {
        engine.docker_with_input(&["cp", "-", &to], &archive).refused(1, text);
    }
    assert_eq!(container.exec("cat /m/file"), "f");
    // Who does not ask for that gets what the archive says.
    let (status, text) = put(&engine, &container.name, "/m", &tar_of(&[("sub", "a file now")]));
    assert_eq!(status, 200, "{text}");
    assert_eq!(container.exec("cat /m/sub"), "a file now");
}

#[test]
fn a_read_only_root_is_read_only_for_copies_too() {
    let engine = Engine::start();
    let file = engine.directory().join("file");
    fs::write(&file, "x").unwrap();
    let volume = engine.name("rw");
    let options = ["--read-only", "-v", &format!("{volume}:/v")];
    let running = Container::running(&engine, "readonly", &options);
    let stopped = Container::stopped(&engine, "readonly-stopped", &options, "true");
    for container in [&running, &stopped] {
        container.copy_in(&[], &file, "/etc/x").refused(1, "container rootfs is marked read-only");
        container.copy_in(&[], &file, "/v/x").ok();
        assert_eq!(container.archive("/v/x")["x"], "x 644 0:0");
    }
    if !engine.is_original() {
        assert_eq!(put(&engine, &running.name, "/etc", &tar_of(&[("x", "")])).0, 403);
    }
    drop((running, stopped));
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn a_path_is_described_in_the_header_of_the_answer() {
    let engine = Engine::start();
    let container = Container::running(&engine, "head", &[]);
    container.exec(
        "mkdir /d; ln -s d /l; echo 12345 > /d/f; chmod 4711 /d/f; touch -d '2001-02-03 04:05:06' /d/f",
    );
    for (path, expected) in [
        ("/d/f", r#"{"name":"f","size":6,"mode":8389065,"mtime":"2001-02-03T04:05:06Z","linkTarget":""}"#),
        (
            "/d/../l/../d/f",
            r#"{"name":"f","size":6,"mode":8389065,"mtime":"2001-02-03T04:05:06Z","linkTarget":""}"#,
        ),
        ("/l", r#""linkTarget":"/d"}"#),
        ("/l/.", r#"{"name":".","size":4096,"mode":2147484141,"#),
        ("/proc", r#"{"name":"proc","#),
    ] {
        for method in ["HEAD", "GET"] {
            let answer = ask(&engine, method, &container.name, path);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            let found = header(&answer).unwrap();
            assert!(found.contains(expected), "{method} {path}: {found}");
        }
    }
    for (path, status) in [("/no/such", "404"), ("/proc/cpuinfo", "404"), ("", "400")] {
        for method in ["HEAD", "GET"] {
            let answer = ask(&engine, method, &container.name, path);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        }
    }
    assert!(ask(&engine, "HEAD", "no-such-container", "/").starts_with("HTTP/1.1 404 "));
}

#[test]
fn copies_of_a_stopped_container_share_its_layers_and_a_start_waits_for_them() {
    let engine = Engine::start();
    let script = "test -e /go && exec sleep 1000; head -c 20000000 /dev/zero > /big";
    let container = Container::stopped(&engine, "shared", &[], script);
    // A client that reads only the beginning keeps the layers in use.
    let mut stream = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    let head = format!(
        "GET /v1.44/containers/{}/archive?path=/big HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
        container.name
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let file = engine.directory().join("go");
    fs::write(&file, "").unwrap();
    if !engine.is_original() {
        // The original lets nobody else at the container meanwhile.
        container.copy_in(&[], &file, "/go").ok();
        assert_eq!(container.archive("/go")["go"], " 644 0:0");
        assert_eq!(engine.mounts_on_the_host(), Vec::<String>::new());
    }
    let mut rest = Vec::new();
    let starting = std::thread::scope(|scope| {
        let starting = scope.spawn(|| engine.docker(&["start", &container.name]));
        stream.read_to_end(&mut rest).unwrap();
        starting.join().unwrap()
    });
    starting.ok();
    assert!(rest.len() > 20_000_000, "{}", rest.len());
    if !engine.is_original() {
        assert_eq!(container.exec("ls /go"), "/go");
    }
}

#[test]
fn a_client_that_stopped_reading_does_not_keep_a_container_from_starting() {
    let engine = Engine::start();
    if engine.is_original() {
        // It waits for as long as the client pleases.
        return;
    }
    let script = "test -e /big && exec sleep 1000; head -c 20000000 /dev/zero > /big";
    let container = Container::stopped(&engine, "stalled", &[], script);
    let connect = || std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    let (mut reader, mut writer) = (connect(), connect());
    let url = format!("/v1.44/containers/{}/archive?path=/", container.name);
    write!(reader, "GET {url}big HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    reader.read_exact(&mut [0; 12]).unwrap();
    write!(writer, "PUT {url}tmp HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\n").unwrap();
    engine.docker(&["start", &container.name]).ok();
    let mut answer = [0; 12];
    writer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    assert_eq!(container.exec("ls -A /tmp"), "");
}

#[test]
fn a_container_that_never_ran_has_its_volumes_already() {
    let engine = Engine::start();
    let (name, volume) = (engine.name("created"), engine.name("fresh"));
    let mount = format!("{volume}:/etc");
    engine
        .docker(&["create", "--name", &name, "--network", "none", "-v", &mount, SMALL, "cat", "/etc/in"])
        .ok();
    let container = Container { engine: &engine, name };
    assert_eq!(container.archive("/etc/plain")["plain"], "no program\n 644 0:0");
    let file = engine.directory().join("in");
    fs::write(&file, "before the start\n").unwrap();
    container.copy_in(&[], &file, "/etc/").ok();
    assert_eq!(engine.docker(&["start", "-a", &container.name]).ok(), "before the start");
    drop(container);
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn our_own_command_copies_both_ways() {
    let engine = Engine::start();
    let tree = tree(&engine);
    let container = Container::running(&engine, "own", &[]);
    engine.coracle(&["cp", tree.to_str().unwrap(), &container.at("/tmp/new")]).ok();
    assert_eq!(container.exec("cat /tmp/new/link"), "deep");
    let back = engine.directory().join("back");
    engine.coracle(&["cp", &container.at("/tmp/new/."), back.to_str().unwrap()]).ok();
    // The root has no name of its own that entries could begin with.
    for (path, to) in [("/.", "content"), ("/", "root"), ("/tmp/..", "above")] {
        let to = tree.with_file_name(to);
        engine.coracle(&["cp", &container.at(path), to.to_str().unwrap()]).ok();
        assert!(to.join("etc/passwd").is_file() && !to.join("passwd").exists(), "{path}");
    }
    assert_eq!(fs::read_to_string(back.join("file")).unwrap(), "content");
}

#[test]
fn a_volume_below_a_link_of_the_image_is_copied_through() {
    let engine = Engine::start();
    let file = engine.directory().join("file");
    fs::write(&file, "content").unwrap();
    let (image, volume) = (engine.name("linked"), engine.name("run"));
    let base = Container::stopped(&engine, "base", &[], "mkdir /run; ln -s /run /var/run");
    engine.docker(&["commit", &base.name, &image]).ok();
    let mount = format!("{volume}:/var/run/x");
    for (name, command) in [("linked-running", vec!["sleep", "1000"]), ("linked-stopped", vec!["true"])] {
        let container = Container { engine: &engine, name: engine.name(name) };
        let run = ["run", "-d", "--network", "none", "--name", &container.name, "-v", &mount, &image];
        engine.docker(&[&run[..], &command].concat()).ok();
        if command == ["true"] {
            engine.docker(&["wait", &container.name]).ok();
        }
        container.copy_in(&[], &file, "/var/run/x/in").ok();
        assert_eq!(container.archive("/run/x/in")["in"], "content 644 0:0", "{name}");
    }
    drop(base);
    engine.docker(&["rmi", &image]).ok();
    engine.docker(&["volume", "rm", &volume]).ok();
}

#[test]
fn copies_are_told_as_events() {
    let engine = Engine::start();
    let container = Container::running(&engine, "events", &[]);
    let since = engine.docker(&["info", "-f", "{{.SystemTime}}"]).ok();
    container.archive("/etc/plain");
    engine.docker_with_input(&["cp", "-", &container.at("/tmp")], &tar_of(&[("f", "x")])).ok();
    let until = engine.docker(&["info", "-f", "{{.SystemTime}}"]).ok();
    let filter = format!("container={}", container.name);
    let arguments =
        ["events", "--since", &since, "--until", &until, "--filter", &filter, "--format", "{{.Action}}"];
    assert_eq!(engine.docker(&arguments).ok(), "archive-path\nextract-to-dir");
}

#[test]
fn an_engine_that_is_killed_in_the_middle_of_a_copy_leaves_a_container_that_starts() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("killed");
    let run =
        ["run", "--network", "none", "--name", &name, SMALL, "sh", "-c", "head -c 20000000 /dev/zero > /big"];
    engine.docker(&run).ok();
    let mut stream = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    let head = format!("GET /v1.44/containers/{name}/archive?path=/big HTTP/1.1\r\nHost: d\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    engine.kill();
    engine.start_again();
    let listing = engine.docker(&["cp", &format!("{name}:/etc/plain"), "-"]).ok();
    assert!(listing.contains("no program"), "{listing}");
    engine.docker(&["start", &name]).ok();
    engine.docker(&["wait", &name]).ok();
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn our_own_command_follows_links_and_gives_to_the_containers_user() {
    let engine = Engine::start();
    let tree = tree(&engine);
    let container = Container::running(&engine, "own-options", &["--user", "web"]);
    let link = tree.join("link");
    engine.coracle(&["cp", "-L", "-a", link.to_str().unwrap(), &container.at("/tmp")]).ok();
    assert_eq!(container.exec("cat /tmp/link; stat -c ' %F %u:%g' /tmp/link"), "deep regular file 33:33");
    container.exec("ln -s /etc/plain /tmp/plain");
    let out = engine.directory().join("out");
    engine.coracle(&["cp", "-L", &container.at("/tmp/plain"), out.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(out).unwrap(), "no program\n");
}
