//! `POST /containers/create`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::config::Config;
use super::host_config::HostConfig;
use crate::go;
use crate::network::EndpointSettings;

/// The body: a [`Config`] whose object also holds the two other parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CreateRequest {
    /// What runs.
    #[serde(flatten)]
    pub config: Config,
    /// How it sits on the host; very old clients leave it out.
    #[serde(rename = "HostConfig")]
    pub host_config: Option<HostConfig>,
    /// Which networks it joins.
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: Option<NetworkingConfig>,
}

/// Endpoints by name of the network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    /// `null` settings are those of a default endpoint.
    pub endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    /// Full id.
    pub id: String,
    /// Sentences for the user, often none.
    pub warnings: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct OtherParts {
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

/// serde's `flatten` would lose the field names that matching without case needs, so the object is read twice.
impl<'de> Deserialize<'de> for CreateRequest {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(input)?;
        let config = go::from_value(&value).map_err(serde::de::Error::custom)?;
        let OtherParts { host_config, networking_config } =
            go::from_value(&value).map_err(serde::de::Error::custom)?;
        Ok(Self { config, host_config, networking_config })
    }
}
