//! Namespaces that somebody else made, on our networks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::PortMap;
use super::endpoint::EndpointSettings;
use super::null_is_default;
use super::spandrel::PublishRequest;

/// The body of `POST /spandrel/attachments`: a network namespace is to get an interface on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachRequest {
    /// The namespace: an absolute path, a name of `ip netns`, or a process id.
    #[serde(deserialize_with = "null_is_default")]
    #[schema(example = "/run/netns/web")]
    pub netns: String,
    /// What its owner calls it, such as a runtime's container id; the container's name if empty. Further interfaces of the namespace have
    /// the same one, or none.
    #[serde(rename = "ID", deserialize_with = "null_is_default")]
    pub id: String,
    /// The container's name, which nobody else may have; empty means "any".
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// The container's name unless somebody else has it.
    #[serde(deserialize_with = "null_is_default")]
    pub preferred_name: String,
    /// The network by name or id.
    #[serde(deserialize_with = "null_is_default")]
    pub network: String,
    /// The new interface's name; empty means the network's prefix and the lowest number that is free.
    #[serde(deserialize_with = "null_is_default")]
    pub interface: String,
    /// Addresses and names that are wished for.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoint: EndpointSettings,
    /// Routes through the interface, besides the default routes.
    #[serde(deserialize_with = "null_is_default")]
    pub routes: Vec<AttachedRoute>,
    /// Ports to publish.
    #[serde(flatten)]
    pub publish: PublishRequest,
    /// Who asks, in words of their own: by them their interfaces are found again.
    #[serde(deserialize_with = "null_is_default")]
    pub owner: String,
    /// Labels of the container, when this is its first interface.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

/// An interface that was attached, with everything that a runtime has to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attachment {
    /// What the namespace's owner calls it.
    #[serde(rename = "ID")]
    pub id: String,
    /// The id of the container that stands for it, 64 hexadecimal digits.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// The container's name.
    pub name: String,
    /// The file of the namespace.
    pub netns: String,
    /// Who attached it.
    pub owner: String,
    /// The network's name.
    pub network: String,
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The interface's name in the namespace.
    pub interface: String,
    /// Its MAC address.
    pub mac_address: String,
    /// The largest packet that it carries; 0 if that is its parent's.
    #[serde(rename = "MTU")]
    pub mtu: u32,
    /// The host's end of the veth; empty on a macvlan network, like the next three.
    pub host_interface: String,
    /// The MAC address of the host's end.
    pub host_mac_address: String,
    /// The network's bridge.
    pub bridge: String,
    /// The bridge's MAC address.
    pub bridge_mac_address: String,
    /// Its addresses.
    pub addresses: Vec<AttachedAddress>,
    /// The routes that lead through it, but for its own subnets'.
    pub routes: Vec<AttachedRoute>,
    /// What a resolver in the namespace is to be told.
    #[serde(rename = "DNS")]
    pub dns: AttachedResolver,
    /// The published ports that came with it.
    #[serde(deserialize_with = "null_is_default")]
    pub ports: PortMap,
    /// What the user should know.
    #[serde(deserialize_with = "null_is_default")]
    pub warnings: Vec<String>,
}

/// An address of an attached interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedAddress {
    /// With the length of the subnet's prefix.
    pub address: String,
    /// The subnet's gateway; empty if none leads outside.
    pub gateway: String,
}

/// A route through an attached interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedRoute {
    /// Where it leads.
    pub destination: String,
    /// The next hop; the network's gateway if empty.
    pub gateway: String,
}

/// What a resolver is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedResolver {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// The answer to `GET /spandrel/attachments/{ref}/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Check {
    /// What is not as it should be, a sentence each; empty if all is well.
    pub faults: Vec<String>,
}
