//! What commands of a build are given for their time: `RUN --mount` and here-documents.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, build};
use coracle_tests::engine::wait_until;
use coracle_tests::{Engine, Output};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A context, what is built of it, and what a command in the result prints.
struct Case {
    name: &'static str,
    dockerfile: &'static str,
    files: &'static [(&'static str, &'static str)],
    check: &'static str,
    expected: &'static str,
    /// Whether docker 26 does not know all of it.
    newer: bool,
}

const CASE: Case =
    Case { name: "", dockerfile: "FROM BASE\n", files: &[], check: "", expected: "", newer: false };

const FILES: &[(&str, &str)] = &[("a", "A"), ("d/e/f", "F"), ("d/g", "G"), ("up", "-> d/g")];

const CASES: &[Case] = &[
    Case {
        name: "a here-document is the shell's, its interpreter's, or a part of a command",
        dockerfile: "FROM BASE\nRUN <<EOF\nset -e\necho shell >/f\nEOF\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print \"awk\" >>\"/f\" }\nEOF\n\
            RUN <<'EOF' sh -s one\necho $1 >>/f\nEOF\nRUN cat <<A - <<B >>/f && echo more >>/f\nfirst\nA\nsecond\nB\nRUN <<-X cat >>/f\n\ttabs\n\tX\n",
        files: &[],
        check: "cat /f; ls /dev/pipes 2>&1 | wc -l",
        expected: "shell\nawk\none\nsecond\nmore\ntabs\n1",
        ..CASE
    },
    Case {
        name: "files of the context, a stage and an image are there for one command",
        dockerfile: "FROM BASE AS other\nRUN mkdir /o && echo other >/o/f && ln -s /o/f /link\nFROM BASE\nWORKDIR /w\n\
            RUN --mount=target=c --mount=from=other,source=/o,target=/o --mount=type=bind,source=d/g,dst=/one/file cat c/a c/d/e/f /o/f /one/file >/r\n\
            RUN --mount=from=other,source=/link,target=/l --mount=source=up,target=/u cat /l /u >>/r\n\
            RUN --mount=from=BASE-IMAGE,target=/i ls /i/bin/busybox >>/r\n",
        files: FILES,
        check: "cat /r; echo; ls /w | wc -l; ls / | tr '\\n' ' '",
        expected: "AFother\nGother\nG/i/bin/busybox\n\n0\nbin dev etc home proc r root sys tmp var w ",
        ..CASE
    },
    Case {
        name: "what is bound cannot be written, and what may be is forgotten",
        dockerfile: "FROM BASE AS other\nRUN echo other >/f\nFROM BASE\n\
            RUN --mount=target=/c touch /c/new 2>/dev/null || echo no >/r\n\
            RUN --mount=target=/c,rw echo changed >/c/a && touch /c/new && cat /c/a >>/r\n\
            RUN --mount=target=/c --mount=from=other,target=/o,rw echo x >/o/f; cat /c/a >>/r; ls /c/new 2>/dev/null; true\n\
            RUN --mount=from=other,target=/o cat /o/f >>/r\n",
        files: FILES,
        check: "cat /r",
        expected: "no\nchanged\nAother",
        ..CASE
    },
    Case {
        name: "caches stay, one for each owner and mode that is asked for, with what they began with",
        dockerfile: "FROM BASE AS seed\nRUN mkdir -p /s/d && echo seed >/s/d/f\nFROM BASE\n\
            RUN --mount=type=cache,id=CACHE,target=/c,uid=5,gid=6,mode=0710 stat -c '%a %u %g' /c >/r && echo one >/c/x\n\
            RUN --mount=type=cache,id=CACHE,target=/c test ! -e /c/x && echo two >/c/x\n\
            RUN --mount=type=cache,id=CACHE,target=/c,uid=5,gid=6,mode=0710 cat /c/x >>/r\n\
            RUN --mount=type=cache,id=CACHE,target=/elsewhere cat /elsewhere/x >>/r\n\
            RUN --mount=type=cache,id=CACHE,target=/c,readonly touch /c/y 2>/dev/null || echo no >>/r\n\
            RUN --mount=type=cache,id=CACHE-seeded,target=/s,from=seed,source=/s/d cat /s/f >>/r && echo grown >/s/f\n\
            RUN --mount=type=cache,id=CACHE-seeded,target=/s,from=seed,source=/s/d cat /s/f >>/r\n",
        files: &[],
        check: "cat /r; ls -d /c /s /elsewhere 2>&1 | grep -c No",
        expected: "710 5 6\none\ntwo\nno\nseed\ngrown\n3",
        ..CASE
    },
    Case {
        name: "memory has the size that is asked for, and programs in it run",
        dockerfile: "FROM BASE\nRUN --mount=type=tmpfs,target=/t,size=1m cp /bin/busybox /t/ 2>/dev/null || echo full >/r\n\
            RUN --mount=type=tmpfs,target=/t cp /bin/busybox /t/ && /t/busybox echo runs >>/r && df -T /t | grep -c tmpfs >>/r\n",
        files: &[],
        check: "cat /r; ls /t 2>&1 | grep -c No",
        expected: "full\nruns\n1\n1",
        ..CASE
    },
    Case {
        name: "secrets and agents that nobody gives are not there, unless they have to be",
        dockerfile: "FROM BASE\nRUN --mount=type=secret,id=s --mount=type=secret,id=e,env=E --mount=type=ssh ls /run/secrets 2>&1 | wc -l >/r; \
            echo \"[$E$SSH_AUTH_SOCK]\" >>/r\n",
        files: &[],
        check: "cat /r",
        expected: "1\n[]",
        newer: true,
    },
    Case {
        name: "mounts in mounts, and variables in their options",
        dockerfile: "FROM BASE\nARG N=go\nENV T=/t\n\
            RUN --mount=type=tmpfs,target=$T --mount=source=d,target=$T/in/here --mount=type=cache,id=$N-1,target=${T}/cache ls $T $T/in/here >/r\n",
        files: FILES,
        check: "cat /r",
        expected: "/t:\ncache\nin\n\n/t/in/here:\ne\ng",
        ..CASE
    },
];

