//! Copies of containers and archives that mean harm: nothing of the host is read, changed, run or unmounted.

use super::support::{Container, ask, compress, oracle, put, tar_of};
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, race_iterations};
use std::fs;

#[test]
fn what_is_mounted_stays_mounted_whatever_an_archive_says() {
    let engine = Engine::start();
    let container = Container::running(&engine, "kept", &["-v", "/anonymous/deep"]);
    let mounts = container.exec("cat /proc/mounts | wc -l");
    for (path, archive) in [
        ("/", tar_of(&[("anonymous", "file over a mount below")])),
        ("/anonymous", tar_of(&[("deep", "file over a mount")])),
        ("/etc", tar_of(&[("hosts", "other")])),
    ] {
        let (status, text) = put(&engine, &container.name, path, &archive);
        assert!(status >= 400 && text.contains("busy"), "{path}: {status} {text}");
    }
    assert_eq!(container.exec("cat /proc/mounts | wc -l"), mounts);
    container.exec("grep -q localhost /etc/hosts && echo x > /anonymous/deep/still");
}

#[test]
fn every_compression_is_read_by_the_engine_itself() {
    let engine = Engine::start();
    let container = Container::running(&engine, "compressed", &[]);
    let (plain, to) = (tar_of(&[("packed", "content")]), container.at("/tmp"));
    if !engine.is_original() {
        // What the image brings under these names must never run (CVE-2014-9357, moby's TestCopyToContainerXZ…).
        let names =
            ["xz", "unxz", "gzip", "unpigz", "bzip2", "zstd", "tar"].map(|name| format!("/usr/bin/{name}"));
        let pwn = engine.directory().join("pwn").display().to_string();
        for name in names {
            container.exec(&format!(
                "mkdir -p /usr/bin; printf '#!/bin/sh\\ntouch {pwn} /pwn\\n' > {name}; chmod 755 {name}"
            ));
        }
    }
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        // The original unpacks some of them with programs that its root lacks.
        if engine.is_original() && ["xz", "zstd"].contains(&program) {
            continue;
        }
        let packed = compress(program, &plain);
        container.exec("rm -f /tmp/packed");
        engine.docker_with_input(&["cp", "-", &to], &packed).ok();
        assert_eq!(container.exec("cat /tmp/packed"), "content", "{program}");
        let cut = &packed[..packed.len() - 20];
        assert_ne!(engine.docker_with_input(&["cp", "-", &to], cut).code, 0, "{program} cut short");
    }
    assert!(!engine.directory().join("pwn").exists());
    assert_eq!(container.exec("ls /pwn 2>/dev/null || echo none"), "none");
}

#[test]
fn a_container_that_swaps_directories_for_links_gives_nothing_of_the_host_and_takes_nothing_there() {
    let engine = Engine::start();
    let canary = engine.directory().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "of the host").unwrap();
    let before = oracle(&canary);
    // `swap` exchanges /x/a, a directory, and /x/b, a link to where the canary is on the host.
    let setup = format!(
        "mkdir -p /x/a; echo inside > /x/a/secret; ln -s {0} /x/b; mkdir -p $(dirname {0}); \
         while true; do mv /x/a /x/t; mv /x/b /x/a; mv /x/a /x/b; mv /x/t /x/a; done",
        canary.display()
    );
    let name = engine.name("swap");
    engine.docker(&["run", "-d", "--network", "none", "--name", &name, SMALL, "sh", "-c", &setup]).ok();
    let container = Container { engine: &engine, name };
    let turns = race_iterations(if engine.is_original() { 20 } else { 150 });
    let archive = tar_of(&[("d/", ""), ("d/file", "into the container"), ("secret", "overwritten")]);
    let mut reached = 0;
    for _ in 0..turns {
        let answer = ask(&engine, "GET", &container.name, "/x/a/secret");
        assert!(!answer.contains("of the host"), "{answer}");
        let answer = ask(&engine, "GET", &container.name, "/x/a/.");
        assert!(!answer.contains("of the host"), "{answer}");
        reached += u32::from(put(&engine, &container.name, "/x/a", &archive).0 == 200);
        put(&engine, &container.name, "/x", &tar_of(&[("a/through", "a link")]));
    }
    assert!(reached > 0, "the directory was never there");
    assert_eq!(oracle(&canary), before);
}

#[test]
fn nested_volumes_whose_directories_are_swapped_meanwhile_lead_nowhere_else() {
    let engine = Engine::start();
    let canary = engine.directory().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "of the host").unwrap();
    let before = oracle(&canary);
    let (outer, inner) = (engine.name("outer"), engine.name("inner"));
    let mounts = [format!("{outer}:/v"), format!("{inner}:/v/w")];
    let options: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
    let stopped = Container::stopped(&engine, "nested", &options, "echo kept > /v/w/kept");
    // Another container has the outer volume, and turns the mount point of the inner one into a link and back.
    let swap = format!(
        "ln -s {} /v/l; while true; do mv /v/w /v/t; mv /v/l /v/w; mv /v/w /v/l; mv /v/t /v/w; done",
        canary.display()
    );
    let swapper = Container { engine: &engine, name: engine.name("swapper") };
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        &swapper.name,
        "-v",
        &mounts[0],
        SMALL,
        "sh",
        "-c",
        &swap,
    ];
    engine.docker(&run).ok();
    for _ in 0..race_iterations(if engine.is_original() { 10 } else { 60 }) {
        // It may fail; it must not reach the canary.
        put(&engine, &stopped.name, "/v/w", &tar_of(&[("secret", "overwritten")]));
        let answer = ask(&engine, "GET", &stopped.name, "/v/w/secret");
        assert!(!answer.contains("of the host"), "{answer}");
    }
    assert_eq!(oracle(&canary), before);
    assert_eq!(engine.mounts_on_the_host(), Vec::<String>::new());
    drop((swapper, stopped));
    engine.docker(&["volume", "rm", &outer, &inner]).ok();
}
