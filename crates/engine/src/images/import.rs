//! A tar of a root file system becomes an image of one layer.

use super::adopt::refuse_ambiguous;
use super::{Images, Inner, NewImage, of_store};
use crate::error::{Error, Result};
use coracle_build::{apply_all, parse_changes};
use coracle_spec::image::{History, ImageConfig, RunConfig};
use coracle_spec::{Digest, Platform, Reference};
use coracle_store::Expected;
use std::io::Read;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What is to become of an imported archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportRequest {
    /// What the image is called.
    pub reference: Option<Reference>,
    /// A note for its history; Docker's default if empty.
    pub message: String,
    /// Instructions for its configuration.
    pub changes: Vec<String>,
    /// What it runs on; this machine's if absent.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of a tar, compressed or not. Durable on return; the id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an instruction, an archive that is malformed or breaks off, or a name with a digest. Nothing
    /// is left of it then.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        request: ImportRequest,
    ) -> Result<Digest> {
        let run = changed(RunConfig::default(), &request.changes)?;
        check_name(request.reference.as_ref())?;
        self.run(move |inner| inner.import(archive, request, run)).await
    }
}

impl Inner {
    fn import(&self, archive: impl Read + Send, request: ImportRequest, run: RunConfig) -> Result<Digest> {
        if request.platform.as_ref().is_some_and(|platform| platform.os != std::env::consts::OS) {
            return Err(Error::Invalid("operating system is not supported".to_owned()));
        }
        let _hold = self.holds.arrivals();
        let importing = || "import the archive".to_owned();
        let layer =
            self.store.import(archive, &Expected::default()).map_err(|error| of_store(error, importing))?;
        let now = now();
        let comment = if request.message.is_empty() { "Imported from -".to_owned() } else { request.message };
        let step = History { created: Some(now.clone()), comment: comment.clone(), ..History::default() };
        let mut config = ImageConfig {
            created: Some(now),
            comment,
            platform: request.platform.unwrap_or_else(Platform::host),
            config: run,
            history: vec![step],
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids.push(layer.diff_id);
        let (id, _) = self.make(&config, request.reference, None)?;
        self.tell_by_id(&id, "import");
        Ok(id)
    }

    /// Stores a configuration whose layers are in the store, and makes it an image.
    pub(super) fn make(
        &self,
        config: &ImageConfig,
        reference: Option<Reference>,
        parent: Option<Digest>,
    ) -> Result<(Digest, Option<Reference>)> {
        let storing = || "store the configuration of the image".to_owned();
        let id = self.store.put_config(config).map_err(|error| of_store(error, storing))?;
        let name = reference.map(super::lookup::key);
        let references = name.iter().cloned().collect();
        self.adopt(NewImage { id, references, parent, manifests: Vec::new() })?;
        if let (Some(name), Some(image)) = (&name, self.read().get(&id)) {
            self.tell(image, "tag", &name.familiar());
        }
        Ok((id, name))
    }

    /// Tells of something that happened to an image, whatever its names are.
    pub(super) fn tell_by_id(&self, id: &Digest, action: &str) {
        if let Some(image) = self.read().get(id) {
            self.tell(image, action, &id.to_string());
        }
    }
}

/// `base` as the instructions change it.
pub(super) fn changed(mut base: RunConfig, changes: &[String]) -> Result<RunConfig> {
    let invalid = |error: coracle_build::Error| Error::Invalid(error.to_string());
    let changes = parse_changes(changes).map_err(invalid)?;
    apply_all(&mut base, &changes).map_err(invalid)?;
    Ok(base)
}

/// Refuses what no new image can be called.
pub(super) fn check_name(reference: Option<&Reference>) -> Result<()> {
    let Some(reference) = reference else { return Ok(()) };
    if reference.digest().is_some() {
        return Err(Error::Invalid("cannot import digest reference".to_owned()));
    }
    refuse_ambiguous(reference)
}

/// As image configurations have it.
pub(crate) fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).expect("the present has four digits of a year")
}
