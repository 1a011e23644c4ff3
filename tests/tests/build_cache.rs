//! What builds need not do again.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, classic_build};
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

/// Builds, and says of every step whether it was found.
fn build(engine: &Engine, context: &Context, arguments: &[&str]) -> (Vec<bool>, String) {
    let output = classic_build(engine, &context.path(), arguments).ok();
    let mut found = Vec::new();
    for line in output.lines() {
        if line.starts_with("Step ") {
            found.push(false);
        } else if line.trim() == "---> Using cache" {
            *found.last_mut().unwrap() = true;
        }
    }
    let id = output.lines().find_map(|line| line.strip_prefix("Successfully built ")).unwrap();
    (found, id.to_owned())
}

/// The answer of a request that must be well.
fn get(engine: &Engine, method: &str, path: &str) -> serde_json::Value {
    let (status, answer) = engine.request(method, path, None);
    assert_eq!(status, 200, "{method} {path}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn only_what_has_changed_is_done_again() {
    let engine = Engine::start();
    let mut context = Context::new(
        "FROM BASE\nARG A=1\nENV E=1\nCOPY d /d\nRUN cat /d/f >/r\nWORKDIR /w\nCOPY late /late\nCMD [\"true\"]\n",
        &[("d/f", "one"), ("late", "1"), ("unused", "")],
    );
    let nothing = [false; 8];
    let (found, first) = build(&engine, &context, &[]);
    assert_eq!(found[3..7], nothing[3..7]);
    let (found, again) = build(&engine, &context, &[]);
    assert_eq!((&found[3..7], &again), (&[true; 4][..], &first), "the same build gives the same image");

    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::options().write(true).open(context.path().join("d/f")).unwrap().set_modified(long_ago).unwrap();
    context.put("unused", "other");
    assert_eq!(
        build(&engine, &context, &[]).0[3..7],
        [true; 4],
        "neither times nor what is not copied count"
    );

    context.put("late", "2");
    assert_eq!(build(&engine, &context, &[]).0[3..7], [true, true, true, false]);
    let (found, changed) = build(&engine, &context, &["--build-arg", "A=2"]);
    assert!(found[3]);
    assert!(!found[4], "a command has the arguments");
    assert_ne!(changed, first);
    context.put("late", "1");
    assert_eq!(build(&engine, &context, &[]).1, first, "what was before is found again");

    context.put("d/f", "two");
    assert_eq!(build(&engine, &context, &[]).0[3..5], [false, false]);
    context = Context::new("FROM BASE\nRUN echo new >/n\nCOPY d /d\n", &[("d/f", "one")]);
    assert_eq!(build(&engine, &context, &[]).0[1..], [false, false], "it is done on something else");
    assert_eq!(build(&engine, &context, &["--no-cache"]).0[1..], [false, false]);
    engine.docker(&["image", "prune", "-af"]).ok();
}

#[test]
fn names_modes_and_links_of_files_count() {
    let engine = Engine::start();
    let context =
        Context::new("FROM BASE\nCOPY d /d\nCOPY f* /x/\n", &[("d/a", "1"), ("f1", ""), ("f3", "")]);
    build(&engine, &context, &[]);
    let steps = |context: &Context| build(&engine, context, &[]).0[1..].to_vec();
    assert_eq!(steps(&context), [true, true]);
    fs::rename(context.path().join("f1"), context.path().join("f2")).unwrap();
    assert_eq!(steps(&context), [true, false], "a file under another name");
    fs::rename(context.path().join("d/a"), context.path().join("d/b")).unwrap();
    assert!(!steps(&context)[0], "a file of a directory under another name");
    context.put("d/l", "-> b");
    assert!(!steps(&context)[0], "a new link");
    fs::remove_file(context.path().join("d/l")).unwrap();
    context.put("d/l", "-> c");
    assert!(!steps(&context)[0], "a link to something else");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(context.path().join("d/b"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!steps(&context)[0], "another mode");
    assert_eq!(steps(&context), [true, true]);
    engine.docker(&["image", "prune", "-af"]).ok();
}

#[test]
fn what_a_stage_gives_counts_by_its_content() {
    let engine = Engine::start();
    if engine.is_original() {
        // Its classic builder goes by the image of the stage.
        return;
    }
    let context = |text: &str| {
        let text = format!("FROM BASE AS a\nRUN {text}\nFROM BASE\nCOPY --from=a /given /g\nRUN cat /g\n");
        Context::new(&text, &[])
    };
    build(&engine, &context("echo 1 >/given"), &[]);
    let (found, _) = build(&engine, &context("echo 1 >/given; echo 2 >/kept"), &[]);
    assert_eq!(found, [false, false, false, true, true], "the stage was built anew, and gave the same");
    let (found, _) = build(&engine, &context("echo 3 >/given"), &[]);
    assert_eq!(found, [false; 5]);
    engine.docker(&["image", "prune", "-af"]).ok();
}

#[test]
fn no_image_that_only_looks_like_a_result_is_taken_for_one() {
    // CVE-2024-24557: what was pulled said of itself that it was made by this very step.
    let engine = Engine::start();
    let context = Context::new("FROM BASE\nRUN echo good >/f\n", &[]);
    let (_, image) = build(&engine, &context, &[]);
    let history = engine.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", &image]).ok();
    let step = history.lines().next().unwrap().to_owned();
    let crafted = Context::new("FROM BASE\nRUN echo evil >/f\n", &[]);
    let evil = build(&engine, &crafted, &[]).1;
    // The history of the one with the files of the other.
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("i.tar");
    engine.docker(&["save", "-o", archive.to_str().unwrap(), &evil]).ok();
    let evil_step = engine.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", &evil]).ok();
    let evil_step = evil_step.lines().next().unwrap().to_owned();
    engine.docker(&["rmi", "-f", &evil, &image]).ok();
    engine.docker(&["builder", "prune", "-af"]).ok();
    let unpacked = directory.path().join("i");
    fs::create_dir(&unpacked).unwrap();
    let tar = |arguments: &[&str]| {
        assert!(
            std::process::Command::new("tar")
                .current_dir(&unpacked)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    tar(&["xf", archive.to_str().unwrap()]);
    let mut changed = 0;
    for entry in walk(&unpacked) {
        let Ok(text) = fs::read_to_string(&entry) else { continue };
        let quoted = |step: &str| serde_json::to_string(step).unwrap();
        if text.contains(&quoted(&evil_step)) {
            changed += 1;
            fs::write(&entry, text.replace(&quoted(&evil_step), &quoted(&step))).unwrap();
        }
    }
    assert!(changed > 0, "the history stands in the archive");
    tar(&["cf", "../crafted.tar", "."]);
    // Its configuration no longer is what its name says: refused, or taken under its new name.
    let _ = engine.docker(&["load", "-i", directory.path().join("crafted.tar").to_str().unwrap()]);
    let (found, built) = build(&engine, &context, &[]);
    assert!(!found[1]);
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &built, "cat", "/f"]).ok(), "good");
    engine.docker(&["image", "prune", "-af"]).ok();
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(walk(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn an_engine_that_is_killed_goes_on_after_the_last_step_that_was_done() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let mut engine = Engine::start();
    let context = Context::new(
        "FROM BASE\nRUN cat /proc/sys/kernel/random/uuid >/f\nRUN echo begun; sleep 1000\n",
        &[],
    );
    let mut child = begin(&engine, &context);
    wait_until("the second command runs", || {
        engine.docker(&["ps", "--format", "{{.Command}}", "--no-trunc"]).ok().contains("sleep")
    });
    engine.kill();
    child.wait().unwrap();
    engine.start_again();
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    let layers = layers(&engine);
    context.put("Dockerfile", &format!("FROM {SMALL}\nRUN cat /proc/sys/kernel/random/uuid >/f\nRUN true\n"));
    let (found, _) = build(&engine, &context, &[]);
    assert_eq!(found, [false, true, false]);
    assert_eq!(self::layers(&engine), layers, "nothing half made was there, and nothing new was made");
}

fn begin(engine: &Engine, context: &Context) -> std::process::Child {
    engine
        .command("docker")
        .args(["build", "."])
        .current_dir(context.path())
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn layers(engine: &Engine) -> BTreeSet<String> {
    let directory = engine.directory().join("data/layers/sha256");
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_remembered_is_shown_and_pruned() {
    let engine = Engine::start();
    if engine.is_original() {
        // Its classic builder remembers in images.
        return;
    }
    let before = layers(&engine);
    let context = Context::new("FROM BASE\nRUN head -c 100000 /dev/zero >/big\nRUN echo >/small\n", &[]);
    let (_, image) = build(&engine, &context, &[]);
    let records =
        |engine: &Engine| get(engine, "GET", "/v1.47/system/df?type=build-cache")["BuildCache"].clone();
    let shown = records(&engine);
    assert_eq!(shown.as_array().unwrap().len(), 2, "{shown}");
    let big = shown.as_array().unwrap().iter().find(|record| record["Size"] == 100_000).unwrap();
    assert_eq!(
        (&big["Type"], &big["Shared"], &big["InUse"]),
        (&"regular".into(), &true.into(), &false.into())
    );
    assert!(big["Description"].as_str().unwrap().starts_with("RUN head"), "{big}");
    assert!(engine.docker(&["system", "df"]).ok().contains("Build Cache"));

    // An image has both.
    assert_eq!(get(&engine, "POST", "/v1.47/build/prune")["CachesDeleted"], serde_json::json!([]));
    engine.docker(&["rmi", &image]).ok();
    assert_eq!(layers(&engine).len(), before.len() + 2, "what is remembered stays");
    let (found, image) = build(&engine, &context, &[]);
    assert_eq!(found, [false, true, true]);
    engine.docker(&["rmi", &image]).ok();
    let kept = get(&engine, "POST", "/v1.48/build/prune?reserved-space=100000");
    assert_eq!((kept["CachesDeleted"].as_array().unwrap().len(), &kept["SpaceReclaimed"]), (1, &1.into()));
    assert_eq!(records(&engine)[0]["Size"], 100_000);
    let (status, answer) =
        engine.request("POST", "/v1.47/build/prune?filters=%7B%22nope%22:%7B%22x%22:true%7D%7D", None);
    assert_eq!(status, 400, "{answer}");
    let none =
        get(&engine, "POST", "/v1.47/build/prune?filters=%7B%22type%22:%7B%22exec.cachemount%22:true%7D%7D");
    assert_eq!(none["CachesDeleted"], serde_json::json!([]));
    let id = records(&engine)[0]["ID"].as_str().unwrap().to_owned();
    let gone = get(
        &engine,
        "POST",
        &format!("/v1.47/build/prune?all=1&filters=%7B%22id%22:%7B%22{id}%22:true%7D%7D"),
    );
    assert_eq!(gone, serde_json::json!({"CachesDeleted": [id], "SpaceReclaimed": 100_000}));
    wait_until("the layers are gone", || layers(&engine) == before);
    assert_eq!(records(&engine), serde_json::json!([]));
}

#[test]
fn what_is_remembered_survives_the_engine_and_a_layer_that_is_gone_is_made_again() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let mut engine = Engine::start();
    let context = Context::new("FROM BASE\nRUN echo 1 >/f\n", &[]);
    let before = layers(&engine);
    let (_, image) = build(&engine, &context, &[]);
    engine.docker(&["rmi", &image]).ok();
    engine.kill();
    engine.start_again();
    assert_eq!(build(&engine, &context, &[]), (vec![false, true], image.clone()));
    engine.docker(&["rmi", &image]).ok();
    for layer in layers(&engine).difference(&before) {
        fs::remove_dir_all(engine.directory().join("data/layers/sha256").join(layer)).unwrap();
    }
    assert_eq!(build(&engine, &context, &[]).0, [false, false]);
}

#[test]
fn stages_that_do_not_need_each_other_are_built_at_once() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let wait = |name: &str| format!("RUN touch /{name}; while [ ! -e /go ]; do sleep 0.1; done\n");
    let text = format!(
        "FROM BASE AS a\n{}FROM BASE AS b\n{}FROM BASE\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        wait("a"),
        wait("b")
    );
    let context = Context::new(&text, &[]);
    let mut child = begin(&engine, &context);
    let steps = || engine.docker(&["ps", "-q"]).ok();
    wait_until("both commands run", || steps().lines().count() == 2);
    for container in steps().lines() {
        engine.docker(&["exec", container, "touch", "/go"]).ok();
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_same_step_of_two_builds_is_done_once() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let context = Context::new("FROM BASE\nRUN while [ ! -e /go ]; do sleep 0.1; done\n", &[]);
    let mut children = [begin(&engine, &context), begin(&engine, &context)];
    let steps = || engine.docker(&["ps", "-q"]).ok();
    wait_until("the command runs", || !steps().is_empty());
    engine.docker(&["exec", &steps(), "touch", "/go"]).ok();
    // A second container would wait for ever.
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn two_builds_give_the_same_image_where_times_are_given() {
    let engine = Engine::start();
    if engine.is_original() {
        // Its classic builder does not know the argument.
        return;
    }
    let context = Context::new(
        "FROM BASE\nRUN mkdir /d && date >/dev/null && echo x >/d/f\nCOPY f /\nENV A=1\n",
        &[("f", "")],
    );
    let given = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000", "--no-cache"];
    let (_, first) = build(&engine, &context, &given);
    let output: Output =
        engine.docker(&["run", "--rm", "--network", "none", &first, "stat", "-c", "%Y", "/d", "/d/f"]);
    assert_eq!(output.ok(), "1000000000\n1000000000");
    let created = engine.docker(&["inspect", "-f", "{{.Created}}", &first]).ok();
    assert_eq!(created, "2001-09-09T01:46:40Z");
    assert_eq!(build(&engine, &context, &given).1, first);
    classic_build(&engine, &context.path(), &["--build-arg", "SOURCE_DATE_EPOCH=soon"])
        .refused(1, "SOURCE_DATE_EPOCH");
}

#[test]
fn what_no_image_has_goes_when_it_takes_more_than_it_may() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start_with(&["--build-cache-budget", "150000"]);
    let context = |number: usize| {
        Context::new(&format!("FROM BASE\nRUN head -c 100000 /dev/zero >/big{number}\n"), &[])
    };
    let descriptions = || {
        let records = get(&engine, "GET", "/v1.47/system/df?type=build-cache")["BuildCache"].clone();
        let records = records.as_array().unwrap().iter();
        let mut texts: Vec<_> =
            records.map(|record| record["Description"].as_str().unwrap().to_owned()).collect();
        texts.sort();
        texts
    };
    let images: Vec<String> = (0..3).map(|number| build(&engine, &context(number), &[]).1).collect();
    assert_eq!(descriptions().len(), 3, "images have all of them");
    for image in &images {
        engine.docker(&["rmi", image]).ok();
    }
    // The next thing that is remembered has it looked.
    let kept = Context::new("FROM BASE\nRUN head -c 90000 /dev/zero >/last\n", &[]);
    build(&engine, &kept, &[]);
    // Whether the last one counted, which had no image before its build was over, is a matter of when that was.
    wait_until("one that no image has is left at most", || descriptions().len() <= 2);
    assert!(descriptions().iter().any(|text| text.contains("/last")), "an image has it");
}

#[test]
fn what_commands_keep_is_shown_and_pruned_too() {
    let engine = Engine::start();
    if engine.is_original() {
        // Its classic builder has no mounts.
        return;
    }
    let text = "FROM BASE\nRUN --mount=type=cache,id=kept,target=/c head -c 5000 /dev/zero >/c/f\n";
    let context = Context::new(text, &[]);
    build(&engine, &context, &[]);
    let mounts = || {
        let records = get(&engine, "GET", "/v1.47/system/df?type=build-cache")["BuildCache"].clone();
        let is_mount = |record: &&serde_json::Value| record["Type"] == "exec.cachemount";
        records.as_array().unwrap().iter().filter(is_mount).cloned().collect::<Vec<_>>()
    };
    // Its size is noted after the command has ended.
    wait_until("the cache is measured", || mounts().iter().any(|mount| mount["Size"] == 5000));
    assert!(mounts()[0]["Description"].as_str().unwrap().contains("kept"), "{:?}", mounts());
    get(&engine, "POST", "/v1.47/build/prune?filters=%7B%22type%22:%7B%22regular%22:true%7D%7D");
    assert_eq!(mounts().len(), 1);
    let gone =
        get(&engine, "POST", "/v1.47/build/prune?filters=%7B%22type%22:%7B%22exec.cachemount%22:true%7D%7D");
    assert_eq!(gone["SpaceReclaimed"], 5000);
    assert_eq!(mounts().len(), 0);
    assert!(
        !build(
            &engine,
            &Context::new(&text.replace("head -c 5000 /dev/zero >/c/f", "test ! -e /c/f"), &[]),
            &[]
        )
        .0[1]
    );
}
