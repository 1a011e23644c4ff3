//! Contexts by name: what a client puts in the place of images and stages, through Docker's plugins, through a client of our
//! own, and by our own command.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_buildkit::proto::moby::buildkit::v1::SolveRequest;
use coracle_buildkit::proto::pb::{Definition, Op, SourceOp, op};
use coracle_tests::context::Context;
use coracle_tests::door::Door;
use coracle_tests::image::SMALL;
use coracle_tests::lender::{Lender, Lent, file};
use coracle_tests::web::{Web, git};
use coracle_tests::{Engine, Output};
use prost::Message;
use std::fs;

/// What a command in an image prints.
fn run(engine: &Engine, image: &str, script: &str) -> String {
    engine.docker(&["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A command that builds a context with some options.
type Build = fn(&Engine, &Context, &[&str]) -> Output;

/// `docker buildx build` and our own command, which have the same options.
fn both(engine: &Engine) -> Vec<Build> {
    let buildx: Build = |engine, context, options| engine.buildx(&context.path(), options);
    let own: Build = |engine, context, options| {
        let path = context.path();
        engine.coracle(&[&["build"], options, &[path.to_str().unwrap()]].concat())
    };
    if engine.is_original() { vec![buildx] } else { vec![buildx, own] }
}

#[test]
fn images_and_stages_are_replaced() {
    let engine = Engine::start();
    let name = engine.name("replaced");
    let context = Context::new(
        "FROM nowhere.example/base AS first\nRUN echo first >/first\nFROM BASE AS made\nRUN exit 9\nFROM made AS on\nFROM first\n\
         COPY --from=docker.io/library/files / /files\nCOPY --from=made f /made\n\
         RUN --mount=from=files:latest,target=/m cp /m/sub/b /bound\nCOPY --from=on /f /on\n",
        &[],
    );
    let files = Context::new(
        "not this one",
        &[(".dockerignore", "*.md\nDockerfile\n"), ("a", "A"), ("sub/b", "B"), ("no.md", "no")],
    );
    let made = Context::new("", &[("f", "replaced")]);
    let given = [
        format!("nowhere.example/base=docker-image://{SMALL}"),
        format!("files={}", files.path().display()),
        format!("made={}", made.path().display()),
    ];
    let mut options = vec!["-t", &name];
    given.iter().for_each(|context| options.extend(["--build-context", context]));
    for build in both(&engine) {
        build(&engine, &context, &options).ok();
        let script = "cat /first /bound /made /on; cd /files; find . -type f | sort; stat -c %u:%g a";
        let found = run(&engine, &name, script);
        assert_eq!(found, "first\nBreplacedreplaced./.dockerignore\n./a\n./sub/b\n0:0");
        engine.docker(&["rmi", &name]).ok();
    }
}

#[test]
fn a_context_is_a_stage_of_its_files() {
    let engine = Engine::start();
    let context = Context::new(
        "FROM files\nCOPY own /own\nFROM scratch AS other\nCOPY --from=files d/f /f\n",
        &[("own", "O")],
    );
    let files = Context::new("", &[("d/f", "F"), ("skipped", "s"), (".dockerignore", "skipped\nDockerfile")]);
    let given = format!("files={}", files.path().display());
    let list = |options: &[&str]| {
        let out = context.path().join("out");
        engine.buildx(&context.path(), &[&["-o", "out", "--build-context", &given], options].concat()).ok();
        let mut found: Vec<String> = walk(&out).into_iter().collect();
        found.sort_unstable();
        fs::remove_dir_all(out).unwrap();
        found
    };
    assert_eq!(list(&["--target", "other"]), ["f"]);
    context.put("Dockerfile", "FROM files\nCOPY own /own\n");
    assert_eq!(list(&[]), [".dockerignore", "d/f", "own"]);
}

/// The files below a directory.
fn walk(top: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(top).unwrap().display().to_string());
            }
        }
    }
    found
}

