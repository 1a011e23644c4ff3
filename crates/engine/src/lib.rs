//! The engine: containers, images, volumes and networks as a domain, without HTTP.
//!
//! [`Engine`] is the door: every method of it is something that a client can ask for. A container's state changes only
//! in its own task (`containers/task.rs`); everybody else sees it through immutable descriptions.
#![forbid(unsafe_code)]

pub mod config;
pub mod containers;
mod engine;
pub mod error;
pub mod events;
mod glob;
pub mod images;
mod index;
pub mod labels;
mod launcher;
mod limits;
pub mod network;
mod shim;
#[cfg(test)]
mod testing;
pub mod volumes;
mod watch;

pub use config::Config;
pub use engine::Engine;
pub use error::{Error, Result};
pub use launcher::find_runtime;
