//! The engine: containers, images, volumes and networks as a domain, without HTTP.
#![forbid(unsafe_code)]

pub mod containers;
pub mod error;
pub mod events;
pub mod images;
mod index;
mod launcher;
mod limits;
mod shim;

pub use error::{Error, Result};
