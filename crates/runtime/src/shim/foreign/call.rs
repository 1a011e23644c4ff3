//! One call of another runtime's command: how it is made, how long it may take, and what went wrong with it.

use super::bundle::{self, end_of};
use super::orphans::Adopting;
use crate::error::{Error, Result};
use crate::limits;
use crate::protocol::Runtime;
use coracle_sys::process::{Child, bind_to_parent, reap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Inherit};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long one call may take. runc takes tens of milliseconds; one that boots a virtual machine, seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for the removal of a container that has ended, which somebody waits for who knows how to remove it without.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(10);

/// Where runtimes look for their own helpers: the shim has no environment that they could have from it.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How the runtime of one container is called.
pub(super) struct Caller {
    runtime: Runtime,
    id: String,
    /// The runtime's own state.
    state: PathBuf,
    /// Where its log and its complaints are.
    place: PathBuf,
    calls: AtomicU32,
}

/// The streams of a call.
pub(super) enum Stdio {
    /// Those of the process that is made.
    Given([OwnedFd; 3]),
    /// None; what it complains of is kept.
    None,
}

/// A call that is under way.
pub(super) struct Call {
    verb: &'static str,
    child: Child,
    log: PathBuf,
    complaints: PathBuf,
    patience: Duration,
    until: Instant,
    _adopting: Adopting,
}

impl Caller {
    pub(super) fn new(runtime: &Runtime, id: &str, state_directory: &Path, place: &Path) -> Self {
        Self {
            runtime: runtime.clone(),
            id: id.to_owned(),
            state: state_directory.join("runtime"),
            place: place.to_owned(),
            calls: AtomicU32::new(0),
        }
    }

    /// Begins `RUNTIME verb options ID`.
    pub(super) fn begin(&self, verb: &'static str, options: Vec<OsString>, stdio: Stdio) -> Result<Call> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let [log, complaints] = ["log", "errors"].map(|name| self.place.join(format!("{name}-{number}")));
        let program = &self.runtime.path;
        let failed = |source: std::io::Error| Error::NoRuntime { path: program.clone(), source };
        let [stdin, stdout, stderr] = match stdio {
            Stdio::Given(streams) => streams.map(Inherit::from),
            Stdio::None => {
                let file = File::create(&complaints).map_err(bundle::failed(&complaints))?;
                [Inherit::null(), Inherit::null(), file.into()]
            }
        };
        let adopting = Adopting::begin();
        let mut command = Command::new(program);
        bind_to_parent(&mut command);
        let started = command
            .args(&self.runtime.arguments)
            .args(["--root".as_ref(), self.state.as_os_str(), "--log".as_ref(), log.as_os_str()])
            .args(["--log-format", "json", verb])
            .args(options)
            .arg(&self.id)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .current_dir(&self.place)
            // With what it has started it is killed when it takes too long.
            .process_group(0)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(failed)?;
        let child = watch(started).map_err(failed)?;
        let patience = if verb == "delete" { PATIENCE_AT_THE_END } else { PATIENCE };
        let until = Instant::now() + patience;
        Ok(Call { verb, child, log, complaints, patience, until, _adopting: adopting })
    }

    /// Removes what the runtime has kept.
    pub(super) fn forget(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Child(format!("cannot remove {}: {error}", self.state.display())))
            }
            _ => Ok(()),
        }
    }
}

impl Call {
    /// Readable once it has ended.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    pub(super) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// When it has taken too long.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Waits for its end; see [`Call::end`].
    pub(super) fn wait(self, errors: Option<&OwnedFd>) -> Result<()> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let ended = poll(&mut [PollFd::new(&self.child.pidfd, PollFlags::IN)], Some(&timeout));
            if ended.is_ok_and(|ready| ready > 0) || left.is_zero() {
                return self.end(errors);
            }
        }
    }

    /// Takes note of its end. If it has not ended, it has taken too long, and is killed. What it has started goes on only if
    /// it has done what it was asked for.
    ///
    /// # Errors
    /// [`Error::Foreign`] with what it has told in its log, else with the last line that it has complained, which is in
    /// `errors` where it had the streams of the process that it makes.
    pub(super) fn end(self, errors: Option<&OwnedFd>) -> Result<()> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::PidFd(self.as_fd()), look)
            .map_err(|error| Error::Protocol { action: "wait for a runtime", source: error.into() })?;
        let has_done = ended.as_ref().is_some_and(|status| status.exit_status() == Some(0));
        if !has_done {
            // Its group; others are in the container's cgroup. The number is not reused before it is collected.
            let _ = kill_process_group(self.child.pid, Signal::KILL);
        }
        let code = reap(self.child.pidfd.as_fd())?;
        let text = match ended {
            Some(_) if has_done => None,
            Some(_) => Some(
                self.reason(errors).unwrap_or_else(|| format!("it ended with code {code} and said nothing")),
            ),
            None => Some(format!("it took longer than {} seconds and was killed", self.patience.as_secs())),
        };
        for file in [&self.log, &self.complaints] {
            // Not every runtime makes both.
            let _ = std::fs::remove_file(file);
        }
        text.map_or(Ok(()), |text| Err(Error::Foreign { verb: self.verb.to_owned(), text }))
    }

    fn reason(&self, errors: Option<&OwnedFd>) -> Option<String> {
        let written = |file: &Path| end_of(file, limits::FOREIGN_LOG).unwrap_or_default();
        last_error(&written(&self.log)).or_else(|| match errors {
            Some(errors) => last_line(&available(errors)),
            None => last_line(&written(&self.complaints)),
        })
    }
}

/// A handle of a child that was just started. Without one, at a limit of descriptors, it is killed and collected.
fn watch(mut started: std::process::Child) -> std::io::Result<Child> {
    let pid = Pid::from_child(&started);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Child { pid, pidfd }),
        Err(error) => {
            // Not collected yet, so the number is its own.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = started.wait();
            Err(error.into())
        }
    }
}

/// What is in a pipe now.
fn available(pipe: &OwnedFd) -> String {
    let mut bytes = vec![0; limits::FAILURE_TEXT];
    let length = rustix::io::read(pipe, &mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// The last message of an error in a log of documents, one a line.
fn last_error(log: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let mut errors = lines.filter(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic"));
    errors.next().map(|line| line.msg)
}

fn last_line(text: &str) -> Option<String> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_the_reason() {
        let log = r#"{"level":"error","msg":"first","time":"t"}
{"level":"error","msg":"exec: \"x\": executable file not found in $PATH","time":"t"}
{"level":"warning","msg":"later","time":"t"}
half a li"#;
        assert_eq!(last_error(log).unwrap(), "exec: \"x\": executable file not found in $PATH");
        assert_eq!(last_error("plain words"), None);
    }

    #[test]
    fn the_last_line_with_words_is_what_was_complained() {
        assert_eq!(last_line("one\n two \n\n").as_deref(), Some("two"));
        assert_eq!(last_line("\n"), None);
    }
}
