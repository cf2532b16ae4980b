//! From the protocol's options to the agent's own requests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::types::{CreateEndpoint, CreateNetwork, IpamData, Options, PortBinding, TransportPort};
use crate::model::{
    AccessRequest, EndpointRequest, Engine, Error, ExposedPorts, HandoverRequest, HostPort, Id, IpamConfig,
    NetworkCreate, PortRequest, Protocol, Result,
};

/// What stands before a network's driver options.
const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const PORTMAP: &str = "com.docker.network.portmap";
const EXPOSED: &str = "com.docker.network.endpoint.exposedports";

/// A network. Docker does not say what it is called; until that is known it is called after its id.
pub(super) fn network(call: CreateNetwork) -> Result<NetworkCreate> {
    let id: Id = call.network_id.parse()?;
    let options = call.options.unwrap_or_default();
    let v6 = flag(&options, ENABLE_IPV6)?;
    let blocks = |data: Option<Vec<IpamData>>| data.unwrap_or_default().into_iter().map(subnet);
    Ok(NetworkCreate {
        name: format!("{}-{}", Engine::Docker.as_str(), id.short()),
        ipam: blocks(call.ipv4).chain(blocks(call.ipv6)).collect::<Result<_>>()?,
        internal: flag(&options, INTERNAL)?.unwrap_or_default(),
        enable_ipv4: flag(&options, ENABLE_IPV4)?,
        enable_ipv6: v6,
        options: generic(&options)?,
        engine: Some((Engine::Docker, id)),
        ..NetworkCreate::default()
    })
}

/// A subnet. Other drivers' address management may have none to give.
fn subnet(data: IpamData) -> Result<IpamConfig> {
    let pool = data.pool;
    if pool.parse::<IpNet>().is_ok_and(|net| net.prefix_len() == 0) {
        return Err(Error::Invalid(
            "the network has no subnet: choose another IPAM driver than null, such as --ipam-driver spandrel".into(),
        ));
    }
    Ok(IpamConfig {
        subnet: Some(pool),
        ip_range: None,
        gateway: given(address(&data.gateway).to_owned()),
        aux: data
            .aux_addresses
            .unwrap_or_default()
            .into_iter()
            .map(|(name, text)| (name, address(&text).to_owned()))
            .collect(),
    })
}

/// Driver options as the command line has them. Other programs may send numbers and truth values.
fn generic(options: &Options) -> Result<BTreeMap<String, String>> {
    match options.get(GENERIC) {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(options)) => Ok(options.iter().map(|(name, value)| (name.clone(), plain(value))).collect()),
        Some(other) => Err(invalid(GENERIC, other)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An endpoint.
pub(super) fn endpoint(call: &CreateEndpoint) -> Result<HandoverRequest> {
    let options = call.options.clone().unwrap_or_default();
    let interface = call.interface.clone().unwrap_or_default();
    let exposed: Vec<TransportPort> = list(&options, EXPOSED)?;
    let exposed = exposed
        .into_iter()
        .map(|TransportPort { proto, port }| Ok(ExposedPorts { first: port, last: port, protocol: protocol(proto)? }));
    let mut exposed: Vec<ExposedPorts> = exposed.collect::<Result<_>>()?;
    exposed.sort();
    exposed.dedup();
    Ok(HandoverRequest {
        engine: Engine::Docker,
        id: call.endpoint_id.parse()?,
        network: call.network_id.parse()?,
        endpoint: EndpointRequest::parse(
            address(&interface.address),
            address(&interface.address_ipv6),
            &interface.mac_address,
        )?,
        exposed,
    })
}

/// The ports that are to be published.
pub(super) fn ports(options: &Options) -> Result<Vec<PortRequest>> {
    let bindings: Vec<PortBinding> = list(options, PORTMAP)?;
    bindings.iter().map(port).collect()
}

fn port(binding: &PortBinding) -> Result<PortRequest> {
    let host_ip = match binding.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse::<IpAddr>().map_err(|_| Error::Invalid(format!("invalid host address {text:?} of a port")))?,
        ),
    };
    Ok(PortRequest {
        host_ip,
        host_port: match (binding.host_port, binding.host_port_end) {
            (0, _) => HostPort::Any,
            (first, last) if last > first => HostPort::Range(first, last),
            (port, _) => HostPort::Fixed(port),
        },
        container_port: binding.port,
        protocol: protocol(binding.proto)?,
        access: AccessRequest::default(),
    })
}

fn protocol(number: u8) -> Result<Protocol> {
    match i32::from(number) {
        libc::IPPROTO_TCP => Ok(Protocol::Tcp),
        libc::IPPROTO_UDP => Ok(Protocol::Udp),
        libc::IPPROTO_SCTP => Ok(Protocol::Sctp),
        _ => Err(Error::Invalid(format!("ports of protocol {number} cannot be published: TCP, UDP and SCTP can"))),
    }
}

/// An address without the prefix length that follows it.
pub(super) fn address(text: &str) -> &str {
    text.split_once('/').map_or(text, |(address, _)| address)
}

/// An empty string is "not given".
pub(super) fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn flag(options: &Options, name: &str) -> Result<Option<bool>> {
    match options.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| invalid(name, &Value::String(text.clone()))),
        Some(other) => Err(invalid(name, other)),
    }
}

fn list<T: DeserializeOwned>(options: &Options, name: &str) -> Result<Vec<T>> {
    match options.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|_| invalid(name, value)),
    }
}

fn invalid(name: &str, value: &Value) -> Error {
    Error::Invalid(format!("Docker's option {name} has a value that makes no sense: {value}"))
}
