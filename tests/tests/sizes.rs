//! What containers have written is counted when it can have changed, and not otherwise: directories that are opened tell.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Counts the directories of a tree that are opened.
struct Openings(OwnedFd);

impl Openings {
    fn below(top: &Path) -> Self {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mut all = vec![top.to_owned()];
        while let Some(directory) = all.pop() {
            let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
            all.extend(entries.filter(|path| path.is_dir() && !path.is_symlink()));
            inotify::add_watch(&watch, &directory, WatchFlags::OPEN | WatchFlags::ONLYDIR).unwrap();
        }
        let openings = Self(watch);
        openings.take();
        openings
    }

    /// How many were opened since the last time, however often. Each is told of by itself and by its parent.
    fn take(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut opened = BTreeSet::new();
        while let Ok(event) = reader.next() {
            if event.file_name().is_none() && event.events().contains(ReadFlags::ISDIR) {
                opened.insert(event.wd());
            }
        }
        opened.len()
    }
}

/// Bytes that a container has written, as `system df` says.
fn size(engine: &Engine, container: &str) -> i64 {
    let (status, body) = engine.request("GET", "/v1.44/system/df?type=container", None);
    assert_eq!(status, 200, "{body}");
    let usage: serde_json::Value = serde_json::from_str(&body).unwrap();
    let all = usage["Containers"].as_array().unwrap();
    let found = all.iter().find(|found| found["Names"].to_string().contains(container)).unwrap();
    found["SizeRw"].as_i64().unwrap()
}

fn upper(engine: &Engine, container: &str) -> std::path::PathBuf {
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", container]).ok();
    engine.directory().join("data/containers").join(id).join("upper")
}

#[test]
fn a_container_that_does_not_run_is_counted_once_until_something_may_have_changed() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("stopped");
    let script = "mkdir -p /a/b /c; echo 12345 >> /a/b/file";
    engine.docker(&["run", "--name", &name, "--network", "none", SMALL, "sh", "-c", script]).ok();
    let openings = Openings::below(&upper(&engine, &name));
    assert_eq!((size(&engine, &name), openings.take()), (6, 4), "the top, /a, /a/b and /c");
    for _ in 0..3 {
        assert_eq!((size(&engine, &name), openings.take()), (6, 0));
    }
    engine.docker(&["rename", &name, &format!("{name}-renamed")]).ok();
    assert_eq!((size(&engine, &name), openings.take()), (6, 0), "a name is no content");
    let name = format!("{name}-renamed");

    let copied = engine.directory().join("copied");
    fs::write(&copied, [7; 100]).unwrap();
    engine.docker(&["cp", &copied.display().to_string(), &format!("{name}:/c/copied")]).ok();
    openings.take();
    assert_eq!((size(&engine, &name), openings.take()), (106, 4), "it was copied into");
    assert_eq!((size(&engine, &name), openings.take()), (106, 0));

    engine.docker(&["start", "-a", &name]).ok();
    openings.take();
    assert_eq!((size(&engine, &name), openings.take()), (112, 4), "it ran");
    assert_eq!((size(&engine, &name), openings.take()), (112, 0));
    engine.docker(&["rm", &name]).ok();
}

#[test]
fn a_container_that_runs_is_counted_each_time() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let name = engine.name("running");
    let script = "mkdir /a; echo 12345 > /a/file; exec sleep 1000";
    engine.docker(&["run", "-d", "--name", &name, "--network", "none", SMALL, "sh", "-c", script]).ok();
    let upper = upper(&engine, &name);
    wait_until("it has written", || fs::read(upper.join("a/file")).is_ok_and(|content| content.len() == 6));
    let openings = Openings::below(&upper);
    assert_eq!((size(&engine, &name), openings.take()), (6, 2));
    engine.docker(&["exec", &name, "sh", "-c", "echo 1 >> /a/file"]).ok();
    openings.take();
    assert_eq!((size(&engine, &name), openings.take()), (8, 2));
    engine.docker(&["rm", "-f", &name]).ok();
}
