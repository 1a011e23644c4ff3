//! Builds by Docker's own plugins, buildx and compose, through BuildKit's protocol.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::Context;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::registry::{PASSWORD, Registry, USER};
use coracle_tests::{Engine, Output};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// What a command in an image prints.
fn run(engine: &Engine, image: &str, script: &str) -> String {
    engine.docker(&["run", "--rm", image, "sh", "-c", script]).ok()
}

fn tar(directory: &Path) -> Vec<u8> {
    let archive = Command::new("tar").arg("-C").arg(directory).args(["-c", "."]).output().unwrap();
    assert!(archive.status.success());
    archive.stdout
}

fn with_input(engine: &Engine, directory: &Path, arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut command = engine.plugin_command(arguments);
    command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Output::new(format!("docker {}", arguments.join(" ")), &child.wait_with_output().unwrap())
}

#[test]
fn a_context_becomes_an_image_and_what_was_done_is_not_done_again() {
    let engine = Engine::start();
    let name = engine.name("built");
    let context = Context::new(
        "FROM BASE AS base\nARG WHO\nRUN echo \"hello $WHO\" >/hello\nFROM base AS wanted\nCOPY . /c\nLABEL own=1\n\
         FROM base\nRUN false\n",
        &[
            (".dockerignore", "*.md\n!keep.md\n"),
            ("a.md", "no"),
            ("keep.md", "k"),
            ("d/e", "E"),
            ("l", "-> d/e"),
        ],
    );
    let options = ["-t", &name, "--target", "wanted", "--build-arg", "WHO=you", "--label", "more=2"];
    let told = engine.buildx(&context.path(), &options);
    let shown = told.stderr.clone();
    told.ok();
    for words in [
        "[internal] load build definition from Dockerfile",
        "[internal] load .dockerignore",
        "[internal] load build context",
        "[base 2/2] RUN echo \"hello ",
        "exporting to image",
        &format!("naming to docker.io/library/{name}"),
    ] {
        assert!(shown.contains(words), "{words:?} is not in\n{shown}");
    }
    let files = "cat /hello /c/keep.md /c/l; cd /c; find . | sort";
    let found = run(&engine, &name, files);
    let expected = "hello you\nkE.\n./.dockerignore\n./Dockerfile\n./d\n./d/e\n./keep.md\n./l";
    assert_eq!(found, expected);
    let labels = engine.docker(&["image", "inspect", "-f", "{{json .Config.Labels}}", &name]).json();
    assert_eq!((labels["own"].as_str(), labels["more"].as_str()), (Some("1"), Some("2")));

    let id = engine.docker(&["image", "inspect", "-f", "{{.Id}}", &name]).ok();
    let file = engine.directory().join("id");
    let again = [&options[..], &["--iidfile", file.to_str().unwrap()]].concat();
    let told = engine.buildx(&context.path(), &again);
    // The original counts the base as well, but not always.
    let cached = |told: &Output, count: usize| {
        let found = told.stderr.matches("CACHED").count();
        assert!(found == count || (engine.is_original() && found == count + 1), "{}", told.stderr);
    };
    cached(&told, 2);
    told.ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), id);
    let anew = engine.buildx(&context.path(), &[&options[..], &["--no-cache"]].concat());
    cached(&anew, 0);
    anew.ok();
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn the_build_command_uses_the_plugin() {
    let engine = Engine::start();
    let name = engine.name("plain");
    let context = Context::new("FROM BASE\nCOPY f /f\n", &[("f", "content")]);
    let told = engine.plugin_in(&context.path(), &["build", "-t", &name, "."]);
    assert!(told.stderr.contains("[internal] load build context"), "{}", told.stderr);
    told.ok();
    assert_eq!(run(&engine, &name, "cat /f"), "content");
    let quiet = engine.plugin_in(&context.path(), &["build", "-q", "."]).ok();
    assert_eq!(quiet, engine.docker(&["image", "inspect", "-f", "{{.Id}}", &name]).ok());
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn a_failure_names_its_lines_and_leaves_nothing() {
    let engine = Engine::start();
    let before = engine.docker(&["ps", "-aq"]).ok();
    let context = Context::new("FROM BASE\nRUN true\n\nRUN echo told; \\\n  exit 7\n", &[]);
    let told = engine.buildx(&context.path(), &[]).fails_with(1);
    for words in [
        "told",
        "Dockerfile:4",
        "   4 | >>> RUN echo told; \\",
        "   5 | >>>   exit 7",
        "did not complete successfully: exit code: 7",
    ] {
        assert!(told.contains(words), "{words:?} is not in\n{told}");
    }
    // Not only commands do.
    let missing = Context::new("FROM BASE\n\nCOPY nothing /\n", &[]);
    let told = engine.buildx(&missing.path(), &[]).fails_with(1);
    assert!(told.contains("   3 | >>> COPY nothing /"), "{told}");
    // The original may have containers of other tests.
    assert!(engine.is_original() || engine.docker(&["ps", "-aq"]).ok() == before);
    for (dockerfile, arguments, words) in [
        ("FROM BASE\nFOO x\n", &[][..], "unknown instruction: FOO"),
        ("FROM BASE\n", &["--target", "nowhere"], "nowhere"),
        ("FROM BASE\n", &["-f", "nothing"], "nothing"),
        ("FROM BASE\nCOPY nothing /\n", &[], "nothing"),
    ] {
        let context = Context::new(dockerfile, &[]);
        engine.buildx(&context.path(), arguments).refused(1, words);
    }
}

#[test]
fn contexts_and_dockerfiles_come_from_everywhere() {
    let engine = Engine::start();
    let name = engine.name("from");
    let context = Context::new(
        "FROM BASE\nCOPY f /f\n",
        &[("f", "one"), ("sub/Other", &format!("FROM {SMALL}\nCOPY f /g\n"))],
    );
    let path = context.path();
    let build = ["buildx", "build", "-t", &name];
    with_input(&engine, &path, &[&build[..], &["-"]].concat(), &tar(&path)).ok();
    assert_eq!(run(&engine, &name, "cat /f"), "one");
    with_input(&engine, &path, &[&build[..], &["-f", "sub/Other", "-"]].concat(), &tar(&path)).ok();
    assert_eq!(run(&engine, &name, "cat /g"), "one");
    let recipe = format!("FROM {SMALL}\nRUN echo two >/f\n");
    with_input(&engine, &path, &[&build[..], &["-"]].concat(), recipe.as_bytes()).ok();
    assert_eq!(run(&engine, &name, "cat /f"), "two");
    let recipe = format!("FROM {SMALL}\nCOPY f /three\n");
    with_input(&engine, &path, &[&build[..], &["-f", "-", "."]].concat(), recipe.as_bytes()).ok();
    assert_eq!(run(&engine, &name, "cat /three"), "one");
    let elsewhere = Context::new("FROM BASE\nCOPY f /four\n", &[]);
    let recipe = elsewhere.path().join("Dockerfile");
    engine.buildx(&path, &["-t", &name, "-f", recipe.to_str().unwrap()]).ok();
    assert_eq!(run(&engine, &name, "cat /four"), "one");
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn large_and_many_files_arrive_as_they_are() {
    let engine = Engine::start();
    let name = engine.name("files");
    let context = Context::new("FROM BASE\nCOPY . /c\n", &[]);
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(context.path().join("large"), &large).unwrap();
    for number in 0..1500 {
        context.put(&format!("many/{}/file{number:04}", number % 7), &"x".repeat(number));
    }
    context.put("größe with spaces", "ä");
    engine.buildx(&context.path(), &["-t", &name]).ok();
    let sums = |output: std::process::Output| {
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let script = "find . -type f -exec sha256sum {} +";
    let here = Command::new("sh").args(["-c", script]).current_dir(context.path()).output().unwrap();
    let there = engine
        .command("docker")
        .args(["run", "--rm", "-w", "/c", &name, "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(sums(there), sums(here));
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn results_go_to_files_and_directories_of_the_client() {
    let engine = Engine::start();
    let name = engine.name("out");
    let context = Context::new(
        "FROM BASE AS make\nRUN mkdir -p /o/d && echo f >/o/d/f && chmod 0750 /o/d/f && ln -s f /o/d/l && ln /o/d/f /o/d/h\n\
         FROM scratch\nCOPY --from=make /o /\n",
        &[],
    );
    let path = context.path();
    engine.buildx(&path, &["-o", "dir"]).ok();
    let made = path.join("dir/d");
    assert_eq!(fs::read_to_string(made.join("f")).unwrap(), "f\n");
    assert_eq!(fs::read_link(made.join("l")).unwrap(), Path::new("f"));
    use std::os::unix::fs::MetadataExt;
    let (file, link) = (fs::metadata(made.join("f")).unwrap(), fs::metadata(made.join("h")).unwrap());
    assert_eq!((file.mode() & 0o777, link.ino()), (0o750, file.ino()));
    fs::remove_dir_all(path.join("dir")).unwrap();

    engine.buildx(&path, &["-o", "type=tar,dest=out.tar"]).ok();
    let mut archive = tar::Archive::new(File::open(path.join("out.tar")).unwrap());
    let mut names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string().trim_end_matches('/').to_owned())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["d", "d/f", "d/h", "d/l"]);
    fs::remove_file(path.join("out.tar")).unwrap();

    let images = engine.docker(&["images", "-q", "--no-trunc"]).ok();
    engine.buildx(&path, &["-o", "type=cacheonly"]).ok();
    if engine.is_original() {
        // It may have images of other tests, and archives of images only with another store.
        return;
    }
    assert_eq!(engine.docker(&["images", "-q", "--no-trunc"]).ok(), images, "nothing has become an image");
    engine.buildx(&path, &["-t", &name, "-o", "type=docker,dest=image.tar"]).ok();
    assert_eq!(engine.docker(&["images", "-q", "--no-trunc"]).ok(), images, "what was sent is no image here");
    let loaded = engine.docker(&["load", "-i", path.join("image.tar").to_str().unwrap()]).ok();
    assert!(loaded.contains(&name), "{loaded}");
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn secrets_and_agents_are_lent_to_commands_and_leave_nothing() {
    let engine = Engine::start();
    let name = engine.name("secret");
    let context = Context::new(
        "# syntax=docker/dockerfile:1\nFROM BASE\nRUN --mount=type=secret,id=file cp /run/secrets/file /copied\n\
         RUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\" && echo lent >/agent\nRUN ls /run/secrets 2>/dev/null | wc -l >/left\n",
        &[("secret", "whispered")],
    );
    if engine.is_original() {
        // It would fetch the language's image, from a registry that tests do not reach.
        let text = fs::read_to_string(context.path().join("Dockerfile")).unwrap();
        context.put("Dockerfile", text.split_once('\n').unwrap().1);
    }
    let socket = context.path().join("agent");
    let mut agent =
        Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the agent listens", || socket.exists());
    let output = engine
        .plugin_command(&[
            "buildx",
            "build",
            "-t",
            &name,
            "--secret",
            "id=file,src=secret",
            "--ssh",
            "default",
            ".",
        ])
        .current_dir(context.path())
        .env("SSH_AUTH_SOCK", &socket)
        .output()
        .unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    Output::new("docker buildx build".to_owned(), &output).ok();
    assert_eq!(run(&engine, &name, "cat /copied /agent /left"), "whisperedlent\n0");
    let missing = Context::new("FROM BASE\nRUN --mount=type=secret,id=none,required=true true\n", &[]);
    engine.buildx(&missing.path(), &[]).refused(1, "none");
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn what_was_built_is_pushed_as_whom_the_client_is() {
    let engine = Engine::start();
    let registry = Registry::start_with_password();
    let name = registry.name("pushed:1");
    let context = Context::new("FROM BASE\nRUN echo pushed >/f\n", &[]);
    engine.buildx(&context.path(), &["-t", &name, "--push"]).fails_with(1);
    engine
        .docker_with_input(&["login", "-u", USER, "--password-stdin", registry.host()], PASSWORD.as_bytes())
        .ok();
    engine.buildx(&context.path(), &["-t", &name, "--push"]).ok();
    engine.docker(&["rmi", &name]).ok();
    // What is pulled for a build is asked for as the same.
    let next = Context::new(&format!("FROM {name}\nRUN cat /f\n"), &[]);
    let told = engine.buildx(&next.path(), &["--pull", "--no-cache", "-t", &engine.name("pulled")]);
    assert!(told.stderr.contains("pushed"), "{}", told.stderr);
    told.ok();
    engine.docker(&["rmi", "-f", &engine.name("pulled"), &name]);
}

#[test]
fn a_client_that_goes_ends_its_build() {
    let engine = Engine::start();
    let before = engine.docker(&["ps", "-aq"]).ok();
    let marker = engine.name("sleeps");
    let context = Context::new(&format!("FROM BASE\nRUN echo {marker}; exec sleep 1000\n"), &[]);
    let mut child = engine
        .plugin_command(&["buildx", "build", "."])
        .current_dir(context.path())
        .stderr(File::create(context.path().join("told")).unwrap())
        .spawn()
        .unwrap();
    let told = context.path().join("told");
    let line = format!(" {marker}\n");
    wait_until("the command runs", || fs::read_to_string(&told).unwrap().contains(&line));
    child.kill().unwrap();
    child.wait().unwrap();
    if !engine.is_original() {
        wait_until("its container is gone", || engine.docker(&["ps", "-aq"]).ok() == before);
    }
}

#[test]
fn bake_builds_several_targets_at_once() {
    let engine = Engine::start();
    let names = [engine.name("one"), engine.name("two")];
    let context = Context::new("FROM BASE\nARG V=none\nRUN echo $V >/v\n", &[]);
    let target = |name: &str, image: &str| {
        format!(
            "target \"{name}\" {{\n context = \".\"\n tags = [\"{image}\"]\n args = {{ V = \"{name}\" }}\n}}\n"
        )
    };
    let file = format!(
        "group \"default\" {{\n targets = [\"a\", \"b\"]\n}}\n{}{}",
        target("a", &names[0]),
        target("b", &names[1])
    );
    context.put("docker-bake.hcl", &file);
    engine.plugin_in(&context.path(), &["buildx", "bake"]).ok();
    assert_eq!(names.each_ref().map(|name| run(&engine, name, "cat /v")), ["a", "b"]);
    engine.docker(&["rmi", &names[0], &names[1]]).ok();
}

#[test]
fn compose_builds_its_services() {
    let engine = Engine::start();
    let project = engine.name("project");
    let context = Context::new("FROM BASE\nCOPY f /f\n", &[("f", "web")]);
    let file = format!(
        "services:\n  web:\n    build: .\n  inline:\n    build:\n      context: .\n      args: {{X: given}}\n      \
         dockerfile_inline: |\n        FROM {SMALL}\n        ARG X\n        RUN echo $$X >/x\n"
    );
    context.put("compose.yaml", &file);
    engine.plugin_in(&context.path(), &["compose", "-p", &project, "build"]).ok();
    assert_eq!(run(&engine, &format!("{project}-web"), "cat /f"), "web");
    assert_eq!(run(&engine, &format!("{project}-inline"), "cat /x"), "given");
    engine.docker(&["rmi", &format!("{project}-web"), &format!("{project}-inline")]).ok();
}

#[test]
fn what_is_kept_of_builds_is_listed_and_forgotten() {
    let engine = Engine::start();
    let context = Context::new(&format!("FROM BASE\nRUN echo {} >/f\n", engine.name("x")), &[]);
    engine.buildx(&context.path(), &["-o", "type=cacheonly"]).ok();
    let builder = engine.plugin_in(&context.path(), &["buildx", "inspect"]).ok();
    assert!(builder.contains("running") && builder.contains("linux/"), "{builder}");
    if engine.is_original() {
        // What others have built there is not ours to forget.
        return;
    }
    let listed = engine.plugin_in(&context.path(), &["buildx", "du", "--verbose"]).ok();
    assert!(listed.contains("RUN echo"), "{listed}");
    engine.plugin_in(&context.path(), &["buildx", "prune", "-af"]).ok();
    let listed = engine.plugin_in(&context.path(), &["buildx", "du", "--verbose"]).ok();
    assert!(!listed.contains("RUN echo"), "{listed}");
}

#[test]
fn commands_have_the_network_of_the_host_where_that_is_allowed() {
    let engine = Engine::start();
    let text = format!("FROM BASE\nRUN --network=host ls -l /proc/self/ns/net; echo {}\n", engine.name("x"));
    let context = Context::new(&text, &[]);
    engine.buildx(&context.path(), &[]).refused(1, "network.host is not allowed");
    let told = engine.buildx(&context.path(), &["--allow", "network.host"]);
    let own = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert!(told.stderr.contains(&own), "{own} is not in {}", told.stderr);
    told.ok();
    // Also where it was done before.
    engine.buildx(&context.path(), &[]).refused(1, "network.host is not allowed");
    if !engine.is_original() {
        let path = context.path();
        engine.coracle(&["build", path.to_str().unwrap()]).refused(1, "network.host is not allowed");
        engine.coracle(&["build", "--allow", "network.host", path.to_str().unwrap()]).ok();
        engine
            .coracle(&["build", "--allow", "security.insecure", path.to_str().unwrap()])
            .refused(1, "security.insecure");
        for (flag, words) in [
            ("--security=insecure", "security.insecure is not allowed"),
            ("--device=vendor.com/x,required", "required device \"vendor.com/x\" is not registered"),
        ] {
            let context = Context::new(&format!("FROM BASE\nRUN {flag} true\n"), &[]);
            engine.buildx(&context.path(), &[]).refused(1, words);
        }
    }
}

/// The capabilities of a command: all of them where it has no sandbox.
#[test]
fn commands_leave_their_sandbox_where_operator_and_client_allow_it() {
    let engine = Engine::start_with(&["--build-entitlement", "security.insecure"]);
    if engine.is_original() {
        return;
    }
    let script = "grep CapEff /proc/self/status; test -w /proc/sys/kernel/domainname && echo writable";
    let text = format!("FROM BASE\nRUN --security=insecure {script}\nRUN {script} || echo confined\n");
    let context = Context::new(&text, &[]);
    engine.buildx(&context.path(), &[]).refused(1, "security.insecure is not allowed");
    let told = engine.buildx(&context.path(), &["--allow", "security.insecure"]);
    assert!(told.stderr.contains(" writable"), "{}", told.stderr);
    assert!(told.stderr.contains(" confined"), "{}", told.stderr);
    told.ok();
    let path = context.path();
    engine.coracle(&["build", path.to_str().unwrap()]).refused(1, "security.insecure is not allowed");
    engine.coracle(&["build", "--allow", "security.insecure", path.to_str().unwrap()]).ok();
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let context = Context::new("FROM BASE\n", &[]);
    for (arguments, words) in [
        (&["--build-arg", "BUILDKIT_SYNTAX=evil/frontend:1"][..], "evil/frontend:1 is not supported"),
        (&["--allow", "security.insecure"], "security.insecure"),
    ] {
        engine.buildx(&context.path(), arguments).refused(1, words);
    }
    let evil = Context::new("# syntax=evil/frontend:1\nFROM BASE\n", &[]);
    engine.buildx(&evil.path(), &[]).refused(1, "evil/frontend:1");
}
