//! Builds for several platforms. The original refuses them with its default store: the result is an index here, as with the
//! original's newer store and with builders of their own.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, classic_build};
use coracle_tests::image::SMALL;
use coracle_tests::registry::Registry;
use coracle_tests::{Engine, Output};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

const BOTH: &str = "linux/amd64,linux/arm64";

/// Our own engine, with a name that leads to the small image for both platforms: one says that it is another's, and runs
/// here all the same.
fn engine() -> Option<Engine> {
    let engine = Engine::start();
    if engine.is_original() {
        // A documented difference.
        let context = Context::new("FROM scratch\nLABEL a=b\n", &[]);
        engine
            .buildx(&context.path(), &["--platform", BOTH])
            .refused(1, "Multi-platform build is not supported");
        return None;
    }
    let text =
        format!("FROM --platform=$BUILDPLATFORM {SMALL} AS here\nFROM scratch\nCOPY --from=here / /\n");
    engine.buildx(&Context::new(&text, &[]).path(), &["--platform", BOTH, "-t", "base"]).ok();
    Some(engine)
}

fn platforms(engine: &Engine, name: &str) -> Vec<String> {
    let (status, body) = engine.request("GET", &format!("/images/{name}/json?manifests=1"), None);
    assert_eq!(status, 200, "{body}");
    let tree = engine.docker(&["image", "ls", "--tree", name]).ok();
    let found = tree.split_whitespace().filter(|word| word.starts_with("linux/"));
    let mut found: Vec<String> = found.map(str::to_owned).collect();
    found.sort();
    found
}

fn run(engine: &Engine, platform: &str, image: &str, script: &str) -> String {
    engine
        .docker(&["run", "--rm", "--network", "none", "--platform", platform, image, "sh", "-c", script])
        .ok()
}

#[test]
fn the_result_is_an_index_of_an_image_for_each() {
    let Some(engine) = engine() else { return };
    let context = Context::new(
        "FROM --platform=$BUILDPLATFORM base AS tool\nRUN echo once >/tool\nFROM base\nARG TARGETARCH\nARG TARGETPLATFORM\n\
         RUN echo $TARGETARCH >/arch\nCOPY --from=tool /tool /\nLABEL for=$TARGETPLATFORM\n",
        &[],
    );
    let path = context.path();
    type Build = fn(&Engine, &Path, &[&str]) -> Output;
    let buildx: Build = |engine, path, options| engine.buildx(path, options);
    let own: Build =
        |engine, path, options| engine.coracle(&[&["build"], options, &[path.to_str().unwrap()]].concat());
    for (number, build) in [buildx, classic_build, own].into_iter().enumerate() {
        let name = format!("index{number}");
        let told = build(&engine, &path, &["-t", &name, "--no-cache", "--platform", BOTH]);
        let all = format!("{}{}", told.stdout, told.stderr);
        told.ok();
        assert_eq!(platforms(&engine, &name), ["linux/amd64", "linux/arm64"], "{all}");
        for arch in ["amd64", "arm64"] {
            let platform = format!("linux/{arch}");
            assert_eq!(run(&engine, &platform, &name, "cat /arch /tool"), format!("{arch}\nonce"));
            let label = "{{index .Config.Labels \"for\"}}";
            let label =
                engine.docker(&["image", "inspect", "--platform", &platform, "-f", label, &name]).ok();
            assert_eq!(label, platform);
        }
        if number == 0 {
            for words in ["[linux/amd64 tool 2/2] RUN echo once", "[linux/arm64 stage-1 2/3] RUN echo arm64"]
            {
                assert!(
                    all.contains(words) || all.contains("[linux/arm64 stage-1 2/3] RUN echo"),
                    "{words}\n{all}"
                );
            }
            assert_eq!(all.matches("CACHED").count(), 1, "what is for neither is done once:\n{all}");
        }
        engine.docker(&["rmi", &name]).ok();
    }
}

#[test]
fn an_index_is_pushed_and_saved_as_it_is() {
    let Some(mut engine) = engine() else { return };
    let registry = Registry::start();
    let name = registry.name("several:1");
    let context = Context::new("FROM base\nARG TARGETARCH\nRUN echo $TARGETARCH >/arch\n", &[]);
    let file = context.path().join("metadata");
    let options = ["-t", &name, "--push", "--platform", BOTH, "--metadata-file", file.to_str().unwrap()];
    engine.buildx(&context.path(), &options).ok();
    let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let digest = told["containerimage.digest"].as_str().unwrap().to_owned();
    let inspected = engine.docker(&["manifest", "inspect", "--insecure", &name]).json();
    assert_eq!(inspected["manifests"].as_array().unwrap().len(), 2, "{inspected}");
    engine.docker(&["rmi", &name]).ok();
    let pulled = engine.docker(&["pull", "--platform", "linux/arm64", &name]).ok();
    assert!(pulled.contains(&digest), "{digest} is not in {pulled}");
    assert_eq!(run(&engine, "linux/arm64", &name, "cat /arch"), "arm64");
    engine.docker(&["rmi", &name]).ok();

    let path = context.path();
    engine.buildx(&path, &["-t", "saved", "-o", "type=oci,dest=image.tar", "--platform", BOTH]).ok();
    assert_ne!(engine.docker(&["image", "inspect", "saved"]).code, 0, "what was sent is no image here");
    engine.docker(&["load", "-i", path.join("image.tar").to_str().unwrap()]).ok();
    assert_eq!(platforms(&engine, "saved"), ["linux/amd64", "linux/arm64"]);
    assert_eq!(run(&engine, "linux/arm64", "saved", "cat /arch"), "arm64");
    engine.docker(&["rmi", "saved"]).ok();

    engine.buildx(&path, &["-t", "kept", "--platform", BOTH]).ok();
    engine.coracle(&["system", "check"]).ok();
    engine.kill();
    engine.start_again();
    assert_eq!(platforms(&engine, "kept"), ["linux/amd64", "linux/arm64"]);
    assert_eq!(run(&engine, "linux/arm64", "kept", "cat /arch"), "arm64");
    engine.docker(&["rmi", "kept"]).ok();
}

