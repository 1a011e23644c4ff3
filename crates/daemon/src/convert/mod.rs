//! Between what is on the wire and what the engine knows; one file for each area.

pub(crate) mod container;
pub(crate) mod host_config;
pub(crate) mod image;
pub(crate) mod listing;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod path;
pub(crate) mod platform;
pub(crate) mod reclaim;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod time;
pub(crate) mod transfer;
pub(crate) mod update;

#[cfg(test)]
mod fields;
