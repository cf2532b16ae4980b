//! The configuration of a call: what the administrator wrote, and what the runtime put into it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Code, Dns, Error, Outcome, Route, TYPE, Version};
use crate::model::{AddressRange, check_name};

/// A configuration that can be acted upon.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The version that the runtime speaks.
    pub version: Version,
    /// The name of the runtime's network.
    pub name: String,
    /// The name of our network; the runtime's unless told otherwise.
    pub network: String,
    /// The agent's socket, if it is not at its usual place.
    pub socket: Option<PathBuf>,
    /// How the network is to be made when it is not there.
    pub create: Create,
    /// Who gives addresses.
    pub ipam: Ipam,
    /// Routes through the interface, besides the default routes.
    pub routes: Vec<Route>,
    /// What a resolver is to be told in the place of what we would say.
    pub dns: Option<Dns>,
    /// What the runtime wishes for this container.
    pub runtime: Runtime,
    /// What the plugins before this one, or at a DEL or CHECK all of them, have done.
    pub previous: Option<Outcome>,
    /// GC: the attachments that are to stay.
    pub valid: Vec<Attachment>,
}

/// How a network is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Create {
    /// No way to or from outside.
    pub internal: bool,
    /// Addresses of both families.
    pub ipv6: bool,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// Docker's driver options.
    pub options: BTreeMap<String, String>,
}

/// Who gives addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipam {
    /// We do, from these subnets, or from the agent's pools if there are none.
    Own(Vec<Subnet>),
    /// That plugin does.
    Plugin(String),
}

/// A subnet that the administrator chose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subnet {
    /// As a CIDR.
    pub subnet: String,
    /// The bridge's address.
    pub gateway: String,
    /// Where dynamic addresses come from, as a CIDR.
    pub ip_range: String,
    /// host-local's way to say that: the first of them, and the last.
    range_start: String,
    range_end: String,
}

impl Subnet {
    /// Where dynamic addresses come from, as a network is told; empty if from the whole subnet.
    pub fn range(&self) -> Result<String, Error> {
        let config = |why: String| Error::new(Code::Config, format!("ipam: {why}"));
        if self.range_start.is_empty() && self.range_end.is_empty() {
            return Ok(self.ip_range.clone());
        }
        if !self.ip_range.is_empty() {
            return Err(config(format!("ipRange {} is given as well as rangeStart or rangeEnd", self.ip_range)));
        }
        let subnet: IpNet =
            self.subnet.parse().map_err(|_| config(format!("invalid subnet {:?}: a CIDR is expected", self.subnet)))?;
        let bound = |key: &str, text: &str, default: IpAddr| match text {
            "" => Ok(default),
            text => text.parse().map_err(|_| config(format!("invalid {key} {text:?}: an address is expected"))),
        };
        let first = bound("rangeStart", &self.range_start, subnet.network())?;
        let last = bound("rangeEnd", &self.range_end, subnet.broadcast())?;
        let range = AddressRange::new(first, last).filter(|range| range.is_within(&subnet));
        range.map(|range| range.to_string()).ok_or_else(|| {
            config(format!("rangeStart {first} and rangeEnd {last} are not two addresses of {subnet} in this order"))
        })
    }
}

/// What the runtime wishes for one container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Runtime {
    /// Published ports.
    #[serde(deserialize_with = "nullable")]
    pub port_mappings: Vec<PortMapping>,
    /// Addresses.
    #[serde(deserialize_with = "nullable")]
    pub ips: Vec<String>,
    /// The Ethernet address.
    #[serde(deserialize_with = "nullable")]
    pub mac: String,
    /// Further names.
    #[serde(deserialize_with = "aliases")]
    pub aliases: Vec<String>,
    /// How fast it may be.
    #[serde(deserialize_with = "nullable")]
    pub bandwidth: Bandwidth,
}

/// How fast a container may be, from its point of view; 0 is no limit. Keys as in [`PortMapping`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// What it receives, bits per second.
    #[serde(alias = "IngressRate")]
    pub ingress_rate: u64,
    /// What may pass at once, bits.
    #[serde(alias = "IngressBurst")]
    pub ingress_burst: u64,
    /// What it sends, bits per second.
    #[serde(alias = "EgressRate")]
    pub egress_rate: u64,
    /// What may pass at once, bits.
    #[serde(alias = "EgressBurst")]
    pub egress_burst: u64,
}

