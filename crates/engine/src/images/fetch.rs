//! `docker import` of an address: the archive comes from a web server instead of the client.

use super::forward::forward;
use super::{BodyReader, Images, ImportRequest, LayerStep, Step, Teller};
use crate::error::{Error, Result};
use coracle_registry::{Fetched, Secret};
use coracle_spec::Digest;

/// What progress is told of: there is one thing only.
const WHAT: &str = "archive";

impl Images {
    /// As [`Images::import`], of a tar at an address (http or https).
    ///
    /// # Errors
    /// As [`Images::import`], and [`Error::Missing`] for what the host does not give.
    pub async fn import_from(
        &self,
        address: &str,
        mut request: ImportRequest,
        told: &Teller,
    ) -> Result<Digest> {
        if request.message.is_empty() {
            request.message = format!("Imported from {address}");
        }
        let mut file = self.0.registries().fetch(address).await.map_err(|error| missing(address, &error))?;
        told.tell(Step::Fetching(address.to_owned())).await;
        let (sender, reader) = BodyReader::channel();
        let total = file.left().unwrap_or(0);
        let tell = |done| told.layer(WHAT, LayerStep::Downloading { done, total });
        let fetching = forward(&mut file, sender, tell);
        let (fetched, imported) = futures_util::future::join(fetching, self.import(reader, request)).await;
        // The cause comes first: the import only saw the archive end.
        fetched.map_err(|error| missing(address, &error))?;
        let id = imported?;
        told.tell(Step::Imported(id)).await;
        Ok(id)
    }
}

impl Images {
    /// Asks for a file at an address (http or https).
    ///
    /// # Errors
    /// [`Error::Missing`] for what the host does not give.
    pub(crate) async fn fetch(&self, address: &str, authorization: Option<&Secret>) -> Result<Fetched> {
        let fetched = self.0.registries().fetch_as(address, authorization).await;
        fetched
            .map_err(|error| Error::Missing(format!("failed to load: {}", coracle_spec::full_text(&error))))
    }
}

fn missing(address: &str, error: &coracle_registry::Error) -> Error {
    Error::Missing(format!("cannot import from {address}: {}", coracle_spec::full_text(error)))
}
