//! The corpus of hostile archives through every door of a running engine: `docker pull`, `docker load`, `docker import`, and
//! the archives of `docker cp`.
//!
//! For each case: refused or confined, the canary as it was, the engine answering; and its benign twin works.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_corpus::{Canary, Case, Fate, PROBE, all, docker_archive};
use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use coracle_tests::shelf::Shelf;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An engine, the canary beside it, and how both were.
struct Field {
    engine: Engine,
    canary: PathBuf,
    before: BTreeMap<PathBuf, String>,
    host: BTreeMap<PathBuf, String>,
}

impl Field {
    fn new() -> Self {
        let engine = Engine::start();
        let canary = engine.directory().join("canary");
        fs::create_dir_all(canary.join("directory")).unwrap();
        fs::write(canary.join("secret"), "of the host").unwrap();
        Self { before: describe(&canary), host: host(), engine, canary }
    }

    /// Runs the check for every case, and tells of all that fail together.
    fn for_each(&self, mut check: impl FnMut(&Case) -> Result<(), String>) {
        let mut failures = Vec::new();
        for case in all(&Canary::new(&self.canary)) {
            if let Err(text) = check(&case) {
                failures.push(format!("{}: {text}", case.name));
            }
            assert_eq!(describe(&self.canary), self.before, "{}", case.name);
        }
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
        assert_eq!(self.engine.request("GET", "/_ping", None).0, 200);
        assert_eq!(host(), self.host, "the machine is not what it was");
        let log = self.engine.log();
        assert!(!log.contains("panicked at"), "{log}");
    }

    /// The content of a file of a container.
    fn read(&self, container: &str, path: &str) -> Result<String, String> {
        let url = format!("/v1.44/containers/{container}/archive?path={path}");
        let (status, archive) = self.engine.request("GET", &url, None);
        let mut archive = tar::Archive::new(archive.as_bytes());
        let mut entry = match archive.entries().unwrap().next() {
            Some(Ok(entry)) if status == 200 => entry,
            _ => return Err(format!("{path} cannot be read: {status}")),
        };
        let mut content = String::new();
        std::io::Read::read_to_string(&mut entry, &mut content).map_err(|error| error.to_string())?;
        Ok(content)
    }

    /// What must be so of an image: it can be made a container, whose last file is there.
    fn probe(&self, image: &str, case: &Case) -> Result<(), String> {
        let body = format!(r#"{{"Image":"{image}","Cmd":["/none"],"HostConfig":{{"NetworkMode":"none"}}}}"#);
        let (status, answer) = self.engine.request("POST", "/v1.44/containers/create", Some(&body));
        if status != 201 {
            return Err(format!("no container: {answer}"));
        }
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let id = answer["Id"].as_str().unwrap();
        let found = self.read(id, &format!("/{PROBE}"));
        self.engine.request("DELETE", &format!("/v1.44/containers/{id}"), None);
        if found? == case.name { Ok(()) } else { Err("its last file is another".into()) }
    }

    fn remove_image(&self, name: &str) {
        self.engine.request("DELETE", &format!("/v1.44/images/{name}?force=1"), None);
    }

    /// The check of a door through which images come. `bring` sends an archive under a name.
    /// Loads an archive. The head of the answer is sent before it is looked at, as with Docker: 400 stands for a failure.
    fn load(&self, archive: &[u8]) -> (u16, String) {
        let (status, answer) = self.engine.upload("POST", "/v1.44/images/load?quiet=1", archive);
        (if status == 200 && answer.contains("errorDetail") { 400 } else { status }, answer)
    }

    fn image_door(&self, case: &Case, bring: impl Fn(&[u8], &str) -> (u16, String)) -> Result<(), String> {
        let name = self.engine.name("corpus");
        let (status, answer) = bring(&case.hostile, &name);
        match (status, case.fate) {
            // The layer is there; what the container sees of it is confined as well.
            (200, Fate::Confined) if !answer.contains("\"error\"") => self.remove_image(&name),
            (400, _) => {}
            _ => return Err(format!("{status}: {}", answer.lines().last().unwrap_or_default())),
        }
        let (status, answer) = bring(&case.twin, &name);
        if status != 200 {
            return Err(format!("the twin: {status}: {}", answer.lines().last().unwrap_or_default()));
        }
        let probed = self.probe(&name, case);
        self.remove_image(&name);
        probed
    }
}

/// Everything about a tree that a change would show in, change times included.
fn describe(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(m) = path.symlink_metadata() else { continue };
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        let owner = (m.uid(), m.gid(), m.nlink(), m.ino());
        found.insert(path, format!("{:o} {owner:?} {} {}.{}", m.mode(), m.size(), m.ctime(), m.ctime_nsec()));
    }
    found
}

/// What an escape would change first on the machine itself.
fn host() -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for place in
        ["/boot", "/etc/passwd", "/etc/shadow", "/etc/cron.d", "/etc/ld.so.preload", "/root/.ssh", "/usr/bin"]
    {
        all.extend(describe(Path::new(place)));
    }
    for setting in ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe"] {
        all.insert(setting.into(), fs::read_to_string(setting).unwrap_or_default());
    }
    all
}

