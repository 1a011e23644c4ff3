//! What `COPY`, `ADD` and `WORKDIR` make of files, as BuildKit does.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::context::{Context, build};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A context, what is built of it, and what a command in the result prints.
struct Case {
    name: &'static str,
    dockerfile: &'static str,
    /// Paths and contents; `-> target` is a link.
    files: &'static [(&'static str, &'static str)],
    check: &'static str,
    expected: &'static str,
    /// Whether the original's BuildKit, which is some years old, knows it too.
    old: bool,
}

const CASE: Case = Case { name: "", dockerfile: "", files: &[], check: "", expected: "", old: true };

const TREE: &[(&str, &str)] = &[
    ("a", "A"),
    ("b", "B"),
    ("d/e/f", "F"),
    ("d/g", "G"),
    ("d/.h", "H"),
    ("la", "-> a"),
    ("ld", "-> d"),
    ("d/up", "-> ../a"),
];

const CASES: &[Case] = &[
    Case {
        name: "a new directory has an ordinary mode, and one that is there keeps its own",
        dockerfile: "FROM BASE\nRUN mkdir -m 700 /old && chown 5:6 /old\nCOPY d /old\nCOPY d/e /new\nCOPY --chown=7:8 --chmod=600 d/e /theirs\n",
        files: TREE,
        check: "stat -c '%n %a %u %g' /old /new /theirs /theirs/f",
        expected: "/old 700 5 6\n/new 755 0 0\n/theirs 755 7 8\n/theirs/f 600 7 8",
        ..CASE
    },
    Case {
        name: "a link that is named stands for what it leads to, one that is found does not",
        dockerfile: "FROM BASE\nCOPY la /f\nCOPY ld /d\nCOPY l* /all/\n",
        files: TREE,
        check: "cd /; for f in f d/up all/la all/up; do test -L $f && readlink $f || cat $f && echo; done; ls -A all",
        expected: "A\n../a\n\nA\n../a\n\n.h\ne\ng\nla\nup",
        ..CASE
    },
    Case {
        name: "a file goes into a directory that is there, and a slash makes one",
        dockerfile: "FROM BASE\nRUN mkdir /there\nCOPY a /there\nCOPY a /made/\nCOPY a/ /b/c\nCOPY [b] /there/renamed\n",
        files: TREE,
        check: "cat /there/a /made/a /b/c /there/renamed",
        expected: "AAAB",
        ..CASE
    },
    Case {
        name: "patterns stand for hidden files and directories' content too, and may stand for nothing",
        dockerfile: "FROM BASE\nCOPY d/* /s/\nCOPY none* /nothing/\nCOPY a none* /some/\nCOPY d* /merged\n",
        files: TREE,
        check: "ls -A /s; ls -A /merged /some; ls /nothing 2>&1 | wc -l",
        expected: ".h\nf\ng\nup\n/merged:\n.h\ne\ng\nup\n\n/some:\na\n1",
        // The link that leads out of the context as far as it is sent is not found there.
        old: false,
    },
    Case {
        name: "a link in the way of a file is replaced, one on the way to it followed",
        dockerfile: "FROM BASE\nRUN mkdir -p /x /y && ln -s /y/q /x/g && touch /y/q && ln -s /y /z\nCOPY d /x\nCOPY a /z/\nCOPY a /z/deep/er/\n",
        files: TREE,
        check: "test -L /x/g || cat /x/g /y/a /y/deep/er/a; wc -c </y/q; readlink /z",
        expected: "GAA0\n/y",
        ..CASE
    },
    Case {
        name: "a directory belongs to whoever commands run as",
        dockerfile: "FROM BASE\nUSER web\nWORKDIR /w/x\nUSER 0\nWORKDIR y\n",
        check: "stat -c '%n %u %g %a' /w /w/x /w/x/y; pwd",
        expected: "/w 33 33 755\n/w/x 33 33 755\n/w/x/y 0 0 755\n/w/x/y",
        ..CASE
    },
    Case {
        name: "names are those of the image's users, and a number without a group counts twice",
        dockerfile: "FROM BASE\nRUN echo 'app:x:40:50::/:' >>/etc/passwd && echo 'crew:x:60:' >>/etc/group\nCOPY --chown=app a /a\nCOPY --chown=app:crew a /b\n\
            COPY --chown=1:crew a /c\nCOPY --chown=40 a /d\n",
        files: TREE,
        check: "stat -c '%u %g' /a /b /c /d",
        expected: "40 50\n40 60\n1 60\n40 40",
        ..CASE
    },
    Case {
        name: "what is linked belongs to the image's users too",
        dockerfile: "FROM BASE\nRUN echo 'app:x:40:50::/:' >>/etc/passwd && mkdir /real && ln -s /real /here\nCOPY --link --chown=app:extra a /n/a\nCOPY --link a /b\n",
        files: TREE,
        check: "stat -c '%n %u %g' /n /n/a /b",
        expected: "/n 40 77\n/n/a 40 77\n/b 0 0",
        ..CASE
    },
    Case {
        name: "what is ignored is what the last pattern says",
        dockerfile: "FROM BASE\nCOPY . /c\n",
        files: &[
            (
                ".dockerignore",
                "# comment\n *.log \n!keep.log\n../a\n..\n**/.git\n/only/here/\n!only/here/not\nspace name\n*/tmp?\nDockerfile\n",
            ),
            ("a", ""),
            ("x.log", ""),
            ("keep.log", ""),
            ("d/x.log", ""),
            ("d/.git/y", ""),
            ("only/here/not", ""),
            ("only/here/gone", ""),
            ("space name", ""),
            ("e/tmp1", ""),
            ("e/tmp12", ""),
        ],
        check: "cd /c; find . -type f | sort",
        expected: "./.dockerignore\n./a\n./d/x.log\n./e/tmp12\n./keep.log\n./only/here/not",
        ..CASE
    },
    Case {
        name: "everything but what is taken back, whatever its depth",
        dockerfile: "FROM BASE\nCOPY . /c\n",
        files: &[
            (".dockerignore", "**\n!src\nsrc/**/*.o\n!top\n"),
            ("top", ""),
            ("src/a.c", ""),
            ("src/b/c.c", ""),
            ("src/b/c.o", ""),
        ],
        check: "cd /c; find . | sort",
        expected: ".\n./src\n./src/a.c\n./src/b\n./src/b/c.c\n./top",
        ..CASE
    },
    Case {
        name: "files keep the directories that they are in, from the mark on",
        dockerfile: "FROM BASE\nCOPY --parents x/a.txt y/a.txt /all/\nCOPY --parents x/./y/*.txt /some/\nCOPY --parents x/**/*.txt /deep/\nCOPY --parents x/y /whole/\n",
        files: &[
            ("x/a.txt", ""),
            ("y/a.txt", ""),
            ("x/y/a.txt", ""),
            ("x/y/b.txt", ""),
            ("x/y/c.md", ""),
            ("x/z/d.md", ""),
        ],
        check: "cd /; find all some deep whole -type f | sort; ls deep/x",
        expected: "all/x/a.txt\nall/y/a.txt\ndeep/x/a.txt\ndeep/x/y/a.txt\ndeep/x/y/b.txt\nsome/y/a.txt\nsome/y/b.txt\nwhole/x/y/a.txt\n\
            whole/x/y/b.txt\nwhole/x/y/c.md\na.txt\ny",
        old: false,
    },
    Case {
        name: "modes change by symbols, and exclusions count for what is named too",
        dockerfile: "FROM BASE\nCOPY --chmod=u=rwX,go=rX d /d\nCOPY --chmod=+x a /a\nCOPY --chmod=g=u,o= a /b\nCOPY --exclude=*.md --exclude=n a.md n b /n/\n\
            COPY --parents --exclude=**/*.md p /\n",
        files: &[
            ("d/e/f", ""),
            ("a", ""),
            ("a.md", ""),
            ("n", ""),
            ("b", ""),
            ("p/q/r", ""),
            ("p/q/s.md", ""),
        ],
        check: "stat -c '%n %a' /d/e /d/e/f /a /b; ls /n; find /p -type f",
        expected: "/d/e 755\n/d/e/f 644\n/a 755\n/b 660\nb\n/p/q/r",
        old: false,
    },
];