#[test]
fn commands_have_what_they_are_given_and_nothing_of_it_stays() {
    let engine = Engine::start();
    for case in CASES.iter().filter(|case| !(case.newer && engine.is_original())) {
        let text = case.dockerfile.replace("BASE-IMAGE", coracle_tests::image::SMALL);
        // Those of the original are shared with whatever ran before.
        let text = text.replace("CACHE", &engine.name("cache"));
        let context = Context::new(&text, case.files);
        let image = engine.name("mounted");
        build(&engine, &context.path(), &["--no-cache", "-t", &image]).ok();
        let printed =
            engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", case.check]).ok();
        assert_eq!(printed, case.expected, "{}", case.name);
        engine.docker(&["rmi", &image]).ok();
    }
}

fn refused(engine: &Engine, steps: &str, files: &[(&str, &str)]) -> Output {
    build(engine, &Context::new(&format!("FROM BASE\n{steps}\n"), files).path(), &["--no-cache"])
}

#[test]
fn mounts_that_cannot_be_are_refused() {
    let engine = Engine::start();
    let out = [("out", "-> ../../../../etc"), (".dockerignore", "hidden\n"), ("hidden", "")];
    for (options, complaint) in [
        ("type=secret,id=s,required", "s: not found"),
        ("type=ssh,required", "default"),
        ("source=missing,target=/m", "\"/missing\": not found"),
        ("source=hidden,target=/m", "\"/hidden\": not found"),
        // CVE-2024-1753: a link leads to what it names in the context, where that is not.
        ("source=out,target=/m", "\"/etc\": not found"),
        ("from=no-such-stage-or-image.invalid/x,target=/m", "no-such-stage"),
        ("type=bind,target=/m,bind-propagation=rshared", "bind-propagation"),
        ("type=tmpfs,target=/m,size=1m:mode=777", "size"),
        ("type=cache,target=/", "\"/\""),
        ("type=nfs,target=/m", "nfs"),
    ] {
        let output = refused(&engine, &format!("RUN --mount={options} true"), &out);
        output.refused(1, complaint);
    }
    if !engine.is_original() {
        // CVE-2024-23651: somebody else may exchange a part of a cache for a link while it is mounted.
        let output = refused(&engine, "RUN --mount=type=cache,target=/m,source=s true", &out);
        output.refused(1, "a cache is mounted whole");
    }
}