/// A published port. Runtimes written in Go may leave its keys as they are in their source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    /// The port of the host; none if it is 0.
    #[serde(alias = "HostPort")]
    pub host_port: u16,
    /// The port of the container.
    #[serde(alias = "ContainerPort")]
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp` in either case; `tcp` if it is empty.
    #[serde(alias = "Protocol", deserialize_with = "nullable")]
    pub protocol: String,
    /// The host's address; all of them if it is empty.
    #[serde(rename = "hostIP", alias = "HostIP", alias = "hostIp", deserialize_with = "nullable")]
    pub host_ip: String,
}

/// An interface of a container, as a runtime names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container: String,
    /// The interface.
    #[serde(rename = "ifname")]
    pub interface: String,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    name: String,
    network: Option<String>,
    socket: Option<PathBuf>,
    #[serde(flatten)]
    create: Create,
    ipam: Option<RawIpam>,
    dns: Option<Dns>,
    #[serde(default, deserialize_with = "nullable")]
    runtime_config: Runtime,
    #[serde(default, deserialize_with = "nullable")]
    args: RawArgs,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Attachment>>,
    #[serde(rename = "cni.dev/attachments")]
    valid_before: Option<Vec<Attachment>>,
}

/// The way to wish for addresses before capabilities.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawArgs {
    cni: RawCniArgs,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCniArgs {
    ips: Vec<String>,
    mac: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawIpam {
    #[serde(rename = "type", deserialize_with = "nullable")]
    kind: String,
    ranges: Vec<Vec<Subnet>>,
    #[serde(flatten)]
    one: Subnet,
    #[serde(deserialize_with = "nullable")]
    routes: Vec<Route>,
}

/// JSON's `null` is the default.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Aliases are a list, or lists by the names of networks.
fn aliases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Map(BTreeMap<String, Vec<String>>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Either::List(list)) => list,
        Some(Either::Map(map)) => map.into_values().flatten().collect(),
    })
}

impl Config {
    /// The version that a configuration is for. Everything else may look different in another one.
    pub fn version(text: &[u8]) -> Result<Version, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(rename = "cniVersion", default)]
            version: String,
        }
        let Versioned { version } = decode(text)?;
        version.parse().map_err(|()| {
            let known = Version::ALL.map(Version::as_str).join(", ");
            let text = format!("incompatible CNI versions: config is {version:?}, plugin supports {known}");
            Error::new(Code::IncompatibleVersion, text)
        })
    }

    /// Reads and judges a configuration.
    pub fn parse(text: &[u8]) -> Result<Config, Error> {
        let version = Config::version(text)?;
        let raw: Raw = decode(text)?;
        let config = |why: String| Error::new(Code::Config, why);
        check_name("network", &raw.name).map_err(|error| config(error.to_string()))?;
        let network = raw.network.filter(|name| !name.is_empty()).unwrap_or_else(|| raw.name.clone());
        let mut runtime = raw.runtime_config;
        runtime.ips.extend(raw.args.cni.ips);
        if runtime.mac.is_empty() {
            runtime.mac = raw.args.cni.mac;
        }
        if let Some(wrong) = runtime.port_mappings.iter().find(|mapping| mapping.container_port == 0) {
            return Err(config(format!("portMappings: the container port of host port {} is 0", wrong.host_port)));
        }
        let raw_ipam = raw.ipam.unwrap_or_default();
        let routes = raw_ipam.routes.iter().filter(|route| !is_default(&route.dst)).cloned().collect();
        Ok(Config {
            version,
            network,
            socket: raw.socket,
            create: raw.create,
            ipam: ipam(raw_ipam),
            routes,
            dns: raw.dns.filter(|dns| *dns != Dns::default()),
            previous: raw.prev_result.map(Outcome::from_json).transpose()?,
            valid: raw.valid.or(raw.valid_before).unwrap_or_default(),
            name: raw.name,
            runtime,
        })
    }
}

fn ipam(raw: RawIpam) -> Ipam {
    if !matches!(raw.kind.as_str(), "" | TYPE) {
        return Ipam::Plugin(raw.kind);
    }
    let mut subnets: Vec<Subnet> = raw.ranges.into_iter().flatten().collect();
    if !raw.one.subnet.is_empty() {
        subnets.insert(0, raw.one);
    }
    Ipam::Own(subnets)
}

/// Whether a route leads everywhere.
pub(super) fn is_default(destination: &str) -> bool {
    matches!(destination, "0.0.0.0/0" | "::/0")
}

fn decode<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, Error> {
    serde_json::from_slice(text)
        .map_err(|error| Error::new(Code::Decode, format!("cannot read the network configuration: {error}")))
}