#[test]
fn files_are_where_and_what_buildkit_makes_them() {
    let engine = Engine::start();
    for case in CASES.iter().filter(|case| case.old || !engine.is_original()) {
        let context = Context::new(case.dockerfile, case.files);
        let image = engine.name("files");
        build(&engine, &context.path(), &["-t", &image]).ok();
        let printed =
            engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", case.check]).ok();
        assert_eq!(printed, case.expected, "{}", case.name);
        engine.docker(&["rmi", &image]).ok();
    }
}

#[test]
fn what_is_not_there_or_in_the_way_is_said() {
    let engine = Engine::start();
    let files = [
        TREE,
        &[
            ("dangling", "-> nowhere"),
            ("out", "-> ../../../etc/passwd"),
            (".dockerignore", "hidden\n"),
            ("hidden", ""),
        ],
    ]
    .concat();
    for (steps, complaint, old) in [
        ("COPY missing /", "\"/missing\": not found", true),
        ("COPY d/missing/x /", "\"/d/missing/x\": not found", false),
        ("COPY dangling /w/", "\"/nowhere\": not found", true),
        ("COPY out /w/", "\"/etc/passwd\": not found", true),
        ("COPY hidden /w/", "\"/hidden\": not found", true),
        ("COPY --parents missing /w/", "\"/missing\": not found", false),
        ("COPY d /etc/plain", "cannot copy to non-directory", true),
        ("RUN mkdir -p /x/a\nCOPY a /x/", "directory", true),
        ("RUN mkdir /x && touch /x/e\nCOPY d /x", "directory", true),
        ("RUN mkdir /x /y && ln -s /y /x/e\nCOPY d /x", "directory", true),
        ("COPY a b /w", "must be a directory and end with a /", false),
        ("COPY [ab] /w", "must be a directory and end with a /", false),
        ("COPY --chown=nobody-here a /a", "nobody-here", false),
        ("COPY --chmod=99999 a /a", "99999", false),
        ("COPY --chmod=u=q a /a", "u=q", false),
        ("COPY --parents a/**/./b /w/", "**", false),
    ] {
        if !old && engine.is_original() {
            continue;
        }
        let context = Context::new(&format!("FROM BASE\n{steps}\n"), &files);
        build(&engine, &context.path(), &[]).refused(1, complaint);
    }
}

