//! Bodies of `/networks/…`, and the endpoint settings that containers carry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One container on one network, asked for (the first five) and as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSettings {
    /// Addresses asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// Further names on this network.
    pub aliases: Option<Vec<String>>,
    /// Hardware address.
    pub mac_address: String,
    /// Options of the network driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The endpoint with the highest one is the default gateway.
    pub gw_priority: i64,
    /// Id of the network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    pub gateway: String,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of the IPv4 prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Length of the IPv6 prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// Every name it answers to.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpamConfig {
    /// IPv4 address.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// IPv6 address.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// Link-local addresses.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Option::is_none")]
    pub link_local_ips: Option<Vec<String>>,
}

/// A network, in the list and alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Full id.
    pub id: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`, `host`, `null`, …
    pub driver: String,
    /// Since API 1.47: whether it has IPv4 addresses.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Its address pools.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    pub internal: bool,
    /// For services.
    pub attachable: bool,
    /// For services.
    pub ingress: bool,
    /// For services.
    pub config_from: ConfigReference,
    /// For services.
    pub config_only: bool,
    /// Containers by id; in the list `{}` before API 1.52 and absent since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeMap<String, NetworkContainer>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Address management of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Options of that driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Its pools.
    pub config: Option<Vec<IpamPool>>,
}

/// One pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamPool {
    /// In CIDR notation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// Part of the subnet that containers get addresses from.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// Address of the bridge.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses not to give out, by name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "Option::is_none")]
    pub auxiliary_addresses: Option<BTreeMap<String, String>>,
}

/// A network whose configuration is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigReference {
    /// Its name.
    pub network: String,
}

/// One container of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkContainer {
    /// Its name without a slash.
    pub name: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Hardware address.
    pub mac_address: String,
    /// With prefix.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// With prefix, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateRequest {
    /// Its name.
    pub name: String,
    /// Before API 1.44: refuse a second network of this name. Names are unique anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_duplicate: Option<bool>,
    /// Empty for `bridge`.
    pub driver: String,
    /// Empty for `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Whether it gets IPv4 addresses; yes by default.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether it gets IPv6 addresses.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Address pools; `null` for the daemon's choice.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// No way out.
    pub internal: bool,
    /// For services.
    pub attachable: bool,
    /// For services.
    pub ingress: bool,
    /// For services.
    pub config_only: bool,
    /// For services.
    pub config_from: Option<ConfigReference>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateResponse {
    /// Full id.
    pub id: String,
    /// A sentence for the user, or empty.
    pub warning: String,
}

/// `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConnectRequest {
    /// Name or id.
    pub container: String,
    /// How it joins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DisconnectRequest {
    /// Name or id.
    pub container: String,
    /// Also when the container is gone.
    pub force: bool,
}

/// `POST /networks/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneResponse {
    /// Names; `null` for none.
    pub networks_deleted: Option<Vec<String>>,
}
