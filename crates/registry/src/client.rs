//! The client: what all operations share.

use crate::{Access, Credentials, Hosts, Login, Options, Repository, Result, SearchResult};
use coracle_spec::Reference;

/// A client of every registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client;

impl Client {
    /// A client that knows these hosts.
    ///
    /// # Errors
    /// [`crate::Error::Proxy`] for a proxy that is no address.
    pub fn new(hosts: Hosts, options: Options) -> Result<Self> {
        let _ = (hosts, options);
        unimplemented!()
    }

    /// A repository for one operation.
    pub fn repository(&self, name: &Reference, credentials: Credentials, access: Access) -> Repository {
        let _ = (name, credentials, access);
        unimplemented!()
    }

    /// Checks credentials.
    ///
    /// # Errors
    /// [`crate::Error::Unauthorized`] for wrong ones.
    pub async fn login(&self, registry: &str, credentials: Credentials) -> Result<Login> {
        let _ = (registry, credentials);
        unimplemented!()
    }

    /// Searches.
    ///
    /// # Errors
    /// As its registry has it.
    pub async fn search(
        &self,
        registry: &str,
        term: &str,
        limit: u32,
        credentials: Credentials,
    ) -> Result<Vec<SearchResult>> {
        let _ = (registry, term, limit, credentials);
        unimplemented!()
    }
}