#[test]
fn instructions_that_only_configure_are_kept_as_they_are() {
    let engine = Engine::start();
    let context =
        Context::new("FROM BASE\nWORKDIR /w\nVOLUME rel /abs\nHEALTHCHECK --interval=3s NONE\n", &[]);
    let image = engine.name("configured");
    build(&engine, &context.path(), &["-t", &image]).ok();
    let config = &engine.docker(&["inspect", &image]).json()[0]["Config"];
    assert_eq!(config["Volumes"], serde_json::json!({"rel": {}, "/abs": {}}));
    assert_eq!(config["Healthcheck"], serde_json::json!({"Test": ["NONE"]}));
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn archives_are_unpacked_however_they_are_compressed() {
    let engine = Engine::start();
    let context = Context::new(
        "FROM BASE\nADD plain.tar /plain\nADD t.gz t.bz2 t.xz t.zst /w/\nADD --chown=3:4 plain.tar /theirs/\nADD text.tar.gz /text/\n",
        &[("in/kept", "K"), ("text.tar.gz", "no archive\n")],
    );
    let path = context.path();
    std::fs::set_permissions(path.join("in/kept"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let pack = |name: &str, option: &str, inside: &str| {
        std::fs::rename(path.join("in/kept"), path.join("in").join(inside)).unwrap();
        let tar = Command::new("tar")
            .args(["--owner=5", "--group=6", option, "-cf", name, "-C", "in", inside])
            .current_dir(&path)
            .status()
            .unwrap();
        assert!(tar.success(), "{name}");
        std::fs::rename(path.join("in").join(inside), path.join("in/kept")).unwrap();
    };
    for (name, option, inside) in [
        ("plain.tar", "--numeric-owner", "kept"),
        ("t.gz", "--gzip", "one"),
        ("t.bz2", "--bzip2", "two"),
        ("t.xz", "--xz", "three"),
        ("t.zst", "--zstd", "four"),
    ] {
        pack(name, option, inside);
    }
    let image = engine.name("unpacked");
    build(&engine, &path, &["-t", &image]).ok();
    // The original of the test gives what archives hold to nobody else, and unpacks xz only with a program beside it.
    let (check, expected) = if engine.is_original() {
        ("stat -c '%n %u %g %a' /plain/kept; cat /text/*", "/plain/kept 5 6 640\nno archive")
    } else {
        (
            "stat -c '%n %u %g %a' /plain/kept /theirs/kept; ls /w; cat /text/*",
            "/plain/kept 5 6 640\n/theirs/kept 3 4 640\nfour\none\nthree\ntwo\nno archive",
        )
    };
    let printed = engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", check]).ok();
    assert_eq!(printed, expected);
    engine.docker(&["rmi", &image]).ok();
    if engine.is_original() {
        // Its language is older.
        return;
    }
    context.put(
        "Dockerfile",
        &format!("FROM {}\nADD --unpack=false plain.tar /kept/\n", coracle_tests::image::SMALL),
    );
    build(&engine, &path, &["-t", &image]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &image, "ls", "/kept"]).ok(), "plain.tar");
    engine.docker(&["rmi", &image]).ok();
}
