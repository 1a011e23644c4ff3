//! Images built by the docker command through the classic door.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, classic_build};
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A context, what is built of it, and what a command in the result prints.
struct Case {
    name: &'static str,
    dockerfile: &'static str,
    /// Paths and contents; `-> target` is a link.
    files: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
    check: &'static str,
    expected: &'static str,
    /// Whether Docker's classic builder, which knows less of the language, does it too.
    classic: bool,
}

const CASE: Case =
    Case { name: "", dockerfile: "", files: &[], arguments: &[], check: "", expected: "", classic: true };

const CASES: &[Case] = &[
    Case {
        name: "commands see arguments, and the image only the environment",
        dockerfile: "ARG BASE=none\nFROM $BASE\nARG WHO=world\nENV G=\"hello $WHO\"\nRUN echo \"$G $WHO\" >/f\nRUN exit 0\n",
        arguments: &["--build-arg", "WHO=you"],
        check: "cat /f; echo \"$G|$WHO\"",
        expected: "hello you you\nhello you|",
        ..CASE
    },
    Case {
        name: "directories, users and shells",
        dockerfile: "FROM BASE\nWORKDIR /w\nWORKDIR x\nUSER web\nRUN id -u >/tmp/u; pwd >>/tmp/u\nUSER 0\nSHELL [\"/bin/sh\", \"-ec\"]\n\
            RUN false || echo shell >>/tmp/u\n",
        check: "cat /tmp/u; pwd; id -u; stat -c '%a %u' /w/x",
        expected: "33\n/w/x\nshell\n/w/x\n0\n755 0",
        ..CASE
    },
    Case {
        name: "files, directories and patterns are copied",
        dockerfile: "FROM BASE\nWORKDIR /w\nCOPY a renamed\nCOPY a d/ /to/\nCOPY d /whole\nCOPY *.txt sub?/x /many/\nCOPY d/. .\n",
        files: &[("a", "A"), ("d/e/f", "F"), ("d/g", "G"), ("1.txt", "1"), ("2.txt", "2"), ("sub1/x", "X")],
        check: "cd /; find w to whole many | sort; cat w/renamed w/g whole/e/f many/x",
        expected: "many\nmany/1.txt\nmany/2.txt\nmany/x\nto\nto/a\nto/e\nto/e/f\nto/g\nw\nw/e\nw/e/f\nw/g\nw/renamed\n\
            whole\nwhole/e\nwhole/e/f\nwhole/g\nAGFX",
        ..CASE
    },
    Case {
        name: "files get owners, and links stay links inside directories",
        dockerfile: "FROM BASE\nCOPY --chown=web:extra d /d\nCOPY --chown=7 a /a\n",
        files: &[("a", "A"), ("d/f", "F"), ("d/l", "-> f")],
        check: "stat -c '%n %u %g' /a /d/f /d/l; readlink /d/l",
        expected: "/a 7 7\n/d/f 33 77\n/d/l 33 77\nf",
        ..CASE
    },
    Case {
        name: "links on the way to a destination are followed inside the image",
        dockerfile: "FROM BASE\nRUN mkdir /real && ln -s /real /link && ln -s ../../../../etc /up\nCOPY a /link/a\nCOPY a /up/new\n",
        files: &[("a", "A")],
        check: "cat /real/a /etc/new; readlink /link",
        expected: "AA/real",
        ..CASE
    },
    Case {
        name: "stages give files to each other and are bases",
        dockerfile: "FROM BASE AS one\nRUN echo 1 >/v\nFROM one AS two\nRUN echo 2 >>/v\nFROM BASE\nCOPY --from=two /v /v2\n\
            COPY --from=0 /v /v1\n",
        check: "cat /v1 /v2; ls /v 2>&1 | wc -l",
        expected: "1\n1\n2\n1",
        ..CASE
    },
    Case {
        name: "only what the target needs is built",
        dockerfile: "FROM BASE AS broken\nRUN false\nFROM BASE AS wanted\nRUN echo yes >/f\nFROM broken\n",
        arguments: &["--target", "wanted"],
        check: "cat /f",
        expected: "yes",
        // It builds every stage up to the target.
        classic: false,
        ..CASE
    },
    Case {
        name: "what is ignored is not there",
        dockerfile: "FROM BASE\nCOPY . /c\n",
        files: &[
            (
                ".dockerignore",
                "# not\n*.md\n!README.md\nnode_modules\n**/secret\nDockerfile\n.dockerignore\n",
            ),
            ("a.md", ""),
            ("README.md", ""),
            ("node_modules/x/y", ""),
            ("d/e/secret", ""),
            ("d/e/open", ""),
        ],
        check: "cd /c; find . | sort",
        expected: ".\n./README.md\n./d\n./d/e\n./d/e/open",
        ..CASE
    },
    Case {
        name: "what is taken back from everything is there, in a directory for all, and patterns are relative",
        dockerfile: "FROM BASE\nCOPY . /c\nCOPY ./d/*.x none* /e/\n",
        files: &[(".dockerignore", "*\n!d\n"), ("a", ""), ("d/1.x", ""), ("d/2.x", "")],
        check: "stat -c %a /c; cd /; find c e | sort",
        expected: "755\nc\nc/d\nc/d/1.x\nc/d/2.x\ne\ne/1.x\ne/2.x",
        ..CASE
    },
    Case {
        name: "a link at the destination is followed, and directories on the way are the owner's",
        dockerfile: "FROM BASE\nRUN mkdir /real && echo old >/real/f && ln -s /real/f /lf && ln -s new /real/dangles\nCOPY a /lf\n\
            COPY a /real/dangles\nCOPY --chown=33:33 a /n/m/\n",
        files: &[("a", "A")],
        check: "cat /real/f /real/new; readlink /lf; stat -c '%u %g' /n /n/m /n/m/a",
        expected: "AA/real/f\n33 33\n33 33\n33 33",
        ..CASE
    },
    Case {
        name: "a document has its quotes, and lies in a directory that is there",
        dockerfile: "FROM BASE\nCOPY <<E /etc\n{\\\"a\\\": \"it's\"}\nE\n",
        check: "cat /etc/E; ls /etc/passwd",
        expected: "{\"a\": \"it's\"}\n/etc/passwd",
        classic: false,
        ..CASE
    },
    Case {
        name: "an image of nothing has what was copied",
        dockerfile: "FROM BASE AS b\nFROM scratch\nCOPY --from=b /bin /bin\nENV PATH=/bin\nCMD [\"sh\"]\n",
        check: "echo $PATH; ls /",
        expected: "/bin\nbin\ndev\netc\nproc\nsys",
        ..CASE
    },
    Case {
        name: "a pipe's failure, an empty step and a file that goes",
        dockerfile: "FROM BASE\nRUN touch /gone /stays\nRUN rm /gone\nRUN true\n",
        check: "ls /gone /stays 2>/dev/null; true",
        expected: "/stays",
        ..CASE
    },
    Case {
        name: "here-documents are scripts and files",
        dockerfile: "FROM BASE\nARG A=arg\nRUN <<EOF\nA=shell\necho $A >/f\nEOF\nRUN cat <<-X >>/f\n\tone $A\n\tX\nCOPY <<\"Q\" <<E /e/\n$A\nQ\n\
            \"$A\"\nE\n",
        check: "cat /f /e/Q /e/E",
        expected: "shell\none arg\n$A\n\"arg\"",
        classic: false,
        ..CASE
    },
    Case {
        name: "what is linked follows no link of what is below",
        dockerfile: "FROM BASE\nRUN mkdir /real && ln -s /real /here\nCOPY --link a /here/a\n",
        files: &[("a", "A")],
        check: "cat /here/a; ls /real | wc -l",
        expected: "A0",
        classic: false,
        ..CASE
    },
    Case {
        name: "a stage inherits the arguments of the one that it begins with",
        dockerfile: "FROM BASE AS one\nARG V=1\nFROM one\nRUN echo $V >/v\n",
        check: "cat /v",
        expected: "1",
        classic: false,
        ..CASE
    },
    Case {
        name: "modes, exclusions and mounts in memory",
        dockerfile: "FROM BASE\nCOPY --chmod=0640 --exclude=*.o d /d\nRUN --mount=type=tmpfs,target=/scratch touch /scratch/x && ls /scratch >/f\n\
            RUN --network=none ls /sys/class/net >>/f\n",
        files: &[("d/a.c", ""), ("d/a.o", "")],
        check: "stat -c '%n %a' /d/*; cat /f; ls /scratch 2>&1 | grep -c No",
        expected: "/d/a.c 640\nx\nlo\n1",
        classic: false,
        ..CASE
    },
];

