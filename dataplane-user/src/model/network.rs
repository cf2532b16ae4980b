//! A network: a bridge or an interface of the host with its subnets, or one of the two predefined nets without addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AddressRange, BridgeOptions, Engine, GatewayMode, Id, MacvlanOptions, Named};

/// What carries the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge and our eBPF programs.
    #[default]
    Bridge,
    /// Interfaces with addresses of their own on an interface of the host; our programs have no part in it.
    Macvlan,
    /// The host's own namespace.
    Host,
    /// Nothing but loopback.
    Null,
}

impl Driver {
    /// The name as Docker spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }

    /// Whether containers have endpoints on such networks.
    pub fn is_joined(self) -> bool {
        !matches!(self, Driver::Host | Driver::Null)
    }
}

/// How far the network reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This host.
    Local,
}

impl Scope {
    /// The name as Docker spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Local => "local",
        }
    }
}

/// One subnet of a network. Its rules are checked by `ipam` before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The masked prefix.
    pub subnet: IpNet,
    /// Where dynamic addresses come from; the whole subnet if not given.
    pub ip_range: Option<AddressRange>,
    /// Where the containers' default routes lead: the bridge's own address in it, unless an option says that it has none.
    /// Nothing where nobody needs a gateway.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never handed out, by name.
    pub aux: BTreeMap<String, IpAddr>,
}

/// A network as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its identifier.
    pub id: Id,
    /// Its name, unique on this host.
    pub name: String,
    /// What carries it.
    pub driver: Driver,
    /// How far it reaches.
    pub scope: Scope,
    /// When it was made.
    pub created: Timestamp,
    /// No way to or from outside.
    pub internal: bool,
    /// Containers get IPv4 addresses.
    pub enable_ipv4: bool,
    /// Containers get IPv6 addresses.
    pub enable_ipv6: bool,
    /// At most one subnet per address family.
    pub subnets: Vec<Subnet>,
    /// The driver options as they were given.
    pub options: BTreeMap<String, String>,
    /// The driver options, parsed and with defaults.
    pub bridge_options: BridgeOptions,
    /// The same of a macvlan network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macvlan: Option<MacvlanOptions>,
    /// The engine that asked for it and gives its containers their addresses; none if we do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Labels as they were given.
    pub labels: BTreeMap<String, String>,
    /// The Linux bridge's name; empty for other drivers.
    pub bridge: String,
    /// The network's slot in the data plane; 0 for other drivers.
    pub slot: u16,
}

impl Network {
    /// Names of the networks that always exist and cannot be removed.
    pub const PREDEFINED: [&'static str; 3] = ["bridge", "host", "none"];

    /// Whether this is one of the predefined networks.
    pub fn is_predefined(&self) -> bool {
        Self::PREDEFINED.contains(&self.name.as_str())
    }

    /// The IPv4 subnet, if there is one.
    pub fn subnet_v4(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|s| matches!(s.subnet, IpNet::V4(_)))
    }

    /// The IPv6 subnet, if there is one.
    pub fn subnet_v6(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|s| matches!(s.subnet, IpNet::V6(_)))
    }

    /// The IPv4 gateway with its prefix, if there is one.
    pub fn gateway_v4(&self) -> Option<Ipv4Addr> {
        match self.subnet_v4()?.gateway? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// The IPv6 gateway, if there is one.
    pub fn gateway_v6(&self) -> Option<Ipv6Addr> {
        match self.subnet_v6()?.gateway? {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }
    }

    /// The way to and from outside over one address family.
    pub fn gateway_mode(&self, v6: bool) -> GatewayMode {
        if v6 { self.bridge_options.gateway_mode_ipv6 } else { self.bridge_options.gateway_mode_ipv4 }
    }

    /// The addresses that the bridge itself has, each with its prefix length.
    pub fn bridge_addresses(&self) -> impl Iterator<Item = IpNet> {
        let on_bridge = |subnet: &&Subnet| {
            let v6 = subnet.subnet.addr().is_ipv6();
            let inhibited = !v6 && self.bridge_options.inhibit_ipv4;
            self.gateway_mode(v6) != GatewayMode::Isolated && !inhibited
        };
        let with_prefix = |subnet: &Subnet| Some(IpNet::new_assert(subnet.gateway?, subnet.subnet.prefix_len()));
        self.subnets.iter().filter(on_bridge).filter_map(with_prefix)
    }

    /// Whether the host has no address on the network, so that neither reaches the other.
    pub fn is_isolated(&self) -> bool {
        let isolated = |subnet: &Subnet| self.gateway_mode(subnet.subnet.addr().is_ipv6()) == GatewayMode::Isolated;
        !self.subnets.is_empty() && self.subnets.iter().all(isolated)
    }
}

impl Named for Network {
    fn id(&self) -> Id {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}
