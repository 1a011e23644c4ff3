//! Archives of images that leave out what another image has: smaller, and whole only where that image is.
//!
//! The index of the archive says so in an annotation, so that a damaged archive is never taken for one of these.

use std::collections::HashSet;

use coracle_spec::Digest;
use coracle_spec::image::{Document, Index};

use crate::error::{Error, Result, shown};
use crate::{Layer, Store};

/// The annotation of the index that says since which images an archive was saved.
const SINCE: &str = "coracle.since";

/// What an archive leaves out.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    layers: HashSet<Digest>,
    images: Vec<String>,
}

impl LeftOut {
    /// Leaves out the layers of an image; `image` is what people call it.
    pub fn add(&mut self, image: &str, layers: impl IntoIterator<Item = Digest>) {
        self.images.push(image.to_owned());
        self.layers.extend(layers);
    }

    pub(crate) fn has(&self, diff_id: &Digest) -> bool {
        self.layers.contains(diff_id)
    }

    /// Says so in the index of an archive.
    pub(crate) fn annotate(&self, index: &mut Index) {
        if !self.images.is_empty() {
            index.annotations.insert(SINCE.to_owned(), self.images.join(", "));
        }
    }
}

/// The images since which an archive was saved, by its index.
pub(crate) fn images(index: &[u8]) -> Option<String> {
    match Document::parse(index, None) {
        Ok(Document::Index(index)) => index.annotations.get(SINCE).map(|text| shown(text.as_bytes())),
        _ => None,
    }
}

impl Store {
    /// A layer that an archive saved since `images` leaves out.
    pub(crate) fn layer_left_out(&self, diff_id: &Digest, images: &str) -> Result<Layer> {
        self.arrivals.tell(diff_id);
        if self.has_whole_layer(diff_id)? {
            return self.layer(diff_id);
        }
        Err(Error::LayerLeftOut { diff_id: *diff_id, images: images.to_owned() })
    }
}
