//! Networks: `GET /networks`, `GET /networks/{id}` and the bodies that create and change them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::endpoint::{EndpointResource, EndpointSettings};
use super::{is_false, null_is_default};

/// A network, as the list and `inspect` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was created.
    pub created: Timestamp,
    /// `local`: known on this machine only.
    pub scope: String,
    /// The driver: `bridge`, `host` or `null`.
    pub driver: String,
    /// Whether its containers have IPv4 addresses.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether its containers have IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Its subnets and gateways.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Whether it is cut off from everything but itself.
    pub internal: bool,
    /// Swarm only: whether containers may be attached by hand.
    pub attachable: bool,
    /// Swarm only: whether this is the routing mesh.
    pub ingress: bool,
    /// The configuration it was made from, if any.
    pub config_from: ConfigReference,
    /// Whether it is only a configuration for others.
    pub config_only: bool,
    /// Its endpoints by container id; `inspect` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeMap<String, EndpointResource>>,
    /// How full it is; `inspect` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The driver's options.
    #[serde(default, deserialize_with = "null_is_default")]
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

/// What is now the case with a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Status {
    /// Of its addresses.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// What is now the case with a network's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamStatus {
    /// By subnet, in CIDR notation.
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// How full a subnet is. Numbers that are too large for 64 bits are shown as the largest of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct SubnetStatus {
    /// Addresses that somebody has, or that are never handed out.
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    /// Addresses that containers can still get without asking for them.
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// How a network hands out addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`, ours.
    #[serde(deserialize_with = "null_is_default")]
    pub driver: String,
    /// Options for the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// One entry a subnet.
    #[serde(deserialize_with = "null_is_default")]
    pub config: Vec<IpamConfig>,
}

/// One subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// The subnet, in CIDR notation.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub subnet: String,
    /// The part of it that dynamic addresses come from: in CIDR notation, or the first and the last address as `FIRST-LAST`.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub ip_range: String,
    /// The gateway's address.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub gateway: String,
    /// Addresses, by name, that are never handed out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// The name of the network that a configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// The network's name; empty if there is none.
    #[serde(deserialize_with = "null_is_default")]
    pub network: String,
}

/// The body of `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    /// The new network's name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// The driver; empty means `bridge`.
    #[serde(deserialize_with = "null_is_default")]
    pub driver: String,
    /// `local` or empty.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub scope: String,
    /// No way out, no way in.
    #[serde(deserialize_with = "null_is_default")]
    pub internal: bool,
    /// Swarm only, without effect on a local network.
    #[serde(deserialize_with = "null_is_default")]
    pub attachable: bool,
    /// Swarm only.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub ingress: bool,
    /// Make a configuration, not a network.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub config_only: bool,
    /// Take the configuration of this network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_from: Option<ConfigReference>,
    /// Subnets and gateways; none means "from the pools".
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// IPv4 addresses; absent means yes.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// IPv6 addresses; absent means no.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// The driver's options.
    #[serde(deserialize_with = "null_is_default")]
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

/// The answer to `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    /// The new network's id.
    pub id: String,
    /// What the user should know; mostly empty.
    pub warning: String,
}

/// The answer to `POST /networks/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneResponse {
    /// The names of the networks that were removed.
    #[serde(deserialize_with = "null_is_default")]
    pub networks_deleted: Vec<String>,
}

/// The body of `POST /networks/{id}/connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConnectRequest {
    /// The container's name or id.
    #[serde(deserialize_with = "null_is_default")]
    pub container: String,
    /// What the container wishes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// The body of `POST /networks/{id}/disconnect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct DisconnectRequest {
    /// The container's name or id.
    #[serde(deserialize_with = "null_is_default")]
    pub container: String,
    /// Also when the container is gone.
    #[serde(deserialize_with = "null_is_default")]
    pub force: bool,
}
