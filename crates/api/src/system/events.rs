//! `GET /events`: one JSON object per line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something happened. The first three fields are for clients before API 1.22; Docker sent them until 1.51, for
/// containers and images only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// As `action`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// As the actor's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The container's image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `volume`, `network`, `daemon`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened, such as `start`.
    #[serde(rename = "Action")]
    pub action: String,
    /// To what.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Unix time in seconds.
    pub time: i64,
    /// Unix time in nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What something happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Id or name.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and what else is worth knowing.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
