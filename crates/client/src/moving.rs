//! Images on their way to and from other engines: requests that turn the connection into the way.

use coracle_api::Query;

use crate::Result;
use crate::stream::Hijacked;
use crate::transport::{Call, Client};

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// Sends images to the engine at the other end of the connection. The output is framed: stdout is for the other
    /// engine, stderr are lines of progress. Only what is for `platforms` goes, where there are any, each a JSON document of
    /// OCI. `name` is what the image is called there instead of its own names.
    pub async fn send_images(
        &self,
        images: &[String],
        platforms: &[String],
        name: Option<&str>,
    ) -> Result<Hijacked> {
        let query = images.iter().fold(Query::new(), |query, image| query.with("images", image));
        let query = platforms.iter().fold(query, |query, platform| query.with("platform", platform));
        self.hijack(Call::post("/coracle/images/send").query(query.with_some("name", name))).await
    }

    /// Receives images from the engine at the other end of the connection. The output is framed as in
    /// [`Self::send_images`].
    pub async fn receive_images(&self) -> Result<Hijacked> {
        self.hijack(Call::post("/coracle/images/receive")).await
    }
}
