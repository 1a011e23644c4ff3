//! Images that a build needs: pulled where they are not here, and kept as long as it goes on.

use super::inputs::Client;
use super::stages::Build;
use crate::containers::refuse_artifact;
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result};
use crate::images::{Hold, Image, PullRequest, Teller};
use coracle_spec::{Digest, Platform, Reference};
use std::sync::Arc;
use time::OffsetDateTime;

/// The digest that a registry has an image under, where it is known; or else the image's id.
fn origin_of(image: &Image, name: &str) -> Digest {
    let name = name.parse::<Reference>().map(|name| name.name());
    let same = image.references.iter().filter(|known| name.as_ref().is_ok_and(|name| *name == known.name()));
    let mut digests = same.filter_map(Reference::digest);
    digests.next().unwrap_or(image.id)
}

impl Build<'_> {
    /// An image by its name, pulled where it is not here for the platform or a newer one is wanted.
    pub(super) async fn image(&self, name: &str, platform: &Platform) -> Result<Image> {
        let (client, pull) = (&self.request.client, self.request.pull);
        let image = Bases { shared: self.shared(), client, pull }.find(name, platform, &self.hold).await?;
        self.notes.image(name, platform, origin_of(&image, name));
        Ok(image)
    }
}

impl Engine {
    /// The image that a build of this client would begin with, by its name; pulled where it is not here, or a newer one is
    /// wanted.
    ///
    /// # Errors
    /// As a pull's, and [`Error::Invalid`] for what is no name.
    pub async fn base_image(
        &self,
        client: &Arc<dyn Client>,
        name: &str,
        platform: &Platform,
        pull: bool,
    ) -> Result<Image> {
        let hold = self.shared.images.hold_what_comes();
        Bases { shared: &self.shared, client, pull }.find(name, platform, &hold).await
    }
}

/// Where images of builds come from.
struct Bases<'a> {
    shared: &'a Arc<Shared>,
    client: &'a Arc<dyn Client>,
    pull: bool,
}

impl Bases<'_> {
    async fn find(&self, name: &str, platform: &Platform, hold: &Hold) -> Result<Image> {
        let images = &self.shared.images;
        // Until its layers are named, nobody frees anything.
        let everything = images.hold();
        let here = if self.pull { None } else { self.here(name, platform).await? };
        let image = match here {
            Some(image) => image,
            // Its name may be that of another platform, which runs better here.
            None => images.resolve(&self.pull(name, platform).await?.to_string()).await?,
        };
        hold.and(image.layers.iter().copied());
        drop(everything);
        refuse_artifact(&image, name)?;
        images.note_use(&image.id, OffsetDateTime::now_utc());
        Ok(image)
    }

    async fn here(&self, name: &str, platform: &Platform) -> Result<Option<Image>> {
        match self.shared.images.resolve_for(name, Some(platform)).await {
            Ok(image) => Ok(Some(image)),
            Err(Error::NotFound { .. } | Error::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, name: &str, platform: &Platform) -> Result<Digest> {
        let reference: Reference = name
            .parse::<Reference>()
            .map_err(|error| Error::Invalid(format!("failed to parse {name}: {error}")))?
            .or_latest();
        let credentials = self.client.credentials(reference.domain()).await?;
        let request = PullRequest { reference, platform: Some(platform.clone()), credentials };
        // Nobody hears how far it is.
        let (told, _) = Teller::channel();
        let pulled = self.shared.images.pull(request, &told).await;
        pulled.map(|pulled| pulled.id)
    }
}
