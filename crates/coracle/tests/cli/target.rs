//! The engine under test, the command, and an image to run. Everything made here is removed when it goes out of scope.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use coracle_tests::Engine;
use coracle_tests::image::SMALL;

/// An engine of the test's own, or the one that `TARGET` names.
pub(crate) fn target() -> Target {
    Target { engine: Engine::start() }
}

pub(crate) struct Target {
    engine: Engine,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Target {
    /// The command with these arguments, ready to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.env_clear().env("DOCKER_HOST", self.engine.host()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments).output().expect("runs"))
    }

    /// Runs it and expects success; answers with stdout without the last end of line.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        done.stdout.trim_end_matches('\n').to_owned()
    }

    /// An image with busybox as every command.
    #[expect(clippy::unused_self, reason = "the image is in this engine")]
    pub(crate) fn image(&self) -> &'static str {
        SMALL
    }

    /// Starts a container that is removed at the end of the test.
    pub(crate) fn container(&self, arguments: &[&str], command: &[&str]) -> Container<'_> {
        let name = unique_name();
        let head = ["run", "-d", "--name", &name];
        let arguments: Vec<&str> =
            head.iter().chain(arguments).chain(&[self.image()]).chain(command).copied().collect();
        let id = self.ok(&arguments);
        Container { target: self, name, id }
    }
}

pub(crate) fn done(output: Output) -> Done {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Done {
        code: output.status.code().expect("not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A name no other test and no other run of the tests uses.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("cli-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) struct Container<'a> {
    target: &'a Target,
    pub(crate) name: String,
    pub(crate) id: String,
}

impl<'a> Container<'a> {
    /// Promises to remove a container that a test makes by other means.
    pub(crate) fn named(target: &'a Target, name: &str) -> Self {
        Self { target, name: name.to_owned(), id: String::new() }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // A test that failed may have made none.
        self.target.run(&["rm", "-fv", &self.name]);
    }
}
