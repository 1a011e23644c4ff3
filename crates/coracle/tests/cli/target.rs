//! The daemon under test, the command, and an image to run. Everything made here is removed when it goes out of scope.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const IMAGE: &str = "coracle-cli-test:busybox";

/// How many tests run, and whether the image is there: the last test removes it.
static USERS: Mutex<(usize, bool)> = Mutex::new((0, false));

/// The daemon that `TARGET` names; `None` (and a word about it) without one.
#[expect(clippy::print_stdout, reason = "the word about it, shown by --nocapture")]
pub(crate) fn target() -> Option<Target> {
    match std::env::var("TARGET") {
        Ok(address) => {
            users().0 += 1;
            Some(Target { address })
        }
        Err(_) => {
            println!("skipped: set TARGET");
            None
        }
    }
}

/// A test that failed while it held the lock has left it consistent.
fn users() -> MutexGuard<'static, (usize, bool)> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Target {
    address: String,
}

impl Drop for Target {
    fn drop(&mut self) {
        let mut users = users();
        users.0 -= 1;
        if *users == (0, true) {
            self.run(&["rmi", "-f", IMAGE]);
            users.1 = false;
        }
    }
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
        command.env_clear().env("DOCKER_HOST", &self.address).args(arguments).stdin(Stdio::null());
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

    /// An image with busybox as every command, imported when the first test asks.
    pub(crate) fn image(&self) -> &'static str {
        let mut users = users();
        if !users.1 {
            let archive = tempfile::NamedTempFile::new().expect("a file");
            write_root(archive.as_file());
            let path = archive.path().to_str().expect("a path of letters");
            self.ok(&["import", "-c", "ENV PATH=/bin", "-c", "CMD [\"sh\"]", path, IMAGE]);
            users.1 = true;
        }
        IMAGE
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

fn write_root(file: &std::fs::File) {
    let busybox = std::fs::read("/bin/busybox").expect("a static busybox at /bin/busybox");
    let mut tar = tar::Builder::new(file);
    let mut header = tar::Header::new_gnu();
    for directory in ["bin/", "etc/", "tmp/", "proc/", "dev/", "sys/"] {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, directory, std::io::empty()).expect("writes");
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/busybox", busybox.as_slice()).expect("writes");
    for applet in ["sh", "cat", "echo", "sleep", "stty", "wc", "true", "pwd", "touch", "head"] {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("writes");
    }
    tar.finish().expect("writes");
}
