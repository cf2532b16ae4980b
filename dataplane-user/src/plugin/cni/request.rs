//! From a call to what the agent is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::config::{Bandwidth, PortMapping, is_default};
use super::{Call, Code, Config, Error, Ipam, Outcome, Route};
use crate::api::types::attachment::{AttachRequest, AttachedRoute};
use crate::api::types::endpoint::{EndpointIpamConfig, EndpointSettings};
use crate::api::types::network::{CreateRequest, Ipam as NetworkIpam, IpamConfig};
use crate::api::types::spandrel::PublishRequest;

/// The driver option for the largest packet.
const MTU: &str = "com.docker.network.driver.mtu";

/// Addresses that the agent is to give, and what a network must have for that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// The IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// The IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// The subnets that they are in, with their gateways.
    pub subnets: Vec<(IpNet, Option<IpAddr>)>,
    /// Routes through the interface, besides the default routes.
    pub routes: Vec<Route>,
}

/// Whose the interfaces are that a runtime's network has: by this they are found again.
pub fn owner(config: &Config) -> String {
    format!("cni {}", config.name)
}

fn config_error(why: String) -> Error {
    Error::new(Code::Config, why)
}

impl Endpoint {
    fn add(&mut self, address: IpAddr) -> Result<(), Error> {
        let slot = if address.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 };
        match slot.replace(address) {
            Some(other) if other != address => {
                Err(config_error(format!("an interface has one address of a family, not both {other} and {address}")))
            }
            _ => Ok(()),
        }
    }

    /// What the runtime wishes.
    pub fn wished(call: &Call, config: &Config) -> Result<Endpoint, Error> {
        let mut endpoint = Endpoint { routes: config.routes.clone(), ..Default::default() };
        for text in config.runtime.ips.iter().chain(&call.args.ips) {
            let address = text.split('/').next().unwrap_or_default().parse();
            endpoint.add(address.map_err(|_| config_error(format!("invalid address {text:?}")))?)?;
        }
        Ok(endpoint)
    }
}

/// What another plugin gave.
pub fn from_ipam(outcome: &Outcome) -> Result<Endpoint, Error> {
    let mut endpoint = Endpoint::default();
    for ip in &outcome.ips {
        let net: IpNet = ip.address.parse().map_err(|_| config_error(format!("invalid address {:?}", ip.address)))?;
        let gateway = match ip.gateway.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| config_error(format!("invalid gateway {text:?}")))?),
        };
        endpoint.add(net.addr())?;
        endpoint.subnets.push((net.trunc(), gateway));
    }
    if endpoint.subnets.is_empty() {
        return Err(config_error("the IPAM plugin gave no address".into()));
    }
    endpoint.routes = outcome.routes.iter().filter(|route| !is_default(&route.dst)).cloned().collect();
    Ok(endpoint)
}

/// What the agent is asked for at an ADD.
pub fn attach(call: &Call, config: &Config, endpoint: &Endpoint) -> AttachRequest {
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let mac = Some(config.runtime.mac.clone()).filter(|mac| !mac.is_empty()).or(call.args.mac.clone());
    AttachRequest {
        netns: call.netns.clone(),
        id: call.container.clone(),
        preferred_name: call.args.name.clone().unwrap_or_default(),
        network: config.network.clone(),
        interface: call.interface.clone(),
        endpoint: EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: text(endpoint.ipv4),
                ipv6_address: text(endpoint.ipv6),
                link_local_ips: Vec::new(),
            }),
            mac_address: mac.unwrap_or_default(),
            aliases: Some(config.runtime.aliases.clone()),
            driver_opts: Some(limits(&config.runtime.bandwidth)),
            ..Default::default()
        },
        publish: PublishRequest {
            publish: config.runtime.port_mappings.iter().filter(|m| m.host_port != 0).map(publish).collect(),
            ..Default::default()
        },
        routes: endpoint.routes.iter().map(route).collect(),
        owner: owner(config),
        ..Default::default()
    }
}

fn route(route: &Route) -> AttachedRoute {
    AttachedRoute { destination: route.dst.clone(), gateway: route.gw.clone() }
}

/// The driver options for a container's bandwidth. Runtimes that know of no burst send the largest number that they have.
fn limits(bandwidth: &Bandwidth) -> BTreeMap<String, String> {
    let Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst } = *bandwidth;
    let burst = |bits: u64| if bits < i32::MAX as u64 { bits } else { 0 };
    let options = [
        ("spandrel.ingress_rate", ingress_rate),
        ("spandrel.ingress_burst", burst(ingress_burst)),
        ("spandrel.egress_rate", egress_rate),
        ("spandrel.egress_burst", burst(egress_burst)),
    ];
    options.into_iter().filter(|(_, bits)| *bits != 0).map(|(key, bits)| (key.to_owned(), bits.to_string())).collect()
}

/// A published port as `-p` takes it.
fn publish(mapping: &PortMapping) -> String {
    let host = match mapping.host_ip.as_str() {
        "" => String::new(),
        ip if ip.contains(':') => format!("[{ip}]:"),
        ip => format!("{ip}:"),
    };
    let protocol = match mapping.protocol.to_ascii_lowercase() {
        protocol if protocol.is_empty() => "tcp".into(),
        protocol => protocol,
    };
    format!("{host}{}:{}/{protocol}", mapping.host_port, mapping.container_port)
}

/// The network that an ADD needs and does not find. `given` is what another plugin gave, if one gives addresses.
pub fn create_network(config: &Config, given: Option<&Endpoint>) -> Result<CreateRequest, Error> {
    let subnets: Vec<IpamConfig> = match (given, &config.ipam) {
        (Some(given), _) => {
            let subnet = |(subnet, gateway): &(IpNet, Option<IpAddr>)| IpamConfig {
                subnet: subnet.to_string(),
                gateway: gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
                ..Default::default()
            };
            given.subnets.iter().map(subnet).collect()
        }
        (None, Ipam::Own(subnets)) => {
            let subnet = |subnet: &super::config::Subnet| {
                Ok(IpamConfig {
                    subnet: subnet.subnet.clone(),
                    gateway: subnet.gateway.clone(),
                    ip_range: subnet.range()?,
                    ..Default::default()
                })
            };
            subnets.iter().map(subnet).collect::<Result<_, Error>>()?
        }
        (None, Ipam::Plugin(_)) => Vec::new(),
    };
    let has = |v6: bool| subnets.iter().any(|config| config.subnet.contains(':') == v6);
    let mut options = config.create.options.clone();
    if let Some(mtu) = config.create.mtu {
        options.insert(MTU.into(), mtu.to_string());
    }
    Ok(CreateRequest {
        name: config.network.clone(),
        internal: config.create.internal,
        enable_ipv4: Some(subnets.is_empty() || has(false)),
        enable_ipv6: Some(has(true) || config.create.ipv6 && given.is_none()),
        ipam: Some(NetworkIpam { config: subnets, ..Default::default() }),
        options,
        ..Default::default()
    })
}
