//! What users ask for. Text stays text where the agent is the one to judge it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    AddressRange, Bandwidth, Engine, Error, Id, Link, MacAddress, Naming, PublishRequest, Result, check_dns_name,
};

/// One subnet as it is asked for; all of it may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// The subnet as a masked CIDR; `0.0.0.0/24` or `::/64` is any free one of that size.
    pub subnet: Option<String>,
    /// Where dynamic addresses come from.
    pub ip_range: Option<String>,
    /// The bridge's address.
    pub gateway: Option<String>,
    /// Addresses that are never handed out, by name.
    pub aux: BTreeMap<String, String>,
}

impl IpamConfig {
    /// Groups the flags of `network create` by subnet, as Docker's command line does.
    pub fn from_flags(
        subnets: &[String],
        ip_ranges: &[String],
        gateways: &[String],
        aux: &[(String, String)],
    ) -> Result<Vec<IpamConfig>> {
        if subnets.len() < ip_ranges.len() || subnets.len() < gateways.len() {
            return Err(Error::Invalid(
                "every ip-range or gateway must have a corresponding subnet: give --subnet".into(),
            ));
        }
        let mut configs: Vec<(Option<IpNet>, IpamConfig)> = Vec::new();
        for subnet in subnets {
            // What does not parse is left for the agent to refuse.
            let net: Option<IpNet> = subnet.parse().ok();
            if let Some(net) = net
                && let Some((Some(other), _)) =
                    configs.iter().find(|(other, _)| other.is_some_and(|other| overlap(&other, &net)))
            {
                return Err(Error::Invalid(format!(
                    "multiple overlapping subnet configuration is not supported: {net} overlaps {other}"
                )));
            }
            configs.push((net, IpamConfig { subnet: Some(subnet.clone()), ..Default::default() }));
        }
        for range in ip_ranges {
            let holds = |net: &IpNet| range.parse::<AddressRange>().is_ok_and(|range| range.is_within(net));
            let slot = &mut owner(&mut configs, holds, "range", range)?.ip_range;
            set_once(slot, range, "ranges")?;
        }
        for gateway in gateways {
            let slot = &mut owner(&mut configs, |net| holds_address(net, gateway), "gateway", gateway)?.gateway;
            set_once(slot, gateway, "gateways")?;
        }
        for (name, address) in aux {
            let config = owner(&mut configs, |net| holds_address(net, address), "aux-address", address)?;
            config.aux.insert(name.clone(), address.clone());
        }
        Ok(configs.into_iter().map(|(_, config)| config).collect())
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn holds_address(net: &IpNet, address: &str) -> bool {
    address.parse::<std::net::IpAddr>().is_ok_and(|address| net.contains(&address))
}

/// The subnet to which a flag belongs. With a single subnet that is clear even when the flag's value
/// is wrong, and the agent can say better what is wrong with it.
fn owner<'a>(
    configs: &'a mut [(Option<IpNet>, IpamConfig)],
    holds: impl Fn(&IpNet) -> bool,
    what: &str,
    value: &str,
) -> Result<&'a mut IpamConfig> {
    let single = configs.len() == 1;
    configs
        .iter_mut()
        .find(|(net, _)| single || net.as_ref().is_some_and(&holds))
        .map(|(_, config)| config)
        .ok_or_else(|| Error::Invalid(format!("no matching subnet for {what} {value}: give one with --subnet")))
}

fn set_once(slot: &mut Option<String>, value: &str, what: &str) -> Result<()> {
    match slot.replace(value.to_string()) {
        None => Ok(()),
        Some(first) => {
            Err(Error::Invalid(format!("cannot configure multiple {what} ({first}, {value}) on the same subnet")))
        }
    }
}

/// A network that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// The driver; `bridge` if empty.
    pub driver: String,
    /// Subnets; a family that is enabled and has none gets one from the default pools.
    pub ipam: Vec<IpamConfig>,
    /// No way to or from outside.
    pub internal: bool,
    /// Give containers IPv4 addresses; yes unless told otherwise.
    pub enable_ipv4: Option<bool>,
    /// Give containers IPv6 addresses; no unless told otherwise.
    pub enable_ipv6: Option<bool>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The engine for which it is, and what that one calls it.
    #[serde(default)]
    pub engine: Option<(Engine, Id)>,
}

/// Wishes for an endpoint; what is left out is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRequest {
    /// `--ip`.
    pub ipv4: Option<Ipv4Addr>,
    /// `--ip6`.
    pub ipv6: Option<Ipv6Addr>,
    /// `--mac-address`.
    pub mac: Option<MacAddress>,
    /// `--network-alias`: further names on the network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `--link`: other containers under names that only this one knows.
    #[serde(default)]
    pub links: Vec<Link>,
    /// `--gw-priority`: the endpoint with the highest one gives the default route.
    #[serde(default)]
    pub gw_priority: i64,
    /// How fast the container may send and receive there.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Routes through it, besides the default routes.
    #[serde(default)]
    pub routes: Vec<StaticRoute>,
}

/// A route that somebody wants in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop; the network's gateway if left out.
    pub gateway: Option<IpAddr>,
}