#[test]
fn what_mounts_are_attached_to_is_removed_without_following_a_link() {
    let engine = Engine::start();
    let canaries = tempfile::tempdir().unwrap();
    fs::write(canaries.path().join("empty"), "").unwrap();
    let context = Context::new(
        "FROM BASE\nRUN mkdir /real && ln -s /real /l && ln -s /etc /e\n\
         RUN --mount=type=tmpfs,target=/l/x --mount=source=a,target=/e/new/file --mount=source=a,target=/etc/plain true\n\
         RUN --mount=type=tmpfs,target=/gone/x rm -f /gone/y; mkdir /kept && touch /kept/empty\n",
        FILES,
    );
    let image = engine.name("stubs");
    build(&engine, &context.path(), &["--no-cache", "-t", &image]).ok();
    let check = "ls -A /real /kept; ls -d /e/new /gone 2>&1 | grep -c No; cat /etc/plain; readlink /l";
    let printed = engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", check]).ok();
    assert_eq!(printed, "/kept:\nempty\n\n/real:\n2\nno program\n/real");
    if !engine.is_original() {
        let layers = engine.docker(&["history", "--format", "{{.Size}}", &image]).ok();
        assert_eq!(layers.lines().nth(1), Some("0B"), "a step that only mounts leaves nothing: {layers}");
    }
    engine.docker(&["rmi", &image]).ok();
    assert!(canaries.path().join("empty").exists());
}

/// A build that runs until the file `go` is in the cache of its step. What it prints up to `begun` was read.
fn build_until_told(engine: &Engine, options: &str, before: &str) -> (Context, Child) {
    let command = format!(
        "FROM BASE\nRUN --mount=type=cache,{options} {before}; echo begun; while ! test -e /c/go; do sleep 0.05; done; rm /c/go\n"
    );
    let context = Context::new(&command, &[]);
    let mut child = engine
        .command("docker")
        .args(["build", "--no-cache", "."])
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

/// The caches of our engine on the disk.
fn caches(engine: &Engine) -> Vec<PathBuf> {
    let place = engine.directory().join("data/build/caches");
    fs::read_dir(place).into_iter().flatten().map(|entry| entry.unwrap().path().join("content")).collect()
}

fn go(cache: &Path) {
    fs::write(cache.join("go"), "").unwrap();
}

#[test]
fn a_cache_is_shared_kept_apart_or_waited_for() {
    let engine = Engine::start();
    if engine.is_original() {
        // The test looks at the caches themselves.
        return;
    }
    // Shared: both at once in the same directory.
    let (_one, mut first) = build_until_told(&engine, "id=s,target=/c", "echo x >/c/mark");
    let (_two, mut second) = build_until_told(&engine, "id=s,target=/c", "test -e /c/mark");
    assert_eq!(caches(&engine).len(), 1);
    go(&caches(&engine)[0]);
    wait_until("one of both has seen it", || !caches(&engine)[0].join("go").exists());
    go(&caches(&engine)[0]);
    // Whichever comes first takes the file from the other; it is put there until both are through.
    wait_until("both have ended", || {
        if !caches(&engine)[0].join("go").exists() {
            go(&caches(&engine)[0]);
        }
        first.try_wait().unwrap().is_some() && second.try_wait().unwrap().is_some()
    });
    // Private: the second gets another one.
    let (_one, mut first) = build_until_told(&engine, "id=p,target=/c,sharing=private", "true one");
    let (_two, mut second) = build_until_told(&engine, "id=p,target=/c,sharing=private", "true two");
    assert_eq!(caches(&engine).len(), 3);
    caches(&engine).iter().for_each(|cache| go(cache));
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    // Locked: the second begins when the first has ended.
    let (_one, mut first) = build_until_told(&engine, "id=l,target=/c,sharing=locked", "echo x >/c/held");
    let waiting = Context::new(
        "FROM BASE\nRUN --mount=type=cache,id=l,target=/c,sharing=locked test -e /c/held && ! test -e /c/go\n",
        &[],
    );
    std::thread::scope(|scope| {
        let second = scope.spawn(|| build(&engine, &waiting.path(), &["--no-cache"]));
        let held = caches(&engine).into_iter().find(|cache| cache.join("held").exists()).unwrap();
        assert!(!second.is_finished());
        go(&held);
        second.join().unwrap().ok();
    });
    assert!(first.wait().unwrap().success());
}

#[test]
fn ids_and_links_of_a_cache_lead_nowhere_but_into_it() {
    let engine = Engine::start();
    if engine.is_original() {
        // The test looks at the caches themselves.
        return;
    }
    let context = Context::new(
        "FROM BASE\nRUN --mount=type=cache,id=../../x,target=/c rm -rf /c/* && ln -s /etc /c/swap && ln -s ../../../../.. /c/up\n\
         RUN --mount=type=cache,id=../../x,target=/c readlink /c/swap && echo canary >/c/swap/canary && test -e /etc/canary\n",
        &[],
    );
    build(&engine, &context.path(), &["--no-cache"]).ok();
    let place = engine.directory().join("data/build");
    let names: Vec<String> = fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["caches"]);
    assert_eq!(caches(&engine).len(), 1);
    assert!(!Path::new("/etc/canary").exists(), "a link of a cache led to the machine's files");
    // A seed whose source is a link is what the link names in the stage (CVE-2024-11218).
    let seeded = Context::new(
        "FROM BASE AS seed\nRUN ln -s /etc /out\nFROM BASE\nRUN --mount=type=cache,target=/c,from=seed,source=/out cat /c/plain >/r\n",
        &[],
    );
    build(&engine, &seeded.path(), &["--no-cache"]).ok();
}

