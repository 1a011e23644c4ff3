//! The OCI runtime as a library: the sandbox, its cgroup, and the protocol that the engine speaks with a shim.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod channel;
pub mod error;
pub mod layers;
mod limits;
pub mod protocol;
pub mod sandbox;
pub mod seccomp;
pub mod shim;

pub use error::{Error, Result};
