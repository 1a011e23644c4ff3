//! The resolver of containers: who is called what ([`Table`]), and answering for it ([`Service`]).
//!
//! The engine publishes names, the shim of each container answers its queries from the tables of its networks and
//! withdraws its own names when the container ends. Both meet in the file system only, so that each can be restarted.
//!
//! ```text
//! name      a name that can be looked up        message   DNS messages: questions read, answers written
//! table     a network's names on disk           upstream  the servers that know everything else
//! service   queries in, answers out             limits    every bound
//! ```

#![forbid(unsafe_code)]

mod error;
pub mod limits;
mod message;
mod name;
mod service;
mod table;
mod upstream;

pub use error::{Error, Result};
pub use name::Name;
pub use service::Service;
pub use table::Table;
pub use upstream::Upstream;
