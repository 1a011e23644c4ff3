//! The first command on a machine without an engine. The machine is played by mounts and a network of the test's own, in
//! which the default socket and the default data root are free.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::target::done;

/// An engine that is ended with the test, whatever comes of it.
struct Started {
    pid: i32,
    process: OwnedFd,
}

impl Started {
    /// By the command's word about it.
    fn find(stderr: &str) -> Self {
        let (_, rest) = stderr.split_once("started the engine (pid ").expect("it says so");
        let pid: i32 = rest.split_once(',').expect("more follows").0.parse().expect("a number");
        let process = pidfd_open(Pid::from_raw(pid).expect("not 0"), PidfdFlags::empty()).expect("it runs");
        Self { pid, process }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
        let mut ends = [PollFd::new(&self.process, PollFlags::IN)];
        poll(&mut ends, None).expect("the process is waited for");
    }
}

#[test]
fn the_first_command_starts_an_engine_that_holds_nothing_of_its_caller() {
    if std::env::var_os("TARGET").is_some() {
        // Nobody else's command starts engines.
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let archive = coracle_tests::image::small(directory.path());
    let held = directory.path().join("held");
    let script = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mkdir /var/lib/x && cd /var/lib/x && \
                  $CORACLE import $ARCHIVE first 9>$HELD >/dev/null && \
                  $CORACLE run --rm --network none first echo works";
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "sh", "-c", script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CORACLE", env!("CARGO_BIN_EXE_coracle"))
        .env("ARCHIVE", &archive)
        .env("HELD", &held)
        .stdin(Stdio::null())
        .output()
        .expect("the package util-linux is installed");
    let done = done(output);
    let engine = Started::find(&done.stderr);
    assert_eq!((done.code, done.stdout.as_str()), (0, "works\n"), "{}", done.stderr);
    assert_eq!(done.stderr.matches("started the engine").count(), 1, "the second command found it");
    let process = format!("/proc/{}", engine.pid);
    let link = |name: &str| std::fs::read_link(format!("{process}/{name}")).expect("it runs");
    assert_eq!(link("cwd").to_str(), Some("/"));
    assert_eq!(std::fs::read(format!("{process}/environ")).expect("it runs").split(|b| *b == 0).count(), 2);
    let stat = std::fs::read_to_string(format!("{process}/stat")).expect("it runs");
    let session = stat.rsplit_once(')').expect("a name").1.split_whitespace().nth(3);
    assert_eq!(session, Some(engine.pid.to_string().as_str()), "it leads a session of its own");
    let open: Vec<_> = std::fs::read_dir(format!("{process}/fd"))
        .expect("it runs")
        .filter_map(|entry| std::fs::read_link(entry.expect("it runs").path()).ok())
        .collect();
    assert!(!open.is_empty() && !open.contains(&held), "{open:?}");
}
