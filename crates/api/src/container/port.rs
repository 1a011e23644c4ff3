//! Published ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bindings by `port/protocol`; `null` for a port that is exposed and not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// One binding on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    /// Address on the host, empty for all.
    pub host_ip: String,
    /// A port, a range `from-to`, or empty for one of the host's choice.
    pub host_port: String,
}
