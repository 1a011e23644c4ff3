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

/// Whatever is kept of a build, or told of it: data root, logs, history, provenance, caches, events.
#[test]
fn nothing_that_is_kept_or_told_of_a_build_has_a_secret_in_it() {
    let engine = Engine::start_with(&["--debug"]);
    if engine.is_original() {
        // The test looks at the engine's own files.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    let text = format!("canary-{}-{}", std::process::id(), engine.name("kept"));
    fs::write(path("secret"), &text).unwrap();
    let context = Context::new(
        "FROM BASE\nARG FAIL\n\
         RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=E --mount=type=cache,target=/c wc -c </run/secrets/s >/c/n && test -n \"$E\"\n\
         RUN --mount=type=secret,id=s,target=/s,env=E test \"$(cat /s)\" = \"$E\" && echo same >/r && test $FAIL = 0\n",
        &[],
    );
    let name = engine.name("kept");
    let build = |fail: &str, more: &[&str]| {
        let (secret, fail) = (format!("id=s,src={}", path("secret")), format!("FAIL={fail}"));
        engine.buildx(
            &context.path(),
            &[&["--secret", &secret, "--build-arg", &fail, "-t", &name], more].concat(),
        )
    };
    let (archive, cache) =
        (format!("type=oci,dest={}", path("i.tar")), format!("type=local,dest={},mode=max", path("cache")));
    let outputs = [
        build("0", &[]),
        build(
            "0",
            &["--no-cache", "--attest", "type=provenance,mode=max", "-o", &archive, "--cache-to", &cache],
        ),
        build("1", &[]),
        engine.docker(&["events", "--since", "0", "--until", "0s"]),
        engine.docker(&["history", "--no-trunc", &name]),
        engine.docker(&["inspect", &name]),
        engine.plugin_in(place.path(), &["buildx", "du", "--verbose"]),
    ];
    let codes: Vec<i32> = outputs.iter().map(|output| output.code).collect();
    assert_eq!(codes, [0, 0, 1, 0, 0, 0, 0], "{outputs:?}");
    assert!(
        outputs[1].stderr.contains("writing cache") || fs::exists(path("cache")).unwrap(),
        "a cache is written"
    );
    fs::remove_file(path("secret")).unwrap();
    // Neither itself, nor what a short one could be guessed by.
    fs::write(path("list"), &text).unwrap();
    let digest = Command::new("sha256sum").arg(path("list")).output().unwrap().stdout;
    let encoded = Command::new("base64").args(["-w0", &path("list")]).output().unwrap().stdout;
    fs::remove_file(path("list")).unwrap();
    let digest = String::from_utf8(digest).unwrap()[..64].to_owned();
    for form in [text, digest, String::from_utf8(encoded).unwrap()] {
        for place in [engine.directory(), place.path(), Path::new("/dev/shm")] {
            assert_eq!(holding(&form, place), Vec::<String>::new(), "{form}");
        }
        assert!(!format!("{outputs:?}").contains(&form));
    }
    engine.docker(&["rmi", &name]).ok();
}

/// The agent's keys answer for one command, and stay with the client.
#[test]
fn a_real_agent_answers_for_one_command() {
    let engine = Engine::start();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).env("SSH_AUTH_SOCK", path("agent")).output();
        let output = output.expect("the package openssh-client is installed");
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "of-the-client", "-f", &path("key")]);
    let mut agent =
        Command::new("ssh-agent").args(["-D", "-a", &path("agent")]).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the agent listens", || place.path().join("agent").exists());
    run("ssh-add", &["-q", &path("key")]);
    let fingerprint = run("ssh-add", &["-l"]);
    let context = Context::new(
        "FROM BASE\nCOPY root /\nRUN --mount=type=ssh ssh-add -l >/keys\nRUN --mount=type=ssh,mode=0666 --mount=type=ssh,target=/s,id=default \
         SSH_AUTH_SOCK=/s ssh-add -l | cmp - /keys\nRUN ! ssh-add -l && test -z \"$SSH_AUTH_SOCK\" && ! test -e /s && rm /etc/plain\n",
        &[],
    );
    context.put_program("root", "/usr/bin/ssh-add");
    let name = engine.name("agent");
    let output = engine
        .plugin_command(&["buildx", "build", "--no-cache", "--load", "--ssh", "default", "-t", &name, "."])
        .current_dir(context.path())
        .env("SSH_AUTH_SOCK", path("agent"))
        .output()
        .unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    Output::new("docker buildx build".to_owned(), &output).ok();
    let keys = engine.docker(&["run", "--rm", "--network", "none", &name, "cat", "/keys"]).ok();
    assert_eq!(keys, fingerprint.trim_end());
    engine.docker(&["rmi", &name]).ok();
}
