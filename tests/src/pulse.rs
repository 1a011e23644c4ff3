//! Whether an engine still answers while it is abused, and how large it becomes.

use crate::Engine;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long `_ping` may take at any time.
const PROMISED: Duration = Duration::from_secs(1);
/// Between two questions.
const PERIOD: Duration = Duration::from_millis(20);

/// Somebody who asks `_ping` over a new connection, again and again.
pub struct Pulse {
    ended: Arc<AtomicBool>,
    asking: Option<JoinHandle<Duration>>,
    engine: Option<u32>,
    /// Kilobytes of the engine when this began.
    before: u64,
}

impl Pulse {
    /// Begins to ask.
    pub fn of(engine: &Engine) -> Self {
        let pid = (!engine.is_original()).then(|| engine.pid());
        // From here on its largest size is counted, proc_pid_clear_refs(5).
        let before = pid.map_or(0, |pid| {
            fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
            kilobytes(pid, "VmRSS:")
        });
        let ended = Arc::new(AtomicBool::new(false));
        let (socket, told) = (engine.own_socket(), Arc::clone(&ended));
        let asking = std::thread::spawn(move || ask(&socket, &told));
        Self { ended, asking: Some(asking), engine: pid, before }
    }

    /// Ends, and fails if an answer took longer than is promised, or if the engine became larger by more than so many
    /// mebibytes.
    #[track_caller]
    pub fn was_steady(mut self, mebibytes: u64) {
        let grown = self.engine.map_or(0, |pid| kilobytes(pid, "VmHWM:").saturating_sub(self.before));
        self.ended.store(true, Ordering::SeqCst);
        let longest =
            self.asking.take().map(JoinHandle::join).expect("ended once").expect("every ping is answered");
        assert!(longest <= PROMISED, "a ping took {longest:?}");
        assert!(grown <= mebibytes << 10, "the engine became larger by {grown} kB");
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

/// The longest time that an answer took.
fn ask(socket: &Path, ended: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !ended.load(Ordering::SeqCst) {
        let begin = Instant::now();
        let answer = ping(socket);
        longest = longest.max(begin.elapsed());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        std::thread::sleep(PERIOD);
    }
    longest
}

fn ping(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).expect("the engine's socket");
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        .expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer");
    answer
}

/// A size of a process, proc_pid_status(5).
pub fn kilobytes(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// How many descriptors a process holds.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(PathBuf::from(format!("/proc/{pid}/fd"))).unwrap().count()
}
