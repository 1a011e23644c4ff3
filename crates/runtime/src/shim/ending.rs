//! The end of children that are not wanted any more.

use coracle_sys::process::{Child, reap, send_signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a process is waited for that was killed. One that is frozen, or that the kernel is busy with, does not end, and the
/// shim has others to serve.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Kills a child and collects it. Returns its exit code; nothing where it does not end in time, and whoever inherits it
/// collects it.
pub(super) fn end(child: &Child) -> Option<i32> {
    // It may have ended by itself.
    let _ = send_signal(child.pidfd.as_fd(), Signal::KILL.as_raw());
    has_ended(child, PATIENCE).then(|| reap(child.pidfd.as_fd()).ok())?
}

/// Waits for the end of a child, but not longer than `patience`.
fn has_ended(child: &Child, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return false,
            Ok(ready) if ready > 0 => return true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::process::Command;

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is collected by its handle")]
    fn a_child_is_killed_and_collected_once() {
        let started = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&started);
        let child = Child { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).unwrap() };
        assert!(!has_ended(&child, Duration::ZERO));
        assert_eq!(end(&child), Some(137));
        assert_eq!(end(&child), None, "it was collected");
    }
}
