//! `GET /containers/json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mount::MountPoint;
use crate::network::EndpointSettings;

/// One line of the list. `E` is what is read of its endpoints, for who needs their networks alone and has thousands of lines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound(deserialize = "E: Default + Deserialize<'de>"))]
pub struct ContainerSummary<E = EndpointSettings> {
    /// Full id.
    pub id: String,
    /// Names with leading slashes; links add more.
    pub names: Vec<String>,
    /// Name of its image; the id when the name went to another image.
    pub image: String,
    /// Id of its image, `sha256:…`.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Executable and arguments in one text.
    pub command: String,
    /// Unix time in seconds.
    pub created: i64,
    /// Exposed and published ports.
    pub ports: Vec<PortSummary>,
    /// Bytes in the writable layer, with `size=1` only and when not zero.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub size_rw: i64,
    /// Bytes in all, with `size=1` only and when not zero.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub size_root_fs: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// As in inspect.
    pub state: String,
    /// For people, such as `Up 3 minutes (healthy)`.
    pub status: String,
    /// A piece of it.
    pub host_config: HostConfigSummary,
    /// Since API 1.52: what the health check says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Its endpoints.
    pub network_settings: NetworkSettingsSummary<E>,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
}

/// One port of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortSummary {
    /// Address on the host.
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Port in the container.
    pub private_port: u16,
    /// Port on the host, zero when not published.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// The piece of the host configuration that the list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfigSummary {
    /// As in the host configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// Annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The health that the list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthSummary {
    /// As in inspect.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}

/// The endpoints that the list holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound(deserialize = "E: Default + Deserialize<'de>"))]
pub struct NetworkSettingsSummary<E = EndpointSettings> {
    /// By name of the network. Boxed, as a map has room for eleven where there is mostly one.
    pub networks: BTreeMap<String, Box<E>>,
}
