//! `coracle build`: the context is read where it is, every step is told of.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, classic_build};
use coracle_tests::engine::programs;
use coracle_tests::{Engine, Output};
use std::fs;
use std::path::Path;

fn build(engine: &Engine, context: &Path, arguments: &[&str]) -> Output {
    let output = engine
        .command(programs().join("coracle").to_str().unwrap())
        .arg("build")
        .args(arguments)
        .arg(context)
        .output()
        .unwrap();
    Output::new(format!("coracle build {}", arguments.join(" ")), &output)
}

fn is_original() -> bool {
    std::env::var_os("TARGET").is_some()
}

#[test]
fn the_context_is_read_in_place_and_stays_as_it_is() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new(
        "FROM BASE AS one\nCOPY . /c\nRUN echo said; cat /c/f >/out\nFROM BASE\nCOPY --from=one /out /out\nENV A=1\n",
        &[("f", "content"), (".dockerignore", "ignored\n"), ("ignored", "")],
    );
    std::os::unix::fs::chown(context.path().join("f"), Some(1234), Some(1234)).unwrap();
    let iid = tempfile::NamedTempFile::new().unwrap();
    let arguments = ["-t", "own", "--iidfile", iid.path().to_str().unwrap()];
    let output = build(&engine, &context.path(), &arguments);
    assert!(output.stderr.contains("[one 3/3] RUN echo said"), "{}", output.stderr);
    let said = output.stderr.lines().any(|line| line.starts_with('#') && line.ends_with(" said"));
    assert!(said && output.stderr.contains("named own:latest"), "{}", output.stderr);
    output.ok();
    let check = ["run", "--rm", "--network", "none", "own", "cat", "/out"];
    assert_eq!(engine.docker(&check).ok(), "content");
    let image = engine.docker(&["inspect", "-f", "{{.Id}}", "own"]).ok();
    assert_eq!(fs::read_to_string(iid.path()).unwrap(), image);
    // Nothing was sent, so nothing was unpacked.
    let quiet = build(&engine, &context.path(), &["-q"]);
    assert_eq!(quiet.stderr, "");
    assert_eq!(quiet.ok(), image);
    let again = build(&engine, &context.path(), &[]);
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{}", again.stderr);
    let stage = build(&engine, &context.path(), &["--target", "one", "-t", "stage"]);
    stage.ok();
    let check = ["run", "--rm", "--network", "none", "stage", "sh", "-c", "ls /c; stat -c %u /c/f"];
    assert_eq!(engine.docker(&check).ok(), "Dockerfile\nf\n0");
    engine.docker(&["rmi", "own", "stage"]).ok();
}

#[test]
fn it_is_told_what_has_changed_and_what_failed() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new("FROM BASE\nARG A=1\nCOPY f /f\nRUN cat /f\n", &[("f", "1")]);
    build(&engine, &context.path(), &[]).ok();
    let changed = build(&engine, &context.path(), &["--explain-cache", "--build-arg", "A=2"]);
    assert!(changed.stderr.contains("not in the cache: variable A changed"), "{}", changed.stderr);
    context.put("f", "2");
    let changed = build(&engine, &context.path(), &["--explain-cache"]);
    assert!(changed.stderr.contains("not in the cache: the files changed"), "{}", changed.stderr);
    let cased = Context::new("from scratch\nLABEL a=b\nlabel c=d\n", &[]);
    let warned = build(&engine, &cased.path(), &[]);
    assert!(warned.stderr.contains("WARN ConsistentInstructionCasing: "), "{}", warned.stderr);
    cased.put("Dockerfile", "# check=error=true\nfrom scratch\nLABEL a=b\nlabel c=d\n");
    build(&engine, &cased.path(), &[])
        .refused(1, "lint violation found for rules: ConsistentInstructionCasing");
    let below = changed.stderr.contains("not in the cache: what is below changed");
    assert!(below, "{}", changed.stderr);

    context.put("Dockerfile", "FROM scratch\n# a comment\nRUM x\n");
    build(&engine, &context.path(), &[]).refused(1, "unknown instruction: RUM");
    let failing = Context::new("FROM BASE\nRUN echo why >&2; \\\n  exit 7\n", &[]);
    let failed = build(&engine, &failing.path(), &[]);
    assert!(failed.stderr.contains(" why\n"), "{}", failed.stderr);
    failed.refused(7, "Dockerfile, lines 2 to 3:");
    let missing = Context::new("FROM BASE\nCOPY nothing /\n", &[]);
    build(&engine, &missing.path(), &[]).refused(1, "Dockerfile, line 2: ");
    // What a base image has done is done where the stage begins.
    let base = Context::new("FROM BASE\nONBUILD COPY nothing /\n", &[]);
    build(&engine, &base.path(), &["-t", "triggers"]).ok();
    let triggered = Context::new("ARG A\n\nFROM triggers\n", &[]);
    build(&engine, &triggered.path(), &[]).refused(1, "Dockerfile, line 3: ");
    build(&engine, Path::new("/nowhere"), &[]).refused(1, "/nowhere");
    engine.docker(&["image", "prune", "-af"]).ok();
}

