//! Output for people and for programs: tables as Docker aligns them, sizes and times in words, `--format`.

pub(crate) mod build;
pub(crate) mod json;
pub(crate) mod listing;
pub(crate) mod progress;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod units;
