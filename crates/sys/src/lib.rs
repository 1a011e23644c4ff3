//! The kernel, safely: everything that needs a raw system call, and the only crate with `unsafe`.
//!
//! What lives here knows nothing of containers, images or networks; it wraps what the kernel offers so that
//! the other crates can forbid `unsafe`. Policy (which mounts, which limits, which rules) stays with its owner.

pub mod atomic;
pub mod device_filter;
mod entry;
pub mod error;
pub mod keyring;
pub mod limits;
pub mod mntns;
pub mod mount;
pub mod netlink;
pub mod netns;
mod proc;
pub mod process;
pub mod quota;
pub mod rooted;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tree;
pub mod undo;
pub mod userns;
pub mod xattr;

pub use error::{Error, Result};