/// Builds as if for the first time.
fn build(engine: &Engine, context: &Path, arguments: &[&str]) -> Output {
    classic_build(engine, context, &[&["--no-cache"], arguments].concat())
}

#[test]
fn dockerfiles_become_the_images_that_they_describe() {
    let engine = Engine::start();
    let before = engine.docker(&["ps", "-aq"]).ok();
    for case in CASES.iter().filter(|case| case.classic || !engine.is_original()) {
        let context = Context::new(case.dockerfile, case.files);
        let image = engine.name("built");
        let base = format!("BASE={SMALL}");
        let mut arguments = vec!["-t", &image];
        if case.dockerfile.starts_with("ARG BASE") {
            arguments.extend(["--build-arg", &base]);
        }
        arguments.extend(case.arguments);
        build(&engine, &context.path(), &arguments).ok();
        let printed =
            engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", case.check]).ok();
        assert_eq!(printed, case.expected, "{}", case.name);
        engine.docker(&["rmi", &image]).ok();
    }
    if !engine.is_original() {
        // Other tests use it at the same time.
        assert_eq!(engine.docker(&["ps", "-aq"]).ok(), before, "no container of a step stays");
    }
}

#[test]
fn the_configuration_is_what_the_instructions_say() {
    let engine = Engine::start();
    let text = "FROM BASE\nMAINTAINER me\nENV A=1\nLABEL a=b\nEXPOSE 80 53/udp\nVOLUME /v\nUSER web\nWORKDIR /w\nSTOPSIGNAL SIGINT\n\
        HEALTHCHECK --interval=3s CMD true\nONBUILD RUN echo triggered >/t\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\n";
    let context = Context::new(text, &[]);
    let image = engine.name("configured");
    build(&engine, &context.path(), &["-t", &image, "--label", "given=yes"]).ok();
    let inspected = engine.docker(&["inspect", &image]).json();
    let config = &inspected[0]["Config"];
    for (key, expected) in [
        (
            "Env",
            serde_json::json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"]),
        ),
        ("Labels", serde_json::json!({"a": "b", "given": "yes"})),
        ("ExposedPorts", serde_json::json!({"80/tcp": {}, "53/udp": {}})),
        ("Volumes", serde_json::json!({"/v": {}})),
        ("User", "web".into()),
        ("WorkingDir", "/w".into()),
        ("StopSignal", "SIGINT".into()),
        ("Healthcheck", serde_json::json!({"Test": ["CMD-SHELL", "true"], "Interval": 3_000_000_000_i64})),
        ("OnBuild", serde_json::json!(["RUN echo triggered >/t"])),
        ("Entrypoint", serde_json::json!(["e"])),
        ("Cmd", serde_json::json!(["c"])),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    assert_eq!(inspected[0]["Author"], "me");

    let child = Context::new(&format!("FROM {image}\nENTRYPOINT []\n"), &[]);
    let second = engine.name("child");
    // The trigger runs as the user that the base has.
    let refused = build(&engine, &child.path(), &["-t", &second]);
    refused.refused(1, "returned a non-zero code: 1");
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn what_cannot_be_built_says_why_and_leaves_nothing() {
    let engine = Engine::start();
    let (images, containers) = (engine.docker(&["images", "-aq"]).ok(), engine.docker(&["ps", "-aq"]).ok());
    for (text, code, complaint) in [
        ("FROM BASE\nRUN exit 7\n", 7, "returned a non-zero code: 7"),
        ("FROM BASE\nRUN no-such-program\n", 127, "returned a non-zero code: 127"),
        ("FROM BASE\nCOPY missing /\n", 1, "missing"),
        ("FROM BASE\nCOPY ../outside /\n", 1, "outside"),
        ("FROM BASE\nCOPY leads-out /\n", 1, "leads-out"),
        ("FROM BASE\nRUM x\n", 1, "unknown instruction: RUM"),
        ("RUN x\n", 1, "no build stage in current context"),
        ("FROM BASE\nCOPY a b c\n", 1, "must be a directory and end with a /"),
        ("FROM BASE\nUSER nobody-here\nRUN true\n", 1, "nobody-here"),
        ("FROM BASE\nCOPY ? /new\n", 1, "more than one source file"),
        ("FROM BASE\nRUN touch /f\nCOPY . /f\n", 1, "directory"),
    ] {
        let context = Context::new(text, &[("a", ""), ("b", ""), ("leads-out", "-> ../../../../etc/passwd")]);
        build(&engine, &context.path(), &[]).refused(code, complaint);
    }
    let context = Context::new("FROM BASE\nRUN true\n", &[]);
    build(
        &engine,
        &context.path(),
        &["-f", &context.path().join("Dockerfile").display().to_string(), "--target", "nope"],
    )
    .refused(1, "nope");
    if !engine.is_original() {
        // Docker's classic builder keeps an image of each step that went well.
        assert_eq!(engine.docker(&["images", "-aq"]).ok(), images);
    }
    if !engine.is_original() {
        // It keeps the container of a step that could not be started.
        assert_eq!(engine.docker(&["ps", "-aq"]).ok(), containers);
    }
}

#[test]
fn a_checksum_of_a_file_of_the_context_is_refused() {
    let engine = Engine::start();
    let summed = Context::new("FROM BASE\nADD --checksum=sha256:00 a /a\n", &[("a", "")]);
    build(&engine, &summed.path(), &[]).fails_with(1);
}

#[test]
fn a_client_that_goes_ends_its_build_and_nothing_is_left() {
    let engine = Engine::start();
    let containers = engine.docker(&["ps", "-aq"]).ok();
    let (_context, mut child) = build_without_end(&engine);
    assert_ne!(engine.docker(&["ps", "-aq"]).ok(), containers, "the step runs");
    child.kill().unwrap();
    child.wait().unwrap();
    coracle_tests::engine::wait_until("the container of the step is gone", || {
        engine.docker(&["ps", "-aq"]).ok() == containers
    });
}

#[test]
fn an_engine_that_is_killed_in_a_step_leaves_no_container_of_it() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let mut engine = Engine::start();
    let (_context, mut child) = build_without_end(&engine);
    let kept = engine.docker(&["create", SMALL, "true"]).ok();
    engine.kill();
    child.wait().unwrap();
    engine.start_again();
    assert_eq!(engine.docker(&["ps", "-aq", "--no-trunc"]).ok(), kept, "what somebody made stays");
    engine.docker(&["rm", &kept]).ok();
    assert_eq!(fs::read_dir(engine.directory().join("data/building")).unwrap().count(), 0);
}

/// A build whose only command has begun, and goes on.
fn build_without_end(engine: &Engine) -> (Context, std::process::Child) {
    use std::io::{BufRead, BufReader};
    let context = Context::new("FROM BASE\nRUN echo begun && sleep 1000\n", &[]);
    let mut child = engine
        .command("docker")
        .args(["build", "."])
        .current_dir(context.path())
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "begun"), "the command has not begun");
    (context, child)
}

