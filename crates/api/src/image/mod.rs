//! Bodies of `/images/…`.

mod inspect;
mod list;

pub use inspect::{HistoryItem, ImageInspect, ImageMetadata, RootFs};
pub use list::{DeletedImage, ImageSummary, PruneResponse};