#[test]
fn imported_archives_are_refused_or_confined() {
    let field = Field::new();
    field.for_each(|case| {
        field.image_door(case, |archive, name| {
            field.engine.upload("POST", &format!("/v1.44/images/create?fromSrc=-&repo={name}"), archive)
        })
    });
}

#[test]
fn layers_of_loaded_images_are_refused_or_confined() {
    let field = Field::new();
    field.for_each(|case| field.image_door(case, |archive, name| field.load(&docker_archive(archive, name))));
}

#[test]
fn pulled_layers_are_refused_or_confined() {
    let (field, shelf) = (Field::new(), Shelf::new());
    field.for_each(|case| {
        field.image_door(case, |archive, name| {
            shelf.put_image(name, archive);
            let pull = format!("/v1.44/images/create?fromImage={}/{name}&tag=latest", shelf.host());
            let (status, answer) = field.engine.request("POST", &pull, None);
            let tag = format!("/v1.44/images/{}/{name}/tag?repo={name}", shelf.host());
            match answer.contains("errorDetail") {
                // It came after the stream of progress had begun.
                true if status == 200 => (400, answer),
                false if status == 200 => {
                    field.engine.request("POST", &tag, None);
                    field.remove_image(&format!("{}/{name}", shelf.host()));
                    (200, answer)
                }
                _ => (status, answer),
            }
        })
    });
}

/// The context of a build that adds an archive.
fn context(archive: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let dockerfile = format!("FROM {SMALL}\nADD added.tar /\n");
    for (name, content) in [("Dockerfile", dockerfile.as_bytes()), ("added.tar", archive)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives_that_a_build_adds_are_refused_or_confined() {
    let field = Field::new();
    field.for_each(|case| {
        let name = field.engine.name("added");
        let build = |archive: &[u8]| {
            let path = format!("/v1.44/build?t={name}");
            field.engine.upload("POST", &path, &context(archive))
        };
        let (status, answer) = build(&case.hostile);
        if !matches!(status, 200 | 400) {
            return Err(format!("{status}: {}", answer.lines().last().unwrap_or_default()));
        }
        field.remove_image(&name);
        let (status, answer) = build(&case.twin);
        // In a layer it would be a whiteout; in an archive that is added it is a file, which no layer can hold.
        if answer.contains("a layer cannot hold a file of that name") {
            return Ok(());
        }
        if status != 200 || answer.contains("errorDetail") {
            return Err(format!("the twin: {status}: {}", answer.lines().last().unwrap_or_default()));
        }
        let probed = field.probe(&name, case);
        field.remove_image(&name);
        probed
    });
    assert_eq!(field.engine.docker(&["ps", "-aq"]).ok(), "", "no container of a step stays");
}

#[test]
fn hostile_archives_that_are_no_images_load_nothing() {
    let field = Field::new();
    let images = field.engine.docker(&["images", "-aq"]).ok();
    field.for_each(|case| match field.load(&case.hostile) {
        (400, _) => Ok(()),
        (status, answer) => Err(format!("{status}: {answer}")),
    });
    assert_eq!(field.engine.docker(&["images", "-aq"]).ok(), images);
}

#[test]
fn copied_archives_are_refused_or_confined() {
    let field = Field::new();
    let name = field.engine.name("copy");
    let run = ["run", "-d", "--network", "none", "--name", &name, SMALL, "sleep", "1000"];
    field.engine.docker(&run).ok();
    let shell = |script: &str| field.engine.docker(&["exec", &name, "sh", "-c", script]).ok();
    shell("mkdir -p /in/a /in/b");
    let etc = shell("cd /etc; for f in passwd group plain; do stat -c '%n %a %u %Y' $f; sha256sum $f; done");
    let put = |path: &str, archive: &[u8]| {
        let url = format!("/v1.44/containers/{name}/archive?path={path}");
        field.engine.upload("PUT", &url, archive)
    };
    field.for_each(|case| {
        // What the last case left, also where its links led inside of the container.
        shell(&format!("rm -rf /in {}; mkdir -p /in/a /in/b", field.canary.display()));
        match (put("/in/a", &case.hostile), case.fate) {
            ((200, _), Fate::Confined | Fate::RefusedAsLayer) | ((400, _), _) => {}
            ((status, answer), _) => return Err(format!("{status}: {answer}")),
        }
        let (status, answer) = put("/in/b", &case.twin);
        if status != 200 {
            return Err(format!("the twin: {status}: {answer}"));
        }
        match field.read(&name, &format!("/in/b/{PROBE}"))? == case.name {
            true => Ok(()),
            false => Err("its last file is another".into()),
        }
    });
    let after =
        shell("cd /etc; for f in passwd group plain; do stat -c '%n %a %u %Y' $f; sha256sum $f; done");
    assert_eq!(after, etc, "files of the container outside of the directory");
    field.engine.docker(&["rm", "-f", &name]).ok();
}
