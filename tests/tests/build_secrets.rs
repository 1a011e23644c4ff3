//! Secrets of builds: in memory while a command runs, and nowhere else at any time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, build};
use coracle_tests::engine::wait_until;
use coracle_tests::{Engine, Output};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// By our own command, or by the original's BuildKit.
fn build_with(engine: &Engine, context: &Context, arguments: &[&str]) -> Output {
    if engine.is_original() {
        return build(engine, &context.path(), arguments);
    }
    let path = context.path().display().to_string();
    engine.coracle(&[&["build"], arguments, &[&path]].concat())
}

/// Files below a directory that hold a text.
fn holding(text: &str, directory: &Path) -> Vec<String> {
    let output = Command::new("grep").args(["-rlaF", "-e", text]).arg(directory).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn secrets_are_files_or_variables_for_one_command() {
    let engine = Engine::start();
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("secret");
    fs::write(&secret, "hush hush").unwrap();
    let given = format!("id=s,src={}", secret.display());
    let context = Context::new(
        "FROM BASE\n\
         RUN --mount=type=secret,id=s stat -c '%n %a %u %g' /run/secrets/s >/r && test \"$(wc -c </run/secrets/s)\" = 9\n\
         RUN --mount=type=secret,id=s,target=/a/b/mine,mode=0440,uid=33,gid=77 stat -c '%a %u %g' /a/b/mine >>/r\n\
         RUN --mount=type=secret,id=s,required cat /run/secrets/s | tr a-z A-Z | cut -c1-4 >>/r; touch /run/secrets/s 2>/dev/null || echo no >>/r\n\
         RUN ls -d /run /a /run/secrets 2>&1 | grep -c No >>/r\n",
        &[],
    );
    let image = engine.name("secretive");
    build_with(&engine, &context, &["--no-cache", "--secret", &given, "-t", &image]).ok();
    let printed = engine.docker(&["run", "--rm", "--network", "none", &image, "cat", "/r"]).ok();
    // The original leaves the directories.
    let left = if engine.is_original() { "" } else { "3" };
    assert!(
        printed.starts_with(&format!("/run/secrets/s 400 0 0\n440 33 77\nHUSH\nno\n{left}")),
        "{printed}"
    );
    let saved = place.path().join("image.tar");
    engine.docker(&["save", "-o", &saved.display().to_string(), &image]).ok();
    let history =
        engine.docker(&["history", "--no-trunc", &image]).ok() + &engine.docker(&["inspect", &image]).ok();
    assert!(holding("hush hush", &saved).is_empty() && !history.contains("hush"));
    engine.docker(&["rmi", &image]).ok();

    let missing = Context::new("FROM BASE\nRUN --mount=type=secret,id=other,required true\n", &[]);
    assert!(build_with(&engine, &missing, &["--secret", &given]).stderr.contains("other: not found"));
    if !engine.is_original() {
        // Its language is older.
        let variable = Context::new(
            "FROM BASE\nRUN --mount=type=secret,id=s,env=S test ${#S} = 9 && ! test -e /run/secrets/s\n",
            &[],
        );
        build_with(&engine, &variable, &["--no-cache", "--secret", &given]).ok();
    }
}

#[test]
fn no_disk_sees_a_secret_even_while_it_is_used() {
    let engine = Engine::start();
    if engine.is_original() {
        // The test looks at the engine's own files.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("secret");
    // Nothing else on the machine says this, not even this program.
    let text = format!("canary-{}-{}", std::process::id(), engine.name("x"));
    fs::write(&secret, &text).unwrap();
    let context = Context::new(
        "FROM BASE\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,target=/e,env=E --mount=type=cache,target=/c \
         touch /c/begun; while ! test -e /c/go; do sleep 0.05; done\n",
        &[],
    );
    let path = context.path().display().to_string();
    let mut child = engine
        .command(&coracle_tests::engine::programs().join("coracle").display().to_string())
        .args(["build", "--no-cache", "--secret", &format!("id=s,src={}", secret.display()), &path])
        .env("CORACLE_HOST", engine.host())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let caches = engine.directory().join("data/build/caches");
    let content =
        || -> Option<PathBuf> { Some(fs::read_dir(&caches).ok()?.next()?.ok()?.path().join("content")) };
    wait_until("the command has begun", || content().is_some_and(|content| content.join("begun").exists()));
    let (data, run) = (engine.directory().join("data"), engine.directory().join("run"));
    assert_eq!(holding(&text, &data), Vec::<String>::new(), "on the disk");
    let seen = [holding(&text, &run), holding(&text, Path::new("/dev/shm"))].concat();
    assert_eq!(seen.len(), 2, "two files in memory: {seen:?}");
    let ids = engine.docker(&["ps", "-q"]).ok();
    assert!(!engine.docker(&["inspect", &ids]).ok().contains(&text), "a container's record shows it");
    fs::write(content().unwrap().join("go"), "").unwrap();
    assert!(child.wait().unwrap().success());
    wait_until("nothing of it is left", || {
        [&data, &run, &PathBuf::from("/dev/shm")].into_iter().all(|place| holding(&text, place).is_empty())
    });
}

#[test]
fn an_engine_that_was_killed_leaves_no_secret() {
    let mut engine = Engine::start();
    if engine.is_original() {
        // It is not killed.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("secret");
    let text = format!("canary-{}-{}", std::process::id(), engine.name("y"));
    fs::write(&secret, &text).unwrap();
    let context = Context::new("FROM BASE\nRUN --mount=type=secret,id=s sleep 1000\n", &[]);
    let mut child = engine
        .command(&coracle_tests::engine::programs().join("coracle").display().to_string())
        .args(["build", "--no-cache", "--secret", &format!("id=s,src={}", secret.display())])
        .arg(context.path())
        .env("CORACLE_HOST", engine.host())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the command runs", || !engine.docker(&["ps", "-q"]).ok().is_empty());
    let places = [engine.directory().join("run"), PathBuf::from("/dev/shm")];
    let seen = || places.iter().map(|place| holding(&text, place).len()).sum::<usize>();
    assert_eq!(seen(), 1);
    engine.kill();
    child.wait().unwrap();
    engine.start_again();
    assert_eq!(seen(), 0);
}
