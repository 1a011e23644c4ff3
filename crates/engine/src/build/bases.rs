//! Images that a build needs: pulled where they are not here, and kept as long as it goes on.

use super::stages::Build;
use crate::containers::refuse_artifact;
use crate::error::{Error, Result};
use crate::images::{Image, PullRequest, Teller};
use coracle_spec::{Digest, Platform, Reference};
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
        let images = &self.shared().images;
        // Until its layers are named, nobody frees anything.
        let everything = images.hold();
        let here = if self.request.pull { None } else { self.image_here(name, platform).await? };
        let image = match here {
            Some(image) => image,
            // Its name may be that of another platform, which runs better here.
            None => images.resolve(&self.pull(name, platform).await?.to_string()).await?,
        };
        self.hold.and(image.layers.iter().copied());
        drop(everything);
        refuse_artifact(&image, name)?;
        self.notes.image(name, platform, origin_of(&image, name));
        images.note_use(&image.id, OffsetDateTime::now_utc());
        Ok(image)
    }

    async fn image_here(&self, name: &str, platform: &Platform) -> Result<Option<Image>> {
        match self.shared().images.resolve_for(name, Some(platform)).await {
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
        let credentials = self.request.client.credentials(reference.domain()).await?;
        let request = PullRequest { reference, platform: Some(platform.clone()), credentials };
        // Nobody hears how far it is.
        let (told, _) = Teller::channel();
        let pulled = self.shared().images.pull(request, &told).await;
        pulled.map(|pulled| pulled.id)
    }
}
