//! The engine: containers, images, volumes and networks as a domain, without HTTP.
//!
//! [`Engine`] is the door: every method of it is something that a client can ask for. A container's state changes only
//! in its own task (`containers/task.rs`); everybody else sees it through immutable descriptions.
#![forbid(unsafe_code)]

pub mod build;
mod cdi;
pub mod config;
pub mod containers;
pub mod descriptors;
mod engine;
pub mod error;
pub mod events;
pub mod images;
mod index;
pub mod labels;
mod launcher;
mod limits;
pub mod network;
mod remap;
pub mod runtimes;
mod shim;
#[cfg(test)]
mod testing;
pub mod volumes;
mod watch;

pub use cdi::ListedDevice;
pub use config::Config;
pub use engine::{Counts, Engine};
pub use error::{Error, Result};
pub use launcher::find_runtime;
pub use remap::Remap;

/// The log of containers, as [`Engine::logs`] selects and gives it.
pub mod logs {
    pub use coracle_logfile::{Entry, Selection, Stream, Tail};
}

pub use coracle_registry::{Credentials, Error as RegistryError, Hosts as Registries, Proxies, Secret};
pub use coracle_store::{Change, ChangeKind, Progress};

/// Checks a profile of system calls, a JSON document.
///
/// # Errors
/// [`Error::Invalid`] says what is wrong with it.
pub fn check_profile(text: &str) -> Result<()> {
    containers::host::resolve_filter(Some(text), &[]).map(|_| ())
}

/// Takes over a descriptor that the parent of this process has left open for it.
///
/// # Errors
/// When it is not open.
pub fn take_inherited(number: u32) -> Result<std::os::fd::OwnedFd> {
    use error::Attempt;
    coracle_sys::process::take_inherited(number).attempt(|| format!("take over descriptor {number}"))
}

/// Whether the peer of a unix stream socket has read everything that was written to it.
///
/// # Errors
/// When it is no such socket.
pub fn is_read(socket: std::os::fd::BorrowedFd<'_>) -> Result<bool> {
    use error::Attempt;
    coracle_sys::socket::is_read(socket).attempt(|| "ask whether a client has read everything".to_owned())
}

/// Gives every signal its default action, so that no container begins with signals ignored because whoever started the
/// engine ignored them. To be called before anything else is started.
pub fn forget_inherited_signals() {
    coracle_sys::signal::forget_inherited();
}

/// Keeps what this process was started with from every program that it starts (CVE-2024-21626).
///
/// # Errors
/// On kernels before 5.11.
pub fn keep_descriptors_private() -> Result<()> {
    use error::Attempt;
    coracle_sys::process::close_on_exec_from(3).attempt(|| "make inherited descriptors private".to_owned())
}
