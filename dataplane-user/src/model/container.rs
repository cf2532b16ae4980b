//! A container: one command in a network namespace of its own, and its endpoints on networks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Driver, EndpointRequest, Engine, ExposedPorts, GatewayMode, Id, MacAddress, Named, Naming, Place, PortBinding,
    Protocol, PublishedPort, Sandbox,
};

/// Exit code of a container whose real one nobody saw, as when the machine was switched off.
pub const UNKNOWN_EXIT: i32 = 137;

/// What stands before a container in the network mode of those that share its network namespace.
pub const SHARED: &str = "container:";

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    /// Being made; after a crash of the agent it is taken down again.
    Created,
    /// Its command runs.
    Running {
        /// Process id of the command in the host's namespace; 0 where there is none of ours.
        pid: u32,
        /// When the command was started.
        started: Timestamp,
    },
    /// Its command has ended.
    Exited {
        /// The command's exit code, or 128 + signal.
        code: i32,
        /// When the command was started.
        started: Timestamp,
        /// When it ended.
        finished: Timestamp,
    },
}

impl State {
    /// The word that Docker uses for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running { .. } => "running",
            State::Exited { .. } => "exited",
        }
    }
}

/// A container's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its identifier.
    pub id: Id,
    /// The network's identifier.
    pub network: Id,
    /// The network's name (networks are never renamed).
    pub network_name: String,
    /// Its slot in the data plane.
    pub slot: u32,
    /// What carries the network.
    #[serde(default)]
    pub driver: Driver,
    /// The network has no way to outside.
    pub internal: bool,
    /// The container interface's address.
    pub mac: MacAddress,
    /// IPv4 address with the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 address with the subnet's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// The IPv4 gateway; none on an internal network.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The IPv6 gateway; none on an internal network.
    pub gateway_v6: Option<Ipv6Addr>,
    /// How the network is reached over IPv4.
    #[serde(default)]
    pub mode_v4: GatewayMode,
    /// How the network is reached over IPv6.
    #[serde(default)]
    pub mode_v6: GatewayMode,
    /// Published ports are also reached at its own address, through the interfaces that the network trusts.
    #[serde(default)]
    pub trusts: bool,
    /// Interface name inside the container.
    pub interface: String,
    /// Name of the host's end of the veth; empty on a macvlan network.
    pub host_interface: String,
    /// What the user asked for, as opposed to what was chosen.
    pub requested: EndpointRequest,
}

impl Endpoint {
    /// Its addresses without prefix lengths.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        let v6 = self.ipv6.map(|net| IpAddr::V6(net.addr()));
        v4.into_iter().chain(v6)
    }

    /// Where ports can be published in one family; nowhere on an internal network and on one that is not ours to lead.
    fn place(&self, v6: bool) -> Option<Place> {
        let (gateway, address, mode) = match v6 {
            false => (self.gateway_v4.is_some(), self.ipv4.map(|net| IpAddr::V4(net.addr())), self.mode_v4),
            true => (self.gateway_v6.is_some(), self.ipv6.map(|net| IpAddr::V6(net.addr())), self.mode_v6),
        };
        address.filter(|_| gateway && self.driver == Driver::Bridge).map(|address| Place {
            endpoint: self.slot,
            address,
            mode,
        })
    }
}

/// A network that a container joins at its next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's identifier.
    pub network: Id,
    /// The network's name: another one of that name is as good, should this one have been removed.
    pub network_name: String,
    /// What the user asked for there.
    pub requested: EndpointRequest,
}

impl From<Endpoint> for Attachment {
    fn from(endpoint: Endpoint) -> Self {
        Attachment { network: endpoint.network, network_name: endpoint.network_name, requested: endpoint.requested }
    }
}

