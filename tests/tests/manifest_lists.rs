//! `manifest`: lists of manifests, by Docker's command and by ours, in one registry.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::engine::programs;
use coracle_tests::image::SMALL;
use coracle_tests::registry::{PASSWORD, Registry, USER, Wire};
use coracle_tests::{Engine, Output};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One command with a configuration of its own.
struct Side<'a> {
    engine: &'a Engine,
    program: String,
    configuration: PathBuf,
}

impl<'a> Side<'a> {
    fn docker(engine: &'a Engine) -> Self {
        Self { engine, program: "docker".to_owned(), configuration: engine.directory().join("by-docker") }
    }

    fn coracle(engine: &'a Engine) -> Self {
        let program = programs().join("coracle").display().to_string();
        Self { engine, program, configuration: engine.directory().join("by-coracle") }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.engine.command(&self.program);
        let output = command.env("DOCKER_CONFIG", &self.configuration).args(arguments).output().unwrap();
        Output::new(format!("{} {}", self.program, arguments.join(" ")), &output)
    }

    fn manifest(&self, arguments: &[&str]) -> Output {
        self.run(&[&["manifest"], arguments].concat())
    }

    /// Everything that it keeps of lists.
    fn kept(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let top = self.configuration.join("manifests");
        for list in fs::read_dir(&top).into_iter().flatten().flatten() {
            for file in fs::read_dir(list.path()).unwrap().flatten() {
                let name = file.path().strip_prefix(&top).unwrap().to_owned();
                files.insert(name, fs::read_to_string(file.path()).unwrap());
            }
        }
        files
    }
}

/// Pushes images for two processors, and one of them to the list's own repository too.
fn images(engine: &Engine, name: impl Fn(&str) -> String) {
    for processor in ["amd64", "arm64"] {
        let archive = coracle_tests::image::small(engine.directory()).display().to_string();
        let platform = format!("linux/{processor}");
        let name = name(&format!("team/{processor}:v1"));
        engine.docker(&["import", "--platform", &platform, "-m", processor, &archive, &name]).ok();
        engine.docker(&["push", &name]).ok();
    }
    engine.docker(&["tag", &name("team/amd64:v1"), &name("team/all:amd64")]).ok();
    engine.docker(&["push", &name("team/all:amd64")]).ok();
}

fn forget(engine: &Engine, name: impl Fn(&str) -> String) {
    let names = ["team/amd64:v1", "team/arm64:v1", "team/all:amd64"].map(name);
    engine.docker(&["rmi", &names[0], &names[1], &names[2]]).ok();
}