#[test]
fn files_of_each_platform_have_a_directory() {
    let Some(engine) = engine() else { return };
    let context = Context::new(
        "FROM base AS make\nARG TARGETARCH\nRUN mkdir /o && echo $TARGETARCH >/o/f && ln /o/f /o/g\nFROM scratch\nCOPY --from=make /o /\n",
        &[],
    );
    let path = context.path();
    engine.buildx(&path, &["-o", "out", "--platform", BOTH]).ok();
    engine.buildx(&path, &["-o", "type=tar,dest=out.tar", "--platform", BOTH]).ok();
    let mut archive = tar::Archive::new(File::open(path.join("out.tar")).unwrap());
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        found.push((entry.path().unwrap().display().to_string(), content));
    }
    for arch in ["amd64", "arm64"] {
        let content = format!("{arch}\n");
        assert_eq!(fs::read_to_string(path.join(format!("out/linux_{arch}/f"))).unwrap(), content);
        assert_eq!(fs::read_to_string(path.join(format!("out/linux_{arch}/g"))).unwrap(), content);
        assert!(found.contains(&(format!("linux_{arch}/f"), content)), "{found:?}");
    }
    let options = ["-o", "type=local,dest=x,platform-split=false", "--platform", BOTH];
    engine.buildx(&path, &options).refused(1, "platform-split=false");
    fs::remove_dir_all(path.join("out")).unwrap();
    engine.buildx(&path, &["-o", "out", "--platform", "linux/arm64"]).ok();
    assert_eq!(fs::read_to_string(path.join("out/f")).unwrap(), "arm64\n");
}

#[test]
fn a_program_that_needs_an_emulator_says_so() {
    let Some(engine) = engine() else { return };
    let context =
        Context::new("FROM scratch\nCOPY f /bin/sh\nRUN true\n", &[("f", "\u{7f}ELF of another world")]);
    fs::set_permissions(
        context.path().join("f"),
        <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755),
    )
    .unwrap();
    let told = engine.buildx(&context.path(), &["--platform", "linux/s390x"]).fails_with(1);
    assert!(told.contains("cannot run a program for linux/s390x") && told.contains("binfmt_misc"), "{told}");
    let told = engine.buildx(&context.path(), &[]).fails_with(1);
    assert!(told.contains("exec format error") && !told.contains("binfmt_misc"), "{told}");
    engine.buildx(&context.path(), &["--platform", "linux/amd64,nonsense/x/y/z"]).refused(1, "platform");
}

#[test]
fn a_failure_of_one_platform_leaves_nothing() {
    let Some(engine) = engine() else { return };
    let before = engine.docker(&["images", "-aq", "--no-trunc"]).ok();
    let context = Context::new("FROM base\nARG TARGETARCH\nRUN test $TARGETARCH = amd64\n", &[]);
    engine.buildx(&context.path(), &["-t", "broken", "--platform", BOTH]).refused(1, "exit code: 1");
    assert_eq!(engine.docker(&["images", "-aq", "--no-trunc"]).ok(), before);
    // Without a name each image is one of its own, as others without a name are.
    let unnamed = Context::new("FROM base\nARG TARGETARCH\nRUN echo $TARGETARCH >/unnamed\n", &[]);
    engine.buildx(&unnamed.path(), &["--platform", BOTH]).ok();
    engine.docker(&["image", "prune", "-f"]).ok();
    assert_eq!(engine.docker(&["images", "-aq", "--no-trunc"]).ok(), before);
    let missing = Context::new(&format!("FROM {SMALL}\nRUN true\n"), &[]);
    engine.buildx(&missing.path(), &["-t", "broken", "--platform", BOTH]).fails_with(1);
}

#[test]
fn bake_links_targets_of_several_platforms() {
    let Some(engine) = engine() else { return };
    let context = Context::new("FROM base\nARG TARGETARCH\nRUN echo $TARGETARCH >/arch\n", &[]);
    context.put("app", "FROM made\nRUN cp /arch /copied\n");
    context.put(
        "docker-bake.hcl",
        "platforms = [\"linux/amd64\", \"linux/arm64\"]\ntarget \"made\" {\n context = \".\"\n platforms = [\"linux/amd64\", \"linux/arm64\"]\n}\n\
         target \"app\" {\n context = \".\"\n dockerfile = \"app\"\n contexts = { made = \"target:made\" }\n \
         platforms = [\"linux/amd64\", \"linux/arm64\"]\n tags = [\"app\"]\n}\n",
    );
    engine.plugin_in(&context.path(), &["buildx", "bake", "app"]).ok();
    assert_eq!(run(&engine, "linux/arm64", "app", "cat /copied"), "arm64");
    assert_eq!(run(&engine, "linux/amd64", "app", "cat /copied"), "amd64");
    engine.docker(&["rmi", "app"]).ok();
}
