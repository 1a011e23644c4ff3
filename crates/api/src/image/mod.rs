//! Bodies of `/images/…`.

mod inspect;
mod list;
mod registry;

pub use inspect::{HistoryItem, ImageInspect, ImageMetadata, OwnMetadata, RootFs};
pub use list::{DeletedImage, ImageSummary, PruneResponse};
pub use registry::{DistributionInspect, PushResult, SearchResult};
