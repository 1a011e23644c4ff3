//! A container becomes an image.

use crate::engine::Engine;
use crate::error::Result;
use crate::images::CommitRequest;
use coracle_spec::Digest;

impl Engine {
    /// Makes an image of a container, which is paused meanwhile if `pause`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for changes that are none.
    pub async fn commit(&self, name: &str, pause: bool, request: CommitRequest) -> Result<Digest> {
        let container = self.inspect(name)?;
        let held = pause && self.hold_still(&container.id).await?;
        let image = self.images().commit(request).await;
        if held {
            self.go_on(&container.id).await?;
        }
        image
    }
}