#[test]
fn a_context_that_is_written_to_is_as_it_was() {
    let engine = Engine::start();
    let context = Context::new(
        "FROM BASE\nRUN --mount=target=/c,rw rm -rf /c/* && echo x >/c/new\nCOPY . /all\n",
        FILES,
    );
    let image = engine.name("unchanged");
    build(&engine, &context.path(), &["--no-cache", "-t", &image]).ok();
    let check = "cd /all; find . -not -type d | sort; cat a";
    let printed = engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", check]).ok();
    assert_eq!(printed, "./Dockerfile\n./a\n./d/e/f\n./d/g\n./up\nA");
    assert_eq!(fs::read_to_string(context.path().join("a")).unwrap(), "A");
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn what_is_bound_counts_when_a_step_is_looked_for() {
    let engine = Engine::start();
    let context = Context::new(
        "FROM BASE AS other\nCOPY o /o\nFROM BASE\nRUN --mount=source=d,target=/c cat /c/g >/r\nRUN --mount=from=other,target=/x cat /x/o >>/r\n",
        &[FILES, &[("o", "one")]].concat(),
    );
    let image = engine.name("found");
    let printed = |context: &Context| {
        build(&engine, &context.path(), &["-t", &image]).ok();
        engine.docker(&["run", "--rm", "--network", "none", &image, "cat", "/r"]).ok()
    };
    assert_eq!(printed(&context), "Gone");
    context.put("d/g", "H");
    assert_eq!(printed(&context), "Hone");
    context.put("o", "two");
    assert_eq!(printed(&context), "Htwo");
    engine.docker(&["rmi", &image]).ok();
}

/// Stages that fail if they run at once.
const ALONE: &str = "RUN --mount=type=cache,target=/c mkdir /c/one && sleep 0.3 && rmdir /c/one";

#[test]
fn no_more_steps_are_done_at_once_than_the_operator_says() {
    let engine = Engine::start_with(&["--build-parallelism", "1"]);
    if engine.is_original() {
        // It has no such option.
        return;
    }
    let context = Context::new(
        &format!(
            "FROM BASE AS a\n{ALONE} && touch /a\nFROM BASE AS b\n{ALONE} && touch /b\nFROM BASE\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
        ),
        &[],
    );
    build(&engine, &context.path(), &["--no-cache"]).ok();
}

#[test]
fn a_step_that_waits_for_a_cache_keeps_no_other_waiting() {
    let engine = Engine::start_with(&["--build-parallelism", "2"]);
    if engine.is_original() {
        return;
    }
    let (_holding, mut holder) = build_until_told(&engine, "id=l,target=/c,sharing=locked", "true");
    let waiting = Context::new("FROM BASE\nRUN --mount=type=cache,id=l,target=/c,sharing=locked true\n", &[]);
    let path = waiting.path();
    let mut waiter = engine
        .command("docker")
        .args(["build", "--no-cache", "."])
        .current_dir(&path)
        .env("DOCKER_BUILDKIT", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(waiter.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("RUN --mount")), "the step has begun to wait");
    let other = Context::new("FROM BASE\nRUN true\n", &[]);
    build(&engine, &other.path(), &["--no-cache"]).ok();
    assert!(holder.try_wait().unwrap().is_none(), "nobody has let go of the cache");
    go(&caches(&engine)[0]);
    assert!(holder.wait().unwrap().success() && waiter.wait().unwrap().success());
}

/// What the engine was given of its surroundings is its own (CVE-2021-3602). Cargo gives its tests variables, and they the engine.
#[test]
fn nothing_of_the_engines_environment_reaches_a_command() {
    let engine = Engine::start();
    if engine.is_original() {
        // Nobody knows what it was started with.
        return;
    }
    let own = fs::read(format!("/proc/{}/environ", engine.pid())).unwrap();
    assert!(String::from_utf8_lossy(&own).contains("CARGO_MANIFEST_DIR="), "there is something to be seen");
    let context = Context::new(
        "FROM BASE\nRUN env >/r; tr '\\0' '\\n' </proc/1/environ >>/r; ! grep CARGO /r && grep -q PATH= /r\n",
        &[],
    );
    build(&engine, &context.path(), &["--no-cache"]).ok();
}
