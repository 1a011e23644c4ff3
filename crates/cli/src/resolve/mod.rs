//! What people type into what the API wants. Pure, but for the files that `--env-file` and the like name, which the
//! caller reads.

pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod copy;
pub(crate) mod device;
pub(crate) mod duration;
pub(crate) mod environment;
pub(crate) mod health;
pub(crate) mod image_name;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod pairs;
pub(crate) mod platform;
pub(crate) mod port;
pub(crate) mod resources;
pub(crate) mod size;
pub(crate) mod ssh;
pub(crate) mod volume;

/// Why an argument does not mean anything: the text after `invalid argument "…" for "--…" flag`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(crate) String);

pub(crate) fn invalid<T>(reason: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid(reason.into()))
}
