//! Starts an engine when none runs, so that the first command a person types works. Only for the default socket.
//!
//! Where systemd runs and has the engine's unit, systemd starts it: a child of a login session would end with the session.
//!
//! The engine becomes a daemon of its own: a lock keeps two commands from starting two, a child of this program leaves
//! the session and the working directory behind and then becomes `coracle daemon`, with a clean environment and its
//! output in a log file. The parent watches the socket's directory and the child, and gives up after ten seconds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use coracle_client::{DEFAULT_SOCKET, Endpoint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The hidden command of the child that becomes the engine.
pub(crate) const CHILD_COMMAND: &str = "engine-child";

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The unit of the engine, and what is there where systemd runs, sd_booted(3).
const UNIT: &str = "coracle.service";
const SYSTEMD: &str = "/run/systemd/system";
/// Where units of packages and of people are, systemd.unit(5).
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Longest wait between two tries while the socket exists and does not answer, which no event ends.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How much of the engine's log is shown when it does not start, in bytes.
const LOG_TAIL: u64 = 2000;

/// Why the engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or a process of the start failed.
    #[error("cannot start the engine: cannot {attempt}")]
    Io {
        /// What was attempted on what.
        attempt: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended instead of listening.
    #[error("the engine ended with {status} instead of starting; the end of {}:\n{tail}", log.display())]
    Ended {
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },
    /// systemd did not start it.
    #[error(
        "systemd did not start {UNIT} ({0}); `systemctl status {UNIT}` and `journalctl -u {UNIT}` tell why"
    )]
    Unit(std::process::ExitStatus),
    /// It did not listen in time.
    #[error("the engine does not listen at {} after {} seconds; see {}", socket.display(), PATIENCE.as_secs(), log.display())]
    TooSlow {
        /// Where it should listen.
        socket: PathBuf,
        /// Its log.
        log: PathBuf,
    },
}

fn failed(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let attempt = attempt.into();
    move |source| StartError::Io { attempt, source }
}

/// Starts the engine when `endpoint` is the default socket and nobody listens there. Says on stderr what it did.
///
/// # Errors
/// The engine could not be started, or does not listen in time.
pub fn ensure(endpoint: &Endpoint) -> Result<(), StartError> {
    let socket = Path::new(DEFAULT_SOCKET);
    if *endpoint != Endpoint::default() || !is_silent(socket) {
        return Ok(());
    }
    if Path::new(SYSTEMD).is_dir() && UNITS.iter().any(|units| Path::new(units).join(UNIT).exists()) {
        return start_unit();
    }
    start(socket, daemon_command)
}

/// Has systemd start the engine, which is done when the engine is ready. systemctl finds out whether whoever asks may do that.
fn start_unit() -> Result<(), StartError> {
    let status = Command::new("systemctl").args(["start", UNIT]).stdin(Stdio::null()).status();
    match status.map_err(failed("run systemctl"))? {
        status if status.success() => {
            // Talk to a person who is gone is no reason to fail.
            let _ = writeln!(io::stderr(), "coracle: started the engine ({UNIT})");
            Ok(())
        }
        status => Err(StartError::Unit(status)),
    }
}

/// Whether nobody listens. Other failures, such as a missing permission, are for the client to report.
fn is_silent(socket: &Path) -> bool {
    let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    UnixStream::connect(socket).is_err_and(|error| nobody.contains(&error.kind()))
}

fn start(socket: &Path, command: impl FnOnce() -> io::Result<Command>) -> Result<(), StartError> {
    let directory = socket.parent().expect("the socket has a directory");
    let log = directory.join("engine.log");
    make_directory(directory)?;
    let _lock = lock(&directory.join("start.lock"))?;
    // Whoever held the lock may have started it.
    if !is_silent(socket) {
        return Ok(());
    }
    let events = watch(directory)?;
    let mut child = spawn(command, &log)?;
    wait(socket, &log, &events, &mut child)?;
    // Talk to a person who is gone is no reason to fail.
    let _ = writeln!(io::stderr(), "coracle: started the engine (pid {}, log {})", child.id(), log.display());
    Ok(())
}

fn make_directory(directory: &Path) -> Result<(), StartError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(directory);
    made.map_err(failed(format!("make {}", directory.display())))
}

/// The lock lasts as long as the file is open.
fn lock(path: &Path) -> Result<File, StartError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(failed(format!("open {}", path.display())))?;
    file.lock().map_err(failed(format!("lock {}", path.display())))?;
    Ok(file)
}

