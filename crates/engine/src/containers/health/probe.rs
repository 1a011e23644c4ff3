//! One question: put in a task of its own, beside the container's, which waits for the answer or loses interest.

use super::check::{Check, Test};
use super::{Probe, command, dial};
use crate::engine::Shared;
use crate::error::blocking;
use coracle_spec::ContainerId;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::oneshot;

/// Most that is kept of what a check says, in bytes (Engine API, `HealthcheckResult`).
const OUTPUT: usize = 4096;

/// Who is asked.
pub(super) struct Subject {
    pub(super) shared: Arc<Shared>,
    pub(super) container: ContainerId,
    /// The first process, whose network namespace is the container's.
    pub(super) pid: i32,
    pub(super) check: Arc<Check>,
}

/// What came of it.
pub(super) struct Answer {
    pub(super) exit_code: i32,
    pub(super) output: Output,
}

impl Answer {
    /// It could not be asked.
    pub(super) fn failed(why: &str) -> Self {
        Self { exit_code: -1, output: Output::of(why) }
    }

    /// There was no answer in time, but for what was said until then.
    pub(super) fn late(timeout: Duration, said: &Output) -> Self {
        let nanoseconds = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        let text = format!("Health check exceeded timeout ({})", coracle_build::go_duration(nanoseconds));
        let text = if said.bytes.is_empty() { text } else { format!("{text}: {}", said.text()) };
        // Not cut again: what was said is cut already.
        Self { exit_code: -1, output: Output { bytes: text.into_bytes(), cut: false } }
    }
}

/// What a check says, of which the beginning is kept.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    cut: bool,
}

impl Output {
    pub(super) fn of(text: &str) -> Self {
        let mut output = Self::default();
        output.add(text.as_bytes());
        output
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(OUTPUT.saturating_sub(self.bytes.len()));
        self.bytes.extend(&bytes[..kept]);
        self.cut |= kept < bytes.len();
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut { text + "..." } else { text }
    }
}

/// A question that was put. Dropped, it is called off, and what runs for it is killed.
pub(super) struct Asked {
    answer: oneshot::Receiver<Probe>,
    _interest: oneshot::Sender<Infallible>,
}

impl Asked {
    /// Waits for the answer; `None` when there is none that says anything. May be dropped and called again.
    pub(super) async fn answer(&mut self) -> Option<Probe> {
        (&mut self.answer).await.ok()
    }
}

/// Asks.
pub(super) fn ask(subject: Subject) -> Asked {
    let (interest, lost) = oneshot::channel();
    let (reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        let start = OffsetDateTime::now_utc();
        let answer = match &subject.check.test {
            Test::Command(words) => command::run(&subject, words, lost).await,
            Test::Native(target) => tokio::select! {
                answer = dial::ask(subject.pid, target, subject.check.timeout) => Some(answer),
                _ = lost => None,
            },
        };
        let Some(Answer { exit_code, output }) = answer else { return };
        let pid = subject.pid;
        if exit_code != 0 && blocking(move || is_ending(pid)).await.unwrap_or(false) {
            return;
        }
        let end = OffsetDateTime::now_utc();
        // Nobody may be interested any more.
        let _ = reply.send(Probe { start, end, exit_code, output: output.text() });
    });
    Asked { answer, _interest: interest }
}

/// Whether a container's first process is about to end: the kernel kills all others of its pid namespace first, and a
/// failure says nothing then. Blocks.
fn is_ending(pid: i32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks
        .flatten()
        .all(|task| std::fs::read(task.path().join("stat")).is_ok_and(|stat| has_flag_of_exit(&stat)))
}

/// Whether the kernel has begun to take a thread away: `PF_EXITING` in its flags, the seventh field after the name, which
/// may hold anything (`proc_pid_stat(5)`, and the kernel's `sched.h`).
fn has_flag_of_exit(stat: &[u8]) -> bool {
    const EXITING: u32 = 4;
    let stat = String::from_utf8_lossy(stat);
    let flags =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_is_ending_and_one_that_runs_is_not() {
        assert!(!is_ending(i32::try_from(std::process::id()).unwrap()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert!(is_ending(pid));
        assert!(has_flag_of_exit(b"7 (a) 1 2) Z 1 7 7 0 -1 4227084 5"));
        assert!(!has_flag_of_exit(b"7 (a) 4 4) S 1 7 7 0 -1 4194560 5"));
    }

    #[test]
    fn the_beginning_of_what_is_said_is_kept_and_the_rest_is_told_of() {
        let mut output = Output::of(&"x".repeat(OUTPUT));
        assert_eq!(output.text().len(), OUTPUT);
        output.add(b"");
        assert!(!output.text().ends_with("..."));
        output.add(b"y");
        assert_eq!(output.text(), format!("{}...", "x".repeat(OUTPUT)));
    }

    #[test]
    fn who_is_late_is_told_as_docker_tells_it() {
        let late = |said: &str| Answer::late(Duration::from_millis(1500), &Output::of(said)).output.text();
        assert_eq!(late(""), "Health check exceeded timeout (1.5s)");
        assert_eq!(late("half"), "Health check exceeded timeout (1.5s): half");
    }
}
