//! Bodies of the other requests on containers: wait, top, update, changes, prune, commit, archive.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::config::HealthConfig;
use super::host_config::HostConfig;
use crate::go;

/// `POST /containers/{id}/update`: the resources and the restart policy of a host configuration; zero and `null`
/// leave a value as it is. Docker ignores the rest; here its ports and log options count as well, and a health check.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UpdateRequest {
    /// The host configuration.
    #[serde(flatten)]
    pub host: HostConfig,
    /// How to find out whether it works; what is empty or zero in it stays as it is. Not Docker's.
    #[serde(rename = "Healthcheck", skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct OtherParts {
    healthcheck: Option<HealthConfig>,
}

/// Read twice, as `flatten` would lose the field names that matching without case needs.
impl<'de> Deserialize<'de> for UpdateRequest {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(input)?;
        let host = go::from_value(&value).map_err(serde::de::Error::custom)?;
        let OtherParts { healthcheck } = go::from_value(&value).map_err(serde::de::Error::custom)?;
        Ok(Self { host, healthcheck })
    }
}

/// The answer to an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    /// Sentences for the user; `null` for none.
    pub warnings: Option<Vec<String>>,
}

/// `POST /containers/{id}/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    /// Exit code.
    pub status_code: i64,
    /// Why waiting failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

/// Why waiting failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    /// One sentence.
    pub message: String,
}

/// `GET /containers/{id}/top`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TopResponse {
    /// Rows of as many cells as there are titles.
    pub processes: Vec<Vec<String>>,
    /// Titles of the columns.
    pub titles: Vec<String>,
}

/// `GET /containers/{id}/changes`: one path that differs from the image. The list is `null` when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FilesystemChange {
    /// Path in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum ChangeKind {
    /// 0: its content or its attributes changed.
    Modified,
    /// 1: it is new.
    Added,
    /// 2: it is gone.
    Deleted,
}

impl From<ChangeKind> for u8 {
    fn from(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        }
    }
}

impl TryFrom<u8> for ChangeKind {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Modified),
            1 => Ok(Self::Added),
            2 => Ok(Self::Deleted),
            other => Err(format!("{other} is not a kind of change")),
        }
    }
}

/// `POST /containers/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneResponse {
    /// Ids; `null` for none.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// `POST /commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CommitResponse {
    /// Id of the new image, `sha256:…`.
    pub id: String,
}

/// Attributes of a path in a container, in the header of `/containers/{id}/archive`; Docker's keys are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStat {
    /// Last component.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode`: permission bits below, kind in the upper bits.
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    /// Target of a symbolic link.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_carry_numbers_and_unknown_numbers_are_refused() {
        let change = FilesystemChange { path: "/t".into(), kind: ChangeKind::Added };
        let text = serde_json::to_string(&change).expect("serialises");
        assert_eq!(text, r#"{"Path":"/t","Kind":1}"#);
        assert_eq!(crate::from_slice::<FilesystemChange>(text.as_bytes()).expect("parses"), change);
        assert!(crate::from_slice::<FilesystemChange>(br#"{"Path":"/","Kind":3}"#).is_err());
    }
}
