//! Signal masks and dispositions, which a new program inherits and must find at their defaults.

use std::mem::MaybeUninit;
use std::ptr;

/// What a terminal sends, and a broken pipe.
const TERMINAL: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGPIPE, libc::SIGTTOU];
/// The highest signal number, `SIGRTMAX`.
pub const LAST: i32 = 64;

/// Unblocks every signal, and gives the one that Rust's runtime has ignored its default action again, as a container's
/// first program expects. Handlers need no reset: execve(2) does that.
pub fn reset_all() {
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    unblock_all();
}

/// Unblocks every signal: [`crate::spawn::spawn`] starts a program with all of them blocked.
pub fn unblock_all() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises `none` before sigprocmask reads it.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Gives every signal its default action, whoever had it ignored before this process was started. For the start of a
/// process whose children must not inherit that.
pub fn forget_inherited() {
    // Rust's own runtime has broken pipes ignored, and this process relies on it.
    for number in (1..=LAST).filter(|number| *number != libc::SIGPIPE) {
        // SAFETY: SIG_DFL installs no handler. The call fails for SIGKILL, SIGSTOP and those the C library keeps,
        // which have their default action anyway.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Blocks the hang-up, interrupt, quit, terminal-stop and pipe signals for ever, and no other: a shim must outlive the
/// terminal it was started from, and learns of closed pipes from `EPIPE`.
pub fn block_terminal() {
    let mut terminal = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises `terminal` before the others read and write it; the numbers are signals.
    unsafe {
        libc::sigemptyset(terminal.as_mut_ptr());
        for number in TERMINAL {
            libc::sigaddset(terminal.as_mut_ptr(), number);
        }
        libc::sigprocmask(libc::SIG_SETMASK, terminal.as_ptr(), ptr::null_mut());
    }
}

/// Runs `act` with the signal ignored that stops background processes which change their terminal.
pub fn ignoring_terminal_output<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    let done = act();
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_DFL) };
    done
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
