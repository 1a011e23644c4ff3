//! The stdin of this process as a channel. A thread reads it, because a terminal or a file cannot be read without
//! blocking; it waits in `poll` on stdin and on a pipe whose closing ends it, so that no key is read that nobody wants.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Longest piece, in bytes.
const PIECE: usize = 32 << 10;

/// Pieces of stdin until its end.
#[derive(Debug)]
pub(crate) struct Input {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    /// Closed to end the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Input {
    /// Begins to read.
    pub(crate) fn begin() -> Result<Self> {
        let (watched, stop) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::io("make a pipe")(errno.into()))?;
        let (sender, pieces) = mpsc::channel(4);
        let thread = std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || forward(&watched, &sender))
            .map_err(Error::io("start a thread"))?;
        Ok(Self { pieces, stop: Some(stop), thread: Some(thread) })
    }

    /// The next piece, `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        self.pieces.recv().await.transpose().map_err(Error::io("read stdin"))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.pieces.close();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn forward(watched: &OwnedFd, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let piece = match read(watched) {
            Ok(None) => return,
            Ok(Some(piece)) if piece.is_empty() => return,
            Ok(Some(piece)) => Ok(piece),
            // The end of a terminal whose other side is gone.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return,
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if sender.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

/// A piece; `None` when asked to stop.
fn read(watched: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let stdin = io::stdin();
    loop {
        let mut fds = [PollFd::new(watched, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) if !fds[0].revents().is_empty() => return Ok(None),
            Ok(_) => {}
        }
        let mut piece = vec![0; PIECE];
        match rustix::io::read(&stdin, &mut piece) {
            Ok(length) => {
                piece.truncate(length);
                return Ok(Some(piece));
            }
            // Somebody else made stdin non-blocking; poll says when to come back.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
