//! What sockets can tell that the standard library does not ask.

use crate::error::{Context, Result};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether the peer of a unix stream socket has read everything that was written to it; of a TCP socket, whether its
/// machine has received it. TIOCOUTQ of ioctl_tty(2), which sockets have as well.
///
/// # Errors
/// `EINVAL` or `ENOTTY` for what is no connected socket.
pub fn is_read(socket: BorrowedFd<'_>) -> Result<bool> {
    let mut queued: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int, and `queued` is one that outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) } < 0 {
        return Err(io::Error::last_os_error()).context("ioctl", "TIOCOUTQ");
    }
    // The kernel tells waiting writers of a piece that was read just before it takes the last byte off the count
    // (sock_wfree), and counts a piece with its bookkeeping, which is more than that.
    Ok(queued <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_written_is_unread_until_the_peer_reads_it() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(is_read(ours.as_fd()).unwrap());
        ours.write_all(b"x").unwrap();
        assert!(!is_read(ours.as_fd()).unwrap());
        theirs.read_exact(&mut [0]).unwrap();
        assert!(is_read(ours.as_fd()).unwrap());
        assert!(is_read(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
