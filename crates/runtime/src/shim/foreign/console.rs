//! The socket over which a runtime sends the master side of a terminal (`--console-socket`; runc, `docs/terminals.md`).

use super::bundle::Bundle;
use crate::channel;
use crate::error::{Error, Result};
use crate::sandbox;
use coracle_spec::runtime::ConsoleSize;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A socket that waits for a terminal.
pub(super) struct Console {
    listener: OwnedFd,
    /// By the bundle's descriptor in this process: a name that a socket's address has room for, however long the
    /// bundle's own is.
    path: PathBuf,
    directory: OwnedFd,
    name: PathBuf,
}

impl Console {
    pub(super) fn listen(bundle: &Bundle) -> Result<Self> {
        let failed = |error: Errno| Error::Protocol { action: "listen for a terminal", source: error.into() };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        let name = bundle.name("console");
        let name = PathBuf::from(name.file_name().unwrap_or_default());
        let directory = bundle.directory()?;
        let own = rustix::process::getpid().as_raw_nonzero();
        let path = PathBuf::from(format!("/proc/{own}/fd/{}", directory.as_raw_fd())).join(&name);
        bind(&listener, &SocketAddrUnix::new(&path).map_err(failed)?).map_err(failed)?;
        listen(&listener, 1).map_err(failed)?;
        Ok(Self { listener, path, directory, name })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal, which is there once the runtime has ended, and gives it its size.
    pub(super) fn receive(&self, verb: &str, size: Option<ConsoleSize>) -> Result<OwnedFd> {
        let missing = |reason: String| Error::Foreign {
            verb: verb.to_owned(),
            text: format!("it has sent no terminal: {reason}"),
        };
        let socket = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
            .map_err(|error| missing(error.to_string()))?;
        let received = channel::receive(socket.as_fd()).map_err(|error| missing(error.chain()))?;
        let (_, descriptors) = received.ok_or_else(|| missing("it has closed the socket".to_owned()))?;
        let first = descriptors.into_iter().next();
        let terminal = first.ok_or_else(|| missing("no descriptor came with its message".to_owned()))?;
        if !rustix::termios::isatty(&terminal) {
            return Err(missing("what came with its message is none".to_owned()));
        }
        if let Some(size) = size.filter(|size| size.height > 0 && size.width > 0) {
            sandbox::resize(terminal.as_fd(), size)?;
        }
        Ok(terminal)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The bundle goes with the container anyway.
        let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}