#[test]
fn both_commands_do_the_same_to_the_same_lists() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let name = |rest: &str| registry.name(rest);
    images(&engine, name);
    let sides = [Side::docker(&engine), Side::coracle(&engine)];
    let (list, amd64, arm64, own) =
        (name("team/all:v1"), name("team/amd64:v1"), name("team/arm64:v1"), name("team/all:amd64"));
    let nowhere = name("team/nowhere:v1");
    let steps: Vec<Vec<&str>> = vec![
        vec!["inspect", "--insecure", &nowhere],
        vec!["create", "--insecure", &list, &nowhere],
        vec!["create", "--insecure", &list, &amd64, &arm64],
        vec!["create", "--insecure", &list, &own],
        vec!["create", "--insecure", "--amend", &list, &own],
        vec!["annotate", &list, &arm64, "--variant", "v8", "--os-features", "a,b", "--os-version", "1<2&3"],
        vec!["annotate", &list, &arm64, "--os-features", "b", "--os-features", "c"],
        vec!["annotate", &list, &nowhere, "--arch", "arm"],
        vec!["annotate", &list, &amd64, "--arch", "vax"],
        vec!["annotate", &list, &amd64, "--os", "plan10"],
        vec!["inspect", &list],
        vec!["inspect", "-v", &list],
        vec!["inspect", &list, &arm64],
        vec!["inspect", "-v", &list, &arm64],
        vec!["inspect", &list, &nowhere],
        vec!["inspect", "--insecure", &amd64],
        vec!["inspect", "--insecure", "-v", &amd64],
        vec!["push", "--insecure", &list],
        vec!["push", "--insecure", "--purge", &list],
        vec!["push", "--insecure", &list],
        vec!["inspect", "--insecure", &list],
        vec!["inspect", "--insecure", "-v", &list],
        vec!["create", "--insecure", &nowhere, &list],
        vec!["create", "--insecure", "other.test/x:v1", &amd64],
        vec!["push", "--insecure", "other.test/x:v1"],
        vec!["create", "--insecure", &nowhere, &amd64],
        vec!["rm", &list, "other.test/x:v1", &nowhere],
        vec!["rm", &nowhere],
    ];
    for step in &steps {
        let [docker, coracle] = sides.each_ref().map(|side| side.manifest(step));
        assert_eq!(docker.code, coracle.code, "{step:?}:\n{docker:?}\n{coracle:?}");
        assert_eq!(docker.stdout, coracle.stdout, "{step:?}");
        if docker.code != 0 {
            assert_eq!(docker.stderr.trim_end(), coracle.stderr.trim_end(), "{step:?}");
        }
        assert_eq!(sides[0].kept(), sides[1].kept(), "{step:?}");
    }
    // Each goes on where the other was.
    let one = Side { configuration: sides[0].configuration.clone(), ..Side::coracle(&engine) };
    sides[0].manifest(&["create", "--insecure", &list, &amd64, &arm64]).ok();
    let pushed = one.manifest(&["push", "--insecure", &list]).ok();
    assert_eq!(sides[0].manifest(&["push", "--insecure", "-p", &list]).ok(), pushed);
    // And what is there is of use.
    let digest = pushed.lines().last().unwrap();
    let shown = one.manifest(&["inspect", "--insecure", &list]).ok();
    assert_eq!(coracle_corpus::digest(shown.as_bytes()), digest);
    let pulled = engine.docker(&["pull", &list]).ok();
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    engine.docker(&["rmi", &list]).ok();
    forget(&engine, name);
}

#[test]
fn a_registry_without_tls_needs_the_word_for_it() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    images(&engine, |rest| registry.name(rest));
    // The bridge's address is one of this machine that is not the loopback's.
    engine.docker(&["run", "--rm", SMALL, "true"]).ok();
    let gateway = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
    let address = engine.docker(&["network", "inspect", "-f", gateway, "bridge"]).ok();
    let wire = Wire::at(&address, &registry, u64::MAX);
    let ours = Side::coracle(&engine);
    let (list, image) = (wire.name("team/all:v1"), wire.name("team/amd64:v1"));
    for arguments in [vec!["inspect", &image], vec!["create", &list, &image]] {
        assert_ne!(ours.manifest(&arguments).code, 0, "{arguments:?}");
    }
    ours.manifest(&["create", "--insecure", &list, &image]).ok();
    assert_ne!(ours.manifest(&["push", &list]).code, 0);
    let pushed = ours.manifest(&["push", "--insecure", &list]).ok();
    let shown = ours.manifest(&["inspect", "--insecure", &list]).ok();
    assert_eq!(coracle_corpus::digest(shown.as_bytes()), pushed.lines().last().unwrap());
    // It was for these requests alone.
    assert_ne!(ours.manifest(&["inspect", &image]).code, 0);
    forget(&engine, |rest| registry.name(rest));
}

#[test]
fn who_signed_in_makes_lists_and_nobody_else() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start_with_password());
    engine
        .docker_with_input(&["login", "-u", USER, "--password-stdin", registry.host()], PASSWORD.as_bytes())
        .ok();
    images(&engine, |rest| registry.name(rest));
    let signed_in =
        |configuration: &Path| Side { configuration: configuration.to_owned(), ..Side::coracle(&engine) };
    let (list, image) = (registry.name("team/all:v1"), registry.name("team/arm64:v1"));
    let nobody = signed_in(&engine.directory().join("nobody"));
    assert_ne!(nobody.manifest(&["create", &list, &image]).code, 0);
    let me = signed_in(&engine.directory().join("docker-config"));
    me.manifest(&["create", &list, &image]).ok();
    me.manifest(&["push", &list]).ok();
    assert!(me.manifest(&["inspect", &list]).ok().contains("arm64"));
    forget(&engine, |rest| registry.name(rest));
}
