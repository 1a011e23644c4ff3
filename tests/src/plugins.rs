//! Docker's plugins for builds, `buildx` and `compose`: unmodified, from wherever they are installed.

use crate::{Engine, Output};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the directory that they are in, where that is none of the usual ones.
const ELSEWHERE: &str = "CORACLE_CLI_PLUGINS";
/// Where packages put them.
const USUAL: [&str; 4] = [
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
];

/// Where a plugin is. A test that needs one fails where there is none, for else nobody would notice.
fn find(name: &str) -> PathBuf {
    let elsewhere = std::env::var_os(ELSEWHERE).map(PathBuf::from);
    let places = elsewhere.into_iter().chain(USUAL.iter().map(PathBuf::from));
    places.map(|place| place.join(name)).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("{name} is not installed: install Docker's plugin, or name its directory in {ELSEWHERE}")
    })
}

impl Engine {
    /// The docker command with its plugins, whose output has no colours and no moving lines.
    pub fn plugin_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("docker");
        let config = self.directory().join("docker-config");
        let plugins = config.join("cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        for name in ["docker-buildx", "docker-compose"] {
            let link = plugins.join(name);
            if !link.exists() {
                // Another thread of the test may have made it.
                let _ = symlink(find(name), &link);
            }
        }
        command.args(arguments).env("BUILDKIT_PROGRESS", "plain").env("NO_COLOR", "1");
        command.env_remove("DOCKER_BUILDKIT").stdin(Stdio::null());
        command
    }

    /// Runs the docker command with its plugins, in a directory.
    pub fn plugin_in(&self, directory: &Path, arguments: &[&str]) -> Output {
        let output = self.plugin_command(arguments).current_dir(directory).output().unwrap();
        Output::new(format!("docker {}", arguments.join(" ")), &output)
    }

    /// `docker buildx build` of a directory.
    pub fn buildx(&self, context: &Path, arguments: &[&str]) -> Output {
        self.plugin_in(context, &[&["buildx", "build", "."], arguments].concat())
    }
}
