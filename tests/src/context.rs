//! Contexts of builds.

use crate::image::SMALL;
use crate::{Engine, Output};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The context of a build, on the disk.
#[derive(Debug)]
pub struct Context {
    directory: tempfile::TempDir,
}

impl Context {
    /// With this Dockerfile, where `FROM BASE` means [`SMALL`], and files: paths and contents; `-> target` is a link.
    pub fn new(dockerfile: &str, files: &[(&str, &str)]) -> Self {
        let context = Self { directory: tempfile::tempdir().unwrap() };
        context.put("Dockerfile", &dockerfile.replace("FROM BASE", &format!("FROM {SMALL}")));
        for (path, content) in files {
            context.put(path, content);
        }
        context
    }

    /// Writes a file, or makes a link.
    pub fn put(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
    }

    /// Copies a program of this machine below `directory`, with all that it is linked to.
    pub fn put_program(&self, directory: &str, program: &str) {
        let libraries = Command::new("ldd").arg(program).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let words = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for file in words.chain([program]) {
            let into = file.trim_start_matches('/').replace("usr/bin", "bin");
            let into = self.path().join(directory).join(into);
            fs::create_dir_all(into.parent().unwrap()).unwrap();
            fs::copy(file, into).unwrap();
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

/// `docker build` through the classic door.
pub fn classic_build(engine: &Engine, context: &Path, arguments: &[&str]) -> Output {
    let output = engine
        .command("docker")
        .args(["build", "--force-rm"])
        .args(arguments)
        .arg(context)
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Output::new(format!("docker build {}", arguments.join(" ")), &output)
}

/// A build through our classic door, or by the original's BuildKit, whose language ours is.
pub fn build(engine: &Engine, context: &Path, arguments: &[&str]) -> Output {
    if engine.is_original() {
        return engine.buildx(context, &[&["--load"], arguments].concat());
    }
    classic_build(engine, context, arguments)
}
