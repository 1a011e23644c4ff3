//! Contexts: names of engines, in the store of Docker's client, which ours reads and writes as it is.
//!
//! ```text
//! CONFIGURATION/config.json                      currentContext
//! CONFIGURATION/contexts/meta/DIGEST/meta.json   name, description, endpoints
//! CONFIGURATION/contexts/tls/DIGEST/docker/*.pem certificates and keys
//! ```
//!
//! `DIGEST` is the SHA-256 of the name. The context `default` is in no file: it is what the environment says.

mod archive;
mod choice;
mod store;
mod tls;

pub(crate) use archive::{pack, unpack};
pub(crate) use choice::{Choice, current, endpoint, endpoint_of, surroundings};
pub(crate) use store::{Context, Store, TlsFile, check_name};

/// The context of the environment.
pub(crate) const DEFAULT: &str = "default";

/// What the endpoint of an engine is called.
pub(crate) const DOCKER: &str = "docker";