impl StaticRoute {
    /// Reads the two values as text; an empty gateway is not given.
    pub fn parse(destination: &str, gateway: &str) -> Result<Self> {
        let invalid = |why: &str| Error::Invalid(format!("invalid route to {destination:?}: {why}"));
        let net: IpNet = destination.parse().map_err(|_| invalid("a CIDR such as 10.9.0.0/16 is expected"))?;
        let gateway = match gateway {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| invalid(&format!("{text:?} is no address")))?),
        };
        if gateway.is_some_and(|gateway| gateway.is_ipv4() != net.addr().is_ipv4()) {
            return Err(invalid("its next hop is of the other family"));
        }
        if net.prefix_len() == 0 {
            return Err(invalid("default routes are the network's"));
        }
        Ok(StaticRoute { destination: net.trunc(), gateway })
    }
}

impl EndpointRequest {
    /// Reads the three values as text; an empty one is not given.
    pub fn parse(ipv4: &str, ipv6: &str, mac: &str) -> Result<Self> {
        fn given<T>(text: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
            if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
        }
        let invalid = |text: &str, what| Error::Invalid(format!("invalid {what} address: {text:?}"));
        Ok(EndpointRequest {
            ipv4: given(ipv4, |text| text.parse().map_err(|_| invalid(text, "IPv4")))?,
            ipv6: given(ipv6, |text| text.parse().map_err(|_| invalid(text, "IPv6")))?,
            mac: given(mac, str::parse)?,
            ..Default::default()
        })
    }

    /// Adds names, as `--network-alias` and `--link` take them.
    pub fn with_names(mut self, aliases: &[String], links: &[String]) -> Result<Self> {
        for alias in aliases {
            check_dns_name("alias", alias)?;
        }
        self.aliases = aliases.to_vec();
        self.links = links.iter().map(|link| link.parse()).collect::<Result<_>>()?;
        Ok(self)
    }

    /// Whether an address is asked for.
    pub fn has_address(&self) -> bool {
        self.ipv4.is_some() || self.ipv6.is_some()
    }
}

/// A container that is to be made and started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Its name; chosen if left out.
    pub name: Option<String>,
    /// Its host name; the short id if left out.
    pub hostname: Option<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The command's whole environment, `NAME=VALUE`; a later one wins, HOSTNAME is added.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The directory in which the command starts.
    pub working_dir: String,
    /// Forget the container when its command ends.
    pub auto_remove: bool,
    /// The network by name or id, or `container:` and a container; `bridge` if left out.
    pub network: Option<String>,
    /// Wishes for the endpoint.
    pub endpoint: EndpointRequest,
    /// Further networks, with the wishes for the endpoints there.
    pub further: Vec<(String, EndpointRequest)>,
    /// Ports to publish.
    pub publish: PublishRequest,
    /// Publish all exposed ports, too.
    pub publish_all: bool,
    /// `--expose` specifications.
    pub expose: Vec<String>,
    /// Wishes for the files in which its resolver looks.
    pub naming: Naming,
}

/// A further command in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The command's whole environment, `NAME=VALUE`; a later one wins, HOSTNAME is added.
    pub env: Vec<String>,
    /// The directory in which the command starts.
    pub working_dir: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn flags_find_their_subnet() {
        let configs = IpamConfig::from_flags(
            &strings(&["10.0.0.0/24", "fd00::/64"]),
            &strings(&["10.0.0.128/25"]),
            &strings(&["fd00::5", "10.0.0.1"]),
            &[("router".into(), "10.0.0.7".into())],
        )
        .unwrap();
        assert_eq!(configs[0].gateway.as_deref(), Some("10.0.0.1"));
        assert_eq!(configs[0].ip_range.as_deref(), Some("10.0.0.128/25"));
        assert_eq!(configs[0].aux["router"], "10.0.0.7");
        assert_eq!(configs[1].gateway.as_deref(), Some("fd00::5"));
        assert_eq!(IpamConfig::from_flags(&[], &[], &[], &[]).unwrap(), []);
        // The agent says best what is wrong with a single subnet's values.
        let outside = IpamConfig::from_flags(&strings(&["10.0.0.0/24"]), &[], &strings(&["10.1.0.1"]), &[]).unwrap();
        assert_eq!(outside[0].gateway.as_deref(), Some("10.1.0.1"));
    }

    #[test]
    fn flags_that_contradict() {
        let two = strings(&["10.0.0.0/24", "fd00::/64"]);
        let error = |subnets: &[String], ranges: &[&str], gateways: &[&str]| {
            IpamConfig::from_flags(subnets, &strings(ranges), &strings(gateways), &[]).unwrap_err().to_string()
        };
        assert!(error(&[], &[], &["10.0.0.1"]).contains("must have a corresponding subnet"));
        assert!(error(&two, &["10.1.0.0/24"], &[]).contains("no matching subnet for range 10.1.0.0/24"));
        assert!(error(&two, &[], &["10.0.0.1", "10.0.0.2"]).contains("multiple gateways (10.0.0.1, 10.0.0.2)"));
        assert!(error(&strings(&["10.0.0.0/8", "10.1.0.0/16"]), &[], &[]).contains("10.1.0.0/16 overlaps 10.0.0.0/8"));
    }

    #[test]
    fn endpoint_wishes() {
        let request = EndpointRequest::parse("10.0.0.9", "", "02:00:00:00:00:01").unwrap();
        assert_eq!(request.ipv4, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert!(request.has_address() && request.ipv6.is_none());
        assert!(EndpointRequest::parse("10.0.0.300", "", "").unwrap_err().to_string().contains("IPv4 address"));
        assert!(EndpointRequest::parse("", "10.0.0.3", "").unwrap_err().to_string().contains("IPv6 address"));
        assert!(EndpointRequest::parse("", "", "nope").is_err());
    }
}
