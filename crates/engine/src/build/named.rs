//! Contexts by name: what a client puts in the place of images and stages.

use super::context::{Contexts, Files, of_address, of_client, of_directory};
use super::product::Product;
use crate::error::{Error, Result};
use coracle_spec::image::RunConfig;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What an image is called that has nothing in it.
pub(super) const NOTHING: &str = "scratch";

/// What is in the place of an image or a stage.
#[derive(Debug)]
pub enum NamedContext {
    /// Another image, by its name.
    Image(String),
    /// A directory of the client's, which is asked for it by this name.
    Client(String),
    /// A directory of this machine, read where it is.
    Directory(OwnedFd),
    /// What is at an address: a Git repository, or one file of a web server.
    Address(String),
    /// What another build has made, and the configuration of what begins with it.
    Product(Arc<Product>, Box<RunConfig>),
}

/// One of a build's, opened when a step needs it.
#[derive(Debug)]
pub(super) struct Named {
    what: NamedContext,
    files: OnceCell<Arc<Files>>,
}

/// What one turns out to be.
pub(super) enum Found<'a> {
    Image(&'a str),
    Product(&'a Product, &'a RunConfig),
    Files(Arc<Files>),
}

impl From<NamedContext> for Named {
    fn from(what: NamedContext) -> Self {
        Self { what, files: OnceCell::new() }
    }
}

impl Named {
    /// Whether it is read where it is, and was.
    pub(super) fn is_in_place(&self) -> bool {
        self.files.get().is_some_and(|files| files.is_in_place())
    }

    async fn files(&self, contexts: &Contexts) -> Result<Arc<Files>> {
        let (shared, client) = (&contexts.shared, &contexts.client);
        match &self.what {
            NamedContext::Client(name) => of_client(shared, client, name, None).await,
            NamedContext::Directory(directory) => of_directory(directory).await,
            NamedContext::Address(address) => of_address(shared, client, address).await,
            NamedContext::Image(_) | NamedContext::Product(..) => {
                Err(Error::Invalid("the context is no directory".to_owned()))
            }
        }
    }
}

impl Contexts {
    /// The context of this name, one of those that the build was asked for with.
    pub(super) async fn named(&self, name: &str) -> Result<Found<'_>> {
        let named = self.others.get(name);
        let named = named.ok_or_else(|| Error::Invalid(format!("there is no context {name}")))?;
        Ok(match &named.what {
            NamedContext::Image(image) => Found::Image(image),
            NamedContext::Product(product, config) => Found::Product(product, config),
            _ => Found::Files(Arc::clone(named.files.get_or_try_init(|| named.files(self)).await?)),
        })
    }
}