#[test]
fn what_a_context_has_decides_whether_a_step_is_done_again() {
    let engine = Engine::start();
    let name = engine.name("cached");
    let stamp = engine.name("x");
    let context = Context::new(
        &format!(
            "FROM BASE\nRUN --mount=from=files,target=/m cat /m/a >/a; echo {stamp}\nCOPY --from=files b /b\n"
        ),
        &[],
    );
    let files = Context::new("", &[("a", "1"), ("b", "1"), (".dockerignore", "Dockerfile\nignored")]);
    let given = format!("files={}", files.path().display());
    let options = ["-t", &name, "--build-context", &given];
    engine.buildx(&context.path(), &options).ok();
    files.put("ignored", "whatever");
    let told = engine.buildx(&context.path(), &options);
    // The original may count the base as well.
    assert!(told.stderr.matches("CACHED").count() >= 2, "{}", told.stderr);
    files.put("b", "2");
    let told = engine.buildx(&context.path(), &["-t", &name, "--build-context", &given]);
    told.ok();
    assert_eq!(run(&engine, &name, "cat /a /b"), "12");
    files.put("a", "2");
    engine.buildx(&context.path(), &options).ok();
    assert_eq!(run(&engine, &name, "cat /a /b"), "22");
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn repositories_and_files_of_web_servers_are_contexts() {
    let engine = Engine::start();
    let name = engine.name("remote");
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("work");
    fs::create_dir_all(work.join("docs")).unwrap();
    git(&work, &["init", "--quiet", "--initial-branch=main"]);
    fs::write(work.join("docs/read.me"), "one").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "-m", "one"]);
    fs::write(place.path().join("file.tar"), "no archive").unwrap();
    let web = Web::start(place.path());
    web.publish(&work, "project.git");
    let context = Context::new(
        "FROM BASE\nCOPY --from=project . /p\nCOPY --from=docs / /d\nCOPY --from=web / /w\n",
        &[],
    );
    let given = [
        format!("project={}", web.address("project.git#main")),
        format!("docs={}", web.address("project.git#main:docs")),
        format!("web={}", web.address("file.tar")),
    ];
    let mut options = vec!["-t", &name];
    given.iter().for_each(|context| options.extend(["--build-context", context]));
    for build in both(&engine) {
        build(&engine, &context, &options).ok();
        let found = run(&engine, &name, "cd /; ls -A p d; cat w/file.tar; stat -c ' %a' w/file.tar");
        assert_eq!(words(&found), ["d:", "read.me", "p:", ".git", "docs", "no", "archive", "600"], "{found}");
        engine.docker(&["rmi", &name]).ok();
    }
}

