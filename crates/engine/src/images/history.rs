//! How an image was made.

use super::{Images, Inner};
use crate::error::Result;
use coracle_spec::{Digest, Platform, Reference};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One step of an image's making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image that it led to, where that is here; clients show `<missing>` otherwise.
    pub id: Option<Digest>,
    /// When.
    pub created: Option<OffsetDateTime>,
    /// The command.
    pub created_by: String,
    /// Bytes in the files of its layer; 0 where it made none.
    pub size: u64,
    /// A note.
    pub comment: String,
    /// Names of the image that it led to.
    pub tags: Vec<Reference>,
}

impl Images {
    /// The steps of an image's making, the last first; of several platforms, this one's.
    ///
    /// # Errors
    /// As [`Images::resolve_for`].
    pub async fn history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryStep>> {
        let name = name.to_owned();
        self.run(move |inner| inner.history(&name, platform.as_ref())).await
    }
}

impl Inner {
    fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryStep>> {
        let known = self.find_for(name, platform)?;
        let image = self.image(&known)?;
        // A history may claim more layers than there are.
        let mut layers = known.layers.iter();
        let mut steps = Vec::new();
        for step in &image.config.history {
            let layer = if step.empty_layer { None } else { layers.next() };
            steps.push(HistoryStep {
                id: None,
                created: step.created.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()),
                created_by: step.created_by.clone(),
                size: layer.map_or(0, |layer| layer.size),
                comment: step.comment.clone(),
                tags: Vec::new(),
            });
        }
        steps.reverse();
        let catalogue = self.read();
        let mut next = Some(&known);
        for step in &mut steps {
            let Some(image) = next else { break };
            step.id = Some(image.id);
            step.tags =
                image.references.iter().filter(|reference| reference.tag().is_some()).cloned().collect();
            next = image.parent.as_ref().and_then(|parent| catalogue.get(parent));
        }
        Ok(steps)
    }
}
