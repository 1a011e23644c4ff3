//! Documents of an image: descriptor, manifest, index and configuration (OCI image spec, and Docker's older forms).
//!
//! The types are lenient where real images are (absent, `null`) and strict where leniency was an attack: digests are
//! checked, and a document that is both manifest and index is refused (CVE-2021-41190). Unknown fields are kept.

mod artifact;
pub mod attestation;
mod config;
mod manifest;

pub use attestation::Attestation;
pub use config::{Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use manifest::{Descriptor, Document, Index, Manifest, media_type};
