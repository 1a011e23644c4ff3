//! Volumes as archives and as copies of others, which Docker has no commands for.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::engine::{programs, wait_until};
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use std::fs;
use std::process::{Command, Stdio};

/// An engine of ours with a volume that has a bit of everything.
fn filled() -> Option<(Engine, String)> {
    let engine = Engine::start();
    if engine.is_original() {
        return None;
    }
    let name = engine.name("from");
    engine.docker(&["volume", "create", "--label", "a=b", &name]).ok();
    let script = "umask 022; cd /v; mkdir -p d/e; echo one >d/one; ln d/one d/same; ln -s one d/link; mkfifo d/pipe; \
                  chown 7:8 d/one; chmod 4751 d/one; truncate -s 64M hole; echo end >>hole; chmod 2770 .; chown 33:34 . d; \
                  touch -d '2020-01-02 03:04:05' d/one d .";
    run(&engine, &name, script).ok();
    Some((engine, name))
}

/// Our own command, to be begun.
fn coracle(engine: &Engine, arguments: &[&str]) -> Command {
    let mut command = engine.command(programs().join("coracle").to_str().unwrap());
    command.args(arguments);
    command
}

fn run(engine: &Engine, volume: &str, script: &str) -> Output {
    let mount = format!("{volume}:/v");
    engine.docker(&["run", "--rm", "--network", "none", "-v", &mount, SMALL, "sh", "-c", script])
}

/// What a volume has: kinds, modes, owners, times, names, how many names each file has and how much of the disk they take.
fn listing(engine: &Engine, volume: &str) -> String {
    let script = "cd /v; find . | sort | while read f; do stat -c '%n %f %u:%g %h %s %Y %N' $f; done; cat d/one; tail -n 1 hole | \
                  tail -c 4; [ $(du -k hole | cut -f1) -lt 64 ] && echo sparse";
    run(engine, volume, script).ok()
}

fn volumes(engine: &Engine) -> String {
    engine.docker(&["volume", "ls", "-q"]).ok()
}

#[test]
fn what_is_saved_is_loaded_as_it_was() {
    let Some((engine, from)) = filled() else { return };
    let (file, to) = (engine.directory().join("volume.tar"), engine.name("to"));
    let file = file.to_str().unwrap();
    engine.coracle(&["volume", "save", "-o", file, &from]).ok();
    let entries = Command::new("tar").args(["-tf", file]).output().unwrap();
    let mut entries: Vec<&str> = std::str::from_utf8(&entries.stdout).unwrap().lines().collect();
    entries.sort_unstable();
    assert_eq!(entries, ["./", "./d/", "./d/e/", "./d/link", "./d/one", "./d/pipe", "./d/same", "./hole"]);
    let said = engine.coracle(&["volume", "load", "-i", file, "--label", "c=d", &to]).ok();
    assert_eq!(said, to);
    assert_eq!(listing(&engine, &to), listing(&engine, &from));
    let labels = engine.docker(&["volume", "inspect", "-f", "{{json .Labels}}", &to]).json();
    assert_eq!(labels, serde_json::json!({"c": "d"}));
    // Compressed, from another program, and without a name.
    let other = engine.directory().join("other.tar.gz");
    let place = engine.directory().join("other");
    fs::create_dir_all(place.join("x")).unwrap();
    fs::write(place.join("x/file"), "content").unwrap();
    let packed = Command::new("tar").arg("-czf").arg(&other).arg("-C").arg(&place).arg("x").output().unwrap();
    assert!(packed.status.success());
    let mut load = coracle(&engine, &["volume", "load"]);
    let loaded = load.stdin(Stdio::from(fs::File::open(&other).unwrap())).output().unwrap();
    let anonymous = Output::new("volume load".to_owned(), &loaded).ok();
    assert_eq!(anonymous.len(), 64);
    assert_eq!(run(&engine, &anonymous, "cat /v/x/file").ok(), "content");
    engine.docker(&["volume", "rm", &from, &to, &anonymous]).ok();
}

