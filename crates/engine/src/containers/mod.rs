//! Containers.

pub mod modes;
pub mod settings;