/// A container as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its identifier.
    pub id: Id,
    /// Its name, unique on this host.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The command's environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// The directory in which the command starts.
    pub working_dir: String,
    /// Forget it when its command ends.
    pub auto_remove: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Where it is in its life.
    pub state: State,
    /// The network that it was started on, or `container:` and the id of the container whose network it shares.
    pub network_mode: String,
    /// Its places on networks; empty once it has exited, on the networks `host` and `none`, and where it shares another's.
    pub endpoints: Vec<Endpoint>,
    /// The networks that it will be on; empty while it runs.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// The ports that it says it serves, in order.
    #[serde(default)]
    pub exposed: Vec<ExposedPorts>,
    /// Its published ports. They stay on record after the exit, but are free then.
    pub ports: Vec<PortBinding>,
    /// What was asked for in the files in which its resolver looks.
    #[serde(default)]
    pub naming: Naming,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The namespace that somebody else made, where there is no command of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
}

impl Container {
    /// Whether its command runs, or its namespace is there.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Whether it lives in the host's network namespace.
    pub fn on_host_network(&self) -> bool {
        self.network_mode == "host"
    }

    /// The engine that moves our interfaces into its namespace, if there is one.
    pub fn engine(&self) -> Option<Engine> {
        self.sandbox.as_ref()?.engine
    }

    /// The container whose network namespace it shares.
    pub fn shares(&self) -> Option<Id> {
        self.network_mode.strip_prefix(SHARED)?.parse().ok()
    }

    /// All its names on the network of an endpoint, each once; the first is the one that its addresses have.
    pub fn names_on(&self, endpoint: &Endpoint) -> Vec<String> {
        let mut names = vec![self.name.clone()];
        let further = endpoint.requested.aliases.iter().cloned().chain([self.id.short(), self.hostname.clone()]);
        for name in further {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Its endpoint on a network.
    pub fn endpoint_on(&self, network: &Id) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network == *network)
    }

    /// The ports that it says it serves, and those that are published: that counts as said. Some may come twice.
    pub fn serves(&self) -> impl Iterator<Item = (u16, Protocol)> {
        let said = self.exposed.iter().flat_map(|range| range.ports().map(|port| (port, range.protocol)));
        said.chain(self.ports.iter().map(|binding| (binding.container_port, binding.protocol)))
    }

    /// Where its ports can be published: at the endpoint with the default route of each family, and at every endpoint on a
    /// routed network.
    pub fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for v6 in [false, true] {
            let gateway = default_route_endpoint(&self.endpoints, v6).map(|endpoint| endpoint.slot);
            let all = self.endpoints.iter().filter_map(|endpoint| endpoint.place(v6));
            places.extend(all.filter(|place| place.mode == GatewayMode::Routed || Some(place.endpoint) == gateway));
        }
        places
    }

    /// Its published ports with what is now in force of each.
    pub fn published(&self) -> impl Iterator<Item = (&PortBinding, Vec<PublishedPort>)> {
        let places = self.places();
        // On a routed network a container's port is one, however many host ports it was asked for on.
        let mut seen = HashSet::new();
        self.ports.iter().map(move |binding| {
            let mut entries = binding.entries(&places);
            entries.retain(|entry| entry.host_port.is_some() || seen.insert((entry.target(), entry.protocol)));
            (binding, entries)
        })
    }
}

impl Container {
    /// Its published ports as they are in force, and besides, each once, as they are reached through trusted interfaces: at
    /// the container's own address. What is published for the host alone is not.
    pub fn reachable(&self) -> impl Iterator<Item = (&PortBinding, Vec<PublishedPort>)> {
        let trusting: HashSet<u32> = self.endpoints.iter().filter(|e| e.trusts).map(|e| e.slot).collect();
        let mut seen = HashSet::new();
        self.published().map(move |(binding, mut entries)| {
            let same_family = |entry: &&PublishedPort| entry.host.is_ipv4() == entry.container.is_ipv4();
            let outward = entries.iter().filter(|entry| entry.host_port.is_some() && !entry.host.is_loopback());
            let direct = outward.filter(same_family).filter(|entry| trusting.contains(&entry.endpoint));
            let direct = direct.map(|entry| PublishedPort { host_port: None, ..*entry });
            let direct: Vec<_> = direct.filter(|entry| seen.insert((entry.target(), entry.protocol))).collect();
            entries.extend(direct);
            (binding, entries)
        })
    }
}

