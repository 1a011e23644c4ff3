//! Lines of `POST /coracle/system/check`, which Docker does not have.

use serde::{Deserialize, Serialize};

/// One line: a finding, or at the end either a summary or why there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckMessage {
    /// Something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<CheckFinding>,
    /// The check is at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<CheckSummary>,
    /// The check could not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckFinding {
    /// With what: `blob`, `layer`, `image` or `record` (the one beside an image).
    pub kind: String,
    /// Its digest.
    pub digest: String,
    /// What.
    pub problem: String,
    /// The images that need it, by name or else by id.
    pub images: Vec<String>,
    /// Whether it was moved into the quarantine; a record was written anew.
    pub quarantined: bool,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckSummary {
    /// Blobs.
    pub blobs: usize,
    /// Layers.
    pub layers: usize,
    /// Images.
    pub images: usize,
    /// How many findings there were.
    pub findings: usize,
}
