//! Descriptors that tokio watches.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Has tokio watch `descriptor`, which must be able to be polled.
///
/// # Errors
/// `EPERM` for a regular file.
#[expect(
    deprecated,
    reason = "the safe constructor trusts the descriptor to stay open, which an OwnedFd guarantees"
)]
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}
