//! What Podman is told.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{API_VERSION, Network};
use crate::api::types::attachment;

/// The output of `info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// What the plugin is.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The version of the API that it speaks.
    pub api_version: &'static str,
}

impl Default for Info {
    fn default() -> Self {
        Info { name: "spandrel", version: env!("CARGO_PKG_VERSION"), api_version: API_VERSION }
    }
}

/// The output of `setup`: what a container has got on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatusBlock {
    /// Domains in which short names are looked for.
    pub dns_search_domains: Vec<String>,
    /// Name servers.
    pub dns_server_ips: Vec<String>,
    /// By name.
    pub interfaces: BTreeMap<String, Interface>,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its Ethernet address.
    pub mac_address: String,
    /// Its addresses.
    pub subnets: Vec<Address>,
}

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Address {
    /// With the length of the subnet's prefix.
    pub ipnet: String,
    /// The subnet's gateway; none if none leads outside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
}

/// What was attached, as Podman wants to hear it.
pub fn status(network: &Network, attachment: &attachment::Attachment) -> StatusBlock {
    // Podman switches names off by itself where it gives no addresses.
    let with_names = network.dns_enabled || network.is_without_ipam();
    let resolver = if with_names { attachment.dns.clone() } else { Default::default() };
    let address =
        |has: &attachment::AttachedAddress| Address { ipnet: has.address.clone(), gateway: has.gateway.clone() };
    let interface = Interface {
        mac_address: attachment.mac_address.clone(),
        subnets: attachment.addresses.iter().map(address).collect(),
    };
    StatusBlock {
        dns_search_domains: resolver.search,
        dns_server_ips: resolver.servers,
        interfaces: BTreeMap::from([(attachment.interface.clone(), interface)]),
    }
}
