//! Archives of images: `docker load` and `docker save`.

use super::{Hold, Images, Inner, NewImage, holds, lookup, of_store};
use crate::error::{Result, blocking};
use coracle_spec::{Digest, Reference};
use coracle_store::{Progress, SavedImage};
use std::io::{Read, Write};
use std::sync::Arc;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// What the archive calls it.
    pub references: Vec<Reference>,
    /// Of these names, those that another image here had, and its id.
    pub moved: Vec<(Reference, Digest)>,
}

/// Images chosen for an archive. What they consist of stays as long as this exists.
#[derive(Debug)]
pub struct Saving {
    inner: Arc<Inner>,
    images: Vec<SavedImage>,
    _hold: Hold,
}

impl Images {
    /// Loads every image of an archive. Durable on return.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the archive is malformed, contradicts itself or breaks off; no image is added then.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        mut progress: impl Progress + 'static,
    ) -> Result<Vec<Loaded>> {
        self.run(move |inner| inner.load(archive, &mut progress)).await
    }

    /// Chooses images to be saved: by a name with tag, by all tags of a name, or by an id and then without names.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] and [`crate::Error::Invalid`].
    pub fn save(&self, names: &[String]) -> Result<Saving> {
        let hold = self.hold();
        let mut chosen: Vec<SavedImage> = Vec::new();
        for name in names {
            for (id, reference) in self.0.meant(name)? {
                let at = chosen.iter().position(|image| image.config == id).unwrap_or_else(|| {
                    chosen.push(SavedImage { config: id, references: Vec::new() });
                    chosen.len() - 1
                });
                let references = &mut chosen[at].references;
                references.extend(reference.filter(|reference| !references.contains(reference)));
            }
        }
        let catalogue = self.0.read();
        let known = chosen.iter().filter_map(|image| catalogue.get(&image.config));
        hold.only(known.flat_map(|image| holds::content_of(image)));
        drop(catalogue);
        Ok(Saving { inner: Arc::clone(&self.0), images: chosen, _hold: hold })
    }
}

impl Saving {
    /// Writes the archive.
    ///
    /// # Errors
    /// When `output` cannot be written, or the store is damaged.
    pub async fn write(self, mut output: impl Write + Send + 'static) -> Result<()> {
        blocking(move || {
            let saving = || "save images".to_owned();
            self.inner.store.save(&self.images, &mut output).map_err(|error| of_store(error, saving))?;
            output
                .flush()
                .map_err(|source| crate::Error::Failed { action: saving(), source: source.into() })?;
            for image in &self.images {
                self.inner.note_use_now(&image.config);
                self.inner.tell_by_id(&image.config, "save");
            }
            Ok(())
        })
        .await?
    }
}

impl Inner {
    fn load(&self, archive: impl Read + Send, progress: &mut dyn Progress) -> Result<Vec<Loaded>> {
        let _hold = self.holds.arrivals();
        let loading = || "load the image archive".to_owned();
        let images = self.store.load(archive, progress).map_err(|error| of_store(error, loading))?;
        let mut loaded = Vec::new();
        for image in images {
            let new = NewImage {
                id: image.config,
                references: image.references.clone(),
                parent: None,
                manifests: Vec::new(),
            };
            let adopted = self.adopt(new)?;
            self.tell_by_id(&image.config, "load");
            loaded.push(Loaded { id: image.config, references: image.references, moved: adopted.moved });
        }
        Ok(loaded)
    }

    /// What a name stands for in `save`.
    fn meant(&self, name: &str) -> Result<Vec<(Digest, Option<Reference>)>> {
        let bare =
            lookup::parse(name).ok().filter(|parsed| parsed.tag().is_none() && parsed.digest().is_none());
        let catalogue = self.read();
        if let Some(bare) = bare {
            let repository = bare.name();
            let tags = catalogue.all().flat_map(|image| {
                let of_it =
                    |reference: &&Reference| reference.tag().is_some() && reference.name() == repository;
                image.references.iter().filter(of_it).map(|reference| (image.id, Some(reference.clone())))
            });
            let mut tags: Vec<_> = tags.collect();
            tags.sort_by(|(_, one), (_, other)| one.cmp(other));
            if !tags.is_empty() {
                return Ok(tags);
            }
        }
        let image = catalogue.find(name)?;
        let named = lookup::parse(name).ok().map(lookup::key);
        let named = named.filter(|name| name.digest().is_none() && image.references.contains(name));
        Ok(vec![(image.id, named)])
    }
}