#[test]
fn what_cannot_be_loaded_leaves_nothing() {
    let Some((engine, from)) = filled() else { return };
    let (file, to) = (engine.directory().join("volume.tar"), engine.name("to"));
    engine.coracle(&["volume", "save", "-o", file.to_str().unwrap(), &from]).ok();
    let before = volumes(&engine);
    let load = |file: &std::path::Path, name: &str| {
        engine.coracle(&["volume", "load", "-i", file.to_str().unwrap(), name])
    };
    load(&file, &from).refused(1, &format!("create {from}: there is a volume of that name"));
    let short = engine.directory().join("short.tar");
    let whole = fs::read(&file).unwrap();
    fs::write(&short, &whole[..whole.len() / 2]).unwrap();
    load(&short, &to).refused(1, &format!("load volume {to}: "));
    fs::write(&short, "no archive at all, but some text that is long enough").unwrap();
    load(&short, &to).refused(1, &format!("load volume {to}: "));
    load(&file, "../x").refused(1, "includes invalid characters for a local volume name");
    let options = ["volume", "load", "--opt", "colour=red", "-i", file.to_str().unwrap(), &to];
    engine.coracle(&options).refused(1, "invalid option: \"colour\"");
    assert_eq!(volumes(&engine), before);
    assert_eq!(fs::read_dir(engine.directory().join("data/tmp")).unwrap().count(), 0);
    engine.coracle(&["volume", "save", "none"]).refused(1, "No such volume: none");
    engine.coracle(&["volume", "clone", "none", &to]).refused(1, "No such volume: none");
    engine.docker(&["volume", "rm", &from]).ok();
}

/// A link that leads out is a link, and what an archive has behind it goes nowhere; behind one that stays inside it goes there.
#[test]
fn archives_do_not_lead_out_of_a_volume() {
    let Some((engine, from)) = filled() else { return };
    let outside = engine.directory().join("outside");
    fs::create_dir(&outside).unwrap();
    for (leads_to, found) in [(outside.to_str().unwrap(), "nothing"), ("inside", "evil")] {
        let path = engine.directory().join("links.tar");
        let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        archive.append_data(&mut header, "inside", std::io::empty()).unwrap();
        header.set_entry_type(tar::EntryType::Symlink);
        archive.append_link(&mut header, "link", leads_to).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        archive.append_data(&mut header, "link/evil", &b"evil"[..]).unwrap();
        archive.finish().unwrap();
        let name = engine.name("links");
        engine.coracle(&["volume", "load", "-i", path.to_str().unwrap(), &name]);
        let script = "cat /v/inside/evil 2>/dev/null || echo nothing";
        let there = if volumes(&engine).contains(&name) {
            run(&engine, &name, script).ok()
        } else {
            "nothing".into()
        };
        assert_eq!(there, found, "{leads_to}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{leads_to}");
        engine.docker(&["volume", "rm", "-f", &name]).ok();
    }
    engine.docker(&["volume", "rm", &from]).ok();
}

#[test]
fn a_clone_is_the_same_and_another() {
    let Some((engine, from)) = filled() else { return };
    let to = engine.name("to");
    assert_eq!(engine.coracle(&["volume", "clone", "--label", "c=d", &from, &to]).ok(), to);
    let was = listing(&engine, &from);
    assert_eq!(listing(&engine, &to), was);
    let labels = engine.docker(&["volume", "inspect", "-f", "{{json .Labels}}", &to]).json();
    assert_eq!(labels, serde_json::json!({"a": "b", "c": "d"}));
    run(&engine, &to, "echo changed >/v/d/one; rm /v/hole").ok();
    assert_eq!(listing(&engine, &from), was);
    engine.coracle(&["volume", "clone", &from, &to]).refused(1, "there is a volume of that name");
    engine.docker(&["volume", "rm", &from]).ok();
    assert_eq!(run(&engine, &to, "cat /v/d/same").ok(), "changed");
    engine.docker(&["volume", "rm", &to]).ok();
}

