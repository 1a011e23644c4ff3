//! `/coracle/system/reclaim`, which Docker does not have.

use serde::{Deserialize, Serialize};

/// What was, or would be, done about the room that images take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ReclaimReport {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Bytes that images may take.
    pub budget: u64,
    /// For how many seconds images stay after their last use.
    pub keep_recent: u64,
    /// Bytes that images took before.
    pub used: u64,
    /// Bytes that come free.
    pub freed: u64,
    /// What becomes of each image, those that go first.
    pub images: Vec<ReclaimVerdict>,
}

/// What becomes of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ReclaimVerdict {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Whether it goes.
    pub remove: bool,
    /// Bytes of everything it consists of, whoever else has it.
    pub size: u64,
    /// Bytes that come free with it.
    pub freed: u64,
    /// When it was last used, RFC 3339; empty when that is not known.
    pub last_used: String,
    /// Why it stays or goes, for people.
    pub reason: String,
}
