//! The engine: containers, images, volumes and networks as a domain, without HTTP.
#![forbid(unsafe_code)]

pub mod containers;
