//! Children that come from a runtime: while one works, its orphans become children of the shim
//! (`PR_SET_CHILD_SUBREAPER`), and the process that it was asked for is one of them.
//!
//! Otherwise the shim would also get what loses its parent in containers without a pid namespace of their own, which is
//! for the machine's first process. What comes by chance meanwhile is collected.

use coracle_sys::process::ended_child;
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};
use std::sync::atomic::{AtomicUsize, Ordering};

static WORKING: AtomicUsize = AtomicUsize::new(0);

/// Orphans come here as long as one of these is there.
pub(super) struct Adopting(());

impl Adopting {
    pub(super) fn begin() -> Self {
        WORKING.fetch_add(1, Ordering::Relaxed);
        // Without it the process is no child of the shim, which is told.
        let _ = set_child_subreaper(Some(getpid()));
        Self(())
    }
}

impl Drop for Adopting {
    fn drop(&mut self) {
        if WORKING.fetch_sub(1, Ordering::Relaxed) == 1 {
            // As above; it was set before.
            let _ = set_child_subreaper(None);
        }
    }
}

/// Collects children that have ended, up to the first of those that somebody waits for.
pub(in super::super) fn collect(awaited: &[Pid]) {
    while let Some(pid) = ended_child().filter(|pid| !awaited.contains(pid)) {
        // It has ended, so this does not wait.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}
