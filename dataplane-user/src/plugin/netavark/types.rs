//! What Podman and netavark send.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::types::null_is_default;

/// A network as Podman has it on record: the input and the output of `create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its driver: the plugin's name.
    pub driver: String,
    /// The bridge's name, if it was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub network_interface: String,
    /// Its subnets.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub subnets: Vec<Subnet>,
    /// Routes besides the default ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub routes: Vec<Value>,
    /// Whether it has IPv6 addresses.
    #[serde(default)]
    pub ipv6_enabled: bool,
    /// Whether it has no way outside.
    #[serde(default)]
    pub internal: bool,
    /// Whether containers find each other by name.
    #[serde(default)]
    pub dns_enabled: bool,
    /// Name servers to ask for what the network does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub network_dns_servers: Vec<String>,
    /// The user's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub options: BTreeMap<String, String>,
    /// Who gives addresses: Podman unless `driver` is `none`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub ipam_options: BTreeMap<String, String>,
    /// What else there is.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Network {
    /// Whether the agent gives the addresses, and not Podman.
    pub fn is_without_ipam(&self) -> bool {
        self.ipam_options.get("driver").is_some_and(|driver| driver == "none")
    }
}

/// A subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    /// In CIDR notation.
    pub subnet: String,
    /// The bridge's address.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub gateway: String,
    /// What else there is, such as the range that Podman takes addresses from.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The input of `setup` and `teardown`: a container and the network that it is to join or to leave.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Setup {
    /// Podman's id of it.
    pub container_id: String,
    /// Podman's name of it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub container_name: String,
    /// Its published ports, the same ones for each of its networks.
    #[serde(default, deserialize_with = "null_is_default")]
    pub port_mappings: Vec<PortMapping>,
    /// The network.
    pub network: Network,
    /// What it is to have there.
    pub network_options: Attachment,
}

/// What a container is to have on a network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Attachment {
    /// The interface's name in the namespace.
    pub interface_name: String,
    /// Addresses that Podman or the user chose.
    #[serde(default, deserialize_with = "null_is_default")]
    pub static_ips: Vec<String>,
    /// The Ethernet address that the user chose.
    #[serde(default, deserialize_with = "null_is_default")]
    pub static_mac: String,
    /// Further names.
    #[serde(default, deserialize_with = "null_is_default")]
    pub aliases: Vec<String>,
    /// Further wishes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub options: BTreeMap<String, String>,
}

/// Published ports in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PortMapping {
    /// The host's address; all of them if it is empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub host_ip: String,
    /// The first port of the host.
    pub host_port: u16,
    /// The first port of the container.
    pub container_port: u16,
    /// How many there are; 0 is 1.
    #[serde(default, deserialize_with = "null_is_default")]
    pub range: u16,
    /// `tcp`, `udp` or `sctp`, or several of them with commas between; `tcp` if it is empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub protocol: String,
}
