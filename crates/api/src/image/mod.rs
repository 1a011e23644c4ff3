//! Bodies of `/images/…`.

mod inspect;
mod list;
mod manifest;
mod registry;

pub use inspect::{HistoryItem, ImageInspect, ImageMetadata, RootFs};
pub use list::{DeletedImage, ImageSummary, PruneResponse};
pub use manifest::{AttestationData, ContentSize, ImageData, ManifestKind, ManifestSummary, UnpackedSize};
pub use registry::{
    ContentMissing, DistributionInspect, ManifestPut, NewManifest, PushResult, PushedInsteadOfIndex,
    RegistryManifest, SearchResult,
};
