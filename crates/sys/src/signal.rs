//! Signal masks and dispositions, which a new program inherits and must find at their defaults.

use std::mem::MaybeUninit;
use std::ptr;

/// The highest signal number, `SIGRTMAX`.
pub const LAST: i32 = 64;

/// Unblocks every signal and gives each its default action, as a container's first program expects.
pub fn reset_all() {
    for number in 1..=LAST {
        // SAFETY: SIG_DFL installs no handler. The call fails for SIGKILL, SIGSTOP and those the C library keeps,
        // which have their default action anyway.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises `none` before sigprocmask reads it.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Ignores the hang-up, interrupt, quit, terminal-stop and pipe signals: a shim must outlive the terminal it was
/// started from, and learns of closed pipes from `EPIPE`.
pub fn ignore_terminal() {
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGPIPE, libc::SIGTTOU] {
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Ignores the signal that stops background processes which write to their terminal, until [`reset_all`].
pub fn ignore_terminal_output() {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
}

/// Blocks every signal, for a process that takes them with [`wait_any`].
pub fn block_all() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises `all` before sigprocmask reads it.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}

/// Waits for any signal and takes it, sigwaitinfo(2). The caller has blocked them.
pub fn wait_any() -> i32 {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises `all` before sigwaitinfo reads it; the information is not asked for.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigwaitinfo(all.as_ptr(), ptr::null_mut())
    }
}