#[test]
fn dockerfiles_come_from_elsewhere_and_contexts_from_stdin() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let context = Context::new("", &[("f", "here")]);
    fs::remove_file(context.path().join("Dockerfile")).unwrap();
    build(&engine, &context.path(), &[]).refused(1, "Cannot locate specified Dockerfile: Dockerfile");
    let other = Context::new("FROM BASE\nCOPY f /f\n", &[]);
    let file = other.path().join("Dockerfile").display().to_string();
    build(&engine, &context.path(), &["-f", &file, "-t", "elsewhere"]).ok();
    let cat = ["run", "--rm", "--network", "none", "elsewhere", "cat", "/f"];
    assert_eq!(engine.docker(&cat).ok(), "here");

    let from_stdin = |input: &[u8]| {
        use std::io::Write;
        let mut command = engine.command(programs().join("coracle").to_str().unwrap());
        command.args(["build", "-t", "elsewhere", "-"]).stdin(std::process::Stdio::piped());
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Output::new("coracle build -".to_owned(), &child.wait_with_output().unwrap())
    };
    let text = fs::read_to_string(&file).unwrap();
    from_stdin(text.replace("COPY f /f", "RUN echo alone >/f").as_bytes()).ok();
    assert_eq!(engine.docker(&cat).ok(), "alone");
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(&file, "Dockerfile").unwrap();
    archive.append_path_with_name(context.path().join("f"), "f").unwrap();
    from_stdin(&archive.into_inner().unwrap()).ok();
    assert_eq!(engine.docker(&cat).ok(), "here");
    engine.docker(&["rmi", "elsewhere"]).ok();
}

#[test]
fn an_engine_that_does_not_find_the_directory_is_sent_it() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let options = serde_json::json!({"Directory": {"Path": "/tmp", "Device": 1, "Inode": 1}});
    let (status, answer) = engine.upload("POST", "/v1.47/coracle/build", format!("{options}\n").as_bytes());
    assert_eq!(status, 412, "{answer}");
    for (body, status) in
        [(&b"x\n"[..], 400), (b"{\"Tags\": [\"A B\"]}\n", 400), (b"{\"Secrets\": {\"a\": \"*\"}}\n", 400)]
    {
        let (answered, answer) = engine.upload("POST", "/v1.47/coracle/build", body);
        assert_eq!(answered, status, "{answer}");
    }
}

#[test]
fn what_changes_while_it_is_copied_is_not_remembered_as_what_it_was() {
    use std::sync::atomic::{AtomicBool, Ordering};
    if is_original() {
        return;
    }
    let engine = Engine::start();
    // Files are looked at, then copied: in between everything before the last one gives time to change that.
    let bulk: Vec<(String, &str)> = (0..300).map(|number| (format!("d/a{number}"), "bulk")).collect();
    let mut files: Vec<(&str, &str)> = bulk.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    files.push(("d/z", "A"));
    let bound = "FROM BASE\nRUN --mount=type=bind,target=/c cat /c/d/z >/z\n";
    for dockerfile in ["FROM BASE\nCOPY d /d\nRUN cp /d/z /z\n", bound] {
        let context = Context::new(dockerfile, &files);
        let changing = context.path().join("d/z");
        for _ in 0..coracle_tests::race_iterations(8) {
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // In place: it is the same file of the same size all the time.
                    let file = fs::File::options().write(true).open(&changing).unwrap();
                    for text in [b"A", b"B"].into_iter().cycle() {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        std::os::unix::fs::FileExt::write_all_at(&file, text, 0).unwrap();
                    }
                });
                build(&engine, &context.path(), &["-t", "racing"]).ok();
                over.store(true, Ordering::Relaxed);
            });
            for text in ["A", "B"] {
                fs::write(&changing, text).unwrap();
                build(&engine, &context.path(), &["-t", "racing"]).ok();
                let seen = engine.docker(&["run", "--rm", "--network", "none", "racing", "cat", "/z"]).ok();
                assert_eq!(seen, text, "{dockerfile}");
            }
            engine.docker(&["rmi", "racing"]).ok();
            engine.docker(&["builder", "prune", "-af"]).ok();
        }
    }
}

/// What the layers of an image are, the topmost last.
fn layers(engine: &Engine, image: &str) -> Vec<String> {
    let text = engine.docker(&["inspect", "-f", "{{join .RootFS.Layers \" \"}}", image]).ok();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn steps_become_one_layer_that_tells_nothing_of_them() {
    if is_original() {
        return;
    }
    let engine = Engine::start_with(&["--experimental"]);
    let context = Context::new(
        "FROM BASE\nCOPY secret /s\nRUN rm /s /bin/ls && mkdir /d && echo 1 >/d/kept\nRUN echo 2 >>/d/kept\nENV A=1\n",
        &[("secret", "unsaid-0815")],
    );
    build(&engine, &context.path(), &["-t", "several"]).ok();
    build(&engine, &context.path(), &["--squash", "-t", "one"]).ok();
    let (several, one) = (layers(&engine, "several"), layers(&engine, "one"));
    assert_eq!((several.len(), one.len()), (4, 2));
    assert_eq!(several[0], one[0], "the base image's stays");
    let script = "cat /d/kept; echo $A; test -e /s || test -e /bin/ls || echo gone";
    for image in ["several", "one"] {
        let output = engine.docker(&["run", "--rm", "--network", "none", image, "sh", "-c", script]);
        assert_eq!(output.ok(), "1\n2\n1\ngone", "{image}");
    }
    let history = engine.docker(&["history", "--format", "{{.Size}} {{.Comment}}", "one"]).ok();
    assert!(history.starts_with("4B squash of 3 layers\n0B buildkit"), "{history}");
    let archive = tempfile::NamedTempFile::new().unwrap();
    engine.docker(&["save", "-o", archive.path().to_str().unwrap(), "one"]).ok();
    let saved = fs::read(archive.path()).unwrap();
    assert!(!saved.windows(11).any(|part| part == b"unsaid-0815"), "what was removed is in no layer");
    // Docker's command asks for it where the engine says that it has experiments.
    classic_build(&engine, &context.path(), &["--squash", "-t", "classic"]).ok();
    assert_eq!(layers(&engine, "classic"), one);
    engine.docker(&["rmi", "several", "one", "classic"]).ok();
}