#[test]
fn who_writes_is_in_the_way_or_stands_still() {
    let Some((engine, from)) = filled() else { return };
    let (writer, reader) = (engine.name("writer"), engine.name("reader"));
    let status = |name: &str| engine.docker(&["inspect", "-f", "{{.State.Status}}", name]).ok();
    let begin = |name: &str, mount: &str| {
        let run = ["run", "-d", "--name", name, "--network", "none", "-v", mount, SMALL, "sh", "-c"];
        engine.docker(&[&run[..], &["echo ready; exec sleep 600"]].concat()).ok();
    };
    begin(&reader, &format!("{from}:/v:ro"));
    begin(&writer, &format!("{from}:/v"));
    let file = engine.directory().join("volume.tar");
    let save = ["volume", "save", "-o", file.to_str().unwrap(), &from];
    let (one, two) = (engine.name("one"), engine.name("two"));
    let words = format!("volume {from} is written to by running containers ({writer}): stop them");
    engine.coracle(&save).refused(1, &words);
    engine.coracle(&["volume", "clone", &from, &one]).refused(1, &words);
    assert!(!file.exists());
    engine.coracle(&["volume", "clone", "--live", &from, &one]).ok();
    // Somebody who has paused it knows that it writes nothing.
    engine.docker(&["pause", &writer]).ok();
    engine.coracle(&["volume", "clone", &from, &two]).ok();
    assert_eq!(status(&writer), "paused");
    engine.docker(&["unpause", &writer]).ok();
    engine.docker(&["volume", "rm", &two]).ok();
    // A pipe that nobody reads from holds the archive up, as the volume is larger than what waits on the way.
    run(&engine, &from, "head -c 33554432 /dev/urandom >/v/large").ok();
    let mut saving =
        coracle(&engine, &["volume", "save", "--pause", &from]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the writer stands still", || status(&writer) == "paused");
    assert_eq!(status(&reader), "running");
    engine.docker(&["rm", "-f", &reader]).ok();
    engine.docker(&["volume", "rm", &from]).refused(1, "volume is in use");
    // Somebody who breaks off has it go on, too.
    saving.kill().unwrap();
    saving.wait().unwrap();
    wait_until("the writer goes on", || status(&writer) == "running");
    engine.coracle(&["volume", "clone", "--pause", &from, &two]).ok();
    assert_eq!(status(&writer), "running");
    engine.docker(&["rm", "-f", &writer]).ok();
    engine.docker(&["volume", "rm", &from, &one, &two]).ok();
}

/// A volume that nobody uses is not taken away from under whoever reads all of it.
#[test]
fn a_volume_stays_as_long_as_it_is_saved() {
    let Some((engine, from)) = filled() else { return };
    run(&engine, &from, "head -c 33554432 /dev/urandom >/v/large").ok();
    let mut saving = coracle(&engine, &["volume", "save", &from]).stdout(Stdio::piped()).spawn().unwrap();
    let in_the_way = format!("remove {from}: volume is in use - it is being saved or copied");
    wait_until("it is being saved", || {
        let mut first = [0];
        std::io::Read::read(saving.stdout.as_mut().unwrap(), &mut first).unwrap() == 1
    });
    engine.docker(&["volume", "rm", &from]).refused(1, &in_the_way);
    engine.docker(&["volume", "prune", "-af"]).ok();
    assert_eq!(volumes(&engine), from);
    saving.kill().unwrap();
    saving.wait().unwrap();
    wait_until("it can be removed", || engine.docker(&["volume", "rm", &from]).code == 0);
}

/// Who is held still by two goes on after the second.
#[test]
fn who_stands_still_for_two_goes_on_after_both() {
    let Some((engine, from)) = filled() else { return };
    let writer = engine.name("writer");
    let mount = format!("{from}:/v");
    let run_writer =
        ["run", "-d", "--name", &writer, "--network", "none", "-v", &mount, SMALL, "sleep", "600"];
    engine.docker(&run_writer).ok();
    run(&engine, &from, "head -c 33554432 /dev/urandom >/v/large").ok();
    let status = || engine.docker(&["inspect", "-f", "{{.State.Status}}", &writer]).ok();
    let save = || {
        let mut saving = coracle(&engine, &["volume", "save", "--pause", &from]);
        let mut saving = saving.stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(saving.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        saving
    };
    let end = |mut saving: std::process::Child| {
        saving.kill().unwrap();
        saving.wait().unwrap();
    };
    let (first, second) = (save(), save());
    assert_eq!(status(), "paused");
    // An image of it is one more of those that hold it still.
    let image = engine.name("image");
    engine.docker(&["commit", &writer, &image]).ok();
    assert_eq!(status(), "paused", "after the commit");
    end(first);
    let clone = engine.name("clone");
    engine.coracle(&["volume", "clone", "--pause", &from, &clone]).ok();
    assert_eq!(status(), "paused", "after the first");
    end(second);
    wait_until("the writer goes on", || status() == "running");
    engine.docker(&["rm", "-f", &writer]).ok();
    engine.docker(&["rmi", &image]).ok();
    engine.docker(&["volume", "rm", &from, &clone]).ok();
}

/// An engine that dies while somebody stands still has it go on when it comes again, and nothing half is left.
#[test]
fn a_killed_engine_has_everybody_go_on() {
    let Some((mut engine, from)) = filled() else { return };
    let writer = engine.name("writer");
    let mount = format!("{from}:/v");
    let run_writer =
        ["run", "-d", "--name", &writer, "--network", "none", "-v", &mount, SMALL, "sleep", "600"];
    engine.docker(&run_writer).ok();
    run(&engine, &from, "head -c 33554432 /dev/urandom >/v/large").ok();
    let mut saving =
        coracle(&engine, &["volume", "save", "--pause", &from]).stdout(Stdio::piped()).spawn().unwrap();
    let status = |engine: &Engine| engine.docker(&["inspect", "-f", "{{.State.Status}}", &writer]).ok();
    wait_until("the writer stands still", || status(&engine) == "paused");
    engine.kill();
    saving.kill().unwrap();
    saving.wait().unwrap();
    engine.start_again();
    wait_until("the writer goes on", || status(&engine) == "running");
    engine.docker(&["rm", "-f", &writer]).ok();
    engine.docker(&["volume", "rm", &from]).ok();
}
