//! Where images come from and go to: the client of registries.
#![forbid(unsafe_code)]

mod auth;
mod client;
mod error;
mod hosts;
mod options;
mod repository;

pub use auth::{Credentials, Secret};
pub use client::Client;
pub use error::{Error, Result};
pub use hosts::{Endpoint, Hosts, Scheme};
pub use options::{Options, Proxies};
pub use repository::{Access, BlobStream, Body, BodyFuture, Login, Manifest, Pick, Repository, SearchResult};