#[test]
fn bake_links_targets() {
    let engine = Engine::start();
    let name = engine.name("linked");
    let context = Context::new("FROM BASE\nENV E=linked\nUSER web\nWORKDIR /w\nRUN echo made >f\n", &[]);
    context.put("app", "FROM made\nRUN echo \"$E $(id -un) $(cat f)\" >g\nCOPY --from=made /w/f h\n");
    context.put(
        "docker-bake.hcl",
        &format!(
            "target \"base\" {{\n context = \".\"\n}}\ntarget \"app\" {{\n context = \".\"\n dockerfile = \"app\"\n \
             contexts = {{ made = \"target:base\" }}\n tags = [\"{name}\"]\n}}\n"
        ),
    );
    engine.plugin_in(&context.path(), &["buildx", "bake", "app"]).ok();
    assert_eq!(run(&engine, &name, "pwd; cat g h"), "/w\nlinked web made\nmade");
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn compose_gives_services_more_contexts() {
    let engine = Engine::start();
    let project = engine.name("project");
    let context = Context::new("FROM base\nCOPY --from=more f /f\n", &[("more/f", "more")]);
    let file = format!(
        "services:\n  web:\n    build:\n      context: .\n      additional_contexts:\n        base: docker-image://{SMALL}\n        \
         more: ./more\n"
    );
    context.put("compose.yaml", &file);
    engine.plugin_in(&context.path(), &["compose", "-p", &project, "build"]).ok();
    let image = format!("{project}-web");
    assert_eq!(run(&engine, &image, "cat /f"), "more");
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn what_cannot_be_a_context_is_refused_by_name() {
    let engine = Engine::start();
    let context = Context::new("FROM base\n", &[]);
    for build in both(&engine) {
        build(&engine, &context, &["--build-context", "base=/nowhere/at/all"]).refused(1, "/nowhere/at/all");
        build(&engine, &context, &["--build-context", "base"]).refused(1, "base");
    }
    let nothing = Context::new("FROM base\nCOPY --from=base /nothing /x\n", &[]);
    let given = format!("base=docker-image://{SMALL}");
    engine.buildx(&nothing.path(), &["--build-context", &given]).refused(1, "/nothing");
}

/// A client with a Dockerfile and these directories.
fn lender(dockerfile: &str, directories: &[(&str, Vec<Lent>)]) -> Lender {
    let recipe = dockerfile.replace("FROM BASE", &format!("FROM {SMALL}"));
    let recipe = ("dockerfile".to_owned(), vec![file("Dockerfile", recipe)]);
    let directories = directories.iter().map(|(name, files)| ((*name).to_owned(), files.clone()));
    Lender { directories: directories.chain([recipe]).collect(), ..Lender::default() }
}

fn direct(request: SolveRequest, options: &[(&str, &str)]) -> SolveRequest {
    let frontend_attrs =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SolveRequest { frontend: "dockerfile.v0".into(), frontend_attrs, ..request }
}

#[tokio::test]
async fn another_session_lends_a_directory() {
    let engine = Engine::start();
    if engine.is_original() {
        // Docker 26 has a BuildKit that does not know of it yet.
        return;
    }
    let name = engine.name("lent");
    let text = "FROM BASE\nCOPY f /f\nCOPY --from=more f /more\n";
    let asking = Door::open(&engine, lender(text, &[("more", vec![file("f", "asker's")])])).await;
    let lending = Door::open(&engine, lender("", &[("context", vec![file("f", "lender's")])])).await;
    let session = lending.session.clone();
    let options = [("context:more", "local:more"), ("local-sessionid:context", &session)];
    let request = direct(asking.request("moby", &[("name", &name)]), &options);
    asking.control().solve(request).await.unwrap();
    assert_eq!(run(&engine, &name, "cat /f; echo; cat /more"), "lender's\nasker's");
    engine.docker(&["rmi", &name]).ok();
}

#[tokio::test]
async fn only_results_of_this_door_are_inputs() {
    let engine = Engine::start();
    if engine.is_original() {
        // It carries out any definition.
        return;
    }
    let source = SourceOp { identifier: format!("docker-image://{SMALL}"), ..SourceOp::default() };
    let source = Op { op: Some(op::Op::Source(source)), ..Op::default() };
    let foreign = Definition { def: vec![source.encode_to_vec()], ..Definition::default() };
    let door = Door::open(&engine, lender("FROM base\n", &[])).await;
    for (inputs, words) in [
        (vec![("base".to_owned(), foreign)], "low-level operations"),
        (vec![("base".to_owned(), coracle_buildkit::definition_of("another/0"))], "a build that is over"),
        (vec![], "invalid input base for base"),
    ] {
        let mut request = direct(door.request("", &[]), &[("context:base", "input:base")]);
        request.frontend_inputs = inputs.into_iter().collect();
        let refusal = door.control().solve(request).await.unwrap_err();
        assert!(refusal.message().contains(words), "{refusal}");
    }
    let request = direct(door.request("", &[]), &[("context:base", "oci-layout://store/x@sha256:00")]);
    let refusal = door.control().solve(request).await.unwrap_err();
    assert!(refusal.message().contains("OCI layout"), "{refusal}");
}
