//! From what Podman sends to what the agent is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Network, PortMapping, Setup, Subnet};
use crate::api::types::attachment::AttachRequest;
use crate::api::types::endpoint::{EndpointIpamConfig, EndpointSettings};
use crate::api::types::network::{self, CreateRequest, Ipam, IpamConfig};
use crate::api::types::spandrel::PublishRequest;

/// The label by which a network that Podman made is known: its value is Podman's id of it.
pub const LABEL: &str = "io.podman.network";

/// What the owner of each interface that Podman attached begins with.
pub const OWNER: &str = "podman ";

/// What was asked for and cannot be, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub String);

/// Whose a container's interface on a network is.
pub fn owner(network: &str) -> String {
    format!("{OWNER}{network}")
}

/// The agent's network for one of Podman's.
pub fn create_network(network: &Network) -> Result<CreateRequest, Unsupported> {
    if !network.routes.is_empty() {
        return Err(Unsupported("routes of networks are not supported: leave --route out".into()));
    }
    if !network.network_dns_servers.is_empty() {
        let text = "name servers of networks are not supported, the host's are asked: leave --dns out, or give it to containers";
        return Err(Unsupported(text.into()));
    }
    match network.ipam_options.get("driver").map_or("", String::as_str) {
        "" | "host-local" | "none" => {}
        other => {
            let text = format!("the IPAM driver {other:?} is not supported: host-local and none are");
            return Err(Unsupported(text));
        }
    }
    let mut options = options(&network.options)?;
    if !network.network_interface.is_empty() {
        options.insert("com.docker.network.bridge.name".into(), network.network_interface.clone());
    }
    let config = |subnet: &Subnet| IpamConfig {
        subnet: subnet.subnet.clone(),
        gateway: subnet.gateway.clone(),
        ..Default::default()
    };
    let mut labels = network.labels.clone();
    labels.insert(LABEL.into(), network.id.clone());
    let has = |v6: bool| network.subnets.iter().any(|subnet| subnet.subnet.contains(':') == v6);
    Ok(CreateRequest {
        name: network.name.clone(),
        internal: network.internal,
        enable_ipv4: Some(network.subnets.is_empty() || has(false)),
        enable_ipv6: Some(network.ipv6_enabled || has(true)),
        ipam: Some(Ipam { config: network.subnets.iter().map(config).collect(), ..Default::default() }),
        options,
        labels,
        ..Default::default()
    })
}

/// Netavark's options under the names that they have here. Docker's names and our own stay.
fn options(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Unsupported> {
    let mut options = BTreeMap::new();
    for (key, value) in given {
        let name = match (key.as_str(), value.as_str()) {
            // Networks are strictly isolated.
            ("isolate", "true" | "1" | "strict") | ("mtu", "0") => continue,
            ("isolate", _) => {
                let text = format!(
                    "the option isolate={value} is not supported: networks are always isolated from each other"
                );
                return Err(Unsupported(text));
            }
            ("mtu", _) => "com.docker.network.driver.mtu",
            ("outbound_addr4", _) => "com.docker.network.host_ipv4",
            ("outbound_addr6", _) => "com.docker.network.host_ipv6",
            (name, _) if name.starts_with("com.docker.network.") || name.starts_with("spandrel.") => name,
            (name, _) => {
                let known = "isolate, mtu, outbound_addr4, outbound_addr6, com.docker.network.… and spandrel.… are";
                return Err(Unsupported(format!("the option {name} is not supported: {known}")));
            }
        };
        options.insert(name.to_owned(), value.clone());
    }
    Ok(options)
}

/// Podman's network with what the agent chose.
pub fn fill(mut network: Network, made: &network::Network) -> Network {
    network.ipv6_enabled = made.enable_ipv6;
    if network.is_without_ipam() {
        return network;
    }
    let subnet = |config: &IpamConfig| {
        let asked = network.subnets.iter().find(|asked| asked.subnet == config.subnet).cloned();
        let asked = asked.unwrap_or_else(|| Subnet { subnet: config.subnet.clone(), ..Default::default() });
        Subnet { gateway: config.gateway.clone(), ..asked }
    };
    network.subnets = made.ipam.config.iter().map(subnet).collect();
    network
}

/// Whether a network of the agent can be the one that Podman means.
pub fn check_same(network: &Network, there: &network::Network) -> Result<(), Unsupported> {
    let differs = |what: String| {
        let remedy = "remove one of the two, or give Podman's another name";
        Err(Unsupported(format!("network {} is there already and {what}: {remedy}", network.name)))
    };
    if there.driver != "bridge" {
        return differs(format!("its driver is {}", there.driver));
    }
    if there.internal != network.internal {
        return differs(format!("is {}internal", if there.internal { "" } else { "not " }));
    }
    for wanted in &network.subnets {
        let Some(here) = there.ipam.config.iter().find(|here| here.subnet == wanted.subnet) else {
            return differs(format!("has not the subnet {}", wanted.subnet));
        };
        let both = !wanted.gateway.is_empty() && !here.gateway.is_empty();
        if both && wanted.gateway != here.gateway {
            return differs(format!("its gateway is {}, not {}", here.gateway, wanted.gateway));
        }
    }
    Ok(())
}

/// What the agent is asked for when a container joins a network.
pub fn attach(setup: &Setup, netns: &str, publish: Vec<String>) -> Result<AttachRequest, Unsupported> {
    let wished = &setup.network_options;
    if let Some(option) = wished.options.keys().next() {
        return Err(Unsupported(format!("the option {option} of a container on a network is not supported")));
    }
    let (mut ipv4, mut ipv6) = (String::new(), String::new());
    for text in &wished.static_ips {
        let address: IpAddr = text.parse().map_err(|_| Unsupported(format!("invalid address {text:?}")))?;
        let slot = if address.is_ipv4() { &mut ipv4 } else { &mut ipv6 };
        if !slot.is_empty() && slot != text {
            let text = format!("an interface has one address of a family, not both {slot} and {text}");
            return Err(Unsupported(text));
        }
        slot.clone_from(text);
    }
    Ok(AttachRequest {
        netns: netns.to_owned(),
        id: setup.container_id.clone(),
        preferred_name: setup.container_name.clone(),
        network: setup.network.name.clone(),
        interface: wished.interface_name.clone(),
        endpoint: EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: ipv4,
                ipv6_address: ipv6,
                link_local_ips: Vec::new(),
            }),
            mac_address: wished.static_mac.clone(),
            // Somebody outside Podman may have the name as a container; on the network it is this one's all the same.
            aliases: Some([wished.aliases.clone(), vec![setup.container_name.clone()]].concat()),
            ..Default::default()
        },
        publish: PublishRequest { publish, ..Default::default() },
        owner: owner(&setup.network.name),
        ..Default::default()
    })
}

/// Published ports as `-p` takes them.
pub fn publishes(mappings: &[PortMapping]) -> Vec<String> {
    mappings.iter().flat_map(publish).collect()
}

fn publish(mapping: &PortMapping) -> Vec<String> {
    let host = match mapping.host_ip.as_str() {
        "" => String::new(),
        ip if ip.contains(':') => format!("[{ip}]:"),
        ip => format!("{ip}:"),
    };
    let ports = |first: u16| match mapping.range {
        0 | 1 => first.to_string(),
        count => format!("{first}-{}", u32::from(first) + u32::from(count) - 1),
    };
    let protocols = if mapping.protocol.is_empty() { "tcp" } else { &mapping.protocol };
    let one = |protocol| format!("{host}{}:{}/{protocol}", ports(mapping.host_port), ports(mapping.container_port));
    protocols.split(',').map(str::trim).map(one).collect()
}
