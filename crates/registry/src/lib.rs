//! Where images come from and go to: the client of registries (OCI distribution specification).
//!
//! A [`Client`] makes a [`Repository`] for each operation; that one asks mirrors and the registry for manifests and
//! blobs, or stores them. A request goes through these rooms:
//!
//! ```text
//! manifest, blob, upload   what is asked for, and whether the answer is that
//!   session                one host in one role: credentials, challenges, tries (auth, retry)
//!     exchange             one request with its redirects, and where these may lead (reach)
//!       client             connections, proxies, certificates (tls)
//! ```
//!
//! Everything a registry says is foreign: bounded by [`limits`], never followed further inside the network than the
//! registry itself is, never given credentials of another host. What is pulled is streamed; nothing is stored here,
//! and no file is read but certificates.
#![forbid(unsafe_code)]

mod answer;
mod auth;
mod blob;
mod client;
mod error;
mod exchange;
mod fetch;
mod hosts;
mod limits;
mod login;
mod manifest;
mod options;
mod pace;
mod reach;
mod repository;
mod retry;
mod session;
mod tags;
mod tls;
mod upload;

pub use auth::{Credentials, Secret};
pub use blob::BlobStream;
pub use client::Client;
pub use error::{Error, Result};
pub use fetch::Fetched;
pub use hosts::{Endpoint, Hosts, Scheme};
pub use login::{Login, SearchResult};
pub use options::{Options, Proxies};
pub use repository::{Access, Manifest, Pick, Repository};
pub use retry::{Clock, SystemClock, Timing};
pub use upload::{Body, BodyFuture};
