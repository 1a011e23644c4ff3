//! Images from engine to engine: over a real ssh server, whole and in part, and as archives of what is new.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::engine::{programs, wait_until};
use coracle_tests::image::SMALL;
use coracle_tests::moving::{id, image, is_original};
use coracle_tests::registry::Registry;
use coracle_tests::ssh::Sshd;
use coracle_tests::{Engine, Output};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn an_image_arrives_over_ssh_with_its_id_and_only_missing_layers_go() {
    if is_original() {
        return;
    }
    let (here, there) = (Engine::start(), Engine::start());
    let sshd = Sshd::before(&there);
    let (first, second) = (here.name("first"), here.name("second"));
    let made = image(&here, &first, 4);
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", &first]).ok();
    assert!(sent.contains(&format!("Sending {first}")), "{sent}");
    assert!(sent.contains(&format!("{first}: {made}, sent ")), "{sent}");
    // The small image is on both sides; what of it is packed here and there is not the matter.
    assert_eq!(sent.matches(": Layer already exists").count(), 1, "{sent}");
    assert_eq!(sent.matches(": Pushed").count(), 1, "{sent}");
    assert_eq!(id(&there, &first), made);
    assert_eq!(there.docker(&["run", "--rm", "--network", "none", &first]).ok(), first);
    let went = sshd.take_sent();
    assert!((4 << 20..5 << 20).contains(&went), "{went} bytes");

    // A small change of it takes a small way.
    let container = here.name("changed");
    here.docker(&["run", "--name", &container, "--network", "none", &first, "sh", "-c", "echo 2 > /two"])
        .ok();
    here.docker(&["commit", &container, &second]).ok();
    here.docker(&["rm", &container]).ok();
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", &second]).ok();
    assert_eq!(sent.matches(": Layer already exists").count(), 2, "{sent}");
    assert_eq!(id(&there, &second), id(&here, &second));
    assert_eq!(there.docker(&["run", "--rm", "--network", "none", &second, "cat", "/two"]).ok(), "2");
    let went = sshd.take_sent();
    assert!(went < 100_000, "{went} bytes");

    // What is there does not go at all.
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", &first, &second]).ok();
    assert_eq!(sent.matches(": Pushed").count(), 0, "{sent}");
    assert!(sshd.take_sent() < 100_000);
    for engine in [&here, &there] {
        engine.docker(&["rmi", &first, &second]).ok();
    }
}

#[test]
fn a_connection_cut_at_the_end_goes_on_where_it_was() {
    if is_original() {
        return;
    }
    let (here, there) = (Engine::start(), Engine::start());
    let sshd = Sshd::before(&there);
    let name = here.name("cut");
    let made = image(&here, &name, 64);
    sshd.cut_after((64 << 20) / 100 * 99);
    let cut = sshd.coracle(&here, &["image", "send", "ssh://peer", &name]);
    assert_ne!(cut.code, 0);
    for words in ["ended early", "ssh to peer ended with signal: 9"] {
        assert!(cut.stderr.contains(words), "{cut:?}");
    }
    assert_ne!(there.docker(&["image", "inspect", &name]).code, 0);
    // The other engine hears of it a moment later, and keeps what came.
    let partial = there.directory().join("data/partial");
    let kept =
        || fs::read_dir(&partial).unwrap().flatten().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    wait_until("what came is kept", || kept() > 0);
    assert!(kept() > (64 << 20) / 100 * 95, "{} bytes", kept());

    sshd.take_sent();
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", &name]).ok();
    let went = sshd.take_sent();
    assert!(went < (64 << 20) / 100 * 5, "{went} bytes: {sent}");
    assert_eq!(id(&there, &name), made);
    assert_eq!(there.docker(&["run", "--rm", "--network", "none", &name]).ok(), name);
    assert_eq!(fs::read_dir(&partial).unwrap().count(), 0);
    for engine in [&here, &there] {
        engine.docker(&["rmi", &name]).ok();
    }
}

#[test]
fn an_image_from_a_registry_keeps_its_manifest_and_its_blobs() {
    if is_original() {
        return;
    }
    let (here, there, registry) = (Engine::start(), Engine::start(), Registry::start());
    let sshd = Sshd::before(&there);
    let name = registry.name("team/app:v1");
    let made = image(&here, &name, 1);
    here.docker(&["push", &name]).ok();
    here.docker(&["rmi", &name]).ok();
    here.docker(&["pull", &name]).ok();
    sshd.coracle(&here, &["image", "send", "-q", "ssh://peer", &name]).ok();
    let digests = |engine: &Engine| engine.docker(&["inspect", "-f", "{{.RepoDigests}}", &name]).ok();
    assert_eq!(digests(&there), digests(&here));
    assert_eq!(id(&there, &name), made);
    // Pushed from there it is what it was, byte by byte.
    let other = registry.name("team/other:v1");
    there.docker(&["tag", &name, &other]).ok();
    let pushed = there.docker(&["push", &other]).ok();
    let manifest = digests(&here);
    let manifest = manifest.trim_matches(['[', ']']).split_once('@').unwrap().1;
    assert!(pushed.contains(&format!("v1: digest: {manifest} ")), "{pushed}");

    // Under another name, and by its id under none.
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer/moved/here:v2", &made]).ok();
    assert!(sent.contains(&format!("{made}: {made}, sent 0 of ")), "{sent}");
    assert_eq!(id(&there, "moved/here:v2"), made);
    let tags = |engine: &Engine| engine.docker(&["inspect", "-f", "{{.RepoTags}}", &made]).ok();
    let before = tags(&there);
    sshd.coracle(&here, &["image", "send", "ssh://peer", &made]).ok();
    assert_eq!(tags(&there), before);
    // A name that is another's moves, and whoever sends hears of it.
    here.docker(&["tag", SMALL, "moved/here:v2"]).ok();
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", "moved/here:v2"]).ok();
    assert!(sent.contains(&format!("The image moved/here:v2 there already was {made}")), "{sent}");
    assert_eq!(id(&there, "moved/here:v2"), id(&here, SMALL));
    here.docker(&["rmi", "-f", "moved/here:v2", &made]).ok();
    there.docker(&["rmi", "-f", "moved/here:v2", &made]).ok();
}

