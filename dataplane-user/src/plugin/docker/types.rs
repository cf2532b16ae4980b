//! The protocol's objects, in its own spelling. What dockerd leaves out is empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Options by name; a value is what the call's option has.
pub(super) type Options = Map<String, Value>;

/// A call that says nothing, or an answer that does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Nothing {}

/// The answer to `Plugin.Activate`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Activated {
    pub(super) implements: [&'static str; 2],
}

/// The answer to `NetworkDriver.GetCapabilities`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DriverCapabilities {
    pub(super) scope: &'static str,
    pub(super) connectivity_scope: &'static str,
}

/// `NetworkDriver.CreateNetwork`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network_id: String,
    pub(super) options: Option<Options>,
    #[serde(rename = "IPv4Data")]
    pub(super) ipv4: Option<Vec<IpamData>>,
    #[serde(rename = "IPv6Data")]
    pub(super) ipv6: Option<Vec<IpamData>>,
}

/// A subnet of a network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct IpamData {
    pub(super) pool: String,
    /// With the subnet's prefix length.
    pub(super) gateway: String,
    /// By name, with the subnet's prefix length.
    pub(super) aux_addresses: Option<BTreeMap<String, String>>,
}

/// Calls about a network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct OfNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network_id: String,
}

/// The answer to `NetworkDriver.AllocateNetwork`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Allocated {
    pub(super) options: BTreeMap<String, String>,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network_id: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint_id: String,
    pub(super) interface: Option<Interface>,
    pub(super) options: Option<Options>,
}

/// What an endpoint has, or, in an answer, gets. Addresses have the subnet's prefix length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Interface {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) address: String,
    #[serde(rename = "AddressIPv6", skip_serializing_if = "String::is_empty")]
    pub(super) address_ipv6: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) mac_address: String,
}

/// The answer to `NetworkDriver.CreateEndpoint`: what the call left open, and nothing else.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreatedEndpoint {
    pub(super) interface: Interface,
}

/// Calls about an endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OfEndpoint {
    #[serde(rename = "EndpointID")]
    pub(super) endpoint_id: String,
    pub(super) options: Option<Options>,
}

/// The answer to `NetworkDriver.EndpointOperInfo`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OperInfo {
    pub(super) value: BTreeMap<String, String>,
}

/// `NetworkDriver.Join`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Join {
    #[serde(rename = "EndpointID")]
    pub(super) endpoint_id: String,
    pub(super) sandbox_key: String,
}

/// The answer to `NetworkDriver.Join`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Joined {
    pub(super) interface_name: InterfaceName,
    pub(super) gateway: String,
    #[serde(rename = "GatewayIPv6")]
    pub(super) gateway_ipv6: String,
    pub(super) static_routes: [(); 0],
    /// Nobody needs Docker's own bridge for the way out.
    pub(super) disable_gateway_service: bool,
}

/// Which interface is to be moved, and what it is to be called before a number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InterfaceName {
    pub(super) src_name: String,
    pub(super) dst_prefix: String,
}

/// A port that is to be published.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PortBinding {
    /// An IP protocol number.
    pub(super) proto: u8,
    /// The container's.
    pub(super) port: u16,
    #[serde(rename = "HostIP")]
    pub(super) host_ip: String,
    /// 0 is any.
    pub(super) host_port: u16,
    /// The last one of a range; 0 if there is none.
    pub(super) host_port_end: u16,
}

/// A port that a container serves.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TransportPort {
    /// An IP protocol number.
    pub(super) proto: u8,
    pub(super) port: u16,
}

/// The answer to `IpamDriver.GetCapabilities`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IpamCapabilities {
    #[serde(rename = "RequiresMACAddress")]
    pub(super) requires_mac_address: bool,
    pub(super) requires_request_replay: bool,
}

/// The answer to `IpamDriver.GetDefaultAddressSpaces`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AddressSpaces {
    pub(super) local_default_address_space: &'static str,
    pub(super) global_default_address_space: &'static str,
}

/// `IpamDriver.RequestPool`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RequestPool {
    pub(super) pool: String,
    pub(super) sub_pool: String,
    pub(super) v6: bool,
}

/// Its answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pool {
    #[serde(rename = "PoolID")]
    pub(super) pool_id: String,
    pub(super) pool: String,
    pub(super) data: BTreeMap<String, String>,
}

/// `IpamDriver.ReleasePool`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct OfPool {
    #[serde(rename = "PoolID")]
    pub(super) pool_id: String,
}

/// `IpamDriver.RequestAddress` and `IpamDriver.ReleaseAddress`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OfAddress {
    #[serde(rename = "PoolID")]
    pub(super) pool_id: String,
    pub(super) address: String,
    pub(super) options: Option<Options>,
}

/// The answer to `IpamDriver.RequestAddress`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Address {
    /// With the subnet's prefix length.
    pub(super) address: String,
    pub(super) data: BTreeMap<String, String>,
}
