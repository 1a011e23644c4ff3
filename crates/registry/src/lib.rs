//! Where images come from and go to. Today: which hosts are asked for an image, and whether they may be asked without
//! TLS. The client that asks them is not written yet.
#![forbid(unsafe_code)]

mod hosts;

pub use hosts::{Endpoint, Hosts, Scheme};

/// Why a registry cannot be used as configured.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// An entry of the list of insecure registries is none.
    #[error("insecure registry {entry} is not valid: {reason}")]
    Insecure {
        /// As it was configured.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A mirror is no address.
    #[error("invalid mirror {entry:?}: {reason}")]
    Mirror {
        /// As it was configured.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
