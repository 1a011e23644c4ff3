//! Builds, by the engine's own endpoint.

use bytes::Bytes;
use coracle_api::build::{BuildOptions, BuildProgress};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Result;
use crate::stream::JsonLines;
use crate::transport::{Call, Client};

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// Builds an image. `context` is its context as an archive, and is empty where the options name a directory: if the
    /// engine does not find that, the error is one of a precondition.
    pub async fn build(
        &self,
        options: &BuildOptions,
        context: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<JsonLines<BuildProgress>> {
        let mut line = serde_json::to_vec(options).expect("options are a document");
        line.push(b'\n');
        let body = std::io::Cursor::new(Bytes::from(line)).chain(context);
        self.stream(Call::post("/coracle/build").upload(body)).await.map(JsonLines::new)
    }
}