impl Named for Container {
    fn id(&self) -> Id {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The endpoint that carries the default route of a family: the one with the highest priority of those that lead outside, then one with both
/// families, then the first by name, as Docker chooses.
pub fn default_route_endpoint(endpoints: &[Endpoint], v6: bool) -> Option<&Endpoint> {
    endpoints.iter().filter(|e| if v6 { e.gateway_v6.is_some() } else { e.gateway_v4.is_some() }).min_by_key(|e| {
        let dual = e.gateway_v4.is_some() && e.gateway_v6.is_some();
        (Reverse(e.requested.gw_priority), !dual, &e.network_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Access;

    fn endpoint(network: &str, slot: u32, v4: Option<&str>, v6: Option<&str>, internal: bool) -> Endpoint {
        Endpoint {
            id: Id::random(),
            network: Id::random(),
            network_name: network.into(),
            slot,
            driver: Driver::Bridge,
            internal,
            mac: MacAddress::random(),
            ipv4: v4.map(|text| text.parse().unwrap()),
            ipv6: v6.map(|text| text.parse().unwrap()),
            gateway_v4: v4.filter(|_| !internal).map(|_| "10.0.0.1".parse().unwrap()),
            gateway_v6: v6.filter(|_| !internal).map(|_| "fd00::1".parse().unwrap()),
            mode_v4: GatewayMode::Nat,
            mode_v6: GatewayMode::Nat,
            trusts: false,
            interface: format!("eth{slot}"),
            host_interface: format!("veth{slot}"),
            requested: EndpointRequest::default(),
        }
    }

    fn slot(endpoints: &[Endpoint], v6: bool) -> Option<u32> {
        default_route_endpoint(endpoints, v6).map(|e| e.slot)
    }

    #[test]
    fn default_route_goes_by_dockers_order() {
        let front = endpoint("front", 1, Some("10.0.1.2/24"), None, false);
        let back = endpoint("back", 2, Some("10.0.2.2/24"), None, false);
        let dual = endpoint("zoo", 3, Some("10.0.3.2/24"), Some("fd00::2/64"), false);
        let inside = endpoint("a", 4, Some("10.0.4.2/24"), Some("fd01::2/64"), true);
        assert_eq!(slot(&[front.clone(), inside.clone()], false), Some(1));
        assert_eq!(slot(&[front.clone(), back.clone(), inside.clone()], false), Some(2));
        let mut all = [front, back, dual, inside.clone()];
        assert_eq!((slot(&all, false), slot(&all, true)), (Some(3), Some(3)));
        assert_eq!(slot(&[inside], false), None);
        // Each family by itself: what has no way out over one of them stays behind, whatever its priority.
        all[0].requested.gw_priority = 1;
        all[3].requested.gw_priority = 9;
        assert_eq!((slot(&all, false), slot(&all, true)), (Some(1), Some(3)));
        all[1].requested.gw_priority = 2;
        all[2].requested.gw_priority = -1;
        assert_eq!((slot(&all, false), slot(&all, true)), (Some(2), Some(3)));
    }

    fn container(endpoints: Vec<Endpoint>, ports: Vec<PortBinding>) -> Container {
        Container {
            id: Id::random(),
            name: "web".into(),
            hostname: "web".into(),
            command: vec!["true".into()],
            env: vec![],
            working_dir: "/".into(),
            auto_remove: false,
            created: Timestamp::UNIX_EPOCH,
            state: State::Created,
            network_mode: "n".into(),
            endpoints,
            attachments: vec![],
            exposed: vec![],
            ports,
            naming: Naming::default(),
            labels: BTreeMap::new(),
            sandbox: None,
        }
    }

    #[test]
    fn names_on_a_network() {
        let mut endpoint = endpoint("n", 1, Some("10.0.1.2/24"), None, false);
        endpoint.requested.aliases = vec!["www".into(), "web".into()];
        let container = container(vec![], vec![]);
        assert_eq!(container.names_on(&endpoint), ["web".into(), "www".into(), container.id.short()]);
    }

    fn binding(host_ip: Option<&str>, host_port: u16) -> PortBinding {
        PortBinding {
            host_ip: host_ip.map(|text| text.parse().unwrap()),
            host_port,
            choice: None,
            container_port: 80,
            protocol: Protocol::Tcp,
            slot: host_port.into(),
            access: Access::default(),
        }
    }

    /// `endpoint target` of each entry, those of one binding together.
    fn published(container: &Container) -> Vec<String> {
        let shown = |entry: &PublishedPort| format!("{} {}", entry.endpoint, entry.target());
        container.published().map(|(_, entries)| entries.iter().map(shown).collect::<Vec<_>>().join(", ")).collect()
    }

    #[test]
    fn published_ports_follow_the_families() {
        let ports = vec![binding(None, 80), binding(Some("127.0.0.1"), 81), binding(Some("::1"), 82)];
        let both = endpoint("n", 1, Some("10.0.1.2/24"), Some("fd00::2/64"), false);
        let mut container = container(vec![both], ports);
        assert_eq!(published(&container), ["1 0.0.0.0:80, 1 [::]:80", "1 127.0.0.1:81", "1 [::1]:82"]);
        container.endpoints = vec![endpoint("n", 1, None, Some("fd00::2/64"), false)];
        assert_eq!(published(&container), ["1 [::]:80", "", "1 [::1]:82"]);
        container.endpoints = vec![endpoint("n", 1, Some("10.0.1.2/24"), None, true)];
        assert_eq!(published(&container), ["", "", ""]);
    }

    #[test]
    fn trusted_interfaces_reach_published_ports_at_the_containers_address() {
        let ports = vec![binding(None, 80), binding(None, 81), binding(Some("127.0.0.1"), 82)];
        let mut container = container(vec![endpoint("n", 1, Some("10.0.1.2/24"), None, false)], ports);
        let reachable = |container: &Container| {
            let shown = |entry: &PublishedPort| entry.target().to_string();
            let each =
                container.reachable().map(|(_, entries)| entries.iter().map(shown).collect::<Vec<_>>().join(", "));
            each.collect::<Vec<_>>()
        };
        assert_eq!(reachable(&container), ["0.0.0.0:80, [::]:80", "0.0.0.0:81, [::]:81", "127.0.0.1:82"]);
        container.endpoints[0].trusts = true;
        assert_eq!(reachable(&container), ["0.0.0.0:80, [::]:80, 10.0.1.2:80", "0.0.0.0:81, [::]:81", "127.0.0.1:82"]);
        container.endpoints[0].mode_v4 = GatewayMode::Routed;
        assert_eq!(reachable(&container), ["10.0.1.2:80", "", ""]);
    }

    #[test]
    fn published_ports_follow_the_default_route() {
        let v4 = endpoint("b", 1, Some("10.0.1.2/24"), None, false);
        let v6 = endpoint("c", 2, None, Some("fd00::2/64"), false);
        let mut container = container(vec![v4.clone(), v6.clone()], vec![binding(None, 80)]);
        assert_eq!(published(&container), ["1 0.0.0.0:80, 2 [::]:80"]);
        // A routed network's containers are reached there whichever way their default route goes.
        let mut routed = endpoint("d", 3, Some("10.0.3.2/24"), None, false);
        routed.mode_v4 = GatewayMode::Routed;
        container.endpoints.push(routed.clone());
        assert_eq!(published(&container), ["1 0.0.0.0:80, 3 10.0.3.2:80, 2 [::]:80"]);
        // There two host ports are one.
        container.endpoints = vec![routed];
        container.ports.push(binding(None, 81));
        assert_eq!(published(&container), ["3 10.0.3.2:80", ""]);
    }
}