/// Watches for the socket to appear.
fn watch(directory: &Path) -> Result<OwnedFd, StartError> {
    let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(|errno| failed("watch for the socket")(errno.into()))?;
    inotify::add_watch(&events, directory, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)
        .map_err(|errno| failed(format!("watch {}", directory.display()))(errno.into()))?;
    Ok(events)
}

/// This program once more, as the child that becomes the engine. By its open file, so that an upgrade in between
/// does not matter.
fn daemon_command() -> io::Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("coracle").arg(CHILD_COMMAND);
    Ok(command)
}

fn spawn(command: impl FnOnce() -> io::Result<Command>, log: &Path) -> Result<Child, StartError> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let file = file.map_err(failed(format!("open {}", log.display())))?;
    // One start's log: a machine that boots every day must not fill a tmpfs.
    file.set_len(0).map_err(failed(format!("truncate {}", log.display())))?;
    let errors = file.try_clone().map_err(failed("duplicate the log's descriptor"))?;
    let spawned = command().and_then(|mut command| {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
    });
    spawned.map_err(failed("run this program as the engine"))
}

/// Waits until somebody listens, woken by the directory, by the child's end, and while the socket exists and refuses,
/// by a pause that doubles.
fn wait(socket: &Path, log: &Path, events: &OwnedFd, child: &mut Child) -> Result<(), StartError> {
    let deadline = Instant::now() + PATIENCE;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
    let ended =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed("watch the engine")(errno.into()))?;
    let mut pause = Duration::from_millis(1);
    while is_silent(socket) {
        if let Some(status) = child.try_wait().map_err(failed("ask after the engine"))? {
            return Err(StartError::Ended { status, log: log.to_owned(), tail: tail(log) });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StartError::TooSlow { socket: socket.to_owned(), log: log.to_owned() });
        }
        let timeout = if socket.exists() { pause.min(left) } else { left };
        pause = (pause * 2).min(LONGEST_PAUSE);
        sleep_until_something_happens(events, &ended, timeout)?;
    }
    Ok(())
}

fn sleep_until_something_happens(
    events: &OwnedFd,
    ended: &OwnedFd,
    timeout: Duration,
) -> Result<(), StartError> {
    let mut fds = [PollFd::new(events, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).expect("at most ten seconds");
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(failed("wait for the engine")(errno.into())),
    }
    drain(events.as_fd());
    Ok(())
}

/// Which file appeared does not matter: the socket is tried anyway.
fn drain(events: std::os::fd::BorrowedFd<'_>) {
    let mut buffer = [0; 4096];
    while rustix::io::read(events, &mut buffer).is_ok_and(|length| length > 0) {}
}

/// The end of the log, as far as it can be read.
fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(cannot be read: {error})"))
}

/// What the child does: leave the session, the mask and the directory of whoever started it, and become the engine.
pub fn become_engine() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let left =
        rustix::process::setsid().map_err(io::Error::from).and_then(|_| std::env::set_current_dir("/"));
    let error = match left {
        Ok(()) => Command::new("/proc/self/exe").arg0("coracle").arg("daemon").exec(),
        Err(error) => error,
    };
    // The log is all there is to talk to.
    let _ = writeln!(io::stderr(), "cannot become the engine: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_ends_is_reported_with_its_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let result = start(&directory.path().join("x.sock"), || {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "echo no room >&2; exit 3"]);
            Ok(command)
        });
        let Err(StartError::Ended { status, tail, .. }) = result else { panic!("{result:?}") };
        assert_eq!((status.code(), tail.as_str()), (Some(3), "no room\n"));
    }

    #[test]
    fn nothing_is_started_when_somebody_listens() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("x.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        start(&socket, || panic!("must not be started")).expect("somebody listens");
    }

    #[test]
    fn the_start_ends_as_soon_as_the_socket_answers() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("x.sock");
        let listening = socket.clone();
        // The child only stays alive; the test listens in its place.
        let listener = std::cell::OnceCell::new();
        start(&socket, || {
            listener.set(std::os::unix::net::UnixListener::bind(&listening).expect("binds")).expect("once");
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "read line"]);
            Ok(command)
        })
        .expect("it listens");
    }

    #[test]
    fn other_endpoints_are_left_alone() {
        ensure(&Endpoint::Unix("/nonexistent/x.sock".into())).expect("not ours to start");
    }
}
