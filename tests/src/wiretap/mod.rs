//! A socket between clients and an engine that changes nothing: bytes go both ways as they come, ends and half ends
//! too, and copies of the answers are held against the schema ([`crate::schema`]).

mod conversation;
mod message;

use crate::schema::Violation;
use conversation::sides;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The socket, for as long as a test runs.
#[derive(Debug)]
pub struct Wiretap {
    socket: PathBuf,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    engine: PathBuf,
    original: bool,
    ended: AtomicBool,
    found: Mutex<BTreeSet<Violation>>,
}

impl Wiretap {
    /// Listens at `socket` for clients of the engine at `engine`, which is the original or ours.
    pub fn start(socket: PathBuf, engine: PathBuf, original: bool) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let wire = Wire { engine, original, ended: AtomicBool::new(false), found: Mutex::default() };
        let wiretap = Self { socket, wire: Arc::new(wire) };
        let wire = Arc::clone(&wiretap.wire);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if wire.ended.load(Ordering::SeqCst) {
                    return;
                }
                // Without an engine the client finds its connection closed.
                let (Ok(client), Ok(engine)) = (client, UnixStream::connect(&wire.engine)) else { continue };
                connect(&wire, &client, &engine);
            }
        });
        wiretap
    }

    /// Where clients connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What was wrong with the answers so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.wire.found().iter().cloned().collect()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.wire.ended.store(true, Ordering::SeqCst);
        // Whoever waits for clients finds out.
        let _ = UnixStream::connect(&self.socket);
    }
}

impl Wire {
    fn found(&self) -> std::sync::MutexGuard<'_, BTreeSet<Violation>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(wire: &Arc<Wire>, client: &UnixStream, engine: &UnixStream) {
    let (mut asking, mut answering) = sides(wire.original);
    let clone = |stream: &UnixStream| stream.try_clone().unwrap();
    let (from, to) = (clone(client), clone(engine));
    std::thread::spawn(move || pump(&from, &to, |bytes| asking.feed(bytes)));
    let (from, to, wire) = (clone(engine), clone(client), Arc::clone(wire));
    std::thread::spawn(move || {
        pump(&from, &to, |bytes| {
            let found = if bytes.is_empty() { answering.end() } else { answering.feed(bytes) };
            wire.found().extend(found);
        });
    });
}

/// Copies one way until the end; `see` sees every part before the other side does, and the end as nothing.
fn pump(mut from: &UnixStream, mut to: &UnixStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // A side that has broken off has ended.
        let count = from.read(&mut buffer).unwrap_or(0);
        see(&buffer[..count]);
        if count == 0 {
            break;
        }
        if to.write_all(&buffer[..count]).is_err() {
            // Who hears nothing more is not to be spoken to; what it said itself still goes its way. Each of these
            // shutdowns may find the connection gone, and that is what it is for.
            let _ = from.shutdown(Shutdown::Read);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    // A side that only said that it has no more to say still listens; one that is gone does not.
    if poll(&mut [PollFd::new(from, PollFlags::empty())], None).is_ok() {
        let _ = to.shutdown(Shutdown::Both);
    }
}