#[test]
fn commands_have_the_network_that_the_build_is_given() {
    let engine = Engine::start();
    let context = Context::new("FROM BASE\nRUN ls /sys/class/net >/n; cat /etc/resolv.conf >/r\n", &[]);
    let image = engine.name("networked");
    build(&engine, &context.path(), &["-t", &image]).ok();
    let seen =
        engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", "cat /n; wc -l </r"]).ok();
    assert!(seen.contains("eth0") && !seen.ends_with("\n0"), "{seen}");
    let alone = engine.name("alone");
    build(&engine, &context.path(), &["-t", &alone, "--network", "none"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &alone, "cat", "/n"]).ok(), "lo");
    engine.docker(&["rmi", &image, &alone]).ok();
}

#[test]
fn the_answer_is_the_image_for_programs_too() {
    let engine = Engine::start();
    if engine.is_original() {
        // It closes the connection without reading the end of the archive, which resets it.
        return;
    }
    let context = Context::new("FROM BASE\nRUN echo ä\n", &[("loop", "-> loop")]);
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("context.tar");
    let packed =
        Command::new("tar").arg("cf").arg(&archive).arg("-C").arg(context.path()).arg(".").status().unwrap();
    assert!(packed.success());
    let (status, answer) = engine.upload("POST", "/v1.41/build?q=0&nocache=1", &fs::read(&archive).unwrap());
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer.contains("\"stream\":\"ä\\n\"") && answer.contains("\"aux\":{\"ID\":\"sha256:"),
        "{answer}"
    );
    let id = answer.split("\"ID\":\"").nth(1).unwrap().split('"').next().unwrap();
    engine.docker(&["rmi", id]).ok();
    let archive = fs::read(&archive).unwrap();
    for (query, body) in [
        ("", &b"no archive"[..]),
        ("?dockerfile=%00", &archive),
        ("?dockerfile=Dockerfile/x", &archive),
        ("?dockerfile=loop", &archive),
    ] {
        let (status, answer) = engine.upload("POST", &format!("/v1.41/build{query}"), body);
        assert_eq!(status, 400, "{query}: {answer}");
    }
}
