//! What a build needs of whoever asked for it: its context, the Dockerfile, secrets, credentials.

use super::product::Product;
use crate::error::Result;
use crate::images::BodyReader;
use coracle_registry::Credentials;
use coracle_spec::Digest;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where the context of a build is.
pub enum Source {
    /// Nowhere: there is none.
    Nothing,
    /// An archive that comes with the request.
    Archive(BodyReader),
    /// At an address: a Git repository, an archive or a Dockerfile of a web server.
    Address(String),
    /// A directory of this machine, read where it is.
    Directory(OwnedFd),
    /// A directory of the client's, which is asked for it by this name.
    Client(String),
    /// What another build has made.
    Product(Arc<Product>),
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// In the context, at this path; under its usual names where the path is empty.
    InContext(String),
    /// In a directory of the client's, which is asked for it by a name, at a path.
    Client {
        /// The name of the directory.
        directory: String,
        /// The path in it.
        path: String,
    },
    /// This is its text.
    Text(String),
}

/// Which files of a directory are wanted. Patterns are those of `.dockerignore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; all where it is empty.
    pub include: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// These too, and what they lead to where they are links.
    pub follow: Vec<String>,
}

/// Both ways of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whoever asked for a build, as far as the build asks back.
pub trait Client: Send + Sync + 'static {
    /// A directory, as an archive.
    fn directory<'a>(&'a self, name: &'a str, selection: &'a Selection) -> BoxFuture<'a, Result<BodyReader>>;

    /// A secret; `None` where there is none of that id.
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>>;

    /// A connection to an SSH agent; `None` where there is none of that id.
    fn ssh<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Stream>>>>;

    /// Credentials for a registry.
    fn credentials<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Credentials>>;

    /// A blob of a store of the client's, not verified.
    fn blob<'a>(&'a self, store: &'a str, _digest: &'a Digest) -> BoxFuture<'a, Result<BodyReader>> {
        let refused = format!("the client has no store {store}");
        Box::pin(async { Err(crate::Error::Invalid(refused)) })
    }
}

/// A client that gives everything with its request.
#[derive(Clone, Debug, Default)]
pub struct Silent {
    /// Credentials by registry.
    pub credentials: HashMap<String, Credentials>,
}

impl Client for Silent {
    fn directory<'a>(&'a self, name: &'a str, _: &'a Selection) -> BoxFuture<'a, Result<BodyReader>> {
        let refused = format!("the client gives no directory {name}");
        Box::pin(async { Err(crate::Error::Invalid(refused)) })
    }

    fn secret<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async { Ok(None) })
    }

    fn ssh<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Stream>>>> {
        Box::pin(async { Ok(None) })
    }

    fn credentials<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Credentials>> {
        let known = self.credentials.get(domain).cloned();
        Box::pin(async { Ok(known.unwrap_or(Credentials::Anonymous)) })
    }
}
