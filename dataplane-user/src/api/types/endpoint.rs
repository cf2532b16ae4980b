//! A container's place in one network: what a client asks for, and what it got.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::null_is_default;

/// Docker's `EndpointSettings`: in requests the wishes, in answers the facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses that the client asks for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// Legacy links to other containers.
    pub links: Option<Vec<String>>,
    /// Further names of the container on this network.
    pub aliases: Option<Vec<String>>,
    /// The endpoint's MAC address; empty in a request means "any".
    #[serde(deserialize_with = "null_is_default")]
    pub mac_address: String,
    /// Options for the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The endpoint with the highest one gives the default route.
    #[serde(deserialize_with = "null_is_default")]
    pub gw_priority: i64,
    /// The network's id.
    #[serde(rename = "NetworkID", deserialize_with = "null_is_default")]
    pub network_id: String,
    /// The endpoint's own id; empty while the container does not run.
    #[serde(rename = "EndpointID", deserialize_with = "null_is_default")]
    pub endpoint_id: String,
    /// The network's IPv4 gateway.
    #[serde(deserialize_with = "null_is_default")]
    pub gateway: String,
    /// The endpoint's IPv4 address.
    #[serde(rename = "IPAddress", deserialize_with = "null_is_default")]
    pub ip_address: String,
    /// The length of the IPv4 subnet's prefix.
    #[serde(rename = "IPPrefixLen", deserialize_with = "null_is_default")]
    pub ip_prefix_len: u8,
    /// The network's IPv6 gateway.
    #[serde(rename = "IPv6Gateway", deserialize_with = "null_is_default")]
    pub ipv6_gateway: String,
    /// The endpoint's IPv6 address.
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "null_is_default")]
    pub global_ipv6_address: String,
    /// The length of the IPv6 subnet's prefix.
    #[serde(rename = "GlobalIPv6PrefixLen", deserialize_with = "null_is_default")]
    pub global_ipv6_prefix_len: u8,
    /// All names of the container on this network.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses that a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpamConfig {
    /// The wanted IPv4 address.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub ipv4_address: String,
    /// The wanted IPv6 address.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub ipv6_address: String,
    /// Link-local addresses to add.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub link_local_ips: Vec<String>,
}

/// An endpoint as its network lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointResource {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The endpoint's MAC address.
    pub mac_address: String,
    /// The IPv4 address with its prefix length.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// The IPv6 address with its prefix length.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}
