//! Standard streams: descriptors handed in, or a pseudoterminal from the container's own devpts.

use super::filesystem::Assembled;
use super::{Streams, device, failed, identity, report};
use crate::error::{Error, Result};
use coracle_spec::runtime::{ConsoleSize, Process};
use coracle_sys::mount::{self, Depth};
use coracle_sys::process::keep_until_exec;
use coracle_sys::rooted::{self, Root};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `f_type` of devpts, statfs(2).
const DEVPTS: i64 = 0x1cd1;

/// Streams that are ready to be the process's own.
pub(super) struct Stdio {
    stdin: BorrowedFd<'static>,
    stdout: BorrowedFd<'static>,
    stderr: BorrowedFd<'static>,
    terminal: bool,
}

impl Stdio {
    fn separate(stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> Self {
        let [stdin, stdout, stderr] = [stdin, stdout, stderr].map(keep_until_exec);
        Self { stdin, stdout, stderr, terminal: false }
    }

    /// Makes them descriptors 0, 1 and 2, and the terminal the controlling one of the session.
    pub(super) fn install(self, process: &Process) -> Result<()> {
        identity::own_stdio(process, [self.stdin, self.stdout, self.stderr])?;
        dup2_stdin(self.stdin).map_err(failed("install the input"))?;
        dup2_stdout(self.stdout).map_err(failed("install the output"))?;
        dup2_stderr(self.stderr).map_err(failed("install the error output"))?;
        if self.terminal {
            rustix::process::ioctl_tiocsctty(self.stdin).map_err(failed("control the terminal"))?;
        }
        Ok(())
    }
}

/// The streams of a container's first process. A terminal appears as `/dev/console` too, by descriptor: the path
/// of its slave is never resolved again (CVE-2025-52565).
pub(super) fn streams(streams: Streams, assembled: &Assembled<'_>, channel: BorrowedFd<'_>) -> Result<Stdio> {
    let size = match streams {
        Streams::Separate { stdin, stdout, stderr } => {
            return Ok(Stdio::separate(stdin, stdout, stderr));
        }
        Streams::Terminal(size) => size,
    };
    let missing = || Error::Child("a terminal needs a devpts mount at /dev/pts".to_owned());
    let terminals = assembled.terminals.ok_or_else(missing)?;
    let stdio = open(terminals, "ptmx", size, channel)?;
    if let Some(devices) = assembled.devices {
        let target = device::console_target(devices)?;
        let copy = mount::copy_descriptor(stdio.stdin, Depth::One)?;
        mount::attach(copy.as_fd(), target.as_fd())?;
    }
    Ok(stdio)
}

/// The streams of a process that has joined a container, whose root is now `/`.
pub(super) fn streams_inside(streams: Streams, channel: BorrowedFd<'_>) -> Result<Stdio> {
    match streams {
        Streams::Separate { stdin, stdout, stderr } => Ok(Stdio::separate(stdin, stdout, stderr)),
        Streams::Terminal(size) => {
            let root = Root::open("/")?;
            let directory = root.open_file("dev/pts", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            mount::require_file_system(directory.as_fd(), DEVPTS, "a devpts file system at /dev/pts")?;
            open(directory.as_fd(), "ptmx", size, channel)
        }
    }
}

fn open(
    directory: BorrowedFd<'_>,
    name: &str,
    size: Option<ConsoleSize>,
    channel: BorrowedFd<'_>,
) -> Result<Stdio> {
    let handle =
        rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("find the terminal multiplexer"))?;
    mount::require_file_system(handle.as_fd(), DEVPTS, "the terminal multiplexer of a devpts file system")?;
    let master = rooted::reopen(&handle, OFlags::RDWR | OFlags::NOCTTY)?;
    unlockpt(&master).map_err(failed("unlock the terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(failed("open the terminal"))?;
    if let Some(size) = size.filter(|size| size.height > 0 && size.width > 0) {
        resize(master.as_fd(), size)?;
    }
    report::hand_over(channel, master.as_fd())?;
    let slave = keep_until_exec(slave);
    Ok(Stdio { stdin: slave, stdout: slave, stderr: slave, terminal: true })
}

/// Sets the size of the terminal behind `master`; the kernel tells its foreground processes (`SIGWINCH`).
///
/// # Errors
/// The ioctl's.
pub(crate) fn resize(master: BorrowedFd<'_>, size: ConsoleSize) -> Result<()> {
    let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).map_err(failed("resize the terminal"))
}
