//! A typed, asynchronous client of the Engine API: one request, one method; streams for what flows. It talks to any
//! daemon that speaks API 1.30 or newer, ours or Docker's, over a unix socket, TCP, TLS
//! or ssh.
//!
//! | module | what it holds |
//! |---|---|
//! | `endpoint` | addresses |
//! | `ssh` | addresses of other machines |
//! | `tls` | whom to trust behind an address, and who the client is |
//! | `connection` | connections |
//! | `transport` | requests, responses, upgrades |
//! | `stream` | framed output, hijacked connections, JSON lines |
//! | the others | the methods of [`Client`] by area |
//!
//! What is not here: rendering, terminals, starting an engine.
#![forbid(unsafe_code)]

mod build;
mod connection;
mod containers;
mod endpoint;
mod error;
mod exec;
mod images;
mod limits;
mod manifests;
mod moving;
mod networks;
mod ssh;
mod stream;
mod system;
mod tls;
mod transport;
mod volumes;

pub use connection::{Connection, Duplex, dial};
pub use containers::{AttachOptions, LogOptions, PendingExit, UploadedOwner, WaitCondition};
pub use endpoint::{DEFAULT_SOCKET, Endpoint};
pub use error::Error;
pub use ssh::SshHost;
pub use stream::{Demultiplexer, Hijacked, JsonLines, Output};
pub use system::BuildPrune;
pub use tls::{Pem, Tls, Trust};
pub use transport::{Body, Client, Watcher};

/// What every method answers.
pub type Result<T> = std::result::Result<T, Error>;