#[test]
fn the_same_image_can_be_sent_twice_at_once() {
    if is_original() {
        return;
    }
    let (here, there) = (Engine::start(), Engine::start());
    let sshd = Sshd::before(&there);
    let name = here.name("twice");
    let made = image(&here, &name, 8);
    let arguments = ["image", "send", "ssh://peer", name.as_str()];
    let start = || {
        let mut command = sshd.command(&here, &arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in [start(), start()] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(id(&there, &name), made);
    for engine in [&here, &there] {
        engine.docker(&["rmi", &name]).ok();
    }
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_goes() {
    if is_original() {
        return;
    }
    let (here, there) = (Engine::start(), Engine::start());
    let sshd = Sshd::before(&there);
    for (arguments, words) in [
        (vec!["ssh://peer", "nobody:v1"], "No such image: nobody:v1"),
        (vec!["ssh://-oProxyCommand=id", SMALL], "that is no host name"),
        (vec!["ssh://-l@peer", SMALL], "that is no user name"),
        (vec!["tcp://peer", SMALL], "it must begin with ssh://"),
        (vec!["ssh://peer/name", SMALL, "coracle-test-busybox:latest"], "one name cannot be that of several"),
        (vec!["ssh://peer:1", SMALL], "ssh to peer:1 ended with exit status: 255"),
    ] {
        let all = [&["image", "send"], arguments.as_slice()].concat();
        sshd.coracle(&here, &all).refused(1, words);
    }
    assert_eq!(there.docker(&["images", "-q"]).ok().lines().count(), 1);
    let bare = Sshd::with_programs_in(Path::new("/nowhere"), &there);
    let send = ["image", "send", "ssh://peer", SMALL];
    bare.coracle(&here, &send)
        .refused(1, "`coracle` is not in the path of logins without a terminal on peer");
}

#[test]
fn what_is_saved_since_an_image_is_small_and_loads_where_that_is() {
    if is_original() {
        return;
    }
    let (here, there) = (Engine::start(), Engine::start());
    let (base, next, last) = (here.name("base"), here.name("next"), here.name("last"));
    let made = image(&here, &base, 2);
    for (from, to) in [(&base, &next), (&next, &last)] {
        let container = here.name("made");
        here.docker(&[
            "run",
            "--name",
            &container,
            "--network",
            "none",
            from,
            "sh",
            "-c",
            "echo more > /more",
        ])
        .ok();
        here.docker(&["commit", "-c", "CMD [\"cat\",\"/more\"]", &container, to]).ok();
        here.docker(&["rm", &container]).ok();
    }
    let path = |name: &str| here.directory().join(name).display().to_string();
    here.coracle(&["save", "-o", &path("base.tar"), &base]).ok();
    here.coracle(&["save", "--since", &base, "-o", &path("update.tar"), &next, &last]).ok();
    let size = fs::metadata(path("update.tar")).unwrap().len();
    assert!(size < 50_000, "{size} bytes");
    here.coracle(&["save", "--since", "nobody", &next]).refused(1, "No such image: nobody");

    let images = there.docker(&["images", "-aq"]).ok();
    let refused = there.docker(&["load", "-i", &path("update.tar")]).fails_with(1);
    assert!(refused.contains(&format!("saved since {base} ({made})")), "{refused}");
    assert!(refused.contains(&format!("load or pull {base}")), "{refused}");
    assert_eq!(there.docker(&["images", "-aq"]).ok(), images);
    there.docker(&["load", "-i", &path("base.tar")]).ok();
    let loaded = there.coracle(&["load", "-i", &path("update.tar")]).ok();
    assert_eq!(loaded.matches("Loaded image: ").count(), 2, "{loaded}");
    for name in [&next, &last] {
        assert_eq!(id(&there, name), id(&here, name));
        assert_eq!(there.docker(&["run", "--rm", "--network", "none", name]).ok(), "more");
    }
    for engine in [&here, &there] {
        engine.docker(&["rmi", &base, &next, &last]).ok();
    }
}

/// An engine that answers everything with this document; where it listens.
fn another_engine(directory: &Path, document: &'static str) -> String {
    let socket = directory.join("another.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = client.read(&mut head);
            let length = document.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Type: application/json\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n"
            );
            let _ = client.write_all(answer.as_bytes());
            if !head.starts_with(b"HEAD") {
                let _ = client.write_all(document.as_bytes());
            }
        }
    });
    format!("unix://{}", socket.display())
}

#[test]
fn an_engine_that_saves_whole_images_alone_is_not_asked_for_less() {
    let directory = tempfile::tempdir().unwrap();
    let version = r#"{"Platform":{"Name":"Docker Engine - Community"},"Version":"28.2.2"}"#;
    let host = another_engine(directory.path(), version);
    let mut command = Command::new(programs().join("coracle"));
    let output = command.args(["-H", &host, "save", "--since", "a", "b"]).output().unwrap();
    let output = Output::new("coracle save".to_owned(), &output);
    assert_eq!(output.stdout, "");
    output.refused(1, "--since is for Coracle");
    let mut command = Command::new(programs().join("coracle"));
    let output = command.args(["-H", &host, "save", "b"]).output().unwrap();
    assert_eq!(Output::new("coracle save".to_owned(), &output).ok(), version);
}
